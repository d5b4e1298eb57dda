"""Images: registered pairs on disk to tensors and back, luminance and chroma, clear errors.

A *set* is a folder with ``ir/`` and ``vi/`` that hold files of equal stem, and any number of
``fused_METHOD/`` folders with results. Tensors are float32 in [0, 1], channels first.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ldf_utils.data.files import atomic_path
from ldf_utils.data.names import IMAGE_SUFFIXES, ImageError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: luminance from red, green and blue


def read_image(path: str | os.PathLike) -> torch.Tensor:
    """Read a picture.

    8-bit and 16-bit, grey and RGB files are read; an alpha channel is dropped (it says where a
    picture is, not what it shows), a palette is looked up, black-and-white becomes 0 and 1.

    Args:
        path: a file in one of the formats of Pillow.

    Returns:
        ``(C, H, W)`` float32 in [0, 1]; C is 1 for grey files and 3 for colour.

    Raises:
        ImageError: if the file is missing, empty, damaged, no picture, or of a depth that has no
            known full scale (32-bit and floating-point files).
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: there is no such file; check the path and its spelling")
    try:
        with Image.open(path) as image:
            image.load()
            mode = image.mode
            if mode in ("I;16", "I;16L", "I;16B", "I;16N"):
                array = np.asarray(image).astype(np.float32) / 65535.0
            elif mode == "I" and image.format == "PNG":  # how older Pillow opens 16-bit PNG
                array = np.asarray(image).astype(np.float32) / 65535.0
            elif mode in ("1", "L", "LA", "La"):
                array = np.asarray(image.convert("L"), dtype=np.float32) / 255.0
            elif mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
                array = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
            else:
                raise ImageError(
                    f"{path}: pixels of Pillow mode {mode!r} have no known full scale; expected "
                    "8-bit or 16-bit, grey or RGB. Convert the file to a 16-bit PNG first"
                )
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: this is not a picture that Pillow can read ({path.stat().st_size} bytes); "
            f"expected one of {', '.join(IMAGE_SUFFIXES)}. Fetch the file again or remove it"
        ) from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{path}: the picture is damaged or cut off ({error}); fetch the file again"
        ) from error
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1).contiguous()


def write_image(image: torch.Tensor, path: str | os.PathLike, bits: int = 8) -> Path:
    """Write a picture, atomically.

    Args:
        image: ``(C, H, W)`` in [0, 1], C 1 or 3; values outside are clamped.
        path: the file; its ending chooses the format.
        bits: 8, or 16 for a grey PNG or TIFF.

    Returns:
        The path written.

    Raises:
        ImageError: for another shape, depth or ending.
    """
    path = Path(path)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ImageError(
            f"{path}: a picture to write has shape (1 or 3, H, W), found {tuple(image.shape)}"
        )
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(
            f"{path}: unknown ending {path.suffix!r}; expected one of {', '.join(IMAGE_SUFFIXES)}"
        )
    image = image.detach().cpu().float().clamp(0, 1)
    if bits == 16:
        if image.shape[0] != 1 or path.suffix.lower() not in (".png", ".tif", ".tiff"):
            raise ImageError(
                f"{path}: 16 bits are written for one channel and for .png or .tif only, found "
                f"{image.shape[0]} channels; use bits=8"
            )
        array = (image[0] * 65535).round().numpy().astype(np.uint16)
    elif bits == 8:
        array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    else:
        raise ImageError(f"{path}: bits is 8 or 16, found {bits}")
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)
    return path


def luminance(image: torch.Tensor) -> torch.Tensor:
    """BT.601 luminance, 0.299 R + 0.587 G + 0.114 B.

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
        raise ImageError(f"expected an image of shape (..., 1 or 3, H, W), found {image.shape}")
    red, green, blue = image.unbind(dim=-3)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(-3)


def replace_luminance(visible: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """The fused luminance with the chroma (Cb, Cr) of the visible image.

    The network fuses luminance; colour is the visible image's, as in LDFusion
    (arXiv:2402.16267). A colour that leaves the cube at the new luminance is clamped.

    Args:
        visible: ``(..., C, H, W)`` in [0, 1], C 1 or 3.
        fused: ``(..., 1, H, W)`` in [0, 1].

    Returns:
        ``(..., C, H, W)`` in [0, 1]; for a grey visible image the fused luminance itself.
    """
    if visible.shape[-3] == 1:
        return fused.clamp(0, 1)
    # With Cb and Cr kept, R - Y and B - Y are kept, so G - Y is too: one change for all channels.
    return (visible + (fused - luminance(visible))).clamp(0, 1)


def to_8bit(image: torch.Tensor) -> torch.Tensor:
    """Grey levels 0..255 as a float tensor: clamp to [0, 1], times 255, rounded."""
    return (image.clamp(0, 1) * 255).round()
