"""Runs a stage's or a tool's `main()` as a command.

A user's mistake ends in a few lines on standard error and status 1; a bug of
ours keeps its traceback. The code that runs must be the code in the working
directory, because that is the code whose hashes DVC records: an editable
install or a path entry of another copy would make `dvc.lock` lie.
"""

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import core
from core.errors import PipelineError, SetupError


def run(main: Callable[[], None]) -> NoReturn:
    """Run `main` and exit: 0 when it returns, 1 on a user's mistake, 130 on Ctrl-C.

    Args:
        main: a function of a stage. The first paragraph of its module's
            docstring is what `--help` prints.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{Path(sys.argv[0]).stem}",
        description=(sys.modules[main.__module__].__doc__ or "").split("\n\n")[0],
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    try:
        check_source(Path.cwd())
        main()
    except PipelineError as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def check_source(working_directory: Path) -> None:
    """Refuse to run `core` from anywhere but the working directory.

    Raises:
        SetupError: `core` was imported from another copy of the project.
    """
    imported_from = Path(core.__file__ or "").resolve().parents[1]
    if imported_from != working_directory.resolve():
        raise SetupError(
            "the code that runs is not the code in this folder",
            expected=f"core/ from {working_directory}",
            found=f"core/ from {imported_from}",
            todo="run it from the root of the repository; remove any installed copy of "
            "the project (pip uninstall) and PYTHONPATH entries that lead to one",
        )
