"""The value `launcher` of params.yaml: what starts the stage train; only dvc.yaml reads it."""

from typing import Annotated

from pydantic import Field

from core.pipeline.params import Value


class LauncherParams(Value[Annotated[str, Field(min_length=1)]]):
    """a command, as python or torchrun"""
