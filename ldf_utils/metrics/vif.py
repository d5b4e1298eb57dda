"""Visual information fidelity: the information of the sources that an eye could still take."""

from __future__ import annotations

import torch

from ldf_utils.metrics.filters import gaussian, local_moments, separable, strips
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels

_SCALES = 4
_NOISE = 2.0
_EPS = 1e-10
VIF_SMALLEST = 41


def visual_information_fidelity(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """Compute VIF, the share of each source's information that survives, ``VIF(F|IR) + VIF(F|VI)``.

    The pixel-domain form (VIFp): four scales with Gaussian windows of 17, 9, 5 and 3 pixels
    (sigma a fifth of that), visual noise 2.0, windows inside the picture only; the local gain and
    noise of the fused picture give ``sum log(1 + g^2 s^2 / (v + 2)) / sum log(1 + s^2 / 2)``.
    0 upwards, 2 for three equal pictures, above that where contrast was raised; higher counts as
    better; symmetric in the sources.

    Disagreement: ``"matlab-uint8"`` squares 8-bit integers at the first scale, where they
    saturate at 255 (0.6195 published, 0.5364 true for one picture). Some Python ports pad with
    zeros and put the kernel off centre (0.5355 instead of 0.5083 for another). What popular code
    calls "VIFF" is this VIF, not the VIFF of Han et al. A source without any structure has no
    information to lose: its term is 0.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 41 x 41.
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Sheikh and Bovik, DOI 10.1109/TIP.2005.859378.
    """
    check_convention(convention)
    triple = torch.cat(
        gray_levels(fused, infrared, visible, rounded=rounded, smallest=VIF_SMALLEST), dim=1
    )
    kept, there = triple.new_zeros(len(triple), 2), triple.new_zeros(len(triple), 2)
    for scale in range(1, _SCALES + 1):
        window = 2 ** (_SCALES - scale + 1) + 1
        kernel = gaussian(window, window / 5)
        if scale > 1:
            triple = separable(triple, kernel, stride=2)
        saturates = convention == "matlab-uint8" and scale == 1
        for strip in strips(triple, window):
            _, variances, covariances = local_moments(strip, kernel, 255 if saturates else None)
            fused_variance, variances = variances[:, :1], variances[:, 1:]
            seen = (variances >= _EPS) & (fused_variance >= _EPS) & (covariances > 0)
            variances = variances.clamp_min(0)
            gain = covariances / (variances + _EPS) * seen
            noise = (fused_variance - gain * covariances).clamp_min(_EPS) + _NOISE
            # Not log1p: it takes eight times as long in a process that is a copy of another.
            kept = kept + (1 + gain.square() * variances / noise).log().sum(dim=(2, 3))
            there = there + (1 + variances / _NOISE).log().sum(dim=(2, 3))
    flat = there <= _EPS
    return (kept / there.masked_fill(flat, 1)).masked_fill(flat, 0).sum(dim=1)
