"""Decoding: from a file to the counts that its camera wrote, and what they mean.

Pillow decodes; this module knows what Pillow leaves open: the count that is full scale, whether
white is high or low, which way is up, pages, 16-bit color, and packed TIFF of 9 to 16 bits.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ldf_utils.data.files import web_page_or_pointer
from ldf_utils.data.names import IMAGE_SUFFIXES, ImageError

_log = logging.getLogger(__name__)
_warned: set[tuple[Path, str]] = set()

# Tags of TIFF.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _STRIP_BYTES, _PREDICTOR = 273, 274, 277, 279, 317

# Pillow reads 16-bit color with 8 bits: it keeps the high byte of each sample. Read again as if
# the bytes came in the other order, it keeps the low one. Gray with alpha is four bytes.
_LOW_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBX;16L": "RGBX;16B",
    "RGBX;16B": "RGBX;16L",
}
# libtiff gives samples in the order of the processor ("N").
_LOW_BYTE |= {f"{m};16N": f"{m};16{'BL'[sys.byteorder == 'big']}" for m in ("RGB", "RGBA", "RGBX")}
_GRAY_ALPHA_16 = "LA;16B"


@dataclass(frozen=True)
class Decoded:
    """A picture as its file has it, upright and with white high.

    Attributes:
        values: ``(H, W)`` or ``(H, W, 3)``: counts, of any type of numbers.
        full: the count of full scale, or None where the file does not say it (floating point
            outside [0, 1], signed and 32-bit integers).
    """

    values: np.ndarray
    full: float | None

    @property
    def bits(self) -> int:
        """Bits that the counts need: 8 at least; 16 for floating point."""
        if self.full is None or self.values.dtype.kind == "f":
            return 16
        return max(8, int(self.full).bit_length())


def warn_once(path: Path, kind: str, text: str) -> None:
    """Log a warning about a picture, and none of this kind about others in its folder."""
    if (path.parent, kind) not in _warned:
        _warned.add((path.parent, kind))
        _log.warning("%s: %s", path, text)


def bits_of(path: Path) -> int:
    """Return how many bits a sample has by the head of a file: 8, or more for deep ones.

    Files that cannot be read count as 8; `decode` says what is wrong with them.
    """
    try:
        with _open(path) as image:
            if image.mode[0] in "IF":
                return min(16, _tag(image, _BITS, 16))
            return 16 if any(";16" in _raw_mode(tile) for tile in image.tile) else 8
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 16 if _is_tiff(path) else 8


def decode(path: str | os.PathLike) -> Decoded:
    """Decode a picture: upright, white high, with its full scale.

    A file of several pages is read at its first; a warning is logged.

    Raises:
        ImageError: if the file is missing, must not be read, is empty, damaged, no picture, too
            large, of a kind that is not read, or holds numbers that are not finite.
    """
    path = Path(path)
    try:
        with _open(path) as image:
            _choose_page(image, path)
            low = _low_bytes(path, image)
            picture = _upright(image, path)
            if low is not None:
                return _join_bytes(picture, low, path)
            decoded = _interpret(picture, image, path)
    except FileNotFoundError as error:
        raise ImageError(
            f"{path}: there is no such file; check the path and its spelling"
        ) from error
    except IsADirectoryError as error:
        raise ImageError(f"{path}: expected a picture, found a folder") from error
    except PermissionError as error:
        raise ImageError(
            f"{path}: {'expected a picture, found a folder' if path.is_dir() else _DENIED}"
        ) from error
    except UnidentifiedImageError as error:
        packed = _unpack_tiff(path)
        if packed is None:
            raise ImageError(_unknown(path)) from error
        return packed
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path}: claims more pixels than are read ({error}); cut it into smaller pictures, or "
            "fetch it again if it should be small"
        ) from error
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"{path}: the picture is damaged or cut off ({error}); fetch the file again"
        ) from error
    if decoded.values.dtype.kind == "f":
        bad = int((~np.isfinite(decoded.values)).sum())
        if bad:
            raise ImageError(
                f"{path}: {bad} of {decoded.values.size} pixels are not finite (NaN or infinite); "
                "fill or crop them first"
            )
    return decoded


@contextlib.contextmanager
def _open(path: Path) -> Iterator[ImageFile.ImageFile]:
    # By a file, not by its name: Pillow maps plain TIFF that it opens by name into memory, and
    # scrambles those that are turned by 90 degrees (seen in Pillow 13).
    with open(path, "rb") as file, Image.open(file) as image:
        yield image


_DENIED = (
    "permission denied; allow reading it (for example chmod u+r), or run as the user whom it "
    "belongs to"
)


def _unknown(path: Path) -> str:
    size = path.stat().st_size
    if size == 0:
        return f"{path}: the file is empty; fetch or export it again"
    if _is_tiff(path):
        return (
            f'{path}: a TIFF of a kind that is not read (see the table "What is read" in the '
            "README); convert it to a 16-bit gray PNG or TIFF without compression"
        )
    with open(path, "rb") as file:
        other = web_page_or_pointer(file.read(256))
    found = "this is not a picture that Pillow can read" if other is None else f"found {other}"
    return (
        f"{path}: {found} ({size} bytes); expected a picture, one of "
        f"{', '.join(IMAGE_SUFFIXES)}. Fetch the file again or remove it"
    )


# --- pages, orientation


def _choose_page(image: Image.Image, path: Path) -> None:
    """Go to the first page that is no thumbnail, and warn if there are more such pages."""
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":  # MPO: a JPEG of a camera with its preview behind
        return
    pages = list(range(count))
    if image.format == "TIFF":
        pages = []
        for number in range(count):
            image.seek(number)
            if not _tag(image, _SUBFILE, 0) & 1:
                pages.append(number)
    first = pages[0] if pages else 0
    image.seek(first)
    if len(pages) > 1:
        warn_once(
            path,
            "pages",
            f"holds {len(pages)} pages or frames, and only the first is read; save each as a file "
            "of its own to use them all",
        )


def _upright(image: Image.Image, path: Path) -> Image.Image:
    """Return the loaded picture, turned as its EXIF data says."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # whatever damaged EXIF data lead to
        warn_once(path, "exif", f"its EXIF data are damaged ({error}); read as it is stored")
        return image


