"""Places outdoors other than streets: crossing, parking lot, park, courtyard, waterfront, field."""

from __future__ import annotations

import numpy as np

from experiments.world.geometry import buildings, furniture, ground, vegetation
from experiments.world.layouts.stage import LAMP_COLORS, Slot, Spot, Stage

TRAFFIC = ("car", "car", "car", "van", "bus", "truck", "motorcycle", "bicycle")


def _lamp(stage: Stage, x: float, y: float, z: float, heading: float, height: float) -> None:
    p = furniture.lamp_post(stage.builder, (x, y, z), heading, height, stage.dark)
    if len(stage.lamps) < 10:
        stage.shine(p, 0.45 * height**2)


def _globe(stage: Stage, x: float, y: float, height: float) -> None:
    p = furniture.park_lamp(stage.builder, (x, y, 0.0), height, stage.dark)
    if len(stage.lamps) < 10:
        stage.shine(p, 0.32 * height**2, 180.0)


def _backdrop(stage: Stage, distance: float, width: float) -> None:
    """Close the view with houses, trees or both."""
    rng = stage.rng
    if rng.random() < 0.6:
        x = -width
        while x < width:
            w = rng.uniform(10, 20)
            if rng.random() < 0.75:
                buildings.building(
                    stage.builder,
                    rng,
                    (x, distance + rng.uniform(0, 8)),
                    rng.normal(0, 0.04),
                    w,
                    rng.uniform(8, 12),
                    int(rng.integers(2, 7)),
                    stage.lit,
                )
            x += w + rng.uniform(1, 8)
    n = int(rng.integers(8, 26))
    at = np.stack([rng.uniform(-width, width, n), distance - 3 + rng.uniform(-4, 16, n)], 1)
    vegetation.forest(
        stage.builder, rng, at, season=stage.season, height=(5, 12), detail=0.35, kinds=3
    )


def _crowd(
    stage: Stage,
    count: int,
    x: tuple[float, float],
    y: tuple[float, float],
    z: float = 0.0,
    poses: tuple[str, ...] = ("standing", "walking", "walking"),
) -> None:
    """Offer places for people, some of them in groups."""
    rng = stage.rng
    for _ in range(count):
        c = np.array([rng.uniform(*x), y[0] + (y[1] - y[0]) * rng.random() ** 1.3])
        turn = rng.uniform(0, 2 * np.pi)
        for k in range(int(rng.choice([1, 1, 2, 3]))):
            p = c + (rng.normal(0, 0.7, 2) if k else 0)
            stage.spots.append(
                Spot((float(p[0]), float(p[1]), z), float(turn + rng.normal(0, 0.5)), poses)
            )


