"""Reads an image file of any format as shades of grey, or as a picture in colour.

Transparent parts become paper. What is no image is named: a photograph in a format that
Pillow does not read, a document or a web page is told how to become one.
"""

import warnings
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from core.pipeline.errors import DataError

Grey = NDArray[np.uint8]  # (H, W)

MAX_PIXELS = 100_000_000  # of an image as it is opened: 400 MB as RGBA
# A larger image is first averaged down to about this width and height, which removes
# the grain of paper and of a camera, and keeps strokes.
SIDE = 560
EXECUTED = {"EPS"}  # a program, which Pillow would have Ghostscript run

HEAD = 4096  # bytes that tell a format
AS_JPEG, AS_PNG = "save it as JPEG", "save it as PNG"
# How other files begin. ISO 14496-12 has a type in bytes 4 to 8, and then its brands.
BEGINNINGS: dict[bytes, str] = {
    b"%PDF-": f"is a PDF document: {AS_PNG}",
    b"%!PS": f"is a PostScript document: {AS_PNG}",
    b"\xff\x0a": f"is a JPEG XL image: {AS_JPEG}",
    b"\0\0\0\x0cJXL ": f"is a JPEG XL image: {AS_JPEG}",
    b"FUJIFILMCCD-RAW": f"is a RAW photo: {AS_JPEG}",
    b"IIRO": f"is a RAW photo: {AS_JPEG}",  # Olympus
    b"IIRS": f"is a RAW photo: {AS_JPEG}",
    b"MMOR": f"is a RAW photo: {AS_JPEG}",
    b"IIU\0": f"is a RAW photo: {AS_JPEG}",  # Panasonic
    b"\0MRM": f"is a RAW photo: {AS_JPEG}",  # Minolta
    b"FOVb": f"is a RAW photo: {AS_JPEG}",  # Sigma
    b"\x1a\x45\xdf\xa3": f"is a video: {AS_JPEG.replace('it', 'a frame')}",
    b"\x93NUMPY": f"is an array of NumPy: {AS_PNG}",
    b"version https://git-lfs": "is a pointer of Git LFS: run git lfs pull",
}
BRANDS: dict[bytes, str] = {  # the first that is among those of a file
    b"crx ": f"is a RAW photo: {AS_JPEG}",  # Canon's CR3
    b"avif": f"is an AVIF image: {AS_JPEG}",
    b"avis": f"is an AVIF image: {AS_JPEG}",
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        f"is a HEIC photo: {AS_JPEG}",
    ),
    b"": BEGINNINGS[b"\x1a\x45\xdf\xa3"],  # any other
}
TIFF = (b"II*\0", b"MM\0*")
# A TIFF that Pillow cannot decode, with one of these in its head, is of a camera.
CAMERAS = (b"Canon", b"NIKON", b"SONY", b"PENTAX", b"SAMSUNG", b"Hasselblad", b"LEICA", b"Apple",
           b"DNG", b"Google", b"RICOH", b"DJI", b"KODAK")  # fmt: skip
SHADES_APART = 32  # of 255, by which the rim of ink differs from ink itself


class ImageError(DataError):
    """An image cannot be turned into one like those that a model was trained on.

    The message is a predicate, such as "is not an image": the caller puts the name in
    front.
    """


def opened(file: IO[bytes]) -> Image.Image:
    """Decode an image, rotate it upright, and reduce it to about the size needed.

    Args:
        file: in any format that Pillow reads. The first of several frames is used.

    Returns:
        8-bit grey or RGB, or RGBA if any of it is transparent.

    Raises:
        ImageError: it is not an image, is truncated or too large.
    """
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
            _named(file) or "is not an image",
            expected="PNG, JPEG, GIF, WebP, TIFF, BMP or another format that Pillow reads",
        ) from None
    except Image.DecompressionBombError as error:
        raise _too_large(str(error)) from error
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise almost any exception for damaged files
        what = _named(file) or "is damaged or truncated"
        raise ImageError(what, found=str(error)) from error
    return _reduced(_in_known_mode(upright))


def _named(file: IO[bytes]) -> str:
    """Return what a file is that Pillow cannot read, and how it becomes an image; or nothing."""
    file.seek(0)
    head = file.read(HEAD)
    for beginning, what in BEGINNINGS.items():
        if head.startswith(beginning):
            return what
    if head[4:8] == b"ftyp":
        end = max(16, min(int.from_bytes(head[:4], "big"), len(head)))
        what = next(what for brand, what in BRANDS.items() if brand in head[8:end])
        return "" if "AVIF" in what and "AVIF" in Image.OPEN else what
    if head.startswith(TIFF) and (head[8:10] == b"CR" or any(name in head for name in CAMERAS)):
        return f"is a RAW photo: {AS_JPEG}"
    text = head.replace(b"\0", b"").lower()  # also in UTF-16
    if b"<svg" in text:
        return f"is an SVG drawing: {AS_PNG}"
    if b"<html" in text or b"<!doctype html" in text:
        return "is a web page: save the image that it shows"
    return ""


def _too_large(found: str) -> ImageError:
    return ImageError(
        "is too large",
        expected=f"at most {MAX_PIXELS:,} pixels",
        found=found,
        todo="scale it down first",
    )


def _in_known_mode(image: Image.Image) -> Image.Image:
    """Return it as 8-bit grey or RGB, with alpha if any of it is transparent.

    A colour that stands for transparent is the paper: ink fades into it. Only in a palette
    it may be any colour, also that of the ink.
    """
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.mode in ("1", "L", "RGB"):
        image.info.pop("transparency", None)
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


def grey(image: Image.Image) -> Grey:
    """Return the luminance (ITU-R 601-2); transparent parts get that of paper."""
    if image.mode == "RGBA":
        image = opaque(image, paper=0 if _is_light(image) else 255)
    return np.asarray(image.convert("L"))


def _is_light(image: Image.Image) -> bool:
    """Whether what is drawn on a transparent background would be invisible on white paper.

    Ink without soft edges has a rim in the shades between its own and that of the paper
    which it was drawn on. Otherwise the paper is the opposite of the ink.
    """
    shades = np.asarray(image.convert("L"), np.int64)
    cover = np.asarray(image.getchannel("A"), np.int64)
    solid = cover >= 128
    core = ndimage.binary_erosion(solid, np.ones((3, 3)), border_value=1)
    rim = solid & ~core
    if core.any() and rim.any():
        difference = float(np.median(shades[core]) - np.median(shades[rim]))
        if abs(difference) > SHADES_APART:
            return difference > 0
    return bool(cover.sum() > 0 and (shades * cover).sum() > 128 * cover.sum())


def opaque(image: Image.Image, *, paper: int) -> Image.Image:
    """Put a transparent image on paper of this shade."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (paper,) * 3 + (255,)), image)
