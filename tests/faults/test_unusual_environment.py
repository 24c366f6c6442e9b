"""Odd folders, missing permissions, narrow locales, no terminal, other line ends.

The shortest of these are elsewhere: a file for a folder, a reader that leaves, a
link to the project (test_runner.py); a folder with spaces, other time zones and
umasks (test_tiny.py); all at once, on another processor: `make verify
ARGS=--hostile`.
"""

import importlib.util
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faults import environment, outputs, sums
from tests.support.project import Project

pytestmark = pytest.mark.slow  # all of them together

NARROW = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
# Root may read and write everything, unless this capability is dropped.
DROPPED = "-dac_override,-dac_read_search"
AS_A_USER = (
    ["setpriv", f"--inh-caps={DROPPED}", f"--bounding-set={DROPPED}"] if os.geteuid() == 0 else []
)


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    """A copy of it, for one test to change."""
    return built.copy(tmp_path / "project")


def rebuild_and_compare(project: Project, built: Project, *flags: str, **added: str) -> None:
    project.must("dvc", "repro", *flags, **added)
    assert project.read("dvc.lock") == built.read("dvc.lock")
    for path in outputs(built):
        assert (project.folder / path).read_bytes() == (built.folder / path).read_bytes(), path


# Folders and permissions


@pytest.mark.parametrize("command", ["dvc repro --force train", "python -m stages.train"])
def test_an_output_folder_that_may_not_be_written_to_is_named(
    project: Project, built: Project, command: str
) -> None:
    model = project.folder / "models/model.pt"
    model.parent.chmod(0o555)

    failed = project.run(*AS_A_USER, *command.split())

    assert failed.returncode != 0
    assert "Permission denied" in failed.stderr
    assert "models/model.pt" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert model.read_bytes() == (built.folder / "models/model.pt").read_bytes()
    model.parent.chmod(0o755)
    rebuild_and_compare(project, built)


@pytest.mark.parametrize("command", ["dvc repro --force", "python -m stages.split"])
def test_a_checkout_that_may_only_be_read_is_reported_before_anything_is_done(
    project: Project, built: Project, command: str
) -> None:
    before = sums(project.folder)
    project.must("chmod", "-R", "a-w", ".")

    failed = project.run(*AS_A_USER, *command.split())

    project.must("chmod", "-R", "u+w", ".")
    assert failed.returncode != 0
    assert "Permission denied" in failed.stderr or "may not be written to" in failed.stderr
    assert str(project.folder) in failed.stderr or ".dvc/tmp/stage.lock" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert sums(project.folder) == before
    rebuild_and_compare(project, built)


@pytest.mark.parametrize("path", ["data/raw/train_labels.npy", "params.yaml"])
def test_an_input_that_may_not_be_read_is_named(project: Project, path: str) -> None:
    (project.folder / path).chmod(0)

    for command in (["python", "-m", "stages.split"], ["dvc", "repro"]):
        failed = project.run(*AS_A_USER, *command)

        assert failed.returncode != 0
        assert path in failed.stderr
        assert "Permission denied" in failed.stderr
        assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("stage", ["train", "test_report"])
def test_a_file_where_a_folder_should_be_is_named(project: Project, stage: str) -> None:
    folder = {"train": "models", "test_report": "reports"}[stage]
    project.must("git", "rm", "--quiet", "-r", "--cached", folder)
    project.must("rm", "-r", folder)
    (project.folder / folder).touch()

    failed = project.run("dvc", "repro")

    assert failed.returncode != 0
    assert folder in failed.stderr
    assert "Traceback" not in failed.stderr
    assert (project.folder / folder).read_bytes() == b""


@pytest.mark.parametrize("characters", [250, 1000])
def test_a_long_path_with_spaces_and_other_scripts_changes_no_bit(
    built: Project, tmp_path: Path, characters: int
) -> None:
    folder = tmp_path
    while len(str(folder)) < characters - 100:
        folder /= "naïve клон №1 " + "x" * 60
    folder /= "y" * (characters - len(str(folder)) - 1)
    assert len(str(folder)) == characters
    folder.parent.mkdir(parents=True)
    project = built.copy(folder)

    rebuild_and_compare(project, built, "--force", "--no-run-cache", PYTHONUTF8="1")


