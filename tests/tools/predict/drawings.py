"""Drawings, and the files and scenes that they are in."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

PAPER, INK, TABLE = 215, 30, 60


def written(image: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def seven(size: int = 200) -> Image.Image:
    """A 7 in black on white, 0.4 by 0.6 of a square, in its upper left."""
    image = Image.new("L", (size, size), 255)
    corners = [(0.1, 0.1), (0.5, 0.1), (0.25, 0.7)]
    points = [(x * size, y * size) for x, y in corners]
    ImageDraw.Draw(image).line(points, fill=0, width=size // 12, joint="curve")
    return image


def one(paper: int = PAPER) -> Image.Image:
    """A 1 in dark grey on grey: a straight line."""
    image = Image.new("L", (400, 400), paper)
    ImageDraw.Draw(image).line([(200, 80), (200, 320)], fill=INK, width=24)
    return image


def on_table(
    sheet: Image.Image, table: int = TABLE, at: tuple[int, int] = (120, 120)
) -> Image.Image:
    """A sheet on a table of 640 × 640 pixels, which may hide a part of it."""
    scene = Image.new("L", (640, 640), table)
    scene.paste(sheet, at)
    return scene


def framed(image: Image.Image, inset: int = 0, width: int = 1) -> Image.Image:
    """A line around it, at some distance from its edges."""
    size = image.width
    box = (inset, inset, size - 1 - inset, size - 1 - inset)
    ImageDraw.Draw(image).rectangle(box, outline=INK, width=width)
    return image


def lit(image: Image.Image) -> Image.Image:
    """In light that falls from 225 to 165 across the sheet."""
    light = np.linspace(225, 165, image.width)
    return Image.fromarray((np.asarray(image) * light / 255).astype(np.uint8))


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8], within: float) -> bool:
    """Whether two images differ by less than this share of their ink."""
    return float(np.abs(one.astype(int) - other).sum()) < within * float(other.sum())
