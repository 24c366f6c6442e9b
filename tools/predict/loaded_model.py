"""The model of this folder, or of any revision or experiment, ready to predict.

Its dvc.lock says which data set, architecture and numerics it has; params.yaml may have
been edited since. Neither data nor metrics are needed.
"""

import argparse
import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from core.data import datasets
from core.pipeline import provenance, strict_yaml
from core.pipeline.errors import ModelError
from core.pipeline.params import PARAMS_FILE
from core.training import model_params, numerics
from core.training.model_params import ModelParams
from tools.predict.preparation import PREPROCESSING, Preprocessing
from tools.repository import freshness, git

if TYPE_CHECKING:
    from torch import nn

LOCK = Path("dvc.lock")
MODEL = Path("models/model.pt")


class LockedModel(NamedTuple):
    """The model that a dvc.lock describes."""

    dataset: str
    settings: ModelParams
    numerics: str
    threads: int | None
    md5: str
    chosen: dict[str, Any]  # each parameter that the model depends on, under its dotted name


class LoadedModel(NamedTuple):
    """A model with everything that it takes to predict an image."""

    name: str  # of its architecture
    dataset: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    network: "nn.Module"

    def probabilities(self, pixels: NDArray[np.uint8]) -> list[float]:
        """Return the probability of each class.

        Each image is a batch of its own, so that its result does not depend on others.

        Args:
            pixels: uint8 (H, W, C), an image like those of the data set.
        """
        import torch

        from core.training.evaluation import predict

        image = torch.from_numpy(pixels[np.newaxis].copy())  # (1, H, W, C)
        (probabilities,) = predict(self.network, image, torch.zeros(1, dtype=torch.int64)).tolist()
        return list(probabilities)


