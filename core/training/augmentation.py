"""Changes the images of a batch at random, so that a model sees each in many forms.

All random numbers of an epoch are drawn before it begins: they do not depend on
the batch size, and a GPU does not wait for them.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from core.training.train_params import AugmentParams


class Draws(NamedTuple):
    """What was drawn for N images; None for what is switched off."""

    offsets: Tensor | None  # int64 (N, 2), rows and columns that the window moves, from 0 on
    mirrored: Tensor | None  # bool (N,)

    def of(self, start: int, stop: int) -> "Draws":
        """Those of the images from `start` to before `stop`."""
        return Draws(*(None if drawn is None else drawn[start:stop] for drawn in self))


def draw(
    images: int, settings: AugmentParams, generator: torch.Generator, device: torch.device
) -> Draws:
    """Draw how each of N images is changed.

    Args:
        images: how many, N.
        settings: the section `train.augment` of params.yaml.
        generator: on the CPU, so that the numbers do not depend on the device;
            it advances only by what is switched on.
        device: where the images are.
    """
    offsets = mirrored = None
    reach = settings.shift or settings.crop
    if reach:
        offsets = torch.randint(0, 2 * reach + 1, (images, 2), generator=generator).to(device)
    if settings.flip:
        mirrored = (torch.randint(0, 2, (images,), generator=generator) == 1).to(device)
    return Draws(offsets, mirrored)


def augment(images: Tensor, settings: AugmentParams, draws: Draws) -> Tensor:
    """Change each image as it was drawn.

    Args:
        images: uint8 (B, H, W, C).
        settings: the section `train.augment` of params.yaml.
        draws: for these B images.

    Returns:
        uint8 (B, H, W, C), `images` itself if everything is switched off.
    """
    if draws.mirrored is not None:
        images = torch.where(draws.mirrored[:, None, None, None], images.flip(2), images)
    if draws.offsets is not None:
        images = move(
            images, draws.offsets, settings.shift or settings.crop, mirror=not settings.shift
        )
    return images


def move(images: Tensor, offsets: Tensor, reach: int, *, mirror: bool) -> Tensor:
    """Surround each image by a border and cut a window of its own size out of it.

    Args:
        images: uint8 (B, H, W, C).
        offsets: int64 (B, 2), of the window's first row and column, from 0 to 2 * `reach`.
        reach: pixels of the border.
        mirror: the border mirrors the image; else it is zero.
    """
    count, height, width, _ = images.shape
    rows = torch.arange(-reach, height + reach, device=images.device)
    columns = torch.arange(-reach, width + reach, device=images.device)
    if mirror:
        images = images[:, _mirrored(rows, height)][:, :, _mirrored(columns, width)]
    else:
        images = functional.pad(images, (0, 0, reach, reach, reach, reach))
    chosen_rows = offsets[:, 0, None] + torch.arange(height, device=images.device)  # (B, H)
    chosen_columns = offsets[:, 1, None] + torch.arange(width, device=images.device)  # (B, W)
    each = torch.arange(count, device=images.device)
    return images[each[:, None, None], chosen_rows[:, :, None], chosen_columns[:, None, :]]


def _mirrored(positions: Tensor, length: int) -> Tensor:
    """Positions past an end, turned back from it: -1 is 0, `length` is `length` - 1."""
    turned = torch.remainder(positions, 2 * length)
    return torch.minimum(turned, 2 * length - 1 - turned)
