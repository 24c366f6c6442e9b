"""Moves corrupted files out of the way, so that `dvc repro` recreates them.

DVC does not notice a flipped byte in its cache, or in a file whose size and time
are the same. So this reads everything: it compares each object in DVC's cache with
its name, which is its MD5, and each output of a stage with dvc.lock. Files that
differ are moved to .dvc/tmp/damaged/; nothing is deleted.
"""

import itertools
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.pipeline import provenance
from core.pipeline.errors import SetupError
from core.pipeline.provenance import Damage
from core.pipeline.runner import run

DAMAGED = Path(".dvc/tmp/damaged")


def main() -> None:
    """Check outputs and cache, move corrupted files, and say what to do next."""
    if not provenance.LOCK.exists():
        raise SetupError(
            f"there is no {provenance.LOCK} in this folder",
            where=str(Path.cwd()),
            todo="run it from the root of the repository; dvc repro creates the lock",
        )
    with locked_against_dvc() as cache:
        # Outputs first: one may be a link to an object in the cache.
        damages = [*provenance.damages(), *damaged_objects(cache)]
        for damage in damages:
            DAMAGED.mkdir(parents=True, exist_ok=True)
            moved = unused_path(DAMAGED / damage.path.name)
            shutil.move(damage.path, moved)  # the cache may be on another disk
            print(f"{damage.path}: MD5 {damage.found}, expected {damage.expected}; now {moved}")
    print("next: dvc repro" if damages else "nothing is damaged, neither outputs nor cache")


def damaged_objects(cache: Path) -> Iterator[Damage]:
    """Find the objects in DVC's cache whose MD5 is not their name."""
    for path in sorted((cache / "files/md5").glob("??/*")):
        expected = path.parent.name + path.name.removesuffix(".dir")
        if re.fullmatch("[0-9a-f]{32}", expected) and (found := provenance.md5(path)) != expected:
            yield Damage(path, expected, found)


@contextmanager
def locked_against_dvc() -> Iterator[Path]:
    """Keep DVC from writing outputs, and yield the folder of its cache.

    An output that a stage has just written is not yet in dvc.lock: without the lock
    it would look corrupted.

    Raises:
        SetupError: DVC is running a stage, or cannot read its own files.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.rwlock import rwlock

    outputs = [str(path.absolute()) for path in provenance.written()]
    try:
        with Repo() as repo:
            by_link = repo.config["core"].get("hardlink_lock", False)
            with rwlock(repo.tmp_dir, repo.fs, "tools.repair", [], outputs, by_link):
                yield Path(repo.cache.local_cache_dir)
    except DvcException as error:
        raise SetupError("outputs and cache cannot be repaired now", found=str(error)) from error


def unused_path(path: Path) -> Path:
    """Return `path`, or one with a number appended if that file exists."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(each for each in itertools.chain([path], names) if not each.exists())


if __name__ == "__main__":
    run(main)
