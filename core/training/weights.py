"""Model files: a bare `state_dict`, the same bytes for the same weights.

`torch.save` names the members of its archive after the file, so another file name
would give other bytes; saving to memory avoids that. It also writes more than the
weights: the version of each module, and the whole of a tensor of which a weight is
a view. So the weights are copied first.
Files are read with `weights_only=True`: nothing in them is ever executed.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.pipeline import files, wording
from core.pipeline.errors import ModelError

NAMED = 6  # weights in a message: a ResNet-18 has 122


def save(path: Path, state: dict[str, Tensor]) -> None:
    """Write a `state_dict` atomically."""
    bare = {
        key: value.detach().clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }
    write(path, bare)


def write(path: Path, value: Any) -> None:
    """Write tensors in dictionaries and lists atomically."""
    content = io.BytesIO()  # torch.save does not raise an OSError on a full disk
    torch.save(value, content)
    files.write_bytes(path, content.getvalue())


def load_into(model: nn.Module, path: Path, *, name: str) -> None:
    """Load a model file into `model` and put it in evaluation mode.

    Args:
        model: of the architecture that the file was written from.
        path: the file.
        name: the architecture, for the message of an error.

    Raises:
        ModelError: the file is missing, is no `state_dict`, does not fit the
            architecture, or holds a weight that is not finite.
    """
    state = read(path)
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) and value.layout == torch.strided for value in state.values()
    ):
        raise ModelError(
            f"{path} is not a file of weights",
            expected="a state_dict: names and dense tensors",
            found=type(state).__name__,
            todo=f"dvc checkout --force {path}, or dvc repro",
        )
    expected, found = _describe(model.state_dict()), _describe(state)
    if sorted(expected) != sorted(found):
        raise ModelError(
            f"{path} is not a {name} for these images",
            expected=f"{_few(expected, other=found)}  (model.name: {name})",
            found=_few(found, other=expected) or "no weights",
            todo="dvc repro trains the model that params.yaml names",
        )
    broken = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise ModelError(
            f"{path} holds weights that are not finite",
            found=_few(broken),
            todo="dvc checkout --force brings back the model of dvc.lock; dvc repro trains again",
        )
    model.load_state_dict(state)
    model.eval()


def read(path: Path) -> Any:
    """Read what `write` wrote.

    Raises:
        ModelError: the file is missing, damaged, or holds more than tensors,
            numbers and texts in dictionaries and lists.
    """
    try:
        content = files.regular(path).read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing", todo="dvc repro trains it; dvc pull fetches it"
        ) from None
    try:
        # A flipped bit would go unnoticed: torch.load compares no checksums, and
        # DVC trusts the protected files of its cache.
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members) or sum(
            member.file_size for member in members
        ) > len(content):  # it could unpack to any size
            raise zipfile.BadZipFile("compressed, as torch.save never does")
        damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # torch.load raises nearly anything for a file that holds more than tensors,
    # and advises to execute it.
    except Exception as error:
        cause = str(error) if isinstance(error, zipfile.BadZipFile) else "torch.load refuses them"
        raise ModelError(
            f"{path} is not a file of weights",
            expected="a state_dict written by torch.save",
            found=f"{wording.count(len(content), 'byte')}; {cause}",
            todo=f"dvc checkout --force {path}, or dvc repro",
        ) from error


def _describe(state: dict[str, Tensor]) -> list[str]:
    """Return name, type and shape of each weight."""
    return [
        f"{key} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        for key, value in state.items()
    ]


def _few(names: Sequence[str], *, other: Sequence[str] = ()) -> str:
    """List the first few of `names`, those that are not in `other` before the rest."""
    known = set(other)
    names = sorted(names, key=lambda name: name in known)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(name[:100] for name in names[:NAMED]) + more
