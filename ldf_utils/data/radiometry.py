"""Radiometry: which counts of a camera become black and white.

A thermal camera writes counts, often 14 bits of them in a 16-bit file, of which a scene uses a few
hundred. What they mean is a property of the camera, so one range is chosen for a whole folder,
never for single pictures: a sequence would flicker, and the pictures could not be compared.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ldf_utils.data.decoding import Decoded, bits_of, decode
from ldf_utils.data.names import ImageError

FRAMES = 256
"""Of a larger folder so many pictures, evenly spaced, are looked at to choose the range."""

FILLED = 0.5
"""Counts that span this part of their full scale or more are taken as they are."""

_BITS = (8, 10, 12, 14, 16)  # what cameras have
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValueRange:
    """The counts that become 0 (black) and 1 (white); what lies outside is clamped.

    Attributes:
        low: the count of black.
        high: the count of white.
        deep: whether it is meant for files of more than 8 bits only, as a chosen range is; a
            range that was given holds for all.
    """

    low: float
    high: float
    deep: bool = False

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Map counts to float32 in [0, 1]."""
        scaled = (counts.astype(np.float64) - self.low) / (self.high - self.low)
        return scaled.clip(0, 1).astype(np.float32)


def parse_range(text: str) -> str | ValueRange:
    """Read a setting: ``auto``, ``full``, or ``LOW:HIGH`` in counts of the camera.

    Raises:
        ValueError: for anything else.

    Example:
        >>> parse_range("7400:8600").high
        8600.0
    """
    if text in ("auto", "full"):
        return text
    low, colon, high = text.partition(":")
    try:
        found = ValueRange(float(low), float(high))
    except ValueError:
        colon = ""
    if not colon or not (math.isfinite(found.low) and found.low < found.high < math.inf):
        raise ValueError(
            "the range must be auto, full, or LOW:HIGH with LOW < HIGH in counts of the camera, "
            f"got {text!r}"
        )
    return found


def infrared_range(paths: Sequence[Path], setting: str | ValueRange = "auto") -> ValueRange | None:
    """Choose the range of the infrared pictures of one camera.

    ``auto``: 8-bit files are taken as they are. Of deeper ones the lowest and the highest count of
    any picture is found, after a median over 3 x 3 pixels, so that single dead pixels do not
    count; constant pictures do not count either. The depth is the smallest of 8, 10, 12, 14 and 16
    bits that holds the highest count. If the counts span at least half of it, 0 is black and its
    full scale white; if less, or if there is no such depth (negative numbers, more than 16 bits),
    the lowest count is black and the highest white. Floating point in [0, 1] is taken as it is.
    What was chosen is logged.

    Args:
        paths: the pictures; of more than 256, so many evenly spaced ones are looked at.
        setting: ``auto``, ``full`` (what the file calls full scale), text ``LOW:HIGH``, or a range.

    Returns:
        The range, or None where each file's full scale holds.

    Raises:
        ValueError: for another setting.
    """
    place = paths[0].parent if len(paths) > 1 else paths[0]
    return infrared_range_of(_deep_pictures(paths), place, setting)


def infrared_range_of(
    pictures: Iterable[Decoded], place: Path, setting: str | ValueRange = "auto"
) -> ValueRange | None:
    """Choose the range of infrared pictures that are decoded: as `infrared_range`, for a clip.

    Args:
        pictures: looked at for ``auto`` only, one at a time.
        place: named in the log.
        setting: as in `infrared_range`.
    """
    if isinstance(setting, str):
        setting = parse_range(setting)
    if isinstance(setting, ValueRange):
        return setting
    if setting == "full":
        return None
    found = _extremes(pictures, place, _between_medians)
    if found is None:
        return None
    depth = found.depth()
    if depth is not None and found.high - found.low >= FILLED * depth:
        return found.of_depth(depth, "infrared")
    _log.warning(
        "%s: infrared counts of %d picture(s) from %g to %g%s are stretched to black and white. "
        "One range holds for all pictures of a folder; another can be given (full, or LOW:HIGH)",
        *(found.place, found.count, found.low, found.high),
        "" if found.full is None else f" ({(found.high - found.low) / found.full:.1%} of the file)",
    )
    return ValueRange(found.low, found.high, deep=True)


