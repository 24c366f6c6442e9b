"""How time and memory grow with the data: 1, 3 and 10 times MNIST, and more than fits.

    python -m benchmarks.scale

MNIST's training images are repeated, each time with other noise, and lie in a
temporary folder as the files that stages/train.py maps. Timed are the steps of
an epoch and then the measurement of all images, as the stage takes both, with
portable numerics. The memory is the peak of the process's resident size, above
that after `import torch`; mapped pages of the images count.

The last line trains where the process may not allocate more than half the size
of the images (RLIMIT_DATA), beyond what PyTorch takes. Mapped pages do not count
there: the system keeps as many as it has room for and reads the others again. So
it shows that no copy is made, not how slow a disk is.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import side_by_side
from benchmarks.mnist import RAW
from core import arrays, numerics, splitting

SIZES = (1, 3, 10)  # times MNIST
LARGE = 64  # times MNIST: 3.0 GB
NOISE = 8  # of 255, at most
NO_LIMIT = 0


def main() -> None:
    """Measure each size in a process of its own and print how it grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each size runs")
    parser.add_argument("--model", default="logistic_regression", help="a name in core/models.py")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="times MNIST")
    parser.add_argument("--large", type=int, default=LARGE, help="times MNIST, limited; 0: none")
    parser.add_argument("--variant", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        folder, model, limit = arguments.variant
        print(json.dumps(train(Path(folder), model, int(limit))))
        return

    print(f"{arguments.model}, medians of {arguments.rounds} runs")
    print("size   images  MB pixels  s of steps  of measuring  time / linear  memory / pixels")
    alone = 0.0  # seconds an image at the first size
    growth = []  # bytes of pixels, bytes of memory
    for size in arguments.sizes:
        runs = measured(size, arguments.model, arguments.rounds, limited=False)
        steps, measuring = ([run[name] for run in runs] for name in ("steps", "measuring"))
        an_image = (min(steps) + min(measuring)) / runs[0]["images"]
        alone = alone or an_image
        growth.append((runs[0]["bytes"], statistics.median(run["memory"] for run in runs)))
        memory = growth[-1][1] / growth[-1][0]
        print(
            f"{size:>3}×  {runs[0]['images']:>7,.0f}  {runs[0]['bytes'] / 1e6:>9,.0f}  "
            f"{statistics.median(steps):>10.2f}  {statistics.median(measuring):>12.2f}  "
            f"{an_image / alone:>13.2f}  {memory:>15.2f}"
        )
    if len(growth) > 1:
        (pixels, memory), (more_pixels, more_memory) = growth[0], growth[-1]
        slope = (more_memory - memory) / (more_pixels - pixels)
        print(f"each byte of pixels more takes {slope:.2f} bytes of memory more")
    if arguments.large:
        [run] = measured(arguments.large, arguments.model, 1, limited=True)
        print(
            f"{arguments.large}× ({run['bytes'] / 1e6:,.0f} MB) with at most "
            f"{run['bytes'] / 2e6:,.0f} MB to allocate: {run['steps']:.1f} s of steps, "
            f"{run['measuring']:.1f} s of measuring"
        )


def measured(size: int, model: str, rounds: int, *, limited: bool) -> list[dict[str, float]]:
    """Write the data of one size, train on it, and remove it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = write(folder, size)
        variant = (name, model, str(pixels // 2 if limited else NO_LIMIT))
        return [side_by_side.run("benchmarks.scale", variant) for _ in range(rounds)]


def write(folder: Path, times: int) -> int:
    """Write MNIST's training set, repeated with noise, and a split; return the bytes of pixels."""
    images, labels, _ = arrays.read_labelled_images(
        RAW / "train_images.npy", RAW / "train_labels.npy", RAW / "classes.json"
    )
    count = len(images)
    # A copy at a time, so that this needs no more memory than what it measures.
    repeated = np.lib.format.open_memmap(
        folder / "train_images.npy", "w+", np.uint8, (times * count, *images.shape[1:])
    )
    generator = np.random.default_rng(0)
    for number in range(times):
        noise = generator.integers(0, NOISE, images.shape, np.uint8)
        noisy = np.where(images > 255 - NOISE, images, images + noise)
        repeated[number * count : (number + 1) * count] = noisy
    repeated.flush()
    arrays.write(folder / "train_labels.npy", np.tile(labels, times))
    shutil.copy(RAW / "classes.json", folder)
    dealt = splitting.split(np.tile(labels, times), seed=0, val_fraction=0.2)
    arrays.write(folder / "train_indices.npy", dealt.train_indices)
    arrays.write(folder / "val_indices.npy", dealt.val_indices)
    return repeated.nbytes


def train(folder: Path, model: str, limit: int) -> dict[str, float]:
    """Take an epoch's steps and measure all images, in this process."""
    numerics.pin("portable", None)
    import torch  # noqa: F401

    before = memory("VmHWM")

    from benchmarks import workload
    from core.evaluation import measure

    if limit:
        most = memory("VmData") + limit
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    data = workload.load(folder, folder)
    training = workload.start(data, "portable", None, model={"name": model})
    start = time.perf_counter()
    workload.train_epoch(training, data)
    middle = time.perf_counter()
    for indices in (data.train_indices, data.val_indices):
        measure(training.model, data.images, data.labels, indices, workers=training.workers)
    return {
        "steps": middle - start,
        "measuring": time.perf_counter() - middle,
        "images": len(data.images),
        "bytes": data.images.nbytes,
        "memory": memory("VmHWM") - before,
    }


def memory(kind: str) -> int:
    """Return one of the sizes of this process that Linux keeps, in bytes.

    Args:
        kind: `VmHWM`, the largest resident size so far, or `VmData`, what
            RLIMIT_DATA limits. (The peak of getrusage is that of the parent as
            well, until a process grows past it.)
    """
    status = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith(f"{kind}:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
