"""The architectures: a list of functions, each of which builds one.

Every model takes images as they lie on disk, uint8 (B, H, W, C), and returns
logits, float32 (B, classes). What turns bytes into floats is part of the
model, so that training, evaluation and prediction can not differ in it.

To add an architecture: write its function here, add its line to
`ARCHITECTURES`, and its name to `ModelParams` in core/params.py.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

ImageShape = tuple[int, int, int]  # H, W, C


class LogisticRegression(nn.Module):
    """One linear layer on the pixels, scaled to [0, 1]."""

    def __init__(self, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(image_shape), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: uint8 (B, H, W, C).

        Returns:
            float32 (B, classes).
        """
        pixels = images.flatten(1).float()  # (B, H * W * C) in [0, 255]
        # The linear layer on pixels / 255, scaled inside the product and done
        # the other way round, as W xᵀ: on MNIST a third faster than x Wᵀ.
        bias, weight = self.linear.bias[:, None], self.linear.weight
        return torch.addmm(bias, weight, pixels.T, alpha=1 / 255).T


ARCHITECTURES: dict[str, Callable[[ImageShape, int], nn.Module]] = {
    "logistic_regression": LogisticRegression,
}


def build(name: str, image_shape: ImageShape, classes: int, *, seed: int = 0) -> nn.Module:
    """Build an architecture with fresh weights.

    Args:
        name: a key of `ARCHITECTURES`.
        image_shape: height, width and channels of the images.
        classes: how many logits each image gets.
        seed: of the initial weights; the same seed gives the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name](image_shape, classes)
