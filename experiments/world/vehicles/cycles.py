"""Bicycles and motorcycles: frames of tubes, thin wheels, saddles, and where the rider touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.world.part import Part
from experiments.world.surface import Field, Loft, ball
from experiments.world.vehicles.frame import BLACK, CHROME, RUBBER, Bay, spread
from experiments.world.vehicles.shapes import Mesh, box, grid_faces, join, lathe, moved, tube
from experiments.world.vehicles.wheels import ring, wire_spokes

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Contacts:
    """Hold where a rider touches a cycle, in the frame of the cycle; pairs are (left, right)."""

    saddle: Point
    grips: tuple[Point, Point]
    pedals: tuple[Point, Point]
    lean: float


def contacts(kind: str, phase: float = 0.0) -> Contacts:
    """Return where a rider touches a bicycle or motorcycle.

    Args:
        kind: ``bicycle`` or ``motorcycle``.
        phase: turn of the cranks in [0, 1).

    Raises:
        ValueError: for another kind.
    """
    if kind == "bicycle":
        c, s = 0.17 * np.cos(2 * np.pi * phase), 0.17 * np.sin(2 * np.pi * phase)
        left, right = (0.0 + c, 0.15, 0.29 + s), (0.0 - c, -0.15, 0.29 - s)
        return Contacts(
            (-0.19, 0.0, 0.93), ((0.42, 0.27, 1.02), (0.42, -0.27, 1.02)), (left, right), 20.0
        )
    if kind == "motorcycle":
        return Contacts(
            (-0.22, 0.0, 0.78),
            ((0.36, 0.33, 1.02), (0.36, -0.33, 1.02)),
            ((0.10, 0.24, 0.30), (0.10, -0.24, 0.30)),
            16.0,
        )
    raise ValueError(f"kind must be bicycle or motorcycle, got {kind!r}")


def build_bicycle(bay: Bay, rng: np.random.Generator, phase: float = 0.0) -> list[Part]:
    """Return the parts of a city bicycle; ``phase`` turns the cranks."""
    radius, front, rear = 0.345, 0.56, -0.48
    tires, rims, spokes = [], [], []
    for x in (front, rear):
        at = (x, 0.0, radius)
        tires.append(moved(ring(radius, 0.02, 0.02), at))
        rims.append(moved(ring(radius - 0.036, 0.011, 0.012), at))
        spokes.append(moved(wire_spokes(radius - 0.05, 18, 0.03, 0.0022), at))
    crank, seat_top, head_top, head_low = (
        (0.0, 0, 0.29),
        (-0.165, 0, 0.80),
        (0.37, 0, 0.86),
        (0.41, 0, 0.70),
    )
    low_step = rng.random() < 0.4
    upper = (-0.09, 0, 0.55) if low_step else (-0.155, 0, 0.77)
    pairs = [
        (crank, seat_top, 0.017),
        (crank, head_low, 0.021),
        (upper, head_top, 0.016),
        (head_low, head_top, 0.02),
    ]
    frame = [tube([a, b], r) for a, b, r in pairs]
    for sign in (1, -1):
        frame.append(tube([(0, sign * 0.02, 0.29), (rear, sign * 0.065, radius)], 0.010, 8))
        frame.append(tube([(-0.15, sign * 0.02, 0.75), (rear, sign * 0.065, radius)], 0.009, 8))
        fork = [
            (0.415, sign * 0.045, 0.68),
            (0.47, sign * 0.055, 0.52),
            (front, sign * 0.055, radius),
        ]
        frame.append(tube(fork, 0.012, 8))
    touch = contacts("bicycle", phase)
    bars = [tube([(0.36, 0, 0.86), (0.345, 0, 0.99)], 0.013, 8)]
    left, right = touch.grips
    bars.append(
        tube([left, (0.44, 0.18, 1.02), (0.37, 0, 1.0), (0.44, -0.18, 1.02), right], 0.012, 8)
    )
    bars.append(tube([seat_top, (-0.19, 0, 0.91)], 0.013, 8))
    grips = [tube([g, (g[0] - 0.09, g[1] * 1.02, g[2] - 0.006)], 0.017, 8) for g in touch.grips]
    guards = [_mudguard(rear, radius, 20, 170)]
    if rng.random() < 0.7:
        guards.append(_mudguard(front, radius, 40, 130))
    rack = [tube([(-0.25, s * 0.06, 0.74), (-0.72, s * 0.06, 0.745)], 0.006, 6) for s in (1, -1)]
    rack += [tube([(-0.62, s * 0.06, 0.745), (rear, s * 0.07, radius)], 0.005, 6) for s in (1, -1)]
    lamp = moved(lathe([(0.02, -0.03), (0.032, 0.0), (0.03, 0.012), (0.002, 0.014)], 16), (0, 0, 0))
    lamp = (lamp[0][:, [1, 0, 2]] + np.array([0.46, 0, 0.80], np.float32), lamp[1][:, ::-1])
    return [
        bay.part("tires", join(tires), "rubber", RUBBER, "tire_cold"),
        bay.part("rims", join(rims), "metal", (0.32, 0.32, 0.33), "ambient"),
        bay.part("spokes", join(spokes), "metal", (0.3, 0.3, 0.31), "ambient"),
        bay.part("frame", join(frame), "car_paint", bay.paint, "ambient"),
        bay.part("bars", join([*bars, *rack]), "metal", (0.22, 0.22, 0.23), "ambient"),
        bay.part("cranks", _cranks(touch), "metal", (0.06, 0.06, 0.065), "ambient"),
        bay.part("grips", join(grips), "rubber", BLACK, "ambient"),
        bay.part("guards", join(guards), "plastic", BLACK, "ambient"),
        bay.part("saddle", _saddle((-0.20, 0, 0.925), 0.25, 0.075), "plastic", BLACK, "ambient"),
        bay.headlamp("headlight", lamp),
        bay.taillamp("taillight", box((-0.755, -0.04, 0.72), (-0.735, 0.04, 0.76), 0.008)),
    ]


def _cranks(touch: Contacts) -> Mesh:
    """Return cranks, pedals and chain ring of a bicycle."""
    cranks = []
    for pedal, y in zip(touch.pedals, (0.07, -0.07), strict=True):
        cranks.append(tube([(0, y, 0.29), (pedal[0], y, pedal[2])], 0.010, 6))
        cranks.append(moved(box((-0.045, -0.045, -0.011), (0.045, 0.045, 0.011), 0.008), pedal))
    cranks.append(
        moved(lathe([(0.095, 0.052), (0.095, 0.058), (0.02, 0.058)], 24), (0, -0.11, 0.29))
    )
    return join(cranks)


def build_motorcycle(bay: Bay, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a motorcycle or, in two cases of five, a scooter."""
    scooter = rng.random() < 0.4
    radius, front, rear = (0.26, 0.62, -0.60) if scooter else (0.31, 0.70, -0.66)
    tires = [moved(ring(radius, 0.055, 0.06), (x, 0, radius)) for x in (front, rear)]
    rims = [
        moved(
            lathe([(radius * 0.68, y), (radius * 0.62, y * 0.6), (0.05, y * 0.8), (0.002, y)], 24),
            (x, 0, radius),
        )
        for x in (front, rear)
        for y in (0.04, -0.04)
    ]
    touch = contacts("motorcycle")
    fork = [tube([(front, s * 0.09, radius), (0.47, s * 0.09, 0.92)], 0.022, 10) for s in (1, -1)]
    left, right = touch.grips
    bars = tube([left, (0.47, 0.2, 1.04), (0.45, 0, 0.98), (0.47, -0.2, 1.04), right], 0.013, 8)
    grips = [tube([g, (g[0] - 0.10, g[1] * 1.08, g[2] - 0.01)], 0.02, 8) for g in touch.grips]
    mirror = [tube([(0.44, s * 0.24, 1.03), (0.42, s * 0.34, 1.17)], 0.006, 6) for s in (1, -1)]
    mirror += [
        moved(box((-0.012, -0.06, -0.04), (0.012, 0.06, 0.04), 0.02), (0.42, s * 0.36, 1.2))
        for s in (1, -1)
    ]
    body, dark = _scooter_body() if scooter else _motorcycle_body()
    engine = _blend(
        [ball((0.05, 0, 0.42), (0.24, 0.15, 0.17)), ball((0.12, 0, 0.55), (0.12, 0.11, 0.14))]
    )
    if scooter:
        engine = _blend([ball((-0.45, 0.05, 0.34), (0.25, 0.13, 0.12))])
    pipe = tube(
        [(0.15, -0.14, 0.34), (-0.2, -0.17, 0.27), (-0.45, -0.19, 0.31), (-0.85, -0.2, 0.40)],
        [0.022, 0.028, 0.05, 0.055],
        12,
    )
    lamp = _blend([ball((0.60, 0, 0.92), (0.07, 0.09, 0.09))])
    warm = 6 * spread(body[0], (0, 0, 0.45), (0.4, 0.4, 0.3)) * bay.running
    return [
        bay.part("tires", join(tires), "rubber", RUBBER, bay.warm("tire", "tire_cold")),
        bay.part("rims", join(rims), "metal", (0.25, 0.25, 0.26), "ambient"),
        bay.part("fork", join([*fork, bars, *mirror]), "metal", (0.15, 0.15, 0.155), "ambient"),
        bay.part("grips", join(grips), "rubber", BLACK, "ambient"),
        bay.part("body", body, "car_paint", bay.paint, "body", warm=warm),
        bay.part("seat", dark, "plastic", BLACK, "ambient"),
        bay.part("engine", engine, "metal", (0.10, 0.10, 0.105), bay.warm("hood_warm", "ambient")),
        bay.part("exhaust", pipe, "chrome", CHROME, bay.warm("exhaust", "ambient")),
        bay.headlamp("headlight", lamp),
        bay.taillamp("taillight", box((-0.90, -0.08, 0.72), (-0.87, 0.08, 0.79), 0.02)),
        bay.part(
            "plate",
            box((-0.935, -0.10, 0.52), (-0.925, 0.10, 0.66), 0.004),
            "paint",
            (0.6, 0.6, 0.58),
            "ambient",
        ),
    ]


