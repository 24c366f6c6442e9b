"""DVC or a stage is killed at any moment: the next `dvc repro` ends as if nothing had happened.

A stage that is killed while it trains resumes from its checkpoint: test_checkpoints.py.
Comparisons that are killed: test_compare.py. The lock of a folder: test_stage_lock.py.
"""

import itertools
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.faults import outputs, processes_in, stages_in, start, wait_for
from tests.support.project import Project, copy_project, make_tiny

pytestmark = pytest.mark.slow  # all of them together

STAGES = ["download", "split", "train", "evaluate", "test_report"]


class Undisturbed:
    """A project before and after an undisturbed rebuild, and the times of its stages."""

    def __init__(self, folder: Path) -> None:
        self.before = make_tiny(copy_project(folder / "before"))
        (self.before.folder / "dvc.lock").unlink()
        self.after = self.before.copy(folder / "after")
        began: dict[str, float] = {}
        rebuild = start(self.after, "dvc", "repro")
        while rebuild.poll() is None:
            for stage in running(self.after):
                began.setdefault(stage, time.monotonic())
            time.sleep(0.02)
        output, _ = rebuild.communicate(timeout=60)
        assert rebuild.returncode == 0, output
        assert [stage for stage in began if stage in STAGES] == STAGES
        times = [*(began[stage] for stage in STAGES), time.monotonic()]
        # From the start of each stage to that of the next: DVC saves in between.
        self.seconds = {stage: times[i + 1] - times[i] for i, stage in enumerate(STAGES)}
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
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert project.read("dvc.lock") == undisturbed.lock
    for path in undisturbed.outputs:
        assert (project.folder / path).read_bytes() == undisturbed.content(path), path
    assert list(project.folder.glob("[!.]*/**/*.partial")) == []
    assert processes_in(project.folder) == {}
    return output


def running(project: Project) -> list[str]:
    """The names of the stages that run in a project."""
    commands = processes_in(project.folder).values()
    return [match[1] for each in commands if (match := re.search(r" -m stages\.(\w+)", each))]


# Twenty kills: one in each stage, at a random moment of it or of what DVC does after it.
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("victim", ["dvc", "stage"])
def test_a_rebuild_that_is_killed_again_and_again_is_completed_by_the_next(
    undisturbed: Undisturbed, tmp_path: Path, victim: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    folders = (tmp_path / f"project {number}" for number in itertools.count())
    project = undisturbed.before.copy(next(folders))
    rebuilds = []
    killed = 0
    while killed < len(STAGES):
        rebuild = start(project, "dvc", "repro")
        rebuilds.append(rebuild)
        to_come = STAGES[killed:]
        wait_for_one_of(to_come, project, rebuild)
        time.sleep(random.random() * undisturbed.seconds[to_come[0]])
        if victim == "stage":
            wait_for_one_of(to_come, project, rebuild)
        if rebuild.poll() is not None:  # it ended before: start again
            rebuild_and_compare(project, undisturbed)
            project = undisturbed.before.copy(next(folders))
            continue
        for pid in stages_in(project.folder) if victim == "stage" else [rebuild.pid]:
            os.kill(pid, signal.SIGKILL)
        killed += 1
        assert undisturbed.half_written(project) == []
        rebuild.wait(timeout=60)  # DVC ends by itself when its stage does

    rebuild_and_compare(project, undisturbed)
    for rebuild in rebuilds:
        rebuild.communicate(timeout=60)  # closes what it printed to


def wait_for_one_of(stages: list[str], project: Project, rebuild: subprocess.Popen[str]) -> None:
    """Wait until one of `stages` runs or the rebuild has ended."""
    wait_for(
        lambda: set(running(project)) & set(stages) or rebuild.poll() is not None,
        f"one of {stages}",
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_stage_ends_with_its_dvc_and_the_next_rebuild_does_its_work_again(
    undisturbed: Undisturbed, tmp_path: Path, number: signal.Signals
) -> None:
    project = undisturbed.before.copy(tmp_path / "project")
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
    project = undisturbed.after.copy(tmp_path / "project")
    rebuild = start(project, "dvc", "repro", "--force", "--no-run-cache", "split")
    wait_for(lambda: stages_in(project.folder), "a stage")
    os.kill(rebuild.pid, signal.SIGKILL)
    rebuild.communicate(timeout=60)
    assert f'"pid": {rebuild.pid}' in project.read(".dvc/tmp/rwlock")

    output = rebuild_and_compare(project, undisturbed)

    assert f"(Pid {rebuild.pid})" in output
    assert "had been killed. Auto removed it from the lock file." in output


def test_a_lock_of_dvc_that_was_truncated_is_named_and_may_be_removed(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    project = undisturbed.after.copy(tmp_path / "project")
    (project.folder / ".dvc/tmp/rwlock").write_text('{"read": {"')

    refused = project.run("dvc", "repro")
    assert refused.returncode != 0
    assert (
        "Unable to read RWLock-file '.dvc/tmp/rwlock'. JSON structure is corrupted"
        in refused.stderr
    )

    (project.folder / ".dvc/tmp/rwlock").unlink()
    rebuild_and_compare(project, undisturbed)


def test_a_dvc_lock_that_was_truncated_anywhere_is_recreated_or_named(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    project = undisturbed.after.copy(tmp_path / "project")
    whole = undisturbed.lock
    for length in (0, len(whole) // 3, whole.index("deps:") + 3, 8192, whole.rindex("md5:")):
        (project.folder / "dvc.lock").write_text(whole[:length])
        done = project.run("dvc", "repro")
        if done.returncode:
            assert "dvc.lock" in done.stderr
            (project.folder / "dvc.lock").unlink()
            project.must("dvc", "repro")
        assert project.read("dvc.lock") == whole
