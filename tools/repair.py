"""Moves files that are not what was written out of the way, so that `dvc repro` makes them anew.

DVC does not notice a byte that a disk flipped in its cache, or in a file of the
same size and time. So all is read here: each object in DVC's cache is compared
with its name, which is its MD5, and each output of a stage with dvc.lock. What
differs is moved to .dvc/tmp/damaged/, and nothing is deleted.
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
    """Look through outputs and cache, move what is damaged, and say what to do next."""
    if not provenance.LOCK.exists():
        raise SetupError(
            f"there is no {provenance.LOCK} in this folder",
            where=str(Path.cwd()),
            todo="run it from the root of the repository; dvc repro makes the lock",
        )
    with held_from_dvc() as cache:
        # Outputs come first: one may be a link to an object in the cache.
        damages = [*provenance.damages(), *damaged_objects(cache)]
        for damage in damages:
            DAMAGED.mkdir(parents=True, exist_ok=True)
            kept = free_place(DAMAGED / damage.path.name)
            shutil.move(damage.path, kept)  # the cache may lie on another disk
            print(f"{damage.path}: MD5 {damage.found}, expected {damage.expected}; now {kept}")
    print("next: dvc repro" if damages else "nothing is damaged, neither outputs nor cache")


def damaged_objects(cache: Path) -> Iterator[Damage]:
    """Find the objects in DVC's cache that are not what their names say."""
    for path in sorted((cache / "files/md5").glob("??/*")):
        expected = path.parent.name + path.name.removesuffix(".dir")
        if re.fullmatch("[0-9a-f]{32}", expected) and (found := provenance.md5(path)) != expected:
            yield Damage(path, expected, found)


@contextmanager
def held_from_dvc() -> Iterator[Path]:
    """Keep DVC from writing outputs meanwhile, and yield the folder of its cache.

    What a stage has just written is not yet in dvc.lock: it would pass for damaged.

    Raises:
        SetupError: DVC is running a stage, or can not read its own files.
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
        raise SetupError("what DVC keeps can not be mended now", found=str(error)) from error


def free_place(path: Path) -> Path:
    """Return `path`, or with a number behind it if there is such a file."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(place for place in itertools.chain([path], names) if not place.exists())


if __name__ == "__main__":
    run(main)
