"""Saves every stage of a comparison the import of PyTorch, and DVC its own imports.

An experiment starts Python four times: for DVC and for three stages. Imports are two
thirds of the time of the textbook run. So one process imports the libraries, and every
`python -m ...` of an experiment is a fork of it. Each fork reads the stages' code from
its own checkout.

PyTorch chooses kernels by environment variables when it is imported. They are set for
that process, and a stage that needs others stops (core/training/numerics.py).
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).with_name("preloaded_python.py")

# Slow imports of DVC and the stages. A library that is not listed is imported where
# it is needed, as usual.
LIBRARIES = (
    "torch",
    "numpy",
    "pandas",
    "pydantic",
    "ruamel.yaml",
    "jinja2",
    "PIL.ImageDraw",
    "PIL.ImageFont",
    "tqdm",
    "dvc.cli",
    "dvc.commands.repro",
    "dvc.repo.reproduce",
    "dvc.stage.run",
)


@contextmanager
def preloaded(
    variables: Mapping[str, str],
    environment: Mapping[str, str],
    libraries: Iterable[str] = LIBRARIES,
) -> Iterator[Path]:
    """Yield a folder with a `python` that has imported `libraries`.

    Where that is not possible, yield the folder of this Python.

    Args:
        variables: the environment variables that the import needs; every process of this
            `python` has them.
        environment: all others.
        libraries: names of modules; one that is not installed is left out.
    """
    with tempfile.TemporaryDirectory(prefix="samebits-") as made:
        folder = Path(made)
        # A copy, so that an edit of the program does not affect what runs.
        program = Path(shutil.copy(PROGRAM, folder))
        address = folder / "socket"
        words = [sys.executable, "-I", "-S", str(program), "call", str(address)]
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        python.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                listener.bind(str(address))
            except OSError:  # the temporary folder is too deep for the name of a socket
                yield Path(sys.executable).parent
                return
            listener.listen(128)  # calls wait here until the libraries are imported
            number = str(listener.fileno())
            server = subprocess.Popen(
                [sys.executable, "-P", str(program), "serve", number, *libraries],
                env={**environment, **variables, "PRELOADED_WITH": " ".join(variables)},
                stdin=subprocess.PIPE,  # closes when this process ends, which ends the server
                stdout=subprocess.DEVNULL,
                cwd=os.sep,
                pass_fds=[listener.fileno()],
                process_group=0,  # Ctrl-C is for this process to handle
            )
        try:
            yield folder
        finally:
            assert server.stdin
            server.stdin.close()
            server.wait()
