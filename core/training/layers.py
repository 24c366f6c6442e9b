"""Layers that the architectures share, where PyTorch's own do not suffice.

Each computes the same bits on every processor and, with portable numerics, at
least as fast as PyTorch's own.
"""

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

ImageShape = tuple[int, int, int]  # H, W, C


def named(**layers: nn.Module) -> nn.Module:
    """Return a model that runs one layer after the other, each under its name."""
    return nn.Sequential(OrderedDict(layers))


class Normalize(nn.Module):
    """Turns bytes into floats: subtracts the mean, divides by the standard deviation.

    Both are buffers, one number a channel, saved with the weights. A new layer
    scales pixels to [0, 1]; `fit` computes both from images.

    Args:
        channels: of the images.
    """

    mean: Tensor  # float32 (C,), in units of pixels, from 0 to 255
    std: Tensor  # float32 (C,), likewise; above 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.full((channels,), 255.0))

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 (B, H, W, C) for uint8 (B, H, W, C)."""
        return images.float().sub_(self.mean).div_(self.std)

    def fit(self, images: Tensor, indices: Tensor) -> None:
        """Compute the mean and the standard deviation of the images at `indices`.

        They are computed from a count of each value: exact, and the same on all
        processors. A channel that never varies is divided by 255.

        Args:
            images: uint8 (N, H, W, C), on the CPU.
            indices: int64 (M,), positions in `images`.
        """
        channels = images.shape[3]
        counts = torch.zeros(channels, 256, dtype=torch.int64)
        for batch in torch.split(indices, 1000):
            pixels = images.index_select(0, batch).flatten(0, 2)  # (1000 * H * W, C)
            for channel in range(channels):
                counts[channel] += torch.bincount(pixels[:, channel], minlength=256)
        for channel, count in enumerate(counts.tolist()):
            pixels_seen = sum(count)
            total = sum(value * n for value, n in enumerate(count))
            squares = sum(value**2 * n for value, n in enumerate(count))
            variance = (pixels_seen * squares - total**2) / pixels_seen**2
            self.mean[channel] = total / pixels_seen
            self.std[channel] = math.sqrt(variance) or 255.0


class ChannelsFirst(nn.Module):
    """Turns (B, H, W, C) into (B, C, H, W), as convolutions expect, without a copy."""

    def forward(self, images: Tensor) -> Tensor:
        """Return a view whose channels stay contiguous in memory (channels_last)."""
        return images.permute(0, 3, 1, 2)


class ReLU(nn.Module):
    """max(x, 0), with a gradient of 1 above 0 and of 0 elsewhere.

    PyTorch's own gradient takes six times as long with portable numerics, whose
    kernels branch for each element: it was a tenth of a training step.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return a tensor of the shape of `inputs`."""
        outputs: Tensor = _ReLU.apply(inputs)
        return outputs


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        outputs = inputs.clamp_min(0)
        context.save_for_backward(outputs)
        return outputs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (outputs,) = context.saved_tensors
        # 1 above 0: the smallest normal float32, 1.2e-38, times 1e38 is above 1.
        slope: Tensor = outputs.mul(1e38).clamp_(max=1)
        return slope.mul_(gradient)


class Dropout(nn.Module):
    """Sets a share of the inputs to zero in training, and scales up the others.

    It draws from a generator of its own: the microbatches would share that of the
    process, in an order that depends on the timing of threads.

    Args:
        share: of the inputs, from 0 to below 1.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None  # None is the process's

    def forward(self, inputs: Tensor) -> Tensor:
        """Return a tensor of the shape of `inputs`; in evaluation, `inputs`."""
        if not self.training or self.share == 0:
            return inputs
        kept = 1 - self.share
        mask = torch.empty_like(inputs).bernoulli_(kept, generator=self.generator)
        return inputs * mask.div_(kept)
