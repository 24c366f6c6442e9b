"""Runs notebooks/explore.ipynb from the start and saves it with its outputs.

The file records neither when nor where nor with which Python it ran, so a rerun
gives the same file, and its diff shows only what changed.
"""

import os
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from core.pipeline import files
from core.pipeline.errors import SetupError
from core.pipeline.runner import run

NOTEBOOK = Path("notebooks/explore.ipynb")
SECONDS = 600  # that a cell may take: a few on a quiet machine, many on a busy one

# What the notebook format requires.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> None:
    """Run the notebook, and replace it if all of its cells ran."""
    files.write_text(NOTEBOOK, executed(NOTEBOOK, folder=NOTEBOOK.parent))
    print(f"{NOTEBOOK} ran; its outputs are saved")


def executed(notebook: Path, *, folder: Path) -> str:
    """Run a notebook in a new kernel of this Python, and return it with its outputs.

    Args:
        notebook: the file; it stays as it is.
        folder: where the kernel starts. Jupyter takes that of the notebook.

    Raises:
        SetupError: a cell raised an error; says which one, and what.
    """
    content = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as private:
        client = NotebookClient(
            content,
            timeout=SECONDS,
            record_timing=False,
            coalesce_streams=True,  # a cell's lines may come in several messages
            resources={"metadata": {"path": str(folder)}},
        )
        kernel = client.create_kernel_manager()
        # Without installed kernels, Jupyter starts one of this Python.
        kernel.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
        kernel.connection_file = str(Path(private) / "kernel.json")
        kernel.transport_encryption = "required"  # others on this machine could listen
        try:
            # Without the user's own startup files of IPython.
            client.execute(env={**os.environ, "IPYTHONDIR": private})
        except CellExecutionError as error:
            raise SetupError(
                f"a cell of {notebook} failed",
                found=f"{error.ename}: {error.evalue}",
                todo="open it and run it cell by cell",
            ) from error
    content.metadata = METADATA
    for cell in content.cells:
        cell.metadata = {}
    return str(nbformat.writes(content)) + "\n"  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    run(main)
