"""Runs a stage's or a tool's `main()` as a command.

A user's mistake ends in a few lines on standard error and status 1, and so does
what the system refuses: a full disk, a missing permission. A bug of ours keeps
its traceback. The code that runs must be the code in the working directory,
whose hashes DVC records: with an editable install or a path entry of another copy,
`dvc.lock` would be wrong.
"""

import argparse
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import core
from core.pipeline import orphans, process_rank, stage_lock
from core.pipeline.errors import PipelineError, SetupError, StorageError
from core.pipeline.visible import visible

# What to do when the system refuses something.
MAKE_ROOM = "make room there and run it again"
FIX_PERMISSIONS = "fix the permissions there and run it again"
TODO = {
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: MAKE_ROOM,
    errno.EFBIG: MAKE_ROOM,
    errno.EACCES: FIX_PERMISSIONS,
    errno.EPERM: FIX_PERMISSIONS,
    errno.EROFS: FIX_PERMISSIONS,
}
# PyTorch's messages when memory runs out on a processor or a GPU, or a tensor is
# larger than any memory.
NO_MEMORY = re.compile(r"(can't allocate|out of|not enough) memory|size.*overflow|numel.*overflow")


class Parser(argparse.ArgumentParser):
    """Shows what cannot be seen in an argument that it refuses."""

    def error(self, message: str) -> NoReturn:
        """Print how to use the command and what is wrong, and exit with status 2."""
        super().error(visible(message))


def run(
    main: Callable[..., None],
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> NoReturn:
    """Run `main` and exit.

    The status is 0 when `main` returns, 1 on a user's mistake or when the system
    refuses something, 130 on Ctrl-C, and 141 when the reader of the output is
    gone (`| head`).

    Args:
        main: a function of a stage or a tool. The first paragraph of its
            module's docstring is what `--help` prints.
        add_arguments: adds what the command takes besides `--debug` and `--help`;
            `main` gets each of them under its own name.
    """
    _make_printable()
    module = sys.modules[main.__module__]
    parser = Parser(
        prog=f"python -m {_name(module)}" if module.__spec__ else None,
        description=(module.__doc__ or "").split("\n\n")[0],
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if add_arguments:
        add_arguments(parser)
    arguments = vars(parser.parse_intermixed_args())  # options may stand between the others
    debug = arguments.pop("debug")
    _make_printable()
    status = 0
    try:
        check_source(Path.cwd(), core, module)
        with _exclusive(module):
            main(**arguments)
        print(end="", flush=True)
    except PipelineError as error:
        status = _fail(error, debug)
    except BrokenPipeError:
        status = 141
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
            raise
        status = _fail(_no_memory(error), debug)
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the system
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        status = _fail(PipelineError(what, todo=TODO.get(error.errno, "")), debug)
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        status = 130
    if status:
        _discard_unwritable_output()
    sys.exit(status)


def _make_printable() -> None:
    """Make printing safe where the locale lacks a character (± or →) or an output is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent: >&-
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _exclusive(module: ModuleType) -> AbstractContextManager[object]:
    """Hold the stage lock of this folder while `module` runs, if it is a stage."""
    file = Path(module.__file__ or "")
    if "DVC_STAGE" in os.environ:  # set by DVC for the stages that it runs
        orphans.end_with_dvc()
    # Of the processes of a distributed stage, one on each machine takes the lock.
    if file.parent.name != "stages" or process_rank.current().local_rank > 0:
        return nullcontext()
    return stage_lock.wait_for_other_stages(f"stages.{file.stem}") or nullcontext()


def _fail(error: PipelineError, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if process_rank.current().local_rank == 0:  # the others of this machine would repeat it
        print(f"error: {error}", file=sys.stderr)
    return 1


def _no_memory(error: BaseException) -> StorageError:
    size = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    return StorageError(
        "there is not enough memory",
        found=f"{size[1]} more were asked for" if size else "",
        todo="lower the sizes in params.yaml (of model, train.batch_size, train.augment), "
        "or run it where there is more memory",
    )


def _discard_unwritable_output() -> None:
    try:
        print(end="", flush=True)
    except OSError:  # Python would try again when it exits, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_source(working_directory: Path, *modules: ModuleType) -> None:
    """Refuse to run code from anywhere but the working directory.

    Raises:
        SetupError: one of `modules` was imported from another copy of the project.
    """
    for module in modules:
        imported_from = _imported_from(module)
        if imported_from != working_directory.resolve():
            name = _name(module)
            raise SetupError(
                "the code that runs is not the code in this folder",
                expected=f"{name} from {working_directory}",
                found=f"{name} from {imported_from}",
                todo="run it from the root of the repository; remove any installed copy of "
                "the project (pip uninstall) and PYTHONPATH entries that lead to one",
            )


def _name(module: ModuleType) -> str:
    """Return the name by which `python -m` runs a module."""
    name = module.__spec__.name if module.__spec__ else module.__name__
    return name.removesuffix(".__main__")


def _imported_from(module: ModuleType) -> Path:
    """Return the folder that a module was found in, by its dotted name."""
    file = Path(module.__file__ or "").resolve()
    if module.__spec__ is None:  # run as a file, of stages/
        return file.parents[1]
    package = file.parent if file.name == "__init__.py" else file
    return package.parents[module.__spec__.name.count(".")]
