"""The losses of language-driven fusion: direction, angle, patches, perception, and their sum.

With the cosines of `ldf_utils.losses.direction` (infrared side and visible side):

    L_direction  = 1/2 [1 - cos(d_ir, D_ir)] + 1/2 [1 - cos(d_vi, D_vi)]
    L_patch      = the same, of patches of the fused image
    L_angle      = 1/2 [1 - cos(E_f, E_ir)] + 1/2 [1 - cos(E_f, E_vi)]
    L_perceptual = sum over layers of MSE(F(fused), max(F(infrared), F(visible)))
    L            = 2 L_direction + 10 L_patch + 6 L_angle + 10 L_perceptual

In words: go where the sentences point, in every part of the image, but no farther than needed, and
keep what the sources show.

Each is a pure function of embeddings or images; `FusionLoss` holds CLIP, the words and the weights,
and calls them.

Source: Wang et al., arXiv:2402.16267.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip.frozen import LeanConvolutions, LeanVisionTransformer
from ldf_utils.clip.model import PROMPTS, ClipSpace, Prompts
from ldf_utils.losses.direction import (
    angle_loss,
    direction_loss,
    patch_direction_loss,
    text_directions,
)
from ldf_utils.losses.entropy_filter import keep_mask
from ldf_utils.losses.patches import PatchSampler, ReleasedDraws, cut_patches
from ldf_utils.losses.perceptual import PerceptualLoss


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; a term of weight 0 is not computed. The defaults are the paper's.

    Raises:
        ValueError: for a weight that is negative or not finite, or if all are 0.
    """

    direction: float = 2.0
    patch: float = 10.0
    angle: float = 6.0
    perceptual: float = 10.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the weight {name} is to be 0 or more and finite, found {value}")
        if not any(asdict(self).values()):
            raise ValueError("all loss weights are 0, so there is nothing to learn from")


@dataclass(frozen=True)
class LossTerms:
    """What `FusionLoss` gives.

    Attributes:
        total: the weighted sum, a scalar to call ``backward`` on.
        terms: name to scalar, each before its weight and cut off from the graph; only those with a
            weight above 0.
        kept: share of the patches that passed the filter, in [0, 1]; None without the patch term.
    """

    total: torch.Tensor
    terms: dict[str, torch.Tensor]
    kept: float | None = None


