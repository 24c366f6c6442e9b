"""The digit is found on its paper, wherever that lies; what is no digit is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw
from scipy import ndimage

from tests.tools.predict import trained_models
from tests.tools.predict.drawings import (
    INK,
    PAPER,
    TABLE,
    alike,
    framed,
    lit,
    on_table,
    one,
    seven,
    written,
)  # fmt: skip
from tools.predict import one_digit, paper
from tools.predict.image_files import ImageError
from tools.predict.preparation import PREPROCESSING, Prepared, prepare


def prepared(image: Image.Image, kind: str = "PNG") -> Prepared:
    return prepare(written(image, kind), PREPROCESSING["mnist"])


def on_grey(image: Image.Image) -> Image.Image:
    """Black on white becomes dark grey on grey, on a larger sheet."""
    sheet = Image.new("L", (400, 400), PAPER)
    sheet.paste(INK, (100, 100), ImageChops.invert(image))
    return sheet


def turned(sheet: Image.Image) -> Image.Image:
    return on_table(
        sheet.rotate(8, Image.Resampling.BICUBIC, expand=True, fillcolor=TABLE), at=(60, 60)
    )


def in_a_form(sheet: Image.Image) -> Image.Image:
    """In one of nine cells, with a part of another in a cell beside it."""
    form = Image.new("L", (640, 640), PAPER)
    form.paste(sheet, (120, 120))
    draw = ImageDraw.Draw(form)
    for at in (118, 520):
        draw.line([(at, 0), (at, 639)], fill=INK, width=3)
        draw.line([(0, at), (639, at)], fill=INK, width=3)
    draw.line([(580, 300), (639, 400)], fill=INK, width=20)
    return form


SCENES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "a darker table": on_table,
    "a lighter table": lambda sheet: on_table(sheet, 255),
    "a table of nearly the same shade": lambda sheet: on_table(sheet, 200),
    "a table at one edge": lambda sheet: on_table(sheet, at=(120, 0)).crop((0, 0, 520, 400)),
    "a table at two edges": lambda sheet: on_table(sheet).crop((0, 0, 520, 520)),
    "a table at three edges": lambda sheet: on_table(sheet).crop((0, 0, 640, 520)),
    "turned on a table": turned,
    "a line around the cell": lambda sheet: on_grey(Image.new("L", (1, 1), 255)) and framed(sheet),
    "a line around the cell, inside": lambda sheet: framed(sheet, 10, 4),
    "a cell on a table": lambda sheet: on_table(framed(sheet, 10, 2)),
    "a form": in_a_form,
    "light that falls off": lit,
    "light that falls off, on a table": lambda sheet: lit(on_table(sheet)),
}


@pytest.mark.parametrize("digit", [one, lambda: on_grey(seven())], ids=["1", "7"])
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_a_digit_is_found_on_its_paper(
    scene: Callable[[Image.Image], Image.Image], digit: Callable[[], Image.Image]
) -> None:
    plain = digit()
    if scene is turned:
        plain = plain.rotate(8, Image.Resampling.BICUBIC, expand=True, fillcolor=PAPER)
    found = prepared(scene(digit()))
    assert found.inverted
    assert alike(found.pixels, prepared(plain).pixels, within=0.15)


@pytest.mark.parametrize("tight", [0, 128], ids=["all ink", "half ink"])
def test_a_digit_cropped_to_its_box_is_read(tight: int) -> None:
    images, labels = trained_models.mnist("t10k", 10_000)
    for image, label in zip(images[:60, :, :, 0], labels, strict=False):
        rows, columns = (np.flatnonzero((image > tight).any(axis=axis)) for axis in (1, 0))
        cropped = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found = prepared(Image.fromarray(255 - cropped)).pixels[:, :, 0]
        # To one pixel, all strong ink is where ink is.
        for strong, all_ink in ((image, found), (found, image)):
            near = ndimage.binary_dilation(all_ink > 64, np.ones((3, 3)))
            assert near[strong > 192].mean() > 0.95, label


def cropped_at_its_foot() -> Image.Image:
    return seven().crop((0, 0, 200, 100))


def two() -> Image.Image:
    sheet = Image.new("L", (400, 200), 255)
    sheet.paste(seven(), (0, 0))
    sheet.paste(seven(), (200, 0))
    return sheet


def circled() -> Image.Image:
    image = on_grey(seven())
    ImageDraw.Draw(image).ellipse((50, 70, 270, 290), outline=INK, width=4)
    return image


def square() -> Image.Image:
    image = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(image).rectangle((60, 60, 140, 140), fill=0)
    return image


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (cropped_at_its_foot(), one_digit.CUT),
        (on_table(one(), at=(120, 500)), one_digit.CUT),
        (two(), one_digit.SEVERAL),
        (on_table(two()), one_digit.SEVERAL),
        (circled(), one_digit.SEVERAL),
        (framed(Image.new("L", (400, 400), PAPER), 60), one_digit.FILLED),
        (square(), one_digit.FILLED),
        (on_table(Image.new("L", (300, 300), PAPER)), one_digit.FILLED),
        (lit(Image.new("L", (400, 400), 255)), one_digit.BLANK),
    ],
    ids=[
        "cropped", "cropped at the edge of the paper", "two", "two on a table", "in a circle",
        "an empty cell", "a square", "blank paper on a table", "blank, in light that falls off",
    ],
)  # fmt: skip
def test_what_is_no_digit_is_refused_with_the_reason(image: Image.Image, reason: str) -> None:
    with pytest.raises(ImageError) as refused:
        prepared(image)
    assert refused.value.what == reason


def test_dust_far_from_the_digit_does_not_change_it() -> None:
    dusty = one()
    ImageDraw.Draw(dusty).rectangle((10, 380, 13, 383), fill=INK)
    assert np.array_equal(prepared(dusty).pixels, prepared(one()).pixels)


def test_the_shade_of_paper_is_its_mean_around_each_pixel() -> None:
    shades = np.zeros((3, 9), np.int64)
    shades[:, 0], shades[:, 1] = 100, 200
    found = paper._shades(shades, shades > 0)  # reaches one pixel around
    assert found[1, :3].tolist() == [150, 150, 200]
    assert found[1, 3] == 200  # nothing within one pixel, so within two
