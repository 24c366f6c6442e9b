"""Arguments and messages that the sharing commands have in common."""

import argparse
from collections.abc import Sequence, Sized

from tqdm import tqdm

from tools.share import exchange

MOST_NAMES = 5  # in a message; the rest is counted


def add_revision(parser: argparse.ArgumentParser) -> None:
    """Add the revision and the git remote."""
    parser.add_argument(
        "revision", nargs="?", default="HEAD", help="a branch, a tag or a commit; default: HEAD"
    )
    parser.add_argument("--git-remote", default="origin", metavar="NAME", help="default: origin")


def summary(exchanged: exchange.Exchanged, how: str, git_remote: str, place: str) -> str:
    """Summarize an exchange: `3 experiments sent to origin, 0 there already`."""
    moved, existing = len(exchanged.moved), len(exchanged.existing)
    noun = "experiment" if moved == 1 else "experiments"
    return f"{moved} {noun} {how} {git_remote}, {existing} {place} already"


def count_files(count: int) -> str:
    """Write how many files there are."""
    return f"{count:,} file{'' if count == 1 else 's'}"


def is_or_are(things: Sized) -> str:
    """Choose the verb for one thing or for several."""
    return "is" if len(things) == 1 else "are"


def amount(sizes: Sequence[int]) -> str:
    """Write the number and the total size of files: `2 files (1.5 kB)`."""
    total = tqdm.format_sizeof(sum(sizes), "B") if sizes else ""
    return f"{count_files(len(sizes))}{f' ({total})' if sizes else ''}"
