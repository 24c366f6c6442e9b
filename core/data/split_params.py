"""The section `split` of params.yaml."""

from pydantic import Field

from core.pipeline.params import Count, Section, Seed, Switch


class SplitParams(Section):
    """Which of the training images train, and which validate."""

    seed: Seed
    val_fraction: float = Field(gt=0, lt=1, description="a number above 0 and below 1")
    stratify: Switch
    train_size: Count | None = Field(description="an integer >= 1, or null for all")
