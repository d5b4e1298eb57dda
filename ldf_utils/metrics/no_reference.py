"""Activity of the fused picture alone: how spread, how varied, how steep.

None of these looks at the sources: noise and a contrast stretch raise all of them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ldf_utils.metrics.filters import magnitude, sobel
from ldf_utils.metrics.histograms import LEVELS, entropy_of_counts, histogram
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels, half_up


def entropy(
    fused: torch.Tensor,
    infrared: torch.Tensor | None = None,
    visible: torch.Tensor | None = None,
    *,
    rounded: bool = True,
) -> torch.Tensor:
    """Compute EN, the entropy of the gray levels: ``-sum p log2 p`` over 256 bins, one per level.

    0 bits (one level) to 8 bits (all levels equally often); higher counts as better. Invariant
    to any one-to-one relabelling of the levels and to moving pixels about, so it rewards a
    histogram and not a picture. Implementations agree on it; results saved after a min-max
    stretch are a different picture.

    With ``rounded=False`` it is the entropy of patches, by which the entropy filter of LDFusion
    (arXiv:2402.16267) decides: values in [0, 1] fall into 256 equal bins, those outside into the
    nearest, and all channels of an element share one histogram. For the levels of an 8-bit file
    both are the same.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1]; with ``rounded=False`` floating point of any
            shape ``(B, ...)``.
        infrared: not used.
        visible: not used.
        rounded: whether float pictures are rounded to the levels that a file of them would hold.

    Returns:
        ``(B,)`` in bits, float64; with ``rounded=False`` float32.

    Raises:
        ValueError: as `gray_levels`; with ``rounded=False`` for a NaN.

    Source: Roberts, van Aardt and Ahmed, DOI 10.1117/1.2945910.

    Example:
        >>> entropy(torch.tensor([[[[0, 0, 255, 255]]]], dtype=torch.uint8))
        tensor([1.], dtype=torch.float64)
    """
    if rounded:
        (levels,) = gray_levels(fused, smallest=1)
        return entropy_of_counts(histogram(levels))
    values = fused.detach().flatten(1)
    if values.isnan().any():
        raise ValueError("the entropy of a patch with NaN in it is not defined; check the images")
    # The clamp comes first: a large float has no defined integer.
    levels = (values.clamp(0, 1) * LEVELS).int().clamp_(max=LEVELS - 1)
    return entropy_of_counts(histogram(levels).float())


def standard_deviation(
    fused: torch.Tensor,
    infrared: torch.Tensor | None = None,
    visible: torch.Tensor | None = None,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """Compute SD, the standard deviation of the gray levels, ``sqrt(mean((F - mean F)^2))``.

    0 to 127.5 levels; higher counts as better. The mean is over all H W pixels (not H W - 1).

    Disagreement: MATLAB code that leaves the picture in 8-bit integers clips ``F - mean`` at 0
    and its square at 255, so its values never pass ``sqrt(255) = 15.97`` and say little about
    contrast (``convention="matlab-uint8"``). The default is the true value.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: not used.
        visible: not used.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 in gray levels.

    Source: Rao, DOI 10.1088/0957-0233/8/4/002.
    """
    check_convention(convention)
    (levels,) = gray_levels(fused, rounded=rounded, smallest=1)
    if convention == "matlab-uint8":
        above = half_up((levels - levels.mean(dim=(1, 2, 3), keepdim=True)).clamp_min(0))
        return above.square().clamp_max(255).mean(dim=(1, 2, 3)).sqrt()
    return levels.flatten(1).std(dim=1, correction=0)


def spatial_frequency(
    fused: torch.Tensor,
    infrared: torch.Tensor | None = None,
    visible: torch.Tensor | None = None,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """Compute SF, the root mean square step between neighbors, ``sqrt(RF^2 + CF^2)``.

    RF^2 is the mean square of the steps along rows, CF^2 along columns, each over its own number
    of steps. 0 to 360.6 levels; higher counts as better. Blind to a turn by 90 degrees, a mirror
    and an offset; noise raises it more than detail does.

    Disagreement: ``"matlab-uint8"`` gives it for pictures in [0, 1], 255 times smaller;
    ``"vifb"`` divides both sums by H W instead of the number of steps (a relative 1e-3).

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: not used.
        visible: not used.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 in gray levels.

    Source: Eskicioglu and Fisher, DOI 10.1109/26.477498.
    """
    check_convention(convention)
    (levels,) = gray_levels(fused, rounded=rounded)
    rows = levels.diff(dim=-1).square().sum(dim=(1, 2, 3))
    columns = levels.diff(dim=-2).square().sum(dim=(1, 2, 3))
    height, width = levels.shape[-2:]
    if convention == "vifb":
        return ((rows + columns) / (height * width)).sqrt()
    frequency = (rows / (height * (width - 1)) + columns / ((height - 1) * width)).sqrt()
    return frequency / 255 if convention == "matlab-uint8" else frequency


def average_gradient(
    fused: torch.Tensor,
    infrared: torch.Tensor | None = None,
    visible: torch.Tensor | None = None,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """Compute AG, the mean slope, ``mean(sqrt((gx^2 + gy^2) / 2))``.

    Slopes are central differences (one-sided at the border). 0 to 255 levels a pixel; higher
    counts as better.

    Disagreement: MATLAB code (``"matlab-uint8"`` and ``"vifb"``) divides the sum over all H W
    pixels by (H-1)(W-1), Python ports by H W as here, a relative 1/H + 1/W; forward differences,
    also seen, give a larger number.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: not used.
        visible: not used.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 in gray levels per pixel.

    Source: Cui, Feng, Xu, Li and Chen, DOI 10.1016/j.optcom.2014.12.032.
    """
    check_convention(convention)
    (levels,) = gray_levels(fused, rounded=rounded)
    down, right = torch.gradient(levels, dim=(-2, -1))
    total = magnitude(down, right).sum(dim=(1, 2, 3)) / math.sqrt(2)
    height, width = levels.shape[-2:]
    return total / (height * width if convention == "standard" else (height - 1) * (width - 1))


def edge_intensity(
    fused: torch.Tensor,
    infrared: torch.Tensor | None = None,
    visible: torch.Tensor | None = None,
    *,
    rounded: bool = True,
) -> torch.Tensor:
    """Compute EI, the mean magnitude of the Sobel gradient, ``mean(sqrt(Sx^2 + Sy^2))``.

    Sobel kernels with weights 1, 2, 1, not divided by 8; the border is replicated. 0 to 1443
    levels; higher counts as better. It orders methods almost as AG does. Implementations differ
    in the border only.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: not used.
        visible: not used.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 in gray levels (eight times a slope per pixel).

    Source: as in VIFB, Zhang, Ye and Xiao, DOI 10.1109/CVPRW50498.2020.00060.
    """
    (levels,) = gray_levels(fused, rounded=rounded)
    return magnitude(*sobel(F.pad(levels, (1, 1, 1, 1), mode="replicate"))).mean(dim=(1, 2, 3))
