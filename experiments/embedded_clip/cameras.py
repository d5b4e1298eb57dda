"""Random cameras for packed squares: from light and warmth to the images that a CLIP sees.

The same scene is seen by another camera each time it is drawn: exposure, noise, blur and tone curve
of the visible one; automatic gain of several kinds, polarity, noise, blur, detail enhancement and
tone curve of the infrared one. Variety of cameras is what carries over to real images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F

from experiments.embedded_clip.augmentation import randomize_tones, uniform
from experiments.embedded_clip.pieces import QUANTILES, decode_light, decode_warmth
from ldf_utils.data.blur import gaussian_blur

BLACK_HOT = 0.25
"""Share of the infrared cameras that show warm as dark."""


class Shot(NamedTuple):
    """What cameras made of G squares: images ``(G, 1, H, W)`` in [0, 1], and ``(G,)`` bool.

    Attributes:
        image: the images.
        blurred: which may be blurred.
        noisy: which may be noisy.
    """

    image: torch.Tensor
    blurred: torch.Tensor
    noisy: torch.Tensor


def _wide_blur(images: torch.Tensor) -> torch.Tensor:
    """Blur widely, at an eighth of the size."""
    small = gaussian_blur(F.avg_pool2d(images, 8), 1.5)
    return F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)


def _soften(
    images: torch.Tensor, share: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blur images by a random amount, clearly only a share of them; return which."""
    count = len(images)
    strong = uniform(count, 0, 1, generator) < share
    amount = torch.where(strong, uniform(count, 0.7, 1, generator), uniform(count, 0, 1, generator))
    wide = gaussian_blur(images, 1.3)
    fine = gaussian_blur(images, 0.6)
    soft = torch.where(strong, fine.lerp(wide, amount), images.lerp(fine, amount))
    return soft, strong.flatten()