# --- what the counts mean


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """Return a number of a TIFF; ``default`` where there is none or another format."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _interpret(picture: Image.Image, source: Image.Image, path: Path) -> Decoded:
    mode = picture.mode
    if mode.startswith("I;16") or (mode == "I" and source.format in ("PNG", "PPM")):
        # JPEG 2000, PNG and PPM are brought to 16 bits by Pillow, TIFF is not.
        full = 2 ** min(16, _tag(source, _BITS, 16)) - 1
        values = np.asarray(picture).astype(np.int32)
        if _tag(source, _PHOTOMETRIC, 1) == 0:  # min is white
            values = full - values
        return Decoded(values.clip(0).astype(np.uint16), full)
    if mode in ("I", "F"):
        if source.format == "TIFF" and _tag(source, _PHOTOMETRIC, 1) == 0:
            raise ImageError(
                f"{path}: numbers of {_tag(source, _BITS, 32)} bits whose lowest is white have no "
                "known scale; save it with white high (PhotometricInterpretation 1)"
            )
        values = np.asarray(picture)
        unit = mode == "F" and bool((values >= 0).all() and (values <= 1).all())
        return Decoded(values, 1.0 if unit else None)
    for premultiplied, plain in (("La", "LA"), ("RGBa", "RGBA")):
        if mode == premultiplied:
            picture = picture.convert(plain)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") and picture.getchannel("A").getextrema() != (
        255,
        255,
    ):
        _warn_alpha(path)
    if mode in ("1", "L", "LA", "La"):
        return Decoded(np.asarray(picture.convert("L")), 255)
    if mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        return Decoded(np.asarray(picture.convert("RGB")), 255)
    raise ImageError(
        f"{path}: pixels of Pillow mode {mode!r} are not read; convert the file to an 8-bit RGB or "
        "a 16-bit gray PNG"
    )


def _warn_alpha(path: Path) -> None:
    warn_once(
        path,
        "alpha",
        "has transparent pixels; they are read with the color that is stored below, since "
        "transparency says where a picture is and not what it shows",
    )


# --- 16-bit color


def _raw_mode(tile: Any) -> str:
    args = tile[3]
    return str(args[0] if isinstance(args, tuple) else args)


def _low_bytes(path: Path, image: ImageFile.ImageFile) -> Image.Image | None:
    """Decode the low bytes of a picture of 16-bit color on their own; None for others.

    Gray with alpha in 16 bits is decoded as its four bytes.
    """
    raw = {_raw_mode(tile) for tile in image.tile}
    deep = any(";16" in mode for mode in raw) or _tag(image, _BITS, 8) > 8
    if not deep or image.mode[0] in "IF":
        return None
    if image.mode == "CMYK":
        return None  # read with 8 bits, as its conversion to RGB is none of measured light anyway
    if len(raw) > 1 or not raw <= {*_LOW_BYTE, _GRAY_ALPHA_16}:
        raise ImageError(
            f"{path}: 16-bit color in a layout that is not read ({', '.join(sorted(raw))}); save "
            "it as a PNG, or as a TIFF whose pixels are interleaved"
        )
    (mode,) = raw
    with _open(path) as second:
        second.seek(image.tell())
        order = {_GRAY_ALPHA_16: "RGBA"} | _LOW_BYTE
        second.tile = [_with_raw_mode(tile, order[mode]) for tile in second.tile]
        picture = _upright(second, path).copy()
    picture.info["gray_alpha"] = mode == _GRAY_ALPHA_16
    return picture


def _with_raw_mode(tile: Any, mode: str) -> Any:
    codec, extents, offset, args = tile
    if isinstance(args, tuple):
        args = (mode, *args[1:])
    else:
        args = mode
    return tile._replace(args=args) if hasattr(tile, "_replace") else (codec, extents, offset, args)


def _join_bytes(high: Image.Image, low: Image.Image, path: Path) -> Decoded:
    first, second = (np.asarray(part).astype(np.uint16) for part in (high, low))
    if low.info["gray_alpha"]:
        values, alpha = (256 * second[..., k] + second[..., k + 1] for k in (0, 2))
    else:
        samples = 256 * first + second
        values, alpha = samples[..., :3], samples[..., 3:]
    if alpha.size and alpha.min() < 65535 and high.mode != "RGBX":
        _warn_alpha(path)
    return Decoded(np.ascontiguousarray(values), 65535)


# --- TIFF of 9 to 16 packed bits


def _is_tiff(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*")
    except OSError:
        return False


def _unpack_tiff(path: Path) -> Decoded | None:
    """Decode a gray TIFF whose samples are packed to 9 to 16 bits; None if it is another file.

    Pillow reads those of 12 bits with white high, and those of 16 bits in most orders. Strips are
    plain or deflated; packed bits come with the highest first (TIFF 6.0, section 8).
    """
    if not _is_tiff(path):
        return None
    with open(path, "rb") as file:
        head = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(head.next)
        head.load(file)

        def number(tag: int, default: int | None = None) -> int:
            value = head.get(tag, default)
            return int(value[0] if isinstance(value, tuple) else value)

        try:
            bits, width, height = number(_BITS), number(_WIDTH), number(_HEIGHT)
            plain = number(_COMPRESSION, 1) in (1, 8, 32946) and number(_PREDICTOR, 1) == 1
            gray = number(_SAMPLES, 1) == 1 and number(_PHOTOMETRIC, 1) in (0, 1)
            strips = list(zip(head[_STRIPS], head[_STRIP_BYTES], strict=True))
        except (KeyError, TypeError, ValueError):
            return None
        if not (plain and gray and 8 < bits <= 16) or width * height > 2**28:
            return None
        rows = []
        for start, length in strips:
            file.seek(start)
            part = file.read(length)
            rows.append(part if number(_COMPRESSION, 1) == 1 else zlib.decompress(part))
    row_bytes = math.ceil(width * bits / 8)
    packed = np.frombuffer(b"".join(rows), np.uint8)
    if bits == 16 and head.prefix == b"II":
        packed = packed[: packed.size // 2 * 2].view("<u2").byteswap().view(np.uint8)
    if packed.size < height * row_bytes:
        raise ImageError(f"{path}: the picture is damaged or cut off; fetch the file again")
    flat = np.unpackbits(packed[: height * row_bytes].reshape(height, row_bytes), axis=1)
    samples = flat[:, : width * bits].reshape(height, width, bits)
    values = samples @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int32))
    full = 2**bits - 1
    if number(_PHOTOMETRIC, 1) == 0:
        values = full - values
    values = _turn(values, number(_ORIENTATION, 1))
    return Decoded(np.ascontiguousarray(values.astype(np.uint16)), full)


def _turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array by the orientation of EXIF and TIFF, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        values = values.T
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values
