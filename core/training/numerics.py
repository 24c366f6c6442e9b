"""Pins the numerics: the same bits on every processor, or the fastest kernels.

`portable` pins the kernels that every x86-64 processor has, and one thread, so
that a rebuild on any of them gives the same bits. PyTorch and the libraries in
it choose kernels by the processor they find, and split sums among threads;
both change the order of additions and with it the last bits.

The variables are read when torch is first imported or first computes, so call
`pin` before any import of torch: stages import what needs torch inside `main()`.
"""

import os
import sys

from core.pipeline import process_rank
from core.pipeline.errors import SetupError

PORTABLE_KERNELS = {
    # oneMKL's conditional numerical reproducibility: the code path that is the
    # same on all x86-64 processors (oneMKL developer guide, "Obtaining
    # Numerically Reproducible Results").
    "MKL_CBWR": "COMPATIBLE",
    # PyTorch's own kernels: those compiled without AVX
    # (aten/src/ATen/native/DispatchStub.cpp).
    "ATEN_CPU_CAPABILITY": "default",
    # oneDNN's kernels: at most SSE4.1 (oneDNN developer guide, "CPU Dispatcher
    # Control").
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}

# cuBLAS gives the same bits each time only with a workspace of a fixed size
# (cuBLAS documentation, "Results Reproducibility").
CUBLAS_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

# An idle thread spins for some microseconds and then sleeps. This changes no bit.
# With the default, which keeps spinning, an epoch of 0.1 s was seen to take 26 s
# next to another busy process; sleeping at once, it takes 0.4 s on an idle machine
# (libgomp manual, "GOMP_SPINCOUNT").
WAITING = {"GOMP_SPINCOUNT": "3000"}


def pin(numerics: str, threads: int | None, device: str = "cpu") -> None:
    """Pin the numerics of this process; call it before torch is imported.

    Args:
        numerics: `portable` or `fast`.
        threads: how many threads compute a sum, with `fast`; None means one for
            each processor. `portable` always uses one.
        device: `cpu`, or `cuda`, with `fast`.

    Raises:
        SetupError: torch was imported before, with other kernels, or there is
            no such device.
    """
    kernels = PORTABLE_KERNELS if numerics == "portable" else {}
    wrong = [name for name in PORTABLE_KERNELS if os.environ.get(name) != kernels.get(name)]
    if wrong and "torch" in sys.modules:
        raise SetupError(
            "torch was imported before its kernels were pinned",
            expected=" ".join(f"{name}={kernels.get(name, '')}" for name in wrong),
            found=" ".join(f"{name}={os.environ.get(name, '')}" for name in wrong),
            todo="call core.training.numerics.pin before anything that imports torch",
        )
    for name in PORTABLE_KERNELS:
        os.environ.pop(name, None)  # fast is the processor's choice, whatever the shell says
    os.environ.update(kernels | WAITING)
    if device == "cuda":
        os.environ.update(CUBLAS_WORKSPACE)

    import torch

    if numerics == "portable":
        torch.set_num_threads(1)
    else:
        torch.set_num_threads(threads or processors())
        torch.use_deterministic_algorithms(True)
        # Filling makes reads of uninitialized memory deterministic, and a step of the
        # cnn 4 to 7 % slower. No code here reads such memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device == "cuda" and not torch.cuda.is_available():
        raise SetupError(
            "PyTorch finds no GPU here",
            expected="an NVIDIA GPU and its driver  (train.device: cuda)",
            todo="set train.device: cpu",
        )


def calls_at_once(numerics: str, threads: int | None, parts: int | None = None) -> int:
    """Return how many calls may run in parallel.

    Args:
        numerics: `portable` or `fast`.
        threads: how many threads may compute; None means one for each processor.
        parts: into how many calls the work is divided, with `fast`, whose threads
            also work together within a call; None for one call.
    """
    threads = threads or processors()
    return threads if numerics == "portable" else min(threads, parts or 1)


def processors() -> int:
    """Return how many of the processors that it may use this process has to itself."""
    return max(1, _usable_processors() // process_rank.current().local_world_size)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
