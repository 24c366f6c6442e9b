"""Pixels are where they should be, and the file holds nothing else."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.pipeline.errors import DataError
from core.report import image_grids
from core.report.image_grids import GAP, LINE, PAPER, TILE


def decoded(picture: image_grids.Picture) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(picture.png)))


def chunks(png: bytes) -> list[str]:
    """The kinds of the chunks of a PNG, each once (PNG specification, section 5)."""
    kinds: list[str] = []
    position = 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        kinds.append(png[position + 4 : position + 8].decode("ascii"))
        position += 12 + length
    return list(dict.fromkeys(kinds))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_pixel_becomes_a_square_of_its_own_colour(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), dtype=np.uint8)
    page = decoded(image_grids.grid(images, ["a", "b", "c"], columns=2))
    page = page.reshape(*page.shape[:2], channels)
    scale = TILE // 8
    row_height = TILE + GAP // 4 + LINE + GAP
    for position, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        top, left = GAP + row * row_height, GAP + column * (TILE + GAP)
        tile = page[top : top + TILE, left : left + TILE]
        assert (tile[::scale, ::scale] == images[position]).all()
        assert (tile == tile[::scale, ::scale].repeat(scale, 0).repeat(scale, 1)).all()


def test_the_margins_are_paper_and_the_captions_are_not() -> None:
    page = decoded(image_grids.grid(np.zeros((1, 28, 28, 1), np.uint8), ["7 seen as 1"], columns=4))
    assert page.shape == (GAP + TILE + GAP // 4 + LINE + GAP, GAP + TILE + GAP)
    for margin in (page[:GAP], page[-GAP:], page[:, :GAP], page[:, -GAP:]):
        assert (margin == PAPER).all()
    assert (page[GAP + TILE : -GAP] < 100).any()


@pytest.mark.parametrize(
    ("caption", "lines"),
    [
        ("7 seen as 1", 1),
        ("7 seen as 1\n98.7 %", 2),
        ("Ankle boot seen as Sneaker", 3),
        ("", 1),
        ("An" + "n" * 500, 1),
    ],
)
def test_a_caption_breaks_between_words_and_a_long_word_is_cut(caption: str, lines: int) -> None:
    page = decoded(image_grids.grid(np.zeros((1, 28, 28, 1), np.uint8), [caption], columns=1))
    assert page.shape == (GAP + TILE + GAP // 4 + lines * LINE + GAP, GAP + TILE + GAP)
    assert (page[:, -GAP:] == PAPER).all()


def test_letters_that_the_font_lacks_are_replaced() -> None:
    images = np.zeros((1, 28, 28, 1), np.uint8)
    assert (
        image_grids.grid(images, ["é 中\u00a0x"], columns=1).png
        == image_grids.grid(images, ["e ? x"], columns=1).png
    )


def test_the_file_holds_nothing_but_pixels_and_is_the_same_each_time() -> None:
    images = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(1, 28, 28, 3)
    first = image_grids.grid(images, ["x"], columns=1).png
    assert first == image_grids.grid(images, ["x"], columns=1).png
    for png in (first, image_grids.notice("None is wrong.").png):
        assert chunks(png) == ["IHDR", "IDAT", "IEND"]


def test_images_larger_than_a_tile_keep_their_size() -> None:
    images = np.zeros((1, 600, 500, 3), np.uint8)
    page = decoded(image_grids.grid(images, ["x"], columns=1))
    assert page.shape == (GAP + 600 + GAP // 4 + LINE + GAP, GAP + 500 + GAP, 3)


def test_a_notice_shows_its_text_and_no_images() -> None:
    picture = image_grids.notice("None of the 40 images is wrong.")
    assert picture.captions == []
    page = decoded(picture)
    assert page.shape[0] == 2 * GAP + LINE
    assert (page[GAP:-GAP, GAP:-GAP] < 100).any()
    assert (page[:GAP] == PAPER).all()


def test_images_that_are_neither_greyscale_nor_rgb_are_refused() -> None:
    with pytest.raises(DataError, match=r"(?s)cannot be drawn.*found: +2 channels"):
        image_grids.grid(np.zeros((1, 4, 4, 2), np.uint8), ["x"], columns=1)


def test_weights_of_greyscale_images_are_blue_for_a_class_and_orange_against_it() -> None:
    weight = np.array([[0.5, -1.0], [0.0, 0.25]], dtype=np.float32)
    drawn = image_grids.templates(weight, (1, 2, 1))
    assert drawn.shape == (2, 1, 2, 3)
    assert drawn[0, 0, 1].tolist() == list(image_grids.AGAINST)  # the largest absolute weight
    assert drawn[1, 0, 0].tolist() == [255, 255, 255]
    assert drawn[0, 0, 0].tolist() == [142, 166, 236]  # half of the way to blue
    assert drawn[1, 0, 1].tolist() == [198, 211, 245]  # a quarter of it, on the same scale


def test_weights_of_rgb_images_keep_their_channels() -> None:
    weight = np.array([[1.0, 0.0, -1.0]], dtype=np.float32)
    assert image_grids.templates(weight, (1, 1, 3)).tolist() == [[[[255, 128, 0]]]]
    assert image_grids.templates(np.zeros((1, 3), np.float32), (1, 1, 3)).tolist() == [
        [[[128] * 3]]
    ]
