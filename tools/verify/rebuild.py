"""Rebuilds a commit from nothing, in its own folder.

The folder contains `clone`, in which `dvc repro` runs; `bin/python`, which starts the
Python of the stages; and `rebuild.log`, the output. Only the commit, the packages of this
Python and the environment come from outside: no cache, no remote, and no settings of
DVC other than those of the commit.
"""

import os
import re
import shlex
import signal
import site
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.pipeline.errors import PipelineError
from tools.repository import git
from tools.verify import emulation

HOSTILE_FOLDER = "naïve rebuild №1"
HOSTILE_UMASK = 0o077
HOSTILE_ENVIRONMENT = {
    "TZ": "Asia/Kathmandu",  # 5 hours and 45 minutes ahead
    "LANG": "tr_TR.UTF-8",
    "LANGUAGE": "tr",
    "PYTHONHASHSEED": "4711",
    "OMP_NUM_THREADS": "3",
    "PYTHONUTF8": "1",  # for DVC, which fails in such a folder without it
}
# ASCII is the narrowest default encoding that a file can have.
HOSTILE_TO_STAGES = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
FILE_ORDER = Path(__file__).resolve().parent / "hostile"  # holds a sitecustomize.py

NO_CACHE_NO_REMOTE = "[cache]\n    dir = cache\n[core]\n    remote = none\n"

RUNNING_STAGE = re.compile(r"^Running stage '(.+)':$")
SECONDS_BETWEEN_LOOKS = 0.1
MOST_LINES = 15  # of the output of a failed stage


class RebuildError(PipelineError):
    """A stage failed, or DVC did."""


def prepare(folder: Path, commit: str, *, without: Iterable[str]) -> Path:
    """Check a commit of the working directory's repository out, in `folder`.

    Args:
        folder: the target; created if it does not exist.
        commit: its hash.
        without: paths to remove, which a rebuild has to create.

    Returns:
        The project in the clone.
    """
    clone = git.check_out(Path.cwd(), folder / "clone", commit)
    for path in without:
        (clone / path).unlink(missing_ok=True)
    (clone / ".dvc/config.local").write_text(NO_CACHE_NO_REMOTE, encoding="utf-8")
    return clone


def rebuild(
    folder: Path, clone: Path, *, emulated: Sequence[str] = (), hostile: bool = False
) -> None:
    """Run all stages of a clone with this Python, and print how long each takes.

    Args:
        folder: for everything else, as of `prepare`.
        clone: as `prepare` creates it.
        emulated: the prefix that starts an emulated processor, empty for this one. It
            applies to the stages; DVC itself runs on this processor.
        hostile: in an environment with unusual values of everything that must not matter.

    Raises:
        RebuildError: a stage or DVC failed; with the end of the output.
    """
    environment = {k: v for k, v in git.undirected(os.environ).items() if not k.startswith("DVC_")}
    if hostile:
        # Packages of `pip install --user` are in the real home.
        environment["PYTHONUSERBASE"] = site.getuserbase()
        environment["HOME"] = str(folder / "home")
        environment |= HOSTILE_ENVIRONMENT
    environment |= {
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "dvc"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "dvc"),
        "DVC_SITE_CACHE_DIR": str(folder / "dvc"),  # its record of known files
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{_launcher(folder, emulated, hostile)}{os.pathsep}{os.environ['PATH']}",
    }
    log = folder / "rebuild.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"],
            cwd=clone,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            umask=HOSTILE_UMASK if hostile else -1,
            start_new_session=True,  # its own process group, killed as a whole
        )
    try:
        stage = _follow(process, log)
    finally:
        if process.poll() is None:  # DVC would leave its stage running
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        printed = log.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
        raise RebuildError(
            f"the rebuild failed in the stage {stage}" if stage else "the rebuild did not start",
            found="\n".join(printed[-MOST_LINES:]),
            todo="dvc repro here shows whether it fails in the working tree too; "
            "--keep keeps the folder of the rebuild",
        )


def _launcher(folder: Path, emulated: Sequence[str], hostile: bool) -> Path:
    """Write the `python` that the commands of the stages find first; return its folder.

    It is needed on this processor too: `python` may be missing, or another version than
    this one.
    """
    lines = ["#!/bin/sh"]
    if hostile:
        path = os.pathsep.join(filter(None, [str(FILE_ORDER), os.environ.get("PYTHONPATH")]))
        for name, value in {**HOSTILE_TO_STAGES, "PYTHONPATH": path}.items():
            lines.append(f"export {name}={shlex.quote(value)}")
    if emulated:
        lines.append(f"unset {' '.join(emulation.KERNEL_VARIABLES)}")
    lines.append(f'exec {shlex.join([*emulated, sys.executable])} "$@"')
    launcher = folder / "bin" / "python"
    launcher.parent.mkdir()
    launcher.write_text("\n".join(lines) + "\n", encoding="utf-8")
    launcher.chmod(0o755)
    return launcher.parent


def _follow(process: subprocess.Popen[bytes], log: Path) -> str:
    """Print the stages as they start and end, until DVC ends; return the last stage."""
    stage = ""
    started = time.monotonic()
    terminal = sys.stdout.isatty()

    def elapsed() -> str:
        return f"{time.monotonic() - started:6.1f} s"

    with log.open(encoding="utf-8", errors="replace") as lines:
        line = ""
        while True:
            ended = process.poll() is not None  # before reading: then the rest is complete
            while part := lines.readline():
                line += part
                if not line.endswith("\n"):
                    continue
                if found := RUNNING_STAGE.match(line):
                    if stage:
                        print(f"\r  {stage:<14}{elapsed()}" if terminal else elapsed())
                    stage, started = found[1], time.monotonic()
                    print(f"  {stage:<14}", end="", flush=True)
                line = ""
            if ended:
                break
            if stage and terminal:
                print(f"\r  {stage:<14}{elapsed()}", end="", flush=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if stage:
        print(f"\r  {stage:<14}{elapsed()}" if terminal else elapsed(), flush=True)
    return stage
