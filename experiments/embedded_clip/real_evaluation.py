"""What the embedded CLIP knows of real pairs, which its training never saw."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip.degradations import degrade
from experiments.embedded_clip.labeled import evaluate_labeled
from experiments.embedded_clip.scores import by_mean, interval, modality
from experiments.embedded_clip.truth import EFFECTS
from ldf_utils.clip.attributes import attribute_scores
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.pairs import Pair, PairFolder, find_sets
from ldf_utils.detection.labels import LabelError
from ldf_utils.losses.direction import TextDirections, direction_loss, text_directions
from ldf_utils.networks.checkpoint import load_network

Report = dict[str, Any]


@torch.no_grad()
def evaluate_real(
    clip: ClipSpace, data: str | os.PathLike[str], lite: str | os.PathLike[str] | None = None
) -> Report:
    """Measure accuracies on real pairs, which the training never saw, with 95 % intervals.

    Args:
        clip: the model.
        data: a folder of sets as in `ldf_utils.data.pairs.find_sets`.
        lite: weights of LD-Lite, the authors' small network, which is then ranked by L_dir too.

    Returns:
        Per set: ``infrared_or_visible``, balanced accuracy at threshold 0, of the mean over all
        sentences and (``paper_sentences``) of the two of the paper alone; the share of pairs where
        the infrared image scores higher; per degradation the share of images where the true
        sentence fits the degraded copy better than the original, and where it beats its denial on
        the copy; per published method the share of results that are nearer to the target sentence
        than the average of the sources; and the mean L_dir of each method on native crops. Where
        there are labels, also what `experiments.embedded_clip.labeled` measures.
    """
    network = load_network(lite) if lite else None
    report = {}
    for name, pairs in find_sets(data).items():
        report[name] = _evaluate_set(clip, pairs, network)
        with contextlib.suppress(LabelError):  # most sets have none
            report[name] |= evaluate_labeled(clip, pairs)
    return report


def _evaluate_set(clip: ClipSpace, pairs: PairFolder, network: nn.Module | None) -> Report:
    visible_text, infrared_text, target = clip.encode_text(list(PROMPTS))
    directions = text_directions(clip)
    generator = torch.Generator().manual_seed(len(pairs))
    ensemble, paper, copies, losses = [], [], [], []
    nearer: dict[str, list[float]] = {}
    for pair in tqdm(pairs, desc="evaluating pairs", leave=False):
        sources = {"infrared": pair.infrared, "visible": pair.luminance}
        both = clip.encode_image(torch.stack(list(sources.values())))
        ensemble.append(attribute_scores(clip, both, "infrared"))
        paper.append(both @ (infrared_text - visible_text))
        copies.append(_degraded_copies(clip, pair, generator))
        fused = {
            "average": (pair.infrared + pair.luminance) / 2,
            "maximum": torch.maximum(pair.infrared, pair.luminance),
        }
        if network is not None:
            fused["LD-Lite network"] = network(pair.infrared[None], pair.luminance[None])[0]
        average = clip.encode_image(fused["average"][None])[0] @ target
        for method, image in _published(pairs, pair.name).items():
            fused[method] = image
            cosine = clip.encode_image(image[None])[0] @ target
            nearer.setdefault(method, []).append(float(cosine > average))
        losses.append(crop_direction_losses(clip, sources | fused, directions, generator))
    return {
        "pairs": len(pairs),
        "infrared_or_visible": modality(torch.stack(ensemble)),
        "paper_sentences": modality(torch.stack(paper)),
        "true_sentence_preferred": {
            kind: {
                "to_the_original": interval(torch.stack([c[kind][0] for c in copies])),
                "to_its_denial": interval(torch.stack([c[kind][1] for c in copies])),
            }
            for kind in EFFECTS
        },
        "nearer_to_target_than_average": {
            method: {"pairs": len(rows), **interval(torch.tensor(rows))}
            for method, rows in nearer.items()
        },
        "direction_loss": by_mean(losses),
    }


def _published(pairs: PairFolder, name: str) -> dict[str, torch.Tensor]:
    """Read the results of published methods that the set has for a pair, ``(1, H, W)`` each."""
    paths = {method: pairs.fused_path(method, name) for method in pairs.fused_methods()}
    return {m: luminance(read_image(path)) for m, path in paths.items() if path is not None}


def _center(image: torch.Tensor, side: int = 256, reduced: int = 128) -> torch.Tensor:
    """Reduce the middle of an image, at most 256 pixels wide, to 128: ``(1, 1, 128, 128)``."""
    height, width = image.shape[-2:]
    side = min(side, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = image[None, :, top : top + side, left : left + side]
    return F.interpolate(middle, (reduced, reduced), mode="area")


def _degraded_copies(
    clip: ClipSpace, pair: Pair, generator: torch.Generator
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """For each degradation: does the true sentence fit the degraded copy better than the original?

    The second number is stricter: on the copy alone, the true sentence beats its denial.
    """
    originals = torch.cat([_center(pair.infrared), _center(pair.luminance)])
    before = clip.encode_image(originals)
    found = {}
    for kind, (name, sign) in EFFECTS.items():
        copies = degrade(originals, kind, generator)
        old = sign * attribute_scores(clip, before, name)
        new = sign * attribute_scores(clip, clip.encode_image(copies), name)
        found[kind] = ((new > old).float().mean(), (new > 0).float().mean())
    return found


def _crops(
    images: Mapping[str, torch.Tensor], generator: torch.Generator, count: int = 4, side: int = 128
) -> dict[str, torch.Tensor]:
    """Cut the same native crops from images of one size, each ``(count, 1, side, side)``."""
    height, width = next(iter(images.values())).shape[-2:]
    side = min(side, height, width)
    top = torch.randint(height - side + 1, (count,), generator=generator).tolist()
    left = torch.randint(width - side + 1, (count,), generator=generator).tolist()
    corners = list(zip(top, left, strict=True))
    return {
        name: torch.stack([image[:, y : y + side, x : x + side] for y, x in corners])
        for name, image in images.items()
    }


def crop_direction_losses(
    clip: ClipSpace,
    images: Mapping[str, torch.Tensor],
    directions: TextDirections,
    generator: torch.Generator,
) -> dict[str, float]:
    """Compute the mean L_dir of fused images on four native crops of 128 pixels.

    Args:
        clip: the model.
        images: ``infrared``, ``visible`` and fused ones by method, each ``(1, H, W)`` in [0, 1].
        directions: from `ldf_utils.losses.direction.text_directions`.
        generator: draws the crops.

    Returns:
        Method to its mean loss in [0, 2]; 0 means along the text directions.
    """
    seen = {name: clip.encode_image(crop) for name, crop in _crops(images, generator).items()}
    sources = seen.pop("infrared"), seen.pop("visible")
    return {name: float(direction_loss(e, *sources, directions).mean()) for name, e in seen.items()}
