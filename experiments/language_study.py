"""Does language matter? Equal trainings that differ in their words or terms, and what came of them.

A single training proves little: another seed gives another network. So each *arm* (a choice of
terms, or of the sentence for the fused picture) is trained with the same number of steps from the
same seeds, and two arms are compared seed by seed: same first weights, same crops, same noise. What
a sentence should change is declared beforehand, as a measure and a sign (`CLAIMS`), and the verdict
follows from the numbers: moved, did not move, or moved the other way, where *moved* means that the
mean difference is larger than twice its standard deviation over the seeds.

The trainings run on generated scenes alone. The results are measured on held-out scenes, whose true
fusion is known, and, where a folder of real pairs is named, on those as well.

    python -m experiments.language_study --output runs/language_study      # goes on where it
    stopped
    python -m experiments.language_study --data DIR --only filter noisy --seeds 0
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

import ldf_utils
from experiments.embedded_clip import dataset
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.blur import gaussian_blur
from ldf_utils.data.cli import ignore_interrupts, run_command
from ldf_utils.data.files import write_json, write_rows, write_text
from ldf_utils.data.images import luminance
from ldf_utils.data.pairs import Pair, find_sets
from ldf_utils.data.scenes import Box, render
from ldf_utils.fusion.inference import fuse_tensors
from ldf_utils.losses import direction
from ldf_utils.metrics import METRICS, background_detail, psnr_to_oracle, ssim_to_oracle, warm_gap
from ldf_utils.training import __main__
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.trainer import fit

SHIPPED_STUDY = Path(__file__).parent.parent / "weights" / "language_study.json"
"""The results that ship with the package."""

BASE = TrainConfig(
    steps=300,
    batch=4,
    crop=128,
    patches=8,
    learning_rate=3e-3,
    noise=0.08,
    clip="mini",
)
"""What all arms share: the paper's weights, and noise in the sources that is worth a word."""

MEASURED = 1
"""Raise it when a measure in this file is changed: results of another number are made again."""

GENERATOR = ("__init__.py", "dataset.py", "degradations.py")
"""The files of `experiments.embedded_clip` that draw the held-out material."""

_OFF = dict(weight_direction=0.0, weight_patch=0.0, weight_angle=0.0)


@dataclass(frozen=True)
class Arm:
    """One kind of training.

    Attributes:
        name: how the tables and ``--only`` call it.
        label: what it is, in words.
        changes: settings of `ldf_utils.training.config.TrainConfig` that differ from the base.
    """

    name: str
    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)


ARMS = (
    Arm("perceptual", "perceptual term only, no language", _OFF),
    Arm("direction", "+ direction of the whole picture",
        {"weight_patch": 0.0, "weight_angle": 0.0}),
    Arm("angle", "+ angle", {"weight_patch": 0.0}),
    Arm("patches", "+ patches", {"entropy_threshold": 0.0}),
    Arm("filter", "+ filter of empty patches: the full loss"),
    Arm("dark blurry", "full loss, “a dark blurry image”", {"prompt_fused": "a dark blurry image"}),
    Arm("noisy", "full loss, “a noisy image”", {"prompt_fused": "a noisy image"}),
    Arm("bright", "full loss, “a bright image”", {"prompt_fused": "a bright image"}),
    Arm("flat", "full loss, “... flat background ...”",
        {"prompt_fused": "a clear image with flat background and salient objects"}),
    Arm("hidden", "full loss, “... hidden objects”",
        {"prompt_fused": "a clear image with detailed background and hidden objects"}),
)  # fmt: skip
"""Terms from none to all with the paper's sentence, then the full loss with other sentences."""

FULL = "filter"
"""The arm with all terms and the paper's sentence."""


@dataclass(frozen=True)
class Claim:
    """What a change is expected to do, said before it is measured.

    Attributes:
        arm: name of the arm.
        baseline: the arm it is compared with.
        measure: name in `MEASURES`.
        sign: +1 if it should rise, -1 if it should fall.
        says: the reason, in the words of the sentence or the purpose of the term.
    """

    arm: str
    baseline: str
    measure: str
    sign: int
    says: str


CLAIMS = (
    Claim("dark blurry", FULL, "brightness", -1, "dark"),
    Claim("dark blurry", FULL, "sharpness", -1, "blurry"),
    Claim("noisy", FULL, "noise_passed", +1, "noisy"),
    Claim("bright", FULL, "brightness", +1, "bright"),
    Claim("flat", FULL, "detail", -1, "flat background"),
    Claim("hidden", FULL, "gap", -1, "hidden objects"),
    Claim(FULL, "perceptual", "detail", +1, "detailed background"),
    Claim(FULL, "perceptual", "gap", +1, "salient objects"),
    Claim("direction", "perceptual", "contrast", +1, "the direction asks for a clear picture"),
    Claim("angle", "direction", "near_sources", +1, "the angle holds the picture back"),
    Claim("patches", "angle", "sharpness", +1, "patches ask in every part"),
    Claim("filter", "patches", "noise", -1, "the filter asks nothing of empty parts"),
)

