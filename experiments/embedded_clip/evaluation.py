"""Evaluation of the embedded CLIP: what does it know of generated scenes, and of real pairs?

Everything here is zero-shot: an image is compared with sentences, nothing is fitted. The results go
into the model card (`experiments.embedded_clip.card`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.embedded_clip import cameras
from experiments.embedded_clip.adversarial import optimize_negatives
from experiments.embedded_clip.dataset import ORACLE, Batch, make_batch
from experiments.embedded_clip.pieces import Pieces
from experiments.embedded_clip.real_evaluation import evaluate_real
from experiments.embedded_clip.scores import area_under_curve, by_mean, modality
from ldf_utils.clip.attributes import ATTRIBUTES, INDEX, attribute_scores, prompts_for
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.losses.direction import direction_loss, text_directions

Report = dict[str, Any]


def evaluate(
    clip: ClipSpace,
    pack: Path | None = None,
    data: str | os.PathLike[str] | None = None,
    lite: str | os.PathLike[str] | None = None,
    squares: int = 600,
    held_out_every: int | None = None,
) -> Report:
    """Measure everything that the model card reports.

    Args:
        clip: the model.
        pack: folder of packed squares, of which those held out of training are used, or None. A
            pack with all worlds held out is of worlds that the training never saw.
        data: as in `evaluate_real`, or None.
        lite: as in `evaluate_real`.
        squares: how many packed squares at most.
        held_out_every: every how many-th world the training held out, as ``training.json`` says;
            needed with ``pack``.

    Returns:
        With ``pack``: ``scenes``, ``augmented_scenes`` and ``adversarial``; with ``data``:
        ``real``.

    Raises:
        ValueError: if the pack holds out other worlds than the training did.
    """
    report: Report = {}
    if pack is not None:
        pieces = Pieces(pack)
        if pieces.held_out_every not in (1, held_out_every):
            raise ValueError(
                f"{pack}: every {pieces.held_out_every}th world is held out here, but the training "
                f"of these weights held out every {held_out_every or 'n'}th (held_out_every in "
                "training.json), so it may have seen these; pack the pool into another folder with "
                f"--held-out-every {held_out_every or 'N'}, or other worlds with 1"
            )
        index = pieces.where(recorded=False, held_out=True)[:squares]
        report["scenes"] = evaluate_squares(clip, pieces, index)
        report["augmented_scenes"] = evaluate_squares(clip, pieces, index, augmented=True)
        report["adversarial"] = evaluate_adversarial(clip, pieces.read(index[:16]))
    return report | ({"real": evaluate_real(clip, data, lite)} if data else {})


@torch.no_grad()
def evaluate_squares(
    clip: ClipSpace,
    pieces: Pieces,
    index: torch.Tensor,
    augmented: bool = False,
    seed: int = 90_000,
) -> Report:
    """Measure accuracies on packed squares.

    Args:
        clip: the model.
        pieces: the squares.
        index: which of them; those that training does not use.
        augmented: change the sources as in training (`experiments.embedded_clip.augmentation`);
            otherwise random cameras see the squares and no more.
        seed: of cameras and degradations.

    Returns:
        For each attribute the numbers of true and false images, the area under the curve, and,
        where it can be denied, the balanced accuracy at threshold 0; the area under the curve of
        the target sentence; infrared or visible on images that are not degraded; and the mean
        L_dir of oracle, maximum and average.
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings, truths, losses = [], [], []
    for part in index.split(25):
        batch = make_batch(pieces.read(part), generator, augmented=float(augmented))
        seen = clip.encode_image(batch.images.flatten(0, 1))
        embeddings.append(seen.view(*batch.truth.shape[:2], -1))
        truths.append(batch.truth)
        losses += _batch_losses(clip, batch, embeddings[-1])
    by_view, truth = torch.cat(embeddings), torch.cat(truths).flatten(0, 1)
    images = by_view.flatten(0, 1)
    table = {
        attribute.name: _attribute_row(clip, images, truth, attribute.name)
        for attribute in ATTRIBUTES
    }
    wanted = truth[:, [INDEX["clear"], INDEX["detailed"], INDEX["salient"]]]
    cosine = images @ clip.encode_text(PROMPTS.fused)[0]
    good, bad = cosine[(wanted > 0).all(1)], cosine[(wanted < 0).any(1)]
    return {
        "pictures": len(images),
        "squares": len(index),
        "augmented": augmented,
        "whole": _modality_of_squares(clip, by_view[:, [1, 0]]),
        "direction_loss": by_mean(losses),
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
    if not len(positive) or not len(negative):
        return row | {"auc": None}  # nothing to tell apart
    row["auc"] = round(area_under_curve(positive, negative), 4)
    if prompts_for(name)[1]:
        hits = (positive > 0).float().mean() + (negative < 0).float().mean()
        row["balanced_accuracy"] = round(float(hits / 2), 4)
    return row


def _batch_losses(clip: ClipSpace, batch: Batch, seen: torch.Tensor) -> list[dict[str, float]]:
    """L_dir of oracle, average and maximum of each square that has an oracle."""
    visible, infrared = batch.images[:, 0], batch.images[:, 1]
    mixed = {"average": (visible + infrared) / 2, "maximum": torch.maximum(visible, infrared)}
    found = {"oracle": seen[:, ORACLE]} | {k: clip.encode_image(v) for k, v in mixed.items()}
    sources, directions = (seen[:, 1], seen[:, 0]), text_directions(clip)
    losses = {k: direction_loss(e, *sources, directions) for k, e in found.items()}
    rows = zip(*(values[batch.has_oracle].tolist() for values in losses.values()), strict=True)
    return [dict(zip(losses, row, strict=True)) for row in rows]


def _modality_of_squares(clip: ClipSpace, seen: torch.Tensor) -> Report:
    """Measure infrared or visible on embeddings of both images of N squares, ``(N, 2, D)``."""
    visible, infrared, _ = clip.encode_text(list(PROMPTS))
    scores = attribute_scores(clip, seen.flatten(0, 1), "infrared").view(-1, 2)
    return {
        "pairs": len(seen),
        "infrared_or_visible": modality(scores),
        "paper_sentences": modality(seen @ (infrared - visible)),
    }


@torch.no_grad()
def evaluate_adversarial(
    clip: ClipSpace, squares: Mapping[str, torch.Tensor], steps: int = 300, seed: int = 90_500
) -> Report:
    """Measure whether the model recognizes images that were optimized against it as damaged.

    Args:
        clip: the model.
        squares: as `experiments.embedded_clip.pieces.Pieces.read`; half are optimized as free
            pixels, half by a free decoder.
        steps: of the optimization.
        seed: of cameras and optimization.

    Returns:
        Mean score of *artifacts* (`attribute_scores`) of averages and of optimized images, and the
        share of each that count as artifacts (score above 0).
    """
    generator = torch.Generator().manual_seed(seed)
    visible, infrared = (shot.image[:, 0] for shot in cameras.see(squares, generator))
    levels = {"infrared": infrared, "visible": visible}
    stored = {name: (image * 255).round().to(torch.uint8) for name, image in levels.items()}
    with torch.enable_grad():
        optimized = optimize_negatives(clip, stored, steps, generator)
    images = {"average": (infrared + visible) / 2, "optimized": optimized / 255}
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
