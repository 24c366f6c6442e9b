"""How `tools.predict` does on test images that look as if written and photographed by hand.

    python -m benchmarks.by_hand --rev cnn-mnist-seed-1   1,000 images of each kind
    python -m benchmarks.by_hand --kinds table frame      only of these kinds
    python -m benchmarks.by_hand --save pictures          some of each kind, as files

It takes the first test images that the model gets right, distorts each in the way of its kind,
and predicts it by the code of `python -m tools.predict`. It prints for each kind how many are
right, refused for a reason that is true of the kind, refused for another one, wrong, and wrong
with a probability above 90 %. The random numbers depend on the kind and the image only. Run
`make repro` first.
"""

import argparse
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.predict import CLASS_NAMES, TEST_IMAGES, TEST_LABELS, best
from core.data import arrays
from core.pipeline import provenance
from tools.predict import loaded_model, one_digit, preparation
from tools.predict.image_files import ImageError

Generator = np.random.Generator
Grey = NDArray[np.float64]  # (H, W), from 0 to 255
SIDE = 280  # of an enlarged digit, in pixels
PAPER, INK = 215.0, 30.0
GRAIN = 3.0  # standard deviation of a camera's noise
SURE = 0.9
SAVED = 4  # images of each kind

CUT, SEVERAL = one_digit.CUT, one_digit.SEVERAL


def _drawn(digit: NDArray[np.uint8]) -> Grey:
    """Enlarge a digit (28, 28) to shares of ink, (SIDE, SIDE)."""
    large = Image.fromarray(digit).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float64) / 255


def _written(ink: Grey, paper: float | Grey = PAPER) -> Grey:
    """Put shares of ink on paper."""
    return paper + (INK - paper) * ink


def _on(surface: Grey, sheet: Grey, top: int, left: int) -> Grey:
    surface[top : top + sheet.shape[0], left : left + sheet.shape[1]] = sheet
    return surface


def _photo(scene: Grey, random: Generator) -> bytes:
    """Add grain, and compress as a camera does."""
    grainy = scene + random.normal(0, GRAIN, scene.shape)
    return _file(grainy, "JPEG", quality=85)


