"""The language-driven fusion model: what fusing means, said as directions in CLIP's space.

There is no ground truth for a fused image, but there are words for it. CLIP maps sentences and
images to unit vectors of one space. Write V for the embedding of a sentence and E for that of an
image, and use three sentences: one that describes the infrared image, one for the visible image,
and one for the fused image that we want. Subtraction then gives two directions in which the words
say that fusion should go, and two in which a fused image went:

    text:    D_ir = V_fused - V_infrared      D_vi = V_fused - V_visible
    images:  d_ir = E_fused - E_infrared      d_vi = E_fused - E_visible

A fusion is good where d_ir points along D_ir and d_vi along D_vi, that is where both cosines are
near 1. Directions rather than positions are compared because the centers of CLIP's images and of
its sentences lie apart (the modality gap). What all images share cancels in the *step* from one
image to another, so that it can be compared with the step from one sentence to another. Embeddings
are normalized first and subtracted then; the lengths of the steps do not matter.

This file has everything the method asks of words: the two text directions, the two image
directions, their cosines, and the three losses L_dir, L_angle and L_patch.

Source: Wang et al., "Infrared and Visible Image Fusion with Language-Driven Loss in CLIP Embedding
Space", arXiv:2402.16267. The directional comparison is that of StyleGAN-NADA (arXiv:2108.00946).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F

from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.clip.model import PROMPTS, ClipSpace, Prompts

SHORTEST = 1e-4
"""Length under which the difference of two unit vectors in float32 is rounding, not a direction."""


@dataclass(frozen=True)
class TextDirections:
    """Hold what fusing means in words: the directions from the source prompts to the objective.

    ``D_ir = V_fused - V_infrared`` and ``D_vi = V_fused - V_visible``.

    Attributes:
        infrared: ``(D,)``, from the infrared sentence to the fused one, or ``(B, D)`` where every
            image of a batch has a sentence of its own. Not normalized.
        visible: the same shape, from the visible sentence to the fused one. Not normalized.
        prompts: the sentences they were made from, or None.
    """

    infrared: torch.Tensor
    visible: torch.Tensor
    prompts: Prompts | None = None

    def to(self, *args: Any, **kwargs: Any) -> TextDirections:
        """Move the directions to another device or dtype, as `torch.Tensor.to`."""
        return replace(
            self,
            infrared=self.infrared.to(*args, **kwargs),
            visible=self.visible.to(*args, **kwargs),
        )

    def of_rows(self, rows: torch.Tensor) -> TextDirections:
        """Return the directions of rows ``p * B + b`` (patch p of image b of a batch of B).

        Itself if all images have the same.
        """
        if self.infrared.ndim == 1:
            return self
        rows = rows % len(self.infrared)
        return replace(self, infrared=self.infrared[rows], visible=self.visible[rows])


def text_directions(
    clip: ClipSpace | FrozenClip, prompts: Prompts = PROMPTS, text: str = "difference"
) -> TextDirections:
    """Compute the two text directions.

    ``D_ir = V_fused - V_infrared`` and ``D_vi = V_fused - V_visible``, with V the normalized
    embeddings of the prompts.

    Args:
        clip: whose ``encode_text`` embeds the sentences.
        prompts: the three sentences.
        text: ``"difference"``, or ``"target"`` for ``D_ir = D_vi = V_fused``, which leaves out what
            the sources are called (to measure what the difference is good for).

    Returns:
        The two directions; no gradient.

    Raises:
        ValueError: for another word, if the fused sentence equals a source sentence, or if CLIP
            gives both the same embedding. Their difference is then the zero vector, which points
            nowhere: its cosine with any image direction is 0 / 0.
    """
    _check_side("text", text, "target")
    with torch.no_grad():
        infrared, visible, fused = clip.encode_text(
            [prompts.infrared, prompts.visible, prompts.fused]
        )
    if text == "target":
        return TextDirections(fused, fused, prompts)
    for source, sentence, embedding in (
        ("infrared", prompts.infrared, infrared),
        ("visible", prompts.visible, visible),
    ):
        length = (fused - embedding).norm().item()
        if length < SHORTEST:
            reason = (
                "they are the same sentence"
                if sentence == prompts.fused
                else "this CLIP embeds both alike (perhaps it does not know the words that differ)"
            )
            raise ValueError(
                f"the fused prompt {prompts.fused!r} and the {source} prompt {sentence!r} are "
                f"{length:.1e} apart, because {reason}. The direction from one to the other is "
                "then a zero vector and points nowhere, so nothing can be learned from it. Say in "
                "the fused prompt what the fused image should have that the source has not"
            )
    return TextDirections(fused - infrared, fused - visible, prompts)


def _check_side(name: str, value: str, other: str) -> None:
    if value not in ("difference", other):
        raise ValueError(f"{name} must be 'difference' or {other!r}, got {value!r}")


def image_directions(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the two image directions: ``d_ir = E_f - E_ir`` and ``d_vi = E_f - E_vi``.

    Args:
        fused: ``(B, D)`` normalized embeddings of the fused images.
        infrared: ``(B, D)`` of the infrared images.
        visible: ``(B, D)`` of the visible images (of their luminance).

    Returns:
        The steps from infrared and from visible, each ``(B, D)``; not normalized.
    """
    return fused - infrared, fused - visible


