"""Any image becomes one like those of the data set, or an error says what is wrong."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw

from core.data import datasets
from tests.tools.predict import trained_models
from tests.tools.predict.drawings import alike, seven, written
from tools.predict.image_files import ImageError
from tools.predict.preparation import PREPROCESSING, Prepared, prepare

MNIST = PREPROCESSING["mnist"]


def prepared(image: Image.Image, kind: str = "PNG", **options: Any) -> Prepared:
    return prepare(written(image, kind, **options), MNIST)


def test_every_data_set_has_its_making() -> None:
    assert PREPROCESSING.keys() == datasets.DATASETS.keys()


def test_the_test_images_go_through_unchanged_and_inverted_ones_come_back() -> None:
    images, _ = trained_models.mnist("t10k", 10_000)
    for image in images[:300]:
        same = prepared(Image.fromarray(image[:, :, 0]))
        back = prepared(Image.fromarray(255 - image[:, :, 0]))
        assert np.array_equal(same.pixels, image)
        assert np.array_equal(back.pixels, image)
        assert (same.inverted, back.inverted) == (False, True)


def test_ink_is_scaled_to_twenty_pixels_with_its_centre_of_mass_in_the_middle() -> None:
    pixels = prepared(seven()).pixels[:, :, 0].astype(int)  # (28, 28)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    assert rows[-1] - rows[0] + 1 == 20
    assert 12 <= columns[-1] - columns[0] + 1 <= 14  # 0.4 + a line's width, of 0.6 + the same
    down, across = pixels.sum(axis=1), pixels.sum(axis=0)
    assert abs(down @ np.arange(28) / pixels.sum() - 14) <= 0.5
    assert abs(across @ np.arange(28) / pixels.sum() - 14) <= 0.5
    assert pixels.max() >= 254


def test_an_image_that_was_prepared_is_not_changed_again() -> None:
    once = prepared(seven())
    again = prepared(Image.fromarray(once.pixels[:, :, 0]))
    assert np.array_equal(once.pixels, again.pixels)
    assert (once.inverted, again.inverted) == (True, False)


def test_a_thing_is_put_in_the_middle_by_its_edges_and_fills_the_image() -> None:
    pixels = prepare(written(seven()), PREPROCESSING["fashion_mnist"]).pixels[:, :, 0]
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    assert (rows[0], rows[-1]) == (0, 27)
    assert abs((columns[0] + columns[-1]) / 2 - 13.5) <= 0.5


def test_a_picture_in_colour_is_cut_to_its_middle_and_keeps_its_colours() -> None:
    image = Image.new("RGB", (128, 64), (255, 0, 0))
    image.paste((0, 0, 255), (32, 0, 96, 64))  # the square in the middle
    made = prepare(written(image), PREPROCESSING["cifar10"])
    assert made.pixels.shape == (32, 32, 3)
    assert np.array_equal(made.pixels[:, 1:-1], np.full((32, 30, 3), (0, 0, 255)))
    assert not made.inverted


def on_colours(image: Image.Image) -> Image.Image:
    blank = Image.new("RGB", image.size, (250, 240, 170))
    blank.paste((20, 40, 160), mask=ImageChops.invert(image))
    return blank


def on_nothing(shade: int) -> Callable[[Image.Image], Image.Image]:
    def drawn(image: Image.Image) -> Image.Image:
        ink = Image.new("RGBA", image.size, (shade,) * 3 + (0,))
        ink.putalpha(ImageChops.invert(image))
        return ink

    return drawn


def in_sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


def in_twelve_of_sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 16)


def on_paper_in_shade(image: Image.Image) -> Image.Image:
    """As a camera sees a pencil: grey paper, darker to one side, with grain."""
    grain = np.random.default_rng(0).normal(0, 4, (image.height, image.width))
    shade = np.linspace(200, 170, image.width)
    photo = shade - 100 * (1 - np.asarray(image) / 255) + grain
    return Image.fromarray(photo.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("made", "kind", "inverted"),
    [
        (ImageChops.invert, "PNG", False),
        (on_colours, "PNG", True),
        (on_nothing(0), "PNG", True),
        (on_nothing(255), "PNG", False),
        (lambda image: image.convert("RGBA"), "WEBP", True),
        (lambda image: image.convert("1"), "TIFF", True),
        (lambda image: image.convert("P"), "GIF", True),
        (lambda image: image.convert("RGB").convert("CMYK"), "TIFF", True),
        (lambda image: Image.fromarray(np.asarray(image) / np.float32(255)), "TIFF", True),
        (in_sixteen_bits, "PNG", True),
        (in_twelve_of_sixteen_bits, "TIFF", True),
        (lambda image: image.resize((900, 900)), "JPEG", True),
        (on_paper_in_shade, "JPEG", True),
        (lambda image: ImageChops.offset(image, 60, 40), "BMP", True),
    ],
    ids=[
        "light on dark", "in colour", "black on nothing", "white on nothing", "opaque alpha",
        "one bit", "palette", "for print", "floats", "sixteen bits",
        "twelve of sixteen bits", "large", "a photograph", "elsewhere on the sheet",
    ],
)  # fmt: skip
def test_the_same_drawing_becomes_the_same_image(
    made: Callable[[Image.Image], Image.Image], kind: str, inverted: bool
) -> None:
    plain = prepared(seven())
    other = prepared(made(seven()), kind)
    assert other.inverted == inverted
    assert alike(other.pixels, plain.pixels, within=0.15)


def test_a_photograph_is_turned_upright_as_it_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: the camera was turned; to be turned right by 90° again
    lying = seven().transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(prepared(lying, exif=exif).pixels, prepared(seven()).pixels)


def test_of_several_frames_the_first_is_taken() -> None:
    frames = [Image.new("L", (200, 200), shade) for shade in (255, 0)]
    animated = prepared(seven(), "GIF", save_all=True, append_images=frames)
    assert np.array_equal(animated.pixels, prepared(seven()).pixels)


def test_ink_far_from_the_middle_of_its_box_stays_whole() -> None:
    image = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(image).rectangle((5, 145, 194, 194), fill=0)  # nearly all of the mass
    ImageDraw.Draw(image).line((9, 5, 9, 150), fill=0, width=8)
    pixels = prepared(image).pixels[:, :, 0]
    assert np.flatnonzero(pixels.any(axis=1)).size == 20


def truncated() -> bytes:
    content = written(seven()).getvalue()
    return content[: len(content) // 2]


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is this large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not an image"),
        (b"label,prediction\n7,7\n", "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
         "is a PostScript document: save it as PNG"),
        (truncated(), "is damaged or truncated"),
        (claiming(28, 28), "is damaged or truncated"),
        (claiming(12_000, 10_000), "is too large"),
        (claiming(100_000, 100_000), "is too large"),
        (written(Image.new("L", (50, 50), 255)).getvalue(), "has nothing drawn on it"),
        (written(Image.new("RGBA", (50, 50))).getvalue(), "has nothing drawn on it"),
        (written(Image.new("L", (1, 1))).getvalue(), "has nothing drawn on it"),
    ],
    ids=[
        "empty", "text", "a program in PostScript", "truncated", "without pixels", "large",
        "far too large", "blank", "transparent", "a pixel",
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(content: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        prepare(io.BytesIO(content), MNIST)


def test_the_grain_of_blank_paper_is_not_a_drawing() -> None:
    paper = np.random.default_rng(1).normal(200, 6, (300, 300)).astype(np.uint8)
    with pytest.raises(ImageError, match="has nothing drawn on it"):
        prepared(Image.fromarray(paper))


def test_specks_that_vanish_when_they_are_scaled_down_are_no_drawing() -> None:
    image = Image.new("L", (1000, 1000), 255)
    for position in (200, 800):
        image.putpixel((position, position), 0)
    with pytest.raises(ImageError, match="has only specks on it"):
        prepared(image)


def test_pixels_that_are_no_numbers_are_refused() -> None:
    floats = np.full((9, 9), np.nan, np.float32)
    with pytest.raises(ImageError, match="holds pixels that are not numbers"):
        prepared(Image.fromarray(floats), "TIFF")


def test_a_line_of_one_pixel_is_an_image_too() -> None:
    image = Image.new("L", (3000, 50), 255)
    image.paste(0, (1000, 25, 2000, 26))
    assert prepared(image).pixels.any()
