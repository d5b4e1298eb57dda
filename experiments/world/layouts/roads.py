"""Places for traffic: a crossing and a parking lot."""

from __future__ import annotations

import numpy as np

from experiments.world.geometry import buildings, furniture, ground, vegetation
from experiments.world.layouts.common import TRAFFIC, backdrop, crowd, span, street_lamp, view
from experiments.world.layouts.stage import LAMP_COLORS, Slot, Spot, Stage


def _corner(stage: Stage, side: int, half: float, walk: float, y0: float, y1: float) -> None:
    """Pavements, houses, signals and lamps on one side of a crossing."""
    rng, b = stage.rng, stage.builder
    edge = half + walk
    for ya, yb in ((-16.0, y0), (y1, 130.0)):
        near = ya < 0
        ground.sidewalk(b, rng, span(side * half, side * edge), (ya, yb), stage.wet)
        yard = (ya, yb) if near else (y1, y1 + 3)
        stone = (0.25, 0.24, 0.22)
        x = span(side * edge, side * 60)
        ground.plane(b, rng, x, yard, 0.14, "paving", stone, "pavement", "road")
        start = (yb if side > 0 else ya) if near else (y1 + 25 if side > 0 else y1 + 3)
        at, front = (side * (edge + 0.3), start), yb - ya - 3 if near else 22
        storeys = int(rng.integers(2, 6))
        buildings.building(b, rng, at, -side * np.pi / 2, front, 12, storeys, stage.lit)
    state = int(rng.choice([0, 0, 2, 1]))
    reach = -side * 4.0 if rng.random() < 0.6 else 0.0
    post = side * (half + 0.6)
    furniture.traffic_signal(b, (post, y1 + 0.6, 0.14), -np.pi / 2, state, reach)
    furniture.traffic_signal(b, (post, y0 - 0.6, 0.14), np.pi / 2, 2)
    for y in (y0 - 3.5, y1 + 4):
        street_lamp(stage, side * (half + 0.7), y, 0.14, np.pi if side > 0 else 0.0, 8.0)


def _traffic(stage: Stage, half: float, y0: float, y1: float) -> None:
    """Places for vehicles on both streets and for people on the zebra crossings."""
    rng = stage.rng
    for x in (-half * 0.5, half * 0.5):
        turn = -np.pi / 2 if x < 0 else np.pi / 2
        for y in rng.uniform(y1 + 3, 60, 3):
            stage.slots.append(Slot((x, float(y), 0.04), turn, True, TRAFFIC))
    for s in (-1, 1):
        x = s * rng.uniform(half * 0.2, 22)
        at = (float(x), y0 + half * (0.5 if s < 0 else 1.5), 0.02)
        stage.slots.append(Slot(at, 0.0 if s < 0 else np.pi, True, TRAFFIC))
    for _ in range(10):
        x = float(rng.uniform(-half, half))
        y = float(rng.choice([y0 - 2.4, y1 + 2.4]) + rng.normal(0, 0.7))
        stage.spots.append(Spot((x, y, 0.05), float(rng.choice([0, np.pi])), ("walking",)))


def crossing(stage: Stage) -> None:
    """Lay out an intersection with signals and zebra crossings, seen from a pole or a car."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[rng.integers(len(LAMP_COLORS))]
    half, walk, y0 = rng.uniform(4.5, 7), rng.uniform(2.5, 4), rng.uniform(10, 18)
    y1 = y0 + 2 * half
    lawn, hills = (0.07, 0.09, 0.03), rng.uniform(2, 12)
    ground.terrain(b, rng, "lawn", lawn, "grass", flat=60, relief=0.3, hills=hills)
    tone = rng.uniform(0.05, 0.12) * (0.55 if stage.wet else 1.0)
    gray, name = (tone, tone, tone), "asphalt_wet" if stage.wet else "asphalt"
    ground.plane(b, rng, (-half, half), (-16, 220), 0.0, name, gray, "road", "road", crown=0.05)
    for side in (-1, 1):
        ground.plane(
            b, rng, span(side * half, side * 90), (y0, y1), 0.0, name, gray, "road", "road"
        )
        _corner(stage, side, half, walk, y0, y1)
    ground.zebra(b, half, y0 - 4)
    ground.zebra(b, half, y1 + 1)
    ground.markings(b, rng, half, (y1 + 5, 160))
    backdrop(stage, y1 + 60, 70)
    poles = [[-half - 1, y, 0.1] for y in (-10, y0 - 2, y1 + 4, 60, 90)]
    furniture.utility_line(b, rng, poles, 8.5)
    _traffic(stage, half, y0, y1)
    crowd(stage, 6, (half + 0.6, half + walk - 0.5), (2, 30), 0.14)
    crowd(stage, 6, (-half - walk + 0.5, -half - 0.6), (2, 30), 0.14)
    h = rng.uniform(1.5, 8)
    view(stage, half, -5.0, h, 8, (-1.5, 2.2, 1.5), (36, 64))


def parking(stage: Stage) -> None:
    """Lay out a parking lot with rows of cars, trees and lamps, mostly from above."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[rng.integers(len(LAMP_COLORS))]
    ground.terrain(
        b, rng, "lawn", (0.07, 0.09, 0.03), "grass", flat=30, relief=0.6, hills=rng.uniform(2, 10)
    )
    tone = rng.uniform(0.06, 0.13) * (0.55 if stage.wet else 1.0)
    ground.plane(
        b,
        rng,
        (-28, 28),
        (-14, 55),
        0.0,
        "asphalt_wet" if stage.wet else "asphalt",
        (tone, tone, tone),
        "road",
        "road",
        bumps=0.03,
    )
    rows = [y for y in (5.0, 19.0, 26.0, 40.0) if y < 45]
    for r, y in enumerate(rows):
        for x in np.arange(-24, 24, 2.7):
            ground.line(b, (x, x + 0.1), (y - 2.5, y + 2.5), 0.035)
            if rng.random() < 0.6:
                turn = np.pi / 2 * rng.choice([-1, 1])
                stage.slots.append(
                    Slot(
                        (float(x + 1.4 + rng.normal(0, 0.1)), float(y + rng.normal(0, 0.3)), 0.02),
                        float(turn + rng.normal(0, 0.04)),
                        False,
                    )
                )
        if r % 2 == 0:
            xs = np.arange(-22, 24, rng.uniform(8, 13))
            vegetation.forest(
                b,
                rng,
                np.stack([xs, np.full_like(xs, y + 3.6)], 1),
                season=stage.season,
                height=(4, 7),
                detail=0.45,
                kinds=2,
            )
            for x in (-14.0, 10.0):
                street_lamp(stage, x, y + 3.5, 0.0, -np.pi / 2, 7.5)
    stage.slots.append(
        Slot((float(rng.uniform(-8, 8)), 12.0, 0.02), float(rng.choice([0, np.pi])), True)
    )
    crowd(stage, 14, (-9, 9), (3, 34))
    backdrop(stage, 58, 60)
    furniture.fence(b, (-28, 50, 0), (28, 50, 0), 1.5, "bars")
    h = rng.uniform(2, 8)
    view(stage, 8, -7.0, h, 12, (-3, 2.6, 2), (36, 62), 2.0)
