"""Homographies: eight numbers in pixels, what they do to points, and pictures of other sizes.

A matrix maps visible pixels to infrared pixels, ``(x, y, 1)``, the centers of pixels at integers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PARAMETERS = 8
"""Shift x and y, rotation, scale, stretch, shear, perspective x and y."""


def resize_matrix(source: tuple[int, int], target: tuple[int, int]) -> Array:
    """Return the matrix from the pixels of one size to those of another, (height, width) each.

    Example:
        >>> resize_matrix((100, 100), (50, 50))[0].tolist()
        [0.5, 0.0, -0.25]
    """
    y, x = target[0] / source[0], target[1] / source[1]
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def transform(matrix: Array, points: npt.ArrayLike) -> Array:
    """Apply a 3 x 3 matrix to points ``(N, 2)``, x and y."""
    points = np.asarray(points, np.float64)
    result = points @ matrix[:, :2].T + matrix[:, 2]
    return result[:, :2] / result[:, 2:]


def grid(size: tuple[int, int], count: int = 9) -> Array:
    """Return ``count`` x ``count`` points over a picture of (height, width), 5 % from its edge."""
    ys, xs = (np.linspace(0.05, 0.95, count) * (side - 1) for side in size)
    return np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)


def median_distance(first: Array, second: Array, size: tuple[int, int]) -> float:
    """Return the median distance in infrared pixels between where two matrices put the points."""
    points = grid(size)
    return float(np.median(np.hypot(*(transform(first, points) - transform(second, points)).T)))


def pixel_scale(matrix: Array, size: tuple[int, int]) -> float:
    """Return how many infrared pixels one visible pixel in the middle of the picture spans."""
    middle = np.array([[size[1] / 2, size[0] / 2]])
    steps = [transform(matrix, middle + step) for step in ([0, 0], [1, 0], [0, 1])]
    (ax, ay), (bx, by) = (steps[1] - steps[0])[0], (steps[2] - steps[0])[0]
    return float(np.sqrt(abs(ax * by - ay * bx)))


class Frame:
    """The picture in which a small homography is described.

    Its eight parameters are pixels of displacement at the distance of half a diagonal from the
    middle, so that all are of one size.
    """

    def __init__(self, height: int, width: int):
        self.radius = float(np.hypot(height, width)) / 2
        self.middle = np.array([(width - 1) / 2, (height - 1) / 2])

    def _entries(self, parameters: npt.ArrayLike) -> Array:
        x, y, turn, scale, stretch, shear, tilt_x, tilt_y = (
            np.asarray(parameters, np.float64) / self.radius
        )
        return np.array(
            [
                [1 + scale + stretch, shear - turn, x],
                [turn + shear, 1 + scale - stretch, y],
                [tilt_x, tilt_y, 1],
            ]
        )

    def matrix(self, parameters: npt.ArrayLike) -> Array:
        """Return the 3 x 3 matrix, which maps pixels of the frame to pixels of the frame."""
        inward = np.eye(3) / self.radius
        inward[:2, 2], inward[2, 2] = -self.middle / self.radius, 1
        return np.linalg.inv(inward) @ self._entries(parameters) @ inward

    def displacement(self, parameters: npt.ArrayLike, points: Array) -> tuple[Array, Array]:
        """Return how far points move ``(N, 2)``, and the derivative ``(N, 2, 8)``."""
        u, v = ((points - self.middle) / self.radius).T
        entries = self._entries(parameters)
        x, y, w = entries @ np.stack([u, v, np.ones_like(u)])
        x, y = x / w, y / w
        zero, one = np.zeros_like(u), np.ones_like(u)
        of_x = np.stack([one, zero, -v, u, u, v, -x * u, -x * v], 1)
        of_y = np.stack([zero, one, u, v, -v, u, -y * u, -y * v], 1)
        moved = np.stack([x - u, y - v], 1) * self.radius
        return moved, np.stack([of_x, of_y], 1) / w[:, None, None]
