"""Test images that were trained on are found by all of their pixels."""

import numpy as np

from core.report.seen_images import seen

BLACK, WHITE, GREY = 0, 255, 128


def images(*shades: int, shape: tuple[int, int, int] = (2, 3, 1)) -> np.ndarray:
    return np.stack([np.full(shape, shade, dtype=np.uint8) for shade in shades])


def test_each_image_that_is_among_those_trained_on_is_found_and_no_other() -> None:
    train = images(GREY, WHITE, BLACK, WHITE)
    tested = images(WHITE, GREY, 1, WHITE, BLACK)

    assert seen(tested, train, np.array([3, 2])).tolist() == [True, False, False, True, True]
    assert seen(tested, train, np.array([1, 3])).tolist() == [True, False, False, True, False]


def test_one_other_pixel_makes_another_image() -> None:
    train = images(BLACK)
    train[0, 1, 2, 0] = 1

    assert not seen(images(BLACK), train, np.array([0])).any()


def test_images_of_another_shape_are_other_images() -> None:
    train = images(BLACK, shape=(3, 2, 1))

    assert not seen(images(BLACK), train, np.array([0])).any()
