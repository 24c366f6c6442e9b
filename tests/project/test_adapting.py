"""The changes and deletions of docs/adapt.md, made in a clone with the lines of the page."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.project import ROOT, Project, copy_project

MOST_LINES = 3  # to edit, besides what is deleted
TEXT = (ROOT / "docs/adapt.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
CHANGES = [name for name, section in SECTIONS.items() if " file=" in section]


def blocks(change: str) -> list[tuple[str, str, str]]:
    """The code of a section that belongs into a file: `diff` or `python`, the file, the text."""
    found = re.findall(r"```(\w+) file=(\S+)\n(.*?)```\n", SECTIONS[change], re.DOTALL)
    return [(kind, file, text) for kind, file, text in found]


def deletions() -> dict[str, tuple[list[str], str, list[str]]]:
    """For each row of the table: what to delete; the word whose lines go, and in which files."""
    rows = {}
    pattern = r"^\| `([^`]+)` \| (.*?) ?\|$"
    for paths, lines in re.findall(pattern, SECTIONS["What to delete"], re.MULTILINE):
        word, *files = re.findall(r"`([^`]+)`", lines) or [""]
        rows[paths.split()[0]] = (paths.split(), word, files)
    return rows


DELETIONS = deletions()


def clone(folder: Path) -> Project:
    """A copy of the project as it is committed, with the environment of this process."""
    folder.mkdir(parents=True)
    project = copy_project(folder)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / ".venv").symlink_to(sys.prefix)
    types = ROOT / ".mypy_cache"
    if types.exists():  # of the packages, which take a minute
        shutil.copytree(types, folder / ".mypy_cache")
    cache = ROOT / ".dvc/cache"
    if cache.exists():  # of the stages that do not change
        project.must("dvc", "cache", "dir", "--local", str(cache))
    return project


def make(project: Project, *words: str) -> None:
    """Run make on the environment as it is: whatever the lock says, it is that of this process."""
    project.must("make", "--old-file=environment", *words)


def change(project: Project, name: str) -> None:
    """Make the change that a section describes."""
    for kind, file, text in blocks(name):
        path = project.folder / file
        if kind == "diff":
            lines = text.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            project.replace(file, old, new)
        else:
            assert not path.exists()
            path.write_text(text, encoding="utf-8")
    project.must("python", "-m", "tools.deps")


def state_new_results(project: Project) -> None:
    """Do what the page says of another default, whose results the README does not show."""
    shown = project.must("python", "-m", "tools.summary")
    readme = project.read("README.md")
    for line in ("validation", "test"):
        new = next(each for each in shown.splitlines() if each.startswith(line))
        readme = re.sub(rf"^{line} +[\d.]+ .*$", new, readme, count=1, flags=re.MULTILINE)
    (project.folder / "README.md").write_text(readme, encoding="utf-8")
    (project.folder / "tests/stages/test_textbook.py").unlink()


def rename(project: Project) -> None:
    """Run the command that gives the project another name."""
    command = re.search(r"^\$ (git grep .*)$", SECTIONS["Another name"], re.MULTILINE)
    assert command
    project.must("sh", "-c", command[1])


def delete(project: Project, row: str) -> int:
    """Do what a row of the table says; return how many lines were edited."""
    paths, word, files = DELETIONS[row]
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
    return edited


def test_the_page_counts_the_lines_of_each_change() -> None:
    counts = {
        name: (
            len({file for _, file, _ in blocks(name)}),
            sum(
                kind != "diff" or line[0] == "+"
                for kind, _, text in blocks(name)
                for line in text.splitlines()
            ),
        )
        for name in CHANGES
    }
    table = "".join(f"| {name} | {files} | {lines} |\n" for name, (files, lines) in counts.items())
    assert table in TEXT, table


def test_each_folder_that_a_team_may_not_need_is_in_the_table() -> None:
    assert list(DELETIONS) == [
        "tools/share",
        "tools/review",
        "tools/verify",
        "tools/predict",
        "tools/experiments/ray",
        "notebooks",
    ]


# Those of the whole project, which know of every file, and of what is changed.
NEAR = ("tests/project", "tests/core/pipeline/test_params.py", "tests/core/training/test_models.py")


def check(project: Project, message: str) -> None:
    """Rebuild and commit, and run the checks and the tests that are near to the change."""
    project.must("dvc", "repro")
    if message == "Another default":
        state_new_results(project)
    project.commit(message)
    make(project, "check")
    project.must("python", "-m", "pytest", "-q", "-m", "not slow", "-n", "2", *NEAR)


@pytest.mark.slow
@pytest.mark.adapt
@pytest.mark.parametrize("name", [*CHANGES, "Another name"])
def test_a_change_passes_the_checks(name: str, tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    if name == "Another name":
        rename(project)
        assert "samebits" not in project.read("README.md")
    else:
        change(project, name)
    check(project, name)


@pytest.mark.slow
@pytest.mark.adapt
@pytest.mark.parametrize("row", DELETIONS)
def test_what_is_left_after_a_deletion_passes_the_checks(row: str, tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    assert delete(project, row) <= MOST_LINES
    check(project, f"Delete {row}")
    project.must("python", "-m", "pytest", "-q", "--collect-only")  # all others can be imported


def all_changes(folder: Path) -> Project:
    """A clone with every change of the page, and its results."""
    project = clone(folder)
    for name in CHANGES:
        change(project, name)
    rename(project)
    project.must("dvc", "repro")
    state_new_results(project)
    project.commit("All changes")
    return project


def all_deletions(folder: Path) -> Project:
    """A clone without all that the page says can be deleted."""
    project = clone(folder)
    for row in DELETIONS:
        delete(project, row)
    project.must("dvc", "repro")
    project.commit("Delete what a team may not need")
    return project


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [all_changes, all_deletions])
def test_with_all_of_them_the_checks_pass(
    adapted: Callable[[Path], Project], tmp_path: Path
) -> None:
    project = adapted(tmp_path / "project")
    make(project, "check")
    project.must("python", "-m", "pytest", "-q", "--collect-only")
    project.must("python", "-m", "pytest", "-q", "-m", "not slow", "-n", "2", *NEAR)


@pytest.mark.slow
def test_make_says_which_command_was_deleted(tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    for row in DELETIONS:
        delete(project, row)
    for target in ("share", "pull", "review", "verify", "try", "notebook"):
        done = project.run("make", "--old-file=environment", target)
        assert done.returncode == 2
        assert "error: this project has no tools/" in done.stderr


@pytest.mark.slow
@pytest.mark.adapt
@pytest.mark.parametrize("adapted", [all_changes, all_deletions])
def test_with_all_of_them_the_suite_passes(
    adapted: Callable[[Path], Project], tmp_path: Path
) -> None:
    make(adapted(tmp_path / "project"), "test")
