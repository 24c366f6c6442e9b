"""Logistic regression: one linear layer on the pixels."""

import math

import torch
from torch import Tensor, nn

from core.training.layers import ImageShape, Normalize


class LogisticRegression(nn.Module):
    """One linear layer on the pixels."""

    def __init__(self, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.normalize = Normalize(image_shape[2])
        self.linear = nn.Linear(math.prod(image_shape), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: uint8 (B, H, W, C).

        Returns:
            float32 (B, classes).
        """
        pixels = self.normalize(images).flatten(1)  # (B, H * W * C)
        # The transposed product, W xᵀ, is faster than x Wᵀ.
        return torch.addmm(self.linear.bias[:, None], self.linear.weight, pixels.T).T


def build(image_shape: ImageShape, classes: int) -> nn.Module:
    """Build the layer for images of this shape."""
    return LogisticRegression(image_shape, classes)
