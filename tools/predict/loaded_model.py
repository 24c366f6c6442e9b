"""The model of this folder, or of any revision or experiment, ready to predict.

What a model is says the dvc.lock that it was kept with, and not params.yaml, which
may have been edited since: its data set, its architecture, its arithmetic. Neither
data nor metrics are needed.
"""

import argparse
import hashlib
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
from core.pipeline.params import PARAMS_FILE, ModelParams
from core.training import numerics
from tools.predict.preparation import MAKINGS, Making
from tools.repository import freshness

if TYPE_CHECKING:
    from torch import nn

LOCK = Path("dvc.lock")
MODEL = Path("models/model.pt")


class Kept(NamedTuple):
    """What a dvc.lock says of its model."""

    dataset: str
    settings: ModelParams
    numerics: str
    threads: int | None
    md5: str
    chosen: dict[str, Any]  # each knob that the model depends on, under its dotted name


class Trained(NamedTuple):
    """A model with what is needed to show it an image."""

    name: str  # of its architecture
    dataset: str
    class_names: tuple[str, ...]
    making: Making
    network: "nn.Module"

    def probabilities(self, pixels: NDArray[np.uint8]) -> list[float]:
        """Return the probability of each class.

        Each image is a batch of its own, so that its bits do not depend on others.

        Args:
            pixels: uint8 (H, W, C), an image like those of the data set.
        """
        import torch

        from core.training.evaluation import predict

        image = torch.from_numpy(pixels[np.newaxis].copy())  # (1, H, W, C)
        (probabilities,) = predict(self.network, image, torch.zeros(1, dtype=torch.int64)).tolist()
        return list(probabilities)


def load(revision: str | None) -> Trained:
    """Load a model, and pin the arithmetic that it was made with. It runs on the CPU.

    Args:
        revision: a branch, a tag, a commit or an experiment of DVC; None for the
            model in this folder.

    Raises:
        ModelError: there is none, it is not the one of dvc.lock, or it does not fit
            the code of today.
    """
    if revision is None:
        return _load_from_folder()
    kept = read_lock(_read_lock(revision), f"{LOCK} of {revision}")
    content = _read_model(revision, kept.md5)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != kept.md5:
        raise _another(f"{MODEL} of {revision}", kept.md5, found, provenance.MENDED)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL.name
        path.write_bytes(content)
        try:
            return _built(kept, path)
        except ModelError as error:
            raise ModelError(
                f"the model of {revision} does not fit the code of today",
                expected=error.details["expected"],
                found=error.details["found"],
                where="core/training/models.py",
                todo=f"use the code that it was trained by: git worktree add ../then {revision}",
            ) from error


def edits() -> list[str]:
    """Return which knobs of params.yaml the model in this folder was not trained with."""
    if not LOCK.exists():
        return []
    trained = read_lock(LOCK.read_bytes(), str(LOCK)).chosen
    today = _knobs(strict_yaml.load(PARAMS_FILE).values)
    return [
        f"{name}: {trained.get(name)} → {today.get(name)}"
        for name in dict.fromkeys([*trained, *today])
        if trained.get(name) != today.get(name)
    ]


def read_lock(content: bytes, where: str) -> Kept:
    """Read what a dvc.lock says of the model that it was written with.

    Args:
        content: of the file.
        where: its name, for the message of an error.

    Raises:
        ModelError: it knows of no model, or of one that other code was written for.
    """
    try:
        stages = YAML(typ="safe").load(content.decode("utf-8"))["stages"]
        knobs = {
            key: value
            for stage in ("download", "train")
            for key, value in stages[stage]["params"][PARAMS_FILE.name].items()
        }
        dataset = knobs["dataset"]["name"]
        if dataset not in MAKINGS:
            raise ValueError(f"the data set {dataset} is not known")
        (md5,) = (out["md5"] for out in stages["train"]["outs"] if out["path"] == MODEL.as_posix())
        return Kept(
            dataset,
            ModelParams.model_validate(knobs["model"]),
            knobs["numerics"],
            knobs["train"]["threads"],
            md5,
            _knobs(knobs),
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
        f"{where} does not describe a model of the code of today",
        expected="the stages download and train, with their parameters",
        found=found,
        todo="dvc repro; a model of other code runs with that code: git worktree add",
    )


