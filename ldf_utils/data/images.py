"""Images: pictures on disk to tensors and back, luminance and chroma, one check of values.

Tensors are float32 in [0, 1], channels first.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldf_utils.data.decoding import decode
from ldf_utils.data.files import atomic_path
from ldf_utils.data.names import IMAGE_SUFFIXES, ImageError
from ldf_utils.data.radiometry import ValueRange, scale

OVERSHOOT = 0.5
"""A float picture may leave [0, 1] by this much: overshoot of a filter, or noise that was added."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: luminance from red, green and blue


def read_image(path: str | os.PathLike, value_range: ValueRange | None = None) -> torch.Tensor:
    """Read a picture as a viewer would show it, in all its bits.

    The README has a table of what is read, how, and what is refused: orientation and photometric
    interpretation are applied, the first of several pages is read (and named), transparency is
    dropped, a palette is looked up.

    Args:
        path: a file in one of the formats of Pillow.
        value_range: the counts that become black and white, as
            `ldf_utils.data.radiometry.infrared_range` chooses it for a folder; by default the
            full scale of the file.

    Returns:
        ``(C, H, W)`` float32 in [0, 1]; C is 1 for gray files and 3 for color.

    Raises:
        ImageError: if the file is missing, must not be read, is empty, damaged or no picture, or
            has no known full scale and no range is given.

    Example:
        >>> read_image("vi/01.png").shape  # doctest: +SKIP
        torch.Size([3, 480, 640])
    """
    path = Path(path)
    array = scale(decode(path), path, value_range)
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1).contiguous()


def check_values(image: torch.Tensor, what: str = "a picture") -> torch.Tensor:
    """Check the type and the range of a picture, and return it as floating point in [0, 1].

    Args:
        image: any shape; uint8 is divided by 255, floating point is returned as it is. It may
            leave [0, 1] by `OVERSHOOT`.
        what: named in the error.

    Returns:
        The picture in floating point.

    Raises:
        ImageError: for other types, numbers that are not finite, and values beyond.

    Example:
        >>> check_values(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0., 1.])
    """
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not image.is_floating_point():
        raise ImageError(f"{what} must be uint8 or floating point in [0, 1], got {image.dtype}")
    if image.numel():
        low, high = (value.item() for value in torch.aminmax(image.detach()))
        if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # also true for NaN
            if not (math.isfinite(low) and math.isfinite(high)):
                bad = int((~image.detach().isfinite()).sum())
                raise ImageError(
                    f"{what} must be finite, got {bad} of {image.numel()} values that are NaN or "
                    "infinite"
                )
            raise ImageError(
                f"{what} must have values in [0, 1], got {low:g} to {high:g}; divide by its full "
                "scale, or pass uint8"
            )
    return image


def write_image(image: torch.Tensor, path: str | os.PathLike, bits: int = 8) -> Path:
    """Write a picture, atomically.

    Args:
        image: ``(C, H, W)``, C 1 or 3; uint8, or floating point in [0, 1] (see `check_values`; an
            overshoot is clamped).
        path: the file; its ending chooses the format.
        bits: 8, or 16 for a gray PNG or TIFF.

    Returns:
        The path written.

    Raises:
        ImageError: for another shape, type, range, depth or ending.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ImageError(
            f"{path}: a picture to write must have shape (1 or 3, H, W), got {tuple(image.shape)}"
        )
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(
            f"{path}: unknown ending {path.suffix!r}; expected one of {', '.join(IMAGE_SUFFIXES)}"
        )
    if bits not in (8, 16):
        raise ImageError(f"{path}: bits must be 8 or 16, got {bits}")
    image = check_values(image.detach().cpu(), f"{path}: a picture to write").float().clamp(0, 1)
    if bits == 16:
        if image.shape[0] != 1 or path.suffix.lower() not in (".png", ".tif", ".tiff"):
            raise ImageError(
                f"{path}: 16 bits are written for one channel and for .png or .tif only, got "
                f"{image.shape[0]} channel(s); use bits=8"
            )
        array = (image[0] * 65535).round().numpy().astype(np.uint16)
    else:
        array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)
    return path


def luminance(image: torch.Tensor) -> torch.Tensor:
    """Take the BT.601 luminance, 0.299 R + 0.587 G + 0.114 B.

    Args:
        image: ``(..., C, H, W)`` in [0, 1], C 1 (returned as it is) or 3.

    Returns:
        ``(..., 1, H, W)`` in [0, 1].

    Raises:
        ImageError: if C is neither 1 nor 3.
    """
    channels = image.shape[-3] if image.ndim >= 3 else None
    if channels == 1:
        return image
    if channels != 3:
        raise ImageError(
            f"expected an image of shape (..., 1 or 3, H, W), got {tuple(image.shape)}"
        )
    red, green, blue = image.unbind(dim=-3)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(-3)


def replace_luminance(visible: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """Give the fused luminance the chroma (Cb, Cr) of the visible image.

    The network fuses luminance; color is the visible image's, as in LDFusion
    (arXiv:2402.16267). A color that leaves the cube at the new luminance is clamped.

    Args:
        visible: ``(..., C, H, W)`` in [0, 1], C 1 or 3.
        fused: ``(..., 1, H, W)`` in [0, 1].

    Returns:
        ``(..., C, H, W)`` in [0, 1]; for a gray visible image the fused luminance itself.
    """
    if visible.shape[-3] == 1:
        return fused.clamp(0, 1)
    # With Cb and Cr kept, R - Y and B - Y are kept, so G - Y is too: one change for all channels.
    return (visible + (fused - luminance(visible))).clamp(0, 1)


def to_8bit(image: torch.Tensor) -> torch.Tensor:
    """Return gray levels 0..255 as a float tensor: clamped to [0, 1], times 255, rounded."""
    return (image.clamp(0, 1) * 255).round()