def visible_range(paths: Sequence[Path]) -> ValueRange | None:
    """Choose the range of the visible pictures of one camera: the depth of its counts.

    Files of more than 8 bits are often written with fewer: 12 bits in a 16-bit PNG. The depth is
    the smallest of 8, 10, 12, 14 and 16 bits that holds the brightest count of all pictures. What
    was chosen is logged where it is not that of the file.

    Args:
        paths: as in `infrared_range`.

    Returns:
        The range, or None where each file's full scale holds.
    """
    place = paths[0].parent if len(paths) > 1 else paths[0]
    return visible_range_of(_deep_pictures(paths), place)


def visible_range_of(pictures: Iterable[Decoded], place: Path) -> ValueRange | None:
    """Choose the range of visible pictures that are decoded: as `visible_range`, for a clip."""
    found = _extremes(pictures, place, lambda values: (float(values.min()), float(values.max())))
    depth = None if found is None else found.depth()
    return None if found is None or depth is None else found.of_depth(depth, "visible")


def scale(decoded: Decoded, path: Path, value_range: ValueRange | None) -> np.ndarray:
    """Bring counts to float32 in [0, 1] by a range, or by the file's full scale.

    Raises:
        ImageError: if there is no range, and the file has no known full scale.
    """
    if value_range is not None and (decoded.bits > 8 or not value_range.deep):
        return value_range(decoded.values)
    if decoded.full is None:
        low, high = decoded.values.min(), decoded.values.max()
        raise ImageError(
            f"{path}: numbers from {low:g} to {high:g} have no known full scale; give the range "
            "LOW:HIGH that is black and white, or save it as a 16-bit PNG or with floats in [0, 1]"
        )
    return decoded.values.astype(np.float32) / np.float32(decoded.full)


@dataclass
class _Extremes:
    """What the deep pictures of a folder span."""

    place: Path
    low: float
    high: float
    full: float | None
    count: int = 0

    def depth(self) -> int | None:
        """Full scale of the smallest depth that holds the counts; None where none does."""
        if self.low < 0 or self.high >= 2 ** _BITS[-1]:
            return None
        return next(2**bits - 1 for bits in _BITS if self.high < 2**bits)

    def of_depth(self, depth: int, side: str) -> ValueRange | None:
        """Return the range of a depth and log it; None where it is that of the file."""
        if self.full is not None and depth >= self.full:
            return None
        _log.warning(
            "%s: %s counts of %d picture(s) reach %g and are read as %d bits, so %d is white",
            *(self.place, side, self.count, self.high, depth.bit_length(), depth),
        )
        return ValueRange(0, depth, deep=True)


def _deep_pictures(paths: Sequence[Path]) -> Iterator[Decoded]:
    """Decode those of more than 8 bits, of many so many evenly spaced ones."""
    deep = [path for path in paths if bits_of(path) > 8]
    step = max(1, math.ceil(len(deep) / FRAMES))
    for path in deep[::step]:
        try:
            yield decode(path)
        except ImageError:  # whoever reads it will say what is wrong
            continue


def _extremes(
    pictures: Iterable[Decoded],
    place: Path,
    of_picture: Callable[[np.ndarray], tuple[float, float]],
) -> _Extremes | None:
    """Find the lowest and highest count of pictures; None where there is none."""
    found: _Extremes | None = None
    for decoded in pictures:
        if decoded.full == 1.0:  # floating point in [0, 1]
            continue
        low, high = of_picture(decoded.values)
        if low == high:
            continue
        if found is None:
            found = _Extremes(place, low, high, decoded.full)
        found.low, found.high = min(found.low, low), max(found.high, high)
        if decoded.full is not None and found.full is not None:
            found.full = max(found.full, decoded.full)
        found.count += 1
    return found


def _between_medians(values: np.ndarray) -> tuple[float, float]:
    """Return the lowest and highest median over 3 x 3 pixels (along one axis, then the other)."""
    for axis in (0, 1):
        if values.shape[axis] >= 3:
            middle = values.shape[axis] - 2
            a, b, c = (np.take(values, range(k, k + middle), axis) for k in range(3))
            values = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return float(values.min()), float(values.max())