def _motorcycle_body() -> tuple[Mesh, Mesh]:
    """Return tank, tail and fenders, and the seat."""
    tank = [
        ball((0.20, 0, 0.80), (0.27, 0.14, 0.13)),
        ball((-0.02, 0, 0.72), (0.16, 0.10, 0.08)),
        ball((-0.70, 0, 0.78), (0.22, 0.09, 0.06)),
        ball((0.56, 0, 0.90), (0.10, 0.12, 0.14)),
        ball((-0.30, 0, 0.60), (0.20, 0.11, 0.10)),
    ]
    body = join(
        [_blend(tank), _mudguard(0.70, 0.31, 50, 140, 0.075), _mudguard(-0.66, 0.33, 60, 160, 0.08)]
    )
    seat = _blend(
        [ball((-0.26, 0, 0.755), (0.24, 0.13, 0.055)), ball((-0.56, 0, 0.81), (0.20, 0.11, 0.05))]
    )
    return body, seat


def _scooter_body() -> tuple[Mesh, Mesh]:
    """Return apron, floor and rear of a scooter, and the seat."""
    solids = [
        ball((0.50, 0, 0.70), (0.09, 0.20, 0.34)),
        ball((0.15, 0, 0.30), (0.36, 0.17, 0.06)),
        ball((-0.50, 0, 0.58), (0.40, 0.19, 0.20)),
        ball((0.56, 0, 0.95), (0.10, 0.15, 0.10)),
        ball((0.62, 0, 0.50), (0.17, 0.09, 0.10)),
    ]
    seat = _blend(
        [ball((-0.30, 0, 0.76), (0.28, 0.14, 0.06)), ball((-0.60, 0, 0.80), (0.22, 0.13, 0.06))]
    )
    return _blend(solids), seat