def direction_cosines(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    directions: TextDirections,
    image: str = "difference",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute how well the image directions follow the text directions.

    ``cos(d_ir, D_ir)`` and ``cos(d_vi, D_vi)``.

    Args:
        fused: ``(B, D)`` normalized embeddings of the fused images.
        infrared: ``(B, D)`` of the infrared images.
        visible: ``(B, D)`` of the visible images.
        directions: what the words say.
        image: ``"difference"``, or ``"position"`` for ``d_ir = d_vi = E_f``: the plain cosine of
            the fused image with the words, which leaves out where the sources are.

    Returns:
        Cosine of the infrared side and of the visible side, each ``(B,)`` in [-1, 1]; 1 means that
        the fused image went just where the words point. A step of zero length, as of a "fused"
        image that is a copy of its source, counts as 0: it went nowhere.

    Raises:
        ValueError: for another word.
    """
    _check_side("image", image, "position")
    from_infrared, from_visible = fused, fused
    if image == "difference":
        from_infrared, from_visible = image_directions(fused, infrared, visible)
    return (
        F.cosine_similarity(from_infrared, directions.infrared, dim=-1, eps=SHORTEST),
        F.cosine_similarity(from_visible, directions.visible, dim=-1, eps=SHORTEST),
    )


def direction_loss(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    directions: TextDirections,
    image: str = "difference",
) -> torch.Tensor:
    """Compute L_dir: how far the fused images are from where the words point.

    ``L_dir = 1/2 [1 - cos(d_ir, D_ir)] + 1/2 [1 - cos(d_vi, D_vi)]`` (arXiv:2402.16267).

    Args:
        fused: ``(B, D)`` normalized embeddings of the fused images.
        infrared: ``(B, D)`` of the infrared images.
        visible: ``(B, D)`` of the visible images.
        directions: what the words say.
        image: see `direction_cosines`.

    Returns:
        ``(B,)`` in [0, 2]: 0 along the words, 1 across them or nowhere, 2 against them. Its mean is
        L_direction of arXiv:2402.16267.
    """
    to_infrared, to_visible = direction_cosines(fused, infrared, visible, directions, image)
    return 1 - (to_infrared + to_visible) / 2


def angle_loss(fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Compute L_angle, the regularizer: how far the fused images are from their sources.

    ``L_angle = 1/2 [1 - cos(E_f, E_ir)] + 1/2 [1 - cos(E_f, E_vi)]`` (arXiv:2402.16267).

    Args:
        fused: ``(B, D)`` embeddings of the fused images.
        infrared: ``(B, D)`` of the infrared images.
        visible: ``(B, D)`` of the visible images.

    Returns:
        ``(B,)`` in [0, 2]; its mean is L_angle of arXiv:2402.16267. 0 only where all three are
        alike.
    """
    to_infrared = F.cosine_similarity(fused, infrared, dim=-1)
    return 1 - (to_infrared + F.cosine_similarity(fused, visible, dim=-1)) / 2


def patch_direction_loss(
    patches: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    directions: TextDirections,
    kept: torch.Tensor | None = None,
    mean_over: str = "all",
    ignore_below: float = 0.0,
    image: str = "difference",
    sources: str = "whole",
) -> torch.Tensor:
    """Compute L_patch: L_dir of fused patches against their whole source images.

    ``L_patch = 1/N sum_n L_dir(E_f,n, E_ir, E_vi)`` with ``E_f,n`` the embedding of patch n and
    the embeddings of the *whole* sources (arXiv:2402.16267).

    Only the patches that are kept are asked for. The authors encode all of them and multiply the
    dropped ones by 0, which gives the same value and the same gradient for more work.

    Args:
        patches: ``(K, D)`` normalized embeddings of the kept patches of the fused images.
        infrared: ``(B, D)`` of the whole infrared images.
        visible: ``(B, D)`` of the whole visible images.
        directions: what the words say.
        kept: ``(P * B,)`` bool with K times True, row ``p * B + b`` for patch p of image b; None if
            all are kept.
        mean_over: ``"all"`` divides the sum by ``P * B``, so that a dropped patch counts as a loss
            of 0 (as the authors do: images with little in them get a smaller gradient);
            ``"kept"`` divides by K.
        ignore_below: losses up to this value are set to 0, with their gradient, so that patches
            that are good enough stop pulling (0.7 in CLIPstyler, arXiv:2112.00374; 0 switches it
            off).
        image: see `direction_cosines`.
        sources: ``"whole"``, or ``"patch"`` if ``infrared`` and ``visible`` are embeddings
            ``(K, D)`` of the kept patches' own views of the sources.

    Returns:
        A scalar; 0 with a gradient of 0 if no patch is kept.

    Raises:
        ValueError: if the counts do not fit or ``mean_over`` is another word.
    """
    for name, value, known in (
        ("mean_over", mean_over, ("all", "kept")),
        ("sources", sources, ("whole", "patch")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}, got {value!r}")
    batch = len(infrared)
    if kept is None:
        kept = torch.ones(len(patches), dtype=torch.bool, device=patches.device)
    rows = kept.nonzero().squeeze(1)
    fit = batch == len(rows) if sources == "patch" else len(kept) % batch == 0
    if len(rows) != len(patches) or not fit:
        raise ValueError(
            f"there must be one patch per kept row, and rows p * B + b for B images, got "
            f"{len(patches)} patches, {len(rows)} of {len(kept)} rows kept and {batch} "
            f"{'images' if sources == 'whole' else 'views of the sources'}"
        )
    if sources == "whole":
        infrared, visible = infrared[rows % batch], visible[rows % batch]
    of_patches = directions.of_rows(rows)
    losses = direction_loss(patches, infrared, visible, of_patches, image)
    if ignore_below > 0:
        losses = torch.where(losses > ignore_below, losses, torch.zeros_like(losses))
    return losses.sum() / max(1, len(kept) if mean_over == "all" else len(rows))
