"""Counts tensors: small ones that stay split the freed memory of large ones."""

import gc

from torch import Tensor


def tensors_alive() -> int:
    """Return how many tensors exist in this process."""
    # Not isinstance, which asks lazy objects of libraries for their class.
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())
