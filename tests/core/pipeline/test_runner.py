"""A stage ends with an exit status, and a few lines that say what to do."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.pipeline import runner
from core.pipeline.errors import SetupError

CORE = Path(runner.__file__).parents[1]
STAGE = '''\
"""Tries something.

What stands below the first paragraph is not for --help.
"""

import os
import sys
import time
from pathlib import Path

from core.pipeline import files
from core.pipeline.errors import DataError
from core.pipeline.runner import run


def main() -> None:
    {body}


if __name__ == "__main__":
    run(main)
'''

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a copy of core/ and the packages that stages and tools live in."""
    return make_project(tmp_path / "project")


def make_project(root: Path) -> Path:
    shutil.copytree(CORE, root / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("stages", "tools"):
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    return root


def environment(**added: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | added


def run_stage(
    project: Path, body: str, *arguments: str, cwd: Path | None = None, **added: str
) -> subprocess.CompletedProcess[str]:
    (project / "stages" / "trial.py").write_text(STAGE.format(body=body))
    return subprocess.run(
        [sys.executable, "-m", "stages.trial", *arguments],
        cwd=cwd or project,
        env=environment(**added),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_stage_that_returns_exits_with_0(project: Path) -> None:
    done = run_stage(project, "print('done')")

    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_mistake_of_the_user_ends_in_a_few_lines(project: Path) -> None:
    failed = run_stage(project, 'raise DataError("a.npy is missing", todo="dvc repro makes it")')

    assert failed.returncode == 1
    assert failed.stderr == "error: a.npy is missing\n  next:     dvc repro makes it\n"


def test_debug_shows_the_traceback_of_a_mistake_too(project: Path) -> None:
    failed = run_stage(project, 'raise DataError("a.npy is missing")', "--debug")

    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback (most recent call last):\n")
    assert 'raise DataError("a.npy is missing")\n' in failed.stderr
    assert failed.stderr.endswith("\nerror: a.npy is missing\n")


def test_a_bug_keeps_its_traceback(project: Path) -> None:
    failed = run_stage(project, "print([][0])")

    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback (most recent call last):\n")
    assert failed.stderr.endswith("\nIndexError: list index out of range\n")


def test_help_names_the_command_and_its_first_paragraph(project: Path) -> None:
    shown = run_stage(project, "raise SystemExit('not reached')", "--help")

    assert shown.returncode == 0
    assert shown.stdout.startswith(
        "usage: python -m stages.trial [-h] [--debug]\n\nTries something.\n\noptions:\n"
    )


def test_an_unknown_argument_is_refused(project: Path) -> None:
    refused = run_stage(project, "print('not reached')", "--epochs=3")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.endswith(
        "python -m stages.trial: error: unrecognized arguments: --epochs=3\n"
    )


def test_what_cannot_be_seen_in_an_argument_is_named(project: Path) -> None:
    failed = run_stage(project, "pass", "--debug\u00a0")

    assert failed.returncode == 2
    assert failed.stderr.endswith("unrecognized arguments: --debug<U+00A0 NO-BREAK SPACE>\n")


def test_a_tool_gets_its_own_arguments_by_name(project: Path) -> None:
    (project / "tools" / "trial.py").write_text(
        "from core.pipeline.runner import run\n"
        "def add_arguments(parser):\n"
        "    parser.add_argument('path')\n"
        "    parser.add_argument('others', nargs='*')\n"
        "    parser.add_argument('--rows', type=int, default=3)\n"
        "def main(path: str, others: list[str], rows: int) -> None:\n"
        "    print(path, *others, rows + 1)\n"
        "run(main, add_arguments)\n"
    )
    command = [sys.executable, "-m", "tools.trial"]

    done = subprocess.run(
        [*command, "a.npy", "--rows=4", "--debug"],
        cwd=project, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    between = subprocess.run(
        [*command, "a.npy", "--rows=4", "b.npy"],
        cwd=project, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    refused = subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "a.npy 5\n", "")
    assert between.stdout == "a.npy b.npy 5\n"
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "usage: python -m tools.trial [-h] [--debug] [--rows ROWS] path [others ...]"
    )


def test_another_copy_of_the_project_on_the_path_is_refused(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    refused = run_stage(project, "print('ran')", cwd=elsewhere, PYTHONPATH=str(project))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "error: the code that runs is not the code in this folder\n"
        f"  expected: core from {elsewhere}\n"
        f"  found:    core from {project}\n"
        "  next:     run it from the root of the repository; remove any installed copy of "
        "the project (pip uninstall) and PYTHONPATH entries that lead to one\n"
    )


def test_a_stage_of_another_copy_is_refused_even_with_this_folders_core(
    project: Path, tmp_path: Path
) -> None:
    here = make_project(tmp_path / "here")
    shutil.rmtree(here / "stages")

    refused = run_stage(project, "print('ran')", cwd=here, PYTHONPATH=str(project))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"found:    stages.trial from {project}\n" in refused.stderr


def test_another_copy_on_the_path_does_not_stand_before_this_folder(
    project: Path, tmp_path: Path
) -> None:
    other = make_project(tmp_path / "other")
    (other / "stages" / "trial.py").write_text("print('the wrong one')")

    done = run_stage(project, "print('the right one')", PYTHONPATH=str(other))

    assert (done.returncode, done.stdout) == (0, "the right one\n")


def test_a_link_to_the_project_is_the_project(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)

    assert run_stage(project, "print('done')", cwd=tmp_path / "link").returncode == 0


def test_check_source_names_the_module_and_both_folders(tmp_path: Path) -> None:
    name = r"core\.pipeline\.runner"
    with pytest.raises(SetupError, match=rf"{name} from {tmp_path}\n .*{name} from"):
        runner.check_source(tmp_path, runner)

    runner.check_source(CORE.parent, runner)


def test_ctrl_c_ends_with_130_and_without_a_traceback_or_a_file(project: Path) -> None:
    body = (
        "with files.replacing(Path('model.pt')) as file:\n"
        "        file.write(b'half')\n"
        "        print('writing', flush=True)\n"
        "        time.sleep(60)"
    )
    (project / "stages" / "trial.py").write_text(STAGE.format(body=body))
    with subprocess.Popen(
        [sys.executable, "-m", "stages.trial"],
        cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as stage:  # fmt: skip
        assert stage.stdout is not None
        assert stage.stdout.readline() == "writing\n"
        stage.send_signal(signal.SIGINT)
        _, shown = stage.communicate(timeout=60)

    assert stage.returncode == 130
    assert shown == "interrupted; nothing half-written was left behind\n"
    assert sorted(path.name for path in project.iterdir()) == ["core", "stages", "tools"]


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves_is_no_error_to_show(project: Path, lines: int) -> None:
    body = f"sys.stdin.read()\n    for line in range({lines}): print(line)"
    (project / "stages" / "trial.py").write_text(STAGE.format(body=body))
    with subprocess.Popen(
        [sys.executable, "-m", "stages.trial"],
        cwd=project, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as stage:  # fmt: skip
        assert stage.stdin is not None
        assert stage.stdout is not None
        assert stage.stderr is not None
        stage.stdout.close()
        stage.stdin.close()  # now it prints
        shown = stage.stderr.read()

    assert (stage.returncode, shown) == (141, "")


def test_a_full_disk_is_reported_in_two_lines_and_leaves_nothing(project: Path) -> None:
    body = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    files.write_bytes(Path('models/model.pt'), bytes(2000))"
    )

    failed = run_stage(project, body)

    assert failed.returncode == 1
    assert failed.stderr == (
        "error: models/model.pt: File too large\n"
        "  next:     make room there and run it again\n"
    )  # fmt: skip
    assert list((project / "models").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_output_that_cannot_be_written_is_reported_in_two_lines(project: Path) -> None:
    (project / "stages" / "trial.py").write_text(STAGE.format(body="print('result')"))

    with Path("/dev/full").open("w") as full:
        failed = subprocess.run(
            [sys.executable, "-m", "stages.trial"],
            cwd=project, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60,
        )  # fmt: skip

    assert failed.returncode == 1
    assert failed.stderr == (
        "error: No space left on device\n"
        "  next:     make room there and run it again\n"
    )  # fmt: skip


def test_a_file_where_a_folder_should_be_is_reported_in_one_line(project: Path) -> None:
    (project / "models").touch()

    failed = run_stage(project, "files.write_text(Path('models/model.pt'), 'new')")

    assert (failed.returncode, failed.stderr) == (1, "error: models: File exists\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_missing_permission_is_reported_in_two_lines(project: Path) -> None:
    (project / "models").mkdir(mode=0o555)

    failed = run_stage(project, "files.write_text(Path('models/model.pt'), 'new')")

    assert failed.returncode == 1
    assert failed.stderr == (
        "error: models/model.pt: Permission denied\n"
        "  next:     fix the permissions there and run it again\n"
    )


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("bytearray(2**60)", ""),
        (
            "import torch; torch.empty(2**59)",
            "  found:    2305843009213693952 bytes more were asked for\n",
        ),
        ("import torch; torch.empty(2**62, 784)", ""),
    ],
)
def test_too_little_memory_is_reported_with_what_to_lower(
    project: Path, body: str, found: str
) -> None:
    failed = run_stage(project, body)

    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == (
        f"error: there is not enough memory\n{found}"
        "  next:     lower the sizes in params.yaml (of model, train.batch_size, train.augment), "
        "or run it where there is more memory\n"
    )


def test_debug_shows_the_traceback_of_what_the_system_refused(project: Path) -> None:
    failed = run_stage(project, "Path('gone').read_bytes()", "--debug")

    assert failed.stderr.startswith("Traceback (most recent call last):\n")
    assert failed.stderr.endswith("\nerror: gone: No such file or directory\n")


def test_an_error_of_a_library_that_only_looks_like_the_systems_keeps_its_traceback(
    project: Path,
) -> None:
    failed = run_stage(project, "raise OSError('a bad header')")

    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback (most recent call last):\n")
    assert failed.stderr.endswith("\nOSError: a bad header\n")


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_output_is_no_error(project: Path, closing: str) -> None:
    body = "print('±', flush=True); sys.stderr.write('±'); Path('done').touch()"
    (project / "stages" / "trial.py").write_text(STAGE.format(body=body), encoding="utf-8")

    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-m", "stages.trial"],
        cwd=project, env=environment(), check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0
    assert (project / "done").exists()


def test_what_the_locale_cannot_print_becomes_a_question_mark(project: Path) -> None:
    (project / "stages" / "trial.py").write_text(
        STAGE.format(body="print('0.9 ± 0.1')"), encoding="utf-8"
    )

    done = subprocess.run(
        [sys.executable, "-m", "stages.trial"],
        cwd=project, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, b"0.9 ? 0.1\n", b"")
