"""Degradations: images damaged on purpose, as cameras, weather and bad networks damage them.

The embedded CLIP learns from them what *blurry*, *hazy* or *artifacts* mean, and its evaluation
uses them too.
"""

from __future__ import annotations

import functools
import math

import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

from ldf_utils.data.blur import gaussian_blur


@functools.cache
def _letters(count: int = 48, side: int = 128) -> torch.Tensor:
    """Masks with random letters, which networks draw when nothing but a CLIP constrains them."""
    generator = torch.Generator().manual_seed(5)
    masks = []
    for _ in range(count):
        image = Image.new("L", (side, side))
        draw = ImageDraw.Draw(image)
        for _ in range(int(torch.randint(3, 12, (1,), generator=generator))):
            x, y, size, letter, bright = torch.rand(5, generator=generator).tolist()
            font = ImageFont.load_default(size=int(12 + 44 * size))
            corner, character = (x * side - 10, y * side - 10), chr(65 + int(letter * 26))
            draw.text(corner, character, fill=int(120 + 135 * bright), font=font)
        masks.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8))
    return torch.stack(masks).view(count, 1, side, side).float() / 255


def degrade(images: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Damage images in one way.

    Args:
        images: ``(B, 1, H, W)`` in [0, 1].
        kind: one of `DEGRADATIONS`.
        generator: draws the strengths.

    Returns:
        ``(B, 1, H, W)`` in [0, 1].

    Raises:
        ValueError: for an unknown kind.
    """
    count, _, height, width = images.shape

    def draw(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    def noise(*shape):
        return torch.randn(shape or images.shape, generator=generator)

    if kind == "blurry":
        result = gaussian_blur(images, float(draw(1.4, 3.5)[0]))
    elif kind == "noisy":
        result = images + draw(0.06, 0.18) * noise()
    elif kind == "dark":
        result = images * draw(0.12, 0.4)
    elif kind == "hazy":
        through = draw(0.15, 0.45)
        uneven = F.interpolate(noise(count, 1, 4, 4), (height, width), mode="bicubic")
        through = (through * (1 + 0.4 * uneven)).clamp(0.05, 0.8)
        result = gaussian_blur(images, 0.7) * through + draw(0.45, 0.8) * (1 - through)
    elif kind == "pale":
        mean = images.mean(dim=(-2, -1), keepdim=True)
        result = mean + draw(0.1, 0.35) * (images - mean)
    elif kind == "overexposed":
        result = images * draw(1.8, 3.5) + draw(0.1, 0.35)
    elif kind == "embossed":
        shift = images.roll((1, 1), dims=(-2, -1))
        result = draw(0.2, 1.0) * images + draw(0.2, 0.5) + draw(1.0, 3.0) * (images - shift)
    elif kind == "halos":
        wide = gaussian_blur(images, float(draw(2.0, 5.0)[0]))
        result = images + draw(2.2, 4.5) * (images - wide)
    elif kind == "ringing":
        result = images + draw(4.0, 8.0) * (images - gaussian_blur(images, 0.9))
    elif kind == "checkerboard":
        period = int(torch.randint(1, 5, (1,), generator=generator))
        rows, columns = torch.arange(height) // period, torch.arange(width) // period
        board = ((rows[:, None] + columns[None, :]) % 2 * 2 - 1).float()
        result = images + draw(0.03, 0.2) * board
    elif kind == "stripes":
        wavelength, angle = float(draw(2.5, 9)[0]), float(draw(0, math.pi)[0])
        rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
        along = rows * math.cos(angle) + columns * math.sin(angle)
        wave = torch.sin(2 * math.pi / wavelength * along)
        result = images + draw(0.03, 0.2) * wave
    elif kind == "letters":
        with torch.device("cpu"):  # where their generator is
            bank = _letters().to(images.device)
        masks = bank[torch.randint(len(bank), (count,), generator=generator)]
        masks = F.interpolate(masks, (height, width), mode="bilinear", antialias=True)
        sign = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
        result = images + draw(0.3, 0.8) * sign * masks
    elif kind == "spots":
        blobs = noise(count, 1, height // 6, width // 6)
        blobs = F.interpolate(blobs, (height, width), mode="bicubic")
        result = images + draw(0.3, 0.8) * (blobs.abs() - 1.2).clamp_min(0) * blobs.sign()
    else:
        raise ValueError(f"kind must be one of {', '.join(DEGRADATIONS)}, got {kind!r}")
    return result.clamp(0, 1)


ARTIFACTS = ("embossed", "halos", "ringing", "checkerboard", "stripes", "letters", "spots")
DEGRADATIONS = ("blurry", "noisy", "dark", "hazy", "pale", "overexposed", *ARTIFACTS)
