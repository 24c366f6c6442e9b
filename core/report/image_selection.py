"""Images of a test set for a page: single ones, and sprite sheets of many.

A page is one file, so it holds the pixels as `data:` URLs. A sheet is one picture
of many images, of which the page shows one part each; it needs a third of the bytes
of single images.
"""

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.data.arrays import Images, Labels
from core.report.calibration import least_certain
from core.report.predictions import Probabilities

COLUMNS = 32  # of a sheet
GREYS = 16  # where 256 need too much space: half a byte a pixel
JPEG_QUALITY = 80  # of colour images where PNG needs too much space
MOST_LIKELY = 5  # classes whose probability an image shows
MARGIN = 0.97  # of the space, when images are left out: the others may be larger


class Classified(NamedTuple):
    """A test set and the predictions of a model."""

    images: Images  # uint8 (N, H, W, C), greyscale (C = 1) or RGB (C = 3)
    labels: Labels  # int64 (N,)
    probabilities: Probabilities  # float32 (N, classes)
    names: list[str]  # of the classes

    @property
    def predicted(self) -> Labels:
        """The most probable class of each image, int64 (N,)."""
        predicted: Labels = self.probabilities.argmax(axis=1)
        return predicted


class Odds(NamedTuple):
    """The probability of one class."""

    name: str
    probability: float  # in [0, 1]
    is_label: bool


class Shown(NamedTuple):
    """One image and everything that a page shows about it."""

    position: int  # in the test set
    address: str  # of its pixels
    label: str
    prediction: str
    right: bool
    confidence: float  # probability of the prediction
    of_label: float  # probability of the label
    odds: list[Odds]  # the most probable first; the label is always among them


def show(tested: Classified, positions: Sequence[int]) -> list[Shown]:
    """Return what a page shows of the images at `positions`."""
    predicted = tested.predicted
    shown = []
    for position in positions:
        label, prediction = int(tested.labels[position]), int(predicted[position])
        own = tested.probabilities[position]  # (classes,)
        likely = np.argsort(-own, kind="stable")[:MOST_LIKELY].tolist()
        if label not in likely:
            likely.append(label)
        shown.append(
            Shown(
                position=position,
                address=address(tested.images[position]),
                label=tested.names[label],
                prediction=tested.names[prediction],
                right=label == prediction,
                confidence=float(own[prediction]),
                of_label=float(own[label]),
                odds=[Odds(tested.names[each], float(own[each]), each == label) for each in likely],
            )
        )
    return shown


def address(pixels: NDArray[np.uint8]) -> str:
    """Return a picture, uint8 (H, W, C), as a `data:` URL."""
    return _data(_png(pixels), "png")


def sheets(tested: Classified, *, room: int) -> list[dict[str, Any]]:
    """Draw the images of each cell of the confusion matrix into `room` bytes, a sheet a label.

    The least certain of a cell come first. If they do not all fit, they are
    drawn with 16 shades of grey, or colours as a JPEG; and if that is not
    enough, each cell in turn gets one image, the fullest first, and then
    another, as long as there is room.

    Args:
        tested: the test set.
        room: for what is returned, in bytes of JSON.

    Returns:
        For each label: the address of its sheet, empty without images; how many
        images are in a line of it, and how many lines; and for each prediction
        the number of its first image in the sheet, the images' positions in the
        test set, and the probability of the prediction in percent.
    """
    order = _in_turn(tested)
    whole = _rows(tested, order, _png)
    if _size(whole) <= room:
        return whole
    compact = _png_of_few_greys if tested.images.shape[3] == 1 else _jpeg
    count = len(order)
    while True:
        rows = _rows(tested, order[:count], compact)
        size = _size(rows)
        if size <= room or not count:
            return rows
        count = min(count - 1, math.floor(count * MARGIN * max(room, 0) / size))


def _in_turn(tested: Classified) -> list[int]:
    """Order all images so that each cell has one before any has another."""
    cells: dict[tuple[int, int], list[int]] = {}
    predicted = tested.predicted
    for position in least_certain(tested.probabilities, count=len(tested.labels)):
        cell = int(tested.labels[position]), int(predicted[position])
        cells.setdefault(cell, []).append(position)
    fullest_first = sorted(cells, key=lambda cell: (-len(cells[cell]), cell))
    turns = [
        (turn, rank, position)
        for rank, cell in enumerate(fullest_first)
        for turn, position in enumerate(cells[cell])
    ]
    return [position for _, _, position in sorted(turns)]


Encode = Callable[[NDArray[np.uint8]], bytes]


def _rows(tested: Classified, positions: Sequence[int], encode: Encode) -> list[dict[str, Any]]:
    predicted = tested.predicted
    by_label: list[dict[int, list[int]]] = [{} for _ in tested.names]
    for position in positions:
        cells = by_label[tested.labels[position]]
        cells.setdefault(int(predicted[position]), []).append(position)
    return [_row(tested, cells, encode) for cells in by_label]


def _row(tested: Classified, cells: dict[int, list[int]], encode: Encode) -> dict[str, Any]:
    """Draw the sheet of one label.

    Args:
        tested: the test set.
        cells: for each prediction its images, as positions.
        encode: turns the sheet into a file.

    Returns:
        As `sheets` does.
    """
    positions = [position for prediction in sorted(cells) for position in cells[prediction]]
    columns = min(COLUMNS, len(positions))
    sheet = ""
    if positions:
        kind = "jpeg" if encode is _jpeg else "png"
        sheet = _data(encode(_tiled(tested.images[positions], columns)), kind)
    first = 0
    described = {}
    for prediction in sorted(cells):
        inside = cells[prediction]
        confidence = tested.probabilities[inside, prediction].tolist()
        described[str(prediction)] = {
            "first": first,
            "images": inside,
            "percent": [round(100 * value, 1) for value in confidence],
        }
        first += len(inside)
    lines = -(-len(positions) // columns) if positions else 0
    return {"sheet": sheet, "columns": columns, "lines": lines, "cells": described}


def _tiled(images: Images, columns: int) -> NDArray[np.uint8]:
    """Lay (K, H, W, C) out in lines of `columns` images; empty cells are black."""
    count, height, width, channels = images.shape
    lines = -(-count // columns)
    padded = np.zeros((lines * columns, height, width, channels), dtype=np.uint8)
    padded[:count] = images
    grid = padded.reshape(lines, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(lines * height, columns * width, channels)


def _size(rows: list[dict[str, Any]]) -> int:
    return len(json.dumps(rows, separators=(",", ":")))


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def _picture(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    _picture(pixels).save(file, format="PNG")
    return file.getvalue()


def _png_of_few_greys(pixels: NDArray[np.uint8]) -> bytes:
    step = 255 // (GREYS - 1)
    nearest = (pixels[:, :, 0].astype(np.uint16) + step // 2) // step  # in [0, GREYS)
    picture = Image.frombytes("P", nearest.shape[::-1], nearest.astype(np.uint8).tobytes())
    picture.putpalette([grey * step for grey in range(GREYS) for _ in range(3)])
    file = io.BytesIO()
    picture.save(file, format="PNG", bits=4)
    return file.getvalue()


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    _picture(pixels).save(file, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()