COSTS = ("correlation_infrared", "correlation_visible", "ssim_sources", "psnr", "ssim_oracle")
"""What patches may cost; the seconds of a step come on top."""


# --- what is measured


@dataclass(frozen=True)
class Sample:
    """A pair to measure on, with the truth where it is known.

    Attributes:
        name: of the pair.
        infrared: ``(1, H, W)`` in [0, 1].
        visible: luminance of the same shape.
        warm: the same shape, 1 where warm objects are (a scene), or where the infrared is
            brightest (3 percent of a real picture).
        oracle: the true fusion, or None.
        boxes: the objects of a scene.
    """

    name: str
    infrared: torch.Tensor
    visible: torch.Tensor
    warm: torch.Tensor
    oracle: torch.Tensor | None = None
    boxes: tuple[Box, ...] = ()


def _level(name: str) -> Callable[[torch.Tensor, Sample], float]:
    """A metric of `ldf_utils.metrics`, in its own unit."""
    function = METRICS[name].function

    def measured(fused: torch.Tensor, sample: Sample) -> float:
        return function(fused[None], sample.infrared[None], sample.visible[None]).item()

    return measured


def _brightness(fused: torch.Tensor, sample: Sample) -> float:
    return 255 * fused.mean().item()


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.nan_to_num(torch.corrcoef(torch.stack([one.flatten(), other.flatten()])))[
        0, 1
    ].item()


def _correlation_infrared(fused: torch.Tensor, sample: Sample) -> float:
    return _correlation(fused, sample.infrared)


def _correlation_visible(fused: torch.Tensor, sample: Sample) -> float:
    return _correlation(fused, sample.visible)


def _near_sources(fused: torch.Tensor, sample: Sample) -> float:
    return (_correlation(fused, sample.infrared) + _correlation(fused, sample.visible)) / 2


def flat_places(sample: Sample, share: float = 0.2) -> torch.Tensor:
    """Where both sources are flattest: ``(H - 2, W - 2)`` bool, at least ``share`` of the pixels.

    The places follow from the sources alone, so they are the same for every fused picture.
    """
    both = gaussian_blur(torch.stack([sample.infrared, sample.visible]), 1.5)[:, 0]
    slope = both.diff(dim=-1).abs()[:, 1:-1, 1:] + both.diff(dim=-2).abs()[:, 1:, 1:-1]
    slope = slope.amax(0)
    return slope <= slope.flatten().kthvalue(max(1, round(share * slope.numel()))).values


def noise_level(fused: torch.Tensor, places: torch.Tensor) -> float:
    """Deviation of the noise in flat places, in gray levels (0..255).

    The difference of two Laplacians (3 x 3, Immerkær 1996, DOI 10.1006/cviu.1996.0060) does not
    see planes and slow curves; its median absolute value does not see the few edges that are left.

    Args:
        fused: ``(1, H, W)`` in [0, 1].
        places: ``(H - 2, W - 2)`` bool, from `flat_places`.
    """
    mask = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    response = F.conv2d(fused[None], mask[None, None].to(fused))[0, 0]
    return 255 * response[places].abs().median().item() / (0.6745 * 6)


def _noise(fused: torch.Tensor, sample: Sample) -> float:
    return noise_level(fused, flat_places(sample))


def noise_passed(fused: torch.Tensor, sample: Sample, network: nn.Module) -> float:
    """How much of the noise that is added to both sources comes through.

    The noise is that of the trainings (`BASE`), drawn once for a sample's size. What it changes in
    the fused picture is measured as in `noise_level`, and divided by what was added: 1 where all
    of it comes through, 0.7 for the average of the sources (their noise is not the same), 0 where
    it is smoothed away.
    """
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 1, *fused.shape, generator=generator)
    noisy = [
        x + BASE.noise * n
        for x, n in zip((sample.infrared[None], sample.visible[None]), noise, strict=True)
    ]
    changed = fuse_tensors(network, *noisy)[0] - fused
    everywhere = torch.ones([side - 2 for side in fused.shape[-2:]], dtype=torch.bool)
    return noise_level(changed, everywhere) / (255 * BASE.noise)


def _detail(fused: torch.Tensor, sample: Sample) -> float:
    return 255 * background_detail(fused[None], sample.warm[None]).item()


