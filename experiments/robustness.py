"""Robustness: can a CLIP be fooled by adversarial images?

The language terms are minimized without anything that keeps the image close to its sources: with
free pixels, and with a free decoder (`experiments.embedded_clip.adversarial`). Then the same CLIP
rates the results: do they score better than fusions by simple rules of the same pairs, and does it
recognize the damage?

    python -m experiments.robustness --output runs/robustness [--data DIR]

A CLIP that is *fooled* gives a network without bounds every reason to draw what nobody wants; the
images that fooled it are kept, as training examples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from experiments.ablation.measures import Sample
from experiments.ablation.run import weights_digest
from experiments.ablation.samples import real_samples, rendered_samples
from experiments.embedded_clip import adversarial
from ldf_utils.clip.attributes import attribute_scores
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import atomic_path, explain, write_json
from ldf_utils.data.pairs import find_sets
from ldf_utils.fusion import rules
from ldf_utils.losses import fusion_loss
from ldf_utils.losses.patches import PatchSampler


@dataclass(frozen=True)
class RobustnessSettings:
    """Settings of `run_robustness`.

    Attributes:
        steps: of each optimization.
        crops: rendered crops, and about as many real ones, at least one of each set, if ``data``
            is given.
        side: of a crop in pixels, even.
        patches: views of each crop that enter the loss in a step, besides the whole.
        seed: of views and weights.
        clip: as in `ldf_utils.clip.loading.load_clip`.
        data: folder of real sets, or None.
    """

    steps: int = 300
    crops: int = 4
    side: int = 128
    patches: int = 6
    seed: int = 900
    clip: str = "mini"
    data: str | None = None


FOOLED = "fooled: the image scores well, and its damage is not recognized"
RECOGNIZED = "the image scores well, but its damage is recognized"
RESISTED = "resisted: a fusion by a simple rule scores better"
ADVERSARIAL = ("free pixels", "free decoder")


def _outcome(loss: float, best_rule: float, damaged: float) -> str:
    """Return what a CLIP did: resist, recognize the damage, or be fooled.

    Args:
        loss: direction loss of the optimized images.
        best_rule: the lowest direction loss of the other fusions of the same pairs.
        damaged: share of the optimized images that score as artifacts.
    """
    if loss >= best_rule:
        return RESISTED
    return RECOGNIZED if damaged > 0.5 else FOOLED


def run_robustness(settings: RobustnessSettings, output: Path) -> dict[str, Any]:
    """Minimize the language terms without bounds, and let the same CLIP rate the results.

    The loss is `ldf_utils.losses.fusion_loss.FusionLoss` with the direction and patch term, every
    patch kept, no angle term and no perceptual term. Images are optimized twice, as free pixels
    from the average and by a free decoder, and rated on views that were not drawn before.

    Args:
        settings: what to do.
        output: gets ``robustness.json``, ``images_PLACE.png`` for scenes and for real pairs, and
            ``negatives.npz`` with ``pictures`` (N, H, W) uint8 and ``names``.

    Returns:
        The content of ``robustness.json``: for scenes and pairs, for each kind of image, the
        direction loss, the patch loss, the score of the attribute "artifacts" and the share of
        images where it is above 0; and the outcome for both kinds of adversarial images.

    Raises:
        ValueError: for a setting out of range, or as `real_samples`.
    """
    _check(settings)
    clip = load_clip(settings.clip)
    content: dict[str, Any] = {"settings": asdict(settings) | {"data": None}, "places": {}}
    content["clip"] = {"name": clip.name, "weights_sha256": weights_digest(clip)}
    if settings.data:
        content["settings"]["data"] = sorted(find_sets(settings.data))
    negatives, names = [], []
    for place, samples in _samples(settings).items():
        images = _fused(clip, samples, settings)
        rated = {kind: _rate(clip, samples, made) for kind, made in images.items()}
        best = min(row["direction"] for kind, row in rated.items() if kind not in ADVERSARIAL)
        content["places"][place] = {
            "pictures": len(samples),
            "rated": rated,
            "outcomes": {
                kind: _outcome(rated[kind]["direction"], best, rated[kind]["damaged"])
                for kind in ADVERSARIAL
            },
        }
        _sheet(samples, images, rated, output / f"images_{place}.png")
        for kind in ADVERSARIAL:
            negatives.append(images[kind])
            names += [f"{place}/{sample.name}/{kind}" for sample in samples]
    whole = (torch.cat(negatives)[:, 0] * 255).round().to(torch.uint8).numpy()
    with atomic_path(output / "negatives.npz") as temporary:
        np.savez_compressed(temporary, pictures=whole, names=np.array(names))
    write_json(output / "robustness.json", content)
    return content


def _check(settings: RobustnessSettings) -> None:
    if settings.side % 2 or settings.side < 64:
        raise ValueError(f"side must be even and >= 64, got {settings.side}")
    for name, least in (("crops", 2), ("steps", 1)):
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be >= {least}, got {getattr(settings, name)}")


def _samples(settings: RobustnessSettings) -> dict[str, list[Sample]]:
    """Return rendered crops, and real ones where a folder of sets is given."""
    size = (settings.side, settings.side)
    scenes = [s for s in rendered_samples(1000, settings.side) if s.infrared.shape[-2:] == size]
    places = {"scenes": scenes[: settings.crops]}
    if settings.data:
        each = max(1, settings.crops // len(find_sets(settings.data)))
        found = real_samples(settings.data, each, settings.side)
        places["pairs"] = [s for s in found if s.infrared.shape[-2:] == size]
        if not places["pairs"]:
            raise ValueError(
                f"{settings.data}: no pair has sides of >= {settings.side} pixels; give larger "
                "pairs, or a smaller side"
            )
    return places


def _stack(samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.stack([s.infrared for s in samples]),
        torch.stack([s.visible for s in samples]),
    )


def _criterion(clip: ClipSpace, patches: int) -> fusion_loss.FusionLoss:
    """Build the loss of the language terms without the angle term."""
    return fusion_loss.FusionLoss(
        clip,
        weights=fusion_loss.LossWeights(angle=0.0, perceptual=0.0),
        sampler=PatchSampler(patches, size=clip.image_size),
        entropy_threshold=None,
    )


def _fused(
    clip: ClipSpace, samples: Sequence[Sample], settings: RobustnessSettings
) -> dict[str, torch.Tensor]:
    """Kind to images ``(N, 1, H, W)``: fused by rules, the truth if known, then adversarial."""
    infrared, visible = _stack(samples)
    generator = torch.Generator().manual_seed(settings.seed)
    criterion = _criterion(clip, settings.patches)
    bar = tqdm(total=2 * settings.steps, desc="optimizing images", leave=False)

    def loss(images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        bar.update()
        return criterion(images, infrared[index], visible[index], generator).total

    with bar:
        names = ("average", "maximum", "laplacian_pyramid")
        made = {name: rules.RULES[name](infrared, visible) for name in names}
        oracles = [sample.oracle for sample in samples if sample.oracle is not None]
        if len(oracles) == len(samples):
            made["true fusion"] = torch.stack(oracles)
        made["free pixels"] = adversarial.optimize_pixels(loss, made["average"], settings.steps)
        made["free decoder"] = adversarial.optimize_decoder(
            loss, infrared, visible, settings.steps, generator, batch=4
        )
    return made


@torch.no_grad()
def _rate(clip: ClipSpace, samples: Sequence[Sample], images: torch.Tensor) -> dict[str, float]:
    """Direction and patch loss, and how damaged the CLIP rates the images."""
    generator = torch.Generator().manual_seed(1)
    terms = _criterion(clip, 16)(images, *_stack(samples), generator).terms
    scores = attribute_scores(clip, clip.encode_image(images), "artifacts")
    return {
        "direction": terms["direction"].item(),
        "patch": terms["patch"].item(),
        "artifacts": scores.mean().item(),
        "damaged": (scores > 0).float().mean().item(),
    }


def _sheet(
    samples: Sequence[Sample],
    fused: Mapping[str, torch.Tensor],
    rated: Mapping[str, Mapping[str, float]],
    path: Path,
) -> None:
    """Rows of images with their ratings, one column a pair."""
    shown = samples[:6]
    rows = dict(zip(("infrared", "visible"), _stack(shown), strict=True)) | dict(fused)
    size = (1.6 * len(shown) + 2.2, 1.6 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    for line, (kind, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        label = kind
        if kind in rated:
            label += f"\nL_dir {rated[kind]['direction']:.2f}"
            label += f"\nartifacts {rated[kind]['artifacts']:+.2f}"
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.robustness",
        description="Minimize the language terms over free pixels and over a free decoder.",
    )
    parser.add_argument("--data", metavar="DIR", help="folder of real sets to use as well")
    parser.add_argument("--steps", type=int, default=RobustnessSettings.steps)
    parser.add_argument("--crops", type=int, default=RobustnessSettings.crops)
    parser.add_argument(
        "--side", type=int, default=RobustnessSettings.side, help="pixels of a crop"
    )
    parser.add_argument("--patches", type=int, default=RobustnessSettings.patches)
    parser.add_argument("--seed", type=int, default=RobustnessSettings.seed)
    parser.add_argument("--clip", default=RobustnessSettings.clip, help="mini, or a model's folder")
    parser.add_argument("--output", type=Path, default=Path("runs/robustness"), metavar="DIR")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 when done, whatever the outcome is, and 1 when it failed."""
    arguments = vars(_parser().parse_args(argv))
    output = arguments.pop("output")
    try:
        content = run_robustness(RobustnessSettings(**arguments), output)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    for place, found in content["places"].items():
        for kind, outcome in found["outcomes"].items():
            before, after = found["rated"]["average"], found["rated"][kind]
            print(
                f"{place}, {kind}: L_dir {before['direction']:.3f} to {after['direction']:.3f}, "
                f"artifacts {before['artifacts']:+.3f} to {after['artifacts']:+.3f}: {outcome}"
            )
    print(f"images in {output}")
    return 0


if __name__ == "__main__":
    run_command(main)
