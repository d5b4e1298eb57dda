"""Squares of pairs in which the point of a lesson can be seen: around a warm person."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import avg_pool2d

from ldf_utils.data.pairs import Pair
from ldf_utils.data.truth import truth_of
from ldf_utils.metrics import entropy


def warm_square(pair: Pair, side: int) -> torch.Tensor:
    """Cut a square around warm people where they are known, else around the warmest place.

    Args:
        pair: a pair of images.
        side: of the square in pixels; smaller where the pair is.

    Returns:
        Infrared and visible luminance, ``(2, side, side)`` in [0, 1].
    """
    truth = truth_of(pair)  # None for a real pair
    people = (truth.people & truth.warm).float() if truth else None
    shown = pair.infrared if people is None or not people.any() else people
    near, far = _mean_around(shown, 17), _mean_around(shown, 65)
    row, column = divmod(int((near - far).argmax()), pair.size[1])
    side = min(side, *pair.size)
    top = min(max(row - side // 2, 0), pair.size[0] - side)
    left = min(max(column - side // 2, 0), pair.size[1] - side)
    return torch.cat([pair.infrared, pair.luminance])[:, top : top + side, left : left + side]


def _mean_around(image: torch.Tensor, side: int) -> torch.Tensor:
    """Compute the mean of a square around each pixel, as far as it lies in the image."""
    for size in ((side, 1), (1, side)):  # rows, then columns: the mean of a rectangle
        padding = [k // 2 for k in size]
        image = avg_pool2d(image, size, stride=1, padding=padding, count_include_pad=False)
    return image


def telling_square(
    pairs: Sequence[Pair], candidates: int, side: int
) -> tuple[Pair, list[torch.Tensor], int]:
    """Choose the pair whose square shows most in both sources, by the lesser of the two entropies.

    Args:
        pairs: a set of pairs.
        candidates: how many of its first pairs to choose from.
        side: of the squares in pixels, see `warm_square`.

    Returns:
        The pair, the squares of all candidates, and which of them is its own.
    """
    squares = [warm_square(pairs[k], side) for k in range(min(candidates, len(pairs)))]
    bits = [entropy(square[:, None], rounded=False).min().item() for square in squares]
    chosen = bits.index(max(bits))
    return pairs[chosen], squares, chosen
