"""How many of twenty distorted test images `tools.predict` gets right.

    python -m benchmarks.predict                          the model in this folder
    python -m benchmarks.predict --rev cnn-mnist-seed-1   of a revision or experiment

It distorts the first two test images of each digit in one of five ways, four images for
each way. --images 1000 takes the first 1,000 test images instead, for a more precise
figure. The images are encoded as PNG, JPEG or WebP, and predicted by the code of
`python -m tools.predict`. Run `make repro` first.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from core.data import arrays
from core.pipeline import provenance
from tools.predict import loaded_model, preparation
from tools.predict.image_files import ImageError

TEST_IMAGES = Path("data/raw/test_images.npy")
TEST_LABELS = Path("data/raw/test_labels.npy")
CLASS_NAMES = Path("data/raw/classes.json")
EACH = 2  # images of each digit


def scaled(digit: Image.Image) -> bytes:
    """Light on dark, seven times as large, in a corner of a wide sheet."""
    sheet = Image.new("L", (640, 400))
    sheet.paste(digit.resize((196, 196), Image.Resampling.BICUBIC), (20, 190))
    return _file(sheet, "PNG")


def inverted(digit: Image.Image) -> bytes:
    """Black on white, four times as large, as a JPEG."""
    large = digit.resize((112, 112), Image.Resampling.BICUBIC)
    return _file(ImageChops.invert(large), "JPEG")


def coloured(digit: Image.Image) -> bytes:
    """Blue ink on yellow paper, ten times as large."""
    ink = digit.resize((280, 280), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", ink.size, (250, 236, 160))
    sheet.paste((24, 44, 150), mask=ink)
    return _file(sheet, "WEBP")


def transparent(digit: Image.Image) -> bytes:
    """Black ink on a transparent background, five times as large."""
    ink = digit.resize((140, 140), Image.Resampling.BICUBIC)
    sheet = Image.new("RGBA", ink.size)
    sheet.putalpha(ink)
    return _file(sheet, "PNG")


def rotated(digit: Image.Image) -> bytes:
    """Rotated by 10° counterclockwise, eight times as large."""
    large = digit.resize((224, 224), Image.Resampling.BICUBIC)
    return _file(large.rotate(10, Image.Resampling.BICUBIC), "PNG")


DISTORTIONS: tuple[Callable[[Image.Image], bytes], ...] = (
    scaled, inverted, coloured, transparent, rotated,
)  # fmt: skip


def _file(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def main(revision: str | None, images: int | None) -> None:
    """Count what a model gets right, for each distortion."""
    provenance.check_outputs()  # the images must be those of this data set
    model = loaded_model.load(revision)
    pixels, labels, _ = arrays.read_labelled_images(TEST_IMAGES, TEST_LABELS, CLASS_NAMES)
    if images is None:
        chosen = [int(i) for digit in range(10) for i in np.flatnonzero(labels == digit)[:EACH]]
    else:
        chosen = list(range(images))

    right = {distort.__name__: [0, 0] for distort in DISTORTIONS}
    undistorted = 0
    for number, at in enumerate(chosen):
        distort = DISTORTIONS[number % len(DISTORTIONS)]
        digit = Image.fromarray(pixels[at, :, :, 0])
        try:
            prepared = preparation.prepare(io.BytesIO(distort(digit)), model.preprocessing)
            hit = best(model.probabilities(prepared.pixels)) == labels[at]
        except ImageError:
            hit = False
        right[distort.__name__][0] += hit
        right[distort.__name__][1] += 1
        undistorted += best(model.probabilities(pixels[at])) == labels[at]

    print(f"{model.name} of {revision or 'this folder'}")
    for name, (hits, count) in right.items():
        print(f"{name:<12} {hits:>4} of {count}")
    print(f"{'all':<12} {sum(hits for hits, _ in right.values()):>4} of {len(chosen)}")
    print(f"{'undistorted':<12} {undistorted:>4} of {len(chosen)}")


def best(probabilities: list[float]) -> int:
    """Return the most probable class."""
    return probabilities.index(max(probabilities))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    loaded_model.add_revision(parser)
    parser.add_argument("--images", type=int, help="the first ones; default: two of each digit")
    arguments = parser.parse_args()
    main(arguments.revision, arguments.images)
