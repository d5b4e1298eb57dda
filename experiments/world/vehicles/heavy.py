"""Trucks and buses: boxy shells with large windows, cargo boxes and many wheels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.world.part import Part
from experiments.world.vehicles.frame import BLACK, GLASS, STEEL, Bay, Color, spread
from experiments.world.vehicles.shapes import (
    Array,
    Mesh,
    Shell,
    box,
    implicit_mesh,
    join,
    mirrored,
    moved,
    smooth_max,
    tube,
)
from experiments.world.vehicles.wheels import road_wheels

_BOXY = ((-0.5, 0.97), (-0.48, 0.995), (0.0, 1.0), (0.46, 0.995), (0.49, 0.97), (0.5, 0.93))
_BUS = Shell(
    11.6,
    2.50,
    (
        (-5.85, 2.95),
        (-5.75, 3.0),
        (-4.0, 3.05),
        (4.6, 3.05),
        (5.55, 2.98),
        (5.70, 2.2),
        (5.80, 1.2),
    ),
    _BOXY,
    ((0.3, 0.97), (0.5, 0.995), (1.0, 1.0), (2.6, 0.985), (3.0, 0.95), (3.2, 0.93)),
    0.30,
    (0.16, 0.04),
    0.05,
    0.10,
    0.10,
)
_CAB = Shell(
    2.0,
    2.30,
    ((-1.05, 2.50), (-0.9, 2.66), (0.1, 2.72), (0.55, 2.62), (0.86, 1.75), (1.0, 1.1), (1.03, 0.6)),
    ((-0.5, 0.99), (0.0, 1.0), (0.35, 0.985), (0.46, 0.94), (0.5, 0.88)),
    ((0.45, 0.95), (0.7, 0.99), (1.3, 1.0), (1.6, 0.985), (2.6, 0.88), (2.8, 0.85)),
    0.48,
    (0.18, 0.0),
    0.05,
    0.09,
    0.08,
)


def build_bus(bay: Bay, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a city bus, with lit windows when the lights are on."""
    axles, radius = [2.95, -2.95], 0.48
    parts = [_shell(bay, _BUS, axles, radius, 0.42, engine=(-5.2, 0.0, 0.9))]
    half = _BUS.width / 2 + 0.05

    def sides(x: Array, y: Array, z: Array) -> Array:
        region = smooth_max(smooth_max(1.22 - z, z - 2.42, 0.08), np.abs(x) - 5.25, 0.1)
        return np.maximum(region, 0.9 - np.abs(y))

    def ends(x: Array, y: Array, z: Array) -> Array:
        low = np.where(x > 0, 0.98, 1.45)
        region = smooth_max(low - z, z - 2.55, 0.10)
        return smooth_max(smooth_max(region, np.abs(y) - 1.08, 0.12), 5.2 - np.abs(x), 0.05)

    cell = 1.7 * bay.cell
    side = _BUS.skin(sides, 0.004, (-5.4, -half, 1.1), (5.4, half, 2.6), cell)
    end = _BUS.skin(ends, 0.006, (-6.0, -half, 0.9), (6.0, half, 2.7), cell)
    lit = "lit_glass" if bay.lights else "car_glass"
    heat = "lit_window" if bay.running else "car_window"
    parts.append(bay.part("windows", side, lit, (0.5, 0.5, 0.46) if bay.lights else GLASS, heat))
    parts.append(bay.part("windshield", end, "car_glass", GLASS, "car_window"))
    z = np.linspace(1.2, 2.46, 5)
    posts = [_BUS.strip(np.full(5, x), z, 0.08, 0.010) for x in np.linspace(-5.1, 4.7, 8)]
    mesh = mirrored(join(posts))
    parts.append(bay.part("posts", mesh, "plastic", BLACK, "body"))
    doors = [
        box((x - 0.02, -half + 0.02, 0.42), (x + 0.02, -half + 0.06, 2.45), 0.01)
        for x in (4.9, 4.3, 3.75, 0.5, -0.15, -0.8)
    ]
    parts.append(bay.part("doors", join(doors), "plastic", BLACK, "ambient"))
    sign = box((5.42, -0.85, 2.62), (5.60, 0.85, 2.86), 0.02)
    color: Color = (0.75, 0.38, 0.06) if bay.lights else BLACK
    parts.append(bay.part("sign", sign, "signal_on" if bay.lights else "plastic", color, "ambient"))
    unit = box((-2.6, -0.85, 3.0), (0.2, 0.85, 3.24), 0.09)
    parts.append(bay.part("roof_unit", unit, "paint", (0.5, 0.5, 0.49), "ambient"))
    parts += _lamps(bay, 5.66, 0.98, 0.70, -5.80, 1.02)
    parts += _mirrors(bay, 5.55, 1.30, 2.15)
    parts += road_wheels(bay, axles, 2.44, radius, 0.28, spokes=0, rim=STEEL, dull=True, twin=True)
    return parts


