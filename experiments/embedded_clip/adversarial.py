"""Attack: pictures that please the judge and nobody else.

A judge that can be differentiated can be cheated: follow its gradient without a network that holds
the picture to its sources, and it is content with patterns that people call damage (letters,
emboss, rainbows of noise). Two ways to go there, from the mean of a pair:

* **free pixels**: every pixel is a parameter (as in adversarial examples, arXiv:1312.6199);
* **a free decoder**: a small convolutional network without bounds makes the picture.

Both follow any loss of a picture. `WordPull` is the one of language-driven fusion in its shortest
form: the direction loss of arXiv:2402.16267 on whole pictures and on turned crops in turns. The
pictures that come out serve twice: as a test of a judge, and as examples of damage for one that is
still learning (`optimised_negatives`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip.model import PROMPTS, ClipSpace, Prompts, bfloat16_pays

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Pictures ``(B, 1, H, W)`` and their places ``(B,)`` in the whole set to a scalar."""


class WordPull:
    """How far pictures are from going where the words point; each call looks at other views.

    ``1 - 1/2 cos(E_f - E_ir, V_f - V_ir) - 1/2 cos(E_f - E_vi, V_f - V_vi)`` (arXiv:2402.16267),
    with the sources seen whole, and the picture, one half of the time, as a crop of 50 to 80
    percent that is turned by up to 10 degrees and mirrored or not.

    Args:
        clip: the judge.
        infrared: ``(N, 1, H, W)`` in [0, 1].
        visible: luminance of the same shape.
        generator: draws the views.
        prompts: the three sentences.
        autocast: run the image tower in bfloat16.
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
        ir_words, vi_words, goal = clip.encode_text(
            [prompts.infrared, prompts.visible, prompts.fused]
        )
        self.words = torch.stack([goal - ir_words, goal - vi_words])
        with torch.no_grad():
            self.sources = torch.stack([self._encode(infrared), self._encode(visible)])

    def _encode(self, pictures: torch.Tensor) -> torch.Tensor:
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.autocast):
            return self.clip.encode_image(pictures)

    def _views(self, pictures: torch.Tensor) -> torch.Tensor:
        count, side = len(pictures), self.clip.image_size
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
        grid = F.affine_grid(theta.to(pictures), [count, 1, side, side], align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)

    def each(self, views: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The loss of each view as it is, ``(B,)`` in [0, 2]; ``index`` are their sources."""
        steps = self._encode(views)[None] - self.sources[:, index]
        return 1 - F.cosine_similarity(steps, self.words[:, None], dim=-1, eps=1e-4).mean(0)

    def __call__(self, pictures: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The mean loss of one random view of each picture; ``index`` are their sources."""
        return self.each(self._views(pictures), index).mean()


def free_pixels(
    loss: Loss, start: torch.Tensor, steps: int, learning_rate: float = 0.02
) -> torch.Tensor:
    """Follow the gradient of a loss with every pixel.

    Args:
        loss: of pictures and their places in ``start``, to make small.
        start: ``(N, 1, H, W)`` in [0, 1].
        steps: of Adam, all pictures in each; after each, values are cut to [0, 1].
        learning_rate: about how far a pixel moves in a step; it falls to a tenth in a line.

    Returns:
        ``(N, 1, H, W)`` in [0, 1].

    Raises:
        ValueError: for less than one step.
    """
    _need_steps(steps)
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
    """A fusion network without bounds: four convolutions at half the size, then a sigmoid.

    It starts near the mean of the sources and may draw whatever it likes.

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
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 4, 3, padding=1))
        nn.init.normal_(self.layers[-1].weight, std=0.01)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """``(B, 1, H, W)`` in [0, 1] twice, with even sides, to the same shape in (0, 1)."""
        pair = torch.cat([infrared, visible], 1)
        drawn = F.pixel_shuffle(self.layers(F.pixel_unshuffle(pair - 0.5, 2)), 2)
        return torch.sigmoid(torch.logit(pair.mean(1, keepdim=True), eps=0.02) + drawn)


