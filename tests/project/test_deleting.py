"""What docs/adapt.md says can be deleted is deleted here, in a clone."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT, Project, copy_project

pytestmark = pytest.mark.slow

MOST_LINES = 3  # to edit, besides what is deleted


def rows() -> dict[str, tuple[list[str], str, list[str]]]:
    """For each row of the table: what to delete; the word whose lines go, and in which files."""
    page = (ROOT / "docs/adapt.md").read_text(encoding="utf-8").partition("## What to delete")[2]
    found = {}
    for paths, lines in re.findall(r"^\| `([^`]+)` \| (.*?) ?\|$", page, re.MULTILINE):
        word, *files = re.findall(r"`([^`]+)`", lines) or [""]
        found[paths.split()[0]] = (paths.split(), word, files)
    return found


ROWS = rows()


def clone(folder: Path) -> Project:
    """A copy of the project that uses the environment of this process."""
    folder.mkdir(parents=True)
    project = copy_project(folder)
    (folder / ".venv").symlink_to(sys.prefix)
    cache = ROOT / ".mypy_cache"
    if cache.exists():  # the types of the packages, which take a minute
        shutil.copytree(cache, folder / ".mypy_cache")
    return project


def delete(project: Project, row: str) -> int:
    """Do what a row says; return how many lines were edited."""
    paths, word, files = ROWS[row]
    for path in paths:
        target = project.folder / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
    edited = 0
    for file in files:
        lines = project.read(file).splitlines(keepends=True)
        kept = [line for line in lines if word not in line]
        assert kept != lines, f"{file} has no line with {word}"
        edited += len(lines) - len(kept)
        (project.folder / file).write_text("".join(kept), encoding="utf-8")
    project.commit(f"Delete {row}")
    return edited


def make(project: Project, *words: str) -> None:
    """Run make on the environment as it is: the lock is that of this process."""
    project.must("make", "--old-file=environment", *words)


def test_each_folder_that_a_team_may_not_need_is_in_the_table() -> None:
    assert list(ROWS) == [
        "tools/share",
        "tools/review",
        "tools/verify",
        "tools/predict",
        "tools/experiments/ray",
        "notebooks",
    ]


@pytest.mark.parametrize("row", ROWS)
def test_what_is_left_passes_the_checks(row: str, tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    assert delete(project, row) <= MOST_LINES
    make(project, "check")
    # Every test can be collected, and those of the whole project pass.
    project.must("python", "-m", "pytest", "--collect-only", "-q", **{"PYTHONPATH": ""})
    project.must("python", "-m", "pytest", "-q", "-m", "not slow", "tests/project", "-n", "2")


@pytest.mark.parametrize(("row", "command"), [("tools/share", "pull"), ("tools/predict", "try")])
def test_the_command_says_that_it_was_deleted(row: str, command: str, tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    delete(project, row)
    done = project.run("make", "--old-file=environment", command)
    assert done.returncode == 2
    assert f"error: this project has no {row}" in done.stderr


@pytest.mark.timeout(1800)
def test_with_all_of_them_deleted_the_suite_passes(tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    for row in ROWS:
        delete(project, row)
    make(project, "check")
    make(project, "test")
