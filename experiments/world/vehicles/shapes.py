"""Meshes that vehicles are made of: shells from profiles, tubes, discs, boxes and ribbons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from experiments.world.surface import Field, smooth_min

Array = npt.NDArray[Any]
Mesh = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]
Rows = tuple[tuple[float, float], ...]
Implicit = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Shell:
    """Describe a body by its side view, plan view and cross-section.

    Attributes:
        length, width: outer measures in meters; x points forward, 0 in the middle.
        top: rows ``(x, height of the upper outline in the middle)``, from the rear to the front.
        plan: rows ``(x / length, factor on the width)``.
        section: rows ``(height, factor on the width)``.
        bottom: height of the floor.
        bow: how far front and rear bulge in plan, in meters: ``(front, rear)``.
        crown: how far roof and hood fall from the middle to the side, in meters.
        edge: radius of the edges.
        soft: over how many meters the corners of the side view are rounded.
    """

    length: float
    width: float
    top: Rows
    plan: Rows
    section: Rows
    bottom: float = 0.2
    bow: tuple[float, float] = (0.20, 0.10)
    crown: float = 0.05
    edge: float = 0.09
    soft: float = 0.06

    @cached_property
    def _tables(self) -> tuple[Array, Array, Array, Array]:
        """Return the sampled outline with its slope factor, the plan and the section."""
        x = np.linspace(-self.length / 2 - 0.3, self.length / 2 + 0.3, 600)
        step = x[1] - x[0]
        outline = np.interp(x, *np.array(self.top).T)
        outline = gaussian_filter1d(outline, self.soft / step, mode="nearest")
        slope = 1 / np.sqrt(1 + np.gradient(outline, step) ** 2)
        plan = PchipInterpolator(*np.array(self.plan).T)(np.clip(x / self.length, -0.5, 0.5))
        z = np.linspace(-0.2, 4.2, 500)
        rows = np.array(self.section)
        section = PchipInterpolator(*rows.T)(np.clip(z, rows[0, 0], rows[-1, 0]))
        section = gaussian_filter1d(section, 2.5, mode="nearest")
        return np.stack([x, outline, slope, plan]), z, section, x

    def height(self, x: npt.ArrayLike) -> Array:
        """Return the height of the upper outline at ``x``."""
        table = self._tables[0]
        return np.interp(np.asarray(x), table[0], table[1])

    def half(self, x: npt.ArrayLike, z: npt.ArrayLike) -> Array:
        """Return half the width at ``x`` and height ``z``."""
        table, at, section, _ = self._tables
        return (
            0.5
            * self.width
            * np.interp(np.asarray(x), table[0], table[3])
            * np.interp(np.asarray(z), at, section)
        )

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Return the approximate signed distance of points, negative inside."""
        table = self._tables[0]
        half = self.half(x, z)
        across = np.abs(y)
        share = np.minimum(across / (0.5 * self.width), 1.1) ** 2
        slope = np.interp(x, table[0], table[2])
        up = (z - np.interp(x, table[0], table[1]) + self.crown * share) * slope
        ahead = x - self.length / 2 + self.bow[0] * share
        behind = -x - self.length / 2 + self.bow[1] * share
        ends = np.maximum(ahead, behind)
        value = smooth_max(smooth_max(across - half, up, self.edge), ends, 1.6 * self.edge)
        return np.asarray(smooth_max(value, self.bottom - z, 0.05))

    def side(self, x: npt.ArrayLike, z: npt.ArrayLike, out: float = 0.0) -> Array:
        """Return the ``y`` at which the left side lies, ``out`` meters outside."""
        at, up = np.broadcast_arrays(np.asarray(x, float), np.asarray(z, float))
        low, high = np.zeros_like(at), np.full_like(at, self.width)
        for _ in range(24):
            middle = (low + high) / 2
            inside = self.distance(at, middle, up) < out
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return low

    def strip(self, x: Array, z: Array, width: float, out: float = 0.002) -> Mesh:
        """Return a strip along points of the left side, ``out`` meters above the shell."""
        y = self.side(x, z, out)
        eps = 0.01
        slope = np.stack(
            [
                self.distance(x + eps, y, z) - self.distance(x - eps, y, z),
                self.distance(x, y + eps, z) - self.distance(x, y - eps, z),
                self.distance(x, y, z + eps) - self.distance(x, y, z - eps),
            ],
            1,
        )
        normals = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
        return ribbon(np.stack([x, y, z], 1), normals, width)

    def skin(
        self, region: Implicit, out: float, low: Sequence[float], high: Sequence[float], cell: float
    ) -> Mesh:
        """Return the sheet of the shell in ``region`` (negative inside), raised by ``out``."""

        def value(x: Array, y: Array, z: Array) -> Array:
            return np.asarray(self.distance(x, y, z) - out)

        vertices, faces = implicit_mesh(value, low, high, cell)
        inside = region(*vertices.T) < 0
        on_shell = np.abs(value(*vertices.T)) < 0.15 * cell
        vertices, faces = _compact(vertices, faces[inside[faces].any(1) & on_shell[faces].all(1)])
        if not len(vertices):
            return vertices, faces
        outside = region(*vertices.T) > 0
        edge = vertices[outside]
        for _ in range(3):
            edge = _settle(value, _settle(region, edge, 2 * cell), cell)
        vertices[outside] = edge
        return vertices, faces


