"""What is sent to the team's remote, what is checked before, and what stays behind."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from core.pipeline import provenance
from core.pipeline.errors import DataError
from tools.experiments.outputs import Cache, Run
from tools.repository import freshness, git, snapshots
from tools.repository.added_data import FOLDER
from tools.share import exchange
from tools.share.messages import MOST_NAMES, count_files, is_or_are
from tools.share.storage import Storage


def check_lock(commit: str) -> None:
    """Refuse to share results that do not belong to the code of a commit.

    Raises:
        DataError: dvc.lock or metrics/ are stale.
    """
    stale = freshness.findings(snapshots.revision(commit))
    if stale:
        raise DataError(
            "dvc.lock does not belong to the code of this commit",
            found="\n".join(f"{each.stage}: {each.what} {each.how}" for each in stale[:MOST_NAMES]),
            todo="dvc repro, commit dvc.lock and metrics/, then make share",
        )


def compare_sizes(
    cache: Cache, runs: Sequence[Run], sizes: Mapping[str, int]
) -> tuple[set[str], set[str]]:
    """Return the objects on the remote, and those with another size there.

    Args:
        cache: knows the size of an object that dvc.lock does not list, if it has it.
        runs: whose outputs dvc.lock lists with their sizes.
        sizes: of the objects that the remote has, by their MD5.
    """
    right = {md5: cache.object(md5).stat().st_size for md5 in sizes if cache.has(md5)}
    outs = (out for each in runs for stage in each.stages.values() for out in stage["outs"])
    # The size of a folder is that of its files, not of its object.
    right |= {out["md5"]: out["size"] for out in outs if not out["md5"].endswith(FOLDER)}
    truncated = {md5 for md5, size in sizes.items() if right.get(md5, size) != size}
    return set(sizes) - truncated, truncated


def check_cache(cache: Cache, objects: Collection[str], paths: Mapping[str, str]) -> None:
    """Refuse to send corrupted objects.

    Raises:
        DataError: the MD5 of an object in the cache is not its name.
    """
    corrupted = [
        md5
        for md5 in sorted(objects)
        if provenance.md5(cache.object(md5)) != md5.removesuffix(FOLDER)
    ]
    if corrupted:
        raise DataError(
            f"{count_files(len(corrupted))} in DVC's cache {is_or_are(corrupted)} damaged",
            found="\n".join(f"{paths[md5]}: {cache.object(md5)}" for md5 in corrupted[:MOST_NAMES]),
            todo="make repair, then make share",
        )


def check_revision(
    revision: Run, objects: Mapping[str, str], missing: Collection[str], damaged: Collection[str]
) -> None:
    """Refuse to share a revision in part.

    Args:
        revision: that is shared.
        objects: the path of each of its objects, those in folders too, by their MD5.
        missing: the objects that are nowhere.
        damaged: those that are damaged on the remote.

    Raises:
        DataError: an object is missing here, and missing or damaged on the remote.
    """
    paths = {md5: path for md5, path in objects.items() if md5 in missing}
    if paths:
        data = "; data of dvc add: dvc pull, or whoever added it" if revision.added else ""
        raise DataError(
            f"{count_files(len(paths))} of this revision {is_or_are(paths)} missing here",
            found="\n".join(
                f"{path}{', damaged on the remote' if md5 in damaged else ''}"
                for md5, path in sorted(paths.items(), key=lambda pair: pair[1])
            ),
            todo=f"dvc repro recreates outputs, with the same bits{data}; then make share",
        )


def send_entries(storage: Storage, entries: Mapping[str, bytes]) -> None:
    """Send the entries of the run cache that the remote lacks, for DVC's own commands."""
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
    missing: Collection[str],
    exchanged: exchange.Exchanged,
    left: Mapping[str, int],
) -> list[str]:
    """Return notes on what is not shared."""
    notes = []
    changed = git.uncommitted()
    if changed:
        shown = ", ".join(changed[:MOST_NAMES]) + (", …" if len(changed) > MOST_NAMES else "")
        notes.append(f"uncommitted files are not shared: {shown}")
    for each in runs:
        paths = [path for md5, path in each.objects().items() if md5 in missing]
        if paths:
            notes.append(f"{each.name} without {', '.join(paths)}: missing in the cache")
    notes += [
        f"{name} is different there and was kept; --force replaces it"
        for name in exchanged.different
    ]
    notes += [
        f"{count} of the earlier commit {commit[:8]} not shared: make share REV={commit[:8]}"
        for commit, count in left.items()
    ]
    return notes


def earlier(commit: str, names: Collection[str]) -> dict[str, int]:
    """Count the experiments of earlier commits that the git remote lacks, by their commits."""
    counts: dict[str, int] = {}
    for ref in exchange.local_refs():
        if ref not in names:
            first, rest = ref.split("/")[2:4]
            counts[first + rest] = counts.get(first + rest, 0) + 1
    return {
        each: count
        for each, count in counts.items()
        if each != commit and git.exists(each) and git.merge_base(each, commit) == each
    }


def steps(names: Mapping[str, str], commit: str, git_remote: str) -> list[str]:
    """Return the next steps: to push the commit, and how others get the rest."""
    missing = [] if exchange.has(names, commit) else [f"git push: {git_remote} lacks this commit"]
    folder = git.prefix().rstrip("/")
    url = git.line("remote", "get-url", git_remote)
    return [*missing, f"others: git clone {url}, {f'cd {folder}, ' if folder else ''}make pull"]