def object_gaps(fused: torch.Tensor, sample: Sample) -> list[float]:
    """How much brighter each warm object is than a ring around it, in [-1, 1].

    Objects with less than 30 warm pixels are left out.
    """
    gaps = []
    for box in sample.boxes:
        mask = torch.zeros_like(sample.warm)
        inside = (..., slice(box.ymin, box.ymax), slice(box.xmin, box.xmax))
        mask[inside] = sample.warm[inside]
        if (mask > 0.5).sum() >= 30:
            gaps.append(warm_gap(fused[None], mask[None]).item())
    return gaps


def _gap(fused: torch.Tensor, sample: Sample) -> float:
    gaps = object_gaps(fused, sample)
    return 255 * math.fsum(gaps) / len(gaps) if gaps else math.nan


def _standing_out(fused: torch.Tensor, sample: Sample) -> float:
    gaps = object_gaps(fused, sample)
    return sum(gap > dataset.SALIENT for gap in gaps) / len(gaps) if gaps else math.nan


def _texture_kept(fused: torch.Tensor, sample: Sample) -> float:
    truth = _detail(sample.oracle, sample)
    return _detail(fused, sample) / truth if truth > 0 else math.nan


def _psnr(fused: torch.Tensor, sample: Sample) -> float:
    return min(psnr_to_oracle(fused[None], sample.oracle[None], rounded=False).item(), 100.0)


def _ssim_oracle(fused: torch.Tensor, sample: Sample) -> float:
    return ssim_to_oracle(fused[None], sample.oracle[None]).item()


@dataclass(frozen=True)
class Measure:
    """Something that is measured on a fused picture.

    Attributes:
        label: with its unit, for tables and figures.
        of: fused ``(1, H, W)`` and sample to a number; NaN where it has no value.
        needs_truth: whether it can be measured on scenes only.
        asks_again: whether ``of`` takes the network as its third argument, to fuse once more.
    """

    label: str
    of: Callable[..., float]
    needs_truth: bool = False
    asks_again: bool = False


MEASURES: dict[str, Measure] = {
    "brightness": Measure("brightness: mean, levels", _brightness),
    "contrast": Measure("contrast: SD, levels", _level("SD")),
    "sharpness": Measure("sharpness: mean gradient AG, levels", _level("AG")),
    "spatial_frequency": Measure("spatial frequency SF, levels", _level("SF")),
    "noise": Measure("noise in flat places, levels", _noise),
    "noise_passed": Measure("share of added noise that comes through", noise_passed, False, True),
    "detail": Measure("background detail, levels", _detail),
    "correlation_infrared": Measure("correlation with the infrared", _correlation_infrared),
    "correlation_visible": Measure("correlation with the visible", _correlation_visible),
    "near_sources": Measure("correlation with the sources, mean", _near_sources),
    "ssim_sources": Measure("SSIM to both sources, sum", _level("SSIM")),
    "gap": Measure("warm objects above surroundings, levels", _gap, needs_truth=True),
    "standing_out": Measure("share of warm objects that stand out", _standing_out, True),
    "texture": Measure("background detail / true one", _texture_kept, needs_truth=True),
    "psnr": Measure("PSNR to the true fusion, dB", _psnr, needs_truth=True),
    "ssim_oracle": Measure("SSIM to the true fusion", _ssim_oracle, needs_truth=True),
}


@torch.no_grad()
def measure_network(network: nn.Module, samples: Sequence[Sample]) -> dict[str, float]:
    """Means over samples of all that can be measured on them.

    Args:
        network: maps infrared and visible to fused luminance.
        samples: at least one, all with a truth or all without.

    Returns:
        Name of the measure to mean; a sample in which a measure has no value (no warm object) is
        left out of its mean, and a measure without any value is left out.
    """
    columns: dict[str, list[float]] = {}
    for sample in samples:
        fused = fuse_tensors(network, sample.infrared[None], sample.visible[None])[0]
        for name, measure in MEASURES.items():
            if sample.oracle is None and measure.needs_truth:
                continue
            value = measure.of(fused, sample, *([network] if measure.asks_again else []))
            if not math.isnan(value):
                columns.setdefault(name, []).append(value)
    return {name: math.fsum(values) / len(values) for name, values in columns.items()}


# --- what is trained and measured on


