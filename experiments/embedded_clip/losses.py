"""Losses of the embedded CLIP: they use which captions are true, false or undecided, and no more.

* `contrastive_loss`: captions against images, with several positives and no false negatives;
* `denial_loss`: for each attribute, a sentence that asserts it against one that denies it;
* `attribute_loss`: each attribute as yes or no, of whole images or of places in them;
* `pair_loss`: of the two sources of a scene, the infrared one is nearer to the sentence for it;
* `degradation_loss`: a degraded view is nearer than its origin to the sentence for its degradation;
* `order_loss`: maxima of the sources follow the text directions farther than averages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """Compute InfoNCE with several positives: each competes with all false ones, not with others.

    ``mean_p log(1 + sum_n exp(s_n - s_p))`` over the positives p and the negatives n of a row.

    Args:
        logits: ``(N, M)`` scaled cosines.
        true, false: ``(N, M)`` from `ldf_utils.clip.attributes.match`.

    Returns:
        A scalar: the mean over both directions.
    """
    total = logits.new_zeros(())
    for scores, yes, no in ((logits, true, false), (logits.T, true.T, false.T)):
        rest = scores.masked_fill(~no, -1e4).logsumexp(dim=1, keepdim=True)
        each = F.softplus(rest - scores) * yes
        rows = yes.sum(1)
        total = total + (each.sum(1) / rows.clamp_min(1)).sum() / (rows > 0).sum().clamp_min(1)
    return total / 2


def denial_loss(
    images: torch.Tensor,
    truth: torch.Tensor,
    asserting: torch.Tensor,
    denying: torch.Tensor,
    columns: Sequence[int],
    scale: float = 20.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compare each image with a sentence that asserts an attribute and one that denies it.

    Args:
        images: ``(N, D)`` embeddings of length 1.
        truth: ``(N, K)`` with +1, 0, -1.
        asserting, denying: ``(A, D)`` embeddings of sentences, one of each per attribute.
        columns: the A attributes, as columns of ``truth``.
        scale: of the difference of cosines in the logistic function.
        weights: ``(A,)`` of the attributes, 1 if None.

    Returns:
        A scalar: the weighted mean over attributes of the mean over true and over false images.
    """
    margin = scale * images @ (asserting - denying).T
    return attribute_loss(margin, truth[:, list(columns)], weights)


def attribute_loss(
    margin: torch.Tensor, sign: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute a logistic loss for each attribute in which true and false images weigh the same.

    Args:
        margin: ``(N, A)``, above 0 for "true".
        sign: ``(N, A)`` with +1, 0 (undecided) and -1.
        weights: ``(A,)`` of the attributes, 1 if None.

    Returns:
        A scalar: the weighted mean over attributes of the mean over true and over false images.
    """
    each = F.softplus(-sign * margin)
    weights = margin.new_ones(margin.shape[1]) if weights is None else weights
    total, count = margin.new_zeros(()), 0.0
    for side in (sign > 0, sign < 0):
        known = side.sum(0)
        total = total + (weights * (each * side).sum(0) / known.clamp_min(1)).sum()
        count += float((weights * (known > 0)).sum())
    return total / max(count, 1e-9)


def pair_loss(
    infrared: torch.Tensor, visible: torch.Tensor, texts: torch.Tensor, scale: float = 20.0
) -> torch.Tensor:
    """Ask that the infrared source of a scene is nearer to the sentence for infrared images.

    Args:
        infrared, visible: ``(G, D)`` embeddings of length 1, one of each per scene.
        texts: ``(2, D)`` or more: the sentences for infrared and for visible images come first.
        scale: of the difference of cosines in the logistic function.

    Returns:
        A scalar: the mean over scenes.
    """
    nearer = (infrared - visible) @ (texts[0] - texts[1])
    return F.softplus(-scale * nearer).mean()


def degradation_loss(
    images: torch.Tensor,
    origin: torch.Tensor,
    change: torch.Tensor,
    asserting: torch.Tensor,
    denying: torch.Tensor,
    columns: Sequence[int],
    scale: float = 20.0,
) -> torch.Tensor:
    """Ask that a degraded view is nearer than its origin to the sentence for its degradation.

    Args:
        images: ``(G, V, D)`` embeddings of length 1.
        origin, change: as in `experiments.embedded_clip.dataset.Batch`.
        asserting, denying: ``(A, D)`` embeddings of sentences, one of each per attribute.
        columns: the A attributes, as indices of the last axis of ``change``.
        scale: of the difference of cosines in the logistic function.

    Returns:
        A scalar: the mean over the degraded views, 0 if there is none.
    """
    margin = images @ (asserting - denying).T
    sign = change[..., list(columns)]
    moved = margin - margin.gather(1, origin[..., None].expand_as(margin))
    changed = sign != 0
    return (F.softplus(-scale * sign * moved) * changed).sum() / changed.sum().clamp_min(1)


def order_loss(images: torch.Tensor, losses: torch.Tensor, margin: float = 0.15) -> torch.Tensor:
    """Ask that maxima of the sources have a lower L_dir than averages, which halve what stands out.

    Args:
        images: ``(G, V, 1, H, W)`` as in `experiments.embedded_clip.dataset.Batch`; the fourth
            view is the average or the maximum of the first two.
        losses: ``(G,)`` L_dir of that view.
        margin: by which the mean over maxima should be below the mean over averages.

    Returns:
        A scalar; 0 where it is, or where there are no maxima or no averages.
    """
    largest = torch.maximum(images[:, 0], images[:, 1])
    maximum = (images[:, 3] == largest).flatten(1).all(1)
    if maximum.all() or not maximum.any():
        return losses.new_zeros(())
    return F.relu(margin + losses[maximum].mean() - losses[~maximum].mean())