def _blend(solids: list[Loft]) -> Mesh:
    """Return the smooth union of solids."""
    field = Field.around(solids, 0.022)
    for solid in solids:
        field.add(solid, 0.05)
    return field.mesh()


def _mudguard(x: float, radius: float, start: float, end: float, wide: float = 0.03) -> Mesh:
    """Return a strip over a wheel from one angle to another, in degrees from straight ahead."""
    angle = np.radians(np.linspace(start, end, 14))
    points = np.stack(
        [
            x + (radius + 0.025) * np.cos(angle),
            0 * angle,
            radius + (radius + 0.025) * np.sin(angle),
        ],
        1,
    )
    rows = [
        points + np.array([0, y, -0.008 * (abs(y) > 0.6 * wide)])
        for y in wide * np.linspace(-1, 1, 5)
    ]
    vertices = np.stack(rows, 1).reshape(-1, 3).astype(np.float32)
    return vertices, grid_faces(14, 5, False)


def _saddle(center: Point, length: float, wide: float) -> Mesh:
    """Return a saddle: wide behind, narrow in front."""
    x, y, z = center
    rear = ball((x - 0.06, y, z), (0.09, wide, 0.028))
    nose = ball((x + 0.07, y, z + 0.003), (length / 2, 0.03, 0.024))
    field = Field.around([rear, nose], 0.011)
    return field.add(rear, 0.02).add(nose, 0.02).mesh()
