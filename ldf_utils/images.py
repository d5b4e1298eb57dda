"""Images: registered pairs on disk to tensors and back, luminance and chroma, clear errors.

A *set* is a folder with ``ir/`` and ``vi/`` that hold files of equal stem, and any number of
``fused_METHOD/`` folders with results. Tensors are float32 in [0, 1], channels first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ldf_utils.files import atomic_path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: luminance from red, green and blue


class ImageError(ValueError):
    """A picture or a folder of pictures is not what the method needs; the text says what to do."""


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


@dataclass(frozen=True)
class Pair:
    """A registered pair: two pictures of one scene on one pixel grid.

    Attributes:
        name: the stem that both files share.
        infrared: ``(1, H, W)`` float32 in [0, 1].
        visible: ``(C, H, W)`` float32 in [0, 1], C 1 or 3.
        infrared_path: where the infrared picture was read from, or None.
        visible_path: where the visible picture was read from, or None.
    """

    name: str
    infrared: torch.Tensor
    visible: torch.Tensor
    infrared_path: Path | None = None
    visible_path: Path | None = None

    @property
    def luminance(self) -> torch.Tensor:
        """Luminance of the visible picture, ``(1, H, W)`` in [0, 1]."""
        return luminance(self.visible)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return tuple(self.infrared.shape[-2:])


def read_pair(infrared_path: str | os.PathLike, visible_path: str | os.PathLike) -> Pair:
    """Read a registered pair.

    The infrared picture is brought to one channel (colour files of thermal cameras hold the same
    grey three times, or a palette whose luminance stands for the temperature).

    Raises:
        ImageError: as `read_image`, and if the two sizes differ.
    """
    infrared_path, visible_path = Path(infrared_path), Path(visible_path)
    infrared, visible = luminance(read_image(infrared_path)), read_image(visible_path)
    if infrared.shape[-2:] != visible.shape[-2:]:
        (ih, iw), (vh, vw) = infrared.shape[-2:], visible.shape[-2:]
        raise ImageError(
            f"{infrared_path} is {iw} x {ih} pixels and {visible_path} is {vw} x {vh}; a pair must "
            "be registered, so both need one size. Register the two pictures (or crop and resize "
            "one onto the other) first"
        )
    return Pair(infrared_path.stem, infrared, visible, infrared_path, visible_path)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ImageError(f"{folder}: there is no such folder; expected one with pictures in it")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem in found:
            raise ImageError(
                f"{path} and {found[path.stem]} share the stem {path.stem!r}; partners are found "
                "by stem, so rename or remove one of them"
            )
        found[path.stem] = path
    if not found:
        raise ImageError(
            f"{folder}: no picture in it; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return found


def match_files(
    infrared_folder: str | os.PathLike, visible_folder: str | os.PathLike
) -> list[tuple[str, Path, Path]]:
    """Match the pictures of two folders by stem.

    Returns:
        ``(stem, infrared path, visible path)``, sorted by stem.

    Raises:
        ImageError: if a folder is missing or empty, two files share a stem, or a picture has no
            partner; every one of them is named.
    """
    infrared, visible = _by_stem(Path(infrared_folder)), _by_stem(Path(visible_folder))
    alone = [
        f"{path} has no partner {stem}.* in {other}"
        for mine, theirs, other in (
            (infrared, visible, visible_folder),
            (visible, infrared, infrared_folder),
        )
        for stem, path in mine.items()
        if stem not in theirs
    ]
    if alone:
        raise ImageError(
            f"{len(alone)} picture(s) without a partner of the same stem:\n  "
            + "\n  ".join(alone)
            + "\nadd the missing pictures, or move these out of the folder"
        )
    return [(stem, infrared[stem], visible[stem]) for stem in sorted(infrared)]


class PairFolder(Sequence[Pair]):
    """The registered pairs of one set: ``folder/ir/STEM.*`` and ``folder/vi/STEM.*``.

    Pairs are read when they are indexed, so that a large set costs no memory.

    Args:
        folder: the folder of the set.

    Raises:
        ImageError: as `match_files`.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ImageError(f"{self.folder}: there is no such folder; expected ir/ and vi/ in it")
        self.files = match_files(self.folder / "ir", self.folder / "vi")

    @property
    def name(self) -> str:
        """The name of the set: that of its folder."""
        return self.folder.resolve().name

    @property
    def names(self) -> list[str]:
        """The stems of the pairs, sorted."""
        return [stem for stem, _, _ in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        _, infrared, visible = self.files[index]
        return read_pair(infrared, visible)

    def __repr__(self) -> str:
        return f"PairFolder({str(self.folder)!r}, {len(self)} pairs)"

    def fused_methods(self) -> list[str]:
        """The METHODs whose results lie in ``fused_METHOD/``, sorted."""
        prefix = "fused_"
        return sorted(
            path.name[len(prefix) :]
            for path in self.folder.iterdir()
            if path.is_dir() and path.name.startswith(prefix) and path.name != prefix
        )

    def fused_path(self, method: str, stem: str) -> Path | None:
        """The result of ``method`` for the pair ``stem``, or None where there is none."""
        for suffix in IMAGE_SUFFIXES:
            for ending in (suffix, suffix.upper()):
                path = self.folder / f"fused_{method}" / f"{stem}{ending}"
                if path.is_file():
                    return path
        return None


def find_sets(data_dir: str | os.PathLike) -> dict[str, PairFolder]:
    """Every set in a folder of sets.

    Args:
        data_dir: a folder with one folder per set, each with ``ir/`` and ``vi/``; folders without
            these two are no sets.

    Returns:
        Set name to its pairs, sorted by name.

    Raises:
        ImageError: if the folder is missing or holds no set, and as `PairFolder`.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise ImageError(
            f"{data_dir}: there is no such folder; expected one folder per set, each with ir/ and "
            "vi/. Check LDF_DATA_DIR"
        )
    sets = {
        folder.name: PairFolder(folder)
        for folder in sorted(data_dir.iterdir())
        if (folder / "ir").is_dir() and (folder / "vi").is_dir()
    }
    if not sets:
        raise ImageError(
            f"{data_dir}: no set in it; expected folders that hold ir/ and vi/ with pictures of "
            "equal stem. Name the folder above the sets, not one set"
        )
    return sets
