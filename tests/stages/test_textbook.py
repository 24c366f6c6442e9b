"""The committed results are the textbook run's: MNIST, logistic regression, SGD."""

import csv
import json
import shutil
from pathlib import Path

from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from core.data.dataset_params import DatasetParams
from core.data.split_params import SplitParams
from core.pipeline import params
from core.training.model_params import ModelParams
from core.training.train_params import TrainParams

ROOT = Path(__file__).resolve().parents[2]


CHANGED = (
    "params.yaml no longer holds the textbook's run; after a change of the defaults on purpose, "
    "dvc repro, commit dvc.lock and metrics/, and state the new figures here and in the README"
)


def test_five_epochs_at_0_001_end_where_the_textbook_does() -> None:
    chosen = params.check(ROOT / "params.yaml")
    train = chosen.section(TrainParams)
    assert chosen.section(DatasetParams).name == "mnist", CHANGED
    assert chosen.section(ModelParams).name == "logistic_regression", CHANGED
    assert (train.lr, train.batch_size, train.epochs) == (0.001, 100, 5), CHANGED
    assert chosen.section(SplitParams).val_fraction == 0.2, CHANGED

    history = list(csv.DictReader((ROOT / "metrics/history.csv").read_text().splitlines()))
    assert 0.05 < float(history[0]["val_accuracy"]) < 0.16, CHANGED
    assert float(history[5]["val_accuracy"]) > 0.80, CHANGED
    assert 1.08 < float(history[5]["val_loss"]) < 1.14, CHANGED
    evaluation = json.loads((ROOT / "metrics/evaluate.json").read_text())
    assert str(evaluation["val"]["loss"]) == history[5]["val_loss"]


def test_dvc_writes_params_yaml_as_it_is_committed(tmp_path: Path) -> None:
    """So that an experiment that changes one parameter changes one line.

    It rewrites every list, and a comment after one would be lost.
    """
    copy = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", copy)
    apply_overrides(copy, [f"train.lr={YAML(typ='safe').load(copy)['train']['lr']}"])
    assert copy.read_bytes() == (ROOT / "params.yaml").read_bytes()
