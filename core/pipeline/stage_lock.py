"""Runs one stage at a time in a folder: a stage waits for any other before it reads anything."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from core.pipeline import files
from core.pipeline.errors import SetupError

LOCK = Path(".dvc/tmp/stage.lock")  # DVC keeps .dvc/tmp out of git


def wait_for_other_stages(name: str) -> IO[str] | None:
    """Wait until no other stage runs in this folder; say which one it waits for.

    Args:
        name: of this stage, for those that wait for it.

    Returns:
        The lock file, to keep open while this stage runs; None if DVC was never run here.
    """
    if not LOCK.parent.is_dir():
        return None
    try:
        lock = LOCK.open("a+", encoding="utf-8")
    except PermissionError as error:
        raise SetupError(
            "this folder may not be written to, so no stage can run in it",
            where=str(error.filename),
            todo="fix the permissions there and run it again",
        ) from error
    if not files.lock(lock, wait=False):
        lock.seek(0)
        holder = lock.read() or "another stage"
        print(f"waiting for {holder}, which runs in this folder", file=sys.stderr, flush=True)
        files.lock(lock)
    with suppress(OSError):  # on a full disk there is no room for the name
        lock.truncate(0)
        lock.write(f"{name} (process {os.getpid()})")
        lock.flush()
    return lock
