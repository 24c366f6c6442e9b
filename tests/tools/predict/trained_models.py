"""Models to predict with: one of digits, trained in a second, and one laid out in a folder."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.data import class_names, idx
from core.data.arrays import Images, Labels
from core.pipeline import provenance
from core.training import architectures, weights
from tests.support import parameters, sections
from tests.support.project import MIRROR, ROOT
from tools.predict.loaded_model import LoadedModel
from tools.predict.preparation import PREPROCESSING

TRAINED_ON = 10_000  # images


@cache
def mnist(kind: str, count: int) -> tuple[Images, Labels]:
    """The bundled images (N, 28, 28, 1) and labels (N,) of `train` or `t10k`."""

    def read(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        content = gzip.decompress((ROOT / MIRROR / f"{kind}-{name}-ubyte.gz").read_bytes())
        return idx.parse(content, dtype=np.uint8, shape=shape, where=name)

    images = read("images-idx3", (count, 28, 28))[..., np.newaxis]
    return images, read("labels-idx1", (count,)).astype(np.int64)


@cache
def of_digits() -> LoadedModel:
    """Logistic regression after three passes over some of MNIST: right nine times in ten."""
    images, labels = (torch.tensor(part[:TRAINED_ON]) for part in mnist("train", 60_000))
    network = architectures.build(sections.model("logistic_regression"), (28, 28, 1), 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for batch in torch.split(torch.arange(TRAINED_ON).repeat(3), 100):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return LoadedModel(
        "logistic_regression", "mnist", class_names.DIGITS, PREPROCESSING["mnist"], network.eval()
    )


def lay_out(folder: Path, *, favourite: int) -> str:
    """Write params.yaml, a model that always favours one digit, and the dvc.lock of both.

    Returns:
        The MD5 of the model.
    """
    (folder / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    model = architectures.build(sections.model("logistic_regression"), (28, 28, 1), 10)
    with torch.no_grad():
        model.get_parameter("linear.weight").zero_()
        model.get_parameter("linear.bias").zero_()[favourite] = 2.0
    weights.save(folder / "models/model.pt", model.state_dict())
    md5 = provenance.md5(folder / "models/model.pt")
    stages = {
        "download": {"cmd": "true", "params": {"params.yaml": {"dataset": {"name": "mnist"}}}},
        "train": {
            "cmd": "true",
            "params": {
                "params.yaml": {
                    "model.logistic_regression": {},
                    "model.name": "logistic_regression",
                    "model.standardize": False,
                    "numerics": "portable",
                    "train": sections.TRAIN.model_dump(),
                }
            },
            "outs": [{"path": "models/model.pt", "hash": "md5", "md5": md5}],
        },
    }
    # JSON is YAML.
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    return md5
