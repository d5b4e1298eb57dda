"""Places with trees and grass: a park and open country."""

from __future__ import annotations

import numpy as np

from experiments.world.geometry import buildings, furniture, ground, vegetation
from experiments.world.layouts.common import backdrop, crowd, globe_lamp, view
from experiments.world.layouts.stage import LAMP_COLORS, Slot, Spot, Stage


def park(stage: Stage) -> None:
    """Paths between lawns, trees, bushes and benches."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[1 + rng.integers(3)]
    ground.terrain(
        b, rng, "lawn", (0.075, 0.10, 0.03), "grass", flat=3.0, relief=1.1, hills=rng.uniform(4, 18)
    )
    half = rng.uniform(1.1, 2.2)
    bend = rng.uniform(-0.012, 0.012)
    name, heat = ("paving", "pavement") if rng.random() < 0.5 else ("soil", "ground")
    along = np.arange(-12, 90, 1.0)
    line = np.stack([bend * along**2, along, np.full_like(along, 0.01)], 1)
    ground.ribbon(b, line, 2 * half, name, (0.24, 0.22, 0.18), heat)
    n = int(rng.integers(10, 26))
    xs, ys = rng.choice([-1, 1], n) * (half + 1.2 + rng.exponential(7, n)), rng.uniform(2, 60, n)
    vegetation.forest(
        b,
        rng,
        np.stack([xs + bend * ys**2, ys], 1),
        season=stage.season,
        height=(5, 13),
        detail=0.7,
        kinds=4,
    )
    for _ in range(int(rng.integers(5, 14))):
        r, y = rng.uniform(0.4, 1.3), rng.uniform(1, 30)
        vegetation.bush(
            b,
            rng,
            (
                float(bend * y * y + rng.choice([-1, 1]) * (half + 0.8 + rng.exponential(3))),
                float(y),
                float(r * 0.7),
            ),
            (float(r), float(r), float(r * 0.8)),
            1300,
        )
    m = 9000
    side = rng.choice([-1, 1], m)
    gy = -5 + 17 * rng.random(m) ** 0.8
    gx = side * (half + 0.05 + 6 * rng.random(m)) + bend * gy**2
    vegetation.grass(b, rng, np.stack([gx, gy, np.full(m, 0.0)], 1), rng.uniform(0.05, 0.16))
    for k, y in enumerate(np.arange(rng.uniform(3, 8), 45, rng.uniform(7, 11))):
        s = -1 if k % 2 else 1
        globe_lamp(stage, float(bend * y * y + s * (half + 0.5)), float(y), rng.uniform(3, 4.2))
        if rng.random() < 0.6:
            at = (float(bend * y * y - s * (half + 0.5)), float(y + 2), 0.02)
            furniture.bench(b, at, 0.0 if s > 0 else np.pi)
            stage.spots.append(
                Spot((at[0] + 0.02 * s, at[1] + 0.3, 0.02), 0.0 if s > 0 else np.pi, ("sitting",))
            )
    crowd(stage, 12, (-half, half), (2, 26), 0.03)
    crowd(stage, 5, (-9, 9), (6, 30), 0.02)
    backdrop(stage, 75, 60)
    h = rng.uniform(1.4, 4)
    view(stage, 2, -6.0, h, 8, (-1.5, 2.5, 1.4), (32, 60))


def field(stage: Stage) -> None:
    """Open country: meadow, track, edge of a forest, fences."""
    rng, b = stage.rng, stage.builder
    dry = rng.random() < 0.4
    color = (0.16, 0.13, 0.06) if dry else (0.08, 0.10, 0.035)
    relief, hills = rng.uniform(0.6, 1.6), rng.uniform(6, 30)
    ground.terrain(b, rng, "lawn", color, "grass", flat=4.0, relief=relief, hills=hills)
    along = np.arange(-10, 90, 1.0)
    for s in (-0.8, 0.8):
        line = np.stack([s + 2.5 * np.sin(along / 23), along, np.full_like(along, 0.02)], 1)
        ground.ribbon(b, line, 0.55, "soil", (0.15, 0.12, 0.08), "ground")
    m = 12000
    gy = -4 + 22 * rng.random(m) ** 0.7
    gx = rng.uniform(-10, 10, m) * (0.4 + gy / 18 + 0.25)
    vegetation.grass(b, rng, np.stack([gx, gy, np.zeros(m)], 1), rng.uniform(0.1, 0.35))
    n = int(rng.integers(25, 60))
    far = rng.uniform(35, 80)
    at = np.stack([rng.uniform(-70, 70, n), far + rng.exponential(8, n)], 1)
    vegetation.forest(b, rng, at, season=stage.season, height=(7, 14), detail=0.5, kinds=4)
    for _ in range(int(rng.integers(3, 12))):
        r, y = rng.uniform(0.5, 1.6), rng.uniform(4, 40)
        vegetation.bush(
            b,
            rng,
            (float(rng.choice([-1, 1]) * (3.5 + rng.exponential(6))), float(y), float(r * 0.6)),
            (float(r), float(r), float(r * 0.75)),
            1200,
        )
    if rng.random() < 0.6:
        furniture.fence(b, (-25, 22, 0.2), (25, 26, 0.2), 1.2, "rails")
    if rng.random() < 0.5:
        poles = [[-12 + 0.3 * y, y, 0.0] for y in np.arange(4, 120, 30).tolist()]
        furniture.utility_line(b, rng, poles, 9)
    if rng.random() < 0.5:
        corner = (float(rng.uniform(-25, 10)), float(rng.uniform(35, 55)))
        turn = rng.normal(0, 0.3)
        buildings.building(b, rng, corner, turn, 12, 8, int(rng.integers(1, 3)), stage.lit)
    spot = (float(rng.uniform(-2, 2)), float(rng.uniform(14, 40)), 0.03)
    turn, moving = float(np.pi / 2 * rng.choice([-1, 1])), bool(rng.random() < 0.6)
    stage.slots.append(Slot(spot, turn, moving, ("car", "van", "truck", "motorcycle")))
    crowd(stage, 10, (-6, 6), (4, 32), 0.03)
    h = rng.uniform(1.4, 5)
    view(stage, 3, -6.0, h, 8, (-1, 2.5, 1.4), (28, 56))
