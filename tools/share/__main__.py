"""Shares what this commit and its experiments computed, so that nobody computes it again.

    python -m tools.share
    python -m tools.share --verify     reads what is there already, and mends it

Sends the objects of dvc.lock, those of the experiments of this commit and the
entries of the run cache that belong to them to the team's remote (tools/share/remote.py),
and the experiments, those that diverged too, to the git remote. Commits are left to
`git push`. Whoever clones the repository gets all of it by tools/share/pull.py.
"""

import argparse
import signal
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from core.pipeline import provenance
from core.pipeline.errors import DataError
from core.pipeline.runner import run
from tools.experiments import outputs
from tools.experiments.outputs import Cache, Run
from tools.repository import freshness, git, snapshots
from tools.share import exchange, remote
from tools.share.messages import FEW, add_revision, amount, count_files, is_or_are, told
from tools.share.storage import Storage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_revision(parser)
    parser.add_argument(
        "--verify", action="store_true", help="read what is on the remote, and mend what is damaged"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace experiments that are different there"
    )


def main(revision: str, verify: bool, force: bool, git_remote: str) -> None:
    """Send what is not there yet, and say what was sent and what was not.

    Raises:
        DataError: dvc.lock does not belong to the code, or what it lists is not here.
        PipelineError: the remote, or git's, cannot be reached or written.
    """
    commit = git.commit_of(revision)
    check_lock(commit)
    storage = remote.opened()
    names = exchange.names_of(git_remote)
    cache = outputs.opened()
    runs = outputs.of_revision(commit)
    cache.complete(runs)

    wanted = {md5: path for each in runs for md5, path in each.objects().items()}
    sizes = storage.sizes([storage.object(md5) for md5 in wanted])
    there, cut_off = compare_sizes(storage, runs, sizes)
    damaged = set()
    if verify:
        sums = {storage.object(md5): md5 for md5 in there}
        damaged = {sums[path] for path in storage.get(sums, {})}
        there -= damaged
    here = {md5 for md5 in wanted.keys() - there if cache.has(md5)}
    check_cache(cache, here, wanted)
    lacking = wanted.keys() - there - here
    check_revision(runs[0], lacking, damaged)

    storage.send({storage.object(md5): cache.object(md5) for md5 in sorted(here)})
    entries = cache.entries(runs, there | here)
    send_entries(storage, entries)
    exchanged = exchange.send(git_remote, names, commit, force=force)

    print(f"remote  {storage.url}")
    sizes_sent = [cache.object(md5).stat().st_size for md5 in here]
    print(f"data    sent {amount(sizes_sent)}, {len(there)} there already")
    for kind, those in (("damaged", damaged & here), ("cut off", cut_off & here)):
        for md5 in sorted(those):
            print(f"mended  {wanted[md5]}, which was {kind} there")
    print(f"runs    {told(exchanged, 'sent to', git_remote, 'there')}")
    notes = not_shared(runs, lacking, exchanged, earlier(commit, names))
    for number, note in enumerate(notes):
        print(f"{'' if number else 'but':<8}{note}")
    for number, step in enumerate(steps(names, commit, git_remote)):
        print(f"{'' if number else 'next':<8}{step}")
    lost = sorted(wanted[md5] for md5 in (damaged | cut_off) & lacking)
    if lost:
        raise DataError(
            f"{count_files(len(lost))} {is_or_are(lost)} damaged there, and not here",
            found="\n".join(lost),
            todo="whoever has them mends it by python -m tools.share --verify",
        )


def check_lock(commit: str) -> None:
    """Refuse to share results that the code of a commit did not make.

    Raises:
        DataError: dvc.lock or metrics/ are not of this commit.
    """
    stale = freshness.findings(snapshots.revision(commit))
    if stale:
        raise DataError(
            "dvc.lock does not belong to the code of this commit",
            found="\n".join(f"{each.stage}: {each.what} {each.how}" for each in stale[:FEW]),
            todo="dvc repro, commit dvc.lock and metrics/, then make share",
        )