def _sharpen(images: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    amount = most * uniform(len(images), 0, 1, generator) ** 2
    return images + amount * (images - gaussian_blur(images, 1.0))


def visible_camera(stored: torch.Tensor, gain: torch.Tensor, generator: torch.Generator) -> Shot:
    """Draw a visible camera for each square and let it see.

    Exposure is automatic, within 1.5 stops; by night the longest exposure limits it, so that the
    image stays dark or becomes noisy.

    Args:
        stored: ``(G, 1, H, W)`` uint8 as `experiments.embedded_clip.packing.encode_light`.
        gain: ``(G,)`` log2 of the neutral exposure of the scene.
        generator: draws the cameras.
    """
    count = len(stored)

    def draw(low: float, high: float) -> torch.Tensor:
        return uniform(count, low, high, generator)

    stops = draw(-1.5, 1.3)
    most = draw(3.0, 7.0)  # log2 of the longest exposure
    needed = gain.view(-1, 1, 1, 1)
    stops = torch.minimum(stops + needed, torch.maximum(most, needed - 3.5)) - needed
    light = decode_light(stored) * torch.exp2(stops)
    glare = 0.14 * draw(0, 1) ** 2
    light = light.clamp(max=30.0)
    light = light.lerp(_wide_blur(light), glare)
    light, blurred = _soften(light, 0.12, generator)
    boost = torch.exp2(((needed + stops) - 3).clamp(0, 6) / 2)
    sigma = (draw(0.0, 0.012) * boost).clamp(max=0.12)
    light = light + sigma * (0.3 + light.clamp(0, 1)).sqrt() * torch.randn(
        light.shape, generator=generator
    )
    light = light.clamp_min(0)
    shoulder = draw(0.1, 0.6)
    image = light * (1 + shoulder) / (1 + shoulder * light)
    image = image.clamp(1e-5, 1) ** (1 / draw(1.8, 2.6))
    image = 0.5 + (image - 0.5) * draw(0.8, 1.3)
    image = _sharpen(image, 0.9, generator)
    return Shot(image.clamp(0, 1), blurred, (sigma > 0.02).flatten())


def _equalized(kelvin: torch.Tensor, quantiles: torch.Tensor) -> torch.Tensor:
    """Return the rank of each temperature in its view, in [0, 1]."""
    flat = kelvin.flatten(1).contiguous()
    edges = quantiles + torch.arange(QUANTILES) * 1e-4
    place = torch.searchsorted(edges, flat).clamp(1, QUANTILES - 1)
    low, high = edges.gather(1, place - 1), edges.gather(1, place)
    rank = place - 1 + ((flat - low) / (high - low)).clamp(0, 1)
    return (rank / (QUANTILES - 1)).view_as(kelvin)


def automatic_gain(
    kelvin: torch.Tensor, quantiles: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Map temperatures to about [0, 1] as cameras do, each square by a gain of its own.

    Linear between two percentiles, with the cold sky left out or not and room at the warm end; or
    a mixture of that with an equalized histogram (plateau equalization); at least some kelvin are
    spread over the range.

    Args:
        kelvin: ``(G, 1, H, W)`` above the median of the view.
        quantiles: ``(G, 65)`` of the whole view, kelvin.
        generator: draws the gains.
    """
    count = len(kelvin)

    def draw(low: float, high: float) -> torch.Tensor:
        return uniform(count, low, high, generator)

    def quantile(share: torch.Tensor) -> torch.Tensor:
        place = (share.flatten() * (QUANTILES - 1)).clamp(0, QUANTILES - 1.001)
        below = place.long()[:, None]
        ends = quantiles.gather(1, below), quantiles.gather(1, below + 1)
        return ends[0].lerp(ends[1], place[:, None] - below).view(-1, 1, 1, 1)

    low = quantile(0.12 * draw(0, 1) ** 2)
    low = torch.where(draw(0, 1) < 0.7, low.clamp_min(-14.0), low)  # without the cold sky
    high = quantile(1 - 0.1 * draw(0, 1) ** 2)
    high = high + 0.6 * draw(0, 1) ** 2 * (quantile(torch.ones_like(low)) - high).clamp_min(0)
    span = torch.maximum(high - low, draw(3.0, 14.0))
    linear = (kelvin - low) / span
    middle = torch.where(draw(0, 1) < 0.3, draw(0.3, 0.55), 0.0)  # the median is a middle gray
    linear = torch.where(middle > 0, middle + kelvin / span, linear)
    plateau = torch.where(draw(0, 1) < 0.4, draw(0.3, 0.95), 0.0)
    return linear.clamp(-0.2, 1.2).lerp(_equalized(kelvin, quantiles), plateau)


def infrared_camera(
    stored: torch.Tensor, quantiles: torch.Tensor, generator: torch.Generator
) -> Shot:
    """Draw an infrared camera for each square and let it see.

    Args:
        stored: ``(G, 1, H, W)`` uint8 as `experiments.embedded_clip.packing.encode_warmth`.
        quantiles: ``(G, 65)`` of the whole view, kelvin.
        generator: draws the cameras.
    """
    count = len(stored)

    def draw(low: float, high: float) -> torch.Tensor:
        return uniform(count, low, high, generator)

    kelvin, blurred = _soften(decode_warmth(stored), 0.15, generator)
    noise = 0.25 * draw(0, 1) ** 3
    stripes = noise * (draw(0, 1) < 0.3)
    columns = torch.randn(kelvin[..., :1, :].shape, generator=generator)
    kelvin = (
        kelvin + noise * torch.randn(kelvin.shape, generator=generator) + 0.6 * stripes * columns
    )
    image = automatic_gain(kelvin, quantiles, generator)
    image = image.clamp(0, 1) ** torch.exp(draw(-0.45, 0.45))
    local = image - gaussian_blur(image, 2.5)
    image = _sharpen(image + 2.5 * draw(0, 1) ** 2 * local, 1.2, generator)
    image = torch.where(draw(0, 1) < BLACK_HOT, 1 - image, image)
    image = image * draw(0.55, 1.0) + draw(0.0, 0.12)
    grain = 0.02 * draw(0, 1) ** 2
    image = image + grain * torch.randn(image.shape, generator=generator)
    return Shot(image.clamp(0, 1), blurred, ((grain > 0.012) | (noise > 0.1)).flatten())


def recorded(stored: torch.Tensor, infrared: bool, generator: torch.Generator) -> Shot:
    """Vary images of real cameras: tone curve, contrast, brightness; polarity of infrared ones.

    Args:
        stored: ``(G, 1, H, W)`` uint8.
        infrared: whether an infrared camera took them.
        generator: draws the changes.
    """
    image, count = stored.float() / 255, len(stored)

    def draw(low: float, high: float) -> torch.Tensor:
        return uniform(count, low, high, generator)

    image = image.clamp_min(1e-4) ** torch.exp(draw(-0.6, 0.6))
    image = torch.where(draw(0, 1) < 0.35, randomize_tones(image, generator), image)
    if infrared:
        image = torch.where(draw(0, 1) < BLACK_HOT, 1 - image, image)
    image, blurred = _soften(image, 0.1, generator)
    image = _sharpen(image, 0.8, generator)
    image = image * draw(0.6, 1.1) + draw(-0.05, 0.1)
    # A real camera's own blur and noise are not known, so nothing is said about them.
    return Shot(image.clamp(0, 1), torch.ones_like(blurred), torch.ones_like(blurred))


def see(squares: Mapping[str, torch.Tensor], generator: torch.Generator) -> tuple[Shot, Shot]:
    """Let random cameras see squares, rendered ones and recorded ones.

    Args:
        squares: as `experiments.embedded_clip.pieces.Pieces.read`, on the generator's device.
        generator: draws the cameras.

    Returns:
        The visible and the infrared images.
    """
    recorded_ones = squares["recorded"] > 0
    rows = [mask.nonzero()[:, 0] for mask in (recorded_ones, ~recorded_ones)]
    order = torch.cat(rows).argsort()
    shots = []
    for name, hint, camera in (
        ("visible", "gain", visible_camera),
        ("infrared", "quantiles", infrared_camera),
    ):
        stored, hints = squares[name][:, None], squares[hint]
        found = []
        if len(rows[0]):
            found.append(recorded(stored[rows[0]], name == "infrared", generator))
        if len(rows[1]):
            found.append(camera(stored[rows[1]], hints[rows[1]], generator))
        shots.append(Shot(*(torch.cat(parts)[order] for parts in zip(*found, strict=True))))
    return shots[0], shots[1]
