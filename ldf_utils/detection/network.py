"""The embedded detector: a small anchor-free network for people and vehicles."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDES = (4, 8, 16, 32)
MULTIPLE = STRIDES[-1]


def standardize(gray: torch.Tensor) -> torch.Tensor:
    """Bring every picture to mean 0 and standard deviation 1, so that exposure does not matter.

    Args:
        gray: ``(B, 1, H, W)`` in [0, 1].

    Returns:
        The same shape. The deviation is bounded from below by 0.02: noise stays small.
    """
    mean = gray.mean(dim=(-2, -1), keepdim=True)
    deviation = gray.std(dim=(-2, -1), keepdim=True, correction=0)
    return (gray - mean) / deviation.clamp_min(0.02)


class ConvNorm(nn.Module):
    """A 3 x 3 convolution, normalization and ReLU; `fold` merges the first two."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)

    def fold(self) -> None:
        """Merge the normalization into the convolution, for inference."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class Block(nn.Module):
    """Two convolutions around which the input is passed."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = ConvNorm(channels, channels), ConvNorm(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


class SmallDetector(nn.Module):
    """Predict, at every cell of four grids, classes and the distances to the sides of a box.

    As FCOS (arXiv:1904.01355) without a branch for centerness: the score of a class is trained to
    be the overlap of the predicted box with the true one (arXiv:2006.04388).

    Args:
        classes: number of classes.
        widths: channels at strides 2, 4, 8, 16 and 32.
        blocks: residual blocks at strides 4, 8, 16 and 32.
        neck: channels of the feature pyramid and of the head.
    """

    def __init__(
        self,
        classes: int = 2,
        widths: tuple[int, ...] = (16, 24, 48, 96, 128),
        blocks: tuple[int, ...] = (1, 2, 2, 2),
        neck: int = 48,
    ):
        super().__init__()
        self.arguments: dict[str, Any] = {
            "classes": classes,
            "widths": list(widths),
            "blocks": list(blocks),
            "neck": neck,
        }
        self.stem = ConvNorm(1, widths[0], 2)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNorm(inputs, outputs, 2), *(Block(outputs) for _ in range(count)))
            for inputs, outputs, count in zip(widths[:-1], widths[1:], blocks, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in widths[1:])
        self.head = ConvNorm(neck, neck)
        self.score = nn.Conv2d(neck, classes, 3, padding=1)
        self.sides = nn.Conv2d(neck, 4, 3, padding=1)
        self.scales = nn.Parameter(torch.zeros(len(STRIDES)))
        for layer, bias in ((self.score, -4.6), (self.sides, 1.0)):  # a score of 0.01, boxes that
            nn.init.normal_(layer.weight, std=0.01)  # reach a few strides to each side
            nn.init.constant_(cast(torch.Tensor, layer.bias), bias)

    def forward(self, gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict logits ``(B, N, classes)`` and boxes ``(B, N, 4)`` in pixels.

        Args:
            gray: ``(B, 1, H, W)`` in [0, 1]; both sides multiples of 32.

        Returns:
            One row per cell of the grids in the order of `centers`.
        """
        x, maps = self.stem(standardize(gray)), []
        for stage in self.stages:
            maps.append(x := stage(x))
        levels = [lateral(found) for lateral, found in zip(self.lateral, maps, strict=True)]
        for k in range(len(levels) - 2, -1, -1):
            levels[k] = levels[k] + F.interpolate(levels[k + 1], scale_factor=2.0)
        logits, distances = [], []
        for level, stride, scale in zip(levels, STRIDES, self.scales, strict=True):
            features = self.head(level)
            logits.append(self.score(features).flatten(2))
            raw = self.sides(features).flatten(2)
            distances.append(torch.exp((raw + scale).clamp(-4, 4)) * stride)
        places, _ = centers(gray.shape[-2], gray.shape[-1])
        left, top, right, bottom = torch.cat(distances, 2).unbind(1)
        x, y = places.to(gray).unbind(1)
        boxes = torch.stack([x - left, y - top, x + right, y + bottom], dim=-1)
        return torch.cat(logits, 2).transpose(1, 2), boxes

    def fold(self) -> SmallDetector:
        """Merge all normalizations into convolutions: the same output in less time."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return self


def centers(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """List the centers ``(N, 2)`` of all cells as x, y in pixels, and the stride of each, ``(N,)``.

    Example:
        >>> centers(32, 64)[0].shape
        torch.Size([170, 2])
    """
    places, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            (torch.arange(height // stride) + 0.5) * stride,
            (torch.arange(width // stride) + 0.5) * stride,
            indexing="ij",
        )
        places.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((x.numel(),), float(stride)))
    return torch.cat(places), torch.cat(strides)
