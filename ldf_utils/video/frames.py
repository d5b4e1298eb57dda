"""Frames: what the pictures of a clip are, and the library that reads and writes clips."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ldf_utils.data.images import replace_luminance
from ldf_utils.data.names import ImageError

CLIP_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts", ".nut")
"""Endings that are taken for clips; all are read, what FFmpeg knows."""


class ClipError(ImageError):
    """A clip is not what the method needs; the text says what to do."""


def is_clip(path: str | Path) -> bool:
    """Return whether a name is that of a clip by its ending, in any case."""
    return Path(path).suffix.lower() in CLIP_SUFFIXES


def pyav() -> Any:
    """Import PyAV.

    Raises:
        ClipError: if it is not installed, with how to install it.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ClipError(
            "reading and writing clips needs PyAV, which is not installed; "
            "python -m pip install 'av>=15' (or use folders of frames)"
        ) from error


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn what FFmpeg raises into a `ClipError` that names the file."""
    av = pyav()
    try:
        yield
    except FileNotFoundError as error:  # FFmpeg's is one as well
        raise ClipError(f"{path}: there is no such file; check the path") from error
    except PermissionError as error:
        raise ClipError(f"{path}: permission denied; allow it, or run as its owner") from error
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise ClipError(
            f"{path}: {doing} failed ({error.strerror or error}); the clip is damaged, cut off or "
            "no clip at all. Play it elsewhere; fetch or export it again"
        ) from error


_DISK = (28, 30, 122)  # no space, read-only, quota


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        index: its number in the clip, from 0.
        time: its time stamp in seconds.
        luminance: ``(1, H, W)`` float32 in [0, 1].
        color: None for gray; of a picture file its RGB, ``(3, H, W)`` float32 in [0, 1]; of a clip
            its Cb and Cr as they are stored, ``(2, ceil(H / 2), ceil(W / 2))`` uint8 with 128 for
            gray (ITU-R BT.601), which cost no conversion and are written as they were read.
        bits: of the counts of the file, 8 to 16.
        name: of the file, for a folder of frames.
    """

    index: int
    time: Fraction
    luminance: torch.Tensor
    color: torch.Tensor | None = None
    bits: int = 8
    name: str | None = None

    @property
    def picture(self) -> torch.Tensor:
        """The frame as a picture, ``(1 or 3, H, W)`` float32 in [0, 1]."""
        if self.color is None:
            return self.luminance.clamp(0, 1)
        if self.color.dtype != torch.uint8:
            return replace_luminance(self.color, self.luminance)
        chroma = (self.color[None].float() - 128) / 224
        height, width = self.luminance.shape[-2:]
        blue, red = F.interpolate(chroma, scale_factor=2, mode="bilinear")[0, :, :height, :width]
        green = -(0.299 * 1.402 * red + 0.114 * 1.772 * blue) / 0.587
        return (self.luminance + torch.stack([1.402 * red, green, 1.772 * blue])).clamp(0, 1)

    def with_luminance(self, luminance: torch.Tensor) -> Frame:
        """Return the frame with another luminance ``(1, H, W)`` and the color that it has."""
        if luminance.shape != self.luminance.shape:
            raise ValueError(
                f"expected a luminance of shape {tuple(self.luminance.shape)}, "
                f"got {tuple(luminance.shape)}"
            )
        return replace(self, luminance=luminance)