def build_truck(bay: Bay, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a delivery truck: cab, chassis and cargo box."""
    radius, axles = 0.43, [2.55, -1.75]
    nose = 2.55
    shell = _CAB
    cab = _shell(bay, shell, [axles[0] - nose], radius, 0.62, engine=(0.3, 0.0, 1.0))
    half = shell.width / 2 + 0.05

    def glass(x: Array, y: Array, z: Array) -> Array:
        front = smooth_max(smooth_max(1.52 - z, z - 2.42, 0.08), np.abs(y) - 0.97, 0.1)
        front = np.maximum(front, 0.35 - x)
        side = smooth_max(smooth_max(1.50 - z, z - 2.28, 0.08), np.abs(x - 0.05) - 0.50, 0.08)
        side = smooth_max(side, x - 0.62 + 0.28 * (z - 1.5), 0.03)
        return np.minimum(front, np.maximum(side, 0.8 - np.abs(y)))

    windows = shell.skin(glass, 0.005, (-0.6, -half, 1.4), (1.15, half, 2.6), bay.cell)
    grille = box((0.93, -0.62, 0.78), (0.99, 0.62, 1.22), 0.03)
    bumper = box((0.80, -1.10, 0.46), (1.02, 1.10, 0.70), 0.06)
    parts = [cab]
    parts.append(bay.part("windows", windows, "car_glass", GLASS, "car_window"))
    parts.append(bay.part("grille", grille, "plastic", BLACK, bay.warm("hood_warm", "ambient")))
    parts.append(bay.part("bumper", bumper, "plastic", (0.05, 0.05, 0.05), "ambient"))
    parts += _lamps(bay, 0.96, 0.84, 0.66, None, 0.0)
    parts += _mirrors(bay, 0.72, 1.18, 2.02)
    parts = [_shifted(part, nose) for part in parts]
    rails = mirrored(box((-3.55, 0.30, 0.62), (2.6, 0.45, 0.82), 0.02))
    parts.append(bay.part("chassis", rails, "metal", BLACK, bay.warm("underbody", "ambient")))
    cargo = box((-3.65, -1.20, 0.98), (1.45, 1.20, 3.25), 0.05)
    tone = float(rng.uniform(0.45, 0.7))
    color: Color = (tone, tone, 0.97 * tone) if rng.random() < 0.7 else bay.paint
    parts.append(bay.part("cargo", cargo, "paint", color, "body"))
    ribs = [box((x, 1.198, 1.0), (x + 0.03, 1.21, 3.2), 0.004) for x in np.linspace(-3.6, 1.4, 7)]
    ribs += [box((-3.62, 1.198, z), (1.42, 1.212, z + 0.08), 0.004) for z in (1.0, 3.14)]
    parts.append(bay.part("ribs", mirrored(join(ribs)), "metal", (0.4, 0.4, 0.4), "body"))
    door = [
        box((-3.665, y - 0.012, 1.02), (-3.65, y + 0.012, 3.2), 0.003) for y in (-1.15, 0, 1.15)
    ]
    parts.append(bay.part("rear_doors", join(door), "metal", (0.25, 0.25, 0.25), "ambient"))
    skirt = mirrored(box((-0.9, 1.05, 0.45), (1.35, 1.15, 0.85), 0.03))
    parts.append(bay.part("tank", skirt, "metal", (0.12, 0.12, 0.12), "ambient"))
    guard = box((-3.62, -1.05, 0.48), (-3.54, 1.05, 0.62), 0.02)
    parts.append(bay.part("guard", guard, "metal", (0.1, 0.1, 0.1), "ambient"))
    tails = mirrored(box((-3.65, 0.80, 0.64), (-3.58, 1.12, 0.78), 0.02))
    parts.append(bay.taillamp("taillights", tails))
    pipe = tube([[1.2, 0.95, 0.42], [0.9, 1.14, 0.40]], 0.05, 12)
    parts.append(
        bay.part("exhaust", pipe, "metal", (0.2, 0.2, 0.2), bay.warm("exhaust", "ambient"))
    )
    parts += road_wheels(bay, axles, 2.26, radius, 0.25, spokes=0, rim=STEEL, dull=True, twin=True)
    return parts


def _shell(
    bay: Bay,
    shell: Shell,
    axles: list[float],
    radius: float,
    floor: float,
    engine: tuple[float, float, float],
) -> Part:
    """Return the painted shell with its wheel arches."""
    arch, inner = radius + 0.09, shell.width / 2 - 0.42

    def value(x: Array, y: Array, z: Array) -> Array:
        solid = shell.distance(x, y, z)
        for axle in axles:
            hole = np.sqrt((x - axle) ** 2 + (z - radius) ** 2) - arch
            solid = smooth_max(solid, -smooth_max(hole, inner - np.abs(y), 0.01), 0.012)
        return solid

    half = (shell.length / 2 + 0.1, shell.width / 2 + 0.1)
    top = float(np.max(np.array(shell.top)[:, 1])) + 0.1
    cell = bay.cell * (1.8 if shell.length > 5 else 1.2)
    low = (-half[0], -half[1], shell.bottom - 0.1)
    vertices, faces = implicit_mesh(value, low, (half[0], half[1], top), cell)
    tint = np.repeat(np.array([bay.paint], np.float32), len(vertices), 0)
    share = np.clip(0.5 + (floor - vertices[:, 2]) / (0.8 * cell), 0, 1)[:, None]
    tint = (1 - share) * tint + share * np.array(BLACK, np.float32)
    for axle in axles:
        away = np.hypot(vertices[:, 0] - axle, vertices[:, 2] - radius)
        tint[(away < arch + 0.02) & (np.abs(vertices[:, 1]) < shell.width / 2 - 0.04)] = BLACK
    warm = np.zeros(len(vertices), np.float32)
    if bay.running:
        warm = 10 * spread(vertices, engine, (0.7, 1.4, 0.7))
        for axle in axles:
            warm = warm + 5 * spread(np.abs(vertices), (abs(axle), 1.2, radius), (0.6, 0.4, 0.6))
    mesh = (vertices, faces)
    return bay.part("body", mesh, "car_paint", bay.paint, "body", tint=tint, warm=warm)


def _lamps(bay: Bay, x: float, y: float, z: float, tail: float | None, tail_y: float) -> list[Part]:
    """Return headlights and, where ``tail`` is given, tail lights."""
    front = mirrored(box((x - 0.10, y - 0.17, z - 0.08), (x + 0.045, y + 0.14, z + 0.09), 0.04))
    parts = [bay.headlamp("headlights", front)]
    if tail is not None:
        rear = mirrored(
            box((tail - 0.02, tail_y - 0.1, 0.75), (tail + 0.06, tail_y + 0.1, 1.30), 0.03)
        )
        parts.append(bay.taillamp("taillights", rear))
    return parts


def _mirrors(bay: Bay, x: float, y: float, z: float) -> list[Part]:
    """Return two tall mirrors on arms."""
    head: Mesh = box((x + 0.05, y, z - 0.26), (x + 0.15, y + 0.20, z + 0.16), 0.05)
    arm = tube(
        [[x, y - 0.12, z + 0.22], [x + 0.08, y + 0.06, z + 0.2], [x + 0.1, y + 0.1, z]], 0.015, 8
    )
    return [bay.part("mirrors", mirrored(join([head, arm])), "plastic", BLACK, "ambient")]


def _shifted(part: Part, x: float) -> Part:
    """Return a part moved forward."""
    return replace(part, vertices=moved((part.vertices, part.faces), (x, 0, 0))[0])