@dataclass(frozen=True)
class Settings:
    """Everything that decides the results, but for the code and the weights of the judge.

    Attributes:
        config: what all arms share.
        scenes: generated scenes to train on.
        held_out: generated scenes to measure on.
        size: their height and width.
        seed: of the worlds; those to measure on come from the next seed.
        data: folder of real sets to measure on as well, or None.
        pairs_per_set: real pairs of each set, evenly spread over it.
        side: longest side of the part of a real pair that is used, cut from its middle.
    """

    config: TrainConfig = BASE
    scenes: int = 120
    held_out: int = 24
    size: tuple[int, int] = (192, 256)
    seed: int = 700
    data: str | None = None
    pairs_per_set: int = 4
    side: int = 256

    def __post_init__(self):
        for name in ("scenes", "held_out", "pairs_per_set"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is to be at least 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class Material:
    """Pairs to train on and samples to measure on, and one number for all their pixels."""

    pairs: tuple[Pair, ...]
    samples: Mapping[str, tuple[Sample, ...]]
    digest: str


def scene_samples(count: int, size: tuple[int, int], seed: int) -> list[Sample]:
    """Generated scenes as samples; arguments as of `ldf_utils.data.scenes.render`."""
    samples = []
    for index in range(count):  # one by one, so that the noise does not depend on the count
        scene = render(1, size, seed, start=index)
        samples.append(
            Sample(
                f"{index:05d}",
                scene.infrared[0],
                luminance(scene.visible)[0],
                scene.salient[0],
                scene.oracle[0],
                tuple(scene.boxes[0]),
            )
        )
    return samples


def _middle(pair: Pair, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The middle of a pair at its own pixels, sides even and at most ``side``."""
    height, width = (min(length - length % 2, side) for length in pair.size)
    top, left = (pair.size[0] - height) // 2, (pair.size[1] - width) // 2
    return tuple(
        image[:, top : top + height, left : left + width].contiguous()
        for image in (pair.infrared, pair.luminance)
    )


def real_samples(data: str, pairs_per_set: int, side: int) -> list[Sample]:
    """Parts of real pairs, evenly spread over each set.

    Args:
        data: folder of sets, as in `ldf_utils.data.pairs.find_sets`.
        pairs_per_set: how many of each, at most.
        side: longest side of a part.

    Raises:
        ImageError: as `find_sets`, or if a picture cannot be read.
    """
    samples = []
    for name, pairs in find_sets(data).items():
        count = min(pairs_per_set, len(pairs))
        for place in torch.linspace(0, len(pairs) - 1, count).round().long().tolist():
            infrared, visible = _middle(pairs[place], side)
            edge = infrared.flatten().quantile(0.97)
            warm = (infrared > edge).float()
            samples.append(Sample(f"{name}/{pairs.names[place]}", infrared, visible, warm))
    return samples


@functools.lru_cache(maxsize=1)
def prepare(settings: Settings) -> Material:
    """Render the scenes and read the real pairs.

    Raises:
        ImageError: as `real_samples`.
    """
    training_samples = scene_samples(settings.scenes, settings.size, settings.seed)
    samples = {"scenes": tuple(scene_samples(settings.held_out, settings.size, settings.seed + 1))}
    if settings.data:
        samples["pairs"] = tuple(real_samples(settings.data, settings.pairs_per_set, settings.side))
    digest = hashlib.sha256()
    for sample in (*training_samples, *(s for group in samples.values() for s in group)):
        for image in (sample.infrared, sample.visible, sample.warm, sample.oracle):
            if image is not None:
                digest.update(image.contiguous().numpy().tobytes())
        digest.update(repr(sample.boxes).encode())
    pairs = tuple(Pair(s.name, s.infrared, s.visible) for s in training_samples)
    return Material(pairs, samples, digest.hexdigest())


def weights_digest(module: nn.Module) -> str:
    """A fingerprint of all numbers of a model."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def code_files() -> list[Path]:
    """List the code that a result depends on: it all but this file, for which `MEASURED` stands."""
    package, experiments = Path(ldf_utils.__file__).parent, Path(__file__).parent
    rooms = (room for room in package.iterdir() if room.name not in {"evaluation", "notebook"})
    files = [package / "__init__.py", *(path for room in rooms for path in room.rglob("*.py"))]
    return sorted(files + [experiments / "embedded_clip" / name for name in GENERATOR])


@functools.cache
def _code_digest() -> str:
    """A fingerprint of the code that trains and measures: when it changes, old results are void."""
    digest = hashlib.sha256(str(MEASURED).encode())
    for path in code_files():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


# --- one run, and all of them


def run_key(settings: Settings, arm: Arm, seed: int, clip_digest: str) -> str:
    """The name under which a run is kept: other settings, pixels, weights or code, another name."""
    config = replace(settings.config, seed=seed, **arm.changes)
    parts = (config.to_dict(), prepare(settings).digest, clip_digest, _code_digest())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


@functools.lru_cache(maxsize=1)
def _judge(name: str) -> ClipSpace:
    return load_clip(name)


def run_arm(settings: Settings, arm: Arm, seed: int) -> dict[str, Any]:
    """One training and what came of it.

    Args:
        settings: what is trained and measured on.
        arm: what is special about this training.
        seed: of the first weights and of all that is drawn.

    Returns:
        ``arm``, ``seed``, ``seconds_per_step`` (of all cores together, so that it does not grow
        when other programs run), ``last`` (the last row of the history) and ``measures``: for each
        place (scenes, pairs) measure to mean.

    Raises:
        ValueError, ldf_utils.training.TrainingError: as `ldf_utils.training.fit`.
    """
    material = prepare(settings)
    config = replace(settings.config, seed=seed, **arm.changes)
    clip, begin = _judge(config.clip), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = fit(config, material.pairs, clip, folder=folder, progress=False)
    seconds = time.process_time() - begin
    return {
        "arm": arm.name,
        "seed": seed,
        "seconds_per_step": seconds / config.steps,
        "last": result.history[-1],
        "measures": {
            place: measure_network(result.network, samples)
            for place, samples in material.samples.items()
        },
    }


def _job(settings: Settings, arm: Arm, seed: int, path: Path) -> dict[str, Any]:
    row = run_arm(settings, arm, seed)
    write_json(path, row)
    return row


def run_study(
    settings: Settings,
    output: Path,
    arms: Sequence[Arm] = ARMS,
    seeds: Sequence[int] = (0, 1, 2),
    jobs: int = 1,
    progress: bool = True,
) -> Study:
    """Train and measure all arms with all seeds; what was done before is read.

    Args:
        settings: what is trained and measured on.
        output: a finished run is kept in ``output/runs``, under its `run_key`.
        arms: the kinds of training.
        seeds: every arm is trained with each.
        jobs: trainings at the same time, each in a process with one thread; 1 trains in this
            process, with the threads that it has.
        progress: show a bar.

    Returns:
        The results.

    Raises:
        ValueError: for no arm, no seed or a seed twice, ``jobs`` under 1, or a word that the judge
            does not know.
        RuntimeError: if a training failed; those that were done are kept.
    """
    if not arms or not seeds or len(set(seeds)) < len(seeds) or jobs < 1:
        raise ValueError(
            f"expected at least one arm, seeds that differ and jobs >= 1, found {len(arms)} arms, "
            f"seeds {list(seeds)} and jobs={jobs}"
        )
    clip = _judge(settings.config.clip)
    for arm in arms:  # an unknown word is found before the first training, not after the last
        direction.text_directions(clip, replace(settings.config, **arm.changes).prompts)
    clip_digest = weights_digest(clip)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    waiting = []
    for seed in seeds:
        for arm in arms:
            path = output / "runs" / f"{run_key(settings, arm, seed, clip_digest)}.json"
            if path.is_file():
                rows[arm.name, seed] = json.loads(path.read_text(encoding="utf-8"))
            else:
                waiting.append((arm, seed, path))
    bar = tqdm(total=len(rows) + len(waiting), initial=len(rows), desc="training",
               disable=not progress)  # fmt: skip
    failed = []
    with bar:
        for (arm, seed, _), outcome in _outcomes(settings, waiting, jobs):
            bar.update()
            try:
                rows[arm.name, seed] = outcome()
            except (ValueError, RuntimeError, OSError) as error:
                failed.append(f"{arm.name}, seed {seed}: {error}")
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(waiting)} trainings failed; the others are kept in "
            f"{output / 'runs'} and are not made again:\n  " + "\n  ".join(failed)
        )
    material = prepare(settings)
    return Study(
        settings=_plain(settings),
        clip={"name": clip.name, "weights_sha256": clip_digest},
        samples={place: len(samples) for place, samples in material.samples.items()},
        arms={arm.name: _plain_arm(settings, arm) for arm in arms},
        runs=[rows[arm.name, seed] for arm in arms for seed in seeds],
    )


