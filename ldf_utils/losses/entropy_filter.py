"""The patch filter: which patches count, by the entropy of their gray levels.

The bits of a patch are ``H = -sum p log2 p``, p the shares of 256 gray levels
(`ldf_utils.metrics.entropy` with ``rounded=False``). `PatchFilter` knows four rules:

    bits        H(infrared patch) > t  and  H(visible patch) > t          (arXiv:2402.16267, t = 6)
    normalized  the same for (x - low) / (high - low), low and high the 1st and the 99th percentile
                of the image that the patch x is cut from
    upper_half  the ceil(P / 2) patches of an image whose min(H_infrared, H_visible) is largest
    none        every patch

The first is the released rule. Its share of kept patches depends on the range of gray levels of a
camera: in a dark or flat picture nothing passes. The second asks for bits of what the picture uses,
and the third keeps one half whatever the picture is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ldf_utils.metrics import entropy

RULES = ("bits", "normalized", "upper_half", "none")
SOURCES = ("both", "infrared", "visible")


@dataclass(frozen=True)
class PatchFilter:
    """Decide which patches count.

    Attributes:
        rule: ``bits``, ``normalized``, ``upper_half`` or ``none``, see the module.
        threshold: t, bits of entropy that have to be exceeded; used by ``bits`` and ``normalized``.
        sources: whose bits are asked for: ``both`` (the lesser of the two), ``infrared`` or
            ``visible``.

    Raises:
        ValueError: for another word, or a threshold that is not a number.

    Example:
        >>> images = torch.rand(1, 2, 64, 64)
        >>> PatchFilter("upper_half").keep(images.repeat(4, 1, 1, 1), images).tolist()
        [True, True, False, False]
    """

    rule: str = "bits"
    threshold: float = 6.0
    sources: str = "both"

    def __post_init__(self):
        for name, known in (("rule", RULES), ("sources", SOURCES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"the {name} of the patch filter must be one of {', '.join(known)}, got "
                    f"{getattr(self, name)!r}"
                )
        if self.threshold != self.threshold:
            raise ValueError("the threshold of the patch filter must be a number, got NaN")

    @torch.no_grad()
    def keep(self, patches: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Find the patches that count.

        Args:
            patches: ``(P * B, 2, h, w)`` in [0, 1], infrared first, rows ``p * B + b``.
            images: ``(B, 2, H, W)``, what they were cut from.

        Returns:
            ``(P * B,)`` bool, True where the patch counts.

        Raises:
            ValueError: if P is no whole number, or for a NaN.
        """
        count, rest = divmod(len(patches), len(images))
        if rest:
            raise ValueError(
                f"the number of patches must be a multiple of the number of images, got "
                f"{len(patches)} patches of {len(images)} images"
            )
        if self.rule == "none":
            return torch.ones(len(patches), dtype=torch.bool, device=patches.device)
        if self.rule == "normalized":
            patches = normalize_range(patches, images)
        bits = self.bits(patches)
        if self.rule != "upper_half":
            return bits > self.threshold
        order = bits.view(count, -1).argsort(dim=0, descending=True, stable=True)
        kept = torch.zeros_like(order, dtype=torch.bool)
        return kept.scatter_(0, order[: (count + 1) // 2], True).flatten()

    def bits(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the bits that are compared, ``(N,)``: of one source, or the lesser of the two.

        Args:
            patches: ``(N, 2, h, w)`` in [0, 1], infrared first.

        Raises:
            ValueError: for a NaN.
        """
        sides = {"infrared": [0], "visible": [1]}.get(self.sources, [0, 1])
        return torch.stack([entropy(patches[:, side], rounded=False) for side in sides]).amin(0)


def normalize_range(patches: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Stretch each patch by the range of its image: ``(x - low) / (high - low)``, within [0, 1].

    Args:
        patches: ``(P * B, C, h, w)``, rows ``p * B + b``.
        images: ``(B, C, H, W)``; low and high are the 1st and the 99th percentile of each channel.

    Returns:
        The shape of the patches; 0 where the image is flat.
    """
    pixels = images.flatten(2).sort(dim=-1).values
    last = pixels.shape[-1] - 1
    low, high = pixels[..., round(0.01 * last)], pixels[..., round(0.99 * last)]
    scale = torch.where(high > low, 1 / (high - low).clamp(min=1e-6), torch.zeros_like(low))
    count = len(patches) // len(images)
    low, scale = (x.repeat(count, 1)[..., None, None] for x in (low, scale))
    return ((patches - low) * scale).clamp(0, 1)
