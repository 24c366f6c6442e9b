"""The rank of this process among several, as a launcher sets it.

The variables are those that PyTorch's `env://` initialization reads and torchrun
sets ("torchrun (Elastic Launch)", in PyTorch's documentation). Without them the
process is the only one.
"""

import os
from typing import NamedTuple

LAUNCHER = "TORCHELASTIC_RUN_ID"  # in the environment of a process that torchrun started


class ProcessRank(NamedTuple):
    """One process among those that run a stage together."""

    rank: int = 0  # of all processes, from 0 on
    world_size: int = 1  # all processes
    local_rank: int = 0  # of those of this machine, from 0 on
    local_world_size: int = 1  # those of this machine


def current() -> ProcessRank:
    """Return the rank of this process."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not all(name in os.environ for name in names):
        return ProcessRank()
    return ProcessRank(*(int(os.environ[name]) for name in names))
