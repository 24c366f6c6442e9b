"""Turns any image into one like those that a model was trained on.

`PREPROCESSING` has an entry for each data set, which follows how its authors created
the images. For grey images: transparent parts become paper, colours become luminance,
whatever differs from the paper is ink, and ink is light on black. An image that is
already framed like those of the data set is not framed again, so the test images and
the results of this module stay as they are.

Only integer arithmetic and float division are used, so the same image gives the same
pixels on every machine.
"""

import warnings
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from core.pipeline.errors import DataError

Grey = NDArray[np.uint8]  # (H, W)
ImageShape = tuple[int, int, int]  # H, W, C

MAX_PIXELS = 100_000_000  # of an image as it is opened: 400 MB as RGBA
# A larger image is first averaged down to about this width and height, which removes
# the grain of paper and of a camera, and keeps strokes.
SIDE = 560
LEAST_CONTRAST = 25  # of 255; on blank paper, JPEG compression leaves less
# Ink is what differs from the paper by this share of the strongest ink, and by eight
# times the median deviation of the border: five standard deviations of its noise. In
# the shadow of a hand that is much, but half of the strongest ink is ink in any case.
LEAST_INK, SURELY_INK = 1 / 8, 1 / 2
NOISE = 8
STRONGEST = 254  # every image of MNIST has a pixel of 254 or 255
RESAMPLING = Image.Resampling.BICUBIC  # an average over all pixels, when scaling down
# Tolerances, in pixels, within which an image counts as framed: all images of MNIST do,
# and 59,800 of Fashion-MNIST's 60,000.
SHORTER = 2
OFF = 1
EXECUTED = {"EPS"}  # a program, which Pillow would have Ghostscript run


class ImageError(DataError):
    """An image cannot be turned into one like those that a model was trained on.

    The message is a predicate, such as "is not an image": the caller puts the name in
    front.
    """


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a data set were created.

    Args:
        subject: what they show, with its article.
        shape: height, width and channels.
        longer_side: of what an image shows, in pixels; None where images are whole
            pictures, of which nothing is cut out and nothing is background.
        by_mass: center by the center of mass, not by the edges.
    """

    subject: str
    shape: ImageShape
    longer_side: int | None = None
    by_mass: bool = False


PREPROCESSING: dict[str, Preprocessing] = {
    # "size normalized to fit in a 20x20 pixel box while preserving their aspect
    # ratio [...] centered in a 28x28 image by computing the center of mass of the
    # pixels": Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of
    # handwritten digits". Of the 70,000 images the longer side is 20 pixels, but
    # for some of 19, and the centre of mass within half a pixel of pixel 14.
    "mnist": Preprocessing("a digit", (28, 28, 1), longer_side=20, by_mass=True),
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
        ImageError: it is not an image, is truncated or too large, or nothing is drawn on it.
    """
    image = _opened(file)
    if preprocessing.longer_side is None:
        height, width, _ = preprocessing.shape
        whole = _opaque(image, paper=255).convert("RGB")
        return Prepared(np.asarray(ImageOps.fit(whole, (width, height))), False)
    drawn = _ink(_grey(image))
    return Prepared(_framed(drawn, preprocessing)[:, :, np.newaxis], drawn.inverted)


def _opened(file: IO[bytes]) -> Image.Image:
    """Decode an image, rotate it upright, and reduce it to about the size needed."""
    Image.init()
    formats = sorted(set(Image.OPEN) - EXECUTED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata, and of sizes, which are checked below
            with Image.open(file, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_large(f"{image.width:,} × {image.height:,}")
                image.load()
                upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise ImageError(
            "is not an image",
            expected="PNG, JPEG, GIF, WebP, TIFF, BMP or another format that Pillow reads",
        ) from None
    except Image.DecompressionBombError as error:
        raise _too_large(str(error)) from error
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise almost any exception for damaged files
        raise ImageError("is damaged or truncated", found=str(error)) from error
    return _reduced(_in_known_mode(upright))


def _too_large(found: str) -> ImageError:
    return ImageError(
        "is too large",
        expected=f"at most {MAX_PIXELS:,} pixels",
        found=found,
        todo="scale it down first",
    )


def _in_known_mode(image: Image.Image) -> Image.Image:
    """Return it as 8-bit grey or RGB, with alpha if any of it is transparent."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _eight_bits(values: NDArray[np.generic], mode: str) -> Grey:
    """Scale pixels of more than 8 bits: 16 bits by the bits in use, others by their range.

    A scanner or a camera may use 10 or 12 of 16 bits: as many as the brightest pixel needs.
    """
    floats = values.astype(np.float64)
    low, high = float(floats.min()), float(floats.max())
    if mode.startswith("I;16"):
        low, high = 0.0, 2.0 ** max(8, int(high).bit_length()) - 1
    if not np.isfinite([low, high]).all():
        raise ImageError("holds pixels that are not numbers")
    return np.rint((floats - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def _reduced(image: Image.Image) -> Image.Image:
    factor = max(image.size) // SIDE
    return image.reduce(factor) if factor > 1 else image


def _grey(image: Image.Image) -> Grey:
    """Return the luminance (ITU-R 601-2); transparent parts get that of paper."""
    if image.mode == "RGBA":
        grey, alpha = (np.asarray(image.convert(mode), np.int64) for mode in ("L", "RGBA"))
        cover = alpha[:, :, 3]
        # Light ink on a transparent background would be invisible on white paper.
        light = cover.sum() > 0 and (grey * cover).sum() > 128 * cover.sum()
        image = _opaque(image, paper=0 if light else 255)
    return np.asarray(image.convert("L"))


def _opaque(image: Image.Image, *, paper: int) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (paper,) * 3 + (255,)), image)


class _Ink(NamedTuple):
    """What is drawn, light on black."""

    ink: Grey  # its strongest pixel is STRONGEST or above
    least: float  # anything weaker may be noise of the paper
    inverted: bool  # it was darker than the paper


def _ink(grey: Grey) -> _Ink:
    """Find out what is drawn.

    The paper is the median of the border. Ink is lighter or darker than the paper,
    whichever the pixel is that differs most.

    Raises:
        ImageError: nothing is drawn.
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(np.float64)
    paper = np.median(border)
    differences = grey - paper
    inverted = bool(-differences.min() > differences.max())
    ink = np.maximum(-differences if inverted else differences, 0)
    noise = NOISE * np.median(np.abs(border - paper))
    if ink.max() < max(LEAST_CONTRAST, noise):
        raise ImageError(
            "has nothing drawn on it",
            expected="something darker or lighter than the paper around it",
            found=f"shades of grey from {grey.min()} to {grey.max()} of 255",
        )
    least = min(max(LEAST_INK, noise / ink.max()), SURELY_INK)
    return _Ink(_strengthened(ink), least * 255, inverted)


def _strengthened(ink: NDArray[Any]) -> Grey:
    """Scale ink so that its strongest pixel is 255, unless it is strong enough."""
    strongest = ink.max()
    scaled = ink if strongest >= STRONGEST else ink * (255 / strongest)
    whole: Grey = np.rint(scaled).astype(np.uint8)
    return whole


def _framed(drawn: _Ink, preprocessing: Preprocessing) -> Grey:
    """Scale ink to the longer side that the data set has, and center it.

    Raises:
        ImageError: nothing is left after scaling, because only specks are drawn.
    """
    assert preprocessing.longer_side is not None
    height, width, _ = preprocessing.shape
    ink = drawn.ink
    if ink.shape == (height, width) and _is_framed(ink, preprocessing):
        return ink
    ink = np.where(ink >= drawn.least, ink, 0)  # keeps at least the strongest pixel
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
