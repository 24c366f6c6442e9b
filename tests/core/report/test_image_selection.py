"""The sheets hold the images that they list, and never exceed their space."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from core.report import image_selection
from core.report.image_selection import Classified


def random_set(count: int, classes: int, *, channels: int = 1, size: int = 8) -> Classified:
    """Random images, whose classes are predicted at random."""
    generator = np.random.default_rng(count)
    return Classified(
        generator.integers(0, 256, (count, size, size, channels), dtype=np.uint8),
        generator.integers(0, classes, count),
        generator.dirichlet(np.ones(classes), count).astype(np.float32),
        [f"class {number}" for number in range(classes)],
    )


def decoded(address: str) -> NDArray[np.uint8]:
    content = base64.b64decode(address.partition(",")[2])
    picture = Image.open(io.BytesIO(content))
    return np.asarray(picture.convert("RGB" if picture.mode == "RGB" else "L"))


def tiles(row: dict[str, Any], prediction: int, size: int = 8) -> list[NDArray[np.uint8]]:
    """The images of a cell, as the page cuts them out of the sheet."""
    sheet, cell = decoded(row["sheet"]), row["cells"][str(prediction)]
    assert sheet.shape[:2] == (row["lines"] * size, row["columns"] * size)
    places = range(cell["first"], cell["first"] + len(cell["images"]))
    corners = [(place // row["columns"] * size, place % row["columns"] * size) for place in places]
    return [sheet[top : top + size, left : left + size] for top, left in corners]


def drawn(rows: list[dict[str, Any]]) -> list[int]:
    return [image for row in rows for cell in row["cells"].values() for image in cell["images"]]


@pytest.mark.parametrize("channels", [1, 3])
def test_with_room_enough_each_cell_has_all_its_images_untouched(channels: int) -> None:
    test = random_set(300, 4, channels=channels)
    rows = image_selection.sheets(test, room=10_000_000)
    assert sorted(drawn(rows)) == list(range(300))
    for label, row in enumerate(rows):
        for prediction, cell in row["cells"].items():
            inside = (test.labels == label) & (test.predicted == int(prediction))
            assert sorted(cell["images"]) == np.flatnonzero(inside).tolist()
            assert cell["percent"] == sorted(cell["percent"])  # the least certain first
            confidence = test.probabilities[cell["images"], int(prediction)]
            assert cell["percent"] == pytest.approx(100 * confidence, abs=0.051)
            for tile, image in zip(tiles(row, int(prediction)), cell["images"], strict=True):
                assert (tile.reshape(8, 8, channels) == test.images[image]).all()


def test_in_less_room_greys_are_rounded_and_no_image_is_left_out() -> None:
    test = random_set(2000, 3)
    whole = len(json.dumps(image_selection.sheets(test, room=10_000_000)))
    rows = image_selection.sheets(test, room=int(0.7 * whole))
    assert sorted(drawn(rows)) == list(range(2000))
    for label, row in enumerate(rows):
        for prediction, cell in row["cells"].items():
            for tile, image in zip(tiles(row, int(prediction)), cell["images"], strict=True):
                exact = test.images[image][:, :, 0].astype(int)
                assert np.abs(tile.astype(int) - exact).max() <= 8, (label, prediction)
                assert (tile % 17 == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("room", [100_000, 30_000])
def test_in_too_little_room_each_cell_keeps_its_least_certain(channels: int, room: int) -> None:
    test = random_set(2000, 3, channels=channels)
    rows = image_selection.sheets(test, room=room)
    assert len(json.dumps(rows, separators=(",", ":"))) <= room
    shown, whole = [], []
    for label, row in enumerate(rows):
        for prediction, cell in row["cells"].items():
            inside = np.flatnonzero((test.labels == label) & (test.predicted == int(prediction)))
            confidence = test.probabilities[inside].max(axis=1)
            order = inside[np.argsort(confidence, kind="stable")]
            assert cell["images"] == order[: len(cell["images"])].tolist()
            shown.append(len(cell["images"]))
            whole.append(len(order))
    for count, total in zip(shown, whole, strict=True):
        assert count == total or count >= max(shown) - 1  # in turn
    assert sum(shown) < sum(whole)
    assert room / 2 < len(json.dumps(rows))


def test_without_any_room_there_are_no_images_and_no_error() -> None:
    rows = image_selection.sheets(random_set(20, 3), room=0)
    assert rows == [{"sheet": "", "columns": 0, "lines": 0, "cells": {}}] * 3


def test_a_hundred_classes_of_colour_images_fit() -> None:
    test = random_set(3000, 100, channels=3, size=32)
    rows = image_selection.sheets(test, room=1_000_000)
    assert len(json.dumps(rows, separators=(",", ":"))) <= 1_000_000
    assert len(set(drawn(rows))) == len(drawn(rows)) > 300


def test_an_image_is_shown_with_its_likeliest_classes_and_always_its_label() -> None:
    probabilities = np.array([[0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.03]], dtype=np.float32)
    names = list("abcdefg")
    images = np.full((1, 2, 2, 1), 7, dtype=np.uint8)
    (shown,) = image_selection.show(Classified(images, np.array([6]), probabilities, names), [0])
    assert (shown.position, shown.label, shown.prediction, shown.right) == (0, "g", "a", False)
    assert [each.name for each in shown.odds] == ["a", "b", "c", "d", "e", "g"]
    assert [each.is_label for each in shown.odds] == [False] * 5 + [True]
    assert shown.confidence == pytest.approx(0.3)
    assert shown.of_label == pytest.approx(0.03)
    assert (decoded(shown.address) == 7).all()
