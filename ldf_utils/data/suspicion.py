"""Suspicion: pairs that can be read and are most likely not what was meant.

Each check gives a sentence that says why, and what to do; the job goes on. What one pair shows is
looked at whenever a pair is read (`of_pair`), what only a folder shows by `of_folder`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from ldf_utils.data.names import ImageError

SAMPLE = 8
"""So many pairs of a folder, evenly spaced, are looked at."""

_COLORED = 0.01  # mean of the largest minus the smallest channel; 0 in all real sets
_GRAY = 0.003
_FLAT = 1.5 / 255  # an infrared picture that spans no more is constant
_BLACK_HOT = -1.5  # median skewness; people and engines are few and bright: positive if white-hot
_PIXELS = 30e6  # no more pairs are looked at than have so many in all
_REACH = 24  # pixels that a shift is looked for
_SHIFTED = 5  # pixels from which a shift is worth a word
_log = logging.getLogger(__name__)


class Pair(Protocol):
    """What is needed of a `ldf_utils.data.pairs.Pair`, whose module imports this one."""

    @property
    def infrared(self) -> torch.Tensor: ...
    @property
    def visible(self) -> torch.Tensor: ...
    @property
    def luminance(self) -> torch.Tensor: ...
    @property
    def size(self) -> tuple[int, int]: ...


def of_pair(pair: Pair, infrared: torch.Tensor) -> Iterator[tuple[str, str]]:
    """Look at one pair.

    Args:
        pair: the pair as it was read.
        infrared: the infrared picture before it was brought to one channel.

    Yields:
        The kind of suspicion, and what to tell.
    """
    colored, gray = _chroma(infrared) > _COLORED, _chroma(pair.visible) < _GRAY
    if colored and gray:
        yield (
            "colors",
            "the infrared picture has colors and the visible one has none, so the two are most "
            "likely swapped; exchange the folders. If it is infrared in false colors, export it in "
            "gray, white-hot",
        )
    elif colored:
        yield (
            "colors",
            "this infrared picture has false colors (a palette such as jet or iron), whose "
            "luminance is no temperature; export it from the camera's program in gray, white-hot, "
            "or as 16-bit counts",
        )
    if (pair.infrared.amax() - pair.infrared.amin()).item() <= _FLAT:
        yield (
            "constant",
            "this infrared picture is constant, so it adds nothing; was the shutter closed, or is "
            "the range of its counts another one?",
        )
    elif pair.infrared.shape == pair.luminance.shape and (
        (pair.infrared - pair.luminance).abs().amax() <= 1e-3
    ):
        yield (
            "same",
            "the infrared and the visible picture are the same; was one folder given for both?",
        )


def of_folder(pairs: Sequence[Pair], sample: int = SAMPLE) -> list[str]:
    """Look at pairs of one folder together.

    - *Shift*: edges of both pictures (roots of gradients, less their local mean) are correlated at
      all shifts up to 24 pixels, and the mean over pairs has its peak 5 pixels from zero or more.
    - *Numbering*: the same correlation is higher with the visible picture before or after.
    - *Polarity*: the infrared gray levels are skewed to the dark side, as in black-hot pictures.

    Args:
        pairs: a set; pairs that cannot be read are left out.
        sample: how many are looked at.

    Returns:
        A sentence for each suspicion; none for pairs as they should be.
    """
    if not len(pairs):
        return []
    chosen = np.unique(np.linspace(0, len(pairs) - 1, sample).round().astype(int)).tolist()
    read: dict[int, Pair] = {}
    for k in chosen:
        if sum(pair.infrared.numel() for pair in read.values()) > _PIXELS:
            break
        if (pair := _read(pairs, k)) is not None:
            read[k] = pair
    there = list(read.values())
    # A camera that pans shows pictures one off as shifted ones: what agrees better is told.
    place = max(_shift(there), _numbering(pairs, read), key=lambda found: found[0])
    return [text for text in (place[1], _polarity(there)) if text]


def warn(pairs: Sequence[Pair], place: object) -> None:
    """Log what is suspicious about the pairs of a folder, one warning each."""
    for text in of_folder(pairs):
        _log.warning("%s: %s", place, text)


def _read(pairs: Sequence[Pair], number: int) -> Pair | None:
    try:
        return pairs[number]
    except (ImageError, OSError):
        return None  # whoever works on it says why


def _chroma(image: torch.Tensor) -> float:
    if image.shape[0] == 1:
        return 0.0
    return (image.amax(0) - image.amin(0)).mean().item()


def _edges(image: torch.Tensor, longest: int) -> tuple[np.ndarray, int]:
    """Edges of a picture that is shrunk by a whole factor to sides of about ``longest``."""
    factor = max(1, round(max(image.shape) / longest))
    small = F.avg_pool2d(image[None], factor)[0, 0].double().numpy()
    slope = np.gradient(ndimage.gaussian_filter(small, 1.0))
    edges = np.sqrt(np.hypot(*slope))
    return edges - ndimage.uniform_filter(edges, 31), factor


def _correlation(infrared: np.ndarray, visible: np.ndarray, reach: int) -> np.ndarray:
    """Correlation at shifts of -reach..reach; at (dy, dx) infrared lies so far down and right."""
    size = [side + 2 * reach for side in infrared.shape]
    spectra = [np.fft.rfft2(array - array.mean(), size) for array in (infrared, visible)]
    product = np.fft.irfft2(spectra[0] * spectra[1].conj(), size)
    surface = np.roll(product, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    return surface / max(infrared.std() * visible.std() * infrared.size, 1e-12)


def _shift(pairs: Sequence[Pair]) -> tuple[float, str | None]:
    """Return the correlation at the best shift, and what to tell about it."""
    surfaces: dict[int, list[np.ndarray]] = {}
    for pair in pairs:
        if min(pair.size) < 3 * _REACH:
            continue
        (infrared, factor), (visible, _) = (_edges(x, 640) for x in (pair.infrared, pair.luminance))
        surfaces.setdefault(factor, []).append(_correlation(infrared, visible, _REACH))
    if not surfaces:
        return 0.0, None
    factor, alike = max(surfaces.items(), key=lambda item: len(item[1]))
    mean = np.mean(alike, axis=0)
    down, right = (
        int(factor * (place - _REACH)) for place in np.unravel_index(mean.argmax(), mean.shape)
    )
    near = mean[_REACH - 2 : _REACH + 3, _REACH - 2 : _REACH + 3].max()
    few = len(alike) < 3  # one pair alone may agree elsewhere by chance
    least, ratio, farthest = (0.12, 1.5, 16) if few else (0.05, 1.25, math.inf)
    if not _SHIFTED <= math.hypot(down, right) <= farthest or mean.max() < max(least, ratio * near):
        return 0.0, None
    return float(mean.max()), (
        f"the edges of infrared and visible agree best (correlation {mean.max():.2f}, in place "
        f"{near:.2f}) if infrared is moved by {-right} pixels to the right and {-down} down, so "
        "the pairs are most likely not registered; move or register them first"
    )


def _numbering(pairs: Sequence[Pair], read: dict[int, Pair]) -> tuple[float, str | None]:
    """Return the correlation with neighbors, and what to tell about it."""
    agreement: dict[int, list[float]] = {-1: [], 0: [], 1: []}
    for k, pair in list(read.items())[:: 1 + (len(read) > 5)]:
        others = {d: _read(pairs, k + d) for d in (-1, 1) if 0 <= k + d < len(pairs)} | {0: pair}
        alike = {d: p for d, p in others.items() if p is not None and p.size == pair.size}
        if len(alike) < 3 or min(pair.size) < 64:
            continue
        infrared, _ = _edges(pair.infrared, 320)
        for d, other in alike.items():
            surface = _correlation(infrared, _edges(other.luminance, 320)[0], 2)
            agreement[d].append(float(surface.max()))
    if len(agreement[0]) < 2:
        return 0.0, None
    means = {d: float(np.mean(values)) for d, values in agreement.items()}
    best = max(means, key=lambda d: means[d])
    wins = np.mean(np.array(agreement[best]) > np.array(agreement[0]))
    if best == 0 or means[best] < max(0.08, 1.5 * means[0]) or wins < 0.75:
        return 0.0, None
    return means[best], (
        f"the infrared pictures agree with the visible ones {'after' if best > 0 else 'before'} "
        f"them (correlation of edges {means[best]:.2f}, with their own {means[0]:.2f}), so the "
        "numbering of one folder is most likely off by one; rename its files"
    )


def _polarity(pairs: Sequence[Pair]) -> str | None:
    skews = []
    for pair in pairs:
        levels = pair.infrared.flatten()[:: 1 + pair.infrared.numel() // 1_000_000].double()
        spread = levels.std().item()
        if spread > 0.05:
            skews.append((((levels - levels.mean()) / spread) ** 3).mean().item())
    if not skews or np.median(skews) > (_BLACK_HOT if len(skews) > 2 else 2 * _BLACK_HOT):
        return None
    return (
        "a few parts of the infrared pictures are far darker than the rest (skewness "
        f"{np.median(skews):.1f}), as people and engines are if hot is black; if it is, turn the "
        "polarity (--polarity black-hot)"
    )
