"""Where to begin: the shift, turn and scale between two cameras of different views.

Edge directions as complex numbers, ``strength * exp(2i angle)``, are correlated by the FFT for
every shift at once, on a small copy of the pictures, for each scale and turn that is tried.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from ldf_utils.registration.geometry import Array, resize_matrix
from ldf_utils.registration.opencv import opencv
from ldf_utils.registration.similarity import Source, lay

SIDE = 144
"""Longer side of the visible picture in the search, pixels."""

SCALES = tuple(np.geomspace(0.35, 1.8, 28))
"""Width of the infrared view over that of the visible one."""

TURNS = (-4.0, 0.0, 4.0)
"""Degrees."""

_LEAST_OVERLAP = 0.75  # of the smaller of both views
_SIGNIFICANCE = 0.25  # a small overlap fits by chance more easily


def find_starts(
    source: Source,
    count: int = 4,
    scales: Sequence[float] = SCALES,
    turns: Sequence[float] = TURNS,
) -> list[Array]:
    """Find the most likely rough matrices from visible to infrared pixels, best first.

    Args:
        source: the pair, of any two sizes.
        count: how many, each with another scale or turn.
        scales: of the infrared view over the visible one, by width.
        turns: in degrees.

    Returns:
        At most ``count`` matrices.
    """
    cv2 = opencv()
    full, other = source.visible.shape, source.infrared.shape
    ratio = SIDE / max(full)
    small = (round(full[0] * ratio), round(full[1] * ratio))
    visible = cv2.resize(source.visible, small[::-1], interpolation=cv2.INTER_AREA)
    mask = cv2.resize(source.visible_mask, small[::-1], interpolation=cv2.INTER_NEAREST)
    to_small = resize_matrix(full, small)
    found = []
    reference = _directions(visible, mask)
    for scale in scales:
        for turn in turns:
            # A canvas that holds the whole infrared view; infrared = onto @ canvas.
            width = scale * small[1]
            size = (round(width * other[0] / other[1]), round(width))
            onto = resize_matrix(size, other) @ _turned(turn, size)
            view = _directions(*lay(source, onto, size))
            score, x, y = _best_shift(reference, view)
            shifted = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]])
            found.append((score, scale, turn, onto @ shifted @ to_small))
    found.sort(key=lambda one: -one[0])
    return [matrix for *_, matrix in found[:count]]


def _turned(degrees: float, size: tuple[int, int]) -> Array:
    """Turn around the middle of a picture."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    return np.array(
        [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1]]
    )


def _directions(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Edge strength and doubled direction as complex numbers."""
    cv2 = opencv()
    valid = cv2.erode(mask, np.ones((5, 5), np.uint8)).astype(np.float32)
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    x = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) * valid
    y = cv2.Scharr(smooth, cv2.CV_32F, 0, 1) * valid
    square = x * x + y * y
    around = cv2.GaussianBlur(square, (0, 0), 8.0) + 0.1 * square.mean() + 1e-7
    doubled = ((x * x - y * y) + 2j * x * y) / np.sqrt(square * (square + around) + 1e-12)
    real, imaginary = (
        cv2.GaussianBlur(np.float32(p), (0, 0), 1.0) for p in (doubled.real, doubled.imag)
    )
    return real + 1j * imaginary


def _best_shift(reference: np.ndarray, view: np.ndarray) -> tuple[float, int, int]:
    """Return the best normalized correlation and where the view lies in the reference, x and y."""
    height, width = (a + b for a, b in zip(reference.shape, view.shape, strict=True))
    shape = (fft.next_fast_len(height), fft.next_fast_len(width))

    def correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        product = fft.fft2(first, shape) * np.conj(fft.fft2(second, shape))
        return fft.ifft2(product).real

    shared = correlate(np.ones(reference.shape), np.ones(view.shape))
    energies = [
        np.maximum(correlate(np.abs(reference) ** 2, np.ones(view.shape)), 0),
        np.maximum(correlate(np.ones(reference.shape), np.abs(view) ** 2), 0),
    ]
    enough = _LEAST_OVERLAP * min(reference.size, view.size)
    score = correlate(reference, view) / (np.sqrt(energies[0] * energies[1]) + 1e-3 * enough)
    weight = (np.maximum(shared, 0) / reference.size) ** _SIGNIFICANCE
    score = np.where(shared >= enough, score * weight, -1)
    y, x = np.unravel_index(score.argmax(), score.shape)
    best = float(score[y, x])
    return (
        best,
        int(x) - (shape[1] if x >= reference.shape[1] else 0),
        int(y) - (shape[0] if y >= reference.shape[0] else 0),
    )
