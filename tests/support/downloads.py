"""The download stage on a copy of the code, and the files that its tests make."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from tests.support import parameters

ROOT = Path(__file__).resolve().parents[2]
AS_MODULE = ["-m", "stages.download"]
FASHION = Path("/usr/share/datasets/fashion-mnist")

needs_fashion_mnist = pytest.mark.skipif(
    not FASHION.is_dir(),
    reason=f"{FASHION} is missing (apt-get install dataset-fashion-mnist): "
    "the real Fashion-MNIST is not tested",
)


def copy_code(folder: Path) -> Path:
    """Copy the code and params.yaml, without data, and return the folder."""
    for name in ("core", "stages"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    return folder


def download(
    project: Path, sources: list[str], command: list[str] = AS_MODULE, name: str = "mnist"
) -> subprocess.CompletedProcess[str]:
    """Run the stage for the data set `name` with these sources; never raises."""
    yaml = YAML()
    document = yaml.load(project / "params.yaml")
    document["dataset"]["name"] = name
    document["dataset"]["mirrors"][name] = sources
    yaml.dump(document, project / "params.yaml")
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**os.environ, "no_proxy": "*"},
        capture_output=True,
        text=True,
    )


def written(project: Path) -> list[str]:
    """The names of all files below data/."""
    return sorted(path.name for path in (project / "data").rglob("*") if path.is_file())


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    dimensions = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + dimensions + array.astype(np.uint8).tobytes()
