"""Compares the installed packages with those that are pinned."""

from collections.abc import Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement


def other_versions(requirements: str) -> Iterator[str]:
    """Yield the installed packages whose version is not that of requirements.lock."""
    for line in requirements.splitlines():
        if not line.strip() or line.startswith(("#", " ", "-")):
            continue
        pinned = Requirement(line.split(" #")[0].rstrip("\\ "))
        if pinned.marker and not pinned.marker.evaluate():
            continue
        try:
            installed = metadata.version(pinned.name)
        except metadata.PackageNotFoundError:
            continue  # one that a stage needs would have stopped it
        if not pinned.specifier.contains(installed, prereleases=True):
            yield f"{pinned.name} {installed} (locked {str(pinned.specifier).lstrip('=')})"


def missing(names: Iterable[str]) -> list[str]:
    """Return those of the packages that are not installed."""
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
