"""A state of the project: the working tree, or a commit.

Both are read in the same way, and neither data nor cache is needed: git has
everything that a tool compares.
"""

import json
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from core.pipeline.errors import DataError
from tools.repository import git


@dataclass(frozen=True)
class Snapshot:
    """A state of the project, as `working_tree` and `revision` return it."""

    name: str  # for a reader: "the working tree", "main"
    commit: str | None  # None for the files in `folder`
    folder: Path = Path()
    known: dict[str, bytes | None] = field(default_factory=dict, repr=False)  # read so far

    def files(self) -> list[str]:
        """Return the sorted paths of all files that git does not ignore."""
        if self.commit:
            return sorted(_files_of(self.commit))
        kinds = ("--cached", "--others", "--exclude-standard")
        listed = git.run("ls-files", "-z", *kinds, cwd=self.folder).decode().split("\0")
        return sorted({name for name in listed if name and (self.folder / name).is_file()})

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file, or None if there is none."""
        if path not in self.known:
            self.known[path] = self._read(path)
        return self.known[path]

    def yaml(self, path: str) -> Any:
        """Return the content of a YAML file as DVC reads it (1e-5 is a number), or None if missing.

        Raises:
            DataError: it is not YAML.
        """
        content = self.read(path)
        if content is None:
            return None
        try:
            return _parse_yaml(content)
        except (YAMLError, ValueError) as error:
            raise self.unreadable(path, "YAML", str(error).split("\n")[0]) from error

    def json(self, path: str) -> Any:
        """Return the content of a JSON file, or None if it is missing.

        Raises:
            DataError: it is not JSON.
        """
        content = self.read(path)
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise self.unreadable(path, "JSON", str(error)) from error

    def unreadable(self, path: str, expected: str, found: str) -> DataError:
        """Return the error for a file with unexpected content."""
        return DataError(
            f"{path} of {self.name} cannot be read",
            expected=expected,
            found=found,
            todo=f"git log -p -- {path} shows its changes",
        )

    def _read(self, path: str) -> bytes | None:
        if self.commit:
            known = path in _files_of(self.commit)
            return git.content(self.commit, path) if known else None
        try:
            return (self.folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None


@lru_cache(64)  # slow, and a review reads the same dvc.lock a dozen times; nobody changes it
def _parse_yaml(content: bytes) -> Any:
    return YAML(typ="safe").load(content.decode("utf-8"))


@cache  # a commit never changes
def _files_of(commit: str) -> frozenset[str]:
    return frozenset(git.files_of(commit))


def working_tree() -> Snapshot:
    """Return the project as it is on the disk."""
    return Snapshot("the working tree", None)


def revision(name: str) -> Snapshot:
    """Return the project as it is in a commit.

    Args:
        name: a branch, a tag or the hash of a commit.

    Raises:
        SetupError: there is no such commit, or no repository.
    """
    commit = git.commit_of(name)
    return Snapshot(commit[:8] if commit.startswith(name) else name, commit)
