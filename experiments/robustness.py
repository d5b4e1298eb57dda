"""Robustness: can the judge be cheated?

The language terms are followed without anything that holds the picture to its sources: with free
pixels, and with a free decoder (`experiments.embedded_clip.adversarial`). Then the judge is asked
about what came out:
does it please more than honest fusions of the same pairs do, and is its damage seen?

    python -m experiments.robustness --output runs/attack [--data DIR]

A judge that is *fooled* gives a network without bounds every reason to draw what nobody wants;
the pictures that fooled it are kept, as examples for one that is still to learn.
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
from experiments.ablation.run import real_samples, scene_samples, weights_digest
from experiments.embedded_clip import adversarial
from ldf_utils.clip.attributes import attribute_scores
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import atomic_path, write_json
from ldf_utils.data.pairs import find_sets
from ldf_utils.fusion import rules
from ldf_utils.losses import fusion_loss
from ldf_utils.losses.patches import PatchSampler


@dataclass(frozen=True)
class AttackSettings:
    """What `run_attack` does.

    Attributes:
        steps: of each optimization.
        crops: generated crops, and about as many real ones, at least one of each set, where a
            folder of sets is named.
        side: of a crop in pixels, even.
        patches: views of each crop that are judged in a step, besides the whole.
        seed: of scenes, views and weights.
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


FOOLED = "fooled: pleased by the picture, blind to its damage"
SEEN = "pleased by the picture, but it sees the damage"
RESISTED = "resisted: an honest fusion pleases it more"


def _attack_verdict(loss: float, honest: float, damage: float) -> str:
    """What a judge did.

    Args:
        loss: direction loss of the optimized pictures.
        honest: the lowest direction loss of honest fusions of the same pairs.
        damage: share of the optimized pictures that the judge calls damaged.
    """
    if loss >= honest:
        return RESISTED
    return SEEN if damage > 0.5 else FOOLED