def crossing(stage: Stage) -> None:
    """An intersection with signals and zebra crossings, seen from a pole or a car."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[rng.integers(len(LAMP_COLORS))]
    half, walk, y0 = rng.uniform(4.5, 7), rng.uniform(2.5, 4), rng.uniform(10, 18)
    y1 = y0 + 2 * half
    ground.terrain(
        b, rng, "lawn", (0.07, 0.09, 0.03), "grass", flat=60, relief=0.3, hills=rng.uniform(2, 12)
    )
    tone = rng.uniform(0.05, 0.12) * (0.55 if stage.wet else 1.0)
    name = "asphalt_wet" if stage.wet else "asphalt"
    ground.plane(
        b, rng, (-half, half), (-16, 220), 0.0, name, (tone, tone, tone), "road", "road", crown=0.05
    )
    for side in (-1, 1):
        ground.plane(
            b,
            rng,
            tuple(sorted((side * half, side * 90))),
            (y0, y1),
            0.0,
            name,
            (tone, tone, tone),
            "road",
            "road",
        )  # type: ignore[arg-type]
        for ya, yb in ((-16.0, y0), (y1, 130.0)):
            ground.sidewalk(
                b, rng, tuple(sorted((side * half, side * (half + walk)))), (ya, yb), stage.wet
            )  # type: ignore[arg-type]
            ground.plane(
                b,
                rng,
                tuple(sorted((side * (half + walk), side * 60))),
                (ya, yb) if ya < 0 else (y1, y1 + 3),
                0.14,
                "paving",
                (0.25, 0.24, 0.22),
                "pavement",
                "road",
            )  # type: ignore[arg-type]
            buildings.building(
                b,
                rng,
                (
                    side * (half + walk + 0.3),
                    (yb if side > 0 else ya) if ya < 0 else (y1 + 25 if side > 0 else y1 + 3),
                ),
                -side * np.pi / 2,
                22 if ya > 0 else yb - ya - 3,
                12,
                int(rng.integers(2, 6)),
                stage.lit,
            )
        furniture.traffic_signal(
            b,
            (side * (half + 0.6), y1 + 0.6, 0.14),
            -np.pi / 2,
            int(rng.choice([0, 0, 2, 1])),
            -side * 4.0 if rng.random() < 0.6 else 0.0,
        )
        furniture.traffic_signal(b, (side * (half + 0.6), y0 - 0.6, 0.14), np.pi / 2, 2)
        for y in (y0 - 3.5, y1 + 4):
            _lamp(stage, side * (half + 0.7), y, 0.14, np.pi if side > 0 else 0.0, 8.0)
    ground.zebra(b, half, y0 - 4)
    ground.zebra(b, half, y1 + 1)
    ground.markings(b, rng, half, (y1 + 5, 160))
    _backdrop(stage, y1 + 60, 70)
    furniture.utility_line(
        b, rng, [[-half - 1, y, 0.1] for y in (-10, y0 - 2, y1 + 4, 60, 90)], 8.5
    )
    for x in (-half * 0.5, half * 0.5):
        for y in rng.uniform(y1 + 3, 60, 3):
            stage.slots.append(
                Slot((x, float(y), 0.04), -np.pi / 2 if x < 0 else np.pi / 2, True, TRAFFIC)
            )
    for s in (-1, 1):
        x = s * rng.uniform(half * 0.2, 22)
        stage.slots.append(
            Slot(
                (float(x), y0 + half * (0.5 if s < 0 else 1.5), 0.02),
                0.0 if s < 0 else np.pi,
                True,
                TRAFFIC,
            )
        )
    for _ in range(10):
        stage.spots.append(
            Spot(
                (
                    float(rng.uniform(-half, half)),
                    float(rng.choice([y0 - 2.4, y1 + 2.4]) + rng.normal(0, 0.7)),
                    0.05,
                ),
                float(rng.choice([0, np.pi])),
                ("walking",),
            )
        )
    _crowd(stage, 6, (half + 0.6, half + walk - 0.5), (2, 30), 0.14)
    _crowd(stage, 6, (-half - walk + 0.5, -half - 0.6), (2, 30), 0.14)
    h = rng.uniform(1.5, 8)
    stage.look(
        (float(rng.uniform(-half, half)), -5.0, float(h)),
        float(rng.normal(0, 8)),
        float(-1.5 - 2.2 * (h - 1.5) + rng.normal(0, 1.5)),
        float(rng.uniform(36, 64)),
    )


def parking(stage: Stage) -> None:
    """A parking lot with rows of cars, trees and lamps, mostly from above."""
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
                _lamp(stage, x, y + 3.5, 0.0, -np.pi / 2, 7.5)
    stage.slots.append(
        Slot((float(rng.uniform(-8, 8)), 12.0, 0.02), float(rng.choice([0, np.pi])), True)
    )
    _crowd(stage, 14, (-9, 9), (3, 34))
    _backdrop(stage, 58, 60)
    furniture.fence(b, (-28, 50, 0), (28, 50, 0), 1.5, "bars")
    h = rng.uniform(2, 8)
    stage.look(
        (float(rng.uniform(-8, 8)), -7.0, float(h)),
        float(rng.normal(0, 12)),
        float(-3 - 2.6 * (h - 2) + rng.normal(0, 2)),
        float(rng.uniform(36, 62)),
    )


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
    y = np.arange(-12, 90, 1.0)
    line = np.stack([bend * y * y, y, np.full_like(y, 0.01)], 1)
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
        _globe(stage, float(bend * y * y + s * (half + 0.5)), float(y), rng.uniform(3, 4.2))
        if rng.random() < 0.6:
            at = (float(bend * y * y - s * (half + 0.5)), float(y + 2), 0.02)
            furniture.bench(b, at, 0.0 if s > 0 else np.pi)
            stage.spots.append(
                Spot((at[0] + 0.02 * s, at[1] + 0.3, 0.02), 0.0 if s > 0 else np.pi, ("sitting",))
            )
    _crowd(stage, 12, (-half, half), (2, 26), 0.03)
    _crowd(stage, 5, (-9, 9), (6, 30), 0.02)
    _backdrop(stage, 75, 60)
    h = rng.uniform(1.4, 4)
    stage.look(
        (float(rng.uniform(-2, 2)), -6.0, float(h)),
        float(rng.normal(0, 8)),
        float(-1.5 - 2.5 * (h - 1.4) + rng.normal(0, 1.5)),
        float(rng.uniform(32, 60)),
    )


def courtyard(stage: Stage) -> None:
    """A paved yard between houses, seen from a window."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[rng.integers(len(LAMP_COLORS))]
    wide, deep = rng.uniform(16, 28), rng.uniform(20, 34)
    ground.terrain(b, rng, "lawn", (0.07, 0.09, 0.03), "grass", flat=40, relief=0.3)
    tone = rng.uniform(0.14, 0.3)
    ground.plane(
        b,
        rng,
        (-wide / 2, wide / 2),
        (-12, deep),
        0.0,
        "paving_wet" if stage.wet else "paving",
        (tone, tone * 0.97, tone * 0.9),
        "pavement",
        "road",
        bumps=0.02,
    )
    style = buildings.random_style(rng, stage.lit)
    storeys = int(rng.integers(3, 6))
    buildings.building(b, rng, (-wide / 2, deep), 0.0, wide, 10, storeys, stage.lit, style)
    for side in (-1, 1):
        s = style if rng.random() < 0.6 else None
        at = (side * wide / 2, deep - 1 if side > 0 else -12.0)
        buildings.building(b, rng, at, -side * np.pi / 2, deep + 11, 10, storeys, stage.lit, s)
        for y in np.arange(rng.uniform(1, 5), deep - 2, rng.uniform(7, 12)):
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
    for x, y in trees:
        ground.plane(
            b,
            rng,
            (x - 0.7, x + 0.7),
            (y - 0.7, y + 0.7),
            0.03,
            "soil",
            (0.1, 0.08, 0.06),
            "ground",
            "ground",
            step=0.4,
        )
    for _ in range(4):
        furniture.bin_(
            b,
            rng,
            (float(rng.choice([-1, 1]) * (wide / 2 - 0.8)), float(rng.uniform(4, deep)), 0.0),
        )
    for y in (4.0, deep * 0.6):
        _globe(stage, float(rng.uniform(-wide / 3, wide / 3)), y, 3.6)
    for _ in range(4):
        stage.slots.append(
            Slot(
                (float(rng.uniform(-wide / 3, wide / 3)), float(rng.uniform(5, deep - 3)), 0.0),
                float(rng.uniform(0, 6.3)),
                False,
                ("bicycle", "motorcycle", "car", "bicycle", "van"),
            )
        )
    _crowd(stage, 14, (-wide / 3, wide / 3), (2, deep - 2))
    h = rng.uniform(3, 8)
    stage.look(
        (float(rng.uniform(-4, 4)), -7.0, float(h)),
        float(rng.normal(0, 10)),
        float(-7 - 2.7 * (h - 3) + rng.normal(0, 2)),
        float(rng.uniform(38, 60)),
    )


