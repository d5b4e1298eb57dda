"""Pairs of images: one matching of file names for the whole package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ldf_utils.data.images import IMAGE_SUFFIXES, ImageError, luminance, read_image


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
