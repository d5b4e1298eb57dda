"""Inference: fuse a pair of tensors, a pair of pictures, folders of pictures.

A network fuses luminance; the color of a result is that of the visible picture. Wherever a network
is expected, any ``rule(infrared, visible)`` of `ldf_utils.fusion.rules` does as well.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from ldf_utils.data import suspicion
from ldf_utils.data.files import check_writable
from ldf_utils.data.images import check_values, luminance, replace_luminance, write_image
from ldf_utils.data.names import IMAGE_SUFFIXES, ImageError, find_pairs
from ldf_utils.data.pairs import Align, Pair, PairFiles
from ldf_utils.data.radiometry import ValueRange
from ldf_utils.networks.bounded import SMALLEST_SIDE
from ldf_utils.training.distributed import Team

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

TILE = 2048
"""Side in pixels of the largest image that is fused in one piece, and of the tiles of others."""

_DISK_IS_FULL = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}
_GRID = 32  # tiles start at multiples, so that a network with strides sees one grid
_log = logging.getLogger(__name__)


def fuse_tensors(
    network: Network,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    tile: int | None = TILE,
) -> torch.Tensor:
    """Fuse batches of any size from 32 pixels up, odd sizes included, without a gradient.

    Images of at most ``tile ** 2`` pixels are fused whole. Larger ones are fused in overlapping
    tiles, one at a time, whose results are blended linearly over a strip, so the memory that the
    network takes does not grow with the image. `BoundedFusionNetwork` looks at surroundings of
    less than 192 pixels, and with the default tile the outer 192 pixels of a tile have no weight:
    tiles give what the whole image would. Networks with norms over the whole image (``local`` is
    False: `PaperNetwork`, `LDLite`) see one tile's statistics instead, so contrast can drift over
    a picture in tiles; a warning is logged, and ``tile=None`` fuses whole at any size.

    Args:
        network: a network, or a rule of `ldf_utils.fusion.rules`.
        infrared: ``(B, 1, H, W)`` in [0, 1], or uint8.
        visible: ``(B, 1 or 3, H, W)`` in [0, 1], or uint8.
        tile: side of a tile in pixels, a multiple of 64; None for none.

    Returns:
        ``(B, C, H, W)`` in [0, 1], on the device of ``infrared``, with the channels and the color
        of ``visible``.

    Raises:
        ValueError: for other shapes, types and ranges, images smaller than 32 pixels, another
            ``tile``, or a result that is not finite.

    Example:
        >>> from ldf_utils.fusion.rules import average
        >>> fuse_tensors(average, torch.zeros(1, 1, 32, 32), torch.ones(1, 3, 32, 32)).mean()
        tensor(0.5000)
    """
    _check_sizes(infrared, visible)
    _check_tile(tile)
    infrared = check_values(infrared, "the infrared picture")
    visible = check_values(visible, "the visible picture")

    height, width = infrared.shape[-2:]
    device = infrared.device
    if isinstance(network, nn.Module):
        device = next((p.device for p in network.parameters()), device)
    with torch.no_grad():
        gray = luminance(visible)
        if tile is None or height * width <= tile**2:
            fused = network(infrared.to(device), gray.to(device)).to(infrared.device)
        else:
            if not getattr(network, "local", True):
                _log.warning(
                    "%d x %d pixels are fused in tiles, and %s depends on the whole image: "
                    "contrast can drift between tiles; tile=None fuses it whole if memory allows",
                    width,
                    height,
                    type(network).__name__,
                )
            fused = _fuse_tiles(network, infrared, gray, tile, device)
        if not fused.isfinite().all():
            raise ValueError(
                f"the network's result is not finite ({int((~fused.isfinite()).sum())} of "
                f"{fused.numel()} pixels are NaN or infinite), so nothing is written; its weights "
                "are most likely damaged or of a training that diverged"
            )
        return replace_luminance(visible, fused.to(visible.dtype))


def _check_sizes(infrared: torch.Tensor, visible: torch.Tensor) -> None:
    if (
        infrared.ndim != 4
        or visible.ndim != 4
        or infrared.shape[1] != 1
        or visible.shape[1] not in (1, 3)
        or infrared.shape[0] != visible.shape[0]
        or infrared.shape[2:] != visible.shape[2:]
    ):
        raise ValueError(
            "expected infrared (B, 1, H, W) and visible (B, 1 or 3, H, W) of one batch and size, "
            f"got {tuple(infrared.shape)} and {tuple(visible.shape)}; a pair must be registered"
        )
    height, width = infrared.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"the pair is {width} x {height} pixels; fusing needs at least {SMALLEST_SIDE} x "
            f"{SMALLEST_SIDE}. Enlarge both pictures, or cut them larger"
        )


def _check_tile(tile: int | None) -> None:
    if tile is not None and (tile < 2 * _GRID or tile % (2 * _GRID)):
        raise ValueError(f"the tile side must be a multiple of {2 * _GRID}, got {tile}")


def _fuse_tiles(
    network: Network,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    tile: int,
    device: torch.device,
) -> torch.Tensor:
    height, width = infrared.shape[-2:]
    total, weights = torch.zeros_like(infrared), infrared.new_zeros(height, width)
    for rows, row_weight in _tiles(height, tile):
        for columns, column_weight in _tiles(width, tile):
            part = (..., rows, columns)
            weight = (row_weight[:, None] * column_weight).to(infrared.device)
            fused = network(infrared[part].to(device), visible[part].to(device))
            total[part] += weight * fused.to(infrared.device)
            weights[rows, columns] += weight
    return total / weights


def _tiles(size: int, tile: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Parts of an axis and the weight of their pixels; the weights of all parts sum to 1.

    Neighbors overlap by half a tile, at most 512 pixels. Over an overlap the weight is 0 for three
    eighths, rises linearly for a quarter and is 1 for the rest.
    """
    overlap = min(512, tile // 2)
    step = tile - overlap
    count = max(1, math.ceil((size - overlap) / step))
    rise = ((torch.arange(overlap) + 0.5) / overlap - 0.375).mul(4).clamp(0, 1)
    for k in range(count):
        start, stop = k * step, min(k * step + tile, size)
        weight = torch.ones(stop - start)
        if k > 0:
            weight[:overlap] *= rise
        if k < count - 1:
            weight[-overlap:] *= rise.flip(0)
        yield slice(start, stop), weight


def fuse_pair(network: Network, pair: Pair, tile: int | None = TILE) -> torch.Tensor:
    """Fuse one pair of pictures.

    Args:
        network: as in `fuse_tensors`.
        pair: the pictures.
        tile: as in `fuse_tensors`.

    Returns:
        ``(C, H, W)`` in [0, 1] with the channels and the color of the visible picture.

    Raises:
        ImageError: if the pair is smaller than 32 pixels or its pictures differ in size.
    """
    try:
        return fuse_tensors(network, pair.infrared[None], pair.visible[None], tile)[0]
    except ValueError as error:
        raise ImageError(f"{pair.visible_path or pair.name}: {error}") from error


@dataclass
class FolderReport:
    """What came of a folder.

    Attributes:
        written: the pictures that were written, sorted by name.
        problems: one message per picture that was not, naming the file and what to do.
    """

    written: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _write(network: Network, pair: Pair, output: Path, bits: int | None, tile: int | None) -> None:
    sources = [path for path in (pair.infrared_path, pair.visible_path) if path is not None]
    if output.exists() and any(output.samefile(source) for source in sources):
        raise ImageError(f"{output}: the result would replace its own source; choose another name")
    if bits is None:
        bits = 16 if pair.visible.shape[0] == 1 and pair.bits > 8 else 8
    write_image(fuse_pair(network, pair, tile), output, bits=bits)


def fuse_folder(
    network: Network,
    infrared: str | os.PathLike,
    visible: str | os.PathLike,
    output: str | os.PathLike,
    bits: int | None = None,
    tile: int | None = TILE,
    team: Team | None = None,
    infrared_range: str | ValueRange = "auto",
    black_hot: bool = False,
    align: Align | None = None,
) -> FolderReport:
    """Fuse every pair of two folders, partners by stem, into ``output/STEM.png``.

    A pair that cannot be fused (unreadable, of two sizes, too small, without a partner) is
    reported and the others are finished. A result that exists is replaced, atomically.

    Args:
        network: as in `fuse_tensors`.
        infrared: folder of infrared pictures, or one picture.
        visible: folder of visible pictures, or one picture; its stem names the result.
        output: folder of the results, made if missing. For two single pictures it may be the file
            itself, ending as a picture does.
        bits: 8 or 16 per channel; None writes 16 where the visible picture is gray and one of the
            two has 16 bits, else 8 (color is always 8).
        tile: as in `fuse_tensors`.
        team: the processes that divide the work, of which this is one; None is this one alone.
        infrared_range: of all infrared pictures, as in
            `ldf_utils.data.radiometry.infrared_range`.
        black_hot: whether hot is dark in the infrared pictures; results are as of white-hot ones.
        align: brings each pair to one pixel grid, as in `ldf_utils.data.pairs.read_pair`.

    Returns:
        What was written and what was not, by all processes.

    Raises:
        ImageError: if a folder is missing or holds no picture at all, a folder is paired with a
            file, or the results are to go into a folder of sources.
        ValueError: for another ``tile`` or range.
        OSError: if the results cannot be written, tried before the work, or the disk is full.
        ProcessError: if another process of the team is gone.
    """
    team = team or Team(0, 1, torch.device("cpu"))
    infrared, visible, output = Path(infrared), Path(visible), Path(output)
    _check_tile(tile)
    files, problems = find_pairs(infrared, visible, output)
    pairs = PairFiles(files, infrared_range=infrared_range, black_hot=black_hot, align=align)
    single = not infrared.is_dir() and not output.is_dir()
    to_file = single and output.suffix.lower() in IMAGE_SUFFIXES
    check_writable(output, folder=not to_file)
    if team.rank == 0:
        suspicion.warn(pairs, infrared)
    # Pictures without a partner are named by the first process.
    report = FolderReport(problems=[] if team.rank else problems)
    mine = team.shard(range(len(pairs)))
    bar = tqdm(mine, desc="fusing", unit="pair", disable=True if team.rank else None)
    for number, index in enumerate(bar, 1):
        stem, infrared_path, visible_path = pairs.files[index]
        target = output if to_file else output / f"{stem}.png"
        try:
            _write(network, pairs[index], target, bits, tile)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
                raise
            reason = str(error) or type(error).__name__
            known = str(infrared_path) in reason or str(visible_path) in reason
            report.problems.append(reason if known else f"{visible_path}: {reason}")
            _log.info("failed %s (%d of %d)", target.name, number, len(mine))
        else:
            report.written.append(target)
            _log.info("fused %s (%d of %d)", target.name, number, len(mine))
    reports = team.gather(report)
    return FolderReport(
        sorted(path for one in reports for path in one.written),
        [problem for one in reports for problem in one.problems],
    )
