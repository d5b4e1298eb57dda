"""Speed: our training step against the released one, and where the time goes.

    python -m experiments.training_speed
    python -m experiments.training_speed --images 1 --patches 8 --repeats 3

Both steps get the same weights, crops and draws of patches, so they have the same loss to compute;
the first lines of the result say how far they agree. They are then run in turn, and the ratio is
the median of the ratios of neighboring runs: what else a machine does hits both alike. CLIP has the
size of ViT-B/32 and VGG19 its own, both with random weights: time does not depend on the values.

Three more things are reported: the parts of each step, the arithmetic that each part has to do, and
the *roofline*: the time in which this machine could do that arithmetic if it did nothing but
multiply matrices, at the rate that is measured for one layer of CLIP.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn
from torch.utils.data import ConcatDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import vgg

from experiments.released_step import PlainVGG, ReleasedStep
from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.clip.loading import OPENAI_MODEL
from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import write_json
from ldf_utils.data.pairs import Pair
from ldf_utils.data.scenes import open_sets
from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.losses.perceptual import PerceptualLoss, VGG19Features
from ldf_utils.networks.ldfusion import PaperNetwork
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.step import Prepared, gradients, prepare

RELEASED, FLOAT32, BFLOAT16 = "as released", "ours, float32", "ours, bfloat16"


def random_clip(seed: int = 0) -> ClipSpace:
    """A CLIP of the size of ViT-B/32 whose weights are random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(OPENAI_MODEL, pretrained=None)
    return ClipSpace(model, open_clip.get_tokenizer(OPENAI_MODEL), "random ViT-B/32")


