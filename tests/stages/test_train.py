"""The train and evaluate stages as commands, on a few hundred images."""

import contextlib
import csv
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import torch

from core.training import weights
from tests.support.project import Project, copy_project, make_tiny


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project with its data in place; each stage runs by itself, without DVC."""
    project = make_tiny(copy_project(tmp_path_factory.mktemp("project")))
    project.must("python", "-m", "stages.download")
    project.must("python", "-m", "stages.split")
    return project


def trained(project: Project, *changes: tuple[str, str]) -> list[dict[str, str]]:
    """Train with changed parameters and return the rows of the history."""
    project.must("git", "checkout", "--quiet", "params.yaml")
    for old, new in changes:
        project.replace("params.yaml", old, new)
    # As a file it is a process of its own, which fast numerics need.
    project.must("python", *(["stages/train.py"] if FAST in changes else ["-m", "stages.train"]))
    return list(csv.DictReader(project.read("metrics/history.csv").splitlines()))


def test_keep_best_keeps_the_weights_of_the_lowest_validation_loss(project: Project) -> None:
    changes = [("  lr: 0.1", "  lr: 8.0"), ("keep: last", "keep: best")]
    history = trained(project, *changes)
    best = min(history, key=lambda row: float(row["val_loss"]))
    assert best != history[-1], "choose a learning rate whose last epoch is not the best"
    project.must("python", "-m", "stages.evaluate")
    evaluation = json.loads(project.read("metrics/evaluate.json"))
    for part in ("train", "val"):
        for measure in ("loss", "accuracy"):
            assert str(evaluation[part][measure]) == best[f"{part}_{measure}"]


def test_a_stage_is_the_same_as_a_module_and_as_a_script(project: Project) -> None:
    model = project.folder / "models/model.pt"
    trained(project)
    as_module = model.read_bytes()
    model.unlink()
    project.must("python", "stages/train.py")
    assert model.read_bytes() == as_module


def test_one_seed_gives_one_model_and_another_seed_another(project: Project) -> None:
    first = trained(project)
    assert trained(project) == first
    seed = "  seed: {}\n  # sgd, or adamw"
    assert trained(project, (seed.format(42), seed.format(43))) != first


FAST = ("\nnumerics: portable", "\nnumerics: fast")


@pytest.mark.slow
def test_fast_numerics_give_the_same_bits_each_time_and_nearly_those_of_portable(
    project: Project,
) -> None:
    model = project.folder / "models/model.pt"
    portable = trained(project)
    portable_bytes = model.read_bytes()
    fast = trained(project, FAST, ("  threads:\n", "  threads: 2\n"))
    fast_bytes = model.read_bytes()
    assert trained(project, FAST, ("  threads:\n", "  threads: 2\n")) == fast
    assert model.read_bytes() == fast_bytes
    assert fast_bytes != portable_bytes
    for fast_row, portable_row in zip(fast, portable, strict=True):
        assert float(fast_row["val_loss"]) == pytest.approx(float(portable_row["val_loss"]), 1e-4)


# Everything with separate state, random numbers or statistics in each shard.
CNN_IN_TWO_SHARDS = [
    ("  name: logistic_regression", "  name: cnn"),
    ("    - - 16\n    - - 32\n      - 32\n    - - 64\n", "    - - 4\n    - - 8\n"),
    ("    dropout: 0.0", "    dropout: 0.25"),
    ("  standardize: false", "  standardize: true"),
    ("  momentum: 0.0", "  momentum: 0.9"),
    ("  shards: 1", "  shards: 2"),
    ("    shift: 0", "    shift: 1"),
]


@pytest.mark.slow
def test_fast_numerics_with_a_shard_for_each_thread_give_the_same_bits_each_time(
    project: Project,
) -> None:
    model = project.folder / "models/model.pt"
    changes = [FAST, ("  threads:\n", "  threads: 2\n"), *CNN_IN_TWO_SHARDS]
    first = trained(project, *changes)
    first_bytes = model.read_bytes()
    assert trained(project, *changes) == first
    assert model.read_bytes() == first_bytes


@pytest.mark.slow
def test_the_number_of_threads_changes_no_bit_of_portable_numerics(project: Project) -> None:
    model = project.folder / "models/model.pt"
    files = ("metrics/evaluate.json", "metrics/val_predictions.csv", "metrics/test.json")
    found = []
    for threads in (1, 3):
        history = trained(project, ("  threads:\n", f"  threads: {threads}\n"), *CNN_IN_TWO_SHARDS)
        project.must("python", "-m", "stages.evaluate")
        project.must("python", "-m", "stages.test_report")
        found.append((history, model.read_bytes(), [project.read(file) for file in files]))
    assert found[0] == found[1]
    evaluation = json.loads(found[0][2][0])
    assert str(evaluation["val"]["loss"]) == found[0][0][-1]["val_loss"]


def test_images_are_standardized_by_those_to_train_on_and_evaluated_by_the_file(
    project: Project,
) -> None:
    history = trained(project, ("  standardize: false", "  standardize: true"))
    images = np.load(project.folder / "data/raw/train_images.npy")
    chosen = images[np.load(project.folder / "data/split/train_indices.npy")]
    state = weights.read(project.folder / "models/model.pt")
    assert state["normalize.mean"].tolist() == [pytest.approx(chosen.mean(), rel=1e-6)]
    assert state["normalize.std"].tolist() == [pytest.approx(chosen.std(), rel=1e-6)]
    assert chosen.mean() != pytest.approx(images.mean(), rel=1e-4)  # they differ

    # evaluate has no other way to know: with standardize off it still measures the same.
    project.replace("params.yaml", "  standardize: true", "  standardize: false")
    project.must("python", "-m", "stages.evaluate")
    evaluation = json.loads(project.read("metrics/evaluate.json"))
    assert str(evaluation["val"]["loss"]) == history[-1]["val_loss"]


def test_training_that_stops_early_says_so_and_has_a_shorter_history(project: Project) -> None:
    whole = trained(project, ("  lr: 0.1", "  lr: 8.0"), ("  epochs: 5", "  epochs: 20"))
    project.replace("params.yaml", "  patience:\n", "  patience: 2\n")
    printed = project.must("python", "-m", "stages.train")
    stopped = list(csv.DictReader(project.read("metrics/history.csv").splitlines()))
    assert len(stopped) < len(whole) == 21
    assert stopped == whole[: len(stopped)]
    losses = [float(row["val_loss"]) for row in stopped]
    assert losses.index(min(losses)) == len(stopped) - 3
    assert printed.endswith("stopped: 2 epochs without a lower validation loss\n")


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bits_each_time_and_nearly_those_of_the_processor(
    project: Project,
) -> None:
    model = project.folder / "models/model.pt"
    portable = trained(project)
    cuda = trained(project, FAST, ("device: cpu", "device: cuda"))
    cuda_bytes = model.read_bytes()
    assert trained(project, FAST, ("device: cpu", "device: cuda")) == cuda
    assert model.read_bytes() == cuda_bytes
    project.must("python", "stages/evaluate.py")
    project.must("python", "stages/test_report.py")
    for cuda_row, portable_row in zip(cuda, portable, strict=True):
        assert float(cuda_row["val_loss"]) == pytest.approx(float(portable_row["val_loss"]), 1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(project: Project) -> None:
    project.must("git", "checkout", "--quiet", "params.yaml")
    project.replace("params.yaml", *FAST)
    project.replace("params.yaml", "device: cpu", "device: cuda")
    failed = project.run("python", "stages/train.py")
    assert failed.returncode == 1
    assert "PyTorch finds no GPU here" in failed.stderr
    assert "train.device: cpu" in failed.stderr


def test_a_learning_rate_written_with_an_exponent_is_a_number(project: Project) -> None:
    assert trained(project, ("  lr: 0.1", "  lr: 1e-1")) == trained(project)


def test_a_failed_training_leaves_no_model_of_an_earlier_one_behind(project: Project) -> None:
    trained(project)
    project.replace("params.yaml", "  lr: 0.1", "  lr: 1e38")
    failed = project.run("python", "-m", "stages.train")
    assert failed.returncode == 1
    assert "the training diverged" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (project.folder / "models/model.pt").exists()
    assert not (project.folder / "metrics/history.csv").exists()


def test_wrong_parameters_are_refused_before_anything_is_written(project: Project) -> None:
    trained(project)
    before = (project.folder / "models/model.pt").read_bytes()
    project.replace("params.yaml", "  epochs: 5", "  epochs: 0\n  momentun: 0.9")
    failed = project.run("python", "-m", "stages.train")
    assert failed.returncode == 1
    assert "train.epochs" in failed.stderr
    assert "train.momentun" in failed.stderr
    assert (project.folder / "models/model.pt").read_bytes() == before


def test_a_last_batch_of_one_image_that_cannot_be_normalized_is_refused_before_training(
    project: Project,
) -> None:
    trained(project)
    before = (project.folder / "models/model.pt").read_bytes()
    project.replace("params.yaml", "  name: logistic_regression", "  name: cnn")
    project.replace("params.yaml", "    - - 64", "    - - 64" + "\n    - - 8" * 3)
    project.replace("params.yaml", "  batch_size: 100", "  batch_size: 319")
    failed = project.run("python", "-m", "stages.train")
    assert failed.returncode == 1
    assert failed.stderr == (
        "error: a batch of one image cannot be normalized: its maps have shrunk to one pixel\n"
        "  expected: at least 2 images in each batch and microbatch\n"
        "  found:    1, of 320 images with train.batch_size: 319 and train.shards: 1\n"
        "  next:     change train.batch_size, train.shards or split.train_size a little\n"
    )
    assert (project.folder / "models/model.pt").read_bytes() == before


def test_a_stage_started_in_another_folder_says_where_to_start_it(
    project: Project, tmp_path: Path
) -> None:
    script = str(project.folder / "stages/train.py")
    failed = Project(tmp_path).run("python", script)
    assert failed.returncode == 1
    assert "the code that runs is not the code in this folder" in failed.stderr
    assert "root of the repository" in failed.stderr


def test_images_in_both_train_and_val_are_refused(project: Project) -> None:
    project.must("git", "checkout", "--quiet", "params.yaml")
    train = project.folder / "data/split/train_indices.npy"
    val = project.folder / "data/split/val_indices.npy"
    original = val.read_bytes()
    val.write_bytes(train.read_bytes())
    failed = project.run("python", "-m", "stages.evaluate")
    val.write_bytes(original)
    assert failed.returncode == 1
    assert "both trained on and validated on" in failed.stderr


def test_a_terminal_sees_the_progress_of_an_epoch(project: Project) -> None:
    project.must("git", "checkout", "--quiet", "params.yaml")
    reader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        [sys.executable, "stages/train.py"], cwd=project.folder, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        printed = b""
        with contextlib.suppress(OSError):  # Linux: the other end is closed
            while piece := os.read(reader, 4096):
                printed += piece
    os.close(reader)
    assert process.returncode == 0
    assert re.search(rb"epoch 1: +\d+%\|.*\| \d+/4 \[", printed)
    assert max(len(line) for line in re.split(rb"[\r\n]+", printed)) <= 80
