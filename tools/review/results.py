"""The results of the model of a snapshot, read with every property checked.

Anything may be missing, as in a commit from before the file existed. What exists has to
be valid.
"""

import csv
import io
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import Indices, Labels
from core.report.predictions import COLUMNS
from tools.repository import freshness
from tools.repository.snapshots import Snapshot

EVALUATION = "metrics/evaluate.json"
TEST = "metrics/test.json"
HISTORY = "metrics/history.csv"
PER_CLASS = "metrics/per_class.csv"
TEST_PREDICTIONS = "metrics/test_predictions.csv"
VAL_PREDICTIONS = "metrics/val_predictions.csv"

Set = Literal["test", "validation"]
SETS: dict[Set, str] = {"test": TEST_PREDICTIONS, "validation": VAL_PREDICTIONS}


class Predictions(NamedTuple):
    """The predictions of a model for each image of a set."""

    indices: Indices  # int64 (N,)
    labels: Labels  # int64 (N,)
    predicted: Labels  # int64 (N,)
    probabilities: NDArray[np.float64]  # (N,), of what was predicted

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image was predicted right, (N,)."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right


@dataclass(frozen=True)
class ModelResults:
    """A snapshot and the results of its model."""

    snapshot: Snapshot
    params: dict[str, Any]  # each parameter under its dotted name
    hashes: dict[str, str]  # the MD5 that dvc.lock gives for each output
    metrics: dict[str, float]  # "test accuracy", "validation loss", ...
    predictions: dict[Set, Predictions]  # of the sets that have them
    history: dict[str, list[float]]  # by column; empty if there is none
    classes: list[str]  # their names, in the order of the labels; empty if unknown


def read(snapshot: Snapshot) -> ModelResults:
    """Read the results of a snapshot.

    Raises:
        DataError: a file has unexpected content.
    """
    params = snapshot.yaml("params.yaml")
    return ModelResults(
        snapshot=snapshot,
        params=dict(freshness.leaves(params)) if params else {},
        hashes={
            out["path"]: str(out.get("md5"))
            for lock in freshness.locked(snapshot).values()
            for out in lock.get("outs", [])
        },
        metrics=_metrics(snapshot),
        predictions=_predictions(snapshot),
        history=_numbers(snapshot, HISTORY),
        classes=[row["class"] for row in _rows(snapshot, PER_CLASS) if "class" in row],
    )


def _metrics(snapshot: Snapshot) -> dict[str, float]:
    test = dict(freshness.leaves(snapshot.json(TEST) or {}))
    evaluation = dict(freshness.leaves(snapshot.json(EVALUATION) or {}))
    sets = {"train": "training", "val": "validation"}
    named = {f"test {name}": value for name, value in test.items()}
    for name, value in evaluation.items():
        which, _, measure = name.partition(".")
        named[f"{sets.get(which, which)} {measure}".replace(".", " ").strip()] = value
    return {
        name.replace("_", " "): value
        for name, value in named.items()
        if isinstance(value, int | float)
    }


def _predictions(snapshot: Snapshot) -> dict[Set, Predictions]:
    return {
        which: read_predictions(snapshot, path)
        for which, path in SETS.items()
        if snapshot.read(path) is not None
    }


def read_predictions(snapshot: Snapshot, path: str) -> Predictions:
    """Read the predictions of a model for each image of a set.

    Raises:
        DataError: the file has other content.
    """
    columns = _numbers(snapshot, path)
    if tuple(columns) != COLUMNS:
        raise snapshot.unreadable(path, "rows of " + ",".join(COLUMNS), ",".join(columns))
    indices, labels, predicted = (np.array(columns[name]).astype(np.int64) for name in COLUMNS[:3])
    for name, integers in zip(COLUMNS, (indices, labels, predicted), strict=False):
        if (integers != columns[name]).any() or (integers < 0).any():
            raise snapshot.unreadable(path, f"whole numbers from 0 on as {name}", "others")
    return Predictions(indices, labels, predicted, np.array(columns["probability"]))


def _numbers(snapshot: Snapshot, path: str) -> dict[str, list[float]]:
    """Read the columns of a CSV of numbers; none if there is no such file."""
    columns: dict[str, list[float]] = {}
    try:
        for row in _rows(snapshot, path):
            for name, value in row.items():
                columns.setdefault(name, []).append(float(value))
    except (TypeError, ValueError) as error:
        raise snapshot.unreadable(path, "a table of numbers", str(error)) from error
    if len({len(column) for column in columns.values()}) > 1 or not all(
        np.isfinite(column).all() for column in columns.values()
    ):
        raise snapshot.unreadable(path, "a finite number in every field", "others")
    return columns


def _rows(snapshot: Snapshot, path: str) -> list[dict[str, str]]:
    content = snapshot.read(path)
    if content is None:
        return []
    try:
        return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except (csv.Error, ValueError) as error:
        raise snapshot.unreadable(path, "a table of comma-separated values", str(error)) from error
