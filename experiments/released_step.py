"""The training step of the released code, written plainly from its equations.

Two uses. It is the *reference* for our step: given the same weights, inputs and draws, both must
give the same loss and the same gradient. And it is what the benchmark
(`experiments.training_speed`) compares with: it does what the released step does, the costly things
included:

- patches are cut one draw after the other, by three transforms each, with three equal channels;
- CLIP is not frozen, so every backward pass computes gradients for weights that never change, and
  the sources are embedded with a graph;
- dropped patches are encoded as well, and their losses multiplied by 0;
- the directions of the words are worked out anew in each step, a row for every patch (the sentences
  themselves are encoded once, before the training);
- VGG19 runs to its end, although nothing after conv4_2 is looked at;
- everything is in float32.

Nothing here is meant to be fast, or used for anything else.

Source: arXiv:2402.16267 and the behavior of its released code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import record_function
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from ldf_utils.clip.model import PROMPTS, ClipSpace, Prompts
from ldf_utils.losses.fusion_loss import LossWeights
from ldf_utils.losses.patches import ReleasedDraws


class PlainVGG(nn.Module):
    """Run VGG19 as the released code does: all layers of ``features``, three equal channels.

    Args:
        features: the convolutional part of torchvision's VGG19.
        layers: the places to look at, after ReLU.
    """

    def __init__(self, features: nn.Sequential, layers: tuple[int, ...] = (6, 11, 22)):
        super().__init__()
        self.features, self.layers = features.requires_grad_(False), layers

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of ``(B, 1, H, W)`` images, one tensor a layer."""
        found, x = [], images.repeat(1, 3, 1, 1)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.layers:
                found.append(x)
        return found


def plain_patches(images: torch.Tensor, draws: ReleasedDraws, size: int) -> torch.Tensor:
    """Cut patches by torchvision, one draw after the other.

    Args:
        images: ``(B, C, H, W)``.
        draws: P of them.
        size: side of the patches.

    Returns:
        ``(P * B, C, size, size)``, rows ``p * B + b``.
    """
    patches = []
    for p in range(len(draws)):
        left, top = (int(side[p]) for side in draws.corner)
        patch = TF.crop(images, top, left, draws.crop, draws.crop)
        patch = TF.affine(
            patch,
            angle=draws.degrees[p].item(),
            translate=[int(side[p]) for side in draws.shift],
            scale=draws.scale[p].item(),
            shear=[draws.shear[p].item(), 0.0],
            interpolation=InterpolationMode.NEAREST,
            fill=0.0,
        )
        patches.append(TF.resize(patch, [size, size], antialias=True))
    return torch.cat(patches)


def plain_entropy(patches: torch.Tensor) -> torch.Tensor:
    """Return the entropy in bits of each patch ``(N, C, h, w)`` in [0, 1], one after the other."""
    bits = []
    for patch in patches:
        share = torch.histc(patch.detach().flatten(), bins=256, min=0, max=1) / patch.numel()
        share = share[share > 0]
        bits.append(-(share * torch.log2(share)).sum())
    return torch.stack(bits)


