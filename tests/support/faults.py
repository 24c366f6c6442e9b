"""Helpers for tests of faults: processes to kill, and the content of a folder."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.support.project import Project

SECONDS = 120  # far more than any wait here takes


def environment(**added: str) -> dict[str, str]:
    """The environment of this process, with this Python first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **added}


def start(project: Project, *command: str, **added: str) -> subprocess.Popen[str]:
    """Start a command as a shell would, in a process group of its own."""
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=environment(**added),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def processes_in(folder: Path, *, below: bool = False) -> dict[int, str]:
    """The commands of the processes that run in a folder, or below it, by their numbers."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            runs_in = (entry / "cwd").readlink()
            if folder.resolve() not in ([runs_in, *runs_in.parents] if below else [runs_in]):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # ended, or of another user
            continue
        if command:  # a process that has ended and is not yet waited for has none
            found[int(entry.name)] = command
    return found


def stages_in(folder: Path) -> list[int]:
    """The processes that run a stage in a folder."""
    return [pid for pid, command in processes_in(folder).items() if " -m stages." in command]


def stages_below(folder: Path) -> list[int]:
    """The processes that run a stage in a folder or below it."""
    running = processes_in(folder, below=True)
    return [pid for pid, command in running.items() if " -m stages." in command]


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds, and fail if it never does."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def outputs(project: Project) -> list[str]:
    """The paths of all that the stages of a built project write."""
    lock = yaml.safe_load(project.read("dvc.lock"))
    return sorted(out["path"] for stage in lock["stages"].values() for out in stage["outs"])


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
