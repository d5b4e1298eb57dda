"""Trees by branching, bushes, hedges and grass; leaves are small quadrilaterals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from experiments.world.mesh import Builder, Mesh, merge, place, quads, sphere, tube

Points = npt.NDArray[np.float64]


def _leaves(centers: Points, size: float, rng: np.random.Generator) -> Mesh:
    """One quadrilateral with a random tilt at every center."""
    n = len(centers)
    a = rng.standard_normal((n, 3))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.cross(a, rng.standard_normal((n, 3)))
    b /= np.linalg.norm(b, axis=1, keepdims=True) + 1e-9
    s = size * rng.uniform(0.6, 1.3, (n, 1))
    a, b = a * s, b * s * 0.55
    return quads(np.stack([centers - a, centers - b, centers + a, centers + b], 1))


def _branch(
    start: Points,
    direction: Points,
    length: float,
    radius: float,
    level: int,
    rng: np.random.Generator,
    wood: list[Mesh],
    tips: list[Points],
) -> None:
    """Grow one branch and its children."""
    steps = 4
    points = [start]
    heading = direction / np.linalg.norm(direction)
    for _ in range(steps):
        heading = heading + 0.16 * rng.standard_normal(3) + np.array([0, 0, 0.06])
        heading /= np.linalg.norm(heading)
        points.append(points[-1] + heading * length / steps)
    p = np.array(points)
    wood.append(
        tube(p, np.linspace(radius, radius * 0.55, len(p)), sides=7 if level > 1 else 4, caps=False)
    )
    if level <= 1:
        tips.append(p[1:])
    if level == 0:
        return
    for _ in range(int(rng.integers(3, 6))):
        k = rng.uniform(0.45, 1.0)
        at = p[min(int(k * steps), steps)]
        out = rng.standard_normal(3)
        out[2] = abs(out[2]) * 0.5
        child = heading * 0.7 + out * 0.75
        _branch(
            at, child, length * rng.uniform(0.55, 0.8), radius * 0.5, level - 1, rng, wood, tips
        )


def broad_tree(rng: np.random.Generator, height: float, leaves: int) -> tuple[Mesh, Mesh | None]:
    """Grow a leafy tree (or with ``leaves`` 0 a bare one) at the origin."""
    wood: list[Mesh] = []
    tips: list[Points] = []
    lean = np.array([*(0.08 * rng.standard_normal(2)), 1.0])
    _branch(np.zeros(3), lean, height * 0.45, height * 0.022 + 0.05, 3, rng, wood, tips)
    if leaves == 0:
        return merge(wood), None
    anchors = np.concatenate(tips)
    centers = anchors[rng.integers(len(anchors), size=leaves)]
    centers = centers + rng.normal(0, 0.045 * height, centers.shape) * [1, 1, 0.8]
    return merge(wood), _leaves(centers, 0.017 * height**0.5 * (9000 / leaves) ** 0.45 + 0.012, rng)


def conifer(rng: np.random.Generator, height: float, leaves: int) -> tuple[Mesh, Mesh | None]:
    """Grow a cone-shaped evergreen at the origin."""
    trunk = tube([[0, 0, 0], [0, 0, height]], [0.02 * height + 0.05, 0.02], 7)
    z = height * (0.1 + 0.9 * rng.beta(1.1, 1.6, leaves))
    reach = 0.27 * height * (1 - z / height) + 0.08
    layer = 0.75 + 0.25 * np.sin(z * 2 * np.pi / (0.09 * height))
    r = reach * layer * np.sqrt(rng.uniform(0.15, 1, leaves))
    a = rng.uniform(0, 2 * np.pi, leaves)
    centers = np.stack([r * np.cos(a), r * np.sin(a), z - 0.25 * r], 1)
    return trunk, _leaves(centers, 0.011 * height + 0.025, rng)


def forest(
    b: Builder,
    rng: np.random.Generator,
    positions: npt.ArrayLike,
    *,
    season: str = "summer",
    height: tuple[float, float] = (5.0, 11.0),
    detail: float = 1.0,
    kinds: int = 3,
) -> None:
    """Plant trees at ``(N, 2)`` or ``(N, 3)`` positions, copies of a few grown ones."""
    grown = []
    for _ in range(kinds):
        h = rng.uniform(*height)
        if rng.random() < 0.3:
            grown.append((conifer(rng, h * 1.1, int(11000 * detail)), (0.045, 0.085, 0.035)))
        else:
            count = 0 if season == "winter" else int(9000 * detail)
            green = {"autumn": (0.22, 0.12, 0.03)}.get(season, (0.10, 0.16, 0.045))
            grown.append((broad_tree(rng, h, count), green))
    bark = tuple(rng.uniform(0.5, 1.1) * np.array([0.12, 0.09, 0.07]))
    for p in np.atleast_2d(np.asarray(positions, float)):
        (wood, leaves), green = grown[rng.integers(kinds)]
        spot = (p[0], p[1], p[2] if len(p) > 2 else 0.0)
        turn, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.2)
        b.add(place(wood, spot, turn, scale), "bark", bark, "bark", "vegetation", smooth=True)
        if leaves is not None:
            tint = np.array(green) * rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
            b.add(place(leaves, spot, turn, scale), "foliage", tuple(tint), "foliage", "vegetation")


def bush(
    b: Builder,
    rng: np.random.Generator,
    center: tuple[float, float, float],
    radii: tuple[float, float, float],
    leaves: int = 1500,
    boxy: bool = False,
) -> None:
    """Add a bush or, if ``boxy``, a clipped hedge."""
    leaves = int(1.5 * leaves)
    u = rng.uniform(-1, 1, (leaves, 3))
    if boxy:
        side = np.argmax(np.abs(u), axis=1)
        u[np.arange(leaves), side] = np.sign(u[np.arange(leaves), side]) * rng.uniform(
            0.85, 1.05, leaves
        )
    else:
        u /= np.linalg.norm(u, axis=1, keepdims=True) + 1e-9
        u *= rng.uniform(0.65, 1.1, (leaves, 1)) * (1 + 0.25 * np.sin(5 * u[:, :1] + 3 * u[:, 1:2]))
    centers = u * np.asarray(radii) + np.asarray(center)
    centers = centers[centers[:, 2] > center[2] - radii[2] * 0.95]
    size = 0.022 + 0.024 * float(np.mean(radii))
    tint = np.array([0.075, 0.13, 0.04]) * rng.uniform(0.7, 1.6) * rng.uniform(0.85, 1.15, 3)
    b.add(_leaves(centers, size, rng), "foliage", tuple(tint), "foliage", "vegetation")
    core = sphere(center, [r * 0.72 for r in radii], 5)
    b.add(core, "foliage", tuple(0.5 * tint), "foliage", "vegetation")


def grass(b: Builder, rng: np.random.Generator, points: Points, height: float = 0.12) -> None:
    """Stand tufts of blades on points ``(N, 3)`` of the ground."""
    n = len(points)
    a = rng.uniform(0, 2 * np.pi, n)
    w = 0.012 + 0.01 * rng.random(n)
    side = np.stack([np.cos(a) * w, np.sin(a) * w, np.zeros(n)], 1)
    h = height * rng.uniform(0.4, 1.5, n)
    tip = np.stack([rng.normal(0, 0.3, n) * h, rng.normal(0, 0.3, n) * h, h], 1)
    corners = np.stack(
        [points - side, points + side, points + tip + side * 0.2, points + tip - side * 0.2], 1
    )
    shade = rng.integers(0, 3, n)
    for k, color in enumerate(((0.07, 0.11, 0.025), (0.10, 0.12, 0.035), (0.13, 0.12, 0.05))):
        if (shade == k).any():
            b.add(quads(corners[shade == k]), "grass", color, "grass", "vegetation")