def _start_worker() -> None:
    ignore_interrupts()
    torch.set_num_threads(1)


def _outcomes(settings: Settings, waiting: Sequence[tuple[Arm, int, Path]], jobs: int):
    """Each job with a function that gives its row or raises, as they get done."""
    if jobs == 1 or len(waiting) < 2:
        for job in waiting:
            yield job, functools.partial(_job, settings, *job)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start_worker
    ) as pool:
        futures = {pool.submit(_job, settings, *job): job for job in waiting}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _plain(settings: Settings) -> dict[str, Any]:
    plain = asdict(settings)
    plain["size"] = list(settings.size)
    plain["data"] = sorted(find_sets(settings.data)) if settings.data else None  # names, no path
    return plain


def _plain_arm(settings: Settings, arm: Arm) -> dict[str, Any]:
    prompts = replace(settings.config, **arm.changes).prompts
    language = not all(arm.changes.get(name) == 0 for name in _OFF)
    return {
        "label": arm.label,
        "sentence": prompts.fused if language else None,
        "changes": dict(arm.changes),
    }


# --- what came of it


@dataclass(frozen=True)
class Difference:
    """An arm against another, seed by seed.

    Attributes:
        values: the differences, one a seed that both have.
        baseline: mean of the other arm over these seeds.
    """

    values: tuple[float, ...]
    baseline: float

    @property
    def mean(self) -> float:
        """Mean difference."""
        return math.fsum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation of the differences over the seeds; NaN for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def verdict(self, sign: int) -> str:
        """``moved``, ``did not move`` or ``moved the other way``; ``one seed`` for one seed.

        Moved means that the mean is larger than twice the spread, so with three seeds that it is
        3.5 standard errors from zero.

        Args:
            sign: the direction that was expected, +1 or -1.
        """
        if math.isnan(self.spread):
            return ONE_SEED
        if abs(self.mean) <= 2 * self.spread:
            return STAYED
        return MOVED if self.mean * sign > 0 else OTHER_WAY


