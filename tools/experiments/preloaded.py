"""Spares every stage of a comparison the import of PyTorch, and DVC its own.

An experiment starts Python four times: once for DVC and for each of three
stages. Importing is two thirds of what the textbook's training takes then. So
one process imports the libraries, and every `python -m ...` of an experiment
becomes a copy of it. The stages' own code is read by each copy from its own
checkout, as always.

Kernels are chosen by variables that are read when PyTorch is imported: they are
set for that process, and a stage that needs others stops (core/training/numerics.py).
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).with_name("preloaded_python.py")

# What DVC and the stages import that takes time. One that is missing here is
# imported by those that need it, as it would be without any of this.
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
def preloaded(variables: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[Path]:
    """Offer a folder with a `python` that need not import `LIBRARIES` any more.

    Where that is not possible, the folder of this very Python.

    Args:
        variables: what has to be set when the libraries are imported, and stays
            set in all that this `python` runs.
        environment: everything else that it is started with.
    """
    with tempfile.TemporaryDirectory(prefix="samebits-") as made:
        folder = Path(made)
        # A copy of the program: an edit of it does not reach what runs.
        program = Path(shutil.copy(PROGRAM, folder))
        address = folder / "socket"
        words = [sys.executable, "-I", "-S", str(program), "call", str(address)]
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        python.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                listener.bind(str(address))
            except OSError:  # where temporary files lie too deep for the name of a socket
                yield Path(sys.executable).parent
                return
            listener.listen(128)  # calls wait here until the libraries are imported
            number = str(listener.fileno())
            server = subprocess.Popen(
                [sys.executable, "-P", str(program), "serve", number, *LIBRARIES],
                env={**environment, **variables, "PRELOADED_WITH": " ".join(variables)},
                stdin=subprocess.PIPE,  # its end, even when this process is killed, ends the server
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
