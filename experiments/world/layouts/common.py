"""What several layouts use: lamps that shine, a backdrop, places for people, a view."""

from __future__ import annotations

import numpy as np

from experiments.world.geometry import buildings, furniture, vegetation
from experiments.world.layouts.stage import Spot, Stage

TRAFFIC = ("car", "car", "car", "van", "bus", "truck", "motorcycle", "bicycle")


def span(a: float, b: float) -> tuple[float, float]:
    """Return two numbers, the smaller first."""
    return (a, b) if a < b else (b, a)


def street_lamp(stage: Stage, x: float, y: float, z: float, heading: float, height: float) -> None:
    """Stand a street lamp that lights its surroundings."""
    p = furniture.lamp_post(stage.builder, (x, y, z), heading, height, stage.dark)
    if len(stage.lamps) < 10:
        stage.shine(p, 0.45 * height**2)


def globe_lamp(stage: Stage, x: float, y: float, height: float) -> None:
    """Stand a park lamp that lights its surroundings."""
    p = furniture.park_lamp(stage.builder, (x, y, 0.0), height, stage.dark)
    if len(stage.lamps) < 10:
        stage.shine(p, 0.32 * height**2, 180.0)


def backdrop(stage: Stage, distance: float, width: float) -> None:
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


def crowd(
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


def view(
    stage: Stage,
    x: float,
    y: float,
    height: float,
    yaw: float,
    pitch: tuple[float, float, float],
    fov: tuple[float, float],
    spread: float = 1.5,
) -> None:
    """Stand the camera at ``height``, the lower the more level.

    ``x`` is the largest offset to a side, ``yaw`` the spread of the direction in degrees; ``pitch``
    holds the pitch at a height, degrees per meter above it, and that height; ``spread`` is of the
    pitch.
    """
    rng = stage.rng
    level, slope, least = pitch
    at = (float(rng.uniform(-x, x)), y, float(height))
    turn = float(rng.normal(0, yaw))
    down = float(level - slope * (height - least) + rng.normal(0, spread))
    stage.look(at, turn, down, float(rng.uniform(*fov)))
