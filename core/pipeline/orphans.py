"""Ends a stage whose DVC has ended.

A DVC that is killed leaves its stage running. That stage would write its results
during the next `dvc repro`. So a stage ends soon after its DVC.
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress

from core.pipeline import process_rank
from core.pipeline.errors import SetupError

SECONDS_BETWEEN_LOOKS = 0.2
ORPHANED = 1  # the status of a stage whose DVC has ended


def end_with_dvc() -> None:
    """End this process as soon as the one that started it has ended.

    Raises:
        SetupError: it has ended already.
    """
    if sys.platform == "win32":  # where a parent's process id outlives it
        return
    started_by: int | None = os.getppid()
    launcher = started_by if process_rank.LAUNCHER in os.environ else None
    try:
        group = os.getpgid(launcher) if launcher else os.getpgrp()
        if launcher:  # runs between DVC and this process, in DVC's group
            started_by = _parent(launcher)
        # Nothing else between DVC and a stage starts a process group of its own, and
        # the process that adopts an orphan is in another.
        ended = started_by is None or os.getpgid(started_by) != group
    except ProcessLookupError:  # just now
        ended = True
    if ended:
        raise SetupError("the DVC that started this stage has ended", todo="dvc repro")
    threading.Thread(target=_end_after, args=[started_by, launcher], daemon=True).start()


def _end_after(started_by: int, launcher: int | None) -> None:
    while (os.getppid() if launcher is None else _parent(launcher)) == started_by:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if launcher:
        with suppress(ProcessLookupError):  # or it would restart this process
            os.kill(launcher, signal.SIGTERM)
    os._exit(ORPHANED)


def _parent(process: int) -> int | None:
    """The process that started `process`, or None if it has ended."""
    import psutil  # only needed with a launcher

    try:
        return psutil.Process(process).ppid()
    except psutil.NoSuchProcess:
        return None
