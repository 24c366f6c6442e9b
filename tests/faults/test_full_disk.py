"""A full disk: an error with the space needed, nothing lost, and `dvc repro` continues with space.

A file system of a few megabytes is mounted for these tests, which takes root.
What a limit on the size of files shows is in test_files.py, test_arrays.py,
test_weights.py and test_runner.py; output to a full device in test_runner.py.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import outputs, sums
from tests.support.project import Project, copy_project, make_tiny

MEGABYTES = 60  # a tiny project takes 27 of them
PAGE = 4096  # the block size of the file system
# The first file that each stage writes, and its bytes: an array has 128 before its values.
FIRST = {
    "download": ("data/raw/train_images.npy", 400 * 28 * 28 + 128),
    "split": ("data/split/train_indices.npy", 320 * 8 + 128),
    "train": ("metrics/history.csv", None),
    "evaluate": ("metrics/evaluate.json", None),
    "test_report": ("metrics/test.json", None),
}
# Messages for a full disk: of a stage, of the system to DVC, and of DVC when it copies
# into its cache, where it takes every failure for an unsupported link type.
FULL = ["there is no room for", "No space left on device", "No possible cache link types for"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root: no full disk was tried")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    refused = subprocess.run(mount, capture_output=True, text=True, check=False)
    if refused.returncode:
        pytest.skip(f"no file system may be mounted here: {refused.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Ballast:
    """A file that fills a disk except for `free` bytes."""

    def __init__(self, disk: Path, free: int) -> None:
        self.file = disk / "ballast"
        size = shutil.disk_usage(disk).free - free
        with self.file.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size // PAGE * PAGE)
        assert shutil.disk_usage(disk).free == free

    def remove(self) -> None:
        self.file.unlink()


def rebuild_and_compare(project: Project, built: Project) -> None:
    project.must("dvc", "repro")
    assert project.read("dvc.lock") == built.read("dvc.lock")
    for path in outputs(built):
        assert (project.folder / path).read_bytes() == (built.folder / path).read_bytes(), path


@pytest.mark.parametrize("stage", FIRST)
def test_a_stage_on_a_full_disk_says_how_much_space_its_file_needs(
    built: Project, disk: Path, stage: str
) -> None:
    project = built.copy(disk / "project")
    path, size = FIRST[stage]
    target = project.folder / path
    needed = target.stat().st_size
    assert size in (None, needed)
    removed = {"train": ["models/model.pt", path]}.get(stage, [path])
    for name in removed:  # as DVC does; its bytes would be free
        (project.folder / name).unlink()
    before = sums(project.folder)
    Ballast(disk, free=0)

    failed = project.run("python", "-m", f"stages.{stage}")

    assert failed.returncode == 1
    assert failed.stderr == (
        f"error: there is no room for {path}\n"
        f"  expected: {needed:,} bytes\n"
        "  found:    0 bytes free\n"
        f"  where:    {target.parent}\n"
        "  next:     make room there and run it again\n"
    )
    after = sums(project.folder)
    assert {name: after[name] for name in before if name != ".dvc/tmp/stage.lock"} == {
        name: value for name, value in before.items() if name != ".dvc/tmp/stage.lock"
    }
    assert not target.exists()
    assert list(target.parent.glob(".*.partial")) == []


def test_the_space_that_is_reported_is_what_is_left_without_the_unfinished_file(
    built: Project, disk: Path
) -> None:
    project = built.copy(disk / "project")
    Ballast(disk, free=10 * PAGE)

    failed = project.run("python", "-m", "stages.download")

    assert failed.stderr.startswith(
        "error: there is no room for data/raw/train_images.npy\n"
        "  expected: 313,728 bytes\n"
        "  found:    40,960 bytes free\n"
    )
    old = built.folder / "data/raw/train_images.npy"
    assert (project.folder / "data/raw/train_images.npy").read_bytes() == old.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("pages", [8, 120, 200, 230])
def test_a_disk_that_fills_up_in_a_rebuild_stops_it_and_space_lets_it_continue(
    built: Project, disk: Path, pages: int
) -> None:
    project = make_tiny(copy_project(make(disk / "project")))
    (project.folder / "dvc.lock").unlink()
    ballast = Ballast(disk, free=pages * PAGE)

    failed = project.run("dvc", "repro")

    printed = failed.stdout + failed.stderr
    assert failed.returncode != 0, printed
    assert re.search("|".join(FULL), printed), printed
    ballast.remove()
    rebuild_and_compare(project, built)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
