"""Bodies as signed distances: lofted solids, smooth unions, and the mesh of the zero level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_matrix
from skimage.measure import marching_cubes

Array = npt.NDArray[Any]
_STEPS = 48
_FAR = np.float32(1.0)


@dataclass(frozen=True)
class Loft:
    """Describe a solid with elliptical cross-sections along an axis and rounded ends.

    Attributes:
        origin: point from which the axis starts, ``(3,)`` in meters.
        frame: columns are the unit vectors u (forward), v (left) and w (along the axis).
        knots: rows ``(w, half width along u, half width along v, offset of the center along u)``.
        caps: how far the rounded ends reach beyond the first and the last knot.
        power: 2 for ellipses, more for boxier sections.
    """

    origin: Array
    frame: Array
    knots: tuple[tuple[float, float, float, float], ...]
    caps: tuple[float, float] = (0.02, 0.02)
    power: float = 2.0

    def table(self) -> tuple[Array, float, float]:
        """Return the sections resampled at equal steps, with the start and the length."""
        rows = np.asarray(self.knots, np.float64)
        start, end = rows[0, 0], rows[-1, 0]
        at = np.linspace(start, end, _STEPS)
        return PchipInterpolator(rows[:, 0], rows[:, 1:])(at).astype(np.float32), start, end - start

    def grown(self, by: float) -> Loft:
        """Return the solid with every half width larger by ``by`` meters."""
        rows = tuple((w, u + by, v + by, c) for w, u, v, c in self.knots)
        return Loft(self.origin, self.frame, rows, self.caps, self.power)

    def corners(self, margin: float) -> Array:
        """Return the eight corners of the oriented box around the solid."""
        rows = np.asarray(self.knots)
        low = [(rows[:, 3] - rows[:, 1]).min(), -rows[:, 2].max(), rows[0, 0] - self.caps[0]]
        high = [(rows[:, 3] + rows[:, 1]).max(), rows[:, 2].max(), rows[-1, 0] + self.caps[1]]
        box = np.array([np.array(low) - margin, np.array(high) + margin])
        pick = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
        points = np.take_along_axis(box, pick, axis=0)
        return (self.origin + points @ self.frame.T).astype(np.float32)

    def distance(self, points: Array) -> Array:
        """Return the approximate signed distance of ``(..., 3)`` points, negative inside."""
        local = (points - self.origin.astype(np.float32)) @ self.frame.astype(np.float32)
        return self._radial(local[..., 0], local[..., 1], local[..., 2])

    def _radial(self, u: Array, v: Array, w: Array) -> Array:
        """Scale the distance from the axis by how far the section is left behind."""
        table, start, length = self.table()
        t = np.clip((w - start) * ((_STEPS - 1) / length), 0, _STEPS - 1)
        low = np.minimum(t.astype(np.int32), _STEPS - 2)
        section = table[low]
        section = section + (table[low + 1] - section) * (t - low)[..., None]
        u = u - section[..., 2]
        beyond = np.maximum(w - start - length, 0) / self.caps[1]
        beyond = beyond + np.maximum(start - w, 0) / self.caps[0]
        if self.power == 2.0:
            across = (u / section[..., 0]) ** 2 + (v / section[..., 1]) ** 2
        else:
            across = np.abs(u / section[..., 0]) ** self.power
            across += np.abs(v / section[..., 1]) ** self.power
            across **= 2 / self.power
        ratio = np.sqrt(across + beyond**2) + 1e-4
        caps = np.where(w > start, self.caps[1], self.caps[0]) * beyond
        size = np.sqrt(u * u + v * v + caps * caps) + 1e-5
        return (size * (1 - 1 / ratio)).astype(np.float32)


def ball(
    center: Sequence[float] | Array, radii: Sequence[float], frame: Array | None = None
) -> Loft:
    """Return an ellipsoid with half axes ``radii`` along the columns of ``frame``."""
    u, v, w = radii
    axes = np.eye(3, dtype=np.float32) if frame is None else frame
    eps = 0.02 * w
    knots = ((-eps, u, v, 0.0), (eps, u, v, 0.0))
    return Loft(np.asarray(center, np.float32), axes, knots, (w - eps, w - eps))


def rod(a: Array, b: Array, radius_a: float, radius_b: float) -> Loft:
    """Return a round cone from ``a`` to ``b`` with rounded ends."""
    axis = np.asarray(b, np.float64) - a
    length = float(np.linalg.norm(axis))
    knots = ((0.0, radius_a, radius_a, 0.0), (length, radius_b, radius_b, 0.0))
    frame = frame_along(axis, np.array([1.0, 0.0, 0.0]))
    return Loft(np.asarray(a, np.float32), frame, knots, (radius_a, radius_b))


def frame_along(axis: npt.ArrayLike, forward: npt.ArrayLike) -> Array:
    """Return a frame whose w runs along ``axis`` and whose u is nearest to ``forward``."""
    w = np.asarray(axis, np.float64)
    w = w / np.linalg.norm(w)
    u = np.asarray(forward, np.float64) - np.dot(forward, w) * w
    if np.linalg.norm(u) < 1e-3:
        other = np.array([0.0, 0.0, 1.0]) if abs(w[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
        u = other - np.dot(other, w) * w
    u = u / np.linalg.norm(u)
    return np.stack([u, np.cross(w, u), w], axis=1).astype(np.float32)


class Field:
    """Hold a signed distance on a grid and build it from solids."""

    def __init__(self, low: npt.ArrayLike, high: npt.ArrayLike, cell: float) -> None:
        """Lay a grid of cells of ``cell`` meters over the box from ``low`` to ``high``."""
        self.cell = cell
        self.low = np.asarray(low, np.float32) - 2 * cell
        count = np.ceil((np.asarray(high) - np.asarray(low)) / cell).astype(int) + 5
        self.axes = [self.low[i] + cell * np.arange(count[i], dtype=np.float32) for i in range(3)]
        self.values = np.full(count, _FAR, np.float32)

    @classmethod
    def around(cls, solids: Sequence[Loft], cell: float, margin: float = 0.02) -> Field:
        """Return an empty field whose box holds all solids."""
        corners = np.concatenate([solid.corners(margin) for solid in solids])
        return cls(corners.min(0), corners.max(0), cell)

    def _window(self, corners: Array) -> tuple[slice, slice, slice]:
        """Return the part of the grid that the corners enclose."""
        low = np.floor((corners.min(0) - self.low) / self.cell).astype(int)
        high = np.ceil((corners.max(0) - self.low) / self.cell).astype(int) + 1
        size = self.values.shape
        first, second, third = (
            slice(max(int(low[i]), 0), max(min(int(high[i]), size[i]), 0)) for i in range(3)
        )
        return first, second, third

    def _evaluate(self, solid: Loft, reach: float) -> tuple[tuple[slice, slice, slice], Array]:
        """Return the window of a solid and its distances there."""
        window = self._window(solid.corners(reach + 2 * self.cell))
        frame, origin = solid.frame, solid.origin
        x, y, z = (self.axes[i][window[i]] - origin[i] for i in range(3))
        u, v, w = (
            (x * frame[0, k])[:, None, None] + (y * frame[1, k])[:, None] + z * frame[2, k]
            for k in range(3)
        )
        return window, solid._radial(u, v, w)

    def add(self, solid: Loft, blend: float = 0.02) -> Field:
        """Join a solid to the field, rounding the seam over ``blend`` meters."""
        window, distance = self._evaluate(solid, blend)
        self.values[window] = smooth_min(self.values[window], distance, blend)
        return self

    def cut(self, solid: Loft, blend: float = 0.01) -> Field:
        """Take a solid away from the field."""
        window, distance = self._evaluate(solid, blend)
        self.values[window] = -smooth_min(-self.values[window], distance, blend)
        return self

    def merge(self, other: Field, blend: float = 0.005) -> Field:
        """Join a field on the same grid."""
        self.values = smooth_min(self.values, other.values, blend)
        return self

    def above(self, point: npt.ArrayLike, normal: npt.ArrayLike, blend: float = 0.004) -> Field:
        """Keep what lies on the side of the plane to which ``normal`` points."""
        unit = np.asarray(normal, np.float32) / np.float32(np.linalg.norm(normal))
        x, y, z = (self.axes[i] - np.float32(np.asarray(point)[i]) for i in range(3))
        height = (x * unit[0])[:, None, None] + (y * unit[1])[:, None] + z * unit[2]
        self.values = -smooth_min(-self.values, height, blend)
        return self

    @property
    def is_empty(self) -> bool:
        """Whether no point of the grid lies inside, so that there is nothing to mesh."""
        return bool((self.values >= 0).all())

    def mesh(self, relax: int = 2) -> tuple[Array, npt.NDArray[np.int32]]:
        """Return vertices ``(V, 3)`` and outward faces ``(F, 3)`` of the zero level.

        Args:
            relax: rounds of moving each vertex halfway to the middle of its neighbors, which
                evens out the slivers of marching cubes.
        """
        values = np.pad(self.values, 1, constant_values=_FAR)
        vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
        vertices = ((vertices - 1) * self.cell + self.low).astype(np.float32)
        faces = faces.astype(np.int32)
        if relax:
            average = neighbor_average(len(vertices), faces)
            for _ in range(relax):
                vertices = 0.5 * vertices + 0.5 * (average @ vertices)
        return vertices.astype(np.float32), faces


def smooth_min(a: Array, b: Array, blend: float) -> Array:
    """Return the polynomial smooth minimum of two distances."""
    if blend <= 0:
        return np.minimum(a, b)
    h = np.maximum(blend - np.abs(a - b), 0) * np.float32(1 / blend)
    return np.minimum(a, b) - h * h * np.float32(blend / 4)


def neighbor_average(count: int, faces: npt.NDArray[np.int32]) -> csr_matrix:
    """Return the sparse matrix that averages values over the neighbors of each vertex."""
    start = faces.ravel()
    end = faces[:, [1, 2, 0]].ravel()
    ones = np.ones(len(start), np.float32)
    links = csr_matrix((ones, (start, end)), (count, count))
    total = np.asarray(links.sum(1)).ravel()
    links.data /= np.repeat(np.maximum(total, 1), np.diff(links.indptr)).astype(np.float32)
    return links


def vertex_normals(vertices: Array, faces: npt.NDArray[np.int32]) -> Array:
    """Return unit normals at the vertices, weighted by the areas of the faces."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for axis in range(3):
        total[:, axis] = sum(
            np.bincount(faces[:, i], normal[:, axis], len(vertices)) for i in range(3)
        )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.maximum(length, 1e-12)).astype(np.float32)


class Noise:
    """Evaluate smooth noise of zero mean and about unit range in three dimensions."""

    def __init__(self, seed: int, size: int = 24) -> None:
        """Draw the lattice from ``seed``."""
        lattice = np.random.default_rng(seed).uniform(-1, 1, (size, size, size))
        self.lattice = lattice.astype(np.float32)

    def __call__(self, points: npt.ArrayLike) -> Array:
        """Return the noise at ``(N, 3)`` points, whose unit is one cell of the lattice."""
        at = np.mod(np.asarray(points, np.float32), self.lattice.shape[0]).T
        value = map_coordinates(self.lattice, at, order=2, mode="grid-wrap", prefilter=False)
        return (1.6 * value).astype(np.float32)
