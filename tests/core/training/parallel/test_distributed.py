"""Several processes train to the bits of as many shards in one, and one of them writes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from core.pipeline.process_rank import ProcessRank, current
from tests.support.project import ROOT, Project, copy_project, make_tiny

# Convolutions, batch normalization, dropout and draws for each image: all that a
# process keeps to itself. Of 320 images the last batch has 2: one of three
# processes has no part of it.
CNN = [
    ("  name: logistic_regression", "  name: cnn"),
    (
        "    channels:\n    - - 16\n    - - 32\n      - 32\n    - - 64\n",
        "    channels: [[4], [6]]\n",
    ),
    ("[[4], [6]]\n    dropout: 0.0", "[[4], [6]]\n    dropout: 0.3"),
    ("  momentum: 0.0", "  momentum: 0.9"),
    ("    shift: 0", "    shift: 1"),
    ("  batch_size: 100", "  batch_size: 53"),
    ("  epochs: 5", "  epochs: 2"),
]


def torchrun(processes: int) -> list[str]:
    """The launcher, as params.yaml has it."""
    comment = next(
        line for line in (ROOT / "params.yaml").read_text().splitlines() if "torchrun" in line
    )
    return re.sub(r"node \d+", f"node {processes}", comment.lstrip("# ")).split()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A tiny project with its data in place."""
    project = make_tiny(copy_project(tmp_path_factory.mktemp("distributed")))
    project.must("python", "-m", "stages.download")
    project.must("python", "-m", "stages.split")
    yield project
    assert not processes_of(project)


@pytest.fixture(autouse=True)
def _as_committed(project: Project) -> None:
    project.must("git", "checkout", "--quiet", ".")


def written(project: Project) -> tuple[bytes, str]:
    """What a training leaves behind, and nothing else."""
    models = sorted(path.name for path in (project.folder / "models").iterdir())
    assert models == [".gitignore", "model.pt"]
    return (project.folder / "models/model.pt").read_bytes(), project.read("metrics/history.csv")


def in_one_process(project: Project, shards: int) -> tuple[bytes, str]:
    project.replace("params.yaml", "  shards: 1", f"  shards: {shards}")
    project.must("python", "-m", "stages.train")
    project.replace("params.yaml", f"  shards: {shards}", "  shards: 1")
    return written(project)


def change(project: Project, *changes: tuple[str, str], file: str = "params.yaml") -> None:
    for old, new in changes:
        project.replace(file, old, new)


@pytest.mark.slow
def test_processes_train_to_the_bits_of_as_many_shards(project: Project) -> None:
    change(project, *CNN)
    expected = in_one_process(project, 3)

    printed = project.must(*torchrun(3), "-m", "stages.train")

    assert written(project) == expected
    assert printed.count("epoch  ") == 1
    assert printed.count("    2  ") == 1  # a line an epoch, by one of them


@pytest.mark.slow
def test_they_agree_with_one_process_to_rounding(project: Project) -> None:
    project.must("python", "-m", "stages.train")
    single = project.read("metrics/history.csv").splitlines()
    for processes in (2, 4):
        project.must(*torchrun(processes), "-m", "stages.train")
        together = project.read("metrics/history.csv").splitlines()
        for row, other in zip(single[1:], together[1:], strict=True):
            assert [float(value) for value in row.split(",")] == pytest.approx(
                [float(value) for value in other.split(",")], abs=1e-5
            )


@contextmanager
def launched(project: Project, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a command whose trainings save a checkpoint after each step."""
    change(project, ("SECONDS = 10.0", "SECONDS = 0.0"), file="core/training/checkpoints.py")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        command,
        cwd=project.folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process
    project.must("git", "checkout", "--quiet", "core/training/checkpoints.py")


def ranks(project: Project) -> list[psutil.Process]:
    """The processes that train, in order."""
    found = {
        int(process.environ()["RANK"]): process
        for process in processes_of(project)
        if "stages.train" in process.cmdline() and "RANK" in process.environ()
    }
    return [found[rank] for rank in sorted(found)]


def processes_of(project: Project) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cwd"])
        if process.info["cwd"] == str(project.folder)
    ]


def wait_for_checkpoint(project: Project, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 120
    while not (project.folder / "models/checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "no checkpoint came"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_is_restarted_and_resumes_to_the_same_bits(
    project: Project, rank: int
) -> None:
    change(project, *CNN, ("  epochs: 2", "  epochs: 40"))
    expected = in_one_process(project, 2)
    with launched(project, *torchrun(2), "-m", "stages.train") as process:
        wait_for_checkpoint(project, process)
        ranks(project)[rank].kill()
        printed = process.communicate(timeout=240)[0]
    assert process.returncode == 0, printed
    assert "resuming epoch" in printed
    assert written(project) == expected


@pytest.mark.slow
def test_dvc_starts_them_by_the_launcher_and_they_end_with_it(project: Project) -> None:
    change(project, *CNN, ("  epochs: 2", "  epochs: 40"))
    expected = in_one_process(project, 2)
    change(project, ("launcher: python", f"launcher: {' '.join(torchrun(2))}"))
    with launched(project, "dvc", "repro", "train") as dvc:
        wait_for_checkpoint(project, dvc)
        dvc.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while processes_of(project):
        assert time.monotonic() < end, processes_of(project)
        time.sleep(0.1)

    project.must("dvc", "repro", "train")

    assert written(project) == expected
    lock = yaml.safe_load(project.read("dvc.lock"))
    assert lock["stages"]["train"]["cmd"] == f"{' '.join(torchrun(2))} -m stages.train"


@pytest.mark.slow
def test_a_number_of_shards_that_does_not_fit_is_reported_once(project: Project) -> None:
    change(project, ("  shards: 1", "  shards: 3"))
    failed = project.run(*torchrun(2), "--max-restarts", "0", "-m", "stages.train")
    assert failed.returncode == 1
    assert failed.stderr.count("error: train.shards does not fit the processes") == 1
    assert "expected: 1 or 2" in failed.stderr


def test_the_rank_of_a_process_is_what_a_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert current() == ProcessRank(rank=0, world_size=1, local_rank=0, local_world_size=1)
    monkeypatch.setenv("RANK", "5")  # by something else: not all of them are there
    assert current().world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert current() == ProcessRank(rank=5, world_size=8, local_rank=1, local_world_size=4)
