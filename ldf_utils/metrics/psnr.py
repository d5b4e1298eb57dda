"""Squared differences to the sources, pixel by pixel: MSE and PSNR."""

from __future__ import annotations

import torch

from ldf_utils.metrics.levels import Convention, check_convention, gray_levels


def mean_squared_error(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    rounded: bool = True,
) -> torch.Tensor:
    """Compute MSE, the mean of the squared differences to each source, of pictures in [0, 1].

    ``(mean((F - IR)^2) + mean((F - VI)^2)) / 2``: 0 to 1; lower counts as better; averaging the
    sources minimizes it. Tables on gray levels 0..255 are 65025 times larger.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 on the scale of [0, 1].

    Source: as in Ma, Ma and Li, DOI 10.1016/j.inffus.2018.02.004.
    """
    fused, infrared, visible = gray_levels(fused, infrared, visible, rounded=rounded)
    squares = (fused - infrared).square() + (fused - visible).square()
    return squares.mean(dim=(1, 2, 3)) / (2 * 255**2)


def peak_signal_to_noise_ratio(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """Compute PSNR against both sources, ``10 log10(1 / MSE)`` of the mean squared error to both.

    0 dB upwards, infinite for three equal pictures; higher counts as better. A decreasing
    function of `mean_squared_error`, so it ranks a single picture as that does.

    Disagreement: ``"matlab-uint8"`` takes the error on [0, 1] and the peak 255,
    20 log10(255) = 48.13 dB too much ("60 dB" tables). ``"vifb"`` uses ``sqrt(sum of
    squares) / (H W)`` on gray levels in the place of the mean square, whose value depends on the
    size of the picture.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 in decibels.

    Source: as in Jagalingam and Hegde, DOI 10.1016/j.aqpro.2015.02.019.
    """
    check_convention(convention)
    fused, infrared, visible = gray_levels(fused, infrared, visible, rounded=rounded)
    errors = torch.stack(
        [(fused - source).square().sum(dim=(1, 2, 3)) for source in (infrared, visible)]
    )
    if convention == "vifb":
        errors = errors.sqrt()
    error = errors.mean(dim=0) / fused[0].numel()
    if convention == "matlab-uint8":
        error = error / 255**2
    return 10 * torch.log10(255**2 / error)
