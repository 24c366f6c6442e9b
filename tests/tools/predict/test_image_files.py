"""What is no image is named; transparent images and those of 16 bits become what is seen."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageChops

from tests.tools.predict.drawings import alike, seven, written
from tools.predict import image_files
from tools.predict.image_files import ImageError
from tools.predict.preparation import PREPROCESSING, prepare

MNIST = PREPROCESSING["mnist"]


def media(*brands: bytes) -> bytes:
    """The beginning of a file of the ISO base media format: its type, its brands, and more."""
    kinds = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 8 + len(kinds)) + b"ftyp" + kinds + b"\0\0\0\x08free" * 9


def of_camera(make: bytes, byte_order: bytes = b"II*\0") -> bytes:
    """A TIFF whose only entry is the make of a camera, as the head of a RAW photo has it."""
    entry = struct.pack("<HHII", 271, 2, len(make), 26)
    return byte_order + struct.pack("<IH", 8, 1) + entry + bytes(4) + make


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (media(b"heic", b"mif1", b"heic"), "is a HEIC photo: save it as JPEG"),
        (media(b"mif1", b"heic"), "is a HEIC photo: save it as JPEG"),
        (media(b"mif1", b"mif1", b"heix"), "is a HEIC photo: save it as JPEG"),
        (media(b"crx ", b"crx ", b"isom"), "is a RAW photo: save it as JPEG"),
        (media(b"isom", b"mp41"), "is a video: save a frame as JPEG"),
        (of_camera(b"NIKON CORPORATION\0"), "is a RAW photo: save it as JPEG"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "is a RAW photo: save it as JPEG"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "is a RAW photo: save it as JPEG"),
        (b"%PDF-1.7\n", "is a PDF document: save it as PNG"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
         "is an SVG drawing: save it as PNG"),
        ("<svg/>".encode("utf-16"), "is an SVG drawing: save it as PNG"),
        (b"<!DOCTYPE html><title>7</title>", "is a web page: save the image that it shows"),
        (b"\xff\x0a" + bytes(99), "is a JPEG XL image: save it as JPEG"),
        (b"\x93NUMPY\x01\0", "is an array of NumPy: save it as PNG"),
        (b"version https://git-lfs.github.com/spec/v1\n",
         "is a pointer of Git LFS: run git lfs pull"),
        (b"seven", "is not an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_pillow_cannot_read_is_named_with_what_to_do(content: bytes, problem: str) -> None:
    with pytest.raises(ImageError) as refused:
        prepare(io.BytesIO(content), MNIST)
    assert refused.value.what == problem


def test_avif_is_read_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = media(b"avif", b"mif1", b"avif")
    with pytest.raises(ImageError, match=r"is damaged or truncated|is not an image"):
        prepare(io.BytesIO(content), MNIST)
    Image.init()
    without = {name: opener for name, opener in Image.OPEN.items() if name != "AVIF"}
    monkeypatch.setattr(Image, "OPEN", without)
    with pytest.raises(ImageError, match="is an AVIF image: save it as JPEG"):
        prepare(io.BytesIO(content), MNIST)


def soft() -> Image.Image:
    """White on black, with soft edges, which are dark shades that are not black."""
    return ImageChops.invert(seven(50)).resize((300, 300), Image.Resampling.BICUBIC)


def keyed(mode: str) -> io.BytesIO:
    """White on black; black means transparent."""
    image = soft().convert(mode, dither=Image.Dither.NONE)
    if mode == "P":
        entries = np.reshape(image.getpalette() or [], (-1, 3))
        key: object = int(np.flatnonzero((entries == 0).all(axis=1))[0])
    else:
        key = {"L": 0, "1": 0, "RGB": (0, 0, 0)}[mode]
    return written(image, transparency=key)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_white_ink_on_a_black_that_means_transparent_is_read(mode: str) -> None:
    found = prepare(keyed(mode), MNIST)
    assert not found.inverted
    assert alike(found.pixels, prepare(written(soft()), MNIST).pixels, within=0.15)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_black_ink_on_a_white_that_means_transparent_is_read(mode: str) -> None:
    image = ImageChops.invert(soft()).convert(mode, dither=Image.Dither.NONE)
    if mode == "P":
        entries = np.reshape(image.getpalette() or [], (-1, 3))
        key: object = int(np.flatnonzero((entries == 255).all(axis=1))[0])
    else:
        key = {"L": 255, "1": 1, "RGB": (255,) * 3}[mode]
    found = prepare(written(image, transparency=key), MNIST)
    assert found.inverted
    assert alike(found.pixels, prepare(written(soft()), MNIST).pixels, within=0.15)


@pytest.mark.parametrize("ink", [0, 255])
def test_a_transparent_entry_of_a_palette_may_have_the_colour_of_the_ink(ink: int) -> None:
    image = Image.new("P", (200, 200), 1)
    image.putpalette([ink] * 6)
    image.paste(0, mask=ImageChops.invert(seven()))
    found = prepare(written(image, transparency=1), MNIST)
    assert found.inverted == (ink == 0)
    assert alike(found.pixels, prepare(written(seven()), MNIST).pixels, within=0.15)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("ink", [0, 255])
def test_ink_with_a_soft_alpha_is_read(mode: str, ink: int) -> None:
    image = Image.new("RGBA", (300, 300), (ink,) * 3 + (0,))
    image.putalpha(soft())
    found = prepare(written(image.convert(mode)), MNIST)
    assert found.inverted == (ink == 0)
    assert alike(found.pixels, prepare(written(soft()), MNIST).pixels, within=0.15)


def test_white_ink_with_a_dark_rim_on_nothing_was_drawn_on_black() -> None:
    image = soft().convert("RGBA")
    image.putalpha(soft().point(lambda shade: 255 if shade else 0))
    found = prepare(written(image), MNIST)
    assert not found.inverted
    assert alike(found.pixels, prepare(written(soft()), MNIST).pixels, within=0.15)


def test_sixteen_bits_with_a_black_that_means_transparent_are_read() -> None:
    image = Image.fromarray(np.asarray(soft()).astype(np.uint16) * 257)
    found = prepare(written(image, transparency=0), MNIST)
    assert not found.inverted
    assert alike(found.pixels, prepare(written(soft()), MNIST).pixels, within=0.15)


def test_an_image_is_not_opened_by_what_would_run_it() -> None:
    assert {"EPS"} <= image_files.EXECUTED
