"""The whole pipeline on a few hundred images, through the real `dvc repro`.

A clone rebuilds everything with one command; a second one finds nothing to do;
a changed parameter reruns what depends on it and nothing else; a rebuild from
an empty cache gives the same bits.
"""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.support.project import TINY_TEST, TINY_TRAIN, Project, copy_project, make_tiny

STAGES = ["download", "split", "train", "evaluate", "test_report"]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro`; the tests below continue from it in order."""
    project = make_tiny(copy_project(tmp_path_factory.mktemp("a clone with spaces")))
    (project.folder / "dvc.lock").unlink(missing_ok=True)
    printed = project.must("dvc", "repro")
    ran = re.findall(r"^Running stage '(\w+)':$", printed, re.MULTILINE)
    assert [stage for stage in ran if stage in STAGES] == STAGES
    return project


def test_download_writes_the_bytes_of_the_data_set_as_arrays(rebuilt: Project) -> None:
    raw = rebuilt.folder / "data/raw"
    images = np.load(raw / "train_images.npy")
    labels = np.load(raw / "train_labels.npy")
    assert images.shape == (TINY_TRAIN, 28, 28, 1)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]  # as every MNIST tutorial shows them
    assert np.load(raw / "test_labels.npy")[:5].tolist() == [7, 2, 1, 0, 4]


def test_split_keeps_a_fifth_for_validation(rebuilt: Project) -> None:
    train = np.load(rebuilt.folder / "data/split/train_indices.npy")
    val = np.load(rebuilt.folder / "data/split/val_indices.npy")
    assert len(val) == TINY_TRAIN // 5
    assert sorted([*train, *val]) == list(range(TINY_TRAIN))


def test_training_starts_near_chance_and_learns(rebuilt: Project) -> None:
    history = list(csv.DictReader(rebuilt.read("metrics/history.csv").splitlines()))
    assert [row["epoch"] for row in history] == ["0", "1", "2", "3", "4", "5"]
    assert 0.02 < float(history[0]["train_accuracy"]) < 0.25
    assert float(history[5]["train_accuracy"]) > 0.6
    assert float(history[5]["train_loss"]) < float(history[0]["train_loss"]) / 1.5


def test_the_model_is_a_bare_state_dict(rebuilt: Project) -> None:
    state = torch.load(rebuilt.folder / "models/model.pt", weights_only=True)
    shapes = {name: tuple(weight.shape) for name, weight in state.items()}
    assert shapes == {
        "normalize.mean": (1,),
        "normalize.std": (1,),
        "linear.weight": (10, 784),
        "linear.bias": (10,),
    }


def test_evaluate_agrees_with_the_last_epoch_to_the_last_digit(rebuilt: Project) -> None:
    evaluation = json.loads(rebuilt.read("metrics/evaluate.json"))
    last = list(csv.DictReader(rebuilt.read("metrics/history.csv").splitlines()))[-1]
    for part in ("train", "val"):
        for measure in ("loss", "accuracy"):
            assert str(evaluation[part][measure]) == last[f"{part}_{measure}"]


def test_the_validation_predictions_are_those_of_the_split(rebuilt: Project) -> None:
    rows = list(csv.DictReader(rebuilt.read("metrics/val_predictions.csv").splitlines()))
    val = np.load(rebuilt.folder / "data/split/val_indices.npy")
    labels = np.load(rebuilt.folder / "data/raw/train_labels.npy")
    assert [int(row["index"]) for row in rows] == val.tolist()
    assert [int(row["label"]) for row in rows] == labels[val].tolist()
    correct = sum(row["label"] == row["prediction"] for row in rows)
    evaluation = json.loads(rebuilt.read("metrics/evaluate.json"))
    assert evaluation["val"]["accuracy"] == round(correct / len(val), 6)


def test_the_test_report_counts_every_test_image(rebuilt: Project) -> None:
    test = json.loads(rebuilt.read("metrics/test.json"))
    rows = list(csv.DictReader(rebuilt.read("metrics/test_predictions.csv").splitlines()))
    correct = sum(row["label"] == row["prediction"] for row in rows)
    assert len(rows) == TINY_TEST
    assert test["accuracy"] == round(correct / TINY_TEST, 6)
    assert test["accuracy_low"] < test["accuracy"] < test["accuracy_high"]
    assert "<table" in rebuilt.read("reports/test_report.html")


def test_dvc_shows_the_metrics_and_finds_nothing_changed(rebuilt: Project) -> None:
    shown = json.loads(rebuilt.must("dvc", "metrics", "show", "--json"))[""]["data"]
    assert shown["metrics/test.json"]["data"] == json.loads(rebuilt.read("metrics/test.json"))
    assert "up to date" in rebuilt.must("dvc", "status")
    rebuilt.commit("Results")
    assert "Data and pipelines are up to date" in rebuilt.must("dvc", "repro")
    assert rebuilt.must("git", "status", "--porcelain") == ""


def test_dvc_draws_the_curves_the_classes_and_the_confusion_matrix_once_each(
    rebuilt: Project,
) -> None:
    plots = json.loads(rebuilt.must("dvc", "plots", "show", "--json"))
    assert "errors" not in plots
    assert {name: len(drawn) for name, drawn in plots["data"].items()} == {
        "metrics/calibration.csv": 1,
        "metrics/coverage.csv": 1,
        "metrics/history.csv": 1,
        "metrics/per_class.csv": 1,
        "metrics/test_predictions.csv": 1,
        "metrics/val_predictions.csv": 1,
        "reports/best_and_worst.png": 1,
        "reports/least_certain.png": 1,
        "reports/most_wrong.png": 1,
        "reports/random_sample.png": 1,
        "reports/weights.png": 1,
    }
    curves = plots["data"]["metrics/history.csv"][0]["content"]
    assert [panel["encoding"]["y"]["title"] for panel in curves["hconcat"]] == [
        "cross-entropy (nats)",
        "accuracy",
    ]


def test_a_rebuild_from_nothing_gives_the_same_bits(rebuilt: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "another clone")
    rebuilt.must("git", "clone", "--quiet", str(rebuilt.folder), str(clone.folder))
    hostile = {
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "7",
        "OMP_NUM_THREADS": "2",
        "PYTHONUTF8": "0",
    }
    clone.must("sh", "-c", "umask 077 && dvc repro --force", **hostile)
    assert clone.must("git", "status", "--porcelain") == ""


def test_dvc_draws_the_graph_of_the_stages(rebuilt: Project) -> None:
    edges = re.findall(r'"(\w+)" -> "(\w+)"', rebuilt.must("dvc", "dag", "--dot"))
    assert set(edges) >= {
        ("download", "split"),
        ("download", "train"),
        ("download", "evaluate"),
        ("download", "test_report"),
        ("split", "train"),
        ("split", "evaluate"),
        ("train", "evaluate"),
        ("train", "test_report"),
        ("evaluate", "test_report"),
    }


def test_an_experiment_leaves_the_folder_unchanged_and_is_listed(rebuilt: Project) -> None:
    rebuilt.must("dvc", "exp", "run", "--temp", "--name", "lr-0.3", "--set-param", "train.lr=0.3")
    assert rebuilt.must("git", "status", "--porcelain") == ""
    shown = rebuilt.must("dvc", "exp", "show", "--csv", "--drop", ".*", "--keep", "val|train.lr$")
    rates = {float(row["train.lr"]): row for row in csv.DictReader(shown.splitlines())}
    assert float(rates[0.3]["val.loss"]) < float(rates[0.1]["val.loss"])
    assert "[lr-0.3]" in rebuilt.must("dvc", "exp", "list")


def test_another_learning_rate_reruns_training_and_what_follows_only(rebuilt: Project) -> None:
    rebuilt.replace("params.yaml", "  lr: 0.1", "  lr: 0.2")
    printed = rebuilt.must("dvc", "repro")
    ran = [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]
    assert ran == ["train", "evaluate", "test_report"]
    lock = yaml.safe_load(rebuilt.read("dvc.lock"))
    assert lock["stages"]["train"]["params"]["params.yaml"]["train"]["lr"] == 0.2
    assert "train.lr" in rebuilt.must("dvc", "params", "diff")
    assert "train.loss" in rebuilt.must("dvc", "metrics", "diff")
    rebuilt.must("git", "checkout", "--quiet", "params.yaml")
    assert "Running stage" not in rebuilt.must("dvc", "repro")  # from the run cache
    assert rebuilt.must("git", "status", "--porcelain") == ""


def test_a_training_that_diverges_fails_with_its_epoch_and_leaves_no_model(
    rebuilt: Project,
) -> None:
    rebuilt.replace("params.yaml", "  lr: 0.1", "  lr: 1e38")
    failed = rebuilt.run("dvc", "repro")
    assert failed.returncode != 0
    assert "the training diverged" in failed.stderr
    assert "epoch 1, step" in failed.stderr
    assert "train.lr = 1e+38" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (rebuilt.folder / "models/model.pt").exists()