def waterfront(stage: Stage) -> None:
    """A promenade along water, with a skyline on the other side."""
    rng, b = stage.rng, stage.builder
    stage.lamp_color = LAMP_COLORS[rng.integers(len(LAMP_COLORS))]
    edge = rng.uniform(8, 16)
    tone = rng.uniform(0.16, 0.3)
    ground.plane(
        b,
        rng,
        (-70, 70),
        (-14, edge),
        0.0,
        "paving_wet" if stage.wet else "paving",
        (tone, tone * 0.97, tone * 0.92),
        "pavement",
        "road",
        bumps=0.015,
    )
    b_far = rng.uniform(70, 140)
    ground.water(b, rng, (-200, 200), (edge - 0.2, b_far + 6), -1.0)
    ground.plane(
        b,
        rng,
        (-300, 300),
        (b_far, b_far + 200),
        0.2,
        "lawn",
        (0.07, 0.09, 0.03),
        "grass",
        "ground",
        bumps=0.5,
        step=12,
    )
    buildings.skyline(b, rng, b_far + 12, 90, max(stage.lit, 0.0))
    n = 40
    vegetation.forest(
        b,
        rng,
        np.stack([rng.uniform(-110, 110, n), b_far + rng.uniform(2, 12, n)], 1),
        season=stage.season,
        height=(5, 10),
        detail=0.15,
        kinds=2,
    )
    furniture.fence(
        b, (-40, edge - 0.4, 0), (40, edge - 0.4, 0), 1.1, str(rng.choice(["bars", "rails"]))
    )
    for x in np.arange(-25, 26, rng.uniform(9, 14)):
        _globe(stage, float(x + rng.normal(0, 0.4)), edge - 1.2, 3.8)
        if rng.random() < 0.6:
            furniture.bench(
                b, (float(x + 3), edge - 1.8, 0.0), -np.pi / 2 if rng.random() < 0.4 else np.pi / 2
            )
    m = int(rng.integers(1, 5))
    vegetation.forest(
        b,
        rng,
        np.stack([rng.uniform(-14, 14, m), np.full(m, edge - 4.0)], 1),
        season=stage.season,
        height=(4, 7),
        detail=0.6,
        kinds=2,
    )
    furniture.bollards(b, [(float(x), 2.0, 0.0) for x in np.arange(-15, 16, 2.5)])
    _crowd(stage, 12, (-7, 7), (1, edge - 1.5))
    stage.slots.append(
        Slot(
            (float(rng.uniform(-6, 6)), float(edge - 5), 0.0),
            float(rng.choice([0, np.pi])),
            True,
            ("bicycle",),
        )
    )
    h = rng.uniform(1.5, 4.5)
    stage.look(
        (float(rng.uniform(-3, 3)), -8.0, float(h)),
        float(rng.normal(0, 14)),
        float(-1 - 2 * (h - 1.5) + rng.normal(0, 1.5)),
        float(rng.uniform(36, 62)),
    )