MOVED, STAYED, OTHER_WAY = "moved", "did not move", "moved the other way"
ONE_SEED = "one seed, no spread"


@dataclass(frozen=True)
class Finding:
    """A claim, where it was measured, and what came of it."""

    claim: Claim
    place: str
    difference: Difference

    @property
    def verdict(self) -> str:
        """As `Difference.verdict`, for the sign that was declared."""
        return self.difference.verdict(self.claim.sign)


@dataclass(frozen=True)
class Study:
    """The results of `run_study`.

    Attributes:
        settings: of the study, plain.
        clip: ``name`` and ``weights_sha256`` of the judge.
        samples: place (scenes, pairs) to how many pairs were measured there.
        arms: name to ``label``, ``sentence`` (None without language) and ``changes``.
        runs: one row a training, see `run_arm`.
    """

    settings: dict[str, Any]
    clip: dict[str, str]
    samples: dict[str, int]
    arms: dict[str, dict[str, Any]]
    runs: list[dict[str, Any]]

    @property
    def places(self) -> list[str]:
        """Where it was measured: scenes, and pairs if real ones were given."""
        return list(self.samples)

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return sorted({run["seed"] for run in self.runs})

    def by_seed(self, arm: str, measure: str, place: str = "scenes") -> dict[int, float]:
        """Seed to value.

        Args:
            arm: its name.
            measure: name in `MEASURES`, or ``seconds_per_step``.
            place: scenes or pairs.

        Raises:
            ValueError: for an arm that was not run, or what was not measured there.
        """
        mine = [run for run in self.runs if run["arm"] == arm]
        if not mine:
            raise ValueError(f"no run of {arm!r}; there are {', '.join(self.arms)}")
        if measure == "seconds_per_step":
            return {run["seed"]: run[measure] for run in mine}
        found = {
            run["seed"]: run["measures"][place][measure]
            for run in mine
            if measure in run["measures"].get(place, {})
        }
        if not found:
            raise ValueError(f"{measure!r} was not measured on {place!r} for {arm!r}")
        return found

    def mean(self, arm: str, measure: str, place: str = "scenes") -> float:
        """Mean over the seeds; arguments and errors as `by_seed`."""
        values = self.by_seed(arm, measure, place).values()
        return math.fsum(values) / len(values)

    def compare(self, arm: str, baseline: str, measure: str, place: str = "scenes") -> Difference:
        """The difference of two arms; arguments and errors as `by_seed`."""
        one, other = (self.by_seed(name, measure, place) for name in (arm, baseline))
        shared = sorted(set(one) & set(other))
        if not shared:
            raise ValueError(f"{arm!r} and {baseline!r} have no seed in common")
        return Difference(
            tuple(one[seed] - other[seed] for seed in shared),
            math.fsum(other[seed] for seed in shared) / len(shared),
        )

    def findings(self, claims: Iterable[Claim] = CLAIMS) -> list[Finding]:
        """Every claim whose arms were run, in every place where its measure was taken."""
        found = []
        for claim in claims:
            if claim.arm not in self.arms or claim.baseline not in self.arms:
                continue
            for place in self.places:
                if MEASURES[claim.measure].needs_truth and place != "scenes":
                    continue
                difference = self.compare(claim.arm, claim.baseline, claim.measure, place)
                found.append(Finding(claim, place, difference))
        return found

    def costs(self) -> list[tuple[str, str, Difference]]:
        """What patches cost: measure, place, and the arm with patches minus that without."""
        if "patches" not in self.arms or "angle" not in self.arms:
            return []
        rows = [
            (measure, place, self.compare("patches", "angle", measure, place))
            for place in self.places
            for measure in COSTS
            if place == "scenes" or not MEASURES[measure].needs_truth
        ]
        return [*rows, ("seconds_per_step", "", self.compare("patches", "angle",
                                                             "seconds_per_step"))]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the findings written out."""
        findings = [
            {
                **asdict(f.claim),
                "place": f.place,
                "baseline_mean": f.difference.baseline,
                "differences": list(f.difference.values),
                "mean": f.difference.mean,
                "spread": None if math.isnan(f.difference.spread) else f.difference.spread,
                "verdict": f.verdict,
            }
            for f in self.findings()
        ]
        costs = [
            {"measure": measure, "place": place or None, "without": d.baseline, "mean": d.mean,
             "spread": None if math.isnan(d.spread) else d.spread}
            for measure, place, d in self.costs()
        ]  # fmt: skip
        return {"format": _FORMAT, "torch": torch.__version__, **asdict(self),
                "findings": findings, "costs": costs}  # fmt: skip


_FORMAT = "ldf_utils.language_study/1"


def load_study(path: str | Path | None = None) -> Study:
    """Read results.

    Args:
        path: a ``study.json`` of this module; the one that ships if None.

    Returns:
        The results; findings are computed from the runs.

    Raises:
        ValueError: if the file is not there, or is no such file.
    """
    path = SHIPPED_STUDY if path is None else Path(path)
    advice = "make it with `python -m experiments.language_study --output DIR`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise KeyError(f"format {content['format']!r}")
        names = ("settings", "clip", "samples", "arms", "runs")
        return Study(**{name: content[name] for name in names})
    except OSError as error:
        raise ValueError(f"{path}: no results of the study there; {advice}") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: this holds no results of the study ({error}); {advice}") from (
            error
        )


_WHERE = {"scenes": "held-out scenes", "pairs": "real pairs"}


_TITLES = {"perceptual": "perceptual only", "direction": "+ direction", "angle": "+ angle",
           "patches": "+ patches", "filter": "+ filter (all terms, paper's sentence)"}  # fmt: skip


def verdict_table(findings: Sequence[Finding]) -> str:
    """Findings as a Markdown table, one row a claim and place.

    *Without* is the mean of the training compared with, *spread* that of the difference over the
    seeds.
    """
    lines = [
        "| trained with | compared with | expected because | measure | on | should | without | "
        "difference | spread | verdict |",
        "|---" * 10 + "|",
    ]
    for finding in findings:
        claim, difference = finding.claim, finding.difference
        lines.append(
            f"| {_TITLES.get(claim.arm, claim.arm)} | "
            f"{_TITLES.get(claim.baseline, claim.baseline)} | {claim.says} | "
            f"{MEASURES[claim.measure].label} | {_WHERE[finding.place]} | "
            f"{'rise' if claim.sign > 0 else 'fall'} | {difference.baseline:.3g} | "
            f"{difference.mean:+.3g} | {_number(difference.spread)} | {finding.verdict} |"
        )
    return "\n".join(lines)


def cost_table(study: Study) -> str:
    """What patches cost as a Markdown table; a sentence if one of the two arms was not run."""
    costs = study.costs()
    if not costs:
        return "Not known: the arms `patches` and `angle` were not both run."
    lines = ["| measure | on | without | difference | spread | beyond chance |", "|---" * 6 + "|"]
    for measure, place, difference in costs:
        label = MEASURES[measure].label if place else "core seconds a step"
        beyond = {STAYED: "no", ONE_SEED: "–"}.get(difference.verdict(+1), "yes")
        lines.append(
            f"| {label} | {_WHERE.get(place, '')} | {difference.baseline:.3g} | "
            f"{difference.mean:+.3g} | {_number(difference.spread)} | {beyond} |"
        )
    return "\n".join(lines)


def _summary(findings: Sequence[Finding]) -> list[str]:
    """A line for each verdict: how many effects, and which."""
    lines = []
    for verdict in (MOVED, STAYED, OTHER_WAY, ONE_SEED):
        found: dict[str, list[str]] = {}
        for finding in findings:
            if finding.verdict == verdict:
                found.setdefault(finding.claim.says, []).append(_WHERE[finding.place])
        if found:
            listed = "; ".join(f"{says} ({', '.join(where)})" for says, where in found.items())
            count = sum(map(len, found.values()))
            lines.append(f"- {count} of {len(findings)} {verdict}: {listed}.")
    return lines


def report(study: Study) -> str:
    """The results as Markdown: verdicts, what patches cost, and all means."""
    config = study.settings["config"]
    lines = [
        "# Does language matter?",
        "",
        f"{len(study.arms)} trainings of the bounded network, {config['steps']} steps each of "
        f"{config['batch']} crops of {config['crop']} pixels, with {len(study.seeds)} seed(s); "
        f"perceptual weight {config['weight_perceptual']:g}, learning rate "
        f"{config['learning_rate']:g}; judge: CLIP `{study.clip['name']}`, weights "
        f"{study.clip['weights_sha256'][:12]}. Trained on {study.settings['scenes']} generated "
        "scenes; measured on "
        + " and ".join(f"{count} {_WHERE[place]}" for place, count in study.samples.items())
        + (f" ({', '.join(study.settings['data'])})" if study.settings["data"] else "")
        + ".",
        "",
        "Two arms are compared seed by seed. *Moved*: the mean difference is larger than twice its "
        "standard deviation over the seeds (the spread), in the direction that was declared "
        "beforehand.",
        "",
        *_summary(study.findings()),
        "",
        "## What was said, and what moved",
        "",
        verdict_table(study.findings()),
        "",
        NOTE,
        "",
        "## What patches cost",
        "",
        "The arm with patches minus that without (direction and angle only), same seeds. A step is "
        "counted in seconds of one core.",
        "",
        cost_table(study),
        "",
    ]
    for place in study.places:
        measures = [name for name, m in MEASURES.items() if place == "scenes" or not m.needs_truth]
        measures = [name for name in measures if any(name in r["measures"][place]
                                                     for r in study.runs)]  # fmt: skip
        lines += [
            f"## All means on {_WHERE[place]}",
            "",
            "| measure | " + " | ".join(study.arms) + " |",
            "|---" * (1 + len(study.arms)) + "|",
        ]
        for name in measures:
            cells = [f"{study.mean(arm, name, place):.3f}" for arm in study.arms]
            lines.append(f"| {MEASURES[name].label} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## The arms", ""]
    for name, arm in study.arms.items():
        said = f" Sentence: “{arm['sentence']}”." if arm["sentence"] else ""
        lines.append(f"- **{name}**: {arm['label']}.{said}")
    lines += ["", "Made by `python -m experiments.language_study`.", ""]
    return "\n".join(lines)


NOTE = (
    "The bounded network mixes and amplifies what the sources hold; it cannot invent texture. So "
    "“noisy” cannot add grain where the sources have none. But the trainings add noise to the "
    "sources, as the paper's do, and the network can pass it on, amplify it or smooth it away: "
    "what is measured is the share of added noise that comes through."
)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def write_study(study: Study, folder: Path) -> list[Path]:
    """Write ``study.json``, ``study.csv`` (one row a training and place) and ``study.md``.

    Args:
        study: the results.
        folder: where to.

    Returns:
        The three paths.
    """
    rows = [
        {
            "arm": run["arm"], "seed": run["seed"], "place": place,
            "seconds_per_step": run["seconds_per_step"],
            **{name: run["measures"][place].get(name) for name in MEASURES},
        }
        for place in study.places
        for run in study.runs
    ]  # fmt: skip
    return [
        write_json(folder / "study.json", study.to_dict()),
        write_rows(folder / "study.csv", rows),
        write_text(folder / "study.md", report(study)),
    ]


# --- command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.language_study",
        description="Train with other terms and other sentences, at equal steps, and compare.",
        epilog="Arms: " + "; ".join(f"{arm.name} ({arm.label})" for arm in ARMS),
    )
    parser.add_argument("--data", metavar="DIR", help="folder of real sets to measure on as well")
    parser.add_argument("--steps", type=int, default=BASE.steps, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these arms")
    parser.add_argument("--clip", default=BASE.clip, help="mini, openai, or a model's folder")
    parser.add_argument(
        "--set", type=__main__._setting, action="append", default=[], metavar="KEY=VALUE",
        help="another setting of ldf_utils.training for all arms",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("runs/language_study"), metavar="DIR",
        help="gets study.json, .csv and .md; finished trainings in it are not made again",
    )  # fmt: skip
    return parser


def _chosen(names: Sequence[str] | None) -> list[Arm]:
    known = {arm.name: arm for arm in ARMS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"there is no arm {unknown[0]!r}; expected some of {', '.join(known)}")
    return [arm for arm in ARMS if names is None or arm.name in names]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when done, 1 when something failed."""
    try:
        arguments = _parser().parse_args(argv)
        values = BASE.to_dict() | {"steps": arguments.steps, "clip": arguments.clip}
        config = TrainConfig.from_dict(values | dict(arguments.set))
        settings = Settings(config=config, data=arguments.data)
        begin = time.perf_counter()
        study = run_study(
            settings, arguments.output, _chosen(arguments.only), arguments.seeds, arguments.jobs
        )
        paths = write_study(study, arguments.output)
        for finding in study.findings():
            claim = finding.claim
            print(
                f"{claim.arm} against {claim.baseline}, {claim.measure} on {finding.place}: "
                f"{finding.difference.mean:+.3f}, expected {'+' if claim.sign > 0 else '-'}: "
                f"{finding.verdict}"
            )
        print(f"{(time.perf_counter() - begin) / 60:.1f} minutes; {paths[-1]}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
