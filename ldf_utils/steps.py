"""What a training step is made of: its configuration, crops of pairs, and the learning rate.

Everything random in a step comes from one number made of (seed, step, rank), so that step 100 is
the same whether or not the run was stopped before it, and whatever else the process does.
"""

from __future__ import annotations

import difflib
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DistributedSampler

from ldf_utils.clip_space import PROMPTS, Prompts
from ldf_utils.images import ImageError, Pair, to_8bit
from ldf_utils.losses import FusionLoss, LossTerms, LossWeights
from ldf_utils.networks import BoundedFusionNetwork, LDLite, PaperNetwork
from ldf_utils.patches import (
    PatchSampler,
    ReleasedDraws,
    crop_and_turn,
    extract_patches,
    patch_matrices,
)

NETWORKS = {"bounded": BoundedFusionNetwork, "paper": PaperNetwork, "lite": LDLite}
SCHEDULES = ("cosine", "halving", "released")
AUGMENTS = ("none", "affine", "released")
PERCEPTUAL = ("filterbank", "vgg19", "auto")

# The milestones of the authors' settings: epochs, of 100. Their code counts steps against them.
_MILESTONES = (50, 60, 70, 80, 90, 100)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but for the pairs. The defaults follow arXiv:2402.16267.

    Attributes:
        steps: optimizer steps of the whole run.
        batch: crops per process that are in memory together.
        accumulate: how many such batches, one after the other, make the gradient of a step; their
            gradients are averaged, and processes exchange them once.
        crop: side of a crop in pixels. Smaller images are mirrored at their borders.
        seed: of the first weights of the network and of all that is drawn.
        learning_rate: of Adam, at its highest.
        schedule: what it does after the warm-up: ``cosine`` falls to ``floor``; ``halving`` halves
            it after 50, 60, 70, 80 and 90 % of the steps, as the authors' settings ask for;
            ``released`` does what their code does with them, see `learning_rate`.
        warmup: share of the steps in which it rises to that, in a line.
        floor: share of it that is left at the last step, after a cosine decay.
        noise: standard deviation of the noise added to what the network sees; the losses see the
            clean crops.
        flip: mirror half of the crops left to right.
        augment: ``none`` leaves crops as they are; ``affine`` turns, shifts, zooms and shears them
            as patches are, with pixels from the whole picture; ``released`` does so within the
            crop, by the nearest pixel and with 0 beyond its border.
        order: ``random`` draws every crop from any pair; ``epochs`` goes through all pairs in a
            new order each time before one comes again, each process through its own share.
        min_std: a crop is drawn again if both sources have a lower standard deviation; from the
            same pair where the order is ``epochs``.
        tries: how often at most; then the last one is taken.
        cache_mb: memory for pairs that were read, in MB; the others are read again when drawn.
        network: ``bounded``, ``paper`` or ``lite``.
        clip: as in `ldf_utils.clip_space.load_clip`.
        prompt_infrared: the sentence for the infrared image.
        prompt_visible: the sentence for the visible image.
        prompt_fused: the sentence for the fused image, the objective.
        weight_direction: weight of the direction term; 0 switches it off, as with the others.
        weight_patch: weight of the patch term.
        weight_angle: weight of the angle term.
        weight_perceptual: weight of the perceptual term.
        perceptual: ``filterbank``, ``vgg19``, or ``auto``: VGG19 where its weights can be had,
            else the filter bank, which is then named in the log.
        patches: per crop.
        patch_rule: ``views`` or ``released``, see `ldf_utils.patches.PatchSampler`.
        patch_degrees: largest rotation of a patch.
        entropy_threshold: bits that both source patches have to exceed; 0 keeps every patch.
        mean_over: ``all`` or ``kept``, see `ldf_utils.losses.patch_direction_loss`.
        ignore_below: patch losses up to this value do not count; 0 switches it off.
        autocast: run CLIP and VGG19 in bfloat16.
        autocast_network: run the network that is trained in bfloat16, its weights in float32.
        lean: run CLIP and VGG19 as `ldf_utils.towers`: the same up to rounding, for less work.
        compile: compile the lean towers; slower to start, faster then. It needs a C++ compiler.
        cache_sources: keep the embeddings of sources whose crop is always the same, that is of
            pictures no larger than the crop.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ...
        checkpoint_every: steps between checkpoints.
        ahead: steps whose crops are read and cut in the background; 0 does it in between.
        samples: pictures that show, at each checkpoint, what the network makes.

    Raises:
        ValueError: for a value of another type or out of its range.
    """

    steps: int = 2000
    batch: int = 16
    accumulate: int = 1
    crop: int = 224
    seed: int = 0
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    floor: float = 0.01
    noise: float = 0.03
    flip: bool = True
    augment: str = "none"
    order: str = "random"
    min_std: float = 0.05
    tries: int = 10
    cache_mb: float = 1024.0
    network: str = "bounded"
    clip: str = "auto"
    prompt_infrared: str = PROMPTS.infrared
    prompt_visible: str = PROMPTS.visible
    prompt_fused: str = PROMPTS.fused
    weight_direction: float = LossWeights.direction
    weight_patch: float = LossWeights.patch
    weight_angle: float = LossWeights.angle
    weight_perceptual: float = LossWeights.perceptual
    perceptual: str = "filterbank"
    patches: int = PatchSampler.count
    patch_rule: str = PatchSampler.rule
    patch_degrees: float = PatchSampler.degrees
    entropy_threshold: float = 6.0
    mean_over: str = "all"
    ignore_below: float = 0.0
    autocast: bool = False
    autocast_network: bool = False
    lean: bool = False
    compile: bool = False
    cache_sources: bool = False
    device: str = "auto"
    checkpoint_every: int = 200
    ahead: int = 1
    samples: int = 2

    def __post_init__(self):
        for setting in fields(self):
            value, kind = getattr(self, setting.name), type(setting.default)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, setting.name, float(value))
            elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(
                    f"{setting.name} is to be of type {kind.__name__}, found {value!r}; "
                    f"the default is {setting.default!r}"
                )
        checks = {
            "steps": (self.steps >= 1, "at least 1"),
            "batch": (self.batch >= 1, "at least 1"),
            "accumulate": (self.accumulate >= 1, "at least 1"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "augment": (self.augment in AUGMENTS, f"one of {', '.join(AUGMENTS)}"),
            "order": (self.order in ("random", "epochs"), "random or epochs"),
            "patch_rule": (self.patch_rule in ("views", "released"), "views or released"),
            "ahead": (self.ahead >= 0, "0 or more"),
            "samples": (self.samples >= 0, "0 or more"),
            "crop": (self.crop >= 32, "at least 32"),
            "seed": (self.seed >= 0, "0 or more"),
            "learning_rate": (0 < self.learning_rate < math.inf, "above 0"),
            "warmup": (0 <= self.warmup <= 1, "in [0, 1]"),
            "floor": (0 <= self.floor <= 1, "in [0, 1]"),
            "noise": (0 <= self.noise < math.inf, "0 or more"),
            "min_std": (0 <= self.min_std < math.inf, "0 or more"),
            "tries": (self.tries >= 1, "at least 1"),
            "cache_mb": (self.cache_mb >= 0, "0 or more"),
            "network": (self.network in NETWORKS, f"one of {', '.join(NETWORKS)}"),
            "perceptual": (self.perceptual in PERCEPTUAL, f"one of {', '.join(PERCEPTUAL)}"),
            "patches": (self.patches >= 1, "at least 1"),
            "patch_degrees": (0 <= self.patch_degrees <= 180, "in [0, 180]"),
            "entropy_threshold": (0 <= self.entropy_threshold <= 8, "in [0, 8] bits"),
            "mean_over": (self.mean_over in ("all", "kept"), "all or kept"),
            "ignore_below": (0 <= self.ignore_below <= 2, "in [0, 2]"),
            "checkpoint_every": (self.checkpoint_every >= 1, "at least 1"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise ValueError(f"{name} is to be {expected}, found {getattr(self, name)!r}")
        _ = self.weights  # checks them

    @property
    def weights(self) -> LossWeights:
        """The weights of the loss terms."""
        return LossWeights(
            self.weight_direction, self.weight_patch, self.weight_angle, self.weight_perceptual
        )

    @property
    def prompts(self) -> Prompts:
        """The three sentences."""
        return Prompts(
            infrared=self.prompt_infrared, visible=self.prompt_visible, fused=self.prompt_fused
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for JSON, TOML or a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The configuration with these values, and the defaults for the rest.

        Raises:
            ValueError: for an unknown name (the nearest known one is named) or a bad value.
        """
        known = [setting.name for setting in fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                raise ValueError(f"there is no setting {name!r}; {hint}")
        return cls(**values)


# --- what a step is made of


class EpochOrder:
    """Which pair each crop is cut from, if all pairs are to have their turn.

    The pairs are dealt out by torch's `DistributedSampler`: in each epoch every process gets its
    own share of a new order of all pairs. The shares are of equal length, so where the pairs do not
    go into the processes evenly, some come twice.

    Args:
        pairs: how many there are.
        rank: number of this process.
        count: of processes.
        seed: of the orders.
    """

    def __init__(self, pairs: int, rank: int = 0, count: int = 1, seed: int = 0):
        self.sampler = DistributedSampler(range(pairs), count, rank, shuffle=True, seed=seed)
        self._epoch: tuple[int, list[int]] = (-1, [])
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Pairs of an epoch for this process."""
        return len(self.sampler)

    def pair(self, position: int) -> int:
        """The pair of the crop at this position, counted over all epochs from 0."""
        epoch, place = divmod(position, len(self))
        with self._lock:
            if epoch != self._epoch[0]:
                self.sampler.set_epoch(epoch)
                self._epoch = (epoch, list(self.sampler))
            return self._epoch[1][place]


class Crops:
    """Random crops of pairs.

    Pairs are kept as 8-bit luminance once read, up to a limit; sources of 16 bits are rounded to
    8 whether they are kept or not, so the limit does not change what is drawn. Several threads may
    draw at the same time.

    Args:
        pairs: a sequence of `ldf_utils.images.Pair`.
        config: ``crop``, ``flip``, ``augment``, ``order``, ``min_std``, ``tries`` and ``cache_mb``
            are used.
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
        """Infrared and visible luminance of one pair, ``(2, H, W)`` uint8.

        Raises:
            ImageError: if a picture cannot be read, the two differ in size, or are too small to be
                mirrored to a crop.
        """
        if index in self.cache:
            return self.cache[index]
        pair, crop = self.pairs[index], self.config.crop
        place = pair.infrared_path or f"pair {pair.name!r}"
        (height, width), other = pair.infrared.shape[-2:], pair.visible.shape[-2:]
        if (height, width) != tuple(other):
            raise ImageError(
                f"{place}: the infrared image is {width} x {height} pixels and the visible one "
                f"{other[1]} x {other[0]}; a pair must be registered, so both need one size"
            )
        least = math.ceil((crop + 2) / 3)
        if min(height, width) < least:
            raise ImageError(
                f"{place}: {width} x {height} pixels are too few for crops of {crop}; expected "
                f"sides of at least {least} (smaller ones cannot be mirrored so far). Set a "
                "smaller crop, or leave this pair out"
            )
        both = to_8bit(torch.cat([pair.infrared, pair.luminance])).to(torch.uint8)
        with self._lock:
            if both.numel() <= self.room and index not in self.cache:
                self.cache[index] = both
                self.room -= both.numel()
        return both

    def draw(self, generator: torch.Generator, index: int | None = None) -> torch.Tensor:
        """One crop, ``(2, crop, crop)`` float32 in [0, 1], infrared first.

        Args:
            generator: source of randomness.
            index: the pair to cut from; drawn as well if None.
        """
        return self._draw(generator, index)[0]

    def _draw(
        self, generator: torch.Generator, chosen: int | None
    ) -> tuple[torch.Tensor, tuple[int, bool] | None]:
        """A crop, and (pair, mirrored) if a crop of this pair can be no other."""

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        crop = self.config.crop
        for _ in range(self.config.tries):
            index = below(len(self.pairs)) if chosen is None else chosen
            both = self.luminances(index)
            height, width = both.shape[-2:]
            if self.config.augment == "affine":
                cut = self._view(both, generator)
            else:
                top, left = below(max(1, height - crop + 1)), below(max(1, width - crop + 1))
                cut = both[:, top : top + crop, left : left + crop].float() / 255
                if min(height, width) < crop:
                    down, right = crop - cut.shape[-2], crop - cut.shape[-1]
                    margins = (right // 2, right - right // 2, down // 2, down - down // 2)
                    cut = F.pad(cut, margins, mode="reflect")
                if self.config.augment == "released":
                    cut = self._turned(cut, generator)
            flipped = bool(self.config.flip and below(2))
            if flipped:
                cut = cut.flip(-1)
            if (cut.std(dim=(1, 2)) >= self.config.min_std).any():
                break
        fixed = self.config.augment == "none" and max(height, width) <= crop
        return cut, ((index, flipped) if fixed else None)

    def _affine(self, generator: torch.Generator) -> dict[str, Any]:
        """One affine map in the ranges of the patches (arXiv:2402.16267), each value ``(1,)``."""

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

    def _view(self, both: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A crop whose pixels come from the whole picture, mirrored at its borders."""
        crop, size = self.config.crop, tuple(both.shape[-2:])
        corner = []
        for length in reversed(size):
            share = torch.rand(1, generator=generator, dtype=torch.float64)
            free = length - crop
            corner.append(torch.floor(share * (free + 1)) if free > 0 else share * 0 + free / 2)
        side = torch.full((1,), float(crop), dtype=torch.float64)
        theta = patch_matrices(side, tuple(corner), size, **self._affine(generator))
        return extract_patches(both[None].float() / 255, theta, crop)[0]

    def _turned(self, cut: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The crop turned within itself, as the released code does."""
        start = torch.zeros(1, dtype=torch.float64)
        draws = ReleasedDraws(self.config.crop, (start, start), **self._affine(generator))
        return crop_and_turn(cut[None], draws)[0]

    def batch(
        self, generator: torch.Generator, start: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Infrared and visible crops, each ``(B, 1, crop, crop)`` in [0, 1].

        Args:
            generator: source of randomness.
            start: how many crops this process has drawn before in the run; used if the order is
                ``epochs``.
        """
        return self._batch(generator, start)[:2]

    def _batch(self, generator: torch.Generator, start: int | None):
        chosen: list[int | None] = [None] * self.config.batch
        if self.order is not None:
            chosen = [self.order.pair((start or 0) + k) for k in range(self.config.batch)]
        cuts, keys = zip(*(self._draw(generator, index) for index in chosen), strict=True)
        drawn = torch.stack(cuts)
        return drawn[:, :1], drawn[:, 1:], keys


@dataclass(frozen=True)
class Prepared:
    """One batch, drawn and noised, before the network has seen it.

    Attributes:
        infrared: clean crops, ``(B, 1, crop, crop)`` in [0, 1].
        visible: luminance, the same shape.
        noisy: infrared and visible as the network sees them.
        generator: goes on with the patches.
        seed: for what draws from torch's own random state, as dropout does.
        keys: of each crop, (pair, mirrored) where it is always the same, else None.
    """

    infrared: torch.Tensor
    visible: torch.Tensor
    noisy: tuple[torch.Tensor, torch.Tensor]
    generator: torch.Generator
    seed: int
    keys: tuple[tuple[int, bool] | None, ...]


def prepare(
    crops: Crops, step: int, rank: int = 0, device: torch.device | str = "cpu"
) -> list[Prepared]:
    """The batches of one step, which depend on (seed, step, rank) alone.

    Args:
        crops: where they are cut from.
        step: from 0.
        rank: number of this process.
        device: for a GPU the batches are put where they are copied from without a wait.

    Returns:
        ``accumulate`` batches, on the CPU.

    Raises:
        ImageError: as `Crops`.
    """
    config, batches = crops.config, []
    pinned = torch.device(device).type == "cuda"
    for part in range(config.accumulate):
        seed = step_seed(config.seed, step, rank, part)
        generator = torch.Generator().manual_seed(seed)
        before = (step * config.accumulate + part) * config.batch
        *clean, keys = crops._batch(generator, before)
        noisy = [x + config.noise * torch.randn(x.shape, generator=generator) for x in clean]
        tensors = [x.pin_memory() if pinned else x for x in (*clean, *noisy)]
        batches.append(Prepared(*tensors[:2], tuple(tensors[2:]), generator, seed + 1, keys))
    return batches


Embedded = dict[tuple[int, bool], tuple[torch.Tensor, torch.Tensor]]
"""Embeddings of sources that come again, infrared and visible, by (pair, mirrored)."""


def gradients(
    network: nn.Module,
    criterion: FusionLoss,
    batches: Sequence[Prepared],
    config: TrainConfig,
    device: torch.device,
    embedded: Embedded | None = None,
) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Add the gradient of one step to the parameters of the network: the mean over the batches.

    Args:
        network: what is trained; it is put in training mode.
        criterion: the loss, on the device.
        batches: of `prepare`.
        config: ``autocast_network`` and ``cache_sources`` are used.
        device: of the network.
        embedded: what is kept from step to step if ``cache_sources`` is set.

    Returns:
        The mean over the batches of ``total``, of each term before its weight and of ``kept``; and
        what the network made of each batch.
    """
    rows, made = [], []
    for batch in batches:
        torch.manual_seed(batch.seed)  # for networks that draw by themselves, as dropout does
        infrared, visible, *noisy = (
            x.to(device, non_blocking=True) for x in (batch.infrared, batch.visible, *batch.noisy)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast_network):
            fused = network.train()(*noisy)
        if config.autocast_network:
            fused = fused.float()
        known = {}
        if config.cache_sources and embedded is not None and None not in batch.keys:
            known["sources"] = _embedded(criterion, infrared, visible, batch.keys, embedded)
        loss = criterion(fused, infrared, visible, batch.generator, **known)
        (loss.total / len(batches)).backward()
        rows.append(_values(loss))
        made.append(fused.detach())
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}, made


def _embedded(criterion, infrared, visible, keys, embedded):
    """Embeddings of sources that come again and again.

    Each is computed alone when it is first seen, so that its value does not depend on the batch
    that it came in, nor a resumed run on what was seen before the stop.
    """
    for i, key in enumerate(keys):
        if key not in embedded:
            embedded[key] = criterion.embed_sources(infrared[i : i + 1], visible[i : i + 1])
    if embedded[keys[0]] is None:
        return None
    return tuple(torch.cat([embedded[key][side] for key in keys]) for side in (0, 1))


def _values(loss: LossTerms) -> dict[str, float]:
    numbers = torch.stack([loss.total.detach(), *loss.terms.values()]).tolist()  # one wait
    values = dict(zip(("total", *loss.terms), numbers, strict=True))
    return values if loss.kept is None else values | {"kept": loss.kept}


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of a step: up in a line, then by ``config.schedule``.

    ``cosine`` goes down in half a cosine. ``halving`` stays and is halved after 50, 60, 70, 80 and
    90 % of the steps: the milestones of the authors' settings, in epochs of 100. ``released`` is
    what their code makes of these, since it moves both schedulers after each step of the first
    epoch (the warm-up) and never again: the rate ends its warm-up one step too high and stays
    there, and it is halved for step 50, 60, ... 100 alone, where the warm-up is that long.

    Args:
        step: from 0 to ``config.steps - 1``.
        config: ``learning_rate``, ``schedule``, ``warmup``, ``steps`` and ``floor`` are used.

    Returns:
        Rising to ``learning_rate``, which the last step of the warm-up has; then, for ``cosine``,
        falling to ``floor * learning_rate``, which the last step of all has.
    """
    rising = round(config.warmup * config.steps)
    if config.schedule == "released":
        moved = min(step, rising)
        share = (moved + 1) / rising if rising else 1.0
        return config.learning_rate * share * (0.5 if moved in _MILESTONES and rising else 1.0)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    if config.schedule == "halving":
        passed = sum(100 * step >= milestone * config.steps for milestone in _MILESTONES)
        return config.learning_rate * 0.5**passed
    cosine = (1 + math.cos(math.pi * (step + 1 - rising) / (config.steps - rising))) / 2
    return config.learning_rate * (config.floor + (1 - config.floor) * cosine)


def step_seed(seed: int, step: int, rank: int = 0, part: int = 0) -> int:
    """One well-mixed number for (seed, step, rank, part): neighbors give unrelated streams."""
    numbers = (seed, step, rank, part) if part else (seed, step, rank)
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
