"""The section `train` of params.yaml."""

from typing import Literal

from pydantic import Field

from core.pipeline.params import Count, Params, Pixels, Section, Seed, Share, Switch
from core.pipeline.strict_yaml import Location
from core.training.numerics_params import NumericsParams


class AugmentParams(Section):
    """How the images of a batch are changed before a step."""

    shift: Pixels
    crop: Pixels
    flip: Switch


class TrainParams(Section):
    """How the model is trained."""

    seed: Seed
    optimizer: Literal["sgd", "adamw"]
    lr: float = Field(gt=0, le=1e38, description="a number above 0, at most 1e38")
    schedule: Literal["constant", "cosine", "one_cycle"]
    momentum: Share
    nesterov: Switch
    weight_decay: float = Field(ge=0, le=1e38, description="a number from 0 to 1e38")
    epochs: Count
    batch_size: Count
    shards: int = Field(ge=1, le=1000, description="an integer from 1 to 1000")
    label_smoothing: Share
    augment: AugmentParams
    patience: Count | None = Field(description="an integer >= 1, or null for never")
    keep: Literal["last", "best"]
    threads: Count | None = Field(description="an integer >= 1, or null for one a processor")
    device: Literal["cpu", "cuda"]

    def disagreements(self, others: Params) -> dict[Location, str]:
        """Find what conflicts with the optimizer, the batch, a shift or the numerics."""
        problems: dict[Location, str] = {}
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            problems["nesterov",] = (
                "expected false without sgd and a momentum above 0, "
                f"found true with {self.optimizer} and {self.momentum:g}"
            )
        if self.augment.shift and self.augment.crop:
            problems["augment", "crop"] = (
                f"expected 0 with a shift, found {self.augment.crop}; both move the image"
            )
        if self.shards > self.batch_size:
            problems["shards",] = (
                f"expected at most train.batch_size = {self.batch_size}, found {self.shards}"
            )
        if others.section(NumericsParams).root == "portable" and self.device != "cpu":
            problems["device",] = (
                "expected cpu with portable numerics, "
                f"found {self.device}; set numerics: fast to use a GPU"
            )
        return problems
