"""A smooth displacement beyond the homography: nearer things move more between two cameras."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize

from ldf_utils.registration.geometry import Array
from ldf_utils.registration.opencv import opencv
from ldf_utils.registration.similarity import Level, Source, Volume, measure

LEVEL = Level(480, reach=4, window=61, points=14)
_BENDING = 0.004  # price of a squared pixel between neighboring points
_SIZE = 0.0005  # price of a squared pixel


def find_deformation(source: Source, matrix: Array) -> npt.NDArray[np.float32] | None:
    """Find a smooth displacement in the visible frame that makes the pictures more alike.

    Points on a grid move to where their windows agree, at the price of differing from their
    neighbors; between them the displacement is interpolated. It is kept if it raises the
    similarity of windows that it was not fitted to (each half of a checkerboard by the other).

    Args:
        source: the pair.
        matrix: the homography from visible to infrared pixels.

    Returns:
        ``(H, W, 2)`` in visible pixels, x and y, to add before the matrix is applied; None where
        none is better than that.
    """
    cv2 = opencv()
    volume = measure(source, matrix, LEVEL)
    columns = len(np.unique(volume.points[:, 0]))
    rows = len(volume.points) // columns
    parity = np.indices((rows, columns)).sum(0).reshape(-1) % 2
    gains = []
    for half in (0, 1):
        field = _fit(volume, volume.weights * (parity == half), rows, columns)
        held = parity != half
        better = volume.at(field)[0] - volume.at(np.zeros_like(field))[0]
        gains.append((volume.weights * better)[held])
    gain = np.concatenate(gains)
    error = gain.std() * np.sqrt(len(gain))
    if gain.sum() < 2 * error:
        return None
    field = _fit(volume, volume.weights, rows, columns).reshape(rows, columns, 2)
    height, width = source.visible.shape
    scale = np.array([width / volume.size[1], height / volume.size[0]])
    first, last = volume.points[0], volume.points[-1]
    step = (last - first) / np.maximum(1, [columns - 1, rows - 1])
    x = ((np.arange(width) + 0.5) / scale[0] - 0.5 - first[0]) / step[0]
    y = ((np.arange(height) + 0.5) / scale[1] - 0.5 - first[1]) / step[1]
    at_x, at_y = np.meshgrid(x.clip(0, columns - 1), y.clip(0, rows - 1))
    return cv2.remap(
        np.float32(field * scale),
        np.float32(at_x),
        np.float32(at_y),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _fit(volume: Volume, weights: Array, rows: int, columns: int) -> Array:
    """Maximize similarity less bending over the displacement of every point, ``(N, 2)``."""
    weights = weights / weights.sum()

    def cost(flat: Array) -> tuple[float, Array]:
        field = flat.reshape(-1, 2)
        value, slope = volume.at(field)
        net = field.reshape(rows, columns, 2)
        down, right = np.diff(net, axis=0), np.diff(net, axis=1)
        penalty = _BENDING * ((down**2).sum() + (right**2).sum()) / len(field)
        penalty += _SIZE * (field**2).mean()
        pull = np.zeros_like(net)
        pull[1:] += down
        pull[:-1] -= down
        pull[:, 1:] += right
        pull[:, :-1] -= right
        gradient = -weights[:, None] * slope + _SIZE * field / len(field)
        gradient += 2 * _BENDING * pull.reshape(-1, 2) / len(field)
        return float(penalty - weights @ value), gradient.ravel()

    start = np.zeros(volume.points.size)
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return found.x.reshape(-1, 2)
