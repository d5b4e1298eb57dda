"""Reading: a clip or a folder of frames, infrared or visible, one frame at a time."""

from __future__ import annotations

import functools
import itertools
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ldf_utils.data import radiometry
from ldf_utils.data.decoding import Decoded, bits_of
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import pictures_in
from ldf_utils.data.radiometry import ValueRange, parse_range
from ldf_utils.video.frames import ClipError, Frame, explained, pyav

RATE = Fraction(25)
"""Frames a second of a folder of frames, unless another is given."""

LAYOUTS = ("infrared-left", "infrared-right", "infrared-top", "infrared-bottom")
"""Where the infrared picture lies in a clip that holds both."""

_COLORLESS = 3  # levels from gray that encoders leave in the chroma of gray pictures
_SAMPLES = 32  # frames that the range of the counts is chosen by
_GRAY = re.compile(r"gray(\d*)(le|be)?$")


class Clip(ABC):
    """Frames of one camera, which are decoded when they are asked for.

    Attributes:
        path: the clip or the folder.
        size: height and width in pixels.
        rate: frames a second, their mean.
        times: seconds of each frame from the first one, ``(count,)`` float64.
        start: time stamp of the first frame in seconds.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    times: np.ndarray
    start: Fraction = Fraction(0)

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"{type(self).__name__}({str(self.path)!r}, {width} x {height}, {len(self)} frames, "
            f"{float(self.rate):g} a second)"
        )

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Decode the frames one after another, from number ``start``.

        Raises:
            ClipError: where a frame is damaged, of another size, or missing.
        """

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()


def open_infrared(
    path: str | os.PathLike,
    *,
    infrared_range: str | ValueRange = "auto",
    black_hot: bool = False,
    rate: Fraction | float | None = None,
    layout: str | None = None,
) -> Clip:
    """Open the clip of an infrared camera.

    Color is brought to luminance, as of pictures. Of gray clips of more than 8 bits (FFV1 in .mkv,
    for example) and of folders of such frames one range holds for the whole clip, so that it does
    not flicker; by ``auto`` it is chosen over evenly spaced frames and logged.

    Args:
        path: a clip, or a folder of frames, in the order of the numbers in their names.
        infrared_range: as in `ldf_utils.data.radiometry.infrared_range`.
        black_hot: whether hot is dark; it is turned to white-hot then.
        rate: frames a second of a folder (default: `RATE`).
        layout: one of `LAYOUTS` where each frame holds both pictures.

    Raises:
        ClipError: if there is no such clip, it is damaged or cut off, or holds no picture.

    Example:
        >>> for frame in open_infrared("A.mp4"):  # doctest: +SKIP
        ...     print(frame.index, float(frame.time), frame.luminance.mean())
    """
    path = Path(path)
    if path.is_dir():
        _no_layout(path, layout)
        return FrameFolder(path, rate, infrared_range, black_hot)
    return VideoFile(path, _part(layout, infrared=True), infrared_range, black_hot)


def open_visible(
    path: str | os.PathLike,
    *,
    rate: Fraction | float | None = None,
    layout: str | None = None,
) -> Clip:
    """Open the clip of a visible camera; arguments and errors as of `open_infrared`."""
    path = Path(path)
    if path.is_dir():
        _no_layout(path, layout)
        return FrameFolder(path, rate)
    return VideoFile(path, _part(layout, infrared=False))


def _no_layout(path: Path, layout: str | None) -> None:
    if layout is not None:
        raise ClipError(f"{path}: expected one clip that holds both pictures, found a folder")