def smooth_max(a: Array, b: Array, blend: float) -> Array:
    """Return the polynomial smooth maximum."""
    return -smooth_min(-a, -b, blend)


def implicit_mesh(
    value: Implicit, low: Sequence[float], high: Sequence[float], cell: float, settle: bool = True
) -> Mesh:
    """Return the zero level of ``value`` in a box, with vertices settled on the surface."""
    field = Field(low, high, cell)
    x, y, z = field.axes
    values = value(x[:, None, None], y[None, :, None], z[None, None, :])
    field.values = np.clip(values, -1, 1).astype(np.float32)
    vertices, faces = field.mesh(relax=2)
    if settle and len(vertices):
        for _ in range(2):
            vertices = _settle(value, vertices, cell)
    return vertices.astype(np.float32), faces


def _settle(value: Implicit, vertices: Array, cell: float) -> Array:
    """Move vertices along the gradient onto the zero level, at most half a cell."""
    here = value(*vertices.T)
    eps = 0.1 * cell
    slope = (
        np.stack(
            [value(*(vertices + eps * np.eye(3, dtype=np.float32)[i]).T) - here for i in range(3)],
            1,
        )
        / eps
    )
    size = np.maximum((slope**2).sum(1), 0.05)
    step = np.clip(here / size, -0.5 * cell, 0.5 * cell)
    return np.asarray(vertices - step[:, None] * slope)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Return several meshes as one."""
    start = np.cumsum([0, *(len(vertices) for vertices, _ in meshes[:-1])])
    vertices = np.concatenate([vertices for vertices, _ in meshes])
    faces = np.concatenate([faces + s for (_, faces), s in zip(meshes, start, strict=True)])
    return vertices.astype(np.float32), faces.astype(np.int32)


def mirrored(mesh: Mesh) -> Mesh:
    """Return a mesh together with its mirror image in y."""
    vertices, faces = mesh
    other = vertices * np.array([1, -1, 1], np.float32)
    return join([mesh, (other, faces[:, ::-1])])


def moved(mesh: Mesh, by: npt.ArrayLike) -> Mesh:
    """Return a mesh moved by a vector."""
    return (mesh[0] + np.asarray(by, np.float32)).astype(np.float32), mesh[1]


def grid_faces(rows: int, columns: int, closed: bool) -> npt.NDArray[np.int32]:
    """Return the triangles of a grid of vertices, closed along the columns or not."""
    last = columns if closed else columns - 1
    i, j = (k.ravel() for k in np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij"))
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)]).astype(np.int32)


def tube(points: npt.ArrayLike, radius: npt.ArrayLike, sides: int = 10) -> Mesh:
    """Return a closed tube along a polyline of ``(N, 3)`` points."""
    path = np.asarray(points, float)
    size = np.broadcast_to(np.asarray(radius, float), len(path))
    ahead = np.gradient(path, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    hint = np.array([0, 0, 1.0]) if np.abs(ahead[:, 2]).max() < 0.9 else np.array([0, 1.0, 0])
    if np.abs(ahead @ hint).max() > 0.95:
        hint = np.array([1.0, 0, 0])
    side = np.cross(ahead, hint)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = np.cross(ahead, side)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = (
        np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    )
    rings = path[:, None] + size[:, None, None] * ring
    vertices = np.concatenate([path[:1], rings.reshape(-1, 3), path[-1:]])
    body = grid_faces(len(path), sides, True)[:, ::-1] + 1
    j = np.arange(sides)
    last = len(vertices) - 1
    start = np.stack([np.zeros_like(j), 1 + j, 1 + (j + 1) % sides], 1)
    tail = last - sides
    end = np.stack([np.full_like(j, last), tail + (j + 1) % sides, tail + j], 1)
    faces = np.concatenate([body, start, end])
    return _outward((vertices.astype(np.float32), faces.astype(np.int32)))


def lathe(profile: npt.ArrayLike, sides: int = 40) -> Mesh:
    """Return a solid of revolution about the y axis of rows ``(radius, y)``."""
    rows = np.asarray(profile, float)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    vertices = np.stack(
        [
            rows[:, :1] * np.cos(angle),
            np.repeat(rows[:, 1:], sides, 1),
            rows[:, :1] * np.sin(angle),
        ],
        -1,
    )
    return (vertices.reshape(-1, 3).astype(np.float32), grid_faces(len(rows), sides, True))


def box(low: Sequence[float], high: Sequence[float], radius: float = 0.02) -> Mesh:
    """Return a box with edges rounded by ``radius`` meters."""
    a, b = np.asarray(low, float), np.asarray(high, float)
    half3 = (b - a) / 2
    radius = min(radius, 0.98 * float(half3.min()))
    inner = half3 - radius
    lines = [
        np.array([-h, -i - 0.3 * radius, -i, 0, i, i + 0.3 * radius, h])
        for h, i in zip(half3, inner, strict=True)
    ]
    meshes = [_panel(lines, axis, sign) for axis in range(3) for sign in (-1, 1)]
    vertices, faces = join(meshes)
    core = np.clip(vertices, -half3 + radius, half3 - radius)
    way = vertices - core
    length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    vertices = core + way / length * radius + (a + b) / 2
    return vertices.astype(np.float32), faces


def _panel(lines: list[Array], axis: int, sign: int) -> Mesh:
    """Return one face of a box as a grid."""
    u, v = (k for k in range(3) if k != axis)
    grid = np.stack(np.meshgrid(lines[u], lines[v], indexing="ij"), -1).reshape(-1, 2)
    vertices = np.zeros((len(grid), 3))
    vertices[:, u], vertices[:, v] = grid[:, 0], grid[:, 1]
    vertices[:, axis] = sign * lines[axis][-1]
    faces = grid_faces(len(lines[u]), len(lines[v]), False)
    a, b, c = vertices[faces[0]]
    if np.cross(b - a, c - a)[axis] * sign < 0:
        faces = faces[:, ::-1]
    return vertices.astype(np.float32), faces


def ribbon(points: npt.ArrayLike, normals: npt.ArrayLike, width: float) -> Mesh:
    """Return a flat strip of ``width`` along points on a surface, facing along the normals."""
    path, up = np.asarray(points, float), np.asarray(normals, float)
    ahead = np.gradient(path, axis=0)
    across = np.cross(up, ahead)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    pair = np.stack([path - across * width / 2, path + across * width / 2], 1)
    vertices, faces = pair.reshape(-1, 3).astype(np.float32), grid_faces(len(path), 2, False)
    a, b, c = vertices[faces[0]]
    if np.dot(np.cross(b - a, c - a), up[0]) < 0:
        faces = faces[:, ::-1]
    return vertices, faces.astype(np.int32)


def split(mesh: Mesh, chosen: npt.NDArray[np.bool_]) -> tuple[Mesh, Mesh]:
    """Return the faces whose corners are all chosen, and the others, as two meshes."""
    vertices, faces = mesh
    whole = chosen[faces].all(1)
    return _compact(vertices, faces[whole]), _compact(vertices, faces[~whole])


def _compact(vertices: npt.NDArray[np.float32], faces: npt.NDArray[np.int32]) -> Mesh:
    """Return a mesh without the vertices that no face uses."""
    used, index = np.unique(faces, return_inverse=True)
    return vertices[used], index.reshape(faces.shape).astype(np.int32)


def _outward(mesh: Mesh) -> Mesh:
    """Return a closed mesh with faces that look outward."""
    vertices, faces = mesh
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    volume = np.einsum("fi,fi->", a, np.cross(b, c))
    return (vertices, faces) if volume > 0 else (vertices, np.ascontiguousarray(faces[:, ::-1]))
