"""Solid noise: smooth random fields over space, the same for the same seed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float32]
_PERIOD = 64


@lru_cache(maxsize=4)
def _lattice(seed: int) -> Array:
    """Random values in [-1, 1] on a cube that repeats."""
    values = np.random.default_rng(seed).uniform(-1, 1, (_PERIOD,) * 3)
    return np.pad(values.astype(np.float32), ((0, 1),) * 3, mode="wrap")


def value_noise(points: npt.NDArray[np.floating], wavelength: float, seed: int = 0) -> Array:
    """Look up noise in [-1, 1] at points ``(..., 3)`` in meters, by trilinear interpolation."""
    shift = np.random.default_rng(seed).uniform(0, _PERIOD, 3)
    grid = points / wavelength + shift
    grid -= _PERIOD * np.floor(grid / _PERIOD)  # the remainder, exact for a power of two
    grid = grid.astype(np.float32)
    return ndimage.map_coordinates(
        _lattice(7), [grid[..., k] for k in range(3)], order=1, mode="nearest", prefilter=False
    )


def fractal(
    points: npt.NDArray[np.floating],
    wavelength: float,
    octaves: int = 3,
    gain: float = 0.55,
    seed: int = 0,
    footprint: npt.NDArray[np.floating] | None = None,
) -> Array:
    """Sum octaves of noise, each of half the wavelength; about [-1, 1].

    Octaves finer than twice ``footprint`` (the size of a pixel on the surface, meters) fade out,
    so that distant surfaces do not flicker.
    """
    total = np.zeros(points.shape[:-1], np.float32)
    norm = 0.0
    for k in range(octaves):
        wave = wavelength / 2**k
        if footprint is None:
            total += gain**k * value_noise(points, wave, seed + 17 * k)
        else:
            share = np.clip(wave / (2 * footprint + 1e-9) - 0.2, 0, 1)
            seen = share > 0
            octave = value_noise(points[seen], wave, seed + 17 * k)
            total[seen] += gain**k * (octave * share[seen])
        norm += gain**k
    return (total / norm).astype(np.float32)


def hash01(*keys: npt.NDArray[np.integer] | int) -> Array:
    """Turn integers into numbers in [0, 1) that look random."""
    h = np.zeros(np.broadcast_shapes(*(np.shape(k) for k in keys)), np.uint32)
    with np.errstate(over="ignore"):
        for k in keys:
            h = h ^ (np.asarray(k).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)
            h = h * np.uint32(0x9E3779B1)
            h = h ^ (h >> np.uint32(15))
            h = h * np.uint32(0x85EBCA77)
            h = h ^ (h >> np.uint32(13))
    return (h.astype(np.float64) / 2**32).astype(np.float32)


def power_noise(
    shape: tuple[int, int], exponent: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Make a picture of noise whose amplitude falls as ``frequency**-exponent``; mean 0, std 1."""
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None]
    f = np.hypot(fy, fx)
    f[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / f**exponent
    spectrum[0, 0] = 0
    x = np.fft.irfft2(spectrum, shape)
    return ((x - x.mean()) / (x.std() + 1e-12)).astype(np.float32)
