"""Times, parts and arithmetic of the two steps, and the rates of the machine."""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from experiments.training_speed import steps
from experiments.training_speed.steps import Ours, Released, both_to
from ldf_utils.clip.model import ClipSpace, bfloat16_pays
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.networks.ldfusion import PaperNetwork
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.step import Prepared, prepare

RELEASED, FLOAT32, BFLOAT16 = "as released", "ours, float32", "ours, bfloat16"
TOKENS, WIDTH = 50, 768  # of ViT-B/32; its widest layer goes from WIDTH to 4 WIDTH


@dataclass(frozen=True)
class Phase:
    """Hold the seconds of a part of a step, and its operations in products and convolutions."""

    seconds: float
    flops: int


@dataclass(frozen=True)
class Comparison:
    """Hold what `compare` finds.

    Attributes:
        setting: what was measured, and on what.
        seconds: variant to the median time of a step.
        ratio: variant to how many times faster than the released step.
        losses: variant to the terms of the first step, and the share of patches ``kept``.
        gradient_error: variant to the length of the difference between its gradient of the first
            step and the released one, as a share of the latter.
        phases: variant to its parts.
        rates: dtype to the measured rate of a matrix product in floating-point operations a second.
        bandwidth: measured rate of copying memory, bytes read and written a second.
    """

    setting: dict[str, Any]
    seconds: dict[str, float]
    ratio: dict[str, float]
    losses: dict[str, dict[str, float]]
    gradient_error: dict[str, float]
    phases: dict[str, dict[str, Phase]]
    rates: dict[str, float]
    bandwidth: float

    def flops(self, variant: str) -> int:
        """Return the operations of a whole step."""
        return sum(phase.flops for phase in self.phases[variant].values())

    def bound(self, variant: str) -> float:
        """Return the seconds of a whole step at the rate of a matrix product: the roofline."""
        return self.flops(variant) / self.rates["bfloat16" if variant == BFLOAT16 else "float32"]


class _Clock:
    """Seconds, or operations, of named parts of the work; of parts within parts, each its own.

    It is used in place of `torch.profiler.record_function`, so that each part ends before the next
    begins, also on a GPU and where autograd works in another thread.
    """

    def __init__(self, device: torch.device, counter: FlopCounterMode | None = None):
        self.device, self.counter = device, counter
        self.parts: dict[str, float] = {}
        self.open: list[str] = []
        self.last = 0.0

    def _now(self) -> float:
        if self.counter is not None:
            return self.counter.get_total_flops()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _lap(self) -> None:
        now = self._now()
        if self.open:
            part = self.open[-1]
            self.parts[part] = self.parts.get(part, 0.0) + now - self.last
        self.last = now

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._lap()
        self.open.append(part)
        try:
            yield
        finally:
            self._lap()
            self.open.pop()


def _by_parts(side: Ours | Released, batch: Prepared, clock: _Clock) -> dict[str, float]:
    """One step in parts: the graph is cut at the fused image, so that each part ends."""
    device = side.device
    clean, noisy = both_to((batch.infrared, batch.visible), device), both_to(batch.noisy, device)
    side.optimizer.zero_grad(set_to_none=True)
    modules = ("ldf_utils.losses.fusion_loss", "experiments.released_step")
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(mock.patch(f"{module}.record_function", clock))
        with (
            clock("network, forward"),
            torch.autocast(device.type, torch.bfloat16, enabled=side.config.autocast_network),
        ):
            fused = side.network(*noisy)
        fused = fused.float()
        leaf = fused.detach().requires_grad_()
        with clock("cosines"):
            language = side.language(leaf, clean, batch)
        with clock("CLIP, backward"):
            language.backward()
        with clock("VGG19, forward"):
            perceptual = side.perceptual(leaf, clean)
        with clock("VGG19, backward"):
            perceptual.backward()
        with clock("network, backward"):
            fused.backward(leaf.grad)
        with clock("optimizer"):
            side.optimizer.step()
    return clock.parts


def _phases(side: Ours | Released, batch: Prepared, repeats: int) -> dict[str, Phase]:
    counter = FlopCounterMode(display=False)
    with counter:
        flops = _by_parts(side, batch, _Clock(side.device, counter))
    runs = [_by_parts(side, batch, _Clock(side.device)) for _ in range(repeats)]
    return {
        part: Phase(statistics.median(run[part] for run in runs), int(flops[part]))
        for part in flops
    }


def _timed(function: Callable[[], Any], device: torch.device, times: int = 1) -> float:
    clock = _Clock(device)
    with clock("all"):
        for _ in range(times):
            function()
    return clock.parts["all"] / times


