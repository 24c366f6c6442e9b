"""A `python` and a `dvc` that start at once, for the many commands that tests run.

Importing PyTorch takes longer than a stage on a few hundred images. As
`python -m tools.compare` does, one process of each test worker imports the libraries,
and the commands that need them are copies of that process, which read the project's
own code from their own folder. All other commands are left to Python itself.
"""

import atexit
import functools
import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

from core.training import numerics
from tools.experiments.preloaded import LIBRARIES, preloaded

# Of commands that tests run, beside those of DVC and the stages.
MORE_LIBRARIES = (
    "scipy.stats",
    "scipy.optimize",
    "vl_convert",
    "dvc.commands.checkout",
    "dvc.commands.status",
    "dvc.repo.checkout",
    "dvc.repo.status",
)
QUICKER = (
    *("stages.train", "stages.evaluate", "stages.test_report"),
    *("tools.compare", "tools.review", "tools.verify"),
)


@functools.cache
def folder() -> Path:
    """Return the folder of these commands; it is there until this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    variables = numerics.PORTABLE_KERNELS | numerics.WAITING
    libraries = (*LIBRARIES, *MORE_LIBRARIES)
    made = stack.enter_context(preloaded(variables, os.environ, libraries))
    if made == Path(sys.executable).parent:  # there are no quick ones here
        return made
    quick = shlex.quote(str((made / "python").rename(made / "quick")))
    cases = "|".join(f"-m\\ {module}" for module in QUICKER)
    commands = {
        "dvc": f'exec {quick} -m dvc "$@"\n',
        "python": f'case "$1 $2" in {cases}) exec {quick} "$@" ;; esac\n'
        f'exec {shlex.quote(sys.executable)} "$@"\n',
    }
    for name, script in commands.items():
        (made / name).write_text(f"#!/bin/sh\n{script}")
        (made / name).chmod(0o755)
    return made
