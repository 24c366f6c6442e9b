"""A `python` and a `dvc` that start immediately, for the many commands that tests run.

Otherwise Python's start would take three quarters of the suite's time: DVC, PyTorch and
SciPy are imported for each command. As `python -m tools.compare` does, one process
of each test worker imports them, and every `python -m ...` is a copy of it that reads
the project's own code from its own folder.
"""

import atexit
import functools
import os
import shlex
from contextlib import ExitStack
from pathlib import Path

from core.training import numerics
from tools.experiments.preloaded import preloaded


@functools.cache
def folder() -> Path:
    """Return the folder of both commands; they are there until this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    variables = numerics.PORTABLE_KERNELS | numerics.WAITING
    made = stack.enter_context(preloaded(variables, os.environ))
    dvc = made / "dvc"
    if not dvc.exists():
        dvc.write_text(f'#!/bin/sh\nexec {shlex.quote(str(made / "python"))} -m dvc "$@"\n')
        dvc.chmod(0o755)
    return made
