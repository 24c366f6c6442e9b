"""Applies an experiment to this folder, unless that would drop an edit.

    python -m tools.apply lr-0.1

`dvc exp apply` replaces uncommitted edits by the files of the experiment, without a word.
So this compares first: an edit that neither the experiment nor another one has is named,
and nothing is done.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from core.pipeline.errors import ParamsError, PipelineError, SetupError
from core.pipeline.runner import run
from tools.experiments import store
from tools.repository import added_data, git

MOST_NAMES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="of an experiment")


def main(name: str | None) -> None:
    """Check that no edit is dropped, and apply the experiment.

    Raises:
        ParamsError: there is no such experiment.
        SetupError: it would replace uncommitted edits.
    """
    root = Path.cwd()
    commit = store.named(root, name) if name else None
    if name is None or commit is None:
        raise ParamsError(
            f"there is no experiment {name}" if name else "no experiment is named",
            expected="the name of an experiment: make apply NAME=lr-0.1",
            todo="dvc exp list --all-commits lists them",
        )
    dropped = edits(root, commit)
    if dropped:
        more = f"\nand {len(dropped) - MOST_NAMES} more" if dropped[MOST_NAMES:] else ""
        raise SetupError(
            f"applying {name} would drop uncommitted changes",
            found="\n".join(dropped[:MOST_NAMES]) + more,
            todo="git commit them; or git stash, and git stash pop brings them back after it",
        )
    listed = git.run("ls-files", "-z", cwd=root).split(b"\0")
    added_data.check_unchanged(root, added_data.records(map(os.fsdecode, listed)))
    applied = subprocess.run([sys.executable, "-m", "dvc", "exp", "apply", name], check=False)
    if applied.returncode != 0:
        raise PipelineError(f"DVC could not apply {name}", todo="read what it says above")
    print("next  git commit --all keeps it; git checkout . && dvc checkout goes back")


def edits(root: Path, commit: str) -> list[str]:
    """Return the edited files that an experiment would replace, of the whole repository.

    Args:
        root: of the project.
        commit: of the experiment.
    """
    top = Path(git.line("rev-parse", "--show-toplevel", cwd=root))
    changed, differing = (
        _names(git.run("diff", "--name-only", "--no-renames", "-z", other, cwd=top))
        for other in ("HEAD", commit)
    )
    untracked = _names(git.run("ls-files", "--others", "--exclude-standard", "-z", cwd=top))
    theirs = _names(git.run("ls-tree", "-r", "-z", "--name-only", commit, cwd=top))
    replaced = {
        name
        for name in untracked & theirs
        if (top / name).read_bytes() != git.run("cat-file", "blob", f"{commit}:{name}", cwd=top)
    }
    tracked = changed & differing
    if tracked and store.is_stored(root):  # as the last experiment left them
        tracked = set()
    return sorted(tracked | replaced)


def _names(listed: bytes) -> set[str]:
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}


if __name__ == "__main__":
    run(main, add_arguments)
