"""A stage ends with the DVC that started it, and waits for others in its folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.pipeline import orphans
from core.pipeline.errors import SetupError
from tests.core.pipeline.test_runner import STAGE, environment, make_project
from tests.support.faults import processes_in, wait_for

TRIAL = [sys.executable, "-m", "stages.trial"]
WAITING = "print('started', flush=True); time.sleep(float(os.environ['SECONDS']))"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which DVC was run, with a stage that takes its time."""
    root = make_project(tmp_path / "project")
    (root / ".dvc/tmp").mkdir(parents=True)
    for package in ("stages", "tools"):
        (root / package / "trial.py").write_text(STAGE.format(body=WAITING))
    return root


def start(folder: Path, seconds: float, module: str = "stages.trial") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=folder,
        env=environment(SECONDS=str(seconds)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str], *, of: str = "stdout") -> str:
    stream = getattr(process, of)
    return str(stream.readline())


def test_a_stage_waits_for_the_one_that_runs_in_its_folder_and_says_so(project: Path) -> None:
    first = start(project, 60)
    assert line(first) == "started\n"
    second = start(project, 0)
    assert line(second, of="stderr") == (
        f"waiting for stages.trial (process {first.pid}), which runs in this folder\n"
    )
    third = start(project, 0, "tools.trial")  # a tool does not wait
    assert third.communicate(timeout=60) == ("started\n", "")
    assert second.poll() is None

    first.kill()  # and needs no tidying up

    assert second.communicate(timeout=60) == ("started\n", "")
    assert second.returncode == 0
    first.communicate()


def test_a_stage_does_not_wait_for_those_of_other_folders(project: Path, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other")
    (other / ".dvc/tmp").mkdir(parents=True)
    (other / "stages/trial.py").write_text(STAGE.format(body="print('done')"))
    first = start(project, 60)
    assert line(first) == "started\n"

    assert start(other, 0).communicate(timeout=60) == ("done\n", "")
    first.kill()
    first.communicate()


def test_a_stage_runs_directly_where_dvc_was_never_run(project: Path) -> None:
    (project / ".dvc/tmp").rmdir()

    assert start(project, 0).communicate(timeout=60) == ("started\n", "")
    assert list((project / ".dvc").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_ends_soon_after_its_dvc_does(project: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({TRIAL!r})"],  # instead of DVC
        cwd=project,
        env=environment(SECONDS="60", DVC_STAGE="trial"),
        stdout=subprocess.PIPE,
        text=True,
    ) as dvc:
        assert line(dvc) == "started\n"
        os.kill(dvc.pid, number)
        dvc.wait(timeout=60)

    wait_for(lambda: processes_in(project) == {}, "the end of the stage")


def test_a_stage_whose_dvc_has_ended_before_it_began_does_nothing(project: Path) -> None:
    shell = 'sleep 0.3; exec "$@"'  # long enough for its parent to have ended
    orphaned = [sys.executable, "-c", "import subprocess, sys; subprocess.Popen(sys.argv[1:])"]
    done = subprocess.run(
        [*orphaned, "/bin/sh", "-c", shell, "sh", *TRIAL],
        cwd=project,
        env=environment(SECONDS="0", DVC_STAGE="trial"),
        capture_output=True,
        text=True,
        timeout=60,
        process_group=0,
    )

    assert done.stdout == ""
    assert done.stderr == (
        "error: the DVC that started this stage has ended\n"
        "  next:     dvc repro\n"
    )  # fmt: skip


def test_a_dvc_that_ends_while_its_stage_begins_is_reported_likewise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    monkeypatch.setattr(os, "getppid", lambda: ended.pid)

    with pytest.raises(SetupError, match="the DVC that started this stage has ended"):
        orphans.end_with_dvc()


def test_a_stage_that_dvc_did_not_start_outlives_the_one_that_did(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({TRIAL!r})"],
        cwd=project,
        env=environment(SECONDS="1"),
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert line(starter) == "started\n"
        starter.kill()
        starter.wait(timeout=60)
        assert len(processes_in(project)) == 1
    wait_for(lambda: processes_in(project) == {}, "its end")
