"""Models of the eye: contrast that it would see, before and after fusion."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ldf_utils.metrics.filters import gaussian, magnitude, separable, sobel
from ldf_utils.metrics.levels import gray_levels, stretched

_QCV_BLOCK = 16


def _radius(levels: torch.Tensor, divisor: float) -> torch.Tensor:
    """Length of the frequency of each term of `torch.fft.rfft2`, in cycles * 2 / divisor."""
    height, width = levels.shape[-2:]
    options = {"dtype": levels.dtype, "device": levels.device}
    down = torch.fft.fftfreq(height, **options) * 2 * height / divisor
    right = torch.fft.rfftfreq(width, **options) * 2 * width / divisor
    return torch.hypot(down[:, None], right[None, :])


def _filter_frequencies(levels: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(levels) * response, s=levels.shape[-2:])


def _masked_contrast(levels: torch.Tensor) -> torch.Tensor:
    """Visible local contrast: contrast sensitivity, local contrast, masking."""
    radius = _radius(levels, 30)
    sensitivity = torch.exp(-((radius / 15.3870) ** 2)) - 0.7622 * torch.exp(
        -((radius / 1.3456) ** 2)
    )
    seen = F.pad(_filter_frequencies(levels, sensitivity), (15, 15, 15, 15))

    def blurred(sigma: float) -> torch.Tensor:
        # The source divides by the area of the whole Gaussian, not by the sum of its 31 samples.
        kernel = gaussian(31, sigma)
        peak = kernel[15] * (2 * math.pi) ** 0.5 * sigma
        return separable(seen, [weight / peak for weight in kernel])

    narrow, wide = blurred(2), blurred(4)
    contrast = (narrow / torch.where(wide == 0, 1, wide) - 1).masked_fill(wide == 0, 0).abs()
    return contrast**3 / (contrast**2 + 1e-4)


def chen_blum(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
) -> torch.Tensor:
    """Compute Qcb, how much of the visible local contrast of the sources is in the fused picture.

    Each picture is stretched to 0..255, filtered by a contrast sensitivity function, turned into
    local contrast (a Gaussian of sigma 2 over one of sigma 4, minus 1) and masked. The ratio of
    the smaller to the larger contrast is averaged, each source weighted by the square of its
    contrast. 0 to 1; higher counts as better; symmetric in the sources.

    Disagreement: the stretch and the frequency scale (cycles / 15) are those of the code that
    tables are made with, not of the paper. Two contrasts of exactly 0 are undefined there and
    count as equal here.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64.

    Source: Chen and Blum, DOI 10.1016/j.imavis.2007.12.002.
    """
    fused, *sources = (
        _masked_contrast(stretched(levels)) for levels in gray_levels(fused, infrared, visible)
    )
    quality, weights = [], []
    for source in sources:
        larger = torch.maximum(fused, source)
        ratio = torch.minimum(fused, source) / larger.masked_fill(larger == 0, 1)
        quality.append(ratio.masked_fill(larger == 0, 1))
        weights.append(source.square())
    total = weights[0] + weights[1]
    share = torch.where(total == 0, 0.5, weights[0] / total.masked_fill(total == 0, 1))
    return (share * quality[0] + (1 - share) * quality[1]).mean(dim=(1, 2, 3))


def _block_means(image: torch.Tensor) -> torch.Tensor:
    """Means of blocks of 16 x 16, zeros outside the picture counted in."""
    height, width = image.shape[-2:]
    image = F.pad(image, (0, -width % _QCV_BLOCK, 0, -height % _QCV_BLOCK))
    return F.avg_pool2d(image, _QCV_BLOCK)


def chen_varshney(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
) -> torch.Tensor:
    """Compute Qcv, the visible difference to the sources, where they have edges.

    Each picture is stretched to 0..255. The difference to each source, filtered by the contrast
    sensitivity function of Mannos and Sakrison, is squared and averaged over blocks of 16 x 16,
    each weighted by the sum of the fifth powers of the source's Sobel gradients. 0 upwards;
    lower counts as better; symmetric in the sources.

    Disagreement: the exponent (5), the stretch and the frequency scale are those of the code
    that tables are made with. Some code returns it negated. A block that the border cuts is
    filled with zeros, which dilutes its mean.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64 in squared levels. Sources without any edge: 0.

    Source: Chen and Varshney, DOI 10.1016/j.inffus.2005.10.001.
    """
    fused, *sources = (stretched(levels) for levels in gray_levels(fused, infrared, visible))
    radius = 0.144 * _radius(fused, 8)
    sensitivity = 2.6 * (0.0192 + radius) * torch.exp(-(radius**1.1))
    difference = total = fused.new_zeros(len(fused))
    for source in sources:
        weight = _block_means(magnitude(*sobel(F.pad(source, (1, 1, 1, 1)))) ** 5)
        seen = _block_means(_filter_frequencies(source - fused, sensitivity).square())
        difference = difference + (weight * seen).sum(dim=(1, 2, 3))
        total = total + weight.sum(dim=(1, 2, 3))
    return difference / total.masked_fill(total == 0, 1)
