"""Model files: a bare `state_dict`, the same bytes for the same weights.

`torch.save` names the members of its archive after the file that it is given,
so another file name would give other bytes; to an open file it does not.
Files are read with `weights_only=True`: nothing in them is ever executed.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from core import files
from core.errors import ModelError


def save(path: Path, state: dict[str, Tensor]) -> None:
    """Write a `state_dict`, whole or not at all."""
    with files.replacing(path) as file:
        torch.save(state, file)


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
    state = _read(path)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected != found:
        raise ModelError(
            f"{path} is not a {name} for these images",
            expected=_shapes(expected) + f"  (model.name: {name})",
            found=_shapes(found),
            where=str(path),
            todo="dvc repro trains the model that params.yaml names",
        )
    broken = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise ModelError(
            f"{path} holds weights that are not finite",
            found=", ".join(broken),
            todo="dvc checkout --force brings back the model of dvc.lock; dvc repro trains again",
        )
    model.load_state_dict(state)
    model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing", todo="dvc repro trains it; dvc pull fetches it"
        ) from None
    # What torch.load raises for a file that is no archive, is cut off, or
    # holds anything but tensors.
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"{path} is not a file of weights",
            expected="a state_dict written by torch.save",
            found=str(error).strip().split("\n")[0][:200],
            todo=f"dvc checkout --force {path}, or dvc repro",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(
            f"{path} is not a file of weights",
            expected="a state_dict: names and tensors",
            found=type(state).__name__,
            todo=f"dvc checkout --force {path}, or dvc repro",
        )
    return state


def _shapes(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "no weights"
