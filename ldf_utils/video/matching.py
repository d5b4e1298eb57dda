"""Matching in time: which infrared frame belongs to which visible one."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ldf_utils.data import suspicion
from ldf_utils.data.decoding import warn_once
from ldf_utils.data.names import match_files
from ldf_utils.data.pairs import Pair
from ldf_utils.data.radiometry import ValueRange
from ldf_utils.video.frames import ClipError, Frame
from ldf_utils.video.reading import Clip, open_infrared, open_visible

REACH = 10.0
"""Seconds that an offset in time is looked for, either way."""

_FRAMES = 900  # of each clip, looked at for the offset
_GRID = (12, 16)  # cells that motion is measured in
_SURE = 0.25  # least correlation of the motion of both clips
_AHEAD = 1.1  # and so much above that at any offset elsewhere
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FramePair:
    """Two frames of one moment."""

    infrared: Frame
    visible: Frame


class ClipPair:
    """Two clips of one scene, matched in time, whose frames are decoded when they are asked for.

    Each visible frame gets the infrared frame whose time is nearest to its own plus ``offset``.

    Args:
        infrared: as `ldf_utils.video.reading.open_infrared` opens it.
        visible: as `ldf_utils.video.reading.open_visible` opens it.
        offset: seconds of the infrared clip's clock ahead of the visible one's: what is at t in
            the visible clip is at t + offset in the infrared one. `find_offset` finds it.
        overlap: whether frames that only one of the clips has are left out; by default clips whose
            lengths differ by more than a frame are an error.
        nearest: whether the rates may differ; a slower infrared frame is used several times then.

    Raises:
        ClipError: if rates or lengths differ and must not, or nothing is covered by both.

    Example:
        >>> clips = ClipPair(open_infrared("A.mp4"), open_visible("B.mp4"))  # doctest: +SKIP
        >>> for pair in clips:  # doctest: +SKIP
        ...     network(pair.infrared.luminance[None], pair.visible.luminance[None])
    """

    def __init__(
        self,
        infrared: Clip,
        visible: Clip,
        offset: float = 0.0,
        *,
        overlap: bool = False,
        nearest: bool = False,
    ):
        self.infrared, self.visible, self.offset = infrared, visible, offset
        ratio = float(infrared.rate / visible.rate)
        if not nearest and abs(ratio - 1) > 0.005:
            raise ClipError(
                f"{infrared.path} has {float(infrared.rate):g} frames a second and {visible.path} "
                f"{float(visible.rate):g}; expected one rate. With --nearest each visible frame "
                "gets the infrared frame that is nearest in time"
            )
        step = max(1 / float(infrared.rate), 1 / float(visible.rate))
        wanted = visible.times + offset
        after = np.searchsorted(infrared.times, wanted).clip(1, max(1, len(infrared) - 1))
        after = np.minimum(after, len(infrared) - 1)
        before = np.maximum(after - 1, 0)
        closer = wanted - infrared.times[before] <= infrared.times[after] - wanted
        matches = np.where(closer, before, after)
        covered = np.flatnonzero(np.abs(infrared.times[matches] - wanted) <= 0.75 * step)
        if not len(covered):
            raise ClipError(
                f"{infrared.path} and {visible.path} have no moment in common with an offset of "
                f"{offset:g} s; give another one"
            )
        self.first, self.matches = int(covered[0]), matches[covered[0] : covered[-1] + 1]
        lost = max(
            (len(visible) - len(self.matches)) / float(visible.rate),
            (len(infrared) - 1 - int(self.matches[-1] - self.matches[0])) / float(infrared.rate),
        )
        if lost > 1.5 * step + 1e-9 and not overlap:
            raise ClipError(
                f"{infrared.path} lasts {_seconds(infrared)} and {visible.path} "
                f"{_seconds(visible)}, of which {len(self.matches)} frames are covered by both "
                f"with an offset of {offset:g} s. Give the right --offset, or --overlap to fuse "
                "what both cover"
            )

    def __len__(self) -> int:
        return len(self.matches)

    def __iter__(self) -> Iterator[FramePair]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[FramePair]:
        """Decode the pairs one after another, from number ``start``.

        Raises:
            ClipError: as `Clip.frames`.
        """
        if start >= len(self):
            return
        others = self.infrared.frames(int(self.matches[start]))
        infrared = next(others)
        visible = self.visible.frames(self.first + start)
        for match, frame in zip(self.matches[start:], visible, strict=False):
            while infrared.index < match:
                infrared = next(others)
            yield FramePair(infrared, frame)

    def check(self) -> None:
        """Log what is suspicious about the first pair: false colors, the same clip twice, ..."""
        pair = next(self.frames())
        infrared, visible = pair.infrared, pair.visible
        both = Pair(
            str(self.visible.path.name), infrared.luminance, visible.picture, bits=infrared.bits
        )
        for kind, text in suspicion.of_pair(both, infrared.picture):
            warn_once(self.infrared.path, kind, text)


def open_clips(
    infrared: str | os.PathLike,
    visible: str | os.PathLike,
    *,
    layout: str | None = None,
    infrared_range: str | ValueRange = "auto",
    black_hot: bool = False,
    rate: float | None = None,
    offset: float | str = 0.0,
    overlap: bool = False,
    nearest: bool = False,
) -> ClipPair:
    """Open two clips or folders of frames of one scene, and match them in time.

    Args:
        infrared: a clip or a folder; frames of two folders must have equal stems.
        visible: likewise; the same clip again if one holds both pictures.
        layout: where the infrared picture lies in it then, one of `reading.LAYOUTS`.
        infrared_range: as in `open_infrared`.
        black_hot: as in `open_infrared`.
        rate: frames a second of a folder; by default that of the other clip, or 25.
        offset: as in `ClipPair`, or ``"auto"``: by `find_offset`.
        overlap: as in `ClipPair`.
        nearest: as in `ClipPair`.

    Raises:
        ImageError: for whatever is wrong with the clips or the names of the frames.

    Example:
        >>> clips = open_clips("A.mp4", "B.mp4", offset="auto", overlap=True)  # doctest: +SKIP
    """
    infrared, visible = Path(infrared), Path(visible)
    if layout is not None and infrared.resolve() != visible.resolve():
        raise ClipError(
            f"{infrared} and {visible}: expected one clip that holds both pictures, found two; "
            "name it twice, or leave the layout out"
        )
    if infrared.is_dir() and visible.is_dir():
        match_files(infrared, visible)
    both: dict[bool, Clip] = {}
    for is_infrared, path in sorted(
        [(True, infrared), (False, visible)], key=lambda side: side[1].is_dir()
    ):  # the clip first: a folder takes its rate
        speed = rate if rate is not None or not both else both[not is_infrared].rate
        both[is_infrared] = (
            open_infrared(
                path, infrared_range=infrared_range, black_hot=black_hot, rate=speed, layout=layout
            )
            if is_infrared
            else open_visible(path, rate=speed, layout=layout)
        )
    if isinstance(offset, str):
        if offset != "auto":
            raise ValueError(f"the offset must be auto or a number of seconds, got {offset!r}")
        offset = find_offset(both[True], both[False]).seconds
    return ClipPair(both[True], both[False], offset, overlap=overlap, nearest=nearest)


def _seconds(clip: Clip) -> str:
    return f"{len(clip) / float(clip.rate):.2f} s ({len(clip)} frames)"


@dataclass(frozen=True)
class Offset:
    """An offset in time that was found.

    Attributes:
        seconds: as `ClipPair` takes it.
        correlation: of the motion in both clips at this offset, -1 to 1.
        elsewhere: the highest correlation at offsets more than a second away.
    """

    seconds: float
    correlation: float
    elsewhere: float


def find_offset(infrared: Clip, visible: Clip, reach: float = REACH) -> Offset:
    """Find the offset in time of two clips by the motion that both show.

    In each of 12 x 16 cells of the picture the mean change from frame to frame is measured over
    up to 900 frames, resampled to the visible clip's rate, with the median of the cell removed
    and values beyond five times their scale cut. The offset is where the correlation of both
    over all cells and times is highest.

    Args:
        infrared: as in `ClipPair`.
        visible: as in `ClipPair`.
        reach: seconds that are looked at, either way; at most half of the shorter clip.

    Returns:
        The offset; it is logged.

    Raises:
        ClipError: if nothing moves, or no offset stands out (a correlation below 0.25 or less
            than 1.1 times that elsewhere).
    """
    rate = float(visible.rate)
    warm, seen = (_motion(clip, rate) for clip in (infrared, visible))
    most = min(int(reach * rate), min(len(warm), len(seen)) // 2)
    steps = range(-most, most + 1)
    scores = np.array([_correlation(warm, seen, step) for step in steps])
    best = int(scores.argmax())
    far = np.abs(np.arange(len(scores)) - best) > rate
    elsewhere = float(scores[far].max()) if far.any() else -1.0
    found = Offset(steps[best] / rate, float(scores[best]), elsewhere)
    if found.correlation < _SURE or found.correlation < _AHEAD * found.elsewhere:
        raise ClipError(
            f"{infrared.path} and {visible.path}: no offset in time stands out (the best is "
            f"{found.seconds:g} s with a correlation of {found.correlation:.2f}, elsewhere "
            f"{found.elsewhere:.2f}); give it with --offset SECONDS"
        )
    _log.warning(
        "%s is %g s ahead of %s by the motion in both (correlation %.2f, elsewhere %.2f)",
        *(infrared.path, found.seconds, visible.path, found.correlation, found.elsewhere),
    )
    return found


def _motion(clip: Clip, rate: float) -> np.ndarray:
    """Return ``(T, cells)``: how much each cell changes, at ``rate``, without its median."""
    cells, last = [], None
    for frame in itertools.islice(clip.frames(), _FRAMES):
        small = F.interpolate(frame.luminance[None], (96, 128), mode="area")
        if last is not None:
            cells.append(F.adaptive_avg_pool2d((small - last).abs(), _GRID).flatten())
        last = small
    if not cells:
        return np.zeros((0, _GRID[0] * _GRID[1]))
    values = torch.stack(cells).double().numpy()
    times = clip.times[1 : len(values) + 1]
    wanted = np.arange(times[0], times[-1] + 1e-9, 1 / rate)
    values = np.stack([np.interp(wanted, times, column) for column in values.T], 1)
    values -= np.median(values, 0)
    scale = np.abs(values).mean() + 1e-12
    return values.clip(-5 * scale, 5 * scale)


def _correlation(infrared: np.ndarray, visible: np.ndarray, step: int) -> float:
    """Correlate with the infrared motion ``step`` samples later."""
    first, second = infrared[max(step, 0) :], visible[max(-step, 0) :]
    count = min(len(first), len(second))
    first, second = first[:count], second[:count]
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm > 0 else 0.0
