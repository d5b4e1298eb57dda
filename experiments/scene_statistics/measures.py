"""Statistics of pictures, and how far the distribution of one set is from that of another.

All pictures are compared at the same height, since gradients and spectra depend on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from experiments.scene_statistics.pictures import Picture

Array = npt.NDArray[np.float32]
ROWS = 192
BLOCK = 16
PIXELS = 800
RINGS = np.geomspace(4, 90, 13)
"""Edges of the rings of frequency, in cycles a picture height."""
PER_CAMERA = ("gray", "gradient", "entropy", "spectrum")
BETWEEN = "correlation"


def gradient(x: Array) -> Array:
    """Return the magnitude of the gradient by central differences, per pixel."""
    gy, gx = np.gradient(x)
    return np.hypot(gx, gy).astype(np.float32)


def entropy(x: Array) -> Array:
    """Return the entropy of the gray levels (32 bins) of every block of 16 x 16 pixels, in bits."""
    h, w = (n // BLOCK * BLOCK for n in x.shape)
    blocks = x[:h, :w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).swapaxes(1, 2)
    levels = np.clip((blocks.reshape(-1, BLOCK * BLOCK) * 32).astype(int), 0, 31)
    counts = np.stack([np.bincount(row, minlength=32) for row in levels]) / BLOCK**2
    bits: Array = -(counts * np.log2(np.maximum(counts, 1e-12))).sum(1)
    return bits.astype(np.float32)


def spectrum(x: Array) -> Array:
    """Return log10 of the mean power in each ring of frequency, of the middle square.

    The picture is windowed (Hann); 1 is the power of white noise of standard deviation 1.
    """
    side = min(x.shape)
    left = (x.shape[1] - side) // 2
    square = x[:side, left : left + side]
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = np.abs(np.fft.fft2((square - square.mean()) * window)) ** 2 / (window**2).sum()
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.fftfreq(side, 1 / side)))
    rings = itertools.pairwise(RINGS)
    return np.array(
        [np.log10(power[(f >= a) & (f < b)].mean() + 1e-9) for a, b in rings], np.float32
    )


def slope(x: Array) -> float:
    """Return the exponent of the amplitude spectrum's fall; 0 is white noise.

    Example:
        >>> abs(slope(np.random.default_rng(0).random((192, 192), np.float32))) < 0.1
        True
    """
    middle = np.sqrt(RINGS[1:] * RINGS[:-1])
    return float(np.polyfit(np.log10(middle), spectrum(x) / 2, 1)[0])


def correlation(infrared: Array, visible: Array) -> float:
    """Return Pearson's correlation of two pictures, 0 where one of them is flat."""
    a, b = infrared - infrared.mean(), visible - visible.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-6 else 0.0


def samples(pictures: Sequence[Picture]) -> dict[str, Array]:
    """Return what is compared: values of pixels and blocks, and one row of rings per picture."""
    rng = np.random.default_rng(0)
    grays = [p.gray for p in pictures]
    blocks = [entropy(x) for x in grays]
    return {
        "gray": np.concatenate([rng.choice(x.ravel(), PIXELS) for x in grays]),
        "gradient": np.concatenate([rng.choice(gradient(x).ravel(), PIXELS) for x in grays]),
        "entropy": np.concatenate([rng.choice(b, 100) for b in blocks]),
        "spectrum": np.stack([spectrum(x) for x in grays]),
    }


def distance(a: Array, b: Array, spread: Array) -> float:
    """Return the Wasserstein-1 distance of two samples, over the standard deviation of ``spread``.

    Rows of rings are compared ring by ring, and the distances averaged.
    """
    if a.ndim == 1:
        return float(wasserstein_distance(a, b) / (spread.std() + 1e-9))
    columns = zip(a.T, b.T, spread.T, strict=True)
    return float(np.mean([wasserstein_distance(x, y) / (s.std() + 1e-9) for x, y, s in columns]))


def distances(
    made: Mapping[str, Array], real: Mapping[str, Mapping[str, Array]]
) -> dict[str, dict[str, float]]:
    """Return the distance of made pictures to every real set, and of real sets to each other.

    Args:
        made: ``samples`` of the made pictures.
        real: ``samples`` of every real set.

    Returns:
        For each statistic the distance to every set; ``mean`` over the sets; ``real``, the mean
        distance between two real sets. The unit is the standard deviation over all real sets,
        every one counting the same.
    """
    result = {}
    names = list(real)
    for key in made:
        most = max(len(real[n][key]) for n in names)
        spread = np.concatenate(
            [np.resize(real[n][key], (most, *real[n][key].shape[1:])) for n in names]
        )
        row = {n: distance(made[key], real[n][key], spread) for n in names}
        between = [
            distance(real[a][key], real[b][key], spread)
            for k, a in enumerate(names)
            for b in names[k + 1 :]
        ]
        row = {**row, "mean": float(np.mean(list(row.values()))), "real": float(np.mean(between))}
        result[key] = {n: round(v, 3) for n, v in row.items()}
    return result
