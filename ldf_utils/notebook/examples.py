"""Which pair a lesson shows, and where in it something warm is seen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F
from torch.utils.data import Subset

from ldf_utils.data.pairs import Pair, PairFolder

PREFERRED = ("LLVIP", "MSRS", "RoadScene", "RenderedNight")
"""Sets with people at night, the first of which is shown if no other is named."""


def choose_set(sets: Mapping[str, PairFolder], wanted: str = "") -> PairFolder:
    """Return the set that is wanted, else the first of `PREFERRED` that is there, else any.

    Raises:
        KeyError: if a set is named and not there.
    """
    if wanted:
        return sets[wanted]
    return sets[next((name for name in PREFERRED if name in sets), next(iter(sets)))]


def warm_pixels(pair: Pair) -> torch.Tensor:
    """Mark the brightest 2 % of the infrared image, ``(1, H, W)`` bool."""
    return pair.infrared >= pair.infrared.flatten().quantile(0.98)


def _information(pair: Pair) -> tuple[bool, float]:
    """Whether the visible image is dark, and how much either image shows that the other lacks."""
    warm = warm_pixels(pair)
    infrared = pair.infrared[warm].mean() - pair.infrared.flatten().quantile(0.9)
    visible = pair.luminance[warm].mean() - pair.luminance.mean()
    dark = pair.luminance.mean().item() < 0.3
    return dark, ((infrared - visible) * pair.luminance.std()).item()


def most_informative(pairs: PairFolder, most: int = 0) -> Subset[Pair]:
    """Order the pairs of a set, first the ones in which both cameras have most to add.

    A pair scores high if its warmest pixels stand out much more in the infrared image (even from
    the next warmest tenth) than in the visible one, and if the visible image has contrast. Pairs
    with a dark visible image (mean below 0.3 of full scale) come first.

    Args:
        pairs: the set.
        most: how many pairs to look at, spread evenly over the set; 0 for all.

    Returns:
        The pairs in their order, which are read again when they are asked for.
    """
    count = min(most or len(pairs), len(pairs))
    places = torch.linspace(0, len(pairs) - 1, count).long().tolist()
    places.sort(key=lambda place: _information(pairs[place]), reverse=True)
    return Subset(pairs, places)  # type: ignore[arg-type]  # a Dataset by its methods


def warm_window(pair: Pair, share: float = 0.4) -> tuple[int, int, int, int]:
    """Find the square around the place where most warm pixels lie.

    Args:
        pair: the pair.
        share: side of the square, as a share of the shorter side of the image.

    Returns:
        Left, top, right and bottom in pixels.
    """
    blocks = F.avg_pool2d(warm_pixels(pair)[None].float(), 8)  # share of warm pixels in 8 x 8
    across = max(1, int(share * min(pair.size) / 8))
    density = F.avg_pool2d(blocks, across, stride=1)[0, 0]
    top, left = (8 * i for i in divmod(int(density.argmax()), density.shape[1]))
    return left, top, left + 8 * across, top + 8 * across
