"""Registered crops of pairs, drawn for a step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DistributedSampler

from ldf_utils.data.headers import size_problem
from ldf_utils.data.images import ImageError, to_8bit
from ldf_utils.data.pairs import Pair
from ldf_utils.losses.patches import (
    PatchSampler,
    ReleasedDraws,
    crop_and_turn,
    extract_patches,
    patch_matrices,
)
from ldf_utils.training.config import TrainConfig


class EpochOrder:
    """Say which pair each crop is cut from, if all pairs are to have their turn.

    The pairs are dealt out by torch's `DistributedSampler`: in each epoch every process gets its
    own shard of a new order of all pairs. The shards are of equal length, so where the pairs do not
    go into the processes evenly, some come twice.

    Args:
        pairs: how many there are.
        rank: number of this process.
        count: of processes.
        seed: of the orders.
    """

    def __init__(self, pairs: int, rank: int = 0, count: int = 1, seed: int = 0):
        numbers: Any = range(pairs)
        self.sampler: DistributedSampler[int] = DistributedSampler(numbers, count, rank, seed=seed)
        self._epoch: tuple[int, list[int]] = (-1, [])
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the pairs of an epoch for this process."""
        return len(self.sampler)

    def pair(self, position: int) -> int:
        """Return the pair of the crop at this position, counted over all epochs from 0."""
        epoch, place = divmod(position, len(self))
        with self._lock:
            if epoch != self._epoch[0]:
                self.sampler.set_epoch(epoch)
                self._epoch = (epoch, list(self.sampler))
            return self._epoch[1][place]


class Crops:
    """Draw random crops of pairs.

    Pairs are kept as 8-bit luminance once read, up to a limit; sources of 16 bits are rounded to
    8 whether they are kept or not, so the limit does not change what is drawn. Several threads may
    draw at the same time.

    Args:
        pairs: a sequence of `ldf_utils.data.pairs.Pair`.
        config: ``crop``, ``flip``, ``augment``, ``order``, ``min_std``, ``max_resamples`` and
            ``cache_mb`` are used.
        rank: number of this process, which matters if ``order`` is ``epochs``.
        count: of processes.

    Raises:
        ImageError: if there is no pair.
    """

    def __init__(self, pairs: Sequence[Pair], config: TrainConfig, rank: int = 0, count: int = 1):
        if len(pairs) == 0:
            raise ImageError(
                "there is no pair to train on; expected at least one. Give a set (ir/ and vi/ "
                "with pictures of equal stem) or a list of pairs"
            )
        self.pairs, self.config = pairs, config
        self.cache: dict[int, torch.Tensor] = {}
        self.room = config.cache_mb * 1e6
        self.order = None
        if config.order == "epochs":
            self.order = EpochOrder(len(pairs), rank, count, config.seed)
        self._lock = threading.Lock()

    def luminances(self, index: int) -> torch.Tensor:
        """Return infrared and visible luminance of one pair, ``(2, H, W)`` uint8.

        Raises:
            ImageError: if a picture cannot be read, the two differ in size, or are too small to be
                mirrored to a crop.
        """
        if index in self.cache:
            return self.cache[index]
        pair = self.pairs[index]
        name = str(pair.infrared_path or f"pair {pair.name!r}")
        problem = size_problem(name, pair.size, pair.visible.shape[-2:], self.config.crop)
        if problem:
            raise ImageError(problem)
        both = to_8bit(torch.cat([pair.infrared, pair.luminance])).to(torch.uint8)
        with self._lock:
            if both.numel() <= self.room and index not in self.cache:
                self.cache[index] = both
                self.room -= both.numel()
        return both

    def batch(
        self, generator: torch.Generator, start: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return infrared and visible crops, each ``(B, 1, crop, crop)`` in [0, 1].

        Args:
            generator: source of randomness.
            start: how many crops this process has drawn before in the run; used if the order is
                ``epochs``.
        """
        chosen: list[int | None] = [None] * self.config.batch
        if self.order is not None:
            chosen = [self.order.pair(start + k) for k in range(self.config.batch)]
        drawn = torch.stack([self.draw(generator, index) for index in chosen])
        return drawn[:, :1], drawn[:, 1:]

    def draw(self, generator: torch.Generator, index: int | None = None) -> torch.Tensor:
        """Return one crop, ``(2, crop, crop)`` float32 in [0, 1], infrared first.

        Args:
            generator: source of randomness.
            index: the pair to cut from; drawn as well if None.
        """
        for _ in range(self.config.max_resamples):
            chosen = _below(len(self.pairs), generator) if index is None else index
            both = self.luminances(chosen)
            if self.config.augment == "affine":
                cut = self._view(both, generator)
            else:
                cut = self._window(both, generator)
            if self.config.flip and _below(2, generator):
                cut = cut.flip(-1)
            if (cut.std(dim=(1, 2)) >= self.config.min_std).any():
                break
        return cut

    def _window(self, both: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Cut a window of the picture, mirrored where it is smaller than the crop."""
        crop, (height, width) = self.config.crop, both.shape[-2:]
        top = _below(max(1, height - crop + 1), generator)
        left = _below(max(1, width - crop + 1), generator)
        cut = both[:, top : top + crop, left : left + crop].float() / 255
        if min(height, width) < crop:
            down, right = crop - cut.shape[-2], crop - cut.shape[-1]
            margins = (right // 2, right - right // 2, down // 2, down - down // 2)
            cut = F.pad(cut, margins, mode="reflect")
        if self.config.augment == "released":  # turned within itself, as the released code does
            start = torch.zeros(1, dtype=torch.float64)
            draws = ReleasedDraws(crop, (start, start), **self._affine(generator))
            cut = crop_and_turn(cut[None], draws)[0]
        return cut

    def _view(self, both: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Cut a crop whose pixels come from the whole picture, mirrored at its borders."""
        crop, (height, width) = self.config.crop, both.shape[-2:]
        corner = []
        for length in (width, height):
            share = torch.rand(1, generator=generator, dtype=torch.float64)
            free = length - crop
            corner.append(torch.floor(share * (free + 1)) if free > 0 else share * 0 + free / 2)
        side = torch.full((1,), float(crop), dtype=torch.float64)
        theta = patch_matrices(
            side, (corner[0], corner[1]), (height, width), **self._affine(generator)
        )
        return extract_patches(both[None].float() / 255, theta, crop)[0]

    def _affine(self, generator: torch.Generator) -> dict[str, Any]:
        """Draw one affine map in the ranges of the patches (arXiv:2402.16267)."""

        def uniform(low: float, high: float) -> torch.Tensor:
            share = torch.rand(1, generator=generator, dtype=torch.float64)
            return low + (high - low) * share

        of, crop = PatchSampler, self.config.crop
        return {
            "degrees": uniform(-of.degrees, of.degrees),
            "shift": tuple((crop * t * uniform(-1, 1)).round() for t in of.translate),
            "scale": uniform(*of.scale),
            "shear": uniform(-of.shear, of.shear),
        }


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
