"""Read pictures of real and rendered sets as gray, all once compressed."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]
KINDS = ("ir", "vi")
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
QUALITY = 88
CROP = 128


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of its file, without ending.
        group: what must not be split between training and test: the clip of a video, the place of
            a camera that does not move, else the picture itself.
        gray: ``(H, W)`` in [0, 1].
    """

    name: str
    group: str
    gray: Array


def compress(picture: Image.Image) -> Image.Image:
    """Return a gray picture after JPEG compression, so that file formats say nothing."""
    buffer = io.BytesIO()
    picture.convert("L").save(buffer, "JPEG", quality=QUALITY)
    return Image.open(buffer)


def scaled(gray: Image.Image, rows: int | None) -> Array:
    """Return a picture in [0, 1], scaled to a number of rows unless that is None."""
    if rows is not None:
        width = max(CROP, round(gray.width * rows / gray.height))
        gray = gray.resize((width, rows), Image.Resampling.LANCZOS)
    return np.asarray(gray, np.float32) / np.float32(255)


def group_of(folder: str, stem: str) -> str:
    """Return the group of a picture: M3SVD's clip, LLVIP's place (the first two digits).

    Example:
        >>> group_of("M3SVD", "0111_1716_0024"), group_of("LLVIP", "190003")
        ('0111_1716', '19')
    """
    if folder == "M3SVD":
        return stem.rsplit("_", 1)[0]
    if folder == "LLVIP":
        return stem[:2]
    return stem


def read_set(folder: str | Path, kind: str, rows: int | None = None) -> list[Picture]:
    """Read all pictures of one camera.

    Args:
        folder: of a set, with ``ir/`` and ``vi/``.
        kind: ``ir`` or ``vi``.
        rows: height to which the pictures are scaled; None leaves them at their own.

    Raises:
        FileNotFoundError: if there are none.
    """
    root = Path(folder) / kind
    paths = (
        sorted(p for p in root.iterdir() if p.suffix.lower() in ENDINGS) if root.is_dir() else []
    )
    if not paths:
        raise FileNotFoundError(f"no picture in {root}: expected files ending in {ENDINGS}")
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            gray = compress(image)
        group = group_of(Path(folder).name, re.sub(r"[^\w.-]", "_", path.stem))
        pictures.append(Picture(path.stem, group, scaled(gray, rows)))
    return pictures
