"""A training that is killed resumes to the same bits, and only from a checkpoint of its own."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from core.pipeline.errors import ModelError, StorageError
from core.training import checkpoints, weights
from core.training.checkpoints import FileCheckpoint
from tests.support.project import Project, copy_project, make_tiny

CHECKPOINT = "models/checkpoint.pt"
STATE = {"epoch": 3, "losses": torch.tensor([0.5, 0.25]), "history": [(0, 1.5)], "kept": {}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of the training `mine`."""
    FileCheckpoint(tmp_path / "checkpoint.pt", "mine").save(STATE)
    return tmp_path / "checkpoint.pt"


def test_what_was_saved_is_loaded_by_the_same_training(path: Path) -> None:
    loaded = FileCheckpoint(path, "mine").load()

    assert loaded is not None
    assert loaded["losses"].tolist() == [0.5, 0.25]
    assert {**loaded, "losses": None} == {**STATE, "losses": None}


def test_without_a_file_there_is_nothing_to_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt", "mine")

    assert checkpoint.load() is None
    checkpoint.remove()
    assert capsys.readouterr().out == ""


def test_one_of_another_training_is_not_loaded_and_says_so(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert FileCheckpoint(path, "another").load() is None
    assert capsys.readouterr().out == (
        f"{path} is of another training; this one starts from the beginning\n"
    )


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.sprung,))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.tensor([0.5, 0.25]).numpy().tobytes())] ^= 1
    path.write_bytes(content)