def free_decoder(
    loss: Loss,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    steps: int,
    generator: torch.Generator,
    batch: int = 8,
    learning_rate: float = 3e-3,
) -> torch.Tensor:
    """Follow the gradient of a loss with one free decoder for all pairs.

    Args:
        loss: of pictures and their places in ``infrared``, to make small.
        infrared: ``(N, 1, H, W)`` in [0, 1], even sides.
        visible: luminance of the same shape.
        steps: of Adam.
        generator: draws the first weights and the pairs of a step.
        batch: pairs of a step, at most N.
        learning_rate: it falls to a tenth in a line.

    Returns:
        ``(N, 1, H, W)`` in (0, 1), what the trained decoder makes of every pair.

    Raises:
        ValueError: for less than one step, or odd sides.
    """
    _need_steps(steps)
    if infrared.shape[-1] % 2 or infrared.shape[-2] % 2:
        raise ValueError(f"expected pictures with even sides, found {tuple(infrared.shape)}")
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


def _need_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"expected at least 1 step, found {steps}")


def optimised_negatives(
    clip: ClipSpace,
    scenes: Mapping[str, torch.Tensor],
    steps: int,
    generator: torch.Generator,
    prompts: Prompts = PROMPTS,
    autocast: bool | None = None,
) -> torch.Tensor:
    """Pictures that please this judge for bad reasons: the first half by pixels, then by a decoder.

    Pixels start from the mean and from the maximum of the sources in turns, with a trace of noise,
    so that the results differ in more than their scene. The time goes into the image tower: about
    three quarters of a picture of ``scenes`` through it, there and back, a step.

    Args:
        clip: the judge, frozen; `ldf_utils.clip.model.ClipSpace` freezes the model that it is
            given, so wrap a copy of one that is being trained.
        scenes: ``infrared`` and ``visible``, each ``(N, H, W)`` uint8 with even sides, as in
            `experiments.embedded_clip.dataset.load_scenes`; other keys are not looked at.
        steps: of each optimization; 60 to 150 are enough for damage that shows.
        generator: draws views, noise, weights and batches.
        prompts: the sentences to please.
        autocast: run the image tower in bfloat16; None: where that is faster on this processor.

    Returns:
        ``(N, H, W)`` uint8, in the order of the scenes.

    Raises:
        ValueError: for another shape or type, fewer than two scenes, or less than one step.
    """
    infrared, visible = scenes["infrared"], scenes["visible"]
    if infrared.ndim != 3 or infrared.shape != visible.shape or infrared.dtype != torch.uint8:
        raise ValueError(
            "expected infrared and visible of one shape (N, H, W), uint8, found "
            f"{tuple(infrared.shape)} and {tuple(visible.shape)}, {infrared.dtype}"
        )
    if len(infrared) < 2:
        raise ValueError("expected at least 2 scenes, one for the pixels and one for the decoder")
    autocast = bfloat16_pays(infrared.device) if autocast is None else autocast
    half = (len(infrared) + 1) // 2
    infrared, visible = infrared[:, None].float() / 255, visible[:, None].float() / 255
    first, second = (infrared[:half], visible[:half]), (infrared[half:], visible[half:])
    start = (first[0] + first[1]) / 2
    start[1::2] = torch.maximum(*first)[1::2]
    start = (start + 0.02 * torch.randn(start.shape, generator=generator)).clamp(0, 1)
    pull = WordPull(clip, *first, generator, prompts, autocast)
    by_pixels = free_pixels(pull, start, steps)
    pull = WordPull(clip, *second, generator, prompts, autocast)
    by_decoder = free_decoder(pull, *second, steps, generator)
    return (torch.cat([by_pixels, by_decoder])[:, 0] * 255).round().to(torch.uint8)