def matrix_rate(dtype: torch.dtype, device: torch.device, rows: int) -> float:
    """Measure floating-point operations a second in the widest layer of CLIP with so many rows."""
    x = torch.randn(rows, WIDTH, device=device).to(dtype)
    weight = torch.randn(4 * WIDTH, WIDTH, device=device).to(dtype)
    times = 20 if device.type == "cuda" else 1
    seconds = [_timed(lambda: F.linear(x, weight), device, times) for _ in range(12)]
    return 2 * rows * WIDTH * 4 * WIDTH / statistics.median(seconds[2:])


def copy_rate(device: torch.device, megabytes: int = 256) -> float:
    """Measure the bytes that are read and written a second when a large tensor is copied."""
    x = torch.zeros(megabytes * 250_000, device=device)
    y = torch.empty_like(x)
    seconds = [_timed(lambda: y.copy_(x), device) for _ in range(5)]
    return 2 * x.numel() * 4 / statistics.median(seconds[1:])


def compare(
    images: int | None = None,
    patches: int = 32,
    crop: int = 224,
    repeats: int = 5,
    device: str = "auto",
    compile: bool = False,
    seed: int = 0,
    bfloat16: bool | None = None,
) -> Comparison:
    """Measure the released step and ours in turn, with one half of the patches kept.

    Args:
        images: crops a step; 16 on a GPU, as in the paper, and 2 elsewhere if None.
        patches: per crop.
        crop: side of a crop in pixels.
        repeats: runs of each step, after one that is not counted.
        device: ``auto``, ``cpu`` or ``cuda``.
        compile: compile the frozen towers of ours in bfloat16.
        seed: of weights, crops and patches.
        bfloat16: run ours in bfloat16 as well; if None, where `bfloat16_pays`.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    images = images or (16 if place.type == "cuda" else 2)
    config = TrainConfig(
        batch=images,
        crop=crop,
        patches=patches,
        seed=seed,
        network="paper",
        perceptual="vgg19",
        patch_rule="released",
        augment="released",
        flip=False,
        frozen=True,
        schedule="released",
    )
    (batch,) = prepare(Crops(steps.example_pairs(images, crop + crop // 4, seed), config), 0)
    clip = steps.random_clip(seed)
    sampler = PatchSampler(patches, size=clip.image_size, rule="released")
    config = replace(config, entropy_threshold=steps.halving_threshold(batch, sampler))
    fast = replace(config, autocast=True, autocast_network=True, compile=compile)
    sides = _sides(clip.to(place), steps.random_vgg(seed).to(place), sampler, config, fast, place)
    if not (bfloat16_pays(place) if bfloat16 is None else bfloat16):
        del sides[BFLOAT16]
    losses, errors = _agreement(sides, batch)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            seconds = _timed(lambda side=side: side.step(batch), place)  # type: ignore[misc]
            if repeat:  # the first one warms up
                times[name].append(seconds)
    kept = losses[RELEASED]["kept"]
    rows = round(images * (1 + patches * kept) * TOKENS)
    return Comparison(
        setting=_setting(fast, place) | {"kept": kept, "repeats": repeats, "rows": rows},
        seconds={name: statistics.median(taken) for name, taken in times.items()},
        ratio={
            name: statistics.median(a / b for a, b in zip(times[RELEASED], taken, strict=True))
            for name, taken in times.items()
        },
        losses=losses,
        gradient_error=errors,
        phases={name: _phases(side, batch, min(3, repeats)) for name, side in sides.items()},
        rates={
            str(dtype).removeprefix("torch."): matrix_rate(dtype, place, rows)
            for dtype in (torch.float32, torch.bfloat16)[: len(sides) - 1]
        },
        bandwidth=copy_rate(place),
    )


def _setting(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    return {
        "images": config.batch,
        "patches": config.patches,
        "crop": config.crop,
        "entropy_threshold": config.entropy_threshold,
        "compile": config.compile,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _sides(
    clip: ClipSpace,
    features: nn.Sequential,
    sampler: PatchSampler,
    config: TrainConfig,
    fast: TrainConfig,
    device: torch.device,
) -> dict[str, Ours | Released]:
    """Both steps, ours twice, with one network, CLIP and VGG19."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = PaperNetwork().to(device)
    shared = (clip, features, sampler)
    return {
        RELEASED: Released(copy.deepcopy(network), *shared, config, device),
        FLOAT32: Ours(copy.deepcopy(network), *shared, config, device),
        BFLOAT16: Ours(copy.deepcopy(network), *shared, fast, device),
    }


def _agreement(
    sides: Mapping[str, Ours | Released], batch: Prepared
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Losses of the first step, and how far its gradient is from the released one."""
    losses, found = {}, {}
    for name, side in sides.items():
        losses[name] = side.gradient(batch)
        parameters = side.network.parameters()
        found[name] = nn.utils.parameters_to_vector(
            [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        ).double()
    length = found[RELEASED].norm()
    return losses, {
        name: ((x - found[RELEASED]).norm() / length).item() for name, x in found.items()
    }
