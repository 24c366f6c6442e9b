"""What DVC takes for images in separate files instead of one array.

    python -m benchmarks.many_files

One folder is a DVC output (`dvc add images`); each of its files has one image of MNIST,
784 bytes, all different, in a temporary repository.

- `dvc add` hashes each file and copies it to the cache; then `dvc status` without
  changes, `dvc add` after one image changed, `dvc push` to a folder, and
  `dvc checkout` of the whole folder.
- Reading every file once, compared with reading the same images as one array: the cost
  for an epoch, with everything in the system's cache.
- The size on the disk, in blocks of the file system.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import pipeline
from benchmarks.growth import Growth
from benchmarks.mnist import RAW
from core.data import arrays
from tools.repository import git

SIZES = (1_000, 10_000, 100_000)
FOLDER = "images"


def main() -> None:
    """Measure each size and print how it grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="times each size runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="files")
    arguments = parser.parse_args()
    growth = Growth()
    for size in arguments.sizes:
        growth.at(size)
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as name:
                measure(growth, Path(name), size)
    growth.print("files", more=1_000)


def measure(growth: Growth, folder: Path, count: int) -> None:
    """Keep `count` images as files with DVC."""
    repository, remote, array = folder / "repository", folder / "remote", folder / "images.npy"
    repository.mkdir()
    git.run("init", "--quiet", cwd=repository)
    pipeline.run("dvc", "init", "--quiet", cwd=repository)
    pipeline.run("dvc", "remote", "add", "--default", "shared", str(remote), cwd=repository)
    images = many_images(count)
    arrays.write(array, images)
    growth.timed("writing them, s", lambda: write_files(repository / FOLDER, images))

    def note(line: str, *command: str) -> None:
        growth.note(f"{line}, s", pipeline.seconds("dvc", *command, cwd=repository))

    taken = pipeline.cost("-m", "dvc", "add", FOLDER, cwd=repository)
    growth.note("dvc add: hash and copy to the cache, s", taken.seconds)
    growth.note("dvc add, MB of memory", taken.memory / 1e6)
    note("dvc status, nothing changed", "status")
    note("dvc push, to a folder", "push")
    write_files(repository / FOLDER, 255 - images[:1])
    note("dvc add, one image changed", "add", FOLDER)
    note("dvc push, one image changed", "push")
    shutil.rmtree(repository / FOLDER)
    note("dvc checkout of the folder: copy", "checkout")

    paths = sorted((repository / FOLDER).iterdir())
    growth.timed("reading every file, s", lambda: [path.read_bytes() for path in paths])
    growth.timed("reading the array, s", lambda: np.load(array))
    growth.note("the images, MB", images.nbytes / 1e6)
    growth.note("the files on the disk, MB", sum(map(blocks, paths)) / 1e6)
    listings = (repository / ".dvc/cache").rglob("*.dir")
    growth.note("the list of them in the cache, MB", max(p.stat().st_size for p in listings) / 1e6)


def many_images(count: int) -> arrays.Images:
    """Return the images of MNIST, repeated and made unique: uint8 (count, 28, 28, 1)."""
    mnist = arrays.read_images(RAW / "train_images.npy")
    images = mnist[np.arange(count) % len(mnist)]
    # A number in the black corner makes each image unique.
    numbers = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
    images.reshape(count, -1)[:, :4] = numbers
    return images


def write_files(folder: Path, images: arrays.Images) -> None:
    """Write each image to its own file, replacing an existing one."""
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        (folder / f"{number:07}.raw").write_bytes(image.tobytes())


def blocks(path: Path) -> int:
    """Return the bytes that a file takes on the disk."""
    return path.stat().st_blocks * 512


if __name__ == "__main__":
    main()
