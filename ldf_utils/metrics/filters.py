"""Filters: separable windows as products with a band matrix, and Sobel gradients.

A window of equal or Gaussian weights is applied to rows, then to columns. One product with a small
band matrix computes a block of neighbouring outputs, which on a processor is several times faster
than a convolution of one channel, in float64 too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

_BLOCK = 16
_STRIP = 32


def strips(images: torch.Tensor, window: int) -> Iterator[torch.Tensor]:
    """Cut pictures into strips of rows, so that the work on one stays in the cache.

    Args:
        images: ``(..., H, W)``.
        window: height of the window that will be moved over the strips.

    Yields:
        ``(..., rows + window - 1, W)``, overlapping so that each position of the window inside
        the picture is in exactly one strip.
    """
    for start in range(0, images.shape[-2] - window + 1, _STRIP):
        yield images[..., start : start + _STRIP + window - 1, :]


def gaussian(size: int, sigma: float, like: torch.Tensor) -> torch.Tensor:
    """Weights of a Gaussian window that sum to 1: ``(size,)`` in type and place of ``like``."""
    offsets = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    return weights / weights.sum()


def _band(kernel: torch.Tensor, outputs: int, stride: int) -> torch.Tensor:
    """``(span, outputs)``: column j holds the kernel from row ``j * stride`` on."""
    taps = len(kernel)
    band = kernel.new_zeros((outputs - 1) * stride + taps, outputs)
    column = torch.arange(outputs, device=kernel.device)
    for tap in range(taps):
        band[column * stride + tap, column] = kernel[tap]
    return band


def _along_last(images: torch.Tensor, kernel: torch.Tensor, stride: int) -> torch.Tensor:
    """Weigh the windows along the last dimension: one matrix product for all blocks."""
    outputs = (images.shape[-1] - len(kernel)) // stride + 1
    block = min(_BLOCK, outputs)
    blocks = -(-outputs // block)
    band = _band(kernel, block, stride)
    needed = (blocks - 1) * block * stride + len(band)
    if needed > images.shape[-1]:
        images = F.pad(images, (0, needed - images.shape[-1]))
    spans = images.unfold(-1, len(band), block * stride)
    product = spans.reshape(-1, len(band)) @ band
    return product.view(*images.shape[:-1], blocks * block)[..., :outputs]


def separable(images: torch.Tensor, kernel: torch.Tensor, stride: int = 1) -> torch.Tensor:
    """Weigh each window with the outer product of a kernel with itself.

    Args:
        images: ``(..., H, W)``.
        kernel: ``(K,)`` weights, K at most H and W.
        stride: step between windows.

    Returns:
        ``(..., (H - K) // stride + 1, (W - K) // stride + 1)``: windows inside the picture only.
    """
    tall = _along_last(images.transpose(-1, -2), kernel, stride)
    return _along_last(tall.transpose(-1, -2), kernel, stride)


def sobel(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sobel derivatives, eight times the slope, where the window of 3 x 3 lies inside.

    Args:
        images: ``(..., H, W)``; pad by one pixel first to keep the size.

    Returns:
        The derivative to the right and the derivative downwards, ``(..., H - 2, W - 2)``.
    """
    smooth = images[..., :-2, :] + images[..., 2:, :] + 2 * images[..., 1:-1, :]
    right = smooth[..., 2:] - smooth[..., :-2]
    step = images[..., 2:, :] - images[..., :-2, :]
    down = step[..., :-2] + step[..., 2:] + 2 * step[..., 1:-1]
    return right, down


def magnitude(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """``sqrt(first^2 + second^2)``, with gradient 0 instead of NaN where both are 0."""
    square = first.square() + second.square()
    return (square.clamp_min(1e-24) if square.requires_grad else square).sqrt()
