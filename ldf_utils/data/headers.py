"""What the headers of picture files tell before a long job: can they be read, do pairs fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from ldf_utils.data.decoding import decode
from ldf_utils.data.names import ImageError


def source_files(pairs: Any) -> list[tuple[Path, Path]]:
    """List the files of a `PairFolder`, of several joined, or of a part: infrared, visible.

    Pairs that are in memory have none.
    """
    if isinstance(pairs, ConcatDataset):
        return [files for part in pairs.datasets for files in source_files(part)]
    if isinstance(pairs, Subset):
        whole = source_files(pairs.dataset)
        return [whole[index] for index in pairs.indices] if whole else []
    return [(infrared, visible) for _, infrared, visible in getattr(pairs, "files", [])]


def header_problems(files: Sequence[tuple[Path, Path]], crop: int) -> list[str]:
    """Say what keeps crops from being cut out of pairs, as far as the headers of the files tell.

    Args:
        files: infrared and visible.
        crop: side of the crops in pixels.

    Returns:
        A sentence for each file that cannot be read, and for each pair of sizes that do not fit.
    """
    problems = []
    for paths in files:
        sizes = []
        for path in paths:
            try:
                sizes.append(upright_size(path))
            except ImageError as error:
                problems.append(str(error))
        if len(sizes) == 2:
            problem = size_problem(str(paths[0]), sizes[0], sizes[1], crop)
            problems += [problem] if problem else []
    return problems


def upright_size(path: Path) -> tuple[int, int]:
    """Read height and width of a picture, from its header if that is enough.

    Raises:
        ImageError: if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            exif = Image.Image.getexif(image)  # that of a PNG decodes all of it
            turned = exif.get(0x0112, 1) >= 5  # by 90 degrees
            if turned and image.format == "TIFF":  # some versions of Pillow turn its size
                raise ValueError("its header is not enough")
            width, height = image.size
            return (width, height) if turned else (height, width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        height, width = decode(path).values.shape[:2]  # it can more, or says what is wrong
        return height, width


def size_problem(
    name: str, infrared: Sequence[int], visible: Sequence[int], crop: int
) -> str | None:
    """Say why crops cannot be cut from sources of these heights and widths, or return None."""
    (height, width), (other_height, other_width) = infrared, visible
    if (height, width) != (other_height, other_width):
        return (
            f"{name}: the infrared image is {width} x {height} pixels and the visible one "
            f"{other_width} x {other_height}; a pair must be registered, so both need one size"
        )
    least = math.ceil((crop + 2) / 3)
    if min(height, width) < least:
        return (
            f"{name}: {width} x {height} pixels are too few for crops of {crop}; expected "
            f"sides of at least {least} (smaller ones cannot be mirrored so far). Set a "
            "smaller crop, or leave this pair out"
        )
    return None
