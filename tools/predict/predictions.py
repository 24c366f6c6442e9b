"""Predicts image files, and writes the predictions as a table, as JSON or as CSV."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from core.pipeline import files
from core.report.pages import percent
from tools.predict import preparation
from tools.predict.image_files import ImageError
from tools.predict.loaded_model import LoadedModel

STANDARD_INPUT = "-"
WIDTH = 80  # of the table, in characters
GUESSES = 3  # in a row of the table, if there is room
LEAST_NAME = 16  # characters of a file name, or else a guess is left out


class Prediction(NamedTuple):
    """The prediction for an image."""

    file: str
    probabilities: dict[str, float]  # of each class, in the order of the labels
    inverted: bool  # it was dark on light, unlike the images of the data set

    @property
    def guesses(self) -> list[tuple[str, float]]:
        """Return the classes with their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda each: -each[1])


def predict(model: LoadedModel, name: str) -> Prediction:
    """Predict a file, or standard input.

    Raises:
        ImageError: it is not an image, or nothing is drawn on it.
    """
    if name == STANDARD_INPUT:
        if sys.stdin is None:  # closed by the shell: <&-
            raise ImageError("is closed", expected="an image on standard input")
        prepared = preparation.prepare(io.BytesIO(sys.stdin.buffer.read()), model.preprocessing)
    else:
        if Path(name).is_dir():
            raise ImageError("has no files in it", expected="images that are not hidden")
        with Path(name).open("rb") as file:
            prepared = preparation.prepare(file, model.preprocessing)
    probabilities = model.probabilities(prepared.pixels)
    named = dict(zip(model.class_names, probabilities, strict=True))
    return Prediction(name, named, prepared.inverted)


def as_json(predictions: Sequence[Prediction]) -> str:
    """Write predictions as an array of objects, probabilities rounded."""
    rows = [
        {
            "file": each.file,
            "label": each.guesses[0][0],
            "probability": each.guesses[0][1],
            "probabilities": each.probabilities,
            "inverted": each.inverted,
        }
        for each in predictions
    ]
    return json.dumps(files.rounded(rows), indent=2, allow_nan=False)


def as_csv(predictions: Sequence[Prediction], class_names: Sequence[str]) -> str:
    """Write predictions with a header, a row for each image and a column for each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "probability", "inverted", *class_names])
    for each in predictions:
        label, probability = each.guesses[0]
        inverted = str(each.inverted).lower()
        row = [each.file, label, probability, inverted, *each.probabilities.values()]
        writer.writerow(files.rounded(row))
    return text.getvalue()


def as_table(predictions: Sequence[Prediction]) -> str:
    """Write the most probable classes of each image, in lines of at most `WIDTH` characters."""
    shown = [each.guesses[:GUESSES] for each in predictions]
    letters = max(len(name) for guesses in shown for name, _ in guesses)
    guess = letters + len(" 100.0 %")
    inverted = "  inverted"
    count = len(shown[0])
    while count > 1 and WIDTH - len(inverted) - count * (2 + guess) < LEAST_NAME:
        count -= 1
    room = WIDTH - len(inverted) - count * (2 + guess)
    names = [_cut(printable(each.file), room) for each in predictions]
    width = max(len("image"), *map(len, names))
    titles = [title.ljust(guess) for title in ("label", "second", "third")[:count]]
    lines = ["  ".join(["image".ljust(width), *titles]) + inverted]
    for name, each, guesses in zip(names, predictions, shown, strict=True):
        cells = [f"{label:<{letters}} {percent(share):>7}" for label, share in guesses[:count]]
        line = "  ".join([name.ljust(width), *cells]) + ("  yes" if each.inverted else "  no")
        lines.append(line)
    return "\n".join(lines).replace("\u00a0", " ")


def printable(name: str) -> str:
    """Replace unprintable characters: a file name may contain any."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _cut(name: str, room: int) -> str:
    """Shorten a name to its end, which says most."""
    return name if len(name) <= room else "…" + name[-(room - 1) :]