def _file(scene: Grey, kind: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.rint(scene).clip(0, 255).astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


def undistorted(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """The test image as it is."""
    return _file(digit.astype(np.float64))


def sheet(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """Anywhere on a sheet that fills the photograph."""
    room = np.zeros((640, 480))
    top, left = random.integers(0, (640 - SIDE, 480 - SIDE))
    return _photo(_written(_on(room, _drawn(digit), top, left)), random)


def table(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On paper, with a darker table all around."""
    surface = np.full((640, 640), random.uniform(30, 150))
    paper = _written(np.pad(_drawn(digit), random.integers(0, 60)))
    top, left = random.integers(20, 620 - np.array(paper.shape))
    return _photo(_on(surface, paper, top, left), random)


def table_as_drawn(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """The same without grain: exact shades, the table at 60."""
    return _file(_on(np.full((520, 520), 60.0), _written(_drawn(digit)), 120, 120))


def light_table(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On grey paper, with a lighter table all around."""
    surface = np.full((640, 640), random.uniform(225, 255))
    paper = _written(np.pad(_drawn(digit), random.integers(0, 60)), paper=170)
    top, left = random.integers(20, 620 - np.array(paper.shape))
    return _photo(_on(surface, paper, top, left), random)


def turned_table(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On paper that is turned by up to 10°, with a darker table all around."""
    table = random.uniform(30, 150)
    paper = Image.fromarray(_written(np.pad(_drawn(digit), 20)).astype(np.float32))
    turned = paper.rotate(
        random.uniform(-10, 10), Image.Resampling.BICUBIC, expand=True, fillcolor=table
    )
    surface = np.full((640, 640), table)
    top, left = random.integers(20, 620 - np.array(turned.size[::-1]))
    return _photo(_on(surface, np.asarray(turned, np.float64), top, left), random)


def _at_edges(digit: NDArray[np.uint8], random: Generator, edges: int) -> bytes:
    """On paper, with a darker table at some neighbouring edges."""
    widths = random.integers(15, 150, 4) * (np.arange(4) < edges)
    widths = np.roll(widths, random.integers(4))  # left, top, right, bottom
    across, down = (widths[0], widths[2]), (widths[1], widths[3])
    paper = np.full((SIDE + 120, SIDE + 100), PAPER)
    top, left = random.integers(5, np.array(paper.shape) - SIDE - 5)
    paper = _on(paper, _written(_drawn(digit)), top, left)
    scene = np.pad(paper, (down, across), constant_values=random.uniform(30, 150))
    return _photo(scene, random)


def table_one_side(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On paper, with a darker table at one edge."""
    return _at_edges(digit, random, 1)


def table_two_sides(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On paper, with a darker table at two edges that meet in a corner."""
    return _at_edges(digit, random, 2)


def table_three_sides(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On paper, with a darker table at three edges."""
    return _at_edges(digit, random, 3)


def _frame(scene: Grey, inset: int, width: int, shade: float) -> Grey:
    """Draw the outline of a rectangle at some distance from the edges."""
    inner = np.zeros(scene.shape, bool)
    inner[inset : -inset or None, inset : -inset or None] = True
    if 2 * (inset + width) < min(scene.shape):
        inner[inset + width : -inset - width, inset + width : -inset - width] = False
    scene[inner] = shade
    return scene


def frame(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """In a cell, whose line is drawn around it on a larger sheet."""
    inset = int(random.integers(6, 60))
    width = int(random.integers(1, 9))
    paper = _written(np.pad(_drawn(digit), inset + width + 2))
    return _photo(_frame(paper, inset, width, random.uniform(20, 140)), random)


def frame_at_border(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """In a cell, cut out with its line, one pixel wide, at the border of the image."""
    return _file(_frame(_written(np.pad(_drawn(digit), 2)), 0, 1, INK))


def grid(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """In a cell of a form, of whose neighbours a part is seen."""
    width = int(random.integers(2, 7))
    margin = int(random.integers(20, 80))
    paper = _written(np.pad(_drawn(digit), margin + width + 5))
    for at in (margin, paper.shape[0] - margin - width):
        paper[at : at + width] = paper[:, at : at + width] = random.uniform(20, 120)
    return _photo(paper, random)


def light(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On a sheet on which the light falls from 225 to 165, to one of the eight directions."""
    down, across = np.mgrid[:400, :400] / 399
    far = ((down, 1 - down), (across, 1 - across), (down, across), (1 - down, across))
    first, second = far[random.integers(4)]
    share = first if random.integers(2) else (first + second) / 2
    share = (share - share.min()) / ((share.max() - share.min()) or 1)
    room = np.zeros((400, 400))
    top, left = random.integers(10, 400 - SIDE - 10, 2)
    return _photo(_written(_on(room, _drawn(digit), top, left), 225 - 60 * share), random)


def lamp(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """In the light of a lamp: 230 below it, and 140 in the farthest corner."""
    at = random.uniform(0, 400, 2)
    down, across = np.mgrid[:400, :400]
    distance = (down - at[0]) ** 2 + (across - at[1]) ** 2
    room = np.zeros((400, 400))
    top, left = random.integers(10, 400 - SIDE - 10, 2)
    paper = 230 - 90 * distance / distance.max()
    return _photo(_written(_on(room, _drawn(digit), top, left), paper), random)


def shadow(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """Half in a soft shadow, which takes a third of the light."""
    down, across = np.mgrid[:400, :400]
    turn = random.uniform(0, 2 * np.pi)
    along = (down - 200) * np.sin(turn) + (across - 200) * np.cos(turn)
    shade = 1 - 1 / 3 / (1 + np.exp(-along / 15))
    room = np.zeros((400, 400))
    top, left = random.integers(10, 400 - SIDE - 10, 2)
    return _photo(_written(_on(room, _drawn(digit), top, left)) * shade, random)


def _box(ink: Grey, least: float) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero((ink > least).any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def box(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """The test image, cropped to the box of its ink, dark on light."""
    ink = digit.astype(np.float64)
    return _file(255 - ink[_box(ink, 0)])


def large_box(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """A photograph, cropped to the box of what is at least half ink."""
    ink = _drawn(digit)
    return _photo(_written(ink[_box(ink, 0.5)]), random)


def border(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On a sheet that is cropped where the ink begins, at one edge."""
    return _photo(_written(_cropped(_drawn(digit), int(random.integers(4)), 0)), random)


def corner(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On a sheet that is cropped where the ink begins, at two edges that meet."""
    edge = int(random.integers(4))
    return _photo(_written(_cropped(_cropped(_drawn(digit), edge, 0), edge + 1, 0)), random)


def cut(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """On a sheet that is cropped so that a tenth to two fifths of the ink are lost, at one edge."""
    lost = random.uniform(0.1, 0.4)
    return _photo(_written(_cropped(_drawn(digit), int(random.integers(4)), lost)), random)


def _cropped(ink: Grey, edge: int, lost: float) -> Grey:
    """Crop ink at one of the four edges so that this share of its box is lost."""
    turned = np.rot90(ink, edge)
    rows, _ = _box(turned, 0.3)
    first = rows.start + int((rows.stop - rows.start) * lost)
    return np.rot90(turned[first:], -edge)


def two(digit: NDArray[np.uint8], random: Generator) -> bytes:
    """Written twice, side by side."""
    ink = _drawn(digit)
    _, columns = _box(ink, 0.3)
    both = np.hstack([ink[:, columns], np.zeros((SIDE, 30)), ink[:, columns]])
    return _photo(_written(np.pad(both, 40)), random)


class Kind(NamedTuple):
    """A way to distort a digit."""

    distort: Callable[[NDArray[np.uint8], Generator], bytes]
    # For which a refusal is right. The ink of some test images reaches the edge of small paper.
    reasons: tuple[str, ...] = ()


KINDS = (
    Kind(undistorted), Kind(sheet),
    Kind(table, (CUT,)), Kind(table_as_drawn, (CUT,)), Kind(light_table, (CUT,)),
    Kind(turned_table, (CUT,)), Kind(table_one_side, (CUT,)), Kind(table_two_sides, (CUT,)),
    Kind(table_three_sides, (CUT,)),
    Kind(frame, (CUT, SEVERAL)), Kind(frame_at_border, (CUT, SEVERAL)), Kind(grid, (CUT, SEVERAL)),
    Kind(light), Kind(lamp), Kind(shadow),
    Kind(box, (CUT,)), Kind(large_box, (CUT,)), Kind(border, (CUT,)), Kind(corner, (CUT,)),
    Kind(cut, (CUT,)), Kind(two, (SEVERAL,)),
)  # fmt: skip


def main(
    revision: str | None, images: int, kinds: Sequence[str] | None, folder: Path | None
) -> None:
    """Count what a model gets right, for each kind."""
    provenance.check_outputs()  # the images must be those of this data set
    model = loaded_model.load(revision)
    pixels, labels, _ = arrays.read_labelled_images(TEST_IMAGES, TEST_LABELS, CLASS_NAMES)
    chosen: list[int] = []
    for at in range(len(pixels)):
        if len(chosen) == images:
            break
        if best(model.probabilities(pixels[at])) == labels[at]:
            chosen.append(at)

    print(f"{model.name} of {revision or 'this folder'}, {len(chosen):,} test images of each kind")
    print(f"{'kind':<18}  right  refused  otherwise  wrong  above 90 %")
    for kind in KINDS:
        name = kind.distort.__name__
        if kinds and name not in kinds:
            continue
        counts = dict.fromkeys(("right", "refused", "otherwise", "wrong", "sure"), 0)
        for number, at in enumerate(chosen):
            random = np.random.default_rng([zlib.crc32(name.encode()), at])
            content = kind.distort(pixels[at, :, :, 0], random)
            try:
                prepared = preparation.prepare(io.BytesIO(content), model.preprocessing)
            except ImageError as error:
                counts["refused" if error.what in kind.reasons else "otherwise"] += 1
                outcome = error.what
            else:
                probabilities = model.probabilities(prepared.pixels)
                label = best(probabilities)
                counts["right" if label == labels[at] else "wrong"] += 1
                counts["sure"] += label != labels[at] and max(probabilities) > SURE
                outcome = f"{label}"
            if folder and number < SAVED:
                folder.mkdir(parents=True, exist_ok=True)
                suffix = Image.open(io.BytesIO(content)).format
                path = folder / f"{name}-{number}-{labels[at]}-{outcome}.{suffix}"
                path.write_bytes(content)
        print(
            f"{name:<18}  {counts['right']:>5}  {counts['refused']:>7}  {counts['otherwise']:>9}"
            f"  {counts['wrong']:>5}  {counts['sure']:>10}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    loaded_model.add_revision(parser)
    parser.add_argument("--images", type=int, default=1000, help="of each kind; default: 1,000")
    parser.add_argument("--kinds", nargs="+", choices=[kind.distort.__name__ for kind in KINDS])
    parser.add_argument("--save", type=Path, dest="folder", help="a folder for some of each kind")
    arguments = parser.parse_args()
    main(arguments.revision, arguments.images, arguments.kinds, arguments.folder)
