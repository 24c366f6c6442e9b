"""Says what the model makes of images: the label, and the probability of each class.

    python -m tools.predict seven.png digits/      files, and folders with all in them
    python -m tools.predict - < seven.png          standard input
    python -m tools.predict --json seven.png       or --csv: with every class
    python -m tools.predict --rev lr-0.1 seven.png the model of a revision or experiment

Reads:  dvc.lock and models/model.pt; with --rev, those of the revision, by DVC
Writes: nothing

Exits with 0 if every image was predicted, 1 if any was not: it is named on standard
error, and the others go on.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from core import files
from core.pages import percent
from core.runner import run
from tools import preparation, trained
from tools.preparation import ImageError
from tools.trained import Trained

STANDARD_INPUT = "-"
WIDTH = 80  # of the table, in letters
GUESSES = 3  # a row of the table, if there is room
LEAST_NAME = 16  # letters of a file's name, before a guess makes room for it


class Prediction(NamedTuple):
    """What the model makes of an image."""

    file: str
    probabilities: dict[str, float]  # of each class, in the order of the labels
    inverted: bool  # it was dark on light, other than the images of the data set

    @property
    def guesses(self) -> list[tuple[str, float]]:
        """Return the classes with their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda each: -each[1])


def main(images: list[str], revision: str | None, form: str) -> None:
    """Print what the model makes of the images, and exit with 1 if any failed."""
    model = trained.load(revision)
    edits = [] if revision else trained.edits()
    if edits:
        print(note(edits), file=sys.stderr)
    predictions, failed = [], False
    for name in named(images):
        try:
            predictions.append(predict(model, name))
        except ImageError as error:
            failed = True
            print(f"error: {printable(name)} {error}", file=sys.stderr)
        except OSError as error:
            failed = True
            print(f"error: {printable(name)}: {error.strerror or error}", file=sys.stderr)
    if form == "json":
        print(as_json(predictions))
    elif form == "csv":
        print(end=as_csv(predictions, model.class_names))
    elif predictions:
        print(f"{model.name}, trained on {model.dataset}\n")
        print(as_table(predictions))
    sys.stdout.flush()
    if failed:
        sys.exit(1)


def note(edits: Sequence[str]) -> str:
    """Say that the model is not that of params.yaml."""
    return (
        "note: this is the model of dvc.lock; params.yaml was edited since: "
        f"{'; '.join(edits)}. dvc repro trains that one"
    )


def named(images: Sequence[str]) -> Iterator[str]:
    """Yield each image; those of a folder and its folders sorted, without hidden ones."""
    for name in images:
        folder = Path(name)
        if name == STANDARD_INPUT or not folder.is_dir():
            yield name
            continue
        found = (path.relative_to(folder) for path in folder.rglob("*") if _is_file(path))
        shown = sorted(p for p in found if not any(part.startswith(".") for part in p.parts))
        # Without a file, the folder itself is what can not be predicted.
        yield from (str(folder / path) for path in shown) if shown else [name]


def _is_file(path: Path) -> bool:
    """Whether it is a file, or a link to none; a pipe would be waited for."""
    return not path.is_dir() and not path.is_fifo()


def predict(model: Trained, name: str) -> Prediction:
    """Predict a file, or standard input.

    Raises:
        ImageError: it is no image like those that the model was trained on.
    """
    if name == STANDARD_INPUT:
        if sys.stdin is None:  # by who started this: <&-
            raise ImageError("is closed", expected="an image on standard input")
        prepared = preparation.prepare(io.BytesIO(sys.stdin.buffer.read()), model.making)
    else:
        if Path(name).is_dir():
            raise ImageError("has no files in it", expected="images that are not hidden")
        with Path(name).open("rb") as file:
            prepared = preparation.prepare(file, model.making)
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
    """Write predictions with a header, a row an image and a column a class."""
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
    """Write the most probable classes of each image, in lines of at most `WIDTH` letters."""
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
    """Replace what would not be a letter on a terminal: a file's name may hold anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _cut(name: str, room: int) -> str:
    """Shorten a name to its end, which tells most."""
    return name if len(name) <= room else "…" + name[-(room - 1) :]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the images, whose model predicts them, and the form of the answer."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a file, a folder, or - for standard input"
    )
    add_revision(parser)
    form = parser.add_mutually_exclusive_group()
    for name, text in (("json", "an array of objects"), ("csv", "a row an image")):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, default="table", help=text
        )


def add_revision(parser: argparse.ArgumentParser) -> None:
    """Add whose model predicts."""
    parser.add_argument(
        "--rev",
        dest="revision",
        metavar="REV",
        help="a branch, a tag, a commit or an experiment; default: the model in this folder",
    )


if __name__ == "__main__":
    run(main, add_arguments)
