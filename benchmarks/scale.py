"""How time, memory and the work of DVC grow with the images: 1, 3, 10 and 30 times MNIST.

    python -m benchmarks.scale

It repeats the training images of MNIST, each time with other noise, in a temporary clone.
There it runs the stages as commands, train for one epoch. Then DVC adds the outputs to
its cache (`dvc commit`), checks whether anything changed, and copies them. For train, the
steps of the epoch, one evaluation of all images, and the memory above that after
`import torch` are also measured separately. Memory is the largest resident size of the
process, which includes mapped pages of the images.

The last line trains with a limit of half the size of the images on what the process may
allocate (RLIMIT_DATA), beyond what PyTorch takes. Mapped pages do not count: the system
keeps as many as fit and reads the others again. So it shows whether a copy is made, not
how slow a disk is.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import pipeline, side_by_side
from benchmarks.growth import Growth
from benchmarks.mnist import RAW, SPLIT
from core.data import arrays, splitting
from core.pipeline import provenance
from core.pipeline.runner import NO_MEMORY
from core.training import numerics
from tools.repository import git

SIZES = (1, 3, 10, 30)  # times MNIST
LARGE = 64  # times MNIST: 3.0 GB
NOISE = 8  # of 255, at most
NO_LIMIT = 0
STAGES = ("split", "train", "evaluate")  # those that compute with training images or labels
IMAGES = RAW / "train_images.npy"
VAL_PREDICTIONS = Path("metrics/val_predictions.csv")


def main() -> None:
    """Measure each size and print how it grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each size runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="times MNIST")
    parser.add_argument("--large", type=int, default=LARGE, help="times MNIST, limited; 0: none")
    parser.add_argument("--variant", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        folder, limit = arguments.variant
        try:
            print(json.dumps(train(Path(folder), int(limit))))
        except RuntimeError as error:
            if not NO_MEMORY.search(str(error)):
                raise
            print("{}")
        return

    growth = Growth()
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            clone = prepare(Path(name), size)
            growth.at(len(np.load(clone / IMAGES, mmap_mode="r")))
            for _ in range(arguments.rounds):
                run_stages(growth, clone)
                measure_train(growth, clone)
                measure_dvc(growth, clone)
    growth.print("images", more=1_000_000)
    if arguments.large:
        with tempfile.TemporaryDirectory() as name:
            pixels = write(Path(name), arguments.large)
            run = side_by_side.run("benchmarks.scale", (name, str(pixels // 2)))
        result = "not enough"
        if run:
            result = f"{run['steps']:.1f} s of steps, {run['measuring']:.1f} s of measuring"
        print(
            f"{arguments.large}× ({pixels / 1e6:,.0f} MB) with at most {pixels / 2e6:,.0f} MB "
            f"to allocate: {result}"
        )


def prepare(folder: Path, times: int) -> Path:
    """Clone the project and write data of that size into it."""
    clone = folder / "clone"
    git.run("clone", "--quiet", ".", str(clone), cwd=Path.cwd())
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("\n  epochs: 5\n", "\n  epochs: 1\n"))
    for name in ("test_images.npy", "test_labels.npy"):
        (clone / RAW).mkdir(parents=True, exist_ok=True)
        shutil.copy(RAW / name, clone / RAW)
    write(clone, times)
    remote = ("--local", "--default", "shared", f"{folder}/remote")
    pipeline.run("dvc", "remote", "add", *remote, cwd=clone)
    return clone


def run_stages(growth: Growth, clone: Path) -> None:
    """Run each stage as a process, and record its cost and the sizes of its outputs."""
    for stage in STAGES:
        taken = pipeline.cost("-m", f"stages.{stage}", cwd=clone)
        growth.note(f"{stage}, s", taken.seconds)
        growth.note(f"{stage}, MB of memory", taken.memory / 1e6)
    growth.note("images, MB", size_of(clone / IMAGES) / 1e6)
    growth.note("labels and indices, MB", sum(map(size_of, indexing(clone))) / 1e6)
    growth.note("val_predictions.csv, in git, MB", size_of(clone / VAL_PREDICTIONS) / 1e6)


def measure_train(growth: Growth, clone: Path) -> None:
    """Record the parts of train, measured in a separate process."""
    run = side_by_side.run("benchmarks.scale", (str(clone), str(NO_LIMIT)))
    growth.note("train: the steps of an epoch, s", run["steps"])
    growth.note("train: measuring all images, s", run["measuring"])
    growth.note("train: memory above torch, MB", run["memory"] / 1e6)
    images = clone / IMAGES
    growth.timed("MD5 of the images, s", lambda: provenance.md5(images))
    with images.open("rb") as file:
        growth.timed("SHA-256 of the images, s", lambda: hashlib.file_digest(file, "sha256"))


def measure_dvc(growth: Growth, clone: Path) -> None:
    """Record what DVC takes to cache the data, check them, and copy them to a remote and back."""

    def note(line: str, *command: str) -> None:
        growth.note(f"{line}, s", pipeline.seconds("dvc", *command, cwd=clone))

    for left in (clone / ".dvc/cache", clone.parent / "remote"):
        shutil.rmtree(left, ignore_errors=True)
    git.run("checkout", "--quiet", "dvc.lock", cwd=clone)
    touch(clone)
    note("dvc commit: hash and copy to the cache", "commit", "--force", "download", *STAGES)
    note("dvc repro, nothing to do", "repro", "evaluate")
    touch(clone)
    note("dvc status, the files touched: hash again", "status", "evaluate")
    note("dvc push, to a folder", "push", "evaluate", "--with-deps")
    (clone / IMAGES).unlink()
    note("dvc checkout of the images: copy", "checkout", str(IMAGES))


def touch(clone: Path) -> None:
    """Change the times of the data, so that DVC hashes them again."""
    for path in (clone / IMAGES, *indexing(clone)):
        os.utime(path)


def indexing(clone: Path) -> list[Path]:
    """Return the other files that grow with the images."""
    names = (SPLIT / "train_indices.npy", SPLIT / "val_indices.npy", RAW / "train_labels.npy")
    return [clone / name for name in names]


def size_of(path: Path) -> int:
    """Return the bytes of a file."""
    return path.stat().st_size


def write(root: Path, times: int) -> int:
    """Write MNIST's training set, repeated with noise, and a split; return the bytes of pixels.

    Args:
        root: of a project; the files go where its stages read them.
        times: how often to repeat it.
    """
    images, labels, _ = arrays.read_labelled_images(
        RAW / "train_images.npy", RAW / "train_labels.npy", RAW / "classes.json"
    )
    count = len(images)
    for folder in (root / RAW, root / SPLIT):
        folder.mkdir(parents=True, exist_ok=True)
    # One copy at a time, so that this needs no more memory than the stages.
    repeated = np.lib.format.open_memmap(
        root / IMAGES, "w+", np.uint8, (times * count, *images.shape[1:])
    )
    generator = np.random.default_rng(0)
    for number in range(times):
        noise = generator.integers(0, NOISE, images.shape, np.uint8)
        noisy = np.where(images > 255 - NOISE, images, images + noise)
        repeated[number * count : (number + 1) * count] = noisy
    repeated.flush()
    arrays.write(root / RAW / "train_labels.npy", np.tile(labels, times))
    shutil.copy(RAW / "classes.json", root / RAW)
    indices = splitting.split(np.tile(labels, times), seed=0, val_fraction=0.2)
    arrays.write(root / SPLIT / "train_indices.npy", indices.train_indices)
    arrays.write(root / SPLIT / "val_indices.npy", indices.val_indices)
    return repeated.nbytes


def train(root: Path, limit: int) -> dict[str, float]:
    """Take the steps of an epoch and evaluate all images, in this process."""
    numerics.pin("portable", None)
    import torch  # noqa: F401

    before = memory("VmHWM")

    from benchmarks import workload
    from core.training.evaluation import measure

    if limit:
        most = memory("VmData") + limit
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    data = workload.load(root / RAW, root / SPLIT)
    training = workload.start(data, "portable", None)
    start = time.perf_counter()
    workload.train_epoch(training, data)
    middle = time.perf_counter()
    for indices in (data.train_indices, data.val_indices):
        measure(training.model, data.images, data.labels, indices, workers=training.workers)
    return {
        "steps": middle - start,
        "measuring": time.perf_counter() - middle,
        "images": len(data.images),
        "memory": memory("VmHWM") - before,
    }


def memory(kind: str) -> int:
    """Return one of the sizes that Linux records for this process, in bytes.

    Args:
        kind: `VmHWM`, the largest resident size so far, or `VmData`, what
            RLIMIT_DATA limits. (The peak of getrusage starts with that of the parent.)
    """
    status = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith(f"{kind}:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
