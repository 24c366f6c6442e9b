"""DVC or a stage is killed at any moment: the next `dvc repro` ends as if nothing had been.

A stage that is killed while it trains goes on from its checkpoint: test_train.py.
Comparisons that are killed: test_compare.py. The lock of a folder: test_alone.py.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults import copy_of, outputs, processes_in, stages_in, start, wait_for
from tests.project import Project, copy_project, make_tiny

pytestmark = pytest.mark.slow  # all of them together

MOMENTS = 20


class Undisturbed:
    """A project before and after a rebuild that nothing disturbs, and the time it takes."""

    def __init__(self, folder: Path) -> None:
        self.before = make_tiny(copy_project(folder / "before"))
        (self.before.folder / "dvc.lock").unlink()
        self.after = copy_of(self.before, folder / "after")
        started = time.monotonic()
        self.after.must("dvc", "repro")
        self.seconds = time.monotonic() - started
        self.lock = self.after.read("dvc.lock")
        self.outputs = outputs(self.after)

    def content(self, path: str) -> bytes:
        return (self.after.folder / path).read_bytes()

    def half_written(self, project: Project) -> list[str]:
        """The outputs that are neither missing nor what they were nor what they will be."""
        found = []
        for path in self.outputs:
            files = [each.folder / path for each in (project, self.before, self.after)]
            now, *whole = [file.read_bytes() if file.exists() else None for file in files]
            if now is not None and now not in whole:
                found.append(path)
        return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "before").mkdir()
    return Undisturbed(folder)


def rebuild_and_compare(project: Project, undisturbed: Undisturbed) -> str:
    """Rebuild, with nothing tidied up before; return what was printed."""
    done = project.run("dvc", "repro")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert project.read("dvc.lock") == undisturbed.lock
    for path in undisturbed.outputs:
        assert (project.folder / path).read_bytes() == undisturbed.content(path), path
    assert list(project.folder.glob("[!.]*/**/*.partial")) == []
    assert processes_in(project.folder) == {}
    return told


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_rebuild_that_is_killed_at_any_moment_is_completed_by_the_next(
    undisturbed: Undisturbed, tmp_path: Path, moment: int
) -> None:
    project = copy_of(undisturbed.before, tmp_path / "project")
    rebuild = start(project, "dvc", "repro")
    time.sleep(np.random.default_rng(moment).random() * undisturbed.seconds)
    if moment % 2:
        wait_for(lambda: stages_in(project.folder) or rebuild.poll() is not None, "a stage")
        victims = stages_in(project.folder)
    else:
        victims = [rebuild.pid] if rebuild.poll() is None else []
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert undisturbed.half_written(project) == []
    rebuild.wait(timeout=60)  # DVC ends by itself when its stage does

    rebuild_and_compare(project, undisturbed)
    rebuild.communicate(timeout=60)  # closes what it printed to


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_stage_ends_with_its_dvc_and_the_next_rebuild_does_its_work_again(
    undisturbed: Undisturbed, tmp_path: Path, number: signal.Signals
) -> None:
    project = copy_of(undisturbed.before, tmp_path / "project")
    rebuild = start(project, "dvc", "repro", "split")
    wait_for(lambda: stages_in(project.folder), "a stage")
    os.kill(rebuild.pid, number)
    rebuild.communicate(timeout=60)

    wait_for(lambda: not stages_in(project.folder), "its end")
    project.must("dvc", "repro", "split")

    for path in undisturbed.outputs:
        if path.startswith("data/"):
            assert (project.folder / path).read_bytes() == undisturbed.content(path), path


def test_what_a_killed_dvc_leaves_of_its_locks_stops_nobody(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    project = copy_of(undisturbed.after, tmp_path / "project")
    rebuild = start(project, "dvc", "repro", "--force", "--no-run-cache", "split")
    wait_for(lambda: stages_in(project.folder), "a stage")
    os.kill(rebuild.pid, signal.SIGKILL)
    rebuild.communicate(timeout=60)
    assert f'"pid": {rebuild.pid}' in project.read(".dvc/tmp/rwlock")

    told = rebuild_and_compare(project, undisturbed)

    assert f"(Pid {rebuild.pid})" in told
    assert "had been killed. Auto removed it from the lock file." in told


def test_a_lock_of_dvc_that_was_cut_off_is_named_and_may_be_removed(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    project = copy_of(undisturbed.after, tmp_path / "project")
    (project.folder / ".dvc/tmp/rwlock").write_text('{"read": {"')

    refused = project.run("dvc", "repro")
    assert refused.returncode != 0
    assert (
        "Unable to read RWLock-file '.dvc/tmp/rwlock'. JSON structure is corrupted"
        in refused.stderr
    )

    (project.folder / ".dvc/tmp/rwlock").unlink()
    rebuild_and_compare(project, undisturbed)


def test_a_dvc_lock_that_was_cut_off_anywhere_is_made_again_or_named(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    project = copy_of(undisturbed.after, tmp_path / "project")
    whole = undisturbed.lock
    for place in (0, len(whole) // 3, whole.index("deps:") + 3, 8192, whole.rindex("md5:")):
        (project.folder / "dvc.lock").write_text(whole[:place])
        done = project.run("dvc", "repro")
        if done.returncode:
            assert "dvc.lock" in done.stderr
            (project.folder / "dvc.lock").unlink()
            project.must("dvc", "repro")
        assert project.read("dvc.lock") == whole
