"""The losses of language-driven fusion: direction, angle, patches, perception, and their sum.

With the cosines of `ldf_utils.direction` (infrared side and visible side):

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

import contextlib
import math
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip_space import PROMPTS, ClipSpace, Prompts
from ldf_utils.direction import TextDirections, direction_cosines, text_directions
from ldf_utils.patches import PatchSampler, ReleasedDraws, cut_patches, keep_mask
from ldf_utils.towers import LeanConvolutions, LeanVisionTransformer


def direction_loss(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    directions: TextDirections,
) -> torch.Tensor:
    """How far the fused images went from where the words point.

    Args:
        fused: ``(B, D)`` normalized embeddings of the fused images.
        infrared: ``(B, D)`` of the infrared images.
        visible: ``(B, D)`` of the visible images.
        directions: what the words say.

    Returns:
        ``(B,)`` in [0, 2]: 0 along the words, 1 across them or nowhere, 2 against them. Its mean is
        L_direction of arXiv:2402.16267.
    """
    to_infrared, to_visible = direction_cosines(fused, infrared, visible, directions)
    return 1 - (to_infrared + to_visible) / 2


def angle_loss(fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """How far the fused images went from their sources, in any direction: the regularizer.

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
) -> torch.Tensor:
    """The direction loss of fused patches against their whole source images.

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

    Returns:
        A scalar; 0 with a gradient of 0 if no patch is kept.

    Raises:
        ValueError: if the counts do not fit or ``mean_over`` is another word.
    """
    if mean_over not in ("all", "kept"):
        raise ValueError(f"mean_over is 'all' or 'kept', found {mean_over!r}")
    batch = len(infrared)
    if kept is None:
        kept = torch.ones(len(patches), dtype=torch.bool, device=patches.device)
    rows = kept.nonzero().squeeze(1)
    if len(rows) != len(patches) or len(kept) % batch:
        raise ValueError(
            f"found {len(patches)} patches, {len(rows)} of {len(kept)} rows kept and {batch} "
            "images; expected one patch per kept row, and rows p * B + b for B images"
        )
    image = rows % batch
    losses = direction_loss(patches, infrared[image], visible[image], directions)
    if ignore_below > 0:
        losses = torch.where(losses > ignore_below, losses, torch.zeros_like(losses))
    return losses.sum() / max(1, len(kept) if mean_over == "all" else len(rows))


