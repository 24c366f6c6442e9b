"""Sections of params.yaml as the tests run with them, and others that differ in a few knobs."""

from typing import Any, TypeVar

from core.pipeline.params import Section
from core.training.model_params import ModelParams
from core.training.train_params import TrainParams
from tests.support import parameters

Sections = TypeVar("Sections", bound=Section)

MODEL = parameters.checked().section(ModelParams)
TRAIN = parameters.checked().section(TrainParams)


def changed(section: Sections, **knobs: Any) -> Sections:
    """Change knobs of a section; a dict stands for some knobs of a section within it."""
    values = section.model_dump()
    for name, value in knobs.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    return type(section).model_validate(values)


def model(name: str, **knobs: Any) -> ModelParams:
    """The section `model` with another architecture."""
    return changed(MODEL, name=name, **knobs)


def train(**knobs: Any) -> TrainParams:
    """The section `train` with other knobs."""
    return changed(TRAIN, **knobs)
