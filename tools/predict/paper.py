"""Finds the paper of an image, and what is drawn on it.

A photograph may show a table around the paper, a cell's line around a digit, and light that
falls off. So paper is searched for: each area without edges is taken for paper in turn, the
largest first, and the first on which one digit is drawn is the paper. If none is, the image
is refused, and the reason is that of the area which came nearest to it.

The shade that paper has at each pixel, and its noise, are estimated once from that area. They
decide both whether it is blank and which pixels are ink.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tools.predict import one_digit
from tools.predict.image_files import Grey, ImageError

Mask = NDArray[np.bool_]  # (H, W)

LEAST_CONTRAST = 25  # of 255; on blank paper, JPEG compression leaves less
# Ink is what differs from the paper by this share of the strongest ink, and by eight
# times the median deviation of the paper: five standard deviations of its noise. Of faint
# ink, half of the strongest is ink in any case.
LEAST_INK, SURELY_INK = 1 / 8, 1 / 2
NOISE = 8
# Paper is searched for in a map, an image reduced to about this width and height.
MAP_SIDE = 120
# An edge is where the shades of 3 × 3 pixels of the map span more than so many, or than a
# sixth of those of the whole map if that is less, or than twelve times the median difference
# from the median of 3 × 3 pixels if that is more: six standard deviations of noise.
EDGE, FAINT_EDGE, NOISE_SPAN = 12, 1 / 6, 12
LEAST_AREA = 1 / 100  # of the map, below which an area is not paper
WHOLE = 0.95  # of the map: a sheet fills it, and the image is not cropped to its ink
LEAST_SHARE = 1 / 4  # of the contrast of the image: that of ink to its paper, at least
LIGHT = 8  # the light is taken as even over one of so many parts of the longer side


class Drawn(NamedTuple):
    """What is drawn, light on black."""

    ink: NDArray[np.float64]  # (H, W), differences from the paper; 0 where that may be noise
    inverted: bool  # it was darker than the paper


class _Area(NamedTuple):
    """An area of the map that may be paper."""

    paper: Mask  # free of ink
    inside: Mask  # with what is drawn on it
    crop: bool  # it is what ink leaves of a cropped image, and not a sheet


def drawn(grey: Grey, *, one_digit_only: bool) -> Drawn:
    """Find out what is drawn.

    Args:
        grey: shades (H, W).
        one_digit_only: paper is searched for until one digit is drawn on it. Otherwise
            the border of the image is paper, and everything on it is drawn.

    Raises:
        ImageError: nothing is drawn, or it is not what was asked for.
    """
    factor = -(-max(grey.shape) // MAP_SIDE)
    reduced = np.asarray(Image.fromarray(grey).reduce(factor), np.int64)
    if not one_digit_only:
        return _on(_all_at_border(reduced), grey, reduced, factor)
    reasons = []
    for area in _areas(reduced):
        try:
            found = _on(area, grey, reduced, factor)
            inside = _enlarged(area.inside, factor, grey.shape)
            digit = one_digit.cut_out(found.ink, inside, crop=area.crop)
            return Drawn(np.where(digit, found.ink, 0), found.inverted)
        except ImageError as error:
            reasons.append(error)
    raise max(reasons, key=one_digit.nearness)


def _areas(reduced: NDArray[np.int64]) -> Iterator[_Area]:
    """Yield the areas that may be paper: sheets, the largest first, then crops."""
    labels, count = ndimage.label(~_edges(reduced))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    is_cropped = True
    for label in 1 + np.argsort(-sizes[1:], kind="stable"):
        if sizes[label] >= LEAST_AREA * labels.size:
            paper = labels == label
            inside = _between(paper)
            # Sheets and cells are rectangles, which ink around a hole is not.
            if one_digit.share_of_box(inside)[0] >= one_digit.FULL:
                yield _Area(paper, inside, False)
                is_cropped &= bool(inside.mean() < WHOLE)
    if not is_cropped:
        return
    # Ink that reaches from border to border leaves several areas of paper.
    low, high = int(reduced.min()), int(reduced.max())
    light, dark = reduced >= high - (high - low) / 4, reduced <= low + (high - low) / 4
    middle = reduced > (low + high) / 2
    classes = [(light, ~middle), (dark, middle)]
    # Cropped ink is one piece more often than what it leaves of the paper.
    for paper, _ in sorted(classes, key=lambda each: len(one_digit.parts(each[1])[1])):
        yield _Area(paper, np.ones(paper.shape, bool), True)


def _all_at_border(reduced: NDArray[np.int64]) -> _Area:
    """Return all areas without edges that reach the border, or else the border itself."""
    labels, _ = ndimage.label(~_edges(reduced))
    reaching = np.unique(_at_border(labels))
    paper = np.isin(labels, reaching[reaching > 0])
    if not paper.any():
        paper[[0, -1]] = True
        paper[:, [0, -1]] = True
    return _Area(paper, np.ones(paper.shape, bool), False)


def _at_border(values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _edges(reduced: NDArray[np.int64]) -> Mask:
    spans = ndimage.maximum_filter(reduced, 3) - ndimage.minimum_filter(reduced, 3)
    contrast = int(np.ptp(reduced))
    grain = float(np.median(np.abs(reduced - ndimage.median_filter(reduced, 3))))
    noise = min(NOISE_SPAN * grain, contrast / 3)
    found: Mask = spans > max(min(EDGE, FAINT_EDGE * contrast), noise)
    return found


def _between(paper: Mask) -> Mask:
    """Return pixels with paper before and after them, in their row or in their column."""
    reached = np.maximum.accumulate
    across = reached(paper, 1) & reached(paper[:, ::-1], 1)[:, ::-1]
    down = reached(paper, 0) & reached(paper[::-1], 0)[::-1]
    return across | down


def _on(area: _Area, grey: Grey, reduced: NDArray[np.int64], factor: int) -> Drawn:
    """Return what differs from the paper of an area, within it.

    Raises:
        ImageError: nothing does.
    """
    differences = grey - _enlarged(_shades(reduced, area.paper), factor, grey.shape)
    inside = _enlarged(area.inside, factor, grey.shape)
    noise = NOISE * float(np.median(np.abs(differences[_enlarged(area.paper, factor, grey.shape)])))
    differences[~inside] = 0
    inverted = bool(-differences.min() > differences.max())
    ink = np.maximum(-differences if inverted else differences, 0)
    strongest = float(ink.max())
    surely_not_paper = max(LEAST_CONTRAST, noise, LEAST_SHARE * float(np.ptp(reduced)))
    if strongest < surely_not_paper:
        raise ImageError(
            one_digit.BLANK,
            expected="something darker or lighter than the paper around it",
            found=f"shades of grey from {grey.min()} to {grey.max()} of 255",
        )
    least = max(LEAST_INK * strongest, min(surely_not_paper, SURELY_INK * strongest))
    return Drawn(np.where(ink >= least, ink, 0), inverted)


def _shades(reduced: NDArray[np.int64], paper: Mask) -> NDArray[np.float64]:
    """Return the shade of paper at each pixel: its mean in a square around.

    Where no paper is in the square, the square grows.
    """
    side = max(reduced.shape)
    reach = max(1, side // LIGHT // 2)
    shades = np.zeros(reduced.shape)
    missing = np.ones(reduced.shape, bool)
    while missing.any():
        sums = _sums_around(np.where(paper, reduced, 0), reach)
        counts = _sums_around(paper.astype(np.int64), reach)
        now = missing & (counts > 0)
        shades[now] = sums[now] / counts[now]
        missing &= ~now
        reach *= 2
    return shades


def _sums_around(values: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Sum up the squares around each pixel, which reach so far each way."""
    for axis in (0, 1):
        size = values.shape[axis]
        totals = np.insert(np.cumsum(values, axis=axis), 0, 0, axis=axis)
        at = np.arange(size)
        values = totals.take(np.minimum(at + reach + 1, size), axis=axis) - totals.take(
            np.maximum(at - reach, 0), axis=axis
        )
    return values


def _enlarged(values: NDArray[Any], factor: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return values of the map for each pixel of the image."""
    return values.repeat(factor, axis=0).repeat(factor, axis=1)[: shape[0], : shape[1]]
