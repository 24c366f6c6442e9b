"""Lists the experiments in DVC's own table, with the columns that matter.

    python -m tools.list_experiments        those of the last commit
    python -m tools.list_experiments -n 3   those of the last three

DVC has a column for every parameter, metric and file, a hundred in all. What tells
experiments apart are the measures on the validation images, which choose, and the
parameters in which they differ; of these, as many as the terminal is wide.
"""

import argparse
import csv
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from core.pipeline import wording
from core.pipeline.errors import SetupError
from core.pipeline.params import PARAMS_FILE
from core.pipeline.runner import run
from tools.repository import freshness, snapshots

SHOW = [sys.executable, "-m", "dvc", "exp", "show"]
NAME = "Experiment"
STATE = "State"  # of experiments in DVC's queue
BEST_BY = "val.accuracy"
SEED = "train.seed"  # left out first: names of experiments have it

# What DVC's table has besides the text of its cells.
TREE = len("├── 0123456 []")
GAP = 3
EDGES = 4

Row = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choice of commits, named as by DVC."""
    parser.add_argument("-n", "--num", metavar="N", default="1", help="of the last N commits")
    parser.add_argument("-A", "--all-commits", action="store_true", help="of all commits")


def main(num: str, all_commits: bool) -> None:
    """Print the table."""
    options = ["--all-commits"] if all_commits else ["--num", num]
    asked = subprocess.run([*SHOW, "--csv", *options], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise SetupError(
            "DVC lists no experiments",
            found=asked.stderr.strip(),
            where=str(Path.cwd()),
            todo="dvc exp show, with options, says more",
        )
    rows = list(csv.DictReader(io.StringIO(asked.stdout)))
    params = snapshots.working_tree().yaml(PARAMS_FILE.name) or {}
    shown, left_out = columns(
        rows, [name for name, _ in freshness.leaves(params)], shutil.get_terminal_size().columns
    )
    kept = "|".join(map(re.escape, [NAME, *shown]))
    order = ["--sort-by", BEST_BY, "--sort-order", "desc"] if BEST_BY in shown else []
    table = [*SHOW, "--no-pager", "--drop", ".*", "--keep", f"^({kept})$", *order, *options]
    sys.stdout.flush()
    if subprocess.run(table, check=False).returncode != 0:
        raise SetupError("DVC did not draw the table", todo="dvc exp show draws all of it")
    if left_out:
        print(f"not shown for lack of width: {wording.listed(left_out)}; dvc exp show has all")


def columns(rows: Sequence[Row], params: Sequence[str], width: int) -> tuple[list[str], list[str]]:
    """Choose the columns of the table.

    Args:
        rows: of DVC's table, a row for the working tree, each commit and each experiment.
        params: the names of the parameters, in their order.
        width: of the terminal, in characters.

    Returns:
        Those that fit, and the parameters that differ and do not.
    """
    every = list(rows[0]) if rows else []
    shown = [name for name in every if name.startswith("val.")]
    shown = [STATE] * any(row.get(STATE) for row in rows) + shown
    differing = [name for name in params if len({row.get(name, "") for row in rows}) > 1]
    differing.sort(key=lambda name: name == SEED)
    names = max((TREE + len(row[NAME]) for row in rows if row[NAME]), default=len("workspace"))
    used = EDGES + names + sum(GAP + _width(rows, name) for name in shown)
    left_out = []
    for name in differing:
        if used + GAP + _width(rows, name) <= width:
            used += GAP + _width(rows, name)
            shown.append(name)
        else:
            left_out.append(name)
    return shown, left_out


def _width(rows: Sequence[Row], name: str) -> int:
    # DVC writes a dash where there is nothing, and rounds metrics to five digits.
    limit = 8 if name.startswith("val.") else None
    return max(len(name), *(len(row.get(name, "")[:limit]) for row in rows))


if __name__ == "__main__":
    run(main, add_arguments)
