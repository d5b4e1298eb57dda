"""Pairs of pictures: one scene seen by two cameras, read by the names of `ldf_utils.data.names`.

A *set* is a folder with ``ir/`` and ``vi/`` that hold files of equal stem, and any number of
``fused_METHOD/`` folders with results.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch

from ldf_utils.data import radiometry, suspicion
from ldf_utils.data.decoding import bits_of, warn_once
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import ImageError, find_picture, match_files, match_folders, stem_of
from ldf_utils.data.radiometry import ValueRange, parse_range

Align = Callable[[torch.Tensor, torch.Tensor, str], tuple[torch.Tensor, torch.Tensor]]
"""Brings an infrared ``(1, H, W)`` and a visible picture to one grid; the stem is for messages."""


@dataclass(frozen=True)
class Pair:
    """A registered pair: two pictures of one scene on one pixel grid.

    Attributes:
        name: the stem that both files share.
        infrared: ``(1, H, W)`` float32 in [0, 1].
        visible: ``(C, H, W)`` float32 in [0, 1], C 1 or 3.
        infrared_path: where the infrared picture was read from, or None.
        visible_path: where the visible picture was read from, or None.
        bits: of the counts of the deeper of both files, 8 to 16.
    """

    name: str
    infrared: torch.Tensor
    visible: torch.Tensor
    infrared_path: Path | None = None
    visible_path: Path | None = None
    bits: int = 8

    @property
    def luminance(self) -> torch.Tensor:
        """Luminance of the visible picture, ``(1, H, W)`` in [0, 1]."""
        return luminance(self.visible)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.infrared.shape[-2:]
        return height, width


def read_pair(
    infrared_path: str | os.PathLike,
    visible_path: str | os.PathLike,
    *,
    infrared_range: str | ValueRange | None = "auto",
    visible_range: str | ValueRange | None = "auto",
    black_hot: bool = False,
    align: Align | None = None,
) -> Pair:
    """Read a registered pair, or one that ``align`` registers.

    The infrared picture is brought to one channel by its luminance. Pictures of a folder or a
    sequence are read with one range for all: see `PairFolder`.

    Args:
        infrared_path: a picture; the depth and the range of its counts are those of its camera.
        visible_path: a picture of the same size; its stem is the name of the pair.
        infrared_range: as `ldf_utils.data.radiometry.infrared_range` takes or returns it; text
            is applied to this one picture.
        visible_range: ``auto`` as `ldf_utils.data.radiometry.visible_range`, or what it returns.
        black_hot: whether hot is dark in the infrared picture; it is turned to white-hot then.
        align: brings both pictures to one pixel grid.

    Raises:
        ImageError: as `read_image`, and if the two sizes differ.
    """
    infrared_path, visible_path = Path(infrared_path), Path(visible_path)
    if isinstance(infrared_range, str):
        infrared_range = radiometry.infrared_range([infrared_path], infrared_range)
    if isinstance(visible_range, str):
        visible_range = radiometry.visible_range([visible_path])
    raw = read_image(infrared_path, infrared_range)
    infrared = luminance(raw)
    visible = read_image(visible_path, visible_range)
    infrared = 1 - infrared if black_hot else infrared
    if align is not None:
        infrared, visible = align(infrared, visible, stem_of(visible_path))
    if infrared.shape[-2:] != visible.shape[-2:]:
        (ih, iw), (vh, vw) = infrared.shape[-2:], visible.shape[-2:]
        raise ImageError(
            f"{infrared_path} is {iw} x {ih} pixels and {visible_path} is {vw} x {vh}; a pair must "
            "be registered, so both need one size. Register the two pictures first (python -m "
            "ldf_utils.fusion does it with --align auto), or crop and resize one onto the other"
        )
    bits = max(bits_of(infrared_path), bits_of(visible_path))
    pair = Pair(stem_of(visible_path), infrared, visible, infrared_path, visible_path, bits)
    for kind, text in suspicion.of_pair(pair, raw):
        warn_once(infrared_path, kind, text)
    return pair


class PairFiles(Sequence[Pair]):
    """Pairs of one infrared and one visible camera, which are read when they are indexed.

    A large set costs no memory. The ranges of both cameras are chosen over all files when the
    first pair is read.

    Args:
        files: ``(stem, infrared path, visible path)`` of each pair, as `match_files` finds them.
        infrared_range: as in `ldf_utils.data.radiometry.infrared_range`.
        black_hot: as in `read_pair`.
        align: as in `read_pair`.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Path, Path]],
        *,
        infrared_range: str | ValueRange = "auto",
        black_hot: bool = False,
        align: Align | None = None,
    ):
        self.files = list(files)
        self.align = align
        self.infrared_range = (
            parse_range(infrared_range) if isinstance(infrared_range, str) else infrared_range
        )
        self.black_hot = black_hot

    @property
    def names(self) -> list[str]:
        """The stems of the pairs."""
        return [stem for stem, _, _ in self.files]

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        _, infrared, visible = self.files[index]
        ranges = self.ranges
        return read_pair(
            infrared,
            visible,
            infrared_range=ranges[0],
            visible_range=ranges[1],
            black_hot=self.black_hot,
            align=self.align,
        )

    @functools.cached_property
    def ranges(self) -> tuple[ValueRange | None, ValueRange | None]:
        """The counts that are black and white, infrared and visible; None is the files' scale."""
        return (
            radiometry.infrared_range([path for _, path, _ in self.files], self.infrared_range),
            radiometry.visible_range([path for _, _, path in self.files]),
        )


