"""The whole loss of language-driven fusion: four terms, weighted and added.

With the cosines of `ldf_utils.losses.direction` (infrared side and visible side):

    L_dir   = 1/2 [1 - cos(d_ir, D_ir)] + 1/2 [1 - cos(d_vi, D_vi)]
    L_patch = the same, of patches of the fused image against the whole source images
    L_angle = 1/2 [1 - cos(E_f, E_ir)] + 1/2 [1 - cos(E_f, E_vi)]
    L_perc  = sum over layers of MSE(F(fused), max(F(infrared), F(visible)))
    L       = 2 L_dir + 10 L_patch + 6 L_angle + 10 L_perc

In words: go where the sentences point, in every part of the image, but no farther than needed, and
keep what the sources show. Each term is a pure function of embeddings or images in a file of its
own; `FusionLoss` holds CLIP, the prompts and the weights, and calls them.

Source: Wang et al., arXiv:2402.16267.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.profiler import record_function

from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.clip.model import PROMPTS, ClipSpace, Prompts
from ldf_utils.losses.direction import (
    TextDirections,
    angle_loss,
    direction_loss,
    patch_direction_loss,
    text_directions,
)
from ldf_utils.losses.entropy_filter import PatchFilter
from ldf_utils.losses.patches import PatchSampler, ReleasedDraws, cut_patches
from ldf_utils.losses.perceptual import PerceptualLoss


@dataclass(frozen=True)
class LossWeights:
    """Weight each term; a term of weight 0 is not computed. The defaults are the paper's.

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
                raise ValueError(f"the weight {name} must be finite and >= 0, got {value}")
        if not any(asdict(self).values()):
            raise ValueError("all loss weights are 0, so there is nothing to learn from")


