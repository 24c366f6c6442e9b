"""Checks that what was cut out of an image is one digit.

The borders of paper, tables, cells and shadows are no digits: they fill their box, enclose
something, or reach out of the image. The limits are above those of the digits of MNIST.
"""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tools.predict.image_files import ImageError

Mask = NDArray[np.bool_]  # (H, W)

BLANK = "has nothing drawn on it"
FILLED = "shows a filled shape or a frame, not lines"
CUT = "shows lines that cross the edge"
SEVERAL = "shows more than one thing"
SPECKS = "has only specks on it"
REASONS = (BLANK, SPECKS, FILLED, CUT, SEVERAL)  # from the least to the most like a digit

SIDE = 120  # of the box of what is checked, in pixels, at most about twice that
LINES = 20  # parts of the longer side; anything shorter vanishes when it is scaled down
# Of the longer side: an image that is cropped to its ink has no more paper at any edge.
NEAR = 1 / 12
SURELY_INK = 1 / 2  # of the strongest ink
PART = 1 / 20  # of the largest piece: a smaller one is a speck
# Of its smallest box, at any angle, a digit with its holes covers less than this; a straight
# line is the exception, and longer than wide by this factor.
FULL, LONG = 0.86, 3
HOLES = 1.3  # a shape with its holes by the shape: a line has none
ANGLES = ((1, 0), (12, 1), (6, 1), (4, 1), (3, 1), (5, 2), (2, 1), (5, 3), (4, 3))
TALL = 0.6  # of the height of all: as high is each of two digits side by side


def nearness(error: ImageError) -> int:
    """Return how near to a digit it came, for the reason that is shown."""
    return REASONS.index(error.what)


def cut_out(ink: NDArray[np.float64], inside: Mask, *, crop: bool) -> Mask:
    """Check that ink is one digit, and return it without the specks around it.

    Args:
        ink: its strength (H, W), 0 where there is none.
        inside: the area of paper with what is drawn on it.
        crop: the paper is what ink leaves of a cropped image.

    Raises:
        ImageError: it is not one digit.
    """
    mask = ink > 0
    box = _box(mask)
    cut = mask[box]
    factor = max(1, max(cut.shape) // SIDE)
    pieces, labels = parts(_any(cut, factor))
    kept = np.isin(pieces, labels).repeat(factor, axis=0).repeat(factor, axis=1)
    digit = np.zeros(mask.shape, bool)
    digit[box] = cut & kept[: cut.shape[0], : cut.shape[1]]

    shapes = [pieces == label for label in labels]
    filled = [ndimage.binary_fill_holes(shape) for shape in shapes]
    if _length(shapes[0]) < max(shapes[0].shape) / LINES:
        raise ImageError(
            SPECKS,
            expected="lines that are still seen when it is scaled down",
            found=f"{len(shapes):,} specks",
        )
    edge_of_paper = inside & ~ndimage.binary_erosion(inside, np.ones((3, 3)), border_value=True)
    if (digit & edge_of_paper).any():
        raise _refusal(CUT, "lines up to the edge of the paper, or up to a line around it")
    # Where a line ends it fades; where the edge crosses it, it does not.
    strong = digit & (ink >= SURELY_INK * ink.max())
    if _reaches_border(strong) and not _is_cropped_to(_box(digit), digit.shape):
        raise _refusal(CUT, "lines up to the border of the image")
    if _is_full(filled[0], shapes[0]):
        raise _refusal(FILLED, "a shape that fills its box")
    if sum(int(each.sum()) for each in filled) > np.count_nonzero(np.any(filled, axis=0)):
        raise _refusal(SEVERAL, "a shape with another in it")
    if crop and not all(_reaches_border(each) for each in shapes):
        raise _refusal(CUT, f"{len(shapes)} shapes, of which one reaches the border of the image")
    if _side_by_side(shapes):
        raise _refusal(SEVERAL, "shapes side by side")
    return digit


def _box(mask: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def parts(mask: Mask) -> tuple[NDArray[np.int32], list[int]]:
    """Label the pieces of a mask, and return the labels of those that are no specks."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")
    return pieces, [int(at) + 1 for at in order if sizes[at] >= PART * sizes.max()]


def _length(shape: Mask) -> int:
    return int(max(np.ptp(positions) + 1 for positions in np.nonzero(shape)))


def _is_cropped_to(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Whether an image ends where ink does, on all four edges."""
    near = NEAR * max(shape)
    return all(
        span.start <= near and span.stop >= side - near
        for span, side in zip(box, shape, strict=True)
    )


def _reaches_border(shape: Mask) -> bool:
    return bool(np.concatenate([shape[0], shape[-1], shape[:, 0], shape[:, -1]]).any())


def _refusal(what: str, found: str) -> ImageError:
    return ImageError(
        what,
        expected="one digit, with nothing but paper around it",
        found=found,
        todo="photograph the digit alone, or crop the image to it and the paper around it",
    )


def _any(mask: Mask, factor: int) -> Mask:
    """Reduce a mask: a block is set if any of its pixels is."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % factor), (0, -width % factor)))
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    return np.asarray(blocks.any(axis=(1, 3)))


def _is_full(filled: Mask, shape: Mask) -> bool:
    """Whether a shape fills its box and is not a straight line."""
    share, ratio = share_of_box(filled)
    has_holes = np.count_nonzero(filled) > HOLES * np.count_nonzero(shape)
    return share >= FULL and bool(ratio < LONG or has_holes)


def share_of_box(mask: Mask) -> tuple[float, float]:
    """Return how much of its smallest box, at any angle, is filled, and length by width."""
    down, across = np.nonzero(mask)
    boxes = []
    for a, b in ANGLES:
        for x, y in ((a, b), (b, a)):
            along, aside = x * across + y * down, x * down - y * across
            reach = x + y  # of a pixel, which is a square
            sides = int(np.ptp(along)) + reach, int(np.ptp(aside)) + reach
            boxes.append((sides[0] * sides[1] / (x * x + y * y), max(sides) / min(sides)))
    area, ratio = min(boxes)
    return len(down) / area, ratio


def _side_by_side(shapes: list[Mask]) -> bool:
    """Whether two parts are both tall and stand side by side."""
    spans = [np.flatnonzero(part.any(axis=0)) for part in shapes]
    heights = [np.ptp(np.flatnonzero(part.any(axis=1))) + 1 for part in shapes]
    whole = shapes[0].shape[0]
    tall = sorted(
        (int(span[0]), int(span[-1]))
        for span, height in zip(spans, heights, strict=True)
        if height >= TALL * whole
    )
    return any(right[0] > left[1] for left, right in itertools.pairwise(tall))
