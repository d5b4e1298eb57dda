"""Ground: terrain that is not flat, streets with curbs and markings, crossings, water."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.world.mesh import Builder, box, height_field, quads
from experiments.world.noise import fractal


def _heights(
    gx: np.ndarray, gy: np.ndarray, wavelength: float, amplitude: float, seed: int
) -> np.ndarray:
    points = np.stack([gx, gy, np.zeros_like(gx)], -1)
    return amplitude * fractal(points, wavelength, 4, seed=seed)


def terrain(
    b: Builder,
    rng: np.random.Generator,
    material: str,
    color: Sequence[float],
    heat: str,
    *,
    flat: float = 14.0,
    relief: float = 1.0,
    hills: float = 8.0,
    base: float = -0.03,
) -> None:
    """Lay the ground: level within ``flat`` meters of the y axis, rolling outside, far hills."""
    xs = np.concatenate(
        [
            -np.geomspace(400, flat, 22),
            np.linspace(-flat, flat, 9)[1:-1],
            np.geomspace(flat, 400, 22),
        ]
    )
    ys = np.concatenate([np.linspace(-20, 60, 41), np.geomspace(62, 700, 24)])
    gx, gy = np.meshgrid(xs, ys, indexing="ij")
    away = np.clip((np.abs(gx) - flat) / 12, 0, 1)
    far = np.clip((np.hypot(gx, gy) - 120) / 300, 0, 1)
    seed = int(rng.integers(1 << 20))
    z = (
        base
        + away * (0.35 * relief + _heights(gx, gy, 25, relief, seed))
        + far * hills * (1 + _heights(gx, gy, 160, 1.0, seed + 1))
    )
    z += 0.02 * (1 - away) * _heights(gx, gy, 6, 1.0, seed + 2)
    b.add(height_field(xs, ys, z.astype(np.float32)), material, color, heat, "ground", smooth=True)


def plane(
    b: Builder,
    rng: np.random.Generator,
    x: tuple[float, float],
    y: tuple[float, float],
    z: float,
    material: str,
    color: Sequence[float],
    heat: str,
    label: str,
    *,
    bumps: float = 0.015,
    crown: float = 0.0,
    step: float = 1.0,
) -> None:
    """Lay a surface that is nearly even: long bumps, and a crown across for roads."""
    xs = np.linspace(*x, max(4, int((x[1] - x[0]) / step) + 1))
    ys = np.linspace(*y, max(4, int((y[1] - y[0]) / step) + 1))
    gx, gy = np.meshgrid(xs, ys, indexing="ij")
    across = (gx - np.mean(x)) / (0.5 * (x[1] - x[0]))
    h = z + crown * (1 - across**2) + _heights(gx, gy, 3.5, bumps, int(rng.integers(1 << 20)))
    b.add(height_field(xs, ys, h.astype(np.float32)), material, color, heat, label, smooth=True)


def ribbon(
    b: Builder,
    line_: np.ndarray,
    width: float,
    material: str,
    color: Sequence[float],
    heat: str,
    label: str = "road",
) -> None:
    """Lay a strip of a width along a line of points ``(N, 3)``, a little higher in its middle."""
    along = np.gradient(line_, axis=0)
    side = np.stack([along[:, 1], -along[:, 0], np.zeros(len(line_))], 1)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    ragged = 0.1 if material == "soil" else 0.0
    wobble = (
        1 + ragged * (np.sin(0.9 * np.arange(len(line_))) * np.sin(0.37 * line_[:, 1]))[:, None]
    )
    rows = []
    for k in np.linspace(-0.5, 0.5, 5):
        lift = np.array([0, 0, 0.02 * (1 - (2 * k) ** 2)])
        rows.append(line_ + side * k * width * wobble + lift)
    strip = np.stack(rows, 1)
    n = np.arange(len(line_) - 1)[:, None] * 5 + np.arange(4)[None]
    a, c = n.ravel(), n.ravel() + 5
    faces = np.concatenate([np.stack([a, a + 1, c + 1], 1), np.stack([a, c + 1, c], 1)])
    mesh = (strip.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))
    b.add(mesh, material, color, heat, label, smooth=True)


def curb(b: Builder, x: float, y: tuple[float, float], height: float = 0.14) -> None:
    """Set curb stones of one meter along y."""
    for k, y0 in enumerate(np.arange(y[0], min(y[1], 90.0), 1.0)):
        dip = 0.006 * np.sin(3.7 * k)
        b.add(
            box([0.16, 0.985, height + 0.1], [x, y0 + 0.5, height / 2 - 0.045 + dip]),
            "concrete",
            (0.33, 0.32, 0.30),
            "pavement",
            "road",
        )


def sidewalk(
    b: Builder,
    rng: np.random.Generator,
    x: tuple[float, float],
    y: tuple[float, float],
    wet: bool,
    height: float = 0.14,
) -> None:
    """Lay a raised pavement with its curb on the side of the road (smaller \\|x\\|)."""
    tone = rng.uniform(0.16, 0.34)
    color = np.array([1.0, 0.97, 0.9]) * tone * (0.7 if wet else 1.0)
    plane(
        b,
        rng,
        x,
        y,
        height,
        "paving_wet" if wet else "paving",
        tuple(color),
        "pavement",
        "road",
        bumps=0.008,
    )
    curb(b, min(x, key=abs) + 0.02 * np.sign(x[0]), y, height)


def road(
    b: Builder, rng: np.random.Generator, half: float, y: tuple[float, float], wet: bool
) -> None:
    """Lay a street along y from ``-half`` to ``half``."""
    tone = rng.uniform(0.055, 0.12) * (0.55 if wet else 1.0)
    plane(
        b,
        rng,
        (-half, half),
        y,
        -0.02,
        "asphalt_wet" if wet else "asphalt",
        (tone, tone, tone * 1.04),
        "road",
        "road",
        crown=0.07,
    )


def line(
    b: Builder,
    x: tuple[float, float],
    y: tuple[float, float],
    z: float = 0.056,
    color: Sequence[float] = (0.55, 0.55, 0.53),
) -> None:
    """Paint a rectangle on the road."""
    b.add(
        quads([[[x[0], y[0], z], [x[1], y[0], z], [x[1], y[1], z], [x[0], y[1], z]]]),
        "road_paint",
        color,
        "road_paint",
        "road",
    )


def markings(b: Builder, rng: np.random.Generator, half: float, y: tuple[float, float]) -> None:
    """Paint a center line, dashed or double, and edge lines."""
    yellow = (0.5, 0.33, 0.04) if rng.random() < 0.3 else (0.55, 0.55, 0.53)
    if rng.random() < 0.65:
        for y0 in np.arange(y[0], min(y[1], 150.0), 6.0):
            line(b, (-0.07, 0.07), (y0, y0 + 2.6), 0.062, yellow)
    else:
        for s in (-0.15, 0.15):
            for y0 in np.arange(y[0], min(y[1], 150.0), 10.0):
                line(b, (s - 0.05, s + 0.05), (y0, y0 + 10.0), 0.062, yellow)
    if rng.random() < 0.6:
        for s in (-1, 1):
            x = s * (half - 2.3)
            line(b, (x - 0.05, x + 0.05), (y[0], min(y[1], 120.0)), 0.045)


def zebra(b: Builder, half: float, y: float, width: float = 3.2) -> None:
    """Paint a pedestrian crossing over a street along y."""
    for x in np.arange(-half + 0.5, half - 0.5, 1.0):
        line(b, (x, x + 0.5), (y, y + width), 0.065)
    line(b, (-half + 0.3, 0), (y - 1.6, y - 1.25), 0.064)


def water(
    b: Builder, rng: np.random.Generator, x: tuple[float, float], y: tuple[float, float], z: float
) -> None:
    """Lay water with small waves."""
    xs, ys = np.linspace(*x, 220), y[0] + (y[1] - y[0]) * np.linspace(0, 1, 320) ** 2
    gx, gy = np.meshgrid(xs, ys, indexing="ij")
    seed = int(rng.integers(1 << 20))
    h = z + _heights(gx, gy * 2.5, 2.5, 0.035, seed) + _heights(gx, gy, 9.0, 0.05, seed + 1)
    b.add(
        height_field(xs, ys, h.astype(np.float32)),
        "water",
        (0.012, 0.022, 0.025),
        "water",
        "water",
        smooth=True,
    )