@dataclass(frozen=True)
class LossTerms:
    """Hold what `FusionLoss` returns.

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
    """Compute the weighted sum of direction, patch, angle and perceptual term.

    Embeddings of the sources are computed without a graph, and CLIP is frozen and kept in eval
    mode: gradients are computed for the fused image only. Only the patches that pass the filter
    are encoded. Each part of the work is a `torch.profiler.record_function` of its name
    (``CLIP, sources``, ``patches``, ``CLIP, forward``, ``perceptual, forward``).

    Args:
        clip: a `ClipSpace`, or its frozen form `ldf_utils.clip.frozen.FrozenClip`, which is faster;
            None if direction, patch and angle all have weight 0.
        prompts: the three sentences.
        weights: of the terms; 0 switches one off.
        sampler: how patches are drawn; the paper's at the input size of ``clip`` if None.
        entropy_threshold: bits that both source patches must exceed; None keeps every patch.
        mean_over: ``"all"`` or ``"kept"``, see `patch_direction_loss`.
        ignore_below: see `patch_direction_loss`.
        perceptual: a `PerceptualLoss`, or the features of one; used if its weight is above 0.
        patch_filter: the rule of `PatchFilter`.
        filter_sources: whose bits the filter asks for, see `PatchFilter`.
        patch_sources: what a fused patch is compared with: ``"whole"`` source images, or
            ``"patch"``, its own view of them; see `patch_direction_loss`.
        direction_text: see `text_directions`.
        direction_image: see `direction_cosines`.

    Raises:
        ValueError: as `text_directions` and `PerceptualLoss`, and if a term needs a CLIP that is
            not there.

    Example:
        >>> from ldf_utils.clip.loading import load_clip
        >>> loss = FusionLoss(load_clip("mini"))
        >>> images = torch.rand(3, 2, 1, 128, 128)
        >>> loss(*images).total.shape
        torch.Size([])
    """

    def __init__(
        self,
        clip: ClipSpace | FrozenClip | None,
        prompts: Prompts = PROMPTS,
        weights: LossWeights | None = None,
        sampler: PatchSampler | None = None,
        entropy_threshold: float | None = 6.0,
        mean_over: str = "all",
        ignore_below: float = 0.0,
        perceptual: str | nn.Module = "filterbank",
        *,
        patch_filter: str = "bits",
        filter_sources: str = "both",
        patch_sources: str = "whole",
        direction_text: str = "difference",
        direction_image: str = "difference",
    ):
        super().__init__()
        self.weights = weights or LossWeights()
        if entropy_threshold is None:
            patch_filter, entropy_threshold = "none", 0.0
        self.filter = PatchFilter(patch_filter, entropy_threshold, filter_sources)
        self.patch_sources, self.direction_image = patch_sources, direction_image
        self.mean_over, self.ignore_below = mean_over, ignore_below
        self.clip: ClipSpace | FrozenClip | None = None
        self.perceptual: PerceptualLoss | None = None
        if self.weights.direction or self.weights.patch or self.weights.angle:
            if clip is None:
                raise ValueError(
                    "the direction, patch and angle terms need a CLIP, got None; give one (see "
                    "ldf_utils.clip.loading.load_clip) or set their weights to 0"
                )
            self.clip = clip.requires_grad_(False)
            self.sampler = sampler or PatchSampler(size=clip.image_size)
            self.directions = text_directions(clip, prompts, direction_text)
        if self.weights.perceptual:
            if not isinstance(perceptual, PerceptualLoss):
                perceptual = PerceptualLoss(perceptual)
            self.perceptual = perceptual
        self.train(self.training)

    def train(self, mode: bool = True) -> FusionLoss:
        """Set the mode as `torch.nn.Module.train`, but keep CLIP in eval mode."""
        super().train(mode)
        if self.clip is not None:
            self.clip.eval()
        return self

    def embed_sources(
        self, infrared: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Embed the sources, without a graph.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1].
            visible: luminance, the same shape.

        Returns:
            ``(B, D)`` each, normalized; None if no term needs them.
        """
        if self.clip is None:
            return None
        with torch.no_grad(), record_function("CLIP, sources"):
            both = self.clip.encode_image(torch.cat([infrared, visible]))
        return both[: len(infrared)], both[len(infrared) :]

    def forward(
        self,
        fused: torch.Tensor,
        infrared: torch.Tensor,
        visible: torch.Tensor,
        generator: torch.Generator | None = None,
        sources: tuple[torch.Tensor, torch.Tensor] | None = None,
        draws: torch.Tensor | ReleasedDraws | None = None,
        directions: TextDirections | None = None,
    ) -> LossTerms:
        """Compute the loss of a batch.

        Args:
            fused: ``(B, 1, H, W)`` in [0, 1], with a graph.
            infrared: the same shape.
            visible: luminance, the same shape.
            generator: where the patches come from; torch's own if None.
            sources: what `embed_sources` gave for these sources, where they are the same as
                before; computed if None.
            draws: the patches to cut, as of `PatchSampler.draw`; drawn if None.
            directions: what the words say, if not what ``prompts`` says: of one sentence, or of one
                for each image.

        Returns:
            The total and its terms.

        Raises:
            ValueError: if the shapes differ or are not luminance.
        """
        _check_shapes(fused, infrared, visible)
        terms: dict[str, torch.Tensor] = {}
        kept = None
        if self.clip is not None:
            sources = sources or self.embed_sources(infrared, visible)
            assert sources is not None  # there is a CLIP
            said = self.directions if directions is None else directions
            directions = said.to(device=fused.device, dtype=fused.dtype)
            if self.weights.direction or self.weights.angle:
                with record_function("CLIP, forward"):
                    whole = self.clip.encode_image(fused)
                if self.weights.direction:
                    terms["direction"] = direction_loss(
                        whole, *sources, directions, self.direction_image
                    ).mean()
            if self.weights.patch:
                patches, views, mask = self._embed_patches(
                    fused, infrared, visible, generator, draws
                )
                kept = mask.float().mean().item()
                terms["patch"] = patch_direction_loss(
                    patches,
                    *(views or sources),
                    directions,
                    mask,
                    self.mean_over,
                    self.ignore_below,
                    self.direction_image,
                    self.patch_sources,
                )
            if self.weights.angle:
                terms["angle"] = angle_loss(whole, *sources).mean()
        if self.perceptual is not None and self.weights.perceptual:
            with record_function("perceptual, forward"):
                terms["perceptual"] = self.perceptual(fused, infrared, visible)
        weighted = [getattr(self.weights, name) * term for name, term in terms.items()]
        total = sum(weighted[1:], weighted[0])
        return LossTerms(total, {name: term.detach() for name, term in terms.items()}, kept)

    def _embed_patches(
        self,
        fused: torch.Tensor,
        infrared: torch.Tensor,
        visible: torch.Tensor,
        generator: torch.Generator | None,
        draws: torch.Tensor | ReleasedDraws | None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None, torch.Tensor]:
        """Embeddings of the fused patches that count, of their own sources, and the mask."""
        assert self.clip is not None
        own, views = self.patch_sources == "patch", None
        with record_function("patches"):
            if draws is None:
                draws = self.sampler.draw(len(fused), generator, (fused.shape[-2], fused.shape[-1]))
            size = self.sampler.size
            patches = cut_patches(fused, draws, size)
            mask = torch.ones(len(patches), dtype=torch.bool, device=fused.device)
            if own or self.filter.rule != "none":
                with torch.no_grad():
                    images = torch.cat([infrared, visible], dim=1)
                    both = cut_patches(images, draws, size)
                    mask = self.filter.keep(both, images)
        if own and mask.any():
            views = self.embed_sources(both[mask, :1], both[mask, 1:])
        with record_function("CLIP, forward"):
            if mask.any():
                return self.clip.encode_image(patches[mask]), views, mask
        # no row, but on the graph of the fused image: a sum of it is 0, and so is its gradient
        empty = fused.flatten()[:0, None].expand(0, self.clip.dim)
        return empty, (empty, empty) if own else None, mask


def _check_shapes(fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor) -> None:
    if (
        fused.ndim != 4
        or fused.shape[1] != 1
        or not (fused.shape == infrared.shape == visible.shape)
    ):
        raise ValueError(
            "fused, infrared and visible must be luminance of one shape (B, 1, H, W), got "
            f"{tuple(fused.shape)}, {tuple(infrared.shape)} and {tuple(visible.shape)}; "
            "data.images.luminance turns color into luminance"
        )
