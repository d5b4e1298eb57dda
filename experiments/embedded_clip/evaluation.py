"""Evaluation of the embedded CLIP: what does it know of generated scenes, and of real pairs?

Everything here is zero-shot: an image is compared with sentences, nothing is fitted. The results go
into the model card (`experiments.embedded_clip.card`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip.adversarial import optimize_negatives
from experiments.embedded_clip.dataset import load_scenes, make_batch
from experiments.embedded_clip.degradations import degrade
from experiments.embedded_clip.truth import EFFECTS
from experiments.painted.scenes import render
from ldf_utils.clip.attributes import ATTRIBUTES, INDEX, attribute_scores, prompts_for
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.pairs import Pair, PairFolder, find_sets
from ldf_utils.evaluation.ranking import bootstrap_mean
from ldf_utils.losses.direction import TextDirections, direction_loss, text_directions
from ldf_utils.networks.checkpoint import load_network

Report = dict[str, Any]


def evaluate(
    clip: ClipSpace,
    data: str | os.PathLike[str] | None = None,
    lite: str | os.PathLike[str] | None = None,
    scenes: int = 600,
) -> Report:
    """Measure everything that the model card reports.

    Args:
        clip: the model.
        data: as in `evaluate_real`; None for generated scenes only.
        lite: as in `evaluate_real`.
        scenes: how many generated scenes.

    Returns:
        ``scenes``, ``augmented_scenes``, ``adversarial`` and, with ``data``, ``real``.
    """
    report = {
        "scenes": evaluate_scenes(clip, scenes),
        "augmented_scenes": evaluate_scenes(clip, scenes, augmented=True),
        "adversarial": evaluate_adversarial(clip),
    }
    return report | ({"real": evaluate_real(clip, data, lite)} if data else {})


def area_under_curve(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Compute the probability that a positive scores above a negative; a tie counts half.

    Args:
        positive: ``(N,)`` scores.
        negative: ``(M,)`` scores.

    Returns:
        The area under the ROC curve, in [0, 1].
    """
    higher = (positive[:, None] > negative[None]).float()
    return float((higher + 0.5 * (positive[:, None] == negative[None])).mean())


def interval(values: torch.Tensor) -> dict[str, float]:
    """Compute the mean over pairs with a 95 % interval, as `bootstrap_mean`.

    Args:
        values: ``(N,)`` or ``(N, K)``, one row a pair; the K values of a pair stay together.

    Returns:
        ``mean``, ``low``, ``high``, rounded to four digits.
    """
    found = bootstrap_mean(values.double().view(len(values), -1).mean(1).tolist())
    return {name: round(getattr(found, name), 4) for name in ("mean", "low", "high")}


# --- generated scenes -----------------------------------------------------------------------------


@torch.no_grad()
def evaluate_scenes(
    clip: ClipSpace, count: int = 400, seed: int = 90_000, augmented: bool = False
) -> Report:
    """Measure accuracies on scenes that the training never saw.

    Args:
        clip: the model.
        count: scenes; each gives seven images.
        seed: of the worlds; training uses other seeds.
        augmented: change the sources as in training (`experiments.embedded_clip.augmentation`);
            otherwise they are as rendered.

    Returns:
        For each attribute the numbers of true and false images, the area under the curve, and,
        where it can be denied, the balanced accuracy at threshold 0; the area under the curve of
        the target sentence; infrared or visible on ``whole`` scenes that are not degraded; and the
        mean L_dir of oracle, maximum and average.
    """
    scenes = load_scenes(count, seed)
    generator = torch.Generator().manual_seed(seed)
    embeddings, truths = [], []
    for index in torch.arange(len(scenes["night"])).split(25):
        batch = make_batch(scenes, index, generator, augmented=float(augmented))
        embeddings.append(clip.encode_image(batch.images.flatten(0, 1)))
        truths.append(batch.truth.flatten(0, 1))
    images, truth = torch.cat(embeddings), torch.cat(truths)
    table = {
        attribute.name: _attribute_row(clip, images, truth, attribute.name)
        for attribute in ATTRIBUTES
    }
    wanted = truth[:, [INDEX["clear"], INDEX["detailed"], INDEX["salient"]]]
    cosine = images @ clip.encode_text(PROMPTS.fused)[0]
    good, bad = cosine[(wanted > 0).all(1)], cosine[(wanted < 0).any(1)]
    return {
        "pictures": len(images),
        "augmented": augmented,
        "whole": _whole_scenes(clip, min(count, 200), seed + 10),
        "direction_loss": _by_mean(_scene_losses(clip, scenes)),
        "attributes": table,
        "target_sentence": {
            "sentence": PROMPTS.fused,
            "true": len(good),
            "false": len(bad),
            "auc": round(area_under_curve(good, bad), 4),
        },
    }