def compare_sizes(
    storage: Storage, runs: Sequence[Run], sizes: Mapping[str, int]
) -> tuple[set[str], set[str]]:
    """Return which objects are on the remote, and which are not of their size there."""
    there: set[str] = set()
    cut_off: set[str] = set()
    for each in runs:
        for stage in each.stages.values():
            for out in stage["outs"]:
                size = sizes.get(storage.object(out["md5"]))
                if size is not None:
                    (there if size == out["size"] else cut_off).add(out["md5"])
    return there, cut_off


def check_cache(cache: Cache, objects: Collection[str], paths: Mapping[str, str]) -> None:
    """Refuse to send what has rotted here.

    Raises:
        DataError: an object in the cache is not what its name says.
    """
    rotten = [md5 for md5 in sorted(objects) if provenance.md5(cache.object(md5)) != md5]
    if rotten:
        raise DataError(
            f"{count_files(len(rotten))} in DVC's cache {is_or_are(rotten)} damaged",
            found="\n".join(f"{paths[md5]}: {cache.object(md5)}" for md5 in rotten[:FEW]),
            todo="make mend, then make share",
        )


def check_revision(revision: Run, lacking: Collection[str], damaged: Collection[str]) -> None:
    """Refuse to share a revision in part.

    Raises:
        DataError: one of its objects is neither here nor, whole, on the remote.
    """
    paths = {md5: path for md5, path in revision.objects().items() if md5 in lacking}
    if paths:
        raise DataError(
            f"{count_files(len(paths))} of this revision {is_or_are(paths)} not here to be shared",
            found="\n".join(
                f"{path}{', damaged on the remote' if md5 in damaged else ''}"
                for md5, path in sorted(paths.items(), key=lambda pair: pair[1])
            ),
            todo="dvc repro makes them, to the same bits; then make share",
        )


def send_entries(storage: Storage, entries: Mapping[str, bytes]) -> None:
    """Send the entries of the run cache that are not there yet: for DVC's own commands."""
    sizes = storage.sizes([storage.entry(name) for name in entries])
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for name, content in entries.items():
            if sizes.get(storage.entry(name)) != len(content):
                source = Path(folder) / name.replace("/", "-")
                source.write_bytes(content)
                sources[storage.entry(name)] = source
        storage.send(sources)


def not_shared(
    runs: Sequence[Run],
    lacking: Collection[str],
    exchanged: exchange.Exchanged,
    left: Mapping[str, int],
) -> list[str]:
    """Say what stays behind."""
    notes = []
    changed = git.uncommitted()
    if changed:
        shown = ", ".join(changed[:FEW]) + (", …" if len(changed) > FEW else "")
        notes.append(f"not what differs from the commit: {shown}")
    for each in runs:
        paths = [path for md5, path in each.objects().items() if md5 in lacking]
        if paths:
            notes.append(f"{each.name} without {', '.join(paths)}: gone from the cache")
    notes += [
        f"{name} is different there, and stays; --force replaces it" for name in exchanged.different
    ]
    notes += [
        f"not {count} of the earlier commit {commit[:8]}: make share REV={commit[:8]}"
        for commit, count in left.items()
    ]
    return notes


def earlier(commit: str, names: Collection[str]) -> dict[str, int]:
    """Count the experiments of earlier commits that the git remote lacks, by their commits."""
    counts: dict[str, int] = {}
    for ref in exchange.here():
        if ref not in names:
            first, rest = ref.split("/")[2:4]
            counts[first + rest] = counts.get(first + rest, 0) + 1
    return {
        each: count
        for each, count in counts.items()
        if each != commit and git.exists(each) and git.merge_base(each, commit) == each
    }


def steps(names: Mapping[str, str], commit: str, git_remote: str) -> list[str]:
    """Say what others need besides: this commit, and how they get the rest."""
    missing = [] if exchange.has(names, commit) else [f"git push: {git_remote} lacks this commit"]
    return [*missing, f"others: git clone {git.line('remote', 'get-url', git_remote)}, make pull"]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