def random_vgg(seed: int = 0) -> nn.Sequential:
    """The convolutional part of VGG19 with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        features = vgg.make_layers(vgg.cfgs["E"], batch_norm=False)
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
    return features.eval()


@dataclass(frozen=True)
class Phase:
    """A part of a step.

    Attributes:
        seconds: how long it takes.
        flops: floating-point operations in matrix products and convolutions.
    """

    seconds: float
    flops: int


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    Attributes:
        setting: what was measured, and on what.
        seconds: variant to the median time of a step.
        ratio: variant to how many times faster than the released step.
        losses: variant to the terms of the first step.
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
        """Operations of a whole step."""
        return sum(phase.flops for phase in self.phases[variant].values())

    def bound(self, variant: str) -> float:
        """Seconds of a whole step at the rate of a matrix product: the roofline."""
        return self.flops(variant) / self.rates["bfloat16" if variant == BFLOAT16 else "float32"]


class _Clock:
    """Seconds and operations between marks."""

    def __init__(self, device: torch.device, counter: FlopCounterMode | None = None):
        self.device, self.counter = device, counter
        self.parts: dict[str, float] = {}
        self.start()

    def _now(self) -> float:
        if self.counter is not None:
            return self.counter.get_total_flops()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def start(self) -> None:
        self.last = self._now()

    def __call__(self, part: str) -> None:
        now = self._now()
        self.parts[part] = self.parts.get(part, 0.0) + now - self.last
        self.last = now


class _Ours:
    """Network, loss and optimizer as `ldf_utils.training.fit` uses them."""

    def __init__(self, network, clip, features, sampler, config: TrainConfig, device):
        self.network, self.config, self.device = network, config, device
        self.criterion = FusionLoss(
            FrozenClip(clip, config.autocast, config.compile),
            config.prompts,
            config.weights,
            sampler,
            config.entropy_threshold,
            perceptual=PerceptualLoss(
                VGG19Features(features), True, config.autocast, config.compile
            ),
        ).to(device)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)

    def gradient(self, batch: Prepared) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        batch = replace(batch, generator=torch.Generator().manual_seed(batch.seed))
        return gradients(self.network, self.criterion, [batch], self.config, self.device)[0]

    def step(self, batch: Prepared) -> None:
        self.gradient(batch)
        nn.utils.clip_grad_norm_(self.network.parameters(), float("inf"))
        self.optimizer.step()

    def language(self, fused, clean, batch: Prepared) -> torch.Tensor:
        judge = copy.copy(self.criterion)
        judge.weights = replace(judge.weights, perceptual=0.0)
        return judge(fused, *clean, torch.Generator().manual_seed(batch.seed)).total

    def perceptual(self, fused, clean) -> torch.Tensor:
        loss = self.criterion.perceptual(fused, *clean)
        self.criterion.mark("VGG19, forward")
        return self.criterion.weights.perceptual * loss

    def set_mark(self, mark: Callable[[str], None]) -> None:
        self.criterion.mark = mark


class _Released:
    """The same questions to `ldf_utils.released_step`."""

    def __init__(self, network, clip, features, sampler, config: TrainConfig, device):
        self.network, self.sampler, self.device, self.config = network, sampler, device, config
        plain = PlainVGG(features).to(device)
        self.witness = ReleasedStep(network, clip, plain, config.prompts, config.weights)
        self.optimizer = self.witness.optimizer

    def _draws(self, batch: Prepared):
        generator = torch.Generator().manual_seed(batch.seed)
        return self.sampler.draw(len(batch.infrared), generator, tuple(batch.infrared.shape[-2:]))

    def _move(self, batch: Prepared):
        return [
            [x.to(self.device) for x in both]
            for both in (batch.noisy, (batch.infrared, batch.visible))
        ]

    def gradient(self, batch: Prepared) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        noisy, clean = self._move(batch)
        terms = self.witness.losses(self.network(*noisy), *clean, self._draws(batch))
        terms["total"].backward()
        return {name: term.item() for name, term in terms.items()}

    def step(self, batch: Prepared) -> None:
        noisy, clean = self._move(batch)
        self.witness.step(tuple(noisy), tuple(clean), self._draws(batch))

    def language(self, fused, clean, batch: Prepared) -> torch.Tensor:
        judge = copy.copy(self.witness)
        judge.features = None
        return judge.losses(fused, *clean, self._draws(batch))["total"]

    def perceptual(self, fused, clean) -> torch.Tensor:
        loss = self.witness._perceptual(fused, *clean)
        self.witness.mark("VGG19, forward")
        return self.witness.weights.perceptual * loss

    def set_mark(self, mark: Callable[[str], None]) -> None:
        self.witness.mark = mark


def _by_parts(side: _Ours | _Released, batch: Prepared, clock: _Clock) -> dict[str, float]:
    """One step in parts: the graph is cut at the fused image, so that each part ends."""
    device = side.device
    clean = [x.to(device) for x in (batch.infrared, batch.visible)]
    noisy = [x.to(device) for x in batch.noisy]
    side.optimizer.zero_grad(set_to_none=True)
    side.set_mark(clock)
    clock.start()
    with torch.autocast(device.type, torch.bfloat16, enabled=side.config.autocast_network):
        fused = side.network(*noisy)
    fused = fused.float()
    clock("network, forward")
    leaf = fused.detach().requires_grad_()
    language = side.language(leaf, clean, batch)
    clock("CLIP, forward")
    language.backward()
    clock("CLIP, backward")
    perceptual = side.perceptual(leaf, clean)
    perceptual.backward()
    clock("VGG19, backward")
    fused.backward(leaf.grad)
    clock("network, backward")
    side.optimizer.step()
    clock("optimizer")
    side.set_mark(lambda part: None)
    return clock.parts


def _phases(side: _Ours | _Released, batch: Prepared, repeats: int) -> dict[str, Phase]:
    counter = FlopCounterMode(display=False)
    with counter:
        flops = _by_parts(side, batch, _Clock(side.device, counter))
    runs = [_by_parts(side, batch, _Clock(side.device)) for _ in range(repeats)]
    return {
        part: Phase(statistics.median(run[part] for run in runs), int(flops[part]))
        for part in flops
    }


def _timed(function: Callable[[], Any], device: torch.device) -> float:
    clock = _Clock(device)
    function()
    clock("all")
    return clock.parts["all"]


def matrix_rate(dtype: torch.dtype, device: torch.device, rows: int = 1100) -> float:
    """Floating-point operations a second in a layer of CLIP: ``rows`` tokens, 768 to 3072."""
    x = torch.randn(rows, 768, device=device).to(dtype)
    weight = torch.randn(3072, 768, device=device).to(dtype)
    seconds = [_timed(lambda: nn.functional.linear(x, weight), device) for _ in range(12)]
    return 2 * rows * 768 * 3072 / statistics.median(seconds[2:])


def copy_rate(device: torch.device, megabytes: int = 256) -> float:
    """Bytes read and written a second when a large tensor is copied."""
    x = torch.zeros(megabytes * 250_000, device=device)
    y = torch.empty_like(x)
    seconds = [_timed(lambda: y.copy_(x), device) for _ in range(5)]
    return 2 * x.numel() * 4 / statistics.median(seconds[1:])


def compare(
    pairs: Sequence[Pair],
    images: int = 2,
    patches: int = 32,
    crop: int = 224,
    repeats: int = 5,
    device: str = "auto",
    compile: bool = False,
    seed: int = 0,
) -> Comparison:
    """Measure the released step and ours in turn.

    Args:
        pairs: where the crops come from.
        images: crops a step.
        patches: per crop.
        crop: side of a crop in pixels.
        repeats: runs of each step, after one that is not counted.
        device: ``auto``, ``cpu`` or ``cuda``.
        compile: compile the towers of ours in bfloat16.
        seed: of weights, crops and patches.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    config = TrainConfig(
        batch=images, crop=crop, patches=patches, seed=seed, network="paper", perceptual="vgg19",
        patch_rule="released", augment="released", flip=False, frozen=True, schedule="released",
    )  # fmt: skip
    fast = replace(config, autocast=True, autocast_network=True, compile=compile)
    (batch,) = prepare(Crops(pairs, config), 0)
    clip, features = random_clip(seed).to(place), random_vgg(seed).to(place)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PaperNetwork().to(place)
    sampler = PatchSampler(patches, size=clip.image_size, rule="released")
    sides: dict[str, _Ours | _Released] = {
        name: kind(copy.deepcopy(network), clip, features, sampler, settings, place)
        for name, kind, settings in (
            (RELEASED, _Released, config),
            (FLOAT32, _Ours, config),
            (BFLOAT16, _Ours, fast),
        )
    }
    losses, found = {}, {}
    for name, side in sides.items():  # also the run that is not counted
        losses[name] = side.gradient(batch)
        found[name] = nn.utils.parameters_to_vector(
            [torch.zeros_like(p) if p.grad is None else p.grad for p in side.network.parameters()]
        ).double()
    length = found[RELEASED].norm()
    errors = {name: ((x - found[RELEASED]).norm() / length).item() for name, x in found.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            times[name].append(_timed(lambda side=side: side.step(batch), place))
    ratio = {
        name: statistics.median(a / b for a, b in zip(times[RELEASED], taken, strict=True))
        for name, taken in times.items()
    }
    phases = {name: _phases(side, batch, max(1, min(3, repeats))) for name, side in sides.items()}
    return Comparison(
        setting={
            "images": images,
            "patches": patches,
            "crop": crop,
            "repeats": repeats,
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU",
            "threads": torch.get_num_threads(),
            "compile": compile,
            "torch": torch.__version__,
        },
        seconds={name: statistics.median(taken) for name, taken in times.items()},
        ratio=ratio,
        losses=losses,
        gradient_error=errors,
        phases=phases,
        rates={
            str(dtype).removeprefix("torch."): matrix_rate(dtype, place)
            for dtype in (torch.float32, torch.bfloat16)
        },
        bandwidth=copy_rate(place),
    )


def report(result: Comparison) -> str:
    """The comparison as text, with tables in Markdown."""
    setting, kept = result.setting, result.losses[RELEASED]["kept"]
    lines = [
        f"{setting['images']} images of {setting['crop']} pixels with {setting['patches']} patches "
        f"each, {kept:.0%} of them kept; {setting['device']}, {setting['threads']} threads, torch "
        f"{setting['torch']}; random weights; medians of {setting['repeats']} runs in turn",
    ]
    if setting["device"] == "CPU":
        lines.append("No GPU was used: figures of a GPU are missing here.")
    lines += ["", "| step | loss | gradient differs by | seconds | times faster | roofline, s | "
              "share of roofline |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, seconds in result.seconds.items():
        bound = result.bound(name)
        lines.append(
            f"| {name} | {result.losses[name]['total']:.5f} | {result.gradient_error[name]:.1e} | "
            f"{seconds:.2f} | {result.ratio[name]:.2f} | {bound:.2f} | {bound / seconds:.0%} |"
        )
    names = list(result.phases)
    lines += ["", "| part | " + " | ".join(f"{n}, s | GFLOP" for n in names) + " |"]
    lines.append("|---" * (1 + 2 * len(names)) + "|")
    parts = list(dict.fromkeys(part for phases in result.phases.values() for part in phases))
    for part in parts:
        cells = []
        for name in names:
            phase = result.phases[name].get(part, Phase(0.0, 0))
            cells.append(f"{phase.seconds:.3f} | {phase.flops / 1e9:.1f}")
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    cells = [
        f"{sum(p.seconds for p in result.phases[n].values()):.3f} | {result.flops(n) / 1e9:.1f}"
        for n in names
    ]
    lines.append("| all | " + " | ".join(cells) + " |")
    rows = setting["images"] * (1 + setting["patches"] * kept) * 50
    lines.append("")
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        intensity = 2 * rows * 768 * 3072 / (size * (rows * 768 + 768 * 3072 + rows * 3072))
        ridge = result.rates[dtype] / result.bandwidth
        lines.append(
            f"{dtype}: {result.rates[dtype] / 1e9:.0f} GFLOP/s in a matrix product, "
            f"{result.bandwidth / 1e9:.1f} GB/s of memory, so {ridge:.1f} FLOP a byte are needed "
            f"to be bound by arithmetic; a layer of CLIP with {rows:.0f} rows has {intensity:.0f}"
        )
    return "\n".join(lines)


def to_dict(result: Comparison) -> Mapping[str, Any]:
    """Plain values, for JSON."""
    return asdict(result)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m experiments.training_speed``."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.training_speed",
        description="Measure our training step against the released one, in turn.",
    )
    parser.add_argument("--images", type=int, default=2, help="crops a step (default 2)")
    parser.add_argument("--patches", type=int, default=32, help="per crop (default 32)")
    parser.add_argument("--crop", type=int, default=224, help="side in pixels (default 224)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--compile", action="store_true", help="compile the towers of ours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", metavar="DIR", help="folder of sets; else as for a training")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        pairs = ConcatDataset(list(open_sets(arguments.data).values()))
        result = compare(
            pairs,
            arguments.images,
            arguments.patches,
            arguments.crop,
            arguments.repeats,
            arguments.device,
            arguments.compile,
            arguments.seed,
        )
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(result))
    if arguments.json:
        print(f"\nWrote {write_json(arguments.json, to_dict(result))}")
    return 0


if __name__ == "__main__":
    run_command(main)
