"""The two steps that are compared, each with the same questions, and what they are fed."""

from __future__ import annotations

import copy
from dataclasses import replace

import open_clip
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg

from experiments.released_step import PlainVGG, ReleasedStep, plain_entropy
from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.clip.loading import OPENAI_MODEL
from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.pairs import Pair
from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler, ReleasedDraws, cut_patches
from ldf_utils.losses.perceptual import PerceptualLoss, VGG19Features
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.step import Prepared, gradients

Two = tuple[torch.Tensor, torch.Tensor]


def random_clip(seed: int = 0) -> ClipSpace:
    """Return a CLIP of the size of ViT-B/32 whose weights are random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(OPENAI_MODEL, pretrained=None)
    return ClipSpace(model, open_clip.get_tokenizer(OPENAI_MODEL), "random ViT-B/32")


def random_vgg(seed: int = 0) -> nn.Sequential:
    """Return the convolutional part of VGG19 with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        features = vgg.make_layers(vgg.cfgs["E"], batch_norm=False)
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    return features.eval()


def example_pairs(count: int, side: int, seed: int = 0) -> list[Pair]:
    """Make up pairs of smooth pictures whose noise differs from place to place."""
    generator = torch.Generator().manual_seed(seed)

    def picture() -> torch.Tensor:
        coarse = torch.rand(2, 1, 7, 7, generator=generator)
        smooth, amount = F.interpolate(coarse, (side, side), mode="bilinear").unbind()
        noise = torch.randn(1, side, side, generator=generator)
        return (smooth + 0.1 * amount**4 * noise).clamp(0, 1)

    return [Pair(str(k), picture(), picture()) for k in range(count)]


def draws_of(batch: Prepared, sampler: PatchSampler) -> ReleasedDraws:
    """Return the patches that both steps cut for a batch."""
    generator = torch.Generator().manual_seed(batch.seed)
    height, width = batch.infrared.shape[-2:]
    draws = sampler.draw(len(batch.infrared), generator, (height, width))
    assert isinstance(draws, ReleasedDraws)
    return draws


def halving_threshold(batch: Prepared, sampler: PatchSampler) -> float:
    """Return the bits that one half of the patches of a batch exceed in both sources."""
    both = cut_patches(
        torch.cat([batch.infrared, batch.visible], dim=1), draws_of(batch, sampler), sampler.size
    )
    bits = torch.minimum(plain_entropy(both[:, :1]), plain_entropy(both[:, 1:])).sort().values
    return bits[len(bits) // 2 - 1 :][:2].mean().item()


def both_to(images: Two, device: torch.device) -> Two:
    """Bring two tensors to a device."""
    return images[0].to(device), images[1].to(device)


class Ours:
    """Network, loss and optimizer as `ldf_utils.training.trainer.fit` uses them."""

    def __init__(
        self,
        network: nn.Module,
        clip: ClipSpace,
        features: nn.Sequential,
        sampler: PatchSampler,
        config: TrainConfig,
        device: torch.device,
    ):
        self.network, self.config, self.device = network, config, device
        self.criterion = FusionLoss(
            FrozenClip(clip, config.autocast, config.compile),
            config.prompts,
            config.weights,
            sampler,
            config.entropy_threshold,
            perceptual=PerceptualLoss(
                VGG19Features(features), True, config.autocast, config.compile
            ),
        ).to(device)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)

    def gradient(self, batch: Prepared) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        batch = replace(batch, generator=torch.Generator().manual_seed(batch.seed))
        return gradients(self.network, self.criterion, [batch], self.config, self.device)[0]

    def step(self, batch: Prepared) -> None:
        self.gradient(batch)
        nn.utils.clip_grad_norm_(self.network.parameters(), float("inf"))
        self.optimizer.step()

    def language(self, fused: torch.Tensor, clean: Two, batch: Prepared) -> torch.Tensor:
        alone = copy.copy(self.criterion)
        alone.weights = replace(alone.weights, perceptual=0.0)
        return alone(fused, *clean, torch.Generator().manual_seed(batch.seed)).total

    def perceptual(self, fused: torch.Tensor, clean: Two) -> torch.Tensor:
        assert self.criterion.perceptual is not None
        return self.criterion.weights.perceptual * self.criterion.perceptual(fused, *clean)


class Released:
    """The same questions to `experiments.released_step`."""

    def __init__(
        self,
        network: nn.Module,
        clip: ClipSpace,
        features: nn.Sequential,
        sampler: PatchSampler,
        config: TrainConfig,
        device: torch.device,
    ):
        self.network, self.sampler, self.device, self.config = network, sampler, device, config
        plain = PlainVGG(features).to(device)
        self.reference = ReleasedStep(
            network, clip, plain, config.prompts, config.weights, config.entropy_threshold
        )
        self.optimizer = self.reference.optimizer

    def _move(self, batch: Prepared) -> tuple[Two, Two]:
        return both_to(batch.noisy, self.device), both_to(
            (batch.infrared, batch.visible), self.device
        )

    def gradient(self, batch: Prepared) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        noisy, clean = self._move(batch)
        fused = self.network(*noisy)
        terms = self.reference.losses(fused, *clean, draws_of(batch, self.sampler))
        terms["total"].backward()
        return {name: term.item() for name, term in terms.items()}

    def step(self, batch: Prepared) -> None:
        noisy, clean = self._move(batch)
        draws = draws_of(batch, self.sampler)
        self.reference.step(noisy, clean, draws)

    def language(self, fused: torch.Tensor, clean: Two, batch: Prepared) -> torch.Tensor:
        alone = copy.copy(self.reference)
        alone.features = None
        return alone.losses(fused, *clean, draws_of(batch, self.sampler))["total"]

    def perceptual(self, fused: torch.Tensor, clean: Two) -> torch.Tensor:
        return self.reference.weights.perceptual * self.reference.perceptual(fused, *clean)