# Locales, homes and terminals


def test_a_locale_without_utf_8_and_no_home_change_no_bit(project: Project, built: Project) -> None:
    rebuild = 'unset HOME; exec "$@" <&-'
    project.must("sh", "-c", rebuild, "sh", "dvc", "repro", "--force", "--no-run-cache", **NARROW)

    rebuild_and_compare(project, built)


COMMANDS = (
    "tools.summary",
    "tools.recipe",
    "tools.fresh",
    "tools.review HEAD HEAD",
    "tools.compare --help",
    "tools.verify --help",
    "stages.evaluate",
)


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if importlib.util.find_spec(each.split()[0])]
)
def test_a_command_prints_in_ascii_what_ascii_has(project: Project, command: str) -> None:
    done = project.run("python", "-m", *command.split(), **NARROW)

    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert done.stdout != ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", ["download", "split", "train", "evaluate", "test_report"])
def test_a_stage_without_any_output_to_print_to_writes_the_same(
    project: Project, built: Project, stage: str
) -> None:
    project.must("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", "python", "-m", f"stages.{stage}")

    for path in outputs(built):
        assert (project.folder / path).read_bytes() == (built.folder / path).read_bytes(), path


@pytest.mark.parametrize("closing", [">&-", ">&- 2>&-"])
def test_a_rebuild_whose_output_is_closed_ends_right(
    project: Project, built: Project, closing: str
) -> None:
    command = f'exec "$@" {closing}'
    project.run("sh", "-c", command, "sh", "dvc", "repro", "--force", "--no-run-cache")

    rebuild_and_compare(project, built)


def test_a_rebuild_whose_reader_leaves_is_completed_by_the_next(
    project: Project, built: Project
) -> None:
    project.run("sh", "-c", "dvc repro --force --no-run-cache 2>&1 | head -n 3")

    rebuild_and_compare(project, built)


def test_a_narrow_terminal_changes_no_bit(project: Project, built: Project) -> None:
    terminal, inside = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=project.folder, env=environment(), stdin=inside, stdout=inside, stderr=inside,
    ) as stage:  # fmt: skip
        os.close(inside)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
    os.close(terminal)

    assert stage.returncode == 0
    lines = [line.rpartition(b"\r")[2] for line in shown.split(b"\r\n")]
    rows = [line.split() for line in lines if line[:5].strip().isdigit()]
    assert [row[0] for row in rows] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    history = project.read("metrics/history.csv")
    assert history == built.read("metrics/history.csv")


# Line ends


def test_a_clone_that_asks_for_windows_line_ends_gets_the_same_bytes(
    built: Project, tmp_path: Path
) -> None:
    clone = Project(tmp_path / "clone")
    asked = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    built.must("git", *asked, "clone", "--quiet", *asked, str(built.folder), str(clone.folder))
    clone.must("dvc", "config", "--local", "cache.dir", str(built.folder / ".dvc/cache"))
    clone.must("dvc", "checkout")

    tracked = clone.must("git", "ls-files", "-z").rstrip("\0").split("\0")
    assert len(tracked) > 100
    for name in tracked:
        assert (clone.folder / name).read_bytes() == (built.folder / name).read_bytes(), name
    assert clone.must("git", "status", "--porcelain") == ""
    assert "up to date" in clone.must("dvc", "status")


def test_parameters_that_an_editor_saved_with_windows_line_ends_are_the_same(
    project: Project, built: Project
) -> None:
    params = project.folder / "params.yaml"
    params.write_bytes(params.read_bytes().replace(b"\n", b"\r\n"))

    assert "Data and pipelines are up to date" in project.must("dvc", "repro")
    rebuild_and_compare(project, built, "--force", "--no-run-cache", "split")
    assert "up to date" in project.must("dvc", "status")