class ReleasedStep:
    """Take the step of the released code with a network, CLIP, VGG19 and an optimizer.

    Args:
        network: what is trained, ``(infrared, visible)`` to the fused luminance.
        clip: its image tower gets gradients as in the release.
        features: ``(B, 1, H, W)`` to a list of tensors, such as `PlainVGG`; None leaves the
            perceptual term out.
        prompts: the three sentences.
        weights: of the terms.
        threshold: bits that both source patches have to exceed.
        learning_rate: of Adam.
    """

    def __init__(
        self,
        network: nn.Module,
        clip: ClipSpace,
        features: Callable[[torch.Tensor], list[torch.Tensor]] | None,
        prompts: Prompts = PROMPTS,
        weights: LossWeights | None = None,
        threshold: float = 6.0,
        learning_rate: float = 5e-4,
    ):
        self.network, self.clip, self.features = network, clip, features
        self.weights, self.threshold = weights or LossWeights(), threshold
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        self.sentences = clip.encode_text([prompts.infrared, prompts.visible, prompts.fused])

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings as CLIP gives them, before they are normalized."""
        size = (self.clip.image_size,) * 2
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        return self.clip.model.encode_image((images - self.clip.mean) / self.clip.std)

    def _direction(
        self, fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Compute the direction loss of each row; sources are repeated for the rows of patches."""
        rows = len(fused)
        infrared, visible = (x.repeat(rows // len(x), 1) for x in (infrared, visible))
        unit_fused = fused / fused.norm(dim=-1, keepdim=True)
        text_infrared, text_visible, text_fused = (
            x.repeat(rows, 1) for x in self.sentences.unsqueeze(1)
        )
        losses = fused.new_zeros(rows)
        for source, text in ((infrared, text_infrared), (visible, text_visible)):
            moved = unit_fused - source / source.norm(dim=-1, keepdim=True)
            said = text_fused - text
            losses = losses + 0.5 * (1 - F.cosine_similarity(moved, said, dim=1))
        return losses

    def perceptual(
        self, fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Return the perceptual term, a scalar."""
        assert self.features is not None
        total = fused.new_zeros(())
        for f, i, v in zip(*map(self.features, (fused, infrared, visible)), strict=True):
            total = total + ((f - torch.maximum(i, v)) ** 2).mean()
        return total

    def losses(
        self,
        fused: torch.Tensor,
        infrared: torch.Tensor,
        visible: torch.Tensor,
        draws: ReleasedDraws,
    ) -> dict[str, torch.Tensor]:
        """Return all terms and their weighted sum ``total``.

        Args:
            fused: ``(B, 1, H, W)`` in [0, 1], with a graph.
            infrared: the clean source, the same shape.
            visible: luminance, the same shape.
            draws: the patches to cut.
        """
        self.clip.model.requires_grad_(True)
        three = [x.repeat(1, 3, 1, 1) for x in (infrared, visible, fused)]
        with record_function("patches"):
            both = plain_patches(torch.cat(three), draws, self.clip.image_size)
            rows = both.view(len(draws), 3, len(fused), *both.shape[1:])
            patches = [rows[:, k].flatten(0, 1) for k in range(3)]
            enough = [plain_entropy(x) > self.threshold for x in patches[:2]]
            select = (enough[0] & enough[1]).to(fused)
        with record_function("CLIP, sources"):
            to_infrared, to_visible = (self._embed(x) for x in three[:2])
        with record_function("CLIP, forward"):
            to_fused, to_patches = self._embed(three[2]), self._embed(patches[2])
        terms = {
            "direction": self._direction(to_fused, to_infrared, to_visible).mean(),
            "patch": (self._direction(to_patches, to_infrared, to_visible) * select).mean(),
        }
        unit = [x / x.norm(dim=-1, keepdim=True) for x in (to_fused, to_infrared, to_visible)]
        terms["angle"] = (
            0.5 * (1 - F.cosine_similarity(unit[0], unit[1], dim=-1))
            + 0.5 * (1 - F.cosine_similarity(unit[0], unit[2], dim=-1))
        ).mean()
        if self.features is not None:
            terms["perceptual"] = self.perceptual(fused, infrared, visible)
        terms["total"] = sum(getattr(self.weights, name) * term for name, term in terms.items())
        terms["kept"] = select.mean()
        return terms

    def step(
        self,
        noisy: tuple[torch.Tensor, torch.Tensor],
        clean: tuple[torch.Tensor, torch.Tensor],
        draws: ReleasedDraws,
    ) -> dict[str, torch.Tensor]:
        """Take one step of the training.

        Args:
            noisy: infrared and visible as the network sees them.
            clean: the same as the losses see them.
            draws: the patches to cut.

        Returns:
            As `losses`.
        """
        self.optimizer.zero_grad()
        terms = self.losses(self.network(*noisy), *clean, draws)
        terms["total"].backward()
        self.optimizer.step()
        return terms


def released_rates(steps: int, rising: int, highest: float = 5e-4) -> list[float]:
    """Return the learning rates of the released schedulers, by running them.

    A warm-up that sets the rate and a decay that halves it are both stepped after each step of the
    first epoch, and after that never again. The decay counts steps, but its milestones (50, 60, ...
    100) are epochs: so the rate is halved for single steps of the warm-up, where the next step of
    the warm-up sets it again, and it never decays.

    Args:
        steps: of the training.
        rising: steps of the first epoch.
        highest: the rate that is asked for.

    Returns:
        One rate a step.
    """
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=highest)
    warming = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (x + 1) / rising)
    decaying = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, milestones=list(range(50, 101, 10)), gamma=0.5
    )
    rates = []
    for _ in itertools.repeat(None, min(steps, rising)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warming.step()
        decaying.step()
    return rates + [optimizer.param_groups[0]["lr"]] * (steps - len(rates))
