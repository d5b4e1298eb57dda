"""What is measured on a fused image."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from experiments.ablation.objects import PEOPLE, VEHICLES, Box, mean_separation
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.data.blur import gaussian_blur
from ldf_utils.evaluation.ablation import BASE, MEASURES
from ldf_utils.fusion.inference import fuse_tensors
from ldf_utils.losses.direction import direction_loss, text_directions
from ldf_utils.metrics import METRICS, background_detail, psnr_to_oracle, ssim_to_oracle, warm_gap

STANDS_OUT = 0.20
"""Contrast to its surroundings from which a warm object counts as standing out."""


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
        boxes: the objects of a scene, or the labels of a real picture.
    """

    name: str
    infrared: torch.Tensor
    visible: torch.Tensor
    warm: torch.Tensor
    oracle: torch.Tensor | None = None
    boxes: tuple[Box, ...] = ()


def _level(name: str) -> Callable[[torch.Tensor, Sample], float]:
    """Return a measure that computes a metric of `ldf_utils.metrics`, in its own unit."""
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
    return sum(gap > STANDS_OUT for gap in gaps) / len(gaps) if gaps else math.nan


def _oracle(sample: Sample) -> torch.Tensor:
    assert sample.oracle is not None  # measured on scenes only, which have one
    return sample.oracle


def _texture_kept(fused: torch.Tensor, sample: Sample) -> float:
    truth = _detail(_oracle(sample), sample)
    return _detail(fused, sample) / truth if truth > 0 else math.nan


def _psnr(fused: torch.Tensor, sample: Sample) -> float:
    return min(psnr_to_oracle(fused[None], _oracle(sample)[None], rounded=False).item(), 100.0)


def _ssim_oracle(fused: torch.Tensor, sample: Sample) -> float:
    return ssim_to_oracle(fused[None], _oracle(sample)[None]).item()


def _objects(labels: tuple[str, ...], place: int) -> Callable[[torch.Tensor, Sample], float]:
    """Return a measure of `mean_separation`: its area (place 0) or its levels (place 1)."""

    def measured(fused: torch.Tensor, sample: Sample) -> float:
        return mean_separation(fused, sample.boxes, labels)[place]

    return measured


def direction_of(fused: torch.Tensor, sample: Sample, clip: ClipSpace) -> float:
    """Compute L_dir of the paper's sentences on the whole sample."""
    images = clip.encode_image(torch.stack([fused, sample.infrared, sample.visible]))
    fused_features, infrared, visible = images.split(1)
    directions = text_directions(clip, PROMPTS)
    return direction_loss(fused_features, infrared, visible, directions).item()


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "brightness": _brightness,
    "contrast": _level("SD"),
    "sharpness": _level("AG"),
    "spatial_frequency": _level("SF"),
    "noise": _noise,
    "noise_passed": noise_passed,
    "detail": _detail,
    "correlation_infrared": _correlation_infrared,
    "correlation_visible": _correlation_visible,
    "near_sources": _near_sources,
    "ssim_sources": _level("SSIM"),
    "direction": direction_of,
    "artifacts": _level("Nabf"),
    "people_area": _objects(PEOPLE, 0),
    "people_contrast": _objects(PEOPLE, 1),
    "vehicles_area": _objects(VEHICLES, 0),
    "vehicles_contrast": _objects(VEHICLES, 1),
    "objects_contrast": _objects((*PEOPLE, *VEHICLES), 1),
    "gap": _gap,
    "standing_out": _standing_out,
    "texture": _texture_kept,
    "psnr": _psnr,
    "ssim_oracle": _ssim_oracle,
}


@torch.no_grad()
def measure_network(
    network: nn.Module,
    samples: Sequence[Sample],
    clip: ClipSpace | None = None,
    names: Container[str] = MEASURES,
) -> dict[str, float]:
    """Means over samples of all that can be measured on them.

    Args:
        network: maps infrared and visible to fused luminance.
        samples: at least one, all with a truth or all without.
        clip: for ``direction``, which is left out without it.
        names: of the measures; all if not given.

    Returns:
        Name of the measure to mean; a sample in which a measure has no value (no warm object) is
        left out of its mean, and a measure without any value is left out.
    """
    also = {"noise_passed": network, "direction": clip}  # what a function takes as well
    columns: dict[str, list[float]] = {}
    for sample in samples:
        fused = fuse_tensors(network, sample.infrared[None], sample.visible[None])[0]
        for name, measure in MEASURES.items():
            if (
                name not in names
                or (sample.oracle is None and measure.needs_truth)
                or also.get(name, "") is None
            ):
                continue
            more = [also[name]] if name in also else []
            value = _FUNCTIONS[name](fused, sample, *more)
            if not math.isnan(value):
                columns.setdefault(name, []).append(value)
    return {name: math.fsum(values) / len(values) for name, values in columns.items()}