def load(revision: str | None) -> LoadedModel:
    """Load a model, and pin the numerics that it was trained with. It runs on the CPU.

    Args:
        revision: a branch, a tag, a commit or an experiment of DVC; None for the
            model in this folder.

    Raises:
        ModelError: there is none, it is not the one of dvc.lock, or it does not fit
            the current code.
    """
    if revision is None:
        return _load_from_folder()
    lock, pipeline = (_read(path, revision) for path in (LOCK, provenance.PIPELINE))
    locked = read_lock(lock, pipeline, f"{LOCK} of {revision}")
    content = _read_model(revision, locked.md5)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != locked.md5:
        raise _mismatch(f"{MODEL} of {revision}", locked.md5, found, provenance.REPAIR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL.name
        path.write_bytes(content)
        try:
            return _built(locked, path)
        except ModelError as error:
            raise ModelError(
                f"the model of {revision} does not fit the current code",
                expected=error.details["expected"],
                found=error.details["found"],
                where=f"core/training/models/{locked.settings.name}.py",
                todo=f"use the code that it was trained with: git worktree add ../then {revision}",
            ) from error


def edits() -> list[str]:
    """Return the parameters of params.yaml that changed since the model was trained."""
    if not LOCK.exists():
        return []
    trained = read_lock(LOCK.read_bytes(), _pipeline(), str(LOCK)).chosen
    current = _model_parameters(strict_yaml.load(PARAMS_FILE).values)
    names = dict.fromkeys([*trained, *current])
    if trained.get("model.name") != current.get("model.name"):  # which says it all
        names = {name: None for name in names if not re.match(r"model\.\w+\.", name)}
    return [
        f"{name}: {trained.get(name)} → {current.get(name)}"
        for name in names
        if trained.get(name) != current.get(name)
    ]


def read_lock(content: bytes, pipeline: bytes | None, where: str) -> LockedModel:
    """Read the model that a dvc.lock describes.

    Args:
        content: of the file.
        pipeline: the content of dvc.yaml, whose stages count; None if there is none.
        where: its name, for an error message.

    Raises:
        ModelError: it has no model, or one that needs other code.
    """
    try:
        document = YAML(typ="safe").load(content.decode("utf-8"))
        stages = provenance.current(document["stages"], pipeline)
        parameters: dict[str, Any] = {}
        for stage in ("download", "train"):
            for key, value in stages[stage]["params"][PARAMS_FILE.name].items():
                *sections, last = key.split(".")  # model.mlp, or the whole of model
                inner = parameters
                for section in sections:
                    inner = inner.setdefault(section, {})
                inner[last] = value
        dataset = parameters["dataset"]["name"]
        if dataset not in PREPROCESSING:
            raise ValueError(f"the data set {dataset} is unknown")
        (md5,) = (out["md5"] for out in stages["train"]["outs"] if out["path"] == MODEL.as_posix())
        return LockedModel(
            dataset,
            model_params.recorded(parameters["model"]),
            parameters["numerics"],
            parameters["train"]["threads"],
            md5,
            _model_parameters(parameters),
        )
    except ValidationError as error:
        found = "\n".join(
            f"model.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
    except KeyError as error:
        found = f"no {error.args[0]}"
    except (YAMLError, ValueError, TypeError, AttributeError) as error:
        found = str(error).split("\n")[0]
    raise ModelError(
        f"{where} does not describe a model of the current code",
        expected="the stages download and train, with their parameters",
        found=found,
        todo="dvc repro; a model of other code runs with that code: git worktree add",
    )


def _model_parameters(values: Any) -> dict[str, Any]:
    """Return the parameters that a model depends on; of the architectures only its own."""
    every = dict(freshness.leaves(values))
    own = f"model.{every.get('model.name')}."
    return {
        name: value
        for name, value in every.items()
        if name in ("numerics", "dataset.name", "model.name", "model.standardize")
        or name.startswith(("train.", own))
    }


def _load_from_folder() -> LoadedModel:
    try:
        lock = LOCK.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"there is no {LOCK} in this folder",
            where=str(Path.cwd()),
            todo="run it from the root of the repository; dvc repro trains a model",
        ) from None
    locked = read_lock(lock, _pipeline(), str(LOCK))
    if MODEL.exists() and (found := provenance.md5(MODEL)) != locked.md5:
        todo = f"dvc repro; or dvc checkout --force {MODEL} for the one of {LOCK}"
        raise _mismatch(str(MODEL), locked.md5, found, todo)
    return _built(locked, MODEL)


def _mismatch(what: str, expected: str, found: str, todo: str) -> ModelError:
    return ModelError(
        f"{what} is not the model that {LOCK} describes",
        expected=f"MD5 {expected}",
        found=f"MD5 {found}",
        todo=todo,
    )


def _pipeline() -> bytes | None:
    """Return the dvc.yaml of this folder; None if there is none."""
    return provenance.PIPELINE.read_bytes() if provenance.PIPELINE.exists() else None


def _read(path: Path, revision: str) -> bytes:
    """Return a file of a revision; DVC knows experiments by name, as git does not."""
    from dvc import api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    try:
        content: bytes = api.read(_in_repository(path), rev=revision, mode="rb")
    except RevError:
        raise ModelError(
            f"there is no revision or experiment {revision}",
            expected="a branch, a tag, the hash of a commit, or the name of an experiment",
            todo="git log --oneline and dvc exp list --all-commits list them",
        ) from None
    except DvcException as error:
        raise ModelError(f"{revision} has no {path}", found=str(error)) from error
    return content


def _in_repository(path: Path) -> str:
    """Return the path in the repository, of which the project may be a folder."""
    return f"{git.prefix()}{path.as_posix()}"


def _read_model(revision: str, md5: str) -> bytes:
    """Return the model of a revision, from DVC's cache or from a remote."""
    from dvc import api
    from dvc.exceptions import DvcException, FileMissingError, PathMissingError

    try:
        content: bytes = api.read(_in_repository(MODEL), rev=revision, mode="rb")
    except (FileMissingError, PathMissingError) as error:
        raise ModelError(
            f"the model of {revision} is neither in DVC's cache nor in a remote",
            expected=f"{MODEL}, MD5 {md5}",
            todo=f"train it again: make apply NAME={revision} for an experiment, "
            f"git checkout {revision} for a commit; then dvc repro",
        ) from error
    except DvcException as error:
        raise ModelError(f"DVC cannot read the model of {revision}", found=str(error)) from error
    return content


def _built(locked: LockedModel, path: Path) -> LoadedModel:
    numerics.pin(locked.numerics, locked.threads)
    from core.training import architectures, weights

    preprocessing = PREPROCESSING[locked.dataset]
    class_names = datasets.DATASETS[locked.dataset].classes
    network = architectures.build(locked.settings, preprocessing.shape, len(class_names))
    weights.load_into(network, path, name=locked.settings.name)
    return LoadedModel(locked.settings.name, locked.dataset, class_names, preprocessing, network)


def note(edits: Sequence[str]) -> str:
    """Return a note that params.yaml has changed."""
    return (
        "note: this is the model of dvc.lock; params.yaml has changed since: "
        f"{'; '.join(edits)}. dvc repro trains that model"
    )


def add_revision(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses the model."""
    parser.add_argument(
        "--rev",
        dest="revision",
        metavar="REV",
        help="a branch, a tag, a commit or an experiment; default: the model in this folder",
    )
