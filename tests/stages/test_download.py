import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.data import arrays
from core.data.datasets import DATASETS
from tests.support.downloads import AS_MODULE, copy_code, download, written
from tests.support.misbehaving_server import serving

ROOT = Path(__file__).resolve().parents[2]
MIRROR = ROOT / "data/mirror/mnist"
AS_FILE = ["stages/download.py"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_code(tmp_path)


def bundled(name: str, header_bytes: int) -> np.ndarray:
    """The numbers in a bundled file; these files' headers are 16 and 8 bytes long."""
    return np.frombuffer(gzip.decompress((MIRROR / f"{name}.gz").read_bytes())[header_bytes:], "u1")


@pytest.mark.parametrize("command", [AS_MODULE, AS_FILE], ids=["as module", "as file"])
def test_the_bundled_files_become_the_arrays_of_mnist(project: Path, command: list[str]) -> None:
    ended = download(project, [str(MIRROR)], command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        *(f"{name}: from {MIRROR}" for name in DATASETS["mnist"].files),
        "60,000 training and 10,000 test images, 28 x 28 x 1",
    ]
    raw = project / "data/raw"
    for part, name, count in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        images = np.load(raw / f"{part}_images.npy", allow_pickle=False)
        assert images.dtype == np.uint8
        assert images.shape == (count, 28, 28, 1)
        assert np.array_equal(images.ravel(), bundled(f"{name}-images-idx3-ubyte", 16))
        labels = np.load(raw / f"{part}_labels.npy", allow_pickle=False)
        assert labels.dtype == np.int64
        assert np.array_equal(labels, bundled(f"{name}-labels-idx1-ubyte", 8))
    assert json.loads((raw / "classes.json").read_text()) == list("0123456789")
    assert arrays.read_class_names(raw / "classes.json") == list("0123456789")
    assert len(written(project)) == 5


def test_a_server_is_as_good_as_the_bundled_files(project: Path) -> None:
    with serving(folder=MIRROR) as server:
        ended = download(project, ["data/mirror/mnist", server.address("from_folder")])
        assert (ended.returncode, ended.stderr) == (0, "")
        assert server.asked_for == [f"/from_folder/{name}.gz" for name in DATASETS["mnist"].files]
    # The first labels of MNIST's training set are famous.
    labels = np.load(project / "data/raw/train_labels.npy")
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert len(written(project)) == 5


def test_when_all_sources_fail_nothing_is_written_and_local_files_help(
    project: Path,
) -> None:
    with serving() as server:
        sources = ["data/by-hand", server.address("not_found")]
        failed = download(project, sources)
    assert failed.returncode == 1
    lines = failed.stderr.splitlines()
    assert lines[0] == "error: no source served train-images-idx3-ubyte"
    assert lines[2] == "  found:    data/by-hand: no such folder"
    assert lines[3] == f"            {sources[1]}: answered 404 Not Found"
    assert lines[4].endswith("manually into data/by-hand,")
    assert [line.split() for line in lines[6:]] == [
        [name, file.sha256] for name, file in DATASETS["mnist"].files.items()
    ]
    assert not (project / "data").exists()

    (project / "data/by-hand").mkdir(parents=True)
    for name in DATASETS["mnist"].files:
        content = gzip.decompress((MIRROR / f"{name}.gz").read_bytes())
        (project / "data/by-hand" / name).write_bytes(content)
    assert download(project, ["data/by-hand"]).returncode == 0
    assert (project / "data/raw/train_images.npy").exists()


def test_one_damaged_file_of_four_leaves_what_was_there_as_it_was(project: Path) -> None:
    shutil.copytree(MIRROR, project / "mirror")
    last = project / "mirror/t10k-labels-idx1-ubyte.gz"
    last.write_bytes(gzip.compress(b"\0" * 10_008))
    (project / "data/raw").mkdir(parents=True)
    (project / "data/raw/train_labels.npy").write_bytes(b"of an earlier run")
    ended = download(project, ["mirror"])
    assert ended.returncode == 1
    assert "error: no source served t10k-labels-idx1-ubyte" in ended.stderr
    assert "wrong bytes: SHA-256" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert written(project) == ["train_labels.npy"]
    assert (project / "data/raw/train_labels.npy").read_bytes() == b"of an earlier run"


def test_the_stage_does_not_import_torch() -> None:
    command = "import stages.download, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0
