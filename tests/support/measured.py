"""The metrics that earlier stages write, for tests of test_report."""

from pathlib import Path

from core.pipeline import files
from core.report import predictions

INPUTS = ("metrics/evaluate.json", "metrics/history.csv", "metrics/val_predictions.csv")


def write(folder: Path, *, correct: int = 7, images: int = 10) -> None:
    """Write the three files of a model that has `correct` of `images` validation images right."""
    values = {"loss": 0.5, "accuracy": correct / images}
    files.write_json(folder / INPUTS[0], {"train": values, "val": values})
    columns = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
    files.write_csv(
        folder / INPUTS[1], columns, [(0, 2.0, 0.25, 2.0, 0.25), (1, 0.5, 0.7, 0.5, 0.7)]
    )
    rows = [(index, 0, int(index >= correct), 0.5) for index in range(images)]
    files.write_csv(folder / INPUTS[2], predictions.COLUMNS, rows)
