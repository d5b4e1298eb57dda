"""Cars and vans: a shell from side view, plan and section, with glass, lamps and trim on it."""

from __future__ import annotations

import numpy as np

from experiments.world.part import Part
from experiments.world.vehicles.car_specs import CarSpec
from experiments.world.vehicles.frame import BLACK, CHROME, GLASS, STEEL, Bay, Color, spread
from experiments.world.vehicles.shapes import (
    Array,
    Mesh,
    box,
    implicit_mesh,
    join,
    mirrored,
    moved,
    smooth_max,
    split,
    tube,
)
from experiments.world.vehicles.wheels import road_wheels


def build_car(bay: Bay, spec: CarSpec, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a car or van."""
    parts = _body(bay, spec)
    parts += _windows(bay, spec)
    parts += _front(bay, spec)
    parts += _rear(bay, spec, rng)
    parts += _details(bay, spec)
    spokes = 0 if bay.kind in ("van", "minibus") else int(rng.choice([5, 5, 7, 10]))
    rim: Color = (0.30, 0.31, 0.32) if rng.random() < 0.75 else (0.03, 0.03, 0.032)
    rim = rim if spokes else STEEL
    track = spec.shell.width - 0.035
    parts += road_wheels(
        bay, list(spec.axles), track, spec.radius, 0.215, spokes=spokes, rim=rim, dull=True
    )
    return parts


def _body(bay: Bay, spec: CarSpec) -> list[Part]:
    """Return the painted body with its wheel arches, and the hood as a part of its own."""
    shell, arch = spec.shell, spec.radius + 0.055
    inner = shell.width / 2 - 0.30

    def value(x: Array, y: Array, z: Array) -> Array:
        solid = shell.distance(x, y, z)
        for axle in spec.axles:
            hole = np.sqrt((x - axle) ** 2 + (z - spec.radius) ** 2) - arch
            solid = smooth_max(solid, -smooth_max(hole, inner - np.abs(y), 0.01), 0.012)
        return solid

    half = (shell.length / 2 + 0.05, shell.width / 2 + 0.05)
    top = float(np.max(np.array(shell.top)[:, 1])) + 0.05
    low = (-half[0], -half[1], shell.bottom - 0.05)
    mesh = implicit_mesh(value, low, (half[0], half[1], top), bay.cell)
    vertices = mesh[0]
    tint = np.repeat(np.array([bay.paint], np.float32), len(vertices), 0)
    for axle in spec.axles:
        away = np.hypot(vertices[:, 0] - axle, vertices[:, 2] - spec.radius)
        side = shell.half(vertices[:, 0], vertices[:, 2])
        tint[(away < arch + 0.012) & (np.abs(vertices[:, 1]) < side - 0.022)] = BLACK
    share = np.clip(0.5 + (spec.cladding - vertices[:, 2]) / (0.8 * bay.cell), 0, 1)[:, None]
    tint = (1 - share) * tint + share * np.array(BLACK, np.float32)
    x, y, z = vertices.T
    slope = shell.height(x) - 0.14
    hood = (x > spec.hood) & (x < shell.length / 2 - 0.10) & (z > slope)
    hood &= np.abs(y) < shell.half(x, z) - 0.035
    warm = _engine_heat(bay, spec, vertices)
    parts = []
    chosen, rest = split((np.concatenate([vertices, tint, warm[:, None]], 1), mesh[1]), hood)
    for name, piece, heat in (
        ("hood", chosen, bay.warm("hood_warm", "hood_cold")),
        ("body", rest, "body"),
    ):
        points, faces = piece
        offset = points[:, 6] - (9.0 if name == "hood" and bay.running else 0.0)
        parts.append(
            bay.part(
                name,
                (points[:, :3], faces),
                "car_paint",
                bay.paint,
                heat,
                tint=points[:, 3:6],
                warm=offset,
            )
        )
    return parts


def _engine_heat(bay: Bay, spec: CarSpec, points: Array) -> Array:
    """Return the degrees that engine, brakes and exhaust add to the body."""
    if not bay.running:
        return np.zeros(len(points), np.float32)
    nose = spec.shell.length / 2
    warm = 13.0 * spread(points, (nose - 0.55, 0, 0.85), (0.55, 0.55, 0.35))
    warm += 7.0 * spread(points, (nose, 0, 0.45), (0.25, 0.6, 0.25))
    for axle in spec.axles:
        for sign in (1, -1):
            center = (axle, sign * spec.shell.width / 2, spec.radius)
            warm += 6.0 * spread(points, center, (0.45, 0.3, 0.45))
    warm += 5.0 * spread(points, (0, 0, spec.shell.bottom), (nose, 0.8, 0.18))
    return np.asarray(warm, np.float32)


def _windows(bay: Bay, spec: CarSpec) -> list[Part]:
    """Return windshield, side windows and rear window."""
    shell = spec.shell
    base, header, roof_end, back = spec.glass
    roof = float(np.max(np.array(shell.top)[:, 1]))
    low_z, half = min(spec.belt) - 0.06, shell.width / 2 + 0.05

    def sides(x: Array, y: Array, z: Array) -> Array:
        share = np.clip((x - back) / (base - back), 0, 1)
        belt = spec.belt[0] + (spec.belt[1] - spec.belt[0]) * share
        region = smooth_max(belt + 0.035 - z, z - shell.height(x) + spec.inset, 0.05)
        region = smooth_max(region, spec.side_glass - x, 0.08)
        return np.maximum(region, 0.25 * half - np.abs(y))

    def front(x: Array, y: Array, z: Array) -> Array:
        wide = np.abs(y) - shell.half(x, z) + 0.075
        return smooth_max(smooth_max(wide, header - x + 0.02, 0.05), x - base + 0.03, 0.05)

    def rear(x: Array, y: Array, z: Array) -> Array:
        wide = np.abs(y) - shell.half(x, z) + 0.105
        if bay.kind in ("van", "minibus", "hatchback", "suv", "wagon"):
            low = (spec.belt[0] + 0.03) - z
            high = z - shell.height(roof_end - 0.02) + 0.09
            return smooth_max(
                smooth_max(np.maximum(wide, x - roof_end - 0.05), low, 0.06), high, 0.06
            )
        return smooth_max(smooth_max(wide, x - roof_end, 0.06), back + 0.07 - x, 0.06)

    pieces = {
        "sides": shell.skin(
            sides, 0.003, (back - 0.2, -half, low_z), (base + 0.3, half, roof), bay.cell
        ),
        "windshield": shell.skin(
            front, 0.004, (header - 0.1, -half, low_z), (base + 0.1, half, roof), bay.cell
        ),
        "rear": shell.skin(
            rear,
            0.004,
            (-shell.length / 2 - 0.05, -half, low_z),
            (roof_end + 0.15, half, roof),
            bay.cell,
        ),
    }
    if bay.kind == "van":
        del pieces["rear"]
    parts = [
        bay.part(name, mesh, "car_glass", GLASS, "car_window") for name, mesh in pieces.items()
    ]
    posts = []
    for pillar in spec.pillars:
        top = float(shell.height(pillar)) - spec.inset + 0.01
        if pillar > spec.side_glass + 0.1:
            z = np.linspace(min(spec.belt) + 0.02, top, 10)
            posts.append(shell.strip(np.full(10, pillar) - 0.1 * (z - z[0]), z, 0.075, 0.009))
    if posts:
        mesh = mirrored(join(posts))
        parts.append(bay.part("pillars", mesh, "plastic", BLACK, "body"))
    return parts


def _patch(
    bay: Bay,
    spec: CarSpec,
    center: tuple[float, float, float],
    size: tuple[float, float, float],
    out: float = 0.008,
    slant: float = 0.0,
) -> Mesh:
    """Return the piece of the shell in a rounded box on both sides (or across, for y = 0)."""
    shell = spec.shell
    (cx, cy, cz), (sx, sy, sz) = center, size

    def region(x: Array, y: Array, z: Array) -> Array:
        across = np.abs(y) - cy
        rise = z - cz - slant * across
        q = [np.abs(x - cx) / sx, np.abs(across) / sy, np.abs(rise) / sz]
        inside = (q[0] ** 4 + q[1] ** 4 + q[2] ** 4) ** 0.25 - 1
        return np.asarray(inside * min(sx, sy, sz))

    low = (cx - sx - 0.03, -(cy + sy) - 0.03, cz - sz - 0.12)
    high = (cx + sx + 0.03, cy + sy + 0.03, cz + sz + 0.12)
    return shell.skin(region, out, low, high, bay.cell * 0.7)


def _front(bay: Bay, spec: CarSpec) -> list[Part]:
    """Return headlights, grille, bumper and plate."""
    shell, nose = spec.shell, spec.shell.length / 2
    eye = 0.80 * float(shell.height(nose - 0.28)) - 0.0
    wide = shell.width / 2
    tall = 0.07 if bay.kind != "van" else 0.10
    lamps = _patch(bay, spec, (nose - 0.16, wide - 0.23, eye), (0.30, 0.17, tall), 0.006, 0.12)
    upper = _patch(bay, spec, (nose, 0.0, eye - 0.03), (0.30, wide - 0.47, 0.065), 0.005)
    lower = _patch(bay, spec, (nose, 0.0, 0.35), (0.32, wide - 0.30, 0.085), 0.005)
    x = nose - 0.005
    plate = box((x, -0.26, 0.43), (x + 0.02, 0.26, 0.54), 0.006)
    text = join(
        [
            box(
                (x + 0.014, -0.21 + 0.062 * k, 0.455), (x + 0.024, -0.168 + 0.062 * k, 0.515), 0.003
            )
            for k in range(7)
        ]
    )
    bar = box((x - 0.02, -0.09, eye - 0.06), (x + 0.012, 0.09, eye + 0.01), 0.012)
    heat = bay.warm("hood_warm", "ambient")
    return [
        bay.headlamp("headlights", lamps),
        bay.part("grille", upper, "plastic", BLACK, heat),
        bay.part("intake", lower, "plastic", BLACK, heat),
        bay.part("plate_front", plate, "paint", (0.62, 0.62, 0.60), "ambient"),
        bay.part("plate_front_text", text, "plastic", BLACK, "ambient"),
        bay.part("badge", bar, "chrome", CHROME, "ambient"),
    ]


def _rear(bay: Bay, spec: CarSpec, rng: np.random.Generator) -> list[Part]:
    """Return tail lights, bumper, plate and exhaust."""
    shell, tail = spec.shell, -spec.shell.length / 2
    wide, eye = shell.width / 2, 0.90 * spec.belt[0]
    upright = bay.kind in ("van", "minibus", "suv", "wagon", "hatchback")
    size = (0.24, 0.10, 0.20) if upright else (0.22, 0.20, 0.075)
    lamps = _patch(bay, spec, (tail + 0.10, wide - size[1] - 0.02, eye), size, 0.008)
    bumper = _patch(bay, spec, (tail, 0.0, 0.36), (0.34, wide - 0.12, 0.09), 0.006)
    x = tail + 0.015
    low = 0.74 if upright else 0.80
    plate = box((x - 0.03, -0.26, low - 0.055), (x, 0.26, low + 0.055), 0.006)
    text = join(
        [
            box(
                (x - 0.034, -0.21 + 0.062 * k, low - 0.03),
                (x - 0.02, -0.168 + 0.062 * k, low + 0.03),
                0.003,
            )
            for k in range(7)
        ]
    )
    side = float(rng.choice([-1, 1])) * (wide - 0.42)
    pipe = tube([[tail + 0.30, side, 0.25], [tail + 0.02, side, 0.25]], 0.032, 14)
    return [
        bay.taillamp("taillights", lamps),
        bay.part("bumper", bumper, "plastic", BLACK, "ambient"),
        bay.part("plate_rear", plate, "paint", (0.62, 0.60, 0.52), "ambient"),
        bay.part("plate_rear_text", text, "plastic", BLACK, "ambient"),
        bay.part("exhaust", pipe, "metal", (0.2, 0.2, 0.2), bay.warm("exhaust", "ambient")),
    ]


def _details(bay: Bay, spec: CarSpec) -> list[Part]:
    """Return mirrors, door seams, handles and the frame of the side windows."""
    shell = spec.shell
    base = spec.glass[0]
    belt = spec.belt[1]
    x = base - 0.42
    y = float(shell.side(x, belt + 0.06))
    cap = moved(box((-0.07, -0.02, -0.07), (0.07, 0.20, 0.075), 0.06), (x, y, belt + 0.10))
    mirror = mirrored(cap)
    seams = []
    edges = [base - 0.26, *spec.pillars]
    for edge in edges:
        z = np.linspace(spec.cladding + 0.04, belt + 0.02, 14)
        lean = edge + 0.05 * ((z - 0.6) / 0.4) ** 2
        seams.append(shell.strip(lean, z, 0.011))
    along = np.linspace(min(edges), max(edges), 24)
    seams.append(shell.strip(along, np.full(24, spec.cladding + 0.04), 0.010))
    handles = []
    for edge in spec.pillars:
        hx, hz = edge + 0.14, belt - 0.14
        hy = float(shell.side(hx, hz))
        handles.append(
            moved(box((-0.09, -0.01, -0.016), (0.09, 0.028, 0.016), 0.012), (hx, hy, hz))
        )
    return [
        bay.part("mirrors", mirror, "car_paint", bay.paint, "body"),
        bay.part("seams", mirrored(join(seams)), "plastic", (0.012, 0.012, 0.012), "ambient"),
        bay.part("handles", mirrored(join(handles)), "car_paint", bay.paint, "body"),
    ]
