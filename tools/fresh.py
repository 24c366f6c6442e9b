"""Checks, from git alone, whether dvc.lock and metrics/ belong to the code and the parameters.

    python -m tools.fresh              the working tree
    python -m tools.fresh main         any commit

Reads:  dvc.yaml, dvc.lock, and the files in git that they name
Writes: nothing

Exits with 0 if nothing is stale, 1 if something is, 2 if it cannot tell.
"""

import argparse
import sys

from core.pipeline.errors import PipelineError
from core.pipeline.runner import run
from tools.repository import freshness, snapshots


def main(revision: str | None) -> None:
    """Print what is stale and exit with the status that says so."""
    try:
        snapshot = snapshots.revision(revision) if revision else snapshots.working_tree()
        found = freshness.findings(snapshot)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if not found:
        belong = "belong to the code and the parameters of"
        print(f"{freshness.LOCK} and metrics/ {belong} {snapshot.name}")
        return
    print(f"{freshness.LOCK} does not belong to {snapshot.name}:")
    widths = [max(len(finding[column]) for finding in found) for column in (0, 1)]
    for stage, what, how in found:
        print(f"  {stage:<{widths[0]}}  {what:<{widths[1]}}  {how}")
    print("next: dvc repro, and commit dvc.lock and metrics/")
    sys.stdout.flush()
    sys.exit(1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which state of the project is checked."""
    parser.add_argument(
        "revision", nargs="?", help="a branch, a tag or a commit; default: the working tree"
    )


if __name__ == "__main__":
    run(main, add_arguments)
