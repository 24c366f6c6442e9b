"""A `python` whose stages start at once, for the many that tests run.

Importing PyTorch takes longer than a stage on a few hundred images. As
`python -m tools.compare` does, one process of each test worker imports it, and the
stages that need it are copies of that process, which read the project's own code from
their own folder. All other commands are left to Python itself, which is quicker there.
"""

import atexit
import functools
import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

from core.training import numerics
from tools.experiments.preloaded import preloaded


@functools.cache
def folder() -> Path:
    """Return the folder of this `python`; it is there until this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    variables = numerics.PORTABLE_KERNELS | numerics.WAITING
    made = stack.enter_context(preloaded(variables, os.environ))
    if made == Path(sys.executable).parent:  # there is no quick one here
        return made
    quick = (made / "python").rename(made / "quick")
    python = made / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$1 $2" in -m\\ stages.train|-m\\ stages.evaluate|-m\\ stages.test_report)\n'
        f'  exec {shlex.quote(str(quick))} "$@" ;;\n'
        "esac\n"
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    return made
