"""Writing: frames to a clip with their time stamps, parts of a clip to one with its sound."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from ldf_utils.data.files import atomic_path
from ldf_utils.video.frames import ClipError, Frame, explained, pyav

CODEC = "libx264"
"""What clips are encoded with."""

QUALITY = 18
"""Constant rate factor of the encoder: lower is better; 18 is close to what eyes can tell."""

_CLOCK = Fraction(1, 90_000)


class ClipWriter:
    """Encode frames into a clip, which appears when the last one is in: whole or not at all.

    Time stamps are those of the frames. The pixel format is 4:2:0 (4:4:4 for odd sizes).

    Args:
        path: the clip; its ending chooses the container.
        size: height and width in pixels.
        rate: frames a second, for players; the time stamps count.
        codec: an encoder of FFmpeg.
        quality: its constant rate factor.

    Raises:
        ClipError: if there is no such encoder, or it refuses the frames.

    Example:
        >>> with ClipWriter("C.mp4", (480, 640), 25) as writer:  # doctest: +SKIP
        ...     writer.write(pair.visible.with_luminance(fused))
    """

    def __init__(
        self,
        path: str | os.PathLike,
        size: tuple[int, int],
        rate: Fraction | float,
        codec: str = CODEC,
        quality: int = QUALITY,
    ):
        self.path, self.size, self.codec, self.quality = Path(path), size, codec, quality
        self.rate = Fraction(rate).limit_denominator(1001)
        self._last = -1
        check_codec(codec)

    def __enter__(self) -> ClipWriter:
        self._moved_at_end = atomic_path(self.path)
        self._temporary = self._moved_at_end.__enter__()
        try:
            with explained(self.path, f"writing with {self.codec}"):
                self._open()
        except BaseException as error:
            self._moved_at_end.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _open(self) -> None:
        height, width = self.size
        self._container = pyav().open(str(self._temporary), "w")
        self._stream = self._container.add_stream(self.codec, rate=self.rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self._stream.codec_context.time_base = _CLOCK
        if self.codec.startswith("libx26"):
            # Without B frames, the time stamps of parts follow each other in any case.
            options = {"preset": "veryfast", "bf": "0", "crf": str(self.quality)}
            self._stream.options = options

    def write(self, frame: Frame) -> None:
        """Encode a frame.

        Raises:
            ClipError: if its size is another one, or the encoder fails.
        """
        if tuple(frame.luminance.shape[-2:]) != self.size:
            height, width = frame.luminance.shape[-2:]
            raise ClipError(
                f"{self.path}: a frame of {width} x {height} pixels, expected {self.size[1]} x "
                f"{self.size[0]}"
            )
        with explained(self.path, f"writing with {self.codec}"):
            picture = _to_av(frame)
            if picture.format.name != self._stream.pix_fmt:
                picture = picture.reformat(format=self._stream.pix_fmt)
            self._last = max(self._last + 1, round(frame.time / _CLOCK))
            picture.pts, picture.time_base = self._last, _CLOCK
            for packet in self._stream.encode(picture):
                self._container.mux(packet)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with explained(self.path, f"writing with {self.codec}"):
                if kind is None:
                    for packet in self._stream.encode(None):
                        self._container.mux(packet)
                self._container.close()
        except BaseException as found:
            if kind is None:
                self._moved_at_end.__exit__(type(found), found, found.__traceback__)
                raise
        self._moved_at_end.__exit__(kind, error, traceback)


def check_codec(codec: str) -> None:
    """Raise a `ClipError` unless FFmpeg has this encoder for pictures."""
    av = pyav()
    try:
        kind = av.codec.Codec(codec, "w").type
    except Exception:  # of several types in its versions
        kind = None
    if kind != "video":
        known = [name for name in ("libx264", "libx265", "mpeg4", "ffv1") if name in _encoders()]
        raise ClipError(
            f"there is no encoder {codec!r} for clips in this build of FFmpeg; "
            f"choose another, such as {', '.join(known)}"
        )


def has_sound(path: Path) -> bool:
    """Return whether a clip has a stream of sound; a folder has none."""
    if path.is_dir():
        return False
    with explained(path, "opening"), pyav().open(str(path)) as container:
        return bool(container.streams.audio)


def _encoders() -> set[str]:
    return set(pyav().codecs_available)


def _to_av(frame: Frame) -> Any:
    """Make a frame of FFmpeg: planes as they are where the color is a clip's, else RGB or gray."""
    av = pyav()
    luma = frame.luminance[0].detach().cpu()
    if frame.color is not None and frame.color.dtype != torch.uint8:
        picture = (frame.picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        return av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24")
    if frame.color is None:
        gray = (luma.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().numpy()
        return av.VideoFrame.from_ndarray(gray, format="gray")
    height, width = luma.shape
    picture = av.VideoFrame(width, height, "yuv420p")
    levels = luma.clamp(0, 1).mul(219).add_(16).round_().to(torch.uint8).numpy()
    for plane, values in zip(picture.planes, (levels, *frame.color.numpy()), strict=True):
        rows, columns = values.shape
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:rows, :columns] = values
        plane.update(padded)
    return picture


def join_parts(
    parts: Sequence[Path],
    output: str | os.PathLike,
    sound: str | os.PathLike | None = None,
) -> Path:
    """Join clips of one encoder, without encoding them anew, and give them the sound of another.

    Args:
        parts: the clips in order; their time stamps are kept.
        output: the whole clip, written atomically.
        sound: a clip whose first sound stream is copied as far as the pictures reach; None, or a
            clip without sound, gives none.

    Returns:
        The path written.

    Raises:
        ClipError: if a part is damaged, or the container does not take a stream.
    """
    av, output = pyav(), Path(output)
    with atomic_path(output) as temporary, explained(output, "joining its parts"):
        with av.open(str(temporary), "w") as whole, av.open(str(parts[0])) as first:
            pictures = _copied(whole, first.streams.video[0])
            loud = None
            if sound is not None:
                loud = av.open(str(sound))
                if not loud.streams.audio:
                    loud.close()
                    loud = None
            track = _copied(whole, loud.streams.audio[0]) if loud else None
            start, end = _copy_pictures(parts, whole, pictures)
            if loud:
                for packet in loud.demux(loud.streams.audio[0]):
                    at = None if packet.pts is None else packet.pts * packet.time_base
                    if packet.dts is not None and at is not None and start <= at <= end:
                        packet.stream = track
                        whole.mux(packet)
                loud.close()
    return output


def _copied(container: Any, stream: Any) -> Any:
    """Add a stream like another one, whose packets are copied."""
    if hasattr(container, "add_stream_from_template"):
        return container.add_stream_from_template(stream)
    return container.add_stream(template=stream)


def _copy_pictures(parts: Sequence[Path], whole: Any, stream: Any) -> tuple[Fraction, Fraction]:
    """Copy all packets, and return the first and the last time stamp."""
    times: list[Fraction] = []
    for part in parts:
        with pyav().open(str(part)) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.dts is None:
                    continue
                at = packet.pts * packet.time_base
                times = [times[0] if times else at, at]
                packet.stream = stream
                whole.mux(packet)
    return times[0], times[-1]