class FilterBank(nn.Module):
    """Edges and blobs at several scales: features that need no training and no download.

    At each scale: first derivatives of a Gaussian (sigma 1 pixel) in four directions and one
    difference of Gaussians (sigma 1 and 1.6), each split into its positive and its negative part,
    as in a layer of a convolutional network with ReLU: ten channels. The next scale sees the
    image at half the size.

    Args:
        scales: number of scales.
        contrast: the step between two flat areas, in [0, 1] units of the image, whose derivative
            is 1 at its peak. It sets the unit of the features: 0.2 is an edge that one sees well.
    """

    def __init__(self, scales: int = 4, contrast: float = 0.2):
        super().__init__()
        if scales < 1 or contrast <= 0:
            raise ValueError(
                f"expected scales >= 1 and contrast > 0, found scales={scales}, contrast={contrast}"
            )
        self.scales = scales
        x = torch.arange(-4, 5, dtype=torch.float64)
        narrow, wide = (torch.exp(-((x / sigma) ** 2) / 2) for sigma in (1.0, 1.6))
        narrow, wide = narrow / narrow.sum(), wide / wide.sum()
        across = torch.outer(narrow, x * narrow)
        across = across / across[:, x > 0].sum()  # a unit step gives 1
        blob = torch.outer(narrow, narrow) - torch.outer(wide, wide)
        blob = blob * (across.abs().sum() / blob.abs().sum())
        turns = [math.pi * quarter / 4 for quarter in range(4)]
        edges = [math.cos(turn) * across + math.sin(turn) * across.T for turn in turns]
        self.register_buffer("kernels", torch.stack([*edges, blob])[:, None].float() / contrast)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each scale.

        Args:
            images: ``(B, 1, H, W)``; sides of at least ``2 ** (scales - 1)`` pixels.

        Returns:
            One ``(B, 10, h, w)`` per scale, fine to coarse, non-negative.

        Raises:
            ValueError: for another shape or smaller images.
        """
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(f"expected luminance of shape (B, 1, H, W), found {images.shape}")
        if min(images.shape[-2:]) < 2 ** (self.scales - 1):
            raise ValueError(
                f"images of {images.shape[-1]} x {images.shape[-2]} pixels have no "
                f"{self.scales} scales; expected sides of at least {2 ** (self.scales - 1)}"
            )
        kernels, features = self.kernels.to(images.dtype), []
        for scale in range(self.scales):
            if scale:
                images = F.avg_pool2d(images, 2)
            response = F.conv2d(F.pad(images, (4, 4, 4, 4), mode="replicate"), kernels)
            features.append(F.relu(torch.cat([response, -response], dim=1)))
        return features


class VGG19Features(nn.Module):
    """Features of VGG19 trained on ImageNet: conv2_1, conv3_1 and conv4_2 after ReLU.

    As in the authors' code, the input is not normalized with ImageNet's mean and deviation. The
    weights (about 550 MB) are torchvision's; they are taken from torch's cache, or downloaded
    unless the environment variable HF_HUB_OFFLINE is set.

    Args:
        features: the convolutional part of a VGG19 to use in place of torchvision's trained one.

    Raises:
        RuntimeError: if the weights can neither be found nor downloaded. Features of random
            weights would look like a loss and mean nothing.
    """

    layers = (6, 11, 22)  # of torchvision's vgg19().features

    def __init__(self, features: nn.Sequential | None = None):
        super().__init__()
        features = self._trained() if features is None else features
        self.features = features[: max(self.layers) + 1].eval().requires_grad_(False)

    @staticmethod
    def _trained() -> nn.Sequential:
        from torchvision.models import VGG19_Weights, vgg19

        weights = VGG19_Weights.IMAGENET1K_V1
        name = weights.url.rsplit("/", 1)[-1]
        cached = Path(torch.hub.get_dir()) / "checkpoints" / name
        try:
            if not cached.is_file() and os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
                raise OSError("downloads are switched off by HF_HUB_OFFLINE")
            with _socket_timeout(10):
                state = weights.get_state_dict(progress=True, check_hash=True)
            with torch.device("meta"):  # only the convolutions get memory, by assignment
                network = vgg19(weights=None)
            features = {k[9:]: v for k, v in state.items() if k.startswith("features.")}
            network.features.load_state_dict(features, assign=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise RuntimeError(
                f"the perceptual loss 'vgg19' needs the weights {name}, which are not at {cached} "
                f"and could not be had ({error}). Put the file there, or use "
                "perceptual='filterbank', which needs none"
            ) from error
        return network.features

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each layer.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1]; the channel is repeated to three.

        Returns:
            Features after ReLU with 128, 256 and 512 channels at 1/2, 1/4 and 1/8 of the size.
        """
        features, x = [], images.expand(-1, 3, -1, -1)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.layers:
                features.append(x)
        return features


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Without it, a download on a machine whose network swallows packets hangs for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class PerceptualLoss(nn.Module):
    """The fused image should show whatever the sources show: the stronger feature of the two.

    ``sum over layers of MSE(features(fused), max(features(infrared), features(visible)))``, with
    the maximum taken feature by feature (arXiv:2402.16267).

    Args:
        features: ``"filterbank"`` (`FilterBank`: no weights), ``"vgg19"`` (`VGG19Features`: the
            paper's), ``"auto"`` (VGG19 where its weights can be had, else the filter bank), or a
            module that maps ``(B, 1, H, W)`` to a list of tensors.
        lean: run VGG19 as a `ldf_utils.towers.LeanConvolutions`.
        autocast: run VGG19 in bfloat16; without ``lean`` by autocasting.

    Attributes:
        name: of the features in use.
        missing: why the filter bank stands in for VGG19, or None.

    Raises:
        ValueError: for another word.
        RuntimeError: if VGG19's weights cannot be had.
    """

    def __init__(
        self,
        features: str | nn.Module = "filterbank",
        lean: bool = False,
        autocast: bool = False,
    ):
        super().__init__()
        self.name = features if isinstance(features, str) else type(features).__name__
        self.missing: str | None = None
        if self.name == "auto":
            try:
                self.name, features = "vgg19", VGG19Features()
            except RuntimeError as error:
                self.name, features, self.missing = "filterbank", FilterBank(), str(error)
        if isinstance(features, str):
            kinds = {"filterbank": FilterBank, "vgg19": VGG19Features}
            if features not in kinds:
                raise ValueError(
                    f"unknown perceptual loss {features!r}; expected one of {', '.join(kinds)}"
                )
            features = kinds[features]()
        self.autocast = autocast and isinstance(features, VGG19Features)
        if lean and isinstance(features, VGG19Features):
            dtype = torch.bfloat16 if autocast else torch.float32
            features = LeanConvolutions(features.features, features.layers, dtype)
            self.autocast = False
        self.features = features

    def _look(self, images: torch.Tensor) -> list[torch.Tensor]:
        if not self.autocast:
            return self.features(images)
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.features(images)

    def forward(
        self, fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch.

        Args:
            fused: ``(B, 1, H, W)`` in [0, 1].
            infrared: the same shape; no gradient flows to it.
            visible: the same shape; no gradient flows to it.

        Returns:
            A scalar, at least 0.
        """
        with torch.no_grad():
            infrared, visible = self._look(infrared), self._look(visible)
            wanted = [torch.maximum(*both) for both in zip(infrared, visible, strict=True)]
        return sum(
            F.mse_loss(_at_least_float(got), _at_least_float(want))
            for got, want in zip(self._look(fused), wanted, strict=True)
        )


def _at_least_float(x: torch.Tensor) -> torch.Tensor:
    """Squares are summed in float32 or better, whatever the features were computed in."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


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
        lean: run CLIP and VGG19 as `ldf_utils.towers`, where their kind is known, and the fused
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
    """To a square as CLIP is given it, see `ldf_utils.clip_space.ClipSpace.prepare`."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _no_rows(fused: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``(0, D)`` that hangs on the graph of ``fused``: a sum of it is 0, and so is its gradient."""
    return fused.flatten()[:0, None].expand(0, like.shape[1])
