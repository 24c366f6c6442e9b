"""Augmentation of tiny images, against results by hand and by NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from core.training import augmentation
from core.training.augmentation import Draws
from core.training.train_params import AugmentParams
from tests.support import sections

CPU = torch.device("cpu")
OFF = sections.TRAIN.augment


def switched(**on: object) -> AugmentParams:
    return sections.changed(OFF, **on)


def image(*rows: list[int]) -> Tensor:
    """One image of one channel, uint8 (1, H, W, 1)."""
    return torch.tensor(rows, dtype=torch.uint8)[None, :, :, None]


def shown(images: Tensor) -> list[list[int]]:
    """The first image's rows."""
    rows: list[list[int]] = images[0, :, :, 0].tolist()
    return rows


NUMBERS = image([1, 2, 3], [4, 5, 6])


def moved(by: list[int], **on: int) -> list[list[int]]:
    """Move an image so that its window begins at row and column `by`."""
    return shown(augmentation.augment(NUMBERS, switched(**on), Draws(torch.tensor([by]), None)))


def test_a_shift_moves_the_image_and_fills_the_gap_with_zeros() -> None:
    assert moved([1, 1], shift=1) == [[1, 2, 3], [4, 5, 6]]
    assert moved([0, 0], shift=1) == [[0, 0, 0], [0, 1, 2]]
    assert moved([2, 1], shift=1) == [[4, 5, 6], [0, 0, 0]]
    assert moved([1, 2], shift=1) == [[2, 3, 0], [5, 6, 0]]
    assert moved([0, 4], shift=2) == [[0, 0, 0], [0, 0, 0]]


def test_a_crop_fills_the_gap_with_the_border_mirrored() -> None:
    assert moved([1, 1], crop=1) == [[1, 2, 3], [4, 5, 6]]
    assert moved([0, 0], crop=1) == [[1, 1, 2], [1, 1, 2]]
    assert moved([2, 1], crop=1) == [[4, 5, 6], [4, 5, 6]]
    assert moved([2, 4], crop=2) == [[3, 3, 2], [6, 6, 5]]


def test_a_flip_mirrors_left_for_right() -> None:
    flipped = augmentation.augment(
        torch.cat([NUMBERS, NUMBERS]), switched(flip=True), Draws(None, torch.tensor([True, False]))
    )
    assert shown(flipped) == [[3, 2, 1], [6, 5, 4]]
    assert torch.equal(flipped[1:], NUMBERS)


def test_an_image_is_flipped_before_it_is_moved() -> None:
    drawn = Draws(torch.tensor([[1, 2]]), torch.tensor([True]))
    assert shown(augmentation.augment(NUMBERS, switched(flip=True, shift=1), drawn)) == [
        [2, 1, 0],
        [5, 4, 0],
    ]


def random_images(count: int, height: int, width: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, channels), generator=generator).byte()


@pytest.mark.parametrize("mode", ["shift", "crop"])
@pytest.mark.parametrize("reach", [1, 4, 11])  # 11: further than the image is high
def test_windows_of_color_images_are_those_of_numpy_pad(mode: str, reach: int) -> None:
    images = random_images(20, 5, 7, 3)
    settings = switched(**{mode: reach})
    draws = augmentation.draw(20, settings, torch.Generator().manual_seed(1), CPU)
    assert draws.offsets is not None
    assert draws.mirrored is None

    found = augmentation.augment(images, settings, draws).numpy()

    border = ((reach, reach), (reach, reach), (0, 0))
    for picture, (row, column), window in zip(
        images.numpy(), draws.offsets.tolist(), found, strict=True
    ):
        padded = np.pad(picture, border, mode="symmetric" if mode == "crop" else "constant")
        np.testing.assert_array_equal(window, padded[row : row + 5, column : column + 7])


def test_every_offset_is_equally_likely_and_half_of_the_images_are_mirrored() -> None:
    settings = switched(shift=2, flip=True)

    draws = augmentation.draw(10_000, settings, torch.Generator().manual_seed(2), CPU)

    assert draws.offsets is not None
    assert draws.mirrored is not None
    for axis in range(2):
        counts = torch.bincount(draws.offsets[:, axis])
        assert counts.tolist() == [pytest.approx(2000, abs=160)] * 5  # 4 deviations of 40
    assert int(draws.mirrored.sum()) == pytest.approx(5000, abs=200)


def test_what_is_drawn_depends_only_on_the_seed() -> None:
    settings = switched(crop=3, flip=True)
    first, again, other = (
        augmentation.draw(50, settings, torch.Generator().manual_seed(seed), CPU)
        for seed in (1, 1, 2)
    )
    for one, same, different in zip(first, again, other, strict=True):
        assert one is not None
        assert same is not None
        assert different is not None
        assert torch.equal(one, same)
        assert not torch.equal(one, different)


def test_draws_of_some_images_are_those_of_all_at_their_places() -> None:
    images = random_images(10, 6, 6, 1)
    settings = switched(shift=2, flip=True)
    draws = augmentation.draw(10, settings, torch.Generator().manual_seed(3), CPU)

    whole = augmentation.augment(images, settings, draws)
    parts = [
        augmentation.augment(images[start : start + 4], settings, draws.of(start, start + 4))
        for start in (0, 4, 8)
    ]

    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole, images)


def test_switched_off_it_draws_nothing_and_returns_the_images_themselves() -> None:
    images = random_images(3, 4, 4, 1)
    generator = torch.Generator().manual_seed(4)
    before = generator.get_state()

    draws = augmentation.draw(3, OFF, generator, CPU)

    assert torch.equal(generator.get_state(), before)
    assert draws == draws.of(0, 2) == Draws(None, None)
    assert augmentation.augment(images, OFF, draws) is images


def test_the_images_given_are_not_changed() -> None:
    images = random_images(5, 4, 4, 2)
    before = images.clone()
    settings = switched(crop=1, flip=True)
    draws = augmentation.draw(5, settings, torch.Generator().manual_seed(5), CPU)

    changed = augmentation.augment(images, settings, draws)

    assert torch.equal(images, before)
    assert (changed.dtype, changed.shape) == (torch.uint8, images.shape)