def _attribute_row(clip: ClipSpace, images: torch.Tensor, truth: torch.Tensor, name: str) -> Report:
    score, fact = attribute_scores(clip, images, name), truth[:, INDEX[name]]
    positive, negative = score[fact > 0], score[fact < 0]
    row: Report = {"true": len(positive), "false": len(negative)}
    row["auc"] = round(area_under_curve(positive, negative), 4)
    if prompts_for(name)[1]:
        hits = (positive > 0).float().mean() + (negative < 0).float().mean()
        row["balanced_accuracy"] = round(float(hits / 2), 4)
    return row


def _scene_losses(clip: ClipSpace, scenes: Mapping[str, torch.Tensor]) -> list[dict[str, float]]:
    """L_dir of oracle, average and maximum of each scene."""
    views = {k: scenes[k][:, None].float() / 255 for k in ("infrared", "visible", "oracle")}
    views["average"] = (views["infrared"] + views["visible"]) / 2
    views["maximum"] = torch.maximum(views["infrared"], views["visible"])
    seen = {k: torch.cat([clip.encode_image(p) for p in v.split(64)]) for k, v in views.items()}
    sources, directions = (seen.pop("infrared"), seen.pop("visible")), text_directions(clip)
    losses = {k: direction_loss(e, *sources, directions).tolist() for k, e in seen.items()}
    return [dict(zip(losses, row, strict=True)) for row in zip(*losses.values(), strict=True)]


def _modality(scores: torch.Tensor) -> Report:
    """Infrared or visible: scores ``(N, 2)`` of infrared and visible images of N pairs."""
    correct = interval(torch.stack([scores[:, 0] > 0, scores[:, 1] < 0], 1))
    higher = interval(scores[:, 0] > scores[:, 1])
    return {"balanced_accuracy": correct["mean"], **correct, "infrared_scores_higher": higher}


def _whole_scenes(clip: ClipSpace, count: int, seed: int) -> Report:
    """Infrared or visible on whole scenes that are not degraded, as on the real pairs."""
    batch = render(count, (128, 128), seed)
    pairs = torch.stack([batch.infrared, luminance(batch.visible)], 1)
    seen = clip.encode_image(pairs.flatten(0, 1))
    visible, infrared, _ = clip.encode_text(list(PROMPTS))
    return {
        "pairs": count,
        "infrared_or_visible": _modality(attribute_scores(clip, seen, "infrared").view(-1, 2)),
        "paper_sentences": _modality((seen @ (infrared - visible)).view(-1, 2)),
    }


@torch.no_grad()
def evaluate_adversarial(
    clip: ClipSpace, count: int = 16, steps: int = 300, seed: int = 90_500
) -> Report:
    """Measure whether the model recognizes images that were optimized against it as damaged.

    Args:
        clip: the model.
        count: pairs; half of them by free pixels, half by a free decoder.
        steps: of the optimization.
        seed: of the pairs.

    Returns:
        Mean score of *artifacts* (`attribute_scores`) of averages, oracles and optimized images,
        and the share of each that count as artifacts (score above 0).
    """
    scenes = {name: value[:count] for name, value in load_scenes(count, seed).items()}
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        optimized = optimize_negatives(clip, scenes, steps, generator)
    images = {
        "average": (scenes["infrared"] / 255 + scenes["visible"] / 255) / 2,
        "oracle": scenes["oracle"] / 255,
        "optimized": optimized / 255,
    }
    scores = {
        name: attribute_scores(clip, clip.encode_image(image[:, None]), "artifacts")
        for name, image in images.items()
    }
    called = {name: round(float((s > 0).float().mean()), 4) for name, s in scores.items()}
    return {
        "steps": steps,
        "artifacts_score": {name: round(float(s.mean()), 4) for name, s in scores.items()},
        "called_artifacts": called,
    }


# --- real pairs -----------------------------------------------------------------------------------


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
        than the average of the sources; and the mean L_dir of each method on native crops.
    """
    network = load_network(lite) if lite else None
    return {name: _evaluate_set(clip, pairs, network) for name, pairs in find_sets(data).items()}


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
        "infrared_or_visible": _modality(torch.stack(ensemble)),
        "paper_sentences": _modality(torch.stack(paper)),
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
        "direction_loss": _by_mean(losses),
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


def _by_mean(losses: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean loss of each method over the pairs that have it, best first."""
    names = {name for row in losses for name in row}
    table = {n: interval(torch.tensor([row[n] for row in losses if n in row])) for n in names}
    return dict(sorted(table.items(), key=lambda item: item[1]["mean"]))
