"""The project at a point of its history: the working tree, or a commit.

Both are read in the same way and need neither data nor cache: what a tool
wants to know about a side of a comparison lies in git.
"""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from core.pipeline.errors import DataError
from tools.repository import git


@dataclass(frozen=True)
class Snapshot:
    """A state of the project; make one by `working_tree` or `revision`."""

    name: str  # for a reader: "the working tree", "main"
    commit: str | None  # None is what lies in `folder`
    folder: Path = Path()
    known: dict[str, bytes | None] = field(default_factory=dict, repr=False)  # what was read

    def files(self) -> list[str]:
        """Return the paths of all files, without those that git ignores, in order."""
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
        """Return what a YAML file holds as DVC reads it (1e-5 is a number), or None if missing.

        Raises:
            DataError: it is not YAML.
        """
        content = self.read(path)
        if content is None:
            return None
        try:
            return YAML(typ="safe").load(content.decode("utf-8"))
        except (YAMLError, ValueError) as error:
            raise self.unreadable(path, "YAML", str(error).split("\n")[0]) from error

    def json(self, path: str) -> Any:
        """Return what a JSON file holds, or None if it is missing.

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
        """Return the error for a file that does not hold what it should."""
        return DataError(
            f"{path} of {self.name} cannot be read",
            expected=expected,
            found=found,
            todo=f"git log -p -- {path} shows what was changed",
        )

    def _read(self, path: str) -> bytes | None:
        if self.commit:
            # ./ because git counts from its own root, which may be a folder above.
            known = path in _files_of(self.commit)
            return git.content(self.commit, f"./{path}") if known else None
        try:
            return (self.folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None


@cache  # a commit never changes
def _files_of(commit: str) -> frozenset[str]:
    return frozenset(git.files_of(commit))


def working_tree() -> Snapshot:
    """Return the project as it stands on the disk."""
    return Snapshot("the working tree", None)


def revision(name: str) -> Snapshot:
    """Return the project as it stands in a commit.

    Args:
        name: a branch, a tag or the hash of a commit.

    Raises:
        SetupError: there is no such commit, or no repository.
    """
    commit = git.commit_of(name)
    return Snapshot(commit[:8] if commit.startswith(name) else name, commit)