def _knobs(values: Any) -> dict[str, Any]:
    """Return the knobs that a model depends on, out of all that are there."""
    return {
        name: value
        for name, value in freshness.leaves(values)
        if name == "dataset.name" or name.partition(".")[0] in ("numerics", "model", "train")
    }


def _load_from_folder() -> Trained:
    try:
        lock = LOCK.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"there is no {LOCK} in this folder",
            where=str(Path.cwd()),
            todo="run it from the root of the repository; dvc repro trains a model",
        ) from None
    kept = read_lock(lock, str(LOCK))
    if MODEL.exists() and (found := provenance.md5(MODEL)) != kept.md5:
        todo = f"dvc repro; or dvc checkout --force {MODEL} for the one of {LOCK}"
        raise _another(str(MODEL), kept.md5, found, todo)
    return _built(kept, MODEL)


def _another(what: str, expected: str, found: str, todo: str) -> ModelError:
    return ModelError(
        f"{what} is not the model that {LOCK} describes",
        expected=f"MD5 {expected}",
        found=f"MD5 {found}",
        todo=todo,
    )


def _read_lock(revision: str) -> bytes:
    """Return the dvc.lock of a revision; DVC knows experiments by name, as git does not."""
    from dvc import api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    try:
        content: bytes = api.read(LOCK.as_posix(), rev=revision, mode="rb")
    except RevError:
        raise ModelError(
            f"there is no revision or experiment {revision}",
            expected="a branch, a tag, the hash of a commit, or the name of an experiment",
            todo="git log --oneline and dvc exp list --all-commits list them",
        ) from None
    except DvcException as error:
        raise ModelError(f"{revision} has no {LOCK}", found=str(error)) from error
    return content


def _read_model(revision: str, md5: str) -> bytes:
    """Return the model of a revision, from DVC's cache or from a remote."""
    from dvc import api
    from dvc.exceptions import DvcException, FileMissingError, PathMissingError

    try:
        content: bytes = api.read(MODEL.as_posix(), rev=revision, mode="rb")
    except (FileMissingError, PathMissingError) as error:
        raise ModelError(
            f"the model of {revision} is neither in DVC's cache nor in a remote",
            expected=f"{MODEL}, MD5 {md5}",
            todo=f"train it again: dvc exp apply {revision} for an experiment, "
            f"git checkout {revision} for a commit; then dvc repro",
        ) from error
    except DvcException as error:
        raise ModelError(f"DVC can not read the model of {revision}", found=str(error)) from error
    return content


def _built(kept: Kept, path: Path) -> Trained:
    numerics.pin(kept.numerics, kept.threads)
    from core.training import models, weights

    making = MAKINGS[kept.dataset]
    class_names = datasets.DATASETS[kept.dataset].classes
    network = models.build(kept.settings, making.shape, len(class_names))
    weights.load_into(network, path, name=kept.settings.name)
    return Trained(kept.settings.name, kept.dataset, class_names, making, network)


def note(edits: Sequence[str]) -> str:
    """Say that the model is not that of params.yaml."""
    return (
        "note: this is the model of dvc.lock; params.yaml was edited since: "
        f"{'; '.join(edits)}. dvc repro trains that one"
    )


def add_revision(parser: argparse.ArgumentParser) -> None:
    """Add whose model predicts."""
    parser.add_argument(
        "--rev",
        dest="revision",
        metavar="REV",
        help="a branch, a tag, a commit or an experiment; default: the model in this folder",
    )
