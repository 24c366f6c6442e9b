"""Predicts images: the label, and the probability of each class.

    python -m tools.predict seven.png digits/      files and folders
    python -m tools.predict - < seven.png          standard input
    python -m tools.predict --json seven.png       or --csv: with every class
    python -m tools.predict --rev lr-0.1 seven.png the model of a revision or experiment

Reads:  dvc.lock and models/model.pt; with --rev, those of the revision, by DVC
Writes: nothing

Exits with 0 if every image was predicted. Exits with 1 if any was not: the error names
it, and the others are predicted.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.pipeline.runner import run
from tools.predict import loaded_model, predictions
from tools.predict.image_files import ImageError
from tools.predict.loaded_model import add_revision
from tools.predict.predictions import STANDARD_INPUT, predict, printable


def main(images: list[str], revision: str | None, form: str) -> None:
    """Print the predictions, and exit with 1 if any image failed."""
    model = loaded_model.load(revision)
    edits = [] if revision else loaded_model.edits()
    if edits:
        print(loaded_model.note(edits), file=sys.stderr)
    made, failed = [], False
    for name in named(images):
        try:
            made.append(predict(model, name))
        except ImageError as error:
            failed = True
            print(f"error: {printable(name)} {error}", file=sys.stderr)
        except OSError as error:
            failed = True
            print(f"error: {printable(name)}: {error.strerror or error}", file=sys.stderr)
    if form == "json":
        print(predictions.as_json(made))
    elif form == "csv":
        print(end=predictions.as_csv(made, model.class_names))
    elif made:
        print(f"{model.name}, trained on {model.dataset}\n")
        print(predictions.as_table(made))
    sys.stdout.flush()
    if failed:
        sys.exit(1)


def named(images: Sequence[str]) -> Iterator[str]:
    """Yield each image; those of a folder and its subfolders sorted, without hidden ones."""
    for name in images:
        folder = Path(name)
        if name == STANDARD_INPUT or not folder.is_dir():
            yield name
            continue
        found = (path.relative_to(folder) for path in folder.rglob("*") if _is_file(path))
        shown = sorted(p for p in found if not any(part.startswith(".") for part in p.parts))
        # An empty folder is yielded itself, so that the error names it.
        yield from (str(folder / path) for path in shown) if shown else [name]


def _is_file(path: Path) -> bool:
    """Whether it is a file or a broken link; reading a pipe would block."""
    return not path.is_dir() and not path.is_fifo()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the images, the model and the output format."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a file, a folder, or - for standard input"
    )
    add_revision(parser)
    form = parser.add_mutually_exclusive_group()
    for name, text in (("json", "an array of objects"), ("csv", "a row for each image")):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, default="table", help=text
        )


if __name__ == "__main__":
    run(main, add_arguments)
