"""Where MNIST lies, and a copy of it as torchvision wants it."""

import gzip
from pathlib import Path

MIRROR = Path("data/mirror/mnist")
RAW = Path("data/raw")  # `make repro` fills this one and the next
SPLIT = Path("data/split")


def unpack_for_torchvision(root: Path) -> None:
    """Unpack the four files to where `torchvision.datasets.MNIST(root)` looks for them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in MIRROR.glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