def run_attack(settings: AttackSettings, output: Path) -> dict[str, Any]:
    """Follow the language terms without bounds, and ask the judge about what comes out.

    The loss is that of `ldf_utils.losses`: direction and patch term with the paper's weights,
    every patch kept, no angle term, no perceptual term. Pictures are optimized twice, as free
    pixels from the average and by a free decoder (`experiments.embedded_clip.adversarial`), and
    are then judged on
    views that were not drawn before.

    Args:
        settings: what to do.
        output: gets ``adversarial.json``, one ``attack_PLACE.png`` for scenes and for real
        pairs, and
            ``negatives.npz`` with ``pictures`` (N, H, W) uint8 and ``names``.

    Returns:
        What ``adversarial.json`` holds: for scenes and pairs, for each kind of picture, the
        direction
        loss, the patch loss, the score of the attribute "artifacts" and the share of pictures where
        that is above 0; and the verdict on each attack.

    Raises:
        ValueError: for a setting out of range, or as `real_samples`.
    """
    if settings.side % 2 or settings.side < 64 or settings.crops < 2 or settings.steps < 1:
        raise ValueError(
            "expected an even side from 64 pixels, at least 2 crops and 1 step, found "
            f"{settings.side}, {settings.crops} and {settings.steps}"
        )
    clip = load_clip(settings.clip)
    places = {"scenes": scene_samples(settings.crops, (settings.side,) * 2, settings.seed)}
    if settings.data:
        each = max(1, settings.crops // len(find_sets(settings.data)))
        found = real_samples(settings.data, each, settings.side)
        places["pairs"] = [s for s in found if s.infrared.shape[-2:] == (settings.side,) * 2]
        if not places["pairs"]:
            raise ValueError(
                f"{settings.data}: no pair of at least {settings.side} pixels a side; expected "
                "larger pairs, or set a smaller side"
            )
    content: dict[str, Any] = {"settings": asdict(settings) | {"data": None}, "places": {}}
    content["clip"] = {"name": clip.name, "weights_sha256": weights_digest(clip)}
    if settings.data:
        content["settings"]["data"] = sorted(find_sets(settings.data))
    negatives, names = [], []
    for place, samples in places.items():
        pictures = _attacked(clip, samples, settings)
        judged = {kind: _judged(clip, samples, made) for kind, made in pictures.items()}
        honest = min(row["direction"] for kind, row in judged.items() if kind not in ATTACKS)
        content["places"][place] = {
            "pictures": len(samples),
            "judged": judged,
            "verdicts": {
                kind: _attack_verdict(judged[kind]["direction"], honest, judged[kind]["damaged"])
                for kind in ATTACKS
            },
        }
        _sheet(samples, pictures, judged, output / f"attack_{place}.png")
        for kind in ATTACKS:
            negatives.append(pictures[kind])
            names += [f"{place}/{sample.name}/{kind}" for sample in samples]
    whole = (torch.cat(negatives)[:, 0] * 255).round().to(torch.uint8).numpy()
    with atomic_path(output / "negatives.npz") as temporary:
        np.savez_compressed(temporary, pictures=whole, names=np.array(names))
    write_json(output / "attack.json", content)
    return content


ATTACKS = ("free pixels", "free decoder")


def _stack(samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.stack([s.infrared for s in samples]),
        torch.stack([s.visible for s in samples]),
    )


def _attacked(
    clip: ClipSpace, samples: Sequence[Sample], settings: AttackSettings
) -> dict[str, torch.Tensor]:
    """Kind to pictures ``(N, 1, H, W)``: honest ones, then the two attacks."""
    infrared, visible = _stack(samples)
    generator = torch.Generator().manual_seed(settings.seed)
    criterion = fusion_loss.FusionLoss(
        clip,
        weights=fusion_loss.LossWeights(angle=0.0, perceptual=0.0),
        sampler=PatchSampler(settings.patches, size=clip.image_size),
        entropy_threshold=None,
    )
    bar = tqdm(total=2 * settings.steps, desc="attacking", leave=False)

    def loss(pictures: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        bar.update()
        return criterion(pictures, infrared[index], visible[index], generator).total

    with bar:
        names = ("average", "maximum", "laplacian_pyramid")
        made = {name: rules.RULES[name](infrared, visible) for name in names}
        if all(sample.oracle is not None for sample in samples):
            made["true fusion"] = torch.stack([sample.oracle for sample in samples])
        made["free pixels"] = adversarial.optimize_pixels(loss, made["average"], settings.steps)
        made["free decoder"] = adversarial.optimize_decoder(
            loss, infrared, visible, settings.steps, generator, batch=4
        )
    return made


@torch.no_grad()
def _judged(clip: ClipSpace, samples: Sequence[Sample], pictures: torch.Tensor) -> dict[str, float]:
    """What the judge says: direction and patch loss, and how damaged it finds the pictures."""
    examiner = fusion_loss.FusionLoss(
        clip,
        weights=fusion_loss.LossWeights(angle=0.0, perceptual=0.0),
        sampler=PatchSampler(16, size=clip.image_size),
        entropy_threshold=None,
    )
    terms = examiner(pictures, *_stack(samples), torch.Generator().manual_seed(1)).terms
    scores = attribute_scores(clip, clip.encode_image(pictures), "artifacts")
    return {
        "direction": terms["direction"].item(),
        "patch": terms["patch"].item(),
        "artifacts": scores.mean().item(),
        "damaged": (scores > 0).float().mean().item(),
    }


def _sheet(
    samples: Sequence[Sample],
    pictures: Mapping[str, torch.Tensor],
    judged: Mapping[str, Mapping[str, float]],
    path: Path,
) -> None:
    """Rows of pictures with what the judge says, one column a pair."""
    shown = samples[:6]
    rows = dict(zip(("infrared", "visible"), _stack(shown), strict=True)) | dict(pictures)
    size = (1.6 * len(shown) + 2.2, 1.6 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    for line, (kind, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        label = kind
        if kind in judged:
            label += f"\nL_dir {judged[kind]['direction']:.2f}"
            label += f"\nartifacts {judged[kind]['artifacts']:+.2f}"
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.robustness",
        description="Follow the language terms with free pixels and a free decoder.",
    )
    parser.add_argument("--data", metavar="DIR", help="folder of real sets to attack as well")
    parser.add_argument("--steps", type=int, default=AttackSettings.steps)
    parser.add_argument("--crops", type=int, default=AttackSettings.crops)
    parser.add_argument("--side", type=int, default=AttackSettings.side, help="pixels of a crop")
    parser.add_argument("--patches", type=int, default=AttackSettings.patches)
    parser.add_argument("--seed", type=int, default=AttackSettings.seed)
    parser.add_argument("--clip", default=AttackSettings.clip, help="mini, or a model's folder")
    parser.add_argument("--output", type=Path, default=Path("runs/attack"), metavar="DIR")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when done, whatever the verdict is; 1 when something failed."""
    arguments = vars(_parser().parse_args(argv))
    output = arguments.pop("output")
    try:
        content = run_attack(AttackSettings(**arguments), output)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for place, found in content["places"].items():
        for kind, verdict in found["verdicts"].items():
            before, after = found["judged"]["average"], found["judged"][kind]
            print(
                f"{place}, {kind}: L_dir {before['direction']:.3f} to {after['direction']:.3f}, "
                f"artifacts {before['artifacts']:+.3f} to {after['artifacts']:+.3f}: {verdict}"
            )
    print(f"pictures in {output}")
    return 0


if __name__ == "__main__":
    run_command(main)
