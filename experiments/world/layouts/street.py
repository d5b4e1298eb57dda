"""A street between houses, hedges, trees and wires, with parked cars."""

from __future__ import annotations

import numpy as np

from experiments.world.geometry import buildings, furniture, ground, vegetation
from experiments.world.layouts.common import span
from experiments.world.layouts.stage import Slot, Spot, Stage


def _row(stage: Stage, side: int, x: float, y: float, end: float) -> None:
    """Line one side: houses close to the pavement, or gardens, hedges and trees."""
    rng, b = stage.rng, stage.builder
    town = rng.random() < 0.55
    while y < end:
        width = rng.uniform(8, 16)
        if rng.random() < (0.85 if town else 0.5):
            back = rng.uniform(0.2, 0.8) if town else rng.uniform(3, 7)
            storeys = int(rng.integers(2, 5 if town else 3))
            at = (side * (x + back), y if side < 0 else y + width)
            buildings.building(
                b, rng, at, -side * np.pi / 2, width, rng.uniform(8, 12), storeys, stage.lit
            )
            if not town:
                _garden(stage, side, x, y, width)
        else:
            _garden(stage, side, x, y, width)
            n = int(rng.integers(2, 6))
            trees = np.stack([side * (x + rng.uniform(2, 10, n)), rng.uniform(y, y + width, n)], 1)
            vegetation.forest(b, rng, trees, season=stage.season, detail=0.8, kinds=2)
        y += width + (rng.uniform(0, 0.5) if town and rng.random() < 0.7 else rng.uniform(2, 6))


def _garden(stage: Stage, side: int, x: float, y: float, width: float) -> None:
    """Add a fence or hedge towards the pavement and some bushes."""
    rng, b = stage.rng, stage.builder
    edge = side * (x + 0.35)
    kind = rng.choice(["bars", "planks", "hedge", "rails", "open"])
    if kind == "hedge":
        h = rng.uniform(0.5, 1.0)
        vegetation.bush(
            b,
            rng,
            (edge + side * 0.5, y + width / 2, h),
            (0.5, width / 2, h),
            int(200 * width),
            True,
        )
    elif kind != "open":
        furniture.fence(b, (edge, y, 0.1), (edge, y + width, 0.1), rng.uniform(0.9, 1.7), str(kind))
    for _ in range(int(rng.integers(0, 4))):
        r = rng.uniform(0.4, 1.1)
        vegetation.bush(
            b,
            rng,
            (side * (x + rng.uniform(1.2, 3)), rng.uniform(y, y + width), r * 0.8),
            (r, r, r * 0.9),
            900,
        )


