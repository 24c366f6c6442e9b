"""Saves the state of a training, so that one that was killed resumes.

A checkpoint belongs to one training: to its parameters, its data, its code and
the version of PyTorch. Any other ignores it and starts from the beginning.
"""

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from core.pipeline import files
from core.pipeline.errors import ModelError
from core.training import weights

SECONDS = 10.0  # between two checkpoints: what a killed training loses at most


def identity(settings: Mapping[str, Any], inputs: Sequence[Path]) -> str:
    """Return a hash that identifies a training, as 64 hexadecimal digits.

    Args:
        settings: all parameters that the training depends on.
        inputs: the files that it reads. The code that this process has
            imported from the working directory is added.
    """
    folder = Path.cwd()
    imported = {
        Path(file) for module in list(sys.modules.values()) if (file := _file(module)) is not None
    }
    code = sorted(
        path
        for path in imported
        if path.is_relative_to(folder) and "site-packages" not in path.parts
    )
    sums = {str(path): _sha256(path) for path in [*inputs, *code]}
    text = json.dumps([settings, torch.__version__, sums], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _file(module: Any) -> str | None:
    return getattr(module, "__file__", None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileCheckpoint:
    """A checkpoint in a file, saved every few seconds.

    Args:
        path: of the file.
        identity: of the training; a checkpoint of another one is not loaded.
        seconds: between two checkpoints.
    """

    def __init__(self, path: Path, identity: str, *, seconds: float = SECONDS) -> None:
        self.path = path
        self.identity = identity
        self.seconds = seconds
        self.last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return what this training saved last, or None.

        A damaged file is ignored, with a message.
        """
        if not self.path.exists():
            return None
        try:
            saved = weights.read(self.path)
        except ModelError as error:
            print(f"{error.what}; training starts from the beginning", flush=True)
            return None
        if not isinstance(saved, dict) or saved.get("identity") != self.identity:
            print(f"{self.path} is of another training; this one starts from the beginning")
            return None
        state: dict[str, Any] = saved["state"]
        return state

    def due(self) -> bool:
        """Whether the last checkpoint is old enough."""
        return time.monotonic() - self.last >= self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file atomically."""
        weights.write(self.path, {"identity": self.identity, "state": state})
        self.last = time.monotonic()

    def remove(self) -> None:
        """Remove the file: the training has ended."""
        files.remove(self.path)
