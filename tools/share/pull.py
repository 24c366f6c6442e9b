"""Gets the outputs that others computed from this commit, so that nothing is computed again.

    python -m tools.share.pull

The counterpart of tools/share/__main__.py. It gets the data of this revision into the
working tree; the objects of its experiments and their entries of the run cache into DVC's
cache; and the experiments, diverged ones too. `dvc pull` gets only the data.

Every object is compared with its hash before it gets its final name: a damaged one is
reported and never used.
"""

import argparse
import signal
from collections.abc import Sequence

from core.pipeline.errors import DataError, PipelineError, SetupError
from core.pipeline.runner import run
from tools.experiments import outputs
from tools.experiments.outputs import Cache
from tools.repository import git
from tools.repository.added_data import FOLDER
from tools.share import exchange, remote
from tools.share.messages import MOST_NAMES, add_revision, amount, count_files, is_or_are, summary
from tools.share.storage import Storage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_revision(parser)
    parser.add_argument(
        "--force", action="store_true", help="replace experiments that are different here"
    )


def main(revision: str, force: bool, git_remote: str) -> None:
    """Get what is missing here, and report it.

    Raises:
        DataError: an object is damaged on the remote, or was never shared; all others
            were fetched.
        PipelineError: the remote or the git remote cannot be reached or read.
    """
    commit = git.commit_of(revision)
    storage = remote.opened()
    names = exchange.names_of(git_remote)
    exchanged = exchange.get(git_remote, names, commit, force=force)
    cache = outputs.opened()
    runs = outputs.of_revision(commit)
    cache.complete(runs)

    wanted = {md5: path for each in reversed(runs) for md5, path in each.objects().items()}
    folders = [md5 for md5 in wanted if md5.endswith(FOLDER) and not cache.has(md5)]
    damaged = fetch(storage, cache, folders)  # first, because they list further objects
    wanted = cache.expanded(wanted)
    files = [md5 for md5 in wanted if not md5.endswith(FOLDER) and not cache.has(md5)]
    damaged |= fetch(storage, cache, files)
    missing = [*folders, *files]
    here = {md5 for md5 in wanted if cache.has(md5)}
    cache.add_entries(cache.entries(runs, here))
    if commit == git.commit_of("HEAD"):
        check_out()

    got = [cache.object(md5).stat().st_size for md5 in missing if md5 in here]
    print(f"remote  {storage.url}")
    print(f"data    got {amount(got)}, {len(here) - len(got)} here already")
    print(f"runs    {summary(exchanged, 'got from', git_remote, 'here')}")
    for name in exchanged.different:
        print(f"but     {name} is different there and yours was kept; --force replaces it")
    if damaged:
        raise refusal(storage.url, damaged, runs, cache)
    print("next    dvc repro runs no stage, and make compare no experiment that is here")


def fetch(storage: Storage, cache: Cache, objects: Sequence[str]) -> dict[str, str]:
    """Get objects into the cache; return for each damaged one its MD5 there, empty if missing."""
    sums = {storage.object(md5): md5 for md5 in objects}
    damaged = storage.get(sums, {path: cache.object(md5) for path, md5 in sums.items()})
    return {sums[path]: md5 for path, md5 in damaged.items()}


def check_out() -> None:
    """Check out the outputs of dvc.lock, as `dvc checkout` does.

    Raises:
        SetupError: that would replace a file that exists nowhere else.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.checkout(allow_missing=True)
    except DvcException as error:
        raise SetupError(
            "the data was fetched, but could not be checked out",
            found=str(error),
            todo="dvc status lists local changes; dvc checkout --force replaces them",
        ) from error


def refusal(
    url: str, damaged: dict[str, str], runs: Sequence[outputs.Run], cache: Cache
) -> PipelineError:
    """Return the error that names the objects that are damaged or missing on the remote.

    Args:
        url: of the remote.
        damaged: for each object its MD5 there; empty if it is gone.
        runs: that need them.
        cache: lists the files in folders.
    """
    objects = [(each.name, cache.expanded(each.objects())) for each in runs]
    found = []
    for md5, actual in sorted(damaged.items()):
        name, path = next((name, paths[md5]) for name, paths in objects if md5 in paths)
        how = f"damaged\nits MD5 there is {actual}" if actual else "missing"
        found.append(f"{path} of {name}\nobject {md5}: {how}")
    if len(found) > MOST_NAMES:
        found[MOST_NAMES:] = [f"and {len(found) - MOST_NAMES} more"]
    state = "damaged" if any(damaged.values()) else "missing"
    return DataError(
        f"{count_files(len(damaged))} of this commit {is_or_are(damaged)} {state} on the remote",
        found="\n".join(found),
        where=url,
        todo="whoever has it: make share ARGS=--verify. If nobody has: dvc repro recreates it\n"
        "(after make apply, for an experiment), then make share ARGS=--verify",
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
