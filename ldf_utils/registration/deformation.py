"""A smooth displacement beyond the homography: nearer things move more between two cameras."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

from ldf_utils.registration.geometry import Array
from ldf_utils.registration.opencv import opencv
from ldf_utils.registration.similarity import Level, Source, Volume, measure

LEVEL = Level(480, reach=5, window=31, points=22)
_LENGTH = 25  # pixels of a picture 640 wide, over which neighbors move alike
_PRICE = 0.1  # of a squared pixel, beside the correlation of one window


def find_deformation(source: Source, matrix: Array) -> npt.NDArray[np.float32] | None:
    """Find a smooth displacement in the visible frame that makes the pictures more alike.

    The displacement d of points on a grid maximizes ``sum_i w_i V_i(d_i) - 0.1 d' K^-1 d`` with
    the similarity volumes V, their weights w (mean 1) and ``K_ij = exp(-|p_i - p_j|^2 / 2 l^2)``:
    a Gaussian process of length l = 25 pixels of a picture 640 wide. Between the points it is
    interpolated. It is kept if it raises the similarity of windows that it was not fitted to (each
    half of a checkerboard by the other).

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
        field = _fit(volume, volume.weights * (parity == half))
        held = parity != half
        better = volume.at(field)[0] - volume.at(np.zeros_like(field))[0]
        gains.append((volume.weights * better)[held])
    gain = np.concatenate(gains)
    error = gain.std() * np.sqrt(len(gain))
    if gain.sum() < 2 * error:
        return None
    field = _fit(volume, volume.weights).reshape(rows, columns, 2)
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


def _fit(volume: Volume, weights: Array) -> Array:
    """Find the displacement of every point, ``(N, 2)``."""
    weights = weights / volume.weights.mean()
    length = _LENGTH * max(volume.size) / 640
    apart = ((volume.points[:, None] - volume.points) ** 2).sum(-1)
    covariance = np.exp(-apart / (2 * length**2)) + 1e-3 * np.eye(len(apart))
    factor = linalg.cholesky(covariance, lower=True)

    def cost(flat: Array) -> tuple[float, Array]:
        whitened = flat.reshape(-1, 2)
        value, slope = volume.at(factor @ whitened)
        gradient = 2 * _PRICE * whitened - factor.T @ (weights[:, None] * slope)
        return float(_PRICE * (flat**2).sum() - weights @ value), gradient.ravel()

    start = np.zeros(volume.points.size)
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
    return factor @ found.x.reshape(-1, 2)