def _kerbside(stage: Stage, half: float, walk: float, far: float) -> None:
    """Lamps, trees, poles, signs, bins and bollards on the pavements."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = ((1.0, 0.62, 0.22), (1.0, 0.78, 0.48), (0.95, 0.97, 1.0))[rng.integers(3)]
    gap, height = rng.uniform(16, 26), rng.uniform(5.5, 8.5)
    both = rng.random() < 0.5
    for n, y in enumerate(np.arange(rng.uniform(2, 10), min(far, 110), gap)):
        for side in (-1, 1) if both else ((-1) ** n,):
            at = (side * (half + 0.5), float(y), 0.14)
            p = furniture.lamp_post(b, at, np.pi if side > 0 else 0.0, height, stage.dark)
            if len(stage.lamps) < 10:
                stage.shine(p, 0.42 * height**2)
    if rng.random() < 0.55:
        side = rng.choice([-1, 1])
        x = side * (half + walk - 0.5)
        furniture.utility_line(
            b,
            rng,
            [[x, y, 0.1] for y in np.arange(-14, 110, rng.uniform(22, 34))],
            rng.uniform(7, 9.5),
        )
    if rng.random() < 0.6:
        side = rng.choice([-1, 1])
        ys = np.arange(rng.uniform(6, 12), 75, rng.uniform(7, 12))
        trees = np.stack([np.full_like(ys, side * (half + 0.9)), ys, np.full_like(ys, 0.1)], 1)
        vegetation.forest(b, rng, trees, season=stage.season, height=(4, 8), detail=1.1, kinds=2)
    for _ in range(int(rng.integers(3, 8))):
        side, y = rng.choice([-1, 1]), rng.uniform(3, 45)
        kind = rng.integers(4)
        if kind == 0:
            furniture.sign(b, rng, (side * (half + 0.4), y, 0.14), -np.pi / 2 + rng.normal(0, 0.3))
        elif kind == 1:
            furniture.bin_(b, rng, (side * (half + walk - 0.6), y, 0.14))
        elif kind == 2:
            furniture.bollards(b, [(side * (half + 0.35), y + 1.5 * k, 0.14) for k in range(4)])
        else:
            furniture.manhole(b, (rng.uniform(-half, half) * 0.6, y, 0.045))


def _traffic(stage: Stage, half: float, walk: float, far: float) -> None:
    """Places for parked and moving vehicles and for people."""
    rng = stage.rng
    for side in (-1, 1):
        parked = rng.uniform(0.2, 0.9)
        for y in np.arange(rng.uniform(2, 8), min(far, 70), 6.3):
            if rng.random() < parked:
                at = (side * (half - 1.1), float(y + rng.normal(0, 0.4)), 0.02)
                stage.slots.append(Slot(at, (np.pi / 2 if side > 0 else -np.pi / 2), False))
        if rng.random() < 0.55:
            at = (side * half * 0.27, float(rng.uniform(10, 60)), 0.05)
            stage.slots.append(
                Slot(
                    at,
                    np.pi / 2 if side > 0 else -np.pi / 2,
                    True,
                    ("car", "car", "van", "bus", "truck", "motorcycle", "bicycle"),
                )
            )
    for _ in range(14):
        side, y = rng.choice([-1, 1]), 2.5 + 38 * rng.random() ** 1.4
        on_road = rng.random() < 0.25
        x = (
            rng.uniform(-half, half) * 0.7
            if on_road
            else side * (half + rng.uniform(0.5, walk - 0.4))
        )
        turn = rng.choice([0, np.pi]) if on_road else np.pi / 2 * rng.choice([-1, 1])
        stage.spots.append(
            Spot((float(x), float(y), 0.04 if on_road else 0.14), float(turn + rng.normal(0, 0.25)))
        )


def street(stage: Stage) -> None:
    """Fill the stage with a street along y."""
    rng, b = stage.rng, stage.builder
    half, walk, far = rng.uniform(3.6, 5.4), rng.uniform(1.8, 3.2), rng.uniform(70, 220)
    lawn, flat, hills = (0.07, 0.09, 0.03), half + walk + 2, rng.uniform(2, 16)
    ground.terrain(b, rng, "lawn", lawn, "grass", flat=flat, relief=0.5, hills=hills)
    ground.road(b, rng, half, (-16, 260), stage.wet)
    for side in (-1, 1):
        ground.sidewalk(b, rng, span(side * half, side * (half + walk)), (-16, 120), stage.wet)
        _row(stage, side, half + walk, rng.uniform(-14, -6), far)
    ground.markings(b, rng, half, (-14, 200))
    if rng.random() < 0.35:
        ground.zebra(b, half, rng.uniform(4, 14))
    _kerbside(stage, half, walk, far)
    if rng.random() < 0.7:
        n = 26
        at = np.stack([rng.uniform(-60, 60, n), far + rng.uniform(5, 40, n)], 1)
        vegetation.forest(b, rng, at, season=stage.season, height=(7, 14), detail=0.25, kinds=2)
    else:
        buildings.skyline(b, rng, far + 10, 50, stage.lit)
    _traffic(stage, half, walk, far)
    high = rng.random() < 0.3
    h = rng.uniform(3.5, 7.5) if high else rng.uniform(1.4, 2.6)
    x = rng.uniform(-half, half) * (0.8 if rng.random() < 0.6 else 1.2)
    stage.look(
        (float(x), -6.0, float(h)),
        float(rng.normal(-x * 1.5, 7)),
        float(rng.uniform(-14, -7) if high else rng.uniform(-4, 3)),
        float(rng.uniform(34, 62)),
    )
