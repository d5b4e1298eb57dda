"""Filters: separable windows as products with a band matrix, and Sobel gradients.

A window of equal or Gaussian weights is applied down the columns, then along the rows. One product
with a small band matrix computes a block of neighboring outputs, which on a processor is several
times faster than a convolution of one channel, in float64 too. Both products read the picture where
it lies: nothing is transposed or unfolded in memory before them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import torch

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


def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """Weights of a Gaussian window of ``size`` places that sum to 1."""
    weights = [math.exp(-((k - (size - 1) / 2) ** 2) / (2 * sigma**2)) for k in range(size)]
    return tuple(weight / math.fsum(weights) for weight in weights)


@functools.lru_cache(maxsize=64)
def _band(
    kernel: tuple[float, ...], outputs: int, stride: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """``(span, outputs)``: column j holds the kernel from row ``j * stride`` on."""
    band = torch.zeros((outputs - 1) * stride + len(kernel), outputs, dtype=dtype)
    for j in range(outputs):
        band[j * stride : j * stride + len(kernel), j] = torch.tensor(kernel, dtype=dtype)
    return band.to(device)


def separable(images: torch.Tensor, kernel: Sequence[float], stride: int = 1) -> torch.Tensor:
    """Weigh each window with the outer product of a kernel with itself.

    Args:
        images: ``(..., H, W)``.
        kernel: K weights, K at most H and W.
        stride: step between windows.

    Returns:
        ``(..., (H - K) // stride + 1, (W - K) // stride + 1)``: windows inside the picture only.
    """
    kernel = tuple(kernel)
    rows, columns = ((side - len(kernel)) // stride + 1 for side in images.shape[-2:])
    flat = images.reshape(-1, *images.shape[-2:])
    lines = []
    for start in range(0, rows, _STRIP):
        band = _band(kernel, min(_STRIP, rows - start), stride, images.dtype, images.device)
        part = flat[:, start * stride : start * stride + len(band)]
        lines.append(torch.bmm(band.mT.expand(len(flat), -1, -1), part))
    tall = (lines[0] if len(lines) == 1 else torch.cat(lines, dim=1)).flatten(0, 1)

    result = tall.new_empty(len(tall), columns)
    blocks, rest = divmod(columns, _BLOCK)
    if blocks:
        band = _band(kernel, _BLOCK, stride, images.dtype, images.device)
        spans = tall.unfold(1, len(band), _BLOCK * stride)[:, :blocks].transpose(0, 1)
        product = torch.bmm(spans, band.expand(blocks, -1, -1))
        result[:, : blocks * _BLOCK].unflatten(1, (blocks, _BLOCK)).copy_(product.transpose(0, 1))
    if rest:
        band = _band(kernel, rest, stride, images.dtype, images.device)
        start = blocks * _BLOCK * stride
        result[:, blocks * _BLOCK :] = tall[:, start : start + len(band)] @ band
    return result.view(*images.shape[:-2], rows, columns)


def local_moments(
    triple: torch.Tensor, kernel: tuple[float, ...], ceiling: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted sums of fused, infrared and visible pictures, and how far they vary together.

    Args:
        triple: ``(B, 3, H, W)``, fused first.
        kernel: weights of the window along each direction; a window's weights sum to its area A.
        ceiling: products of gray levels are cut to this, as 8-bit integers would.

    Returns:
        A times the local means ``(B, 3, h, w)``; A^2 times the variances ``(B, 3, h, w)`` and the
        covariances of the fused picture with each source ``(B, 2, h, w)``, all in float64. Of whole
        levels and weights of 1 they have no rounding error.
    """
    area = round(sum(kernel)) ** 2
    squares, mixed = triple.square(), triple[:, :1] * triple[:, 1:]
    if ceiling is not None:
        squares, mixed = squares.clamp_max(ceiling), mixed.clamp_max(ceiling)
    sums, squares, mixed = (separable(x, kernel).double() for x in (triple, squares, mixed))
    if area > 1:
        squares, mixed = area * squares, area * mixed
    return sums, squares - sums.square(), mixed - sums[:, :1] * sums[:, 1:]


def sobel(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sobel derivatives, eight times the slope, where the window of 3 x 3 lies inside.

    Args:
        images: ``(..., H, W)``; pad by one pixel first to keep the size.

    Returns:
        The derivative to the right and the derivative downwards, ``(..., H - 2, W - 2)``.
    """
    smooth = torch.add(images[..., :-2, :] + images[..., 2:, :], images[..., 1:-1, :], alpha=2)
    right = smooth[..., 2:] - smooth[..., :-2]
    step = images[..., 2:, :] - images[..., :-2, :]
    down = torch.add(step[..., :-2] + step[..., 2:], step[..., 1:-1], alpha=2)
    return right, down


def magnitude(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """``sqrt(first^2 + second^2)``, with gradient 0 instead of NaN where both are 0."""
    square = first.square() + second.square()
    return (square.clamp_min(1e-24) if square.requires_grad else square).sqrt()
