"""Sections of params.yaml with the tests' values, and variants of them."""

from typing import Any, TypeVar

from core.pipeline.params import Section
from core.training.model_params import ModelParams
from core.training.train_params import TrainParams
from tests.support import parameters

Sections = TypeVar("Sections", bound=Section)

MODEL = parameters.checked().section(ModelParams)
TRAIN = parameters.checked().section(TrainParams)


def changed(section: Sections, **changes: Any) -> Sections:
    """Change values of a section; a dict changes some values of a nested section."""
    values = section.model_dump()
    for name, value in changes.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    return type(section).model_validate(values)


def model(name: str, **changes: Any) -> ModelParams:
    """The section `model` with another architecture."""
    return changed(MODEL, name=name, **changes)


def train(**changes: Any) -> TrainParams:
    """The section `train` with other values."""
    return changed(TRAIN, **changes)
