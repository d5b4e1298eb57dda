"""Indoors: offices, halls, corridors and garages."""

from __future__ import annotations

import numpy as np

from experiments.world.geometry import rooms
from experiments.world.layouts.stage import Slot, Spot, Stage
from experiments.world.light import Lamp


def _lights(stage: Stage, size: tuple[float, float, float], share: float) -> None:
    """Hang lamps; only a part of them are on."""
    rng, (w, d, h) = stage.rng, size
    stage.lamp_color = ((1.0, 0.93, 0.82), (0.9, 0.97, 1.0))[rng.integers(2)]
    for y in np.arange(1.8, d, 3.6):
        for x in np.linspace(-w / 2, w / 2, 2 + int(w // 4))[1:-1]:
            on = bool(rng.random() < share) or not stage.lamps
            rooms.ceiling_light(stage.builder, (float(x), float(y), h), on)
            if on and len(stage.lamps) < 8:
                stage.lamps.append(
                    Lamp(
                        (float(x), float(y), h - 0.25),
                        stage.lamp_color,
                        2.2,
                        (0.0, 0.0, -1.0),
                        85.0,
                    )
                )


def _office(stage: Stage, w: float, d: float) -> None:
    rng, b = stage.rng, stage.builder
    for y in np.arange(2.2, d - 1, 2.3):
        for side in (-1, 1):
            if rng.random() < 0.8:
                at = (side * (w / 2 - 1.6), float(y), 0.0)
                turn = 0.0 if side > 0 else np.pi
                rooms.desk(b, rng, at, turn, bool(rng.random() < 0.6))
                seat = (at[0] - side * 0.75, float(y + rng.normal(0, 0.1)), 0.0)
                rooms.chair(b, seat, turn, tuple(rng.uniform(0.02, 0.3, 3)))
                stage.spots.append(Spot(seat, turn, ("sitting",)))
    for y in np.arange(1.0, d, 1.4):
        if rng.random() < 0.4:
            rooms.shelf(b, rng, (w / 2 - 0.2, float(y), 0.0), np.pi)


def _hall(stage: Stage, w: float, d: float) -> None:
    rng, b = stage.rng, stage.builder
    for _ in range(int(rng.integers(4, 10))):
        x = rng.choice([-1, 1]) * rng.uniform(w * 0.25, w / 2 - 0.6)
        rooms.machine(
            b, rng, (float(x), float(rng.uniform(1.5, d - 1)), 0.0), bool(rng.random() < 0.6)
        )
    for _ in range(5):
        rooms.shelf(
            b,
            rng,
            (float(rng.choice([-1, 1]) * (w / 2 - 0.25)), float(rng.uniform(1, d - 1)), 0.0),
            0.0,
        )


def indoor(stage: Stage) -> None:
    """Fill the stage with a room that is 5 to 12 meters wide and up to 20 deep."""
    rng, b = stage.rng, stage.builder
    stage.indoors = True
    kind = str(rng.choice(["office", "hall", "corridor", "garage"], p=[0.35, 0.3, 0.15, 0.2]))
    w = {
        "office": rng.uniform(6, 9),
        "hall": rng.uniform(8, 12),
        "corridor": rng.uniform(2.4, 3.4),
        "garage": rng.uniform(10, 14),
    }[kind]
    d = rng.uniform(8, 15) if kind == "office" else rng.uniform(12, 22)
    h = rng.uniform(2.6, 3.1) if kind in ("office", "corridor", "garage") else rng.uniform(3.5, 5)
    size = (float(w), float(d), float(h))
    rooms.shell(
        b,
        rng,
        size,
        "concrete" if kind == "garage" else str(rng.choice(["floor", "wood", "carpet"])),
    )
    if kind != "garage":
        rooms.windows(b, rng, size, bool(rng.random() < 0.4))
    _lights(stage, size, rng.uniform(0.15, 0.6))
    if kind == "office":
        _office(stage, w, d)
    elif kind == "hall":
        _hall(stage, w, d)
    elif kind == "garage":
        for y in np.arange(5, d - 1, 2.8):
            for side in (-1, 1):
                if rng.random() < 0.6:
                    stage.slots.append(
                        Slot(
                            (side * (w / 2 - 2.6), float(y), 0.0),
                            0.0 if side < 0 else np.pi,
                            False,
                            ("car",),
                        )
                    )
    for _ in range(10):
        p = (float(rng.uniform(-w * 0.2, w * 0.2)), float(rng.uniform(3, d - 1)), 0.0)
        stage.spots.append(Spot(p, float(rng.uniform(0, 6.3)), ("standing", "walking")))
    z = rng.uniform(1.4, h - 0.4)
    stage.look(
        (float(rng.uniform(-0.25, 0.25) * w), 0.4, float(z)),
        float(rng.normal(0, 10)),
        float(-4 - 8 * (z - 1.4) / (h - 1.4) + rng.normal(0, 2)),
        float(rng.uniform(50, 75)),
    )
