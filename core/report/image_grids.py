"""Images with captions, laid out in a grid, as the bytes of a PNG.

Pixels are repeated, never smoothed, so that each is visible. The file has no
metadata, neither a time nor a program, and the text uses the font that Pillow
includes: the same grid gives the same bytes.
"""

import io
import unicodedata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from core.data.arrays import Images
from core.pipeline import wording
from core.pipeline.errors import DataError

# Sizes in pixels of the file. It is drawn about twice as large as it is shown,
# so that text stays sharp on dense screens and readable on small ones.
TILE = 224  # an image is enlarged by the nearest whole factor
TEXT = 36
LINE = 44
GAP = 32

# Shades of grey. The paper stays light in dark mode, for the text.
PAPER = 250
INK = 26

# Ends of the scale of weights, RGB: distinct with red-green blindness too.
FOR = (29, 78, 216)
AGAINST = (194, 65, 12)


class Picture(NamedTuple):
    """A picture, and its captions as text."""

    png: bytes
    captions: list[str]  # none if it shows no images


def grid(images: Images, captions: list[str], *, columns: int) -> Picture:
    """Draw images row by row, each with its caption below.

    Args:
        images: uint8 (K, H, W, C), greyscale (C = 1) or RGB (C = 3), K >= 1.
        captions: K texts; lines that are too wide are broken between words.
        columns: images a row.

    Raises:
        DataError: the images are neither greyscale nor RGB.
    """
    count, height, width, channels = images.shape
    if channels not in (1, 3):
        raise DataError(
            "these images cannot be drawn",
            expected="1 channel (greyscale) or 3 (RGB)",
            found=wording.count(channels, "channel"),
            todo="convert the images where they are made; dvc repro",
        )
    scale = max(1, round(TILE / max(height, width)))
    tile_width, tile_height = width * scale, height * scale
    font = _font()
    texts = [_lines(caption, tile_width, font) for caption in captions]
    columns = min(columns, count)
    rows = [range(first, min(first + columns, count)) for first in range(0, count, columns)]
    row_heights = [
        tile_height + GAP // 4 + LINE * max(len(texts[position]) for position in row)
        for row in rows
    ]

    canvas = _canvas(
        GAP + columns * (tile_width + GAP),
        GAP + sum(row_heights) + GAP * len(rows),
        channels,
    )
    draw = ImageDraw.Draw(canvas)
    top = GAP
    for row, row_height in zip(rows, row_heights, strict=True):
        for column, position in enumerate(row):
            left = GAP + column * (tile_width + GAP)
            canvas.paste(_enlarged(images[position], scale), (left, top))
            for number, line in enumerate(texts[position]):
                corner = (left, top + tile_height + GAP // 4 + number * LINE)
                draw.text(corner, line, fill=(INK,) * channels, font=font)
        top += row_height + GAP
    return Picture(_png(canvas), captions)


def templates(weight: NDArray[np.float32], shape: tuple[int, int, int]) -> Images:
    """Draw the weights of a linear layer as images, one a class, all on one scale.

    Of greyscale images: white is 0, blue speaks for the class, orange against it.
    Of RGB images: each channel from 0, the most against, to 255, the most for.

    Args:
        weight: float32 (classes, H * W * C).
        shape: H, W, C of the images.

    Returns:
        uint8 (classes, H, W, 3).
    """
    values = weight.astype(np.float64).reshape(-1, *shape)  # (classes, H, W, C)
    values /= np.abs(values).max() or 1  # in [-1, 1]
    if shape[2] == 3:
        drawn = 127.5 * (1 + values)
    else:
        ends = np.where(values > 0, np.array(FOR), np.array(AGAINST))  # (classes, H, W, 3)
        drawn = 255 + (ends - 255) * np.abs(values)
    pixels: Images = np.rint(drawn).astype(np.uint8)
    return pixels


def notice(text: str) -> Picture:
    """Draw one line of text, for a picture that has no images to show."""
    font = _font()
    text = _drawable(text)
    canvas = _canvas(2 * GAP + round(font.getlength(text)), 2 * GAP + LINE, 1)
    ImageDraw.Draw(canvas).text((GAP, GAP), text, fill=INK, font=font)
    return Picture(_png(canvas), [])


def _canvas(width: int, height: int, channels: int) -> Image.Image:
    if channels == 1:
        return Image.new("L", (width, height), PAPER)
    return Image.new("RGB", (width, height), (PAPER,) * 3)


def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=TEXT)
    assert isinstance(font, ImageFont.FreeTypeFont)  # whenever a size is given
    return font


def _enlarged(image: NDArray[np.uint8], scale: int) -> Image.Image:
    """Repeat each pixel of an image, (H, W, C), `scale` times each way."""
    pixels = image.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _lines(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break `text` between words into lines of at most `width` pixels."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in _drawable(paragraph).split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = _cut(longer, width, font)
        lines.append(line)
    return lines


def _cut(line: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Shorten a line that cannot be broken."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"


def _drawable(text: str) -> str:
    """Replace characters that Pillow's font lacks: é by e, 中 by a question mark."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in letters)


def _png(canvas: Image.Image) -> bytes:
    file = io.BytesIO()
    canvas.save(file, format="PNG")
    return file.getvalue()