class FusionLoss(nn.Module):
    """The whole loss: weights times direction, patch, angle and perceptual term.

    Embeddings of the sources are computed without a graph, and CLIP is frozen and kept in eval
    mode: gradients are computed for the fused image only. Only the patches that pass the filter
    are encoded.

    Args:
        clip: the judge; None if direction, patch and angle all have weight 0.
        prompts: the three sentences.
        weights: of the terms; 0 switches one off.
        sampler: how patches are drawn; the paper's at the input size of ``clip`` if None.
        entropy_threshold: bits that both source patches have to exceed; None keeps every patch.
        mean_over: ``"all"`` or ``"kept"``, see `patch_direction_loss`.
        ignore_below: see `patch_direction_loss`.
        perceptual: see `PerceptualLoss`; only built if its weight is above 0.
        autocast: run CLIP and VGG19 in bfloat16: faster where the hardware has it, and less exact.
            What CLIP gives is brought back to the dtype of the images before anything is
            subtracted.
        lean: run CLIP and VGG19 as `ldf_utils.clip.frozen`, where their kind is known, and
        the fused
            images and their patches through CLIP in one batch: the same numbers, up to rounding,
            for less work.
        compile: compile the lean towers with `torch.compile`: slower to start, faster then.

    Attributes:
        lean: whether CLIP's tower is lean; False where its kind is not known.
        mark: called with the name of each part of the work when it is done; for measuring.

    Raises:
        ValueError: as `text_directions` and `PerceptualLoss`, and if a term needs a CLIP that is
            not there.
    """

    def __init__(
        self,
        clip: ClipSpace | None,
        prompts: Prompts = PROMPTS,
        weights: LossWeights | None = None,
        sampler: PatchSampler | None = None,
        entropy_threshold: float | None = 6.0,
        mean_over: str = "all",
        ignore_below: float = 0.0,
        perceptual: str | nn.Module = "filterbank",
        autocast: bool = False,
        lean: bool = False,
        compile: bool = False,
    ):
        super().__init__()
        self.weights = weights or LossWeights()
        self.entropy_threshold = entropy_threshold
        self.mean_over, self.ignore_below = mean_over, ignore_below
        self.autocast = autocast
        self.clip = self.sampler = self.directions = self.perceptual = self.tower = None
        if self.weights.direction or self.weights.patch or self.weights.angle:
            if clip is None:
                raise ValueError(
                    "the direction, patch and angle terms need a CLIP, found None; give one (see "
                    "clip_space.load_clip) or set their weights to 0"
                )
            self.clip = clip.requires_grad_(False)
            self.sampler = sampler or PatchSampler(size=clip.image_size)
            self.directions = text_directions(clip, prompts)
            if lean and LeanVisionTransformer.supports(clip) is None:
                dtype = torch.bfloat16 if autocast else torch.float32
                self.tower = LeanVisionTransformer(clip, dtype)
        if self.weights.perceptual:
            self.perceptual = PerceptualLoss(perceptual, lean, autocast)
        self.lean = self.tower is not None
        self.mark: Callable[[str], None] = lambda part: None
        if compile:
            if self.tower is not None:
                self.tower.compile(dynamic=True)
            if self.perceptual is not None and isinstance(
                self.perceptual.features, LeanConvolutions
            ):
                self.perceptual.features.compile()
        self.train(self.training)

    def train(self, mode: bool = True) -> FusionLoss:
        """As `torch.nn.Module.train`, but CLIP stays in eval mode: the judge does not change."""
        super().train(mode)
        if self.clip is not None:
            self.clip.eval()
        return self

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized embeddings ``(B, D)`` of ``(B, 1, H, W)`` images, in bfloat16 if asked for."""
        if self.tower is not None:
            embeddings = self.tower(_resize(images, self.tower.size))
            return F.normalize(embeddings.to(images.dtype), dim=-1)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            embeddings = self.clip.encode_image(images)
        return F.normalize(embeddings.to(images.dtype), dim=-1) if self.autocast else embeddings

    def embed_sources(
        self, infrared: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Embeddings of the sources, without a graph.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1].
            visible: luminance, the same shape.

        Returns:
            ``(B, D)`` each, normalized; None if no term needs them.
        """
        if self.clip is None:
            return None
        with torch.no_grad():
            return self.encode(torch.cat([infrared, visible])).chunk(2)

    def forward(
        self,
        fused: torch.Tensor,
        infrared: torch.Tensor,
        visible: torch.Tensor,
        generator: torch.Generator | None = None,
        sources: tuple[torch.Tensor, torch.Tensor] | None = None,
        draws: torch.Tensor | ReleasedDraws | None = None,
    ) -> LossTerms:
        """The loss of a batch.

        Args:
            fused: ``(B, 1, H, W)`` in [0, 1], with a graph.
            infrared: the same shape.
            visible: luminance, the same shape.
            generator: where the patches come from; torch's own if None.
            sources: what `embed_sources` gave for these sources, where they are the same as
                before; computed if None.
            draws: the patches to cut, as of `PatchSampler.draw`; drawn if None.

        Returns:
            The total and its terms.

        Raises:
            ValueError: if the shapes differ or are not luminance.
        """
        if (
            fused.ndim != 4
            or fused.shape[1] != 1
            or not (fused.shape == infrared.shape == visible.shape)
        ):
            raise ValueError(
                "expected fused, infrared and visible luminance of one shape (B, 1, H, W), found "
                f"{tuple(fused.shape)}, {tuple(infrared.shape)} and {tuple(visible.shape)}; "
                "images.luminance turns color into luminance"
            )
        terms, kept = {}, None
        if self.clip is not None:
            if sources is None:
                sources = self.embed_sources(infrared, visible)
                self.mark("CLIP, sources")
            directions = self.directions.to(device=fused.device, dtype=fused.dtype)
            whole = patches = None
            if (self.weights.direction or self.weights.angle) and not self.lean:
                whole = self.encode(fused)
            if self.weights.patch:
                patches, mask = self._patches(fused, infrared, visible, generator, draws)
                kept = mask.float().mean().item()
                self.mark("patches")
                if not self.lean:
                    patches = self.encode(patches) if len(patches) else None
            if self.lean:
                whole, patches = self._encode_both(fused, patches)
            self.mark("CLIP, forward")
            if self.weights.direction:
                terms["direction"] = direction_loss(whole, *sources, directions).mean()
            if self.weights.patch:
                terms["patch"] = patch_direction_loss(
                    _no_rows(fused, sources[0]) if patches is None else patches,
                    *sources,
                    directions,
                    mask,
                    self.mean_over,
                    self.ignore_below,
                )
            if self.weights.angle:
                terms["angle"] = angle_loss(whole, *sources).mean()
        if self.perceptual is not None and self.weights.perceptual:
            terms["perceptual"] = self.perceptual(fused, infrared, visible)
            self.mark("VGG19, forward")
        total = sum(getattr(self.weights, name) * term for name, term in terms.items())
        return LossTerms(total, {name: term.detach() for name, term in terms.items()}, kept)

    def _encode_both(self, fused, patches):
        """Embeddings of the fused images and of their patches in one batch; None for what is not.

        A term of weight 0 needs none, and there may be no patch that is kept.
        """
        whole = self.weights.direction or self.weights.angle
        if patches is None or not len(patches):
            return (self.encode(fused) if whole else None), None
        if not whole:
            return None, self.encode(patches)
        size = self.tower.size
        both = self.encode(torch.cat([_resize(fused, size), _resize(patches, size)]))
        return both[: len(fused)], both[len(fused) :]

    def _patches(self, fused, infrared, visible, generator, draws):
        """The fused patches that count, and the mask over all draws that says which they are."""
        if draws is None:
            draws = self.sampler.draw(len(fused), generator, tuple(fused.shape[-2:]))
        size = self.sampler.size
        patches = cut_patches(fused, draws, size)
        if self.entropy_threshold is None:
            return patches, torch.ones(len(patches), dtype=torch.bool, device=fused.device)
        with torch.no_grad():
            both = cut_patches(torch.cat([infrared, visible], dim=1), draws, size)
            mask = keep_mask(both[:, :1], both[:, 1:], self.entropy_threshold)
        return patches[mask], mask


def _resize(images: torch.Tensor, side: int) -> torch.Tensor:
    """To a square as CLIP is given it, see `ldf_utils.clip.model.ClipSpace.prepare`."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _no_rows(fused: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``(0, D)`` that hangs on the graph of ``fused``: a sum of it is 0, and so is its gradient."""
    return fused.flatten()[:0, None].expand(0, like.shape[1])
