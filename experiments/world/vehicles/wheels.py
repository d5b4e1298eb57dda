"""Wheels: tires with tread shoulders, rims with spokes, and thin wheels of bicycles."""

from __future__ import annotations

import numpy as np

from experiments.world.part import Part
from experiments.world.vehicles.frame import BLACK, RUBBER, Bay
from experiments.world.vehicles.shapes import Mesh, join, lathe, moved, tube


def road_wheels(
    bay: Bay,
    axles: list[float],
    track: float,
    radius: float,
    width: float,
    *,
    spokes: int = 5,
    rim: tuple[float, float, float] = (0.36, 0.37, 0.38),
    dull: bool = False,
    twin: bool = False,
) -> list[Part]:
    """Return the tires and rims of all axles; ``track`` is the distance between outer sides.

    Args:
        bay: the vehicle.
        axles: x of each axle in meters.
        track: width over the tires.
        radius: of the tire.
        width: of the tire.
        spokes: of the rim, 0 for a closed disc.
        rim: color of the rims.
        dull: whether the rims are painted steel.
        twin: whether all axles but the first (front) carry doubled tires.
    """
    tires, rims, hubs = [], [], []
    for number, x in enumerate(axles):
        for sign in (1, -1):
            at = np.array([x, sign * (track / 2 - width / 2), radius])
            wide = width * (2.1 if twin and number else 1.0)
            tire = _mirror(_tire(radius, wide, width), sign)
            face = _mirror(_rim(radius, width, spokes), sign)
            tires.append(moved(tire, at))
            rims.append(moved(face, at))
            hubs.append(moved(_mirror(_well(radius, width), sign), at))
    heat = bay.warm("tire", "tire_cold")
    finish = "metal" if dull else "chrome"
    return [
        bay.part("tires", join(tires), "rubber", RUBBER, heat),
        bay.part("rims", join(rims), finish if spokes else "plastic", rim, "body"),
        bay.part("wells", join(hubs), "plastic", BLACK, heat),
    ]


def _mirror(mesh: Mesh, sign: int) -> Mesh:
    """Return a wheel that looks to the left (sign 1) or to the right."""
    if sign > 0:
        return mesh
    vertices, faces = mesh
    flipped = vertices * np.array([1, -1, 1], np.float32)
    return flipped, np.ascontiguousarray(faces[:, ::-1])


def _tire(radius: float, wide: float, width: float) -> Mesh:
    """Return a tire whose outer side lies at ``y = width / 2``."""
    r, outer, inner = radius, width / 2, width / 2 - wide
    hole = 0.66 * r
    rows = [
        (hole, inner + 0.02),
        (0.80 * r, inner + 0.003),
        (0.93 * r, inner + 0.004),
        (0.985 * r, inner + 0.022),
        (r, inner + 0.045),
        (r, outer - 0.045),
        (0.985 * r, outer - 0.020),
        (0.93 * r, outer - 0.004),
        (0.86 * r, outer),
        (0.76 * r, outer - 0.003),
        (hole, outer - 0.012),
        (hole * 0.98, outer - 0.05),
    ]
    return lathe(rows)


def _well(radius: float, width: float) -> Mesh:
    """Return the dark inside of a rim."""
    y = width / 2 - 0.085
    return lathe([(0.66 * radius, width / 2 - 0.03), (0.64 * radius, y), (0.01, y)], 28)


def _rim(radius: float, width: float, spokes: int) -> Mesh:
    """Return a rim with spokes, or a closed disc where there are none."""
    r, y = 0.66 * radius, width / 2
    lip = lathe(
        [(r, y - 0.012), (r * 0.97, y - 0.004), (r * 0.90, y - 0.010), (r * 0.88, y - 0.05)]
    )
    if not spokes:
        rows = [
            (r * 0.9, y - 0.014),
            (r * 0.7, y - 0.03),
            (r * 0.45, y - 0.03),
            (r * 0.3, y),
            (0.01, y),
        ]
        return join([lip, lathe(rows, 32)])
    hub = lathe(
        [(r * 0.30, y - 0.05), (r * 0.27, y - 0.022), (r * 0.15, y - 0.014), (0.004, y - 0.012)], 20
    )
    pieces = [lip, hub]
    for k in range(spokes):
        for shift in (-0.13, 0.13) if spokes < 7 else (0.0,):
            angle = 2 * np.pi * k / spokes
            start = _polar(angle + 0.6 * shift, 0.18 * r, y - 0.024)
            middle = _polar(angle + 0.8 * shift, 0.55 * r, y - 0.026)
            end = _polar(angle + 1.2 * shift, 0.93 * r, y - 0.018)
            pieces.append(tube([start, middle, end], [0.026, 0.022, 0.030], 6))
    return join(pieces)


def _polar(angle: float, radius: float, y: float) -> list[float]:
    """Return a point of a wheel by its angle."""
    return [radius * float(np.cos(angle)), y, radius * float(np.sin(angle))]


def ring(radius: float, thick: float, wide: float, sides: int = 48) -> Mesh:
    """Return a tire of a bicycle or motorcycle: a torus about the y axis."""
    angle = np.linspace(0, 2 * np.pi, 11)
    rows = np.stack([radius - thick + thick * np.cos(angle), wide * np.sin(angle)], 1)
    vertices, faces = lathe(rows, sides)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    if np.einsum("fi,fi->", a, np.cross(b, c)) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    return vertices, faces


def wire_spokes(radius: float, count: int, width: float, thick: float) -> Mesh:
    """Return thin spokes from the hub to the rim."""
    pieces = []
    for k in range(count):
        angle, side = 2 * np.pi * k / count, width * (1 if k % 2 else -1)
        pieces.append(
            tube([_polar(angle, 0.03, side), _polar(angle + 0.12, radius, 0.0)], thick, 4)
        )
    return join(pieces)
