"""Gray levels: what every fusion metric is computed on, checked and on one scale."""

from __future__ import annotations

from typing import Literal

import torch

from ldf_utils.data.images import to_8bit

Convention = Literal["standard", "matlab-uint8", "vifb"]

CONVENTIONS: dict[str, str] = {
    "standard": "the definition, computed without loss on gray levels 0..255",
    "matlab-uint8": "MATLAB code run on 8-bit integers, as in published TNO tables: integers "
    "saturate, MI is in bits, SF on [0, 1], PSNR has 48.13 dB too much",
    "vifb": "the code of the VIFB benchmark, per channel: AG and SF with other divisors, MI after "
    "a stretch to 0..255, Gaussian SSIM, PSNR from a root that is taken too early",
}

# A float picture may leave [0, 1] by this much (overshoot of a network or a filter) and is clamped.
_OVERSHOOT = 0.05


def gray_levels(
    *images: torch.Tensor, rounded: bool = True, smallest: int = 2
) -> list[torch.Tensor]:
    """Bring luminance pictures to gray levels 0..255 in float64.

    Published values are computed on 8-bit files, so a float picture is rounded to the level that
    a file of it would hold. Rounding has no gradient; ``rounded=False`` leaves it out, which is
    for use as a loss.

    Args:
        images: ``(B, 1, H, W)`` each, all of one shape; uint8, or floating point in [0, 1].
        rounded: whether float pictures are rounded to whole levels.
        smallest: the smallest height and width that the metric is defined for.

    Returns:
        The pictures as ``(B, 1, H, W)`` float64 in 0..255.

    Raises:
        ValueError: for other shapes, unequal shapes, pictures that are too small, other types,
            NaN, and float pictures that do not lie in [0, 1].
    """
    shape = images[0].shape
    result = []
    for image in images:
        if image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(
                f"pictures must be luminance of shape (B, 1, H, W), got {tuple(image.shape)}; "
                "take the luminance first (ldf_utils.data.images.luminance) and add the batch "
                "dimension"
            )
        if image.shape != shape:
            raise ValueError(
                f"fused, infrared and visible must have one shape, got {tuple(shape)} and "
                f"{tuple(image.shape)}; resize the fused picture to the size of its sources"
            )
        if min(image.shape[-2:]) < smallest:
            raise ValueError(
                f"pictures must be at least {smallest} x {smallest} pixels for this metric, got "
                f"{image.shape[-1]} x {image.shape[-2]}"
            )
        if image.dtype == torch.uint8:
            result.append(image.double())
            continue
        if not image.is_floating_point():
            raise ValueError(
                f"pictures must be uint8 or floating point in [0, 1], got {image.dtype}"
            )
        low, high = (value.item() for value in torch.aminmax(image.detach()))
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # also true for NaN
            raise ValueError(
                f"a floating-point picture must have values in [0, 1], got {low:g} to {high:g}; "
                "divide by its full scale, or pass uint8"
            )
        if rounded:  # in float32, as a file is written, so that ties fall on the same side
            result.append(to_8bit(image.float()).double())
        else:
            result.append(image.double().clamp(0, 1) * 255)
    return result


def as_uint8(image: torch.Tensor) -> torch.Tensor:
    """Return the picture as an 8-bit file would hold it: `gray_levels` as uint8, same shape."""
    return image if image.dtype == torch.uint8 else gray_levels(image)[0].to(torch.uint8)


def check_convention(convention: str) -> None:
    """Raise ValueError if this convention is not one of `CONVENTIONS`."""
    if convention not in CONVENTIONS:
        raise ValueError(
            f"unknown convention {convention!r}; known are {', '.join(map(repr, CONVENTIONS))}"
        )


def half_up(levels: torch.Tensor) -> torch.Tensor:
    """Round as MATLAB rounds numbers that are not negative: halves go up."""
    return (levels + 0.5).floor()


def stretched(levels: torch.Tensor) -> torch.Tensor:
    """Gray levels stretched to 0..255 per picture and rounded; a flat picture becomes 0."""
    low = levels.amin(dim=(1, 2, 3), keepdim=True)
    span = levels.amax(dim=(1, 2, 3), keepdim=True) - low
    return half_up((levels - low) / span.clamp_min(1) * 255)
