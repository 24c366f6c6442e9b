"""Gets what others computed from this commit, so that nothing of it is computed again.

    python -m tools.share.pull

The other side of tools/share/__main__.py: the data of this revision, in place; the objects of
the experiments of this commit and their entries of the run cache, in DVC's cache; and
the experiments themselves, those that diverged too. `dvc pull` gets the first alone.

Every object is compared with its hash before it gets its name: a byte that was
flipped on the remote is named and never used.
"""

import argparse
import signal

from core.pipeline.errors import DataError, PipelineError, SetupError
from core.pipeline.runner import run
from tools.experiments import outputs
from tools.repository import git
from tools.share import exchange, remote
from tools.share.messages import FEW, add_revision, amount, count_files, is_or_are, told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_revision(parser)
    parser.add_argument(
        "--force", action="store_true", help="replace experiments that are different here"
    )


def main(revision: str, force: bool, git_remote: str) -> None:
    """Get what is not here yet, and say what there is.

    Raises:
        DataError: an object is damaged on the remote, or was never shared; all others
            are here.
        PipelineError: the remote, or git's, cannot be reached or read.
    """
    commit = git.commit_of(revision)
    storage = remote.opened()
    names = exchange.names_of(git_remote)
    exchanged = exchange.get(git_remote, names, commit, force=force)
    cache = outputs.opened()
    runs = outputs.of_revision(commit)
    cache.complete(runs)

    wanted = {md5: path for each in reversed(runs) for md5, path in each.objects().items()}
    lacking = [md5 for md5 in wanted if not cache.has(md5)]
    sums = {storage.object(md5): md5 for md5 in lacking}
    damaged = storage.get(sums, {path: cache.object(md5) for path, md5 in sums.items()})
    here = {md5 for md5 in wanted if cache.has(md5)}
    cache.add_entries(cache.entries(runs, here))
    if commit == git.commit_of("HEAD"):
        check_out()

    got = [cache.object(md5).stat().st_size for md5 in lacking if md5 in here]
    print(f"remote  {storage.url}")
    print(f"data    got {amount(got)}, {len(here) - len(got)} here already")
    print(f"runs    {told(exchanged, 'got from', git_remote, 'here')}")
    for name in exchanged.different:
        print(f"but     {name} is different there, and yours stays; --force replaces it")
    if damaged:
        raise refusal(storage.url, {sums[path]: md5 for path, md5 in damaged.items()}, runs)
    print("next    dvc repro runs no stage, and make compare no experiment that is here")


def check_out() -> None:
    """Put the outputs of dvc.lock in place, as `dvc checkout` does.

    Raises:
        SetupError: that would replace a file that is nowhere else.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.checkout(allow_missing=True)
    except DvcException as error:
        raise SetupError(
            "the data came, and could not be put in place",
            found=str(error),
            todo="dvc status says what was changed here; dvc checkout --force replaces it",
        ) from error


def refusal(url: str, damaged: dict[str, str], runs: list[outputs.Run]) -> PipelineError:
    """Return the error that names what is damaged on the remote, or is not there.

    Args:
        url: of the remote.
        damaged: for each object its MD5 there; empty if it is gone.
        runs: that need them.
    """
    found = []
    for md5, actual in sorted(damaged.items()):
        needed = next((each, each.objects()[md5]) for each in runs if md5 in each.objects())
        how = f"damaged\nits MD5 there is {actual}" if actual else "not there"
        found.append(f"{needed[1]} of {needed[0].name}\nobject {md5}: {how}")
    if len(found) > FEW:
        found[FEW:] = [f"and {len(found) - FEW} more"]
    state = "damaged" if any(damaged.values()) else "not"
    return DataError(
        f"{count_files(len(damaged))} that this needs {is_or_are(damaged)} {state} on the remote",
        found="\n".join(found),
        where=url,
        todo="whoever has it: make share ARGS=--verify. If nobody has: dvc repro makes it\n"
        "anew, to the same bits (an experiment's after dvc exp apply), then the same",
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
