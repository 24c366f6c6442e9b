"""The numerics are pinned before torch is imported, each time in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.training import numerics

ROOT = Path(__file__).parents[3]
UNPINNED = {"MKL_CBWR": None, "ATEN_CPU_CAPABILITY": None, "ONEDNN_MAX_CPU_ISA": None}
PROCESS = """
import json, os, sys
from core.training import numerics

def report():
    import torch
    print(json.dumps({
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "fills": torch.utils.deterministic.fill_uninitialized_memory,
        "variables": {name: os.environ.get(name) for name in numerics.PORTABLE_KERNELS},
    }))
"""


def run(code: str, **variables: str) -> tuple[list[Any], str]:
    """Run `code` in a process without pins; return its reports and its standard error."""
    inherited = {name: value for name, value in os.environ.items() if name not in UNPINNED}
    done = subprocess.run(
        [sys.executable, "-c", PROCESS + code],
        cwd=ROOT,
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture(scope="module")
def unpinned() -> tuple[Any, str]:
    """What torch chooses by itself, and what a pin after its import raises."""
    [found], shown = run('report(); numerics.pin("portable", None)')
    return found, shown


def test_a_pin_after_the_import_of_torch_is_refused(unpinned: tuple[Any, str]) -> None:
    assert unpinned[1].endswith(
        "core.pipeline.errors.SetupError: torch was imported before its kernels were pinned\n"
        "  expected: MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41\n"
        "  found:    MKL_CBWR= ATEN_CPU_CAPABILITY= ONEDNN_MAX_CPU_ISA=\n"
        "  next:     call core.training.numerics.pin before anything that imports torch\n"
    )


def test_portable_is_one_thread_and_the_kernels_that_every_processor_has() -> None:
    # What a shell sets does not count; the same pin twice is no mistake, another one is.
    [first, second], shown = run(
        'numerics.pin("portable", None); report()\n'
        'numerics.pin("portable", None); report()\n'
        'numerics.pin("fast", None)',
        MKL_CBWR="AVX2",
        OMP_NUM_THREADS="2",
    )

    assert first == second
    assert first["threads"] == 1
    assert first["capability"] == "DEFAULT"
    assert first["variables"] == {
        "MKL_CBWR": "COMPATIBLE",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    }
    assert "SetupError: torch was imported before its kernels were pinned\n" in shown


def test_fast_is_the_threads_asked_for_and_the_processors_own_kernels(
    unpinned: tuple[Any, str],
) -> None:
    # The variables are what a shell, or a test, may hand on by accident.
    [all_threads, three_threads], shown = run(
        'numerics.pin("fast", None); report()\nnumerics.pin("fast", 3); report()',
        ATEN_CPU_CAPABILITY="default",
        OMP_NUM_THREADS="1",
    )

    assert (all_threads["threads"], three_threads["threads"]) == (os.cpu_count(), 3)
    assert all_threads["deterministic"] is True
    assert all_threads["fills"] is False
    assert all_threads["variables"] == UNPINNED
    assert all_threads["capability"] == unpinned[0]["capability"]
    assert shown == ""


@pytest.mark.parametrize(
    ("kind", "threads", "parts", "calls"),
    [
        # Portable: a call computes with one thread, so the threads share the calls.
        ("portable", 4, None, 4),
        ("portable", 4, 2, 4),
        ("portable", 1, 8, 1),
        # Fast: as many as there are parts; what threads remain work within the calls.
        ("fast", 4, None, 1),
        ("fast", 4, 1, 1),
        ("fast", 4, 2, 2),
        ("fast", 2, 8, 2),
    ],
)
def test_as_many_calls_run_at_once_as_threads_and_parts_allow(
    kind: str, threads: int, parts: int | None, calls: int
) -> None:
    assert numerics.calls_at_once(kind, threads, parts) == calls


def test_without_a_number_of_threads_there_is_one_for_each_processor_of_the_process() -> None:
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    assert numerics.processors() == mine
    assert numerics.calls_at_once("portable", None) == mine
    assert numerics.calls_at_once("fast", None, 1000) == mine
