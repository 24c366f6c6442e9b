"""What all tests share: the arithmetic, pinned before anything imports torch."""

import pytest

from core import numerics

numerics.pin("portable", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU where there is none."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: none found here"))