class PairFolder(PairFiles):
    """The registered pairs of one set: ``folder/ir/STEM.*`` and ``folder/vi/STEM.*``.

    Args:
        folder: the folder of the set.
        on_problem: called with one sentence for each picture that is in no pair, which is left
            out; by default such a picture is an error.
        infrared_range: as in `ldf_utils.data.radiometry.infrared_range`.
        black_hot: as in `read_pair`.

    Raises:
        ImageError: as `match_files`, and if no pair is left.

    Example:
        >>> pairs = PairFolder("data/TNO", on_problem=print)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        on_problem: Callable[[str], None] | None = None,
        *,
        infrared_range: str | ValueRange = "auto",
        black_hot: bool = False,
    ):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ImageError(f"{self.folder}: there is no such folder; expected ir/ and vi/ in it")
        if on_problem is None:
            files = match_files(self.folder / "ir", self.folder / "vi")
        else:
            files, problems = match_folders(self.folder / "ir", self.folder / "vi")
            if not files:
                raise ImageError(f"{self.folder}: no pair of equal stem; " + "\n  ".join(problems))
            for problem in problems:
                on_problem(problem)
        super().__init__(files, infrared_range=infrared_range, black_hot=black_hot)

    @property
    def name(self) -> str:
        """The name of the set: that of its folder."""
        return self.folder.resolve().name

    def __repr__(self) -> str:
        return f"PairFolder({str(self.folder)!r}, {len(self)} pairs)"

    def fused_methods(self) -> list[str]:
        """List the METHODs whose results lie in ``fused_METHOD/``, sorted."""
        prefix = "fused_"
        return sorted(
            path.name[len(prefix) :]
            for path in self.folder.iterdir()
            if path.is_dir() and path.name.startswith(prefix) and path.name != prefix
        )

    def fused_path(self, method: str, stem: str) -> Path | None:
        """Find the result of ``method`` for the pair ``stem``; None where there is none.

        Raises:
            ImageError: if two pictures share the stem, or the folder must not be read.
        """
        return find_picture(self.folder / f"fused_{method}", stem)


def find_sets(
    data_dir: str | os.PathLike,
    *,
    infrared_range: str | ValueRange = "auto",
    black_hot: bool = False,
) -> dict[str, PairFolder]:
    """Find every set in a folder of sets.

    Args:
        data_dir: a folder with one folder per set, each with ``ir/`` and ``vi/``; folders without
            these two are no sets.
        infrared_range: of each set, as in `PairFolder`.
        black_hot: as in `read_pair`.

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
        folder.name: PairFolder(folder, infrared_range=infrared_range, black_hot=black_hot)
        for folder in sorted(data_dir.iterdir())
        if (folder / "ir").is_dir() and (folder / "vi").is_dir()
    }
    if not sets:
        raise ImageError(
            f"{data_dir}: no set in it; expected folders that hold ir/ and vi/ with pictures of "
            "equal stem. Name the folder above the sets, not one set"
        )
    return sets
