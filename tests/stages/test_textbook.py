"""The committed results are the textbook run's: MNIST, logistic regression, SGD."""

import csv
import json
import shutil
from pathlib import Path

from dvc.utils.hydra import apply_overrides

from core.pipeline import params

ROOT = Path(__file__).resolve().parents[2]


def test_five_epochs_at_0_001_end_where_the_textbook_does() -> None:
    chosen = params.read("dataset", "split", "model", "train", path=ROOT / "params.yaml")
    assert (chosen.dataset.name, chosen.model.name) == ("mnist", "logistic_regression")
    assert (chosen.train.lr, chosen.train.batch_size, chosen.train.epochs) == (0.001, 100, 5)
    assert chosen.split.val_fraction == 0.2

    history = list(csv.DictReader((ROOT / "metrics/history.csv").read_text().splitlines()))
    assert 0.05 < float(history[0]["val_accuracy"]) < 0.16
    assert float(history[5]["val_accuracy"]) > 0.80
    assert 1.08 < float(history[5]["val_loss"]) < 1.14
    evaluation = json.loads((ROOT / "metrics/evaluate.json").read_text())
    assert str(evaluation["val"]["loss"]) == history[5]["val_loss"]


def test_dvc_writes_params_yaml_as_it_is_committed(tmp_path: Path) -> None:
    """So that an experiment that changes one knob changes one line.

    It writes every list anew, and a comment after one would be lost.
    """
    copy = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", copy)
    apply_overrides(copy, ["train.lr=0.001"])
    assert copy.read_bytes() == (ROOT / "params.yaml").read_bytes()
