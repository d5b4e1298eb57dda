"""Adversarial images: optimized to please a CLIP, and nothing else.

A CLIP is differentiable, so an image can follow its gradient. Without a network that keeps the
image close to its sources, what comes out is patterns that people call damage (letters, relief,
colored noise). There are two ways, both from the mean of a pair:

* **free pixels**: every pixel is a parameter (as in adversarial examples, arXiv:1312.6199);
* **a free decoder**: a small convolutional network without bounds draws the image.

Both minimize any loss of an image. `AugmentedDirectionLoss` is the one of language-driven fusion in
its shortest form. The results serve as a test of a CLIP, and as examples of damage for one that is
still training (`optimize_negatives`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip.model import PROMPTS, ClipSpace, Prompts, bfloat16_pays
from ldf_utils.losses.direction import direction_loss, text_directions

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Images ``(B, 1, H, W)`` and their indices ``(B,)`` in the whole set to a scalar."""


class AugmentedDirectionLoss:
    """Compute L_dir (`ldf_utils.losses.direction.direction_loss`) on a random view of each image.

    The sources are seen whole. The image is seen whole half of the time, otherwise as a crop of 50
    to 80 percent that is rotated by up to 10 degrees and may be mirrored.

    Args:
        clip: the model that embeds images and sentences.
        infrared: ``(N, 1, H, W)`` in [0, 1].
        visible: luminance of the same shape.
        generator: draws the views.
        prompts: the three sentences.
        autocast: run the image tower in bfloat16.

    Raises:
        ValueError: as `ldf_utils.losses.direction.text_directions`.
    """

    def __init__(
        self,
        clip: ClipSpace,
        infrared: torch.Tensor,
        visible: torch.Tensor,
        generator: torch.Generator,
        prompts: Prompts = PROMPTS,
        autocast: bool = False,
    ):
        self.clip, self.generator, self.autocast = clip, generator, autocast
        self.directions = text_directions(clip, prompts)
        with torch.no_grad():
            self.infrared, self.visible = self._encode(infrared), self._encode(visible)

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            return self.clip.encode_image(images)

    def _views(self, images: torch.Tensor) -> torch.Tensor:
        count, side = len(images), self.clip.image_size
        draw = torch.rand(5, count, generator=self.generator)
        whole = draw[0] < 0.5
        zoom = torch.where(whole, 1.0, 0.5 + 0.3 * draw[1])
        angle = torch.where(whole, 0.0, math.radians(10) * (2 * draw[2] - 1))
        flip = torch.where(whole | (draw[3] < 0.5), 1.0, -1.0)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1] = zoom * flip * angle.cos(), -zoom * angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = zoom * flip * angle.sin(), zoom * angle.cos()
        place = 2 * torch.rand(count, 2, generator=self.generator) - 1
        theta[:, :, 2] = place * (1 - zoom)[:, None]
        grid = F.affine_grid(theta.to(images), [count, 1, side, side], align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def each(self, views: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return L_dir of each view as it is, ``(B,)`` in [0, 2]; ``index`` names the sources."""
        embeddings = self._encode(views)
        return direction_loss(
            embeddings, self.infrared[index], self.visible[index], self.directions
        )

    def __call__(self, images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return the mean of L_dir over one random view of each image."""
        return self.each(self._views(images), index).mean()


def optimize_pixels(
    loss: Loss, start: torch.Tensor, steps: int, learning_rate: float = 0.02
) -> torch.Tensor:
    """Minimize a loss over every pixel of the images.

    Args:
        loss: of images and their indices in ``start``.
        start: ``(N, 1, H, W)`` in [0, 1].
        steps: of Adam, on all images at once; after each, values are clamped to [0, 1].
        learning_rate: about how far a pixel moves in a step; it decays linearly to a tenth.

    Returns:
        ``(N, 1, H, W)`` in [0, 1].

    Raises:
        ValueError: if ``steps`` is below 1.
    """
    _check_steps(steps)
    pixels = start.detach().clone().requires_grad_(True)
    index = torch.arange(len(pixels))
    optimizer = torch.optim.Adam([pixels], lr=learning_rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - 0.9 * step / steps)
        (pixels.grad,) = torch.autograd.grad(loss(pixels, index), [pixels])
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


class FreeDecoder(nn.Module):
    """Fuse without bounds: four convolutions at half the size, then a sigmoid.

    The output starts near the mean of the sources and may become anything.

    Args:
        width: channels.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, dilation in ((8, 1), (width, 2), (width, 4)):
            layers += [
                nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation),
                nn.LeakyReLU(0.1),
            ]
        last = nn.Conv2d(width, 4, 3, padding=1)
        self.layers = nn.Sequential(*layers, last)
        nn.init.normal_(last.weight, std=0.01)
        assert last.bias is not None  # of the type of Conv2d
        nn.init.zeros_(last.bias)

    def forward(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Fuse two ``(B, 1, H, W)`` in [0, 1] with even sides to the same shape in (0, 1)."""
        pair = torch.cat([infrared, visible], 1)
        drawn = F.pixel_shuffle(self.layers(F.pixel_unshuffle(pair - 0.5, 2)), 2)
        return torch.sigmoid(torch.logit(pair.mean(1, keepdim=True), eps=0.02) + drawn)


def optimize_decoder(
    loss: Loss,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    steps: int,
    generator: torch.Generator,
    batch: int = 8,
    learning_rate: float = 3e-3,
) -> torch.Tensor:
    """Minimize a loss over the weights of one `FreeDecoder` for all pairs.

    Args:
        loss: of images and their indices in ``infrared``.
        infrared: ``(N, 1, H, W)`` in [0, 1], even sides.
        visible: luminance of the same shape.
        steps: of Adam.
        generator: draws the initial weights and the pairs of a step.
        batch: pairs of a step, at most N.
        learning_rate: it decays linearly to a tenth.

    Returns:
        ``(N, 1, H, W)`` in (0, 1): the output of the trained decoder for every pair.

    Raises:
        ValueError: if ``steps`` is below 1, or a side is odd.
    """
    _check_steps(steps)
    if infrared.shape[-1] % 2 or infrared.shape[-2] % 2:
        raise ValueError(f"height and width must be even, got a shape of {tuple(infrared.shape)}")
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        decoder = FreeDecoder().to(infrared.device)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=learning_rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - 0.9 * step / steps)
        index = torch.randperm(len(infrared), generator=generator)[:batch]
        optimizer.zero_grad(set_to_none=True)
        loss(decoder(infrared[index], visible[index]), index).backward()
        optimizer.step()
    pairs = zip(infrared.split(batch), visible.split(batch), strict=True)
    with torch.no_grad():
        return torch.cat([decoder(*pair) for pair in pairs])


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")


def optimize_negatives(
    clip: ClipSpace,
    scenes: Mapping[str, torch.Tensor],
    steps: int,
    generator: torch.Generator,
    prompts: Prompts = PROMPTS,
    autocast: bool | None = None,
) -> torch.Tensor:
    """Optimize adversarial images: the first half as free pixels, the second by a free decoder.

    Pixels start from the mean and from the maximum of the sources in turns, with slight noise, so
    that the results differ in more than their scene. The image tower takes most of the time.

    Args:
        clip: a frozen model; `ldf_utils.clip.model.ClipSpace` freezes the model that it is given,
            so wrap a copy of one that is being trained.
        scenes: ``infrared`` and ``visible``, each ``(N, H, W)`` uint8 with even sides, as in
            `experiments.embedded_clip.pieces.Pieces.read`; other keys are ignored.
        steps: of each optimization; damage shows after 60 to 150.
        generator: draws views, noise, weights and batches.
        prompts: the three sentences.
        autocast: run the image tower in bfloat16; None: where that is faster on this processor.

    Returns:
        ``(N, H, W)`` uint8, in the order of the scenes.

    Raises:
        ValueError: for another shape or type, fewer than two scenes, or ``steps`` below 1.
    """
    infrared, visible = scenes["infrared"], scenes["visible"]
    if infrared.ndim != 3 or infrared.shape != visible.shape or infrared.dtype != torch.uint8:
        raise ValueError(
            "infrared and visible must be uint8 of one shape (N, H, W), got "
            f"{tuple(infrared.shape)} and {tuple(visible.shape)}, {infrared.dtype}"
        )
    if len(infrared) < 2:
        raise ValueError(
            "there must be >= 2 scenes, one for the pixels and one for the decoder, got "
            f"{len(infrared)}"
        )
    autocast = bfloat16_pays(infrared.device) if autocast is None else autocast
    half = (len(infrared) + 1) // 2
    infrared, visible = infrared[:, None].float() / 255, visible[:, None].float() / 255
    first, second = (infrared[:half], visible[:half]), (infrared[half:], visible[half:])
    start = (first[0] + first[1]) / 2
    start[1::2] = torch.maximum(*first)[1::2]
    start = (start + 0.02 * torch.randn(start.shape, generator=generator)).clamp(0, 1)
    loss = AugmentedDirectionLoss(clip, *first, generator, prompts, autocast)
    by_pixels = optimize_pixels(loss, start, steps)
    loss = AugmentedDirectionLoss(clip, *second, generator, prompts, autocast)
    by_decoder = optimize_decoder(loss, *second, steps, generator)
    return (torch.cat([by_pixels, by_decoder])[:, 0] * 255).round().to(torch.uint8)
