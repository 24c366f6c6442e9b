"""Turns any image into one like those that a model was trained on.

`PREPROCESSING` has an entry for each data set, which follows how its authors created
the images. For grey images: transparent parts become paper, colours become luminance,
whatever differs from the paper is ink, and ink is light on black. An image that is
already framed like those of the data set is not framed again, so the test images and
the results of this module stay as they are.

Sums are of integers, and floats are only divided, multiplied and rounded, so the same
image gives the same pixels on every machine.
"""

from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tools.predict import image_files, paper
from tools.predict.image_files import Grey, ImageError

ImageShape = tuple[int, int, int]  # H, W, C

STRONGEST = 254  # every image of MNIST has a pixel of 254 or 255
RESAMPLING = Image.Resampling.BICUBIC  # an average over all pixels, when scaling down
# Tolerances, in pixels, within which an image counts as framed: all images of MNIST do,
# and 59,800 of Fashion-MNIST's 60,000.
SHORTER = 2
OFF = 1


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a data set were created.

    Args:
        subject: what they show, with its article.
        shape: height, width and channels.
        longer_side: of what an image shows, in pixels; None where images are whole
            pictures, of which nothing is cut out and nothing is background.
        by_mass: center by the center of mass, not by the edges.
        one_digit: it is a digit, so anything else that an image shows is refused.
    """

    subject: str
    shape: ImageShape
    longer_side: int | None = None
    by_mass: bool = False
    one_digit: bool = False


PREPROCESSING: dict[str, Preprocessing] = {
    # "size normalized to fit in a 20x20 pixel box while preserving their aspect
    # ratio [...] centered in a 28x28 image by computing the center of mass of the
    # pixels": Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of
    # handwritten digits". Of the 70,000 images the longer side is 20 pixels, but
    # for some of 19, and the centre of mass within half a pixel of pixel 14.
    "mnist": Preprocessing("a digit", (28, 28, 1), longer_side=20, by_mass=True, one_digit=True),
    # "Resizing the longest edge of the image to 28 [...] Extending the shortest
    # edge to 28 and put the image to the center of the canvas. Negating the
    # intensities": H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747, 2.
    "fashion_mnist": Preprocessing("a piece of clothing", (28, 28, 1), longer_side=28),
    # How its authors framed the characters is not published; they fill the images.
    "kmnist": Preprocessing("a character", (28, 28, 1), longer_side=28),
    "cifar10": Preprocessing("a picture", (32, 32, 3)),
    "cifar100": Preprocessing("a picture", (32, 32, 3)),
}


class Prepared(NamedTuple):
    """An image in the form that a model takes."""

    pixels: NDArray[np.uint8]  # (H, W, C)
    inverted: bool  # it was dark on light, and is light on dark now


def prepare(file: IO[bytes], preprocessing: Preprocessing) -> Prepared:
    """Turn an image into one like those of a data set.

    Args:
        file: in any format that Pillow reads. The first of several frames is used.
        preprocessing: how the images of the data set were created.

    Raises:
        ImageError: it is not an image, is truncated or too large, nothing is drawn on it,
            or it does not show one digit.
    """
    image = image_files.opened(file)
    if preprocessing.longer_side is None:
        height, width, _ = preprocessing.shape
        whole = image_files.opaque(image, paper=255).convert("RGB")
        return Prepared(np.asarray(ImageOps.fit(whole, (width, height))), False)
    grey = image_files.grey(image)
    same = _as_it_is(grey, preprocessing)
    if same is not None:
        return same
    drawn = paper.drawn(grey, one_digit_only=preprocessing.one_digit)
    return Prepared(_framed(drawn.ink, preprocessing)[:, :, np.newaxis], drawn.inverted)


def _as_it_is(grey: Grey, preprocessing: Preprocessing) -> Prepared | None:
    """Return an image that is already framed like those of the data set, or nothing."""
    if grey.shape != preprocessing.shape[:2]:
        return None
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    differences = grey - np.median(border)
    inverted = bool(-differences.min() > differences.max())
    ink = np.maximum(-differences if inverted else differences, 0)
    if ink.max() < paper.LEAST_CONTRAST:
        return None
    ink = _strengthened(ink)
    return Prepared(ink[:, :, np.newaxis], inverted) if _is_framed(ink, preprocessing) else None


def _strengthened(ink: NDArray[Any]) -> Grey:
    """Scale ink so that its strongest pixel is 255, unless it is strong enough."""
    strongest = ink.max()
    scaled = ink if strongest >= STRONGEST else ink * (255 / strongest)
    whole: Grey = np.rint(scaled).astype(np.uint8)
    return whole


def _framed(differences: NDArray[np.float64], preprocessing: Preprocessing) -> Grey:
    """Scale ink to the longer side that the data set has, and center it.

    Raises:
        ImageError: nothing is left after scaling, because only specks are drawn.
    """
    assert preprocessing.longer_side is not None
    height, width, _ = preprocessing.shape
    ink = _strengthened(differences)
    cut = Image.fromarray(_cut_out(ink))
    scale = preprocessing.longer_side / max(cut.size)
    size = max(1, round(cut.width * scale)), max(1, round(cut.height * scale))
    small = np.asarray(cut.resize(size, RESAMPLING))
    if not small.any():
        raise ImageError(
            "has only specks on it",
            expected="lines that are still seen when it is scaled down",
            found=f"nothing, scaled from {max(cut.size):,} to {preprocessing.longer_side} pixels",
        )
    ink = _strengthened(small)

    framed = np.zeros((height, width), np.uint8)
    # As near to the center as possible without cutting anything off.
    top, left = (
        min(max(round(frame / 2 - middle), 0), frame - side)
        for frame, middle, side in zip(
            framed.shape, _middle(ink, preprocessing), ink.shape, strict=True
        )
    )
    framed[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return framed


def _is_framed(ink: Grey, preprocessing: Preprocessing) -> bool:
    """Whether ink is sized and positioned like that of the data set."""
    assert preprocessing.longer_side is not None
    longer_side = max(_cut_out(ink).shape)
    if not preprocessing.longer_side - SHORTER <= longer_side <= preprocessing.longer_side:
        return False
    middle = _middle(ink, preprocessing)
    return all(abs(frame / 2 - at) <= OFF for frame, at in zip(ink.shape, middle, strict=True))


def _cut_out(ink: Grey) -> Grey:
    """Return the smallest rectangle that contains all ink."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _middle(ink: Grey, preprocessing: Preprocessing) -> tuple[float, float]:
    """Return the center of ink, down and across.

    Pixels count from 0. A center of mass is that of their indices, 14 for the images of
    MNIST; the center of a rectangle is that of its edges, 14 as well.
    """
    if not preprocessing.by_mass:
        rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
        return (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    mass = ink.sum(dtype=np.int64)
    down, across = (ink.sum(axis=axis, dtype=np.int64) for axis in (1, 0))
    return (
        int(down @ np.arange(len(down))) / int(mass),
        int(across @ np.arange(len(across))) / int(mass),
    )
