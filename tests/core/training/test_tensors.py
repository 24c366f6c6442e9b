"""The training set as tensors: mapped from its files, and larger than the memory."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.data import arrays
from core.pipeline.errors import DataError
from core.training import tensors
from tests.support.project import ROOT

NAMES = ["zero", "one", "two"]


def lay_out(folder: Path) -> dict[str, Path]:
    """Write a training set of 12 images and return its files."""
    contents: dict[str, NDArray[Any]] = {
        "images": np.arange(12 * 2 * 3, dtype=np.uint8).reshape(12, 2, 3, 1),
        "labels": np.arange(12, dtype=np.int64) % 3,
        "train_indices": np.array([0, 2, 4, 6, 8]),
        "val_indices": np.array([1, 3]),
    }
    files = {name: folder / f"{name}.npy" for name in contents}
    for name, array in contents.items():
        arrays.write(files[name], array)
    files["class_names"] = folder / "classes.json"
    files["class_names"].write_text(json.dumps(NAMES))
    return files


def test_the_tensors_hold_what_the_files_hold(tmp_path: Path) -> None:
    data = tensors.read_images(**lay_out(tmp_path))

    assert (data.images.dtype, data.images.shape) == (torch.uint8, (12, 2, 3, 1))
    assert data.images.flatten().tolist() == list(range(72))
    assert data.labels.tolist() == [0, 1, 2] * 4
    assert data.train_indices.tolist() == [0, 2, 4, 6, 8]
    assert data.val_indices.tolist() == [1, 3]
    assert {data.labels.dtype, data.train_indices.dtype, data.val_indices.dtype} == {torch.int64}
    assert data.class_names == NAMES


def test_images_lie_where_numpy_mapped_them_without_a_copy_or_a_warning() -> None:
    array = np.arange(6, dtype=np.uint8)
    array.flags.writeable = False

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = tensors.of(array)

    assert tensor.data_ptr() == array.ctypes.data
    assert tensor.tolist() == [0, 1, 2, 3, 4, 5]


def test_on_the_same_device_nothing_is_copied(tmp_path: Path) -> None:
    data = tensors.read_images(**lay_out(tmp_path))

    assert data.to("cpu").images is data.images
    assert data.to("cpu").class_names == NAMES


@pytest.mark.gpu
def test_on_a_gpu_all_of_it_lies_there(tmp_path: Path) -> None:
    data = tensors.read_images(**lay_out(tmp_path)).to("cuda")

    assert {tensor.device.type for tensor in data[:4]} == {"cuda"}
    assert data.images.flatten().tolist() == list(range(72))


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    files = lay_out(tmp_path)
    arrays.write(files["val_indices"], np.array([3, 4]))
    with pytest.raises(DataError, match="both trained on and validated on"):
        tensors.read_images(**files)

    arrays.write(files["labels"], np.zeros(11, dtype=np.int64))
    with pytest.raises(DataError, match="12 images and 11 labels"):
        tensors.read_images(**files)


def test_nothing_can_be_written_to_the_images(tmp_path: Path) -> None:
    # In a child process, because the system kills it.
    files = lay_out(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from core.data import arrays; from core.training import tensors\n"
        "tensors.of(arrays.read_images(Path(sys.argv[1]))).fill_(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(files["images"])], cwd=ROOT)

    assert done.returncode != 0
    assert np.load(files["images"]).flatten().tolist() == list(range(72))


LIMITED = """
import resource, sys
from pathlib import Path
from core.training import numerics
numerics.pin("portable", None)
import numpy as np
import torch
from core.training import architectures, loop, tensors
from tests.support import sections

folder, how, spare = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.ones(300, 300) @ torch.ones(300, 300)  # the libraries' own memory
(data,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line]
limit = int(data.split()[1]) * 1024 + spare
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

if how == "read":
    np.load(folder / "images.npy")
data = tensors.read_images(
    images=folder / "images.npy", labels=folder / "labels.npy",
    class_names=folder / "classes.json", train_indices=folder / "train_indices.npy",
    val_indices=folder / "val_indices.npy",
)
model = architectures.build(sections.model("logistic_regression"), tuple(data.images.shape[1:]), 3)
architectures.standardize(model, data.images, data.train_indices)
rows = []
loop.Training(model, sections.train(epochs=1, batch_size=500)).fit(
    *data[:4], report=rows.append, progress=lambda epoch, steps, taken: steps
)
print(model.get_buffer("normalize.mean").item(), len(rows))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit data alone")
def test_a_training_set_larger_than_the_memory_is_trained_on(tmp_path: Path) -> None:
    # 150,000 images of 1,024 bytes in a sparse file; two of them are not black.
    count, spare = 150_000, 60_000_000
    files = lay_out(tmp_path)
    images = np.lib.format.open_memmap(
        files["images"], mode="w+", dtype=np.uint8, shape=(count, 32, 32, 1)
    )
    images[0], images[-1] = 255, 255
    images.flush()
    del images
    arrays.write(files["labels"], np.arange(count, dtype=np.int64) % 3)
    arrays.write(files["train_indices"], np.arange(0, count, 3))
    arrays.write(files["val_indices"], np.arange(1, count, 3))
    assert files["images"].stat().st_size > 2 * spare

    def run(how: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", LIMITED, str(tmp_path), how, str(spare)],
            cwd=ROOT,
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )

    mapped, read = run("map"), run("read")

    assert mapped.returncode == 0, mapped.stderr
    mean, rows = mapped.stdout.split()
    assert float(mean) == pytest.approx(255 / (count / 3))  # one white image of those trained on
    assert rows == "2"
    assert read.returncode == 1
    assert "MemoryError" in read.stderr.splitlines()[-1]