def _part(layout: str | None, infrared: bool) -> str | None:
    """Name the side of a frame where one of the two pictures lies."""
    if layout is None:
        return None
    if layout not in LAYOUTS:
        raise ValueError(f"the layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    side = layout.removeprefix("infrared-")
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    return side if infrared else opposite[side]


class FrameFolder(Clip):
    """A folder of frames, in the order of the numbers in their names."""

    def __init__(
        self,
        path: Path,
        rate: Fraction | float | None = None,
        infrared_range: str | ValueRange | None = None,
        black_hot: bool = False,
    ):
        groups = pictures_in(path)
        shared = next((stem for stem, files in groups.items() if len(files) > 1), None)
        if shared is not None:
            raise ClipError(f"{path}: two frames share the stem {shared!r}; remove one of them")
        self.path, self.black_hot = path, black_hot
        self.rate = RATE if rate is None else Fraction(rate).limit_denominator(1001)
        if self.rate <= 0:
            raise ValueError(f"the rate must be above 0 frames a second, got {float(self.rate):g}")
        self.files = [files[0] for _, files in sorted(groups.items(), key=lambda g: _natural(g[0]))]
        self.times = np.arange(len(self.files)) / float(self.rate)
        self.infrared = infrared_range is not None
        self.range = (
            radiometry.infrared_range(self.files, infrared_range)
            if infrared_range is not None
            else radiometry.visible_range(self.files)
        )
        height, width = read_image(self.files[0], self.range).shape[-2:]
        self.size = (height, width)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Read the frames one after another, from number ``start``."""
        for index, file in enumerate(self.files[start:], start):
            picture = read_image(file, self.range)
            if picture.shape[-2:] != self.size:
                raise ClipError(
                    f"{file}: this frame is {picture.shape[-1]} x {picture.shape[-2]} pixels, the "
                    f"first one {self.size[1]} x {self.size[0]}; all must have one size"
                )
            gray = luminance(picture)
            gray = 1 - gray if self.black_hot else gray
            color = picture if len(picture) == 3 else None
            yield Frame(index, index / self.rate, gray, color, bits_of(file), file.stem)


def _natural(stem: str) -> list[tuple[int, str]]:
    """Sort frame_2 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", stem)]


class VideoFile(Clip):
    """A clip that FFmpeg reads, or one half of it."""

    def __init__(
        self,
        path: Path,
        part: str | None = None,
        infrared_range: str | ValueRange | None = None,
        black_hot: bool = False,
    ):
        if not path.exists():
            raise ClipError(f"{path}: there is no such clip or folder; check the path")
        self.path, self.black_hot, self.infrared = path, black_hot, infrared_range is not None
        with explained(path, "opening"), pyav().open(str(path)) as container:
            stream = _video_stream(container, path)
            self._format = stream.codec_context.pix_fmt
            height, width = stream.codec_context.height, stream.codec_context.width
            rate = stream.average_rate or stream.guessed_rate
            promised = stream.frames
            first = self._first(container, path)
            if getattr(first, "rotation", 0) % 180:
                height, width = width, height
        if not rate:
            raise ClipError(f"{path}: the clip says no frame rate; export it with one")
        self.rate = Fraction(rate)
        self.start, self.times = _time_stamps(path, self.rate, promised)
        self._crop = _half(part, height, width, path)
        self.size = (
            self._crop[0].stop - self._crop[0].start,
            self._crop[1].stop - self._crop[1].start,
        )
        self.range: ValueRange | None = None
        gray = _GRAY.match(self._format or "")
        self._full = 2 ** int((gray.group(1) if gray else "") or 8) - 1
        self._gray = gray is not None
        if self._gray and self._full > 255:
            self.range = self._choose_range(infrared_range)
        elif infrared_range is not None:
            setting = (
                parse_range(infrared_range) if isinstance(infrared_range, str) else infrared_range
            )
            self.range = None if isinstance(setting, str) else setting

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Decode the frames one after another, from number ``start``."""
        count = start
        with explained(self.path, "decoding"), pyav().open(str(self.path)) as container:
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if index >= start:
                    yield self._convert(index, frame)
                    count = index + 1
        if count < len(self):
            raise ClipError(
                f"{self.path}: only {count} of its {len(self)} frames can be decoded; the clip is "
                "damaged or cut off. Fetch or export it again, or cut it to its whole part"
            )

    @staticmethod
    def _first(container: Any, path: Path) -> Any:
        for frame in container.decode(video=0):
            return frame
        raise ClipError(f"{path}: the clip holds no frame that can be decoded; export it again")

    def _choose_range(self, setting: str | ValueRange | None) -> ValueRange | None:
        """Choose one range of counts over evenly spaced frames."""

        def sampled() -> Iterator[Decoded]:
            step = max(1, len(self) // _SAMPLES)
            with explained(self.path, "decoding"), pyav().open(str(self.path)) as container:
                for frame in itertools.islice(container.decode(video=0), 0, None, step):
                    yield Decoded(self._counts(frame), self._full)

        if self.infrared:
            return radiometry.infrared_range_of(sampled(), self.path, setting or "auto")
        return radiometry.visible_range_of(sampled(), self.path)

    def _counts(self, frame: Any) -> np.ndarray:
        """Take the counts of a gray frame, upright and cropped."""
        return self._upright(frame, frame.to_ndarray())[self._crop]

    def _upright(self, frame: Any, values: np.ndarray) -> np.ndarray:
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        return np.rot90(values, turns) if turns else values

    def _convert(self, index: int, frame: Any) -> Frame:
        color, bits = None, 8
        if self._gray:
            counts, bits = self._counts(frame), self._full.bit_length()
            gray = _scaled(counts, self._full, self.range)
        else:
            frame = _as_yuv420p(frame)
            planes = [self._upright(frame, _plane(plane)) for plane in frame.planes]
            luma, chroma = planes[0], np.stack(planes[1:])
            rows, columns = self._crop
            chroma = chroma[:, _halved(rows), _halved(columns)]
            if not self.infrared or np.abs(chroma.astype(np.int16) - 128).max() > _COLORLESS:
                color = torch.from_numpy(chroma.copy())
            gray = torch.from_numpy(luma[rows, columns].copy()).float().sub_(16).div_(219)
            gray = gray.clamp_(0, 1)
            if self.infrared and self.range is not None:
                gray = torch.from_numpy(self.range(255 * gray.numpy()))
        if gray.shape != self.size:
            raise ClipError(
                f"{self.path}: frame {index} is {gray.shape[1]} x {gray.shape[0]} pixels, the "
                f"first one {self.size[1]} x {self.size[0]}; export the clip with one size"
            )
        time = self.start + Fraction(self.times[min(index, len(self) - 1)]).limit_denominator(10**6)
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * Fraction(frame.time_base)
        gray = 1 - gray if self.black_hot else gray
        return Frame(index, time, gray[None], color, bits)


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        kinds = sorted({stream.type for stream in container.streams})
        raise ClipError(
            f"{path}: expected a clip with pictures, found {' and '.join(kinds) or 'no stream'}"
        )
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise ClipError(f"{path}: no decoder for its codec; convert it to H.264 or FFV1")
    return stream


def _time_stamps(path: Path, rate: Fraction, promised: int) -> tuple[Fraction, np.ndarray]:
    """Find the time stamps of all frames without decoding: the first one, and seconds from it."""
    with explained(path, "reading"), pyav().open(str(path)) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base)
        stamps = [packet.pts for packet in container.demux(stream) if packet.size]
    if promised and len(stamps) < promised:
        raise ClipError(
            f"{path}: the clip is cut off: its head says {promised} frames, found {len(stamps)}. "
            "Fetch or export it again"
        )
    if not stamps:
        raise ClipError(f"{path}: the clip holds no frame; export it again")
    if any(stamp is None for stamp in stamps) or len(set(stamps)) < len(stamps):
        return Fraction(0), np.arange(len(stamps)) / float(rate)
    stamps.sort()
    return stamps[0] * base, (np.array(stamps) - stamps[0]) * float(base)


def _half(part: str | None, height: int, width: int, path: Path) -> tuple[slice, slice]:
    rows, columns = slice(0, height), slice(0, width)
    if part is None:
        return rows, columns
    extent = width if part in ("left", "right") else height
    if extent % 4:
        raise ClipError(
            f"{path}: its frames are {width} x {height} pixels, and two pictures side by side of "
            f"an even size are expected: {extent} is no multiple of 4. Cut it into two clips"
        )
    first, second = slice(0, extent // 2), slice(extent // 2, extent)
    chosen = first if part in ("left", "top") else second
    return (rows, chosen) if part in ("left", "right") else (chosen, columns)


def _halved(part: slice) -> slice:
    return slice(part.start // 2, (part.stop + 1) // 2)


def _scaled(counts: np.ndarray, full: int, value_range: ValueRange | None) -> torch.Tensor:
    if value_range is not None:
        return torch.from_numpy(value_range(counts))
    return torch.from_numpy(counts.astype(np.float32) / np.float32(full))


def _plane(plane: Any) -> np.ndarray:
    flat = np.frombuffer(plane, np.uint8)
    return flat[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)[
        :, : plane.width
    ]


@functools.cache
def _constants() -> tuple[Any, Any]:
    from_av = pyav().video.reformatter
    return from_av.Colorspace, from_av.ColorRange


def _as_yuv420p(frame: Any) -> Any:
    """Bring a frame to 8-bit 4:2:0 in BT.601 with 16 as black and 235 as white."""
    spaces, ranges = _constants()
    wide = frame.format.name == "yuvj420p" or frame.color_range == ranges.JPEG
    other = frame.colorspace == spaces.ITU709
    if frame.format.name == "yuv420p" and not wide and not other:
        return frame
    settings: dict[str, Any] = {}
    if other:
        settings |= dict(src_colorspace=spaces.ITU709, dst_colorspace=spaces.ITU601)
    if wide:
        settings |= dict(src_color_range=ranges.JPEG, dst_color_range=ranges.MPEG)
    return frame.reformat(format="yuv420p", **settings)
