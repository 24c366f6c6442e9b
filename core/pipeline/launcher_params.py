"""The value `launcher` of params.yaml: what starts the stage train, for dvc.yaml alone."""

from typing import Annotated

from pydantic import Field

from core.pipeline.params import Value


class LauncherParams(Value[Annotated[str, Field(min_length=1)]]):
    """a command, as python or torchrun"""
