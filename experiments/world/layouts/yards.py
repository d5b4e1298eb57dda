"""Paved places for people: a courtyard and a waterfront."""

from __future__ import annotations

import numpy as np

from experiments.world.geometry import buildings, furniture, ground, vegetation
from experiments.world.layouts.common import crowd, globe_lamp, view
from experiments.world.layouts.stage import LAMP_COLORS, Slot, Stage


def courtyard(stage: Stage) -> None:
    """Lay out a paved yard between houses, seen from a window."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[rng.integers(len(LAMP_COLORS))]
    wide, deep = rng.uniform(16, 28), rng.uniform(20, 34)
    ground.terrain(b, rng, "lawn", (0.07, 0.09, 0.03), "grass", flat=40, relief=0.3)
    tone = rng.uniform(0.14, 0.3)
    stone, name = (tone, tone * 0.97, tone * 0.9), "paving_wet" if stage.wet else "paving"
    yard = ((-wide / 2, wide / 2), (-12, deep))
    ground.plane(b, rng, *yard, 0.0, name, stone, "pavement", "road", bumps=0.02)
    style = buildings.random_style(rng, stage.lit)
    storeys = int(rng.integers(3, 6))
    buildings.building(b, rng, (-wide / 2, deep), 0.0, wide, 10, storeys, stage.lit, style)
    for side in (-1, 1):
        s = style if rng.random() < 0.6 else None
        corner = (side * wide / 2, deep - 1 if side > 0 else -12.0)
        buildings.building(b, rng, corner, -side * np.pi / 2, deep + 11, 10, storeys, stage.lit, s)
        for y in np.arange(rng.uniform(1, 5), deep - 2, rng.uniform(7, 12)).tolist():
            x = side * (wide / 2 - rng.uniform(1.2, 2))
            vegetation.bush(
                b, rng, (float(x), float(y), 0.45), (0.7, 1.6, 0.6), 1100, bool(rng.random() < 0.5)
            )
            if rng.random() < 0.5:
                furniture.bench(
                    b, (float(x - side * 1.2), float(y + 2.5), 0.0), np.pi if side > 0 else 0.0
                )
    n = int(rng.integers(2, 6))
    trees = np.stack([rng.uniform(-wide / 3, wide / 3, n), rng.uniform(5, deep - 3, n)], 1)
    vegetation.forest(b, rng, trees, season=stage.season, height=(4, 8), detail=0.6, kinds=2)
    for x, y in trees.tolist():
        square = ((x - 0.7, x + 0.7), (y - 0.7, y + 0.7))
        earth = (0.1, 0.08, 0.06)
        ground.plane(b, rng, *square, 0.03, "soil", earth, "ground", "ground", step=0.4)
    for _ in range(4):
        x = float(rng.choice([-1, 1]) * (wide / 2 - 0.8))
        furniture.bin_(b, rng, (x, float(rng.uniform(4, deep)), 0.0))
    for y in (4.0, deep * 0.6):
        globe_lamp(stage, float(rng.uniform(-wide / 3, wide / 3)), y, 3.6)
    for _ in range(4):
        at = (float(rng.uniform(-wide / 3, wide / 3)), float(rng.uniform(5, deep - 3)), 0.0)
        kinds = ("bicycle", "motorcycle", "car", "bicycle", "van")
        stage.slots.append(Slot(at, float(rng.uniform(0, 6.3)), False, kinds))
    crowd(stage, 14, (-wide / 3, wide / 3), (2, deep - 2))
    h = rng.uniform(3, 8)
    view(stage, 4, -7.0, h, 10, (-7, 2.7, 3), (38, 60), 2.0)


def _far_shore(stage: Stage, edge: float) -> None:
    """Water, and on its other side a bank with houses and trees."""
    rng, b = stage.rng, stage.builder
    shore = rng.uniform(70, 140)
    ground.water(b, rng, (-200, 200), (edge - 0.2, shore + 6), -1.0)
    bank, green = ((-300, 300), (shore, shore + 200)), (0.07, 0.09, 0.03)
    ground.plane(b, rng, *bank, 0.2, "lawn", green, "grass", "ground", bumps=0.5, step=12)
    buildings.skyline(b, rng, shore + 12, 90, stage.lit)
    n = 40
    at = np.stack([rng.uniform(-110, 110, n), shore + rng.uniform(2, 12, n)], 1)
    vegetation.forest(b, rng, at, season=stage.season, height=(5, 10), detail=0.15, kinds=2)


def waterfront(stage: Stage) -> None:
    """Lay out a promenade along water, with a skyline on the other side."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[rng.integers(len(LAMP_COLORS))]
    edge = rng.uniform(8, 16)
    tone = rng.uniform(0.16, 0.3)
    stone, name = (tone, tone * 0.97, tone * 0.92), "paving_wet" if stage.wet else "paving"
    quay = ((-70, 70), (-14, edge))
    ground.plane(b, rng, *quay, 0.0, name, stone, "pavement", "road", bumps=0.015)
    _far_shore(stage, edge)
    rail, kind = edge - 0.4, str(rng.choice(["bars", "rails"]))
    furniture.fence(b, (-40, rail, 0), (40, rail, 0), 1.1, kind)
    for x in np.arange(-25, 26, rng.uniform(9, 14)):
        globe_lamp(stage, float(x + rng.normal(0, 0.4)), edge - 1.2, 3.8)
        if rng.random() < 0.6:
            turn = -np.pi / 2 if rng.random() < 0.4 else np.pi / 2
            furniture.bench(b, (float(x + 3), edge - 1.8, 0.0), turn)
    m = int(rng.integers(1, 5))
    trees = np.stack([rng.uniform(-14, 14, m), np.full(m, edge - 4.0)], 1)
    vegetation.forest(b, rng, trees, season=stage.season, height=(4, 7), detail=0.6, kinds=2)
    furniture.bollards(b, [(float(x), 2.0, 0.0) for x in np.arange(-15, 16, 2.5)])
    crowd(stage, 12, (-7, 7), (1, edge - 1.5))
    at = (float(rng.uniform(-6, 6)), float(edge - 5), 0.0)
    stage.slots.append(Slot(at, float(rng.choice([0, np.pi])), True, ("bicycle",)))
    h = rng.uniform(1.5, 4.5)
    view(stage, 3, -8.0, h, 14, (-1, 2, 1.5), (36, 62))