def field(stage: Stage) -> None:
    """Open country: meadow, track, edge of a forest, fences."""
    rng, b = stage.rng, stage.builder
    dry = rng.random() < 0.4
    color = (0.16, 0.13, 0.06) if dry else (0.08, 0.10, 0.035)
    ground.terrain(
        b,
        rng,
        "lawn",
        color,
        "grass",
        flat=4.0,
        relief=rng.uniform(0.6, 1.6),
        hills=rng.uniform(6, 30),
    )
    y = np.arange(-10, 90, 1.0)
    for s in (-0.8, 0.8):
        line = np.stack([s + 2.5 * np.sin(y / 23), y, np.full_like(y, 0.02)], 1)
        ground.ribbon(b, line, 0.55, "soil", (0.15, 0.12, 0.08), "ground")
    m = 12000
    gy = -4 + 22 * rng.random(m) ** 0.7
    gx = rng.uniform(-10, 10, m) * (0.4 + gy / 18 + 0.25)
    vegetation.grass(b, rng, np.stack([gx, gy, np.zeros(m)], 1), rng.uniform(0.1, 0.35))
    n = int(rng.integers(25, 60))
    far = rng.uniform(35, 80)
    vegetation.forest(
        b,
        rng,
        np.stack([rng.uniform(-70, 70, n), far + rng.exponential(8, n)], 1),
        season=stage.season,
        height=(7, 14),
        detail=0.3,
        kinds=4,
    )
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
        furniture.utility_line(b, rng, [[-12 + 0.3 * y, y, 0.0] for y in np.arange(4, 120, 30)], 9)
    if rng.random() < 0.5:
        buildings.building(
            b,
            rng,
            (float(rng.uniform(-25, 10)), float(rng.uniform(35, 55))),
            rng.normal(0, 0.3),
            12,
            8,
            int(rng.integers(1, 3)),
            stage.lit,
        )
    stage.slots.append(
        Slot(
            (float(rng.uniform(-2, 2)), float(rng.uniform(14, 40)), 0.03),
            float(np.pi / 2 * rng.choice([-1, 1])),
            bool(rng.random() < 0.6),
            ("car", "van", "truck", "motorcycle"),
        )
    )
    _crowd(stage, 10, (-6, 6), (4, 32), 0.03)
    h = rng.uniform(1.4, 5)
    stage.look(
        (float(rng.uniform(-3, 3)), -6.0, float(h)),
        float(rng.normal(0, 8)),
        float(-1 - 2.5 * (h - 1.4) + rng.normal(0, 1.5)),
        float(rng.uniform(28, 56)),
    )
