"""Runs Python as on another x86-64 processor, by user-mode emulation with qemu.

The emulated processor has only the instructions of its model, so libraries choose the
kernels that they would choose there, down to those of the C library.
"""

import platform
import shutil
import subprocess
import sys

from core.pipeline.errors import SetupError

# Variables that choose the kernels of a library. Values for the real processor are wrong
# for the emulated one: with OPENBLAS_CORETYPE=Haswell, import numpy ends with an illegal
# instruction on a Nehalem.
KERNEL_VARIABLES = (
    "GLIBC_TUNABLES",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
)


def command(model: str) -> list[str]:
    """Return the prefix of a command that runs it on an emulated processor.

    Args:
        model: a name that `qemu-x86_64 -cpu help` lists, such as Nehalem, Haswell or max
            (everything that qemu can emulate).

    Raises:
        SetupError: qemu is missing, does not know the model, or cannot
            emulate this Python.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SetupError(
            "--cpu needs Linux on an x86-64 processor",
            found=f"{platform.system()} on {platform.machine()}",
            todo="run it in a container or on a machine with Linux; without --cpu it runs here",
        )
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if qemu is None:
        raise SetupError(
            "--cpu needs qemu-x86_64, which is not installed",
            todo="apt-get install qemu-user",
        )
    prefix = [qemu, "-cpu", model]
    tried = subprocess.run(
        [*prefix, sys.executable, "-c", ""], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        raise SetupError(
            f"{qemu} does not run this Python as on a {model}",
            found=tried.stderr.strip() or f"status {tried.returncode}",
            todo="choose another model: qemu-x86_64 -cpu help lists them",
        )
    return prefix
