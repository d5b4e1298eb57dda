"""Small meshes (boxes, tubes, spheres, height fields) and a builder that merges them to parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.world.part import Part

Vertices = npt.NDArray[np.float32]
Faces = npt.NDArray[np.int32]
Mesh = tuple[Vertices, Faces]
Color = tuple[float, float, float]
Numbers = Sequence[float] | npt.NDArray[np.floating]
Line = Sequence[Numbers] | npt.NDArray[np.floating]

_CORNERS = np.array(
    [[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)], np.float32
)
_SIDES = np.array(
    [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
)
_SQUARE = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def turn(vertices: npt.ArrayLike, heading: float) -> Vertices:
    """Turn points about the z axis by ``heading`` radians, counter-clockwise from above."""
    v = np.asarray(vertices, np.float32)
    c, s = np.cos(heading), np.sin(heading)
    return np.stack([c * v[..., 0] - s * v[..., 1], s * v[..., 0] + c * v[..., 1], v[..., 2]], -1)


def place(mesh: Mesh, position: Sequence[float], heading: float = 0.0, scale: float = 1.0) -> Mesh:
    """Scale, turn and move a mesh, in this order."""
    return (turn(mesh[0] * scale, heading) + np.asarray(position)).astype(np.float32), mesh[1]


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Join meshes to one, without welding vertices."""
    offsets = np.cumsum([0] + [len(v) for v, _ in meshes[:-1]])
    faces = [f + o for (_, f), o in zip(meshes, offsets, strict=True)]
    return (
        np.concatenate([v for v, _ in meshes]).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
    )


def quads(corners: npt.ArrayLike) -> Mesh:
    """Make one mesh of quadrilaterals ``(N, 4, 3)``, each with its own four vertices."""
    c = np.asarray(corners, np.float32).reshape(-1, 4, 3)
    faces = (_SQUARE[None] + 4 * np.arange(len(c), dtype=np.int32)[:, None, None]).reshape(-1, 3)
    return c.reshape(-1, 3), faces


def box(size: Numbers, center: Numbers, heading: float = 0.0) -> Mesh:
    """Make a box with sharp edges; ``size`` and ``center`` in meters."""
    corners = turn(_CORNERS * np.asarray(size, np.float32), heading) + np.asarray(center)
    return quads(corners[_SIDES])


def tube(points: Line, radii: float | Numbers, sides: int = 8, caps: bool = True) -> Mesh:
    """Sweep a circle along a line of points ``(N, 3)`` with one radius each."""
    p = np.asarray(points, np.float64)
    r = np.broadcast_to(np.asarray(radii, np.float64), len(p))
    along = np.gradient(p, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-12
    helper = np.array([1.0, 0, 0]) if abs(along[:, 2]).mean() > 0.7 else np.array([0, 0, 1.0])
    side = np.cross(along, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-12
    up = np.cross(side, along)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * up[:, None]
    v = (p[:, None] + r[:, None, None] * ring).reshape(-1, 3)
    i = np.arange(len(p) - 1)[:, None] * sides
    j = np.arange(sides)[None]
    k = (j + 1) % sides
    a, b, c, d = i + j, i + k, i + sides + k, i + sides + j
    faces = [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)]
    if caps:
        v = np.concatenate([v, p[:1], p[-1:]])
        n, last = len(p) * sides, (len(p) - 1) * sides
        faces.append(np.stack([np.full(sides, n), j[0], k[0]], -1))
        faces.append(np.stack([np.full(sides, n + 1), last + k[0], last + j[0]], -1))
    return v.astype(np.float32), np.concatenate(faces).astype(np.int32)


def sphere(center: Numbers, radius: float | Numbers, rings: int = 8) -> Mesh:
    """Make a sphere or, with three radii, an ellipsoid."""
    t = np.linspace(np.pi, 0, rings + 1)
    p = np.stack([np.zeros_like(t), np.zeros_like(t), np.cos(t)], -1)
    v, f = tube(p, np.sin(t) + 1e-4, sides=2 * rings, caps=False)
    return (v * np.asarray(radius) + np.asarray(center)).astype(np.float32), f


def height_field(
    xs: npt.NDArray[np.floating], ys: npt.NDArray[np.floating], z: npt.NDArray[np.floating]
) -> Mesh:
    """Make a surface of the heights ``z[i, j]`` over ``(xs[i], ys[j])``."""
    gx, gy = np.meshgrid(xs, ys, indexing="ij")
    v = np.stack([gx, gy, z], -1).reshape(-1, 3)
    n = len(ys)
    i, j = np.meshgrid(np.arange(len(xs) - 1), np.arange(n - 1), indexing="ij")
    a = (i * n + j).ravel()
    faces = np.concatenate([np.stack([a, a + n, a + n + 1], 1), np.stack([a, a + n + 1, a + 1], 1)])
    return v.astype(np.float32), faces.astype(np.int32)


class Builder:
    """Collect meshes and hand them out as parts, one for each combination of properties."""

    def __init__(self) -> None:
        self._meshes: dict[tuple[str, Color, str, str, int, bool], list[Mesh]] = {}
        self._parts: list[Part] = []
        self._instances = 0

    def new_instance(self) -> int:
        """Give the number of a new thing, counted from 1."""
        self._instances += 1
        return self._instances

    def add(
        self,
        mesh: Mesh,
        material: str,
        color: Sequence[float],
        heat: str,
        label: str,
        *,
        instance: int = 0,
        smooth: bool = False,
    ) -> None:
        """Add one mesh; meshes with equal properties become one part."""
        r, g, b = (float(min(max(c, 0.0), 1.0)) for c in color)
        key = (material, (r, g, b), heat, label, instance, smooth)
        self._meshes.setdefault(key, []).append(mesh)

    def extend(self, parts: Sequence[Part]) -> None:
        """Add parts that are finished, such as a person."""
        self._parts.extend(parts)

    def parts(self) -> list[Part]:
        """Merge what was collected."""
        merged = []
        for n, (key, meshes) in enumerate(self._meshes.items()):
            material, color, heat, label, instance, smooth = key
            v, f = merge(meshes)
            merged.append(
                Part(f"{label}_{n}", v, f, material, color, heat, label, instance, smooth)
            )
        return merged + self._parts
