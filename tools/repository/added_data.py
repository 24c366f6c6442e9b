"""Data that `dvc add` tracks: a file or a folder, whose hash a .dvc file records.

DVC hashes a folder by its listing: the MD5 of a JSON text with the MD5 of each file in
it, followed by `.dir`. The listing is an object of DVC's cache, as the files are.
"""

import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from core.pipeline.errors import SetupError
from tools.repository.snapshots import Snapshot

SUFFIX = ".dvc"
FOLDER = ".dir"  # ends the hash of a folder


class Added(NamedTuple):
    """A file or a folder that `dvc add` tracks."""

    md5: str
    recorded_in: str  # the path of its .dvc file


def records(names: Iterable[str]) -> list[str]:
    """Return the .dvc files among the files of a project."""
    return sorted(name for name in names if posixpath.basename(name)[1:].endswith(SUFFIX))


def recorded(snapshot: Snapshot) -> dict[str, Added]:
    """Return what `dvc add` tracks in a snapshot, by its path.

    Raises:
        DataError: a .dvc file cannot be read.
    """
    found = {}
    for name in records(snapshot.files()):
        content = snapshot.yaml(name)
        outs = content.get("outs", []) if isinstance(content, dict) else None
        if not isinstance(outs, list):
            raise snapshot.unreadable(name, "outs and their hashes", type(content).__name__)
        for out in outs:
            base = posixpath.join(posixpath.dirname(name), str(content.get("wdir", ".")))
            path = posixpath.normpath(posixpath.join(base, str(out.get("path"))))
            if "md5" in out and not path.startswith(("/", "..")) and "://" not in path:
                found[path] = Added(str(out["md5"]), name)
    return found


def folder_md5(files: Mapping[str, str]) -> str:
    """Return the hash of a folder.

    Args:
        files: the MD5 of each file in it, by its path in the folder.
    """
    listed = json.dumps([{"md5": files[name], "relpath": name} for name in sorted(files)])
    return hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest() + FOLDER


def listing(content: bytes) -> dict[str, str]:
    """Return from the object of a folder the MD5 of each file in it, by its path there."""
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


def cached_listing(md5: str) -> dict[str, str] | None:
    """Return the listing of a folder, from the cache of the working directory's project.

    Args:
        md5: of the folder.

    Returns:
        None if the cache does not have it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            path = Path(repo.cache.local_cache_dir) / "files/md5" / md5[:2] / md5[2:]
    except DvcException:
        return None
    return listing(path.read_bytes()) if path.is_file() else None


def check_unchanged(root: Path, names: Sequence[str]) -> None:
    """Refuse data that changed since `dvc add`: what starts from the .dvc file misses it.

    Args:
        root: of the project.
        names: of .dvc files.

    Raises:
        SetupError: names the data.
    """
    if not names:
        return
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            status = repo.status(targets=[str(root / name) for name in names])
    except DvcException as error:
        raise SetupError(
            "DVC cannot read the data that dvc add tracks", found=str(error), where=str(root)
        ) from error
    states = {
        path: state
        for entries in status.values()
        for entry in entries
        if isinstance(entry, dict)
        for path, state in entry.get("changed outs", {}).items()
    }
    changed = sorted(path for path, state in states.items() if state in ("modified", "new"))
    if changed:
        raise SetupError(
            "data has changed since dvc add",
            found="\n".join(changed),
            where=", ".join(names),
            todo=f"dvc add {' '.join(changed)}  (no commit is needed);\n"
            "or dvc checkout --force brings the recorded data back",
        )
    lost = sorted(path for path, state in states.items() if state == "not in cache")
    if lost:
        raise SetupError(
            "data of dvc add is not in DVC's cache, from which others get it",
            found="\n".join(lost),
            todo=f"dvc add {' '.join(lost)}",
        )
