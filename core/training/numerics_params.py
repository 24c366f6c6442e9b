"""The value `numerics` of params.yaml."""

from typing import Literal

from core.pipeline.params import Value


class NumericsParams(Value[Literal["portable", "fast"]]):
    """Which bits a result has: the same on every processor, or the fastest."""