SPOILED: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a flipped bit": flip_a_bit,
    "a pickle": lambda path: torch.save(
        {"identity": "mine", "state": Trap(path.with_name("sprung"))}, path
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_damaged_one_is_not_loaded_and_says_so(
    path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    SPOILED[how](path)

    assert FileCheckpoint(path, "mine").load() is None

    assert capsys.readouterr().out == (
        f"{path} is not a file of weights; training starts from the beginning\n"
    )
    assert not path.with_name("sprung").exists()


@pytest.mark.parametrize("content", [[1, 2], {"state": 1}, torch.zeros(2)], ids=str)
def test_one_that_holds_something_else_is_not_loaded(path: Path, content: object) -> None:
    weights.write(path, content)

    assert FileCheckpoint(path, "mine").load() is None


def test_it_is_due_when_its_seconds_have_passed_since_the_last(tmp_path: Path) -> None:
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt", "mine", seconds=0.2)

    assert not checkpoint.due()
    time.sleep(0.2)
    assert checkpoint.due()
    checkpoint.save(STATE)
    assert not checkpoint.due()


def test_a_training_that_ended_leaves_no_file(path: Path) -> None:
    FileCheckpoint(path, "mine").remove()

    assert list(path.parent.iterdir()) == []


def test_a_failed_save_leaves_the_one_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StorageError, match="there is no room"):
        FileCheckpoint(path, "mine").save({**STATE, "epoch": 4})

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_identity_distinguishes_settings_and_contents_of_files(tmp_path: Path) -> None:
    one, other = tmp_path / "one.npy", tmp_path / "other.npy"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    identity = checkpoints.identity({"lr": 0.1, "epochs": 3}, [one, other])

    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert identity == checkpoints.identity({"epochs": 3, "lr": 0.1}, [other, one])
    assert identity != checkpoints.identity({"lr": 0.2, "epochs": 3}, [one, other])
    assert identity != checkpoints.identity({"lr": 0.1, "epochs": 3}, [one])
    other.write_bytes(b"3")
    assert identity != checkpoints.identity({"lr": 0.1, "epochs": 3}, [one, other])


# From here on the real stage. Everything that carries state from step to step is
# switched on, and a checkpoint is saved after every step.
CHANGES = [
    ("  name: logistic_regression", "  name: cnn"),
    ("  standardize: false", "  standardize: true"),
    ("    - - 16\n    - - 32\n      - 32\n    - - 64\n", "    - - 4\n    - - 8\n"),
    ("    dropout: 0.0", "    dropout: 0.25"),
    ("  lr: 0.1", "  lr: 0.02"),
    ("  schedule: constant", "  schedule: one_cycle"),
    ("  momentum: 0.0", "  momentum: 0.9"),
    ("  nesterov: false", "  nesterov: true"),
    ("  weight_decay: 0.0", "  weight_decay: 0.01"),
    ("  epochs: 5", "  epochs: 4"),
    ("  batch_size: 100", "  batch_size: 20"),
    ("  shards: 1", "  shards: 2"),
    ("  label_smoothing: 0.0", "  label_smoothing: 0.1"),
    ("    crop: 0", "    crop: 2"),
    ("    flip: false", "    flip: true"),
    ("  patience:\n", "  patience: 3\n"),
    ("  keep: last", "  keep: best"),
]
STEPS = 16  # an epoch: batches of 320 images


class Trained(dict[str, bytes]):
    """What a training wrote, by file."""

    def __init__(self, project: Project) -> None:
        names = ("models/model.pt", "metrics/history.csv")
        super().__init__({name: (project.folder / name).read_bytes() for name in names})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project with its data in place and trainings that are easy to kill."""
    project = make_tiny(copy_project(tmp_path_factory.mktemp("project")))
    for old, new in CHANGES:
        project.replace("params.yaml", old, new)
    project.replace("core/training/checkpoints.py", "SECONDS = 10.0", "SECONDS = 0.0")
    (project.folder / "dvc.lock").unlink(missing_ok=True)
    project.must("dvc", "repro", "split")
    project.commit("Trainings that are easily killed")
    return project


@pytest.fixture(scope="module")
def uninterrupted(project: Project) -> Trained:
    """What a training writes that nobody kills."""
    printed = project.must("python", "-m", "stages.train")
    assert "resuming" not in printed
    assert not (project.folder / CHECKPOINT).exists()
    rows = project.read("metrics/history.csv").splitlines()
    assert len(rows) > 1 + 2, "it should last for some epochs"
    return Trained(project)


@contextmanager
def started(project: Project, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a command in a process group of its own, and end the whole group after."""
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it may have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def steps_saved(project: Project) -> int:
    """How many steps the checkpoint has behind it, or 0 without one."""
    try:
        state = weights.read(project.folder / CHECKPOINT)["state"]
    except ModelError:
        return 0
    return STEPS * (int(state["epoch"]) - 1) + len(state["losses"])


def kill_after(project: Project, steps: int, *command: str) -> int:
    """Start a command, and kill it once so many steps were saved; return how many were."""
    with started(project, *(command or ("python", "-m", "stages.train"))) as process:
        end = time.monotonic() + 120
        while steps_saved(project) < steps:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "no checkpoint came"
            time.sleep(0.002)
    return steps_saved(project)


@pytest.mark.slow
def test_killed_at_any_moments_it_resumes_to_the_same_bytes(
    project: Project, uninterrupted: Trained
) -> None:
    chance = random.Random(7)  # noqa: S311
    saved = 0
    last = STEPS * (len(uninterrupted["metrics/history.csv"].splitlines()) - 2)
    for _ in range(3):
        saved = kill_after(project, saved + chance.randrange(1, (last - saved) // 2))
        assert saved < last
    assert not (project.folder / "models/model.pt").exists()
    assert project.must("git", "status", "--porcelain", "models") == ""  # git ignores it

    printed = project.must("python", "-m", "stages.train")

    assert f"resuming epoch {saved // STEPS + 1} after {saved % STEPS} steps\n" in printed
    assert Trained(project) == uninterrupted
    assert not (project.folder / CHECKPOINT).exists()
    rows = [line.split()[0] for line in printed.splitlines() if re.match(" +[0-9]", line)]
    assert rows == [str(epoch) for epoch in range(len(rows))]  # all of the history is shown


def from_the_beginning(project: Project, reason: str) -> None:
    """Train again; it must say why it does not resume, and leave no checkpoint."""
    printed = project.must("python", "-m", "stages.train")
    assert reason in printed
    assert "resuming" not in printed
    assert not (project.folder / CHECKPOINT).exists()


ANOTHER = f"{CHECKPOINT} is of another training; this one starts from the beginning\n"
DAMAGED = f"{CHECKPOINT} is not a file of weights; training starts from the beginning\n"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["parameters", "data", "code"])
def test_a_checkpoint_of_other_parameters_data_or_code_is_not_used(
    project: Project, uninterrupted: Trained, what: str
) -> None:
    kill_after(project, 10)
    labels = project.folder / "data/raw/train_labels.npy"
    content = labels.read_bytes()
    if what == "parameters":
        project.replace("params.yaml", "  momentum: 0.9", "  momentum: 0.8")
    elif what == "code":
        project.replace("core/training/schedules.py", "DECIMALS = 9", "DECIMALS = 3")
    else:
        labels.unlink()  # it may be a link into the cache
        labels.write_bytes(content[:-8] + bytes([(content[-8] + 1) % 10]) + content[-7:])

    from_the_beginning(project, ANOTHER)
    found = Trained(project)
    project.must("python", "-m", "stages.train")
    assert Trained(project) == found != uninterrupted

    project.must("git", "checkout", "--quiet", ".")
    labels.write_bytes(content)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_used(project: Project, uninterrupted: Trained) -> None:
    kill_after(project, 10)
    path = project.folder / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])

    from_the_beginning(project, DAMAGED)

    assert Trained(project) == uninterrupted


@pytest.mark.slow
def test_a_killed_rebuild_is_resumed_by_the_next_and_dvc_never_sees_the_checkpoint(
    project: Project, uninterrupted: Trained
) -> None:
    saved = kill_after(project, 20, "dvc", "repro", "train")

    printed = project.must("dvc", "repro", "train")

    epoch, steps = re.findall(r"^resuming epoch (\d) after (\d+) steps$", printed, re.MULTILINE)[0]
    assert STEPS * (int(epoch) - 1) + int(steps) == saved
    assert Trained(project) == uninterrupted
    assert not (project.folder / CHECKPOINT).exists()
    for file in ("dvc.yaml", "dvc.lock"):
        assert CHECKPOINT not in project.read(file)
    assert "up to date" in project.must("dvc", "status", "train")
