"""Things along a street: lamps, poles with wires, signs, signals, benches, fences, bins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from experiments.world.mesh import Builder, Line, box, place, quads, sphere, tube

Vector = tuple[float, float, float]


def lamp_post(b: Builder, position: Vector, heading: float, height: float, on: bool) -> Vector:
    """Add a lamp on an arm that reaches ``heading``; return where its light comes from."""
    h = height
    arm: list[list[float]] = [
        [0, 0, 0],
        [0, 0, h * 0.9],
        [0.15, 0, h * 0.97],
        [0.5, 0, h],
        [1.3, 0, h + 0.05],
    ]
    b.add(
        place(tube(arm, [0.09, 0.06, 0.05, 0.04, 0.035], 7), position, heading),
        "metal",
        (0.22, 0.23, 0.23),
        "ambient",
        "pole",
        smooth=True,
    )
    head = place(box([0.6, 0.22, 0.1], [1.3, 0, h + 0.02]), position, heading)
    b.add(head, "metal", (0.25, 0.25, 0.25), "lamp_hot" if on else "ambient", "pole")
    glow = place(box([0.45, 0.16, 0.04], [1.3, 0, h - 0.05]), position, heading)
    b.add(
        glow,
        "lamp_on" if on else "plastic",
        (0.9, 0.88, 0.8),
        "lamp_hot" if on else "ambient",
        "pole",
    )
    c, s = np.cos(heading), np.sin(heading)
    return (position[0] + 1.3 * c, position[1] + 1.3 * s, position[2] + h - 0.12)


def park_lamp(b: Builder, position: Vector, height: float, on: bool) -> Vector:
    """Add a post with a globe; return where its light comes from."""
    x, y, z = position
    b.add(
        tube([[x, y, z], [x, y, z + height]], [0.06, 0.04], 7),
        "metal",
        (0.06, 0.07, 0.06),
        "ambient",
        "pole",
        smooth=True,
    )
    b.add(
        sphere([x, y, z + height + 0.17], 0.19, 8),
        "lamp_on" if on else "plastic",
        (0.85, 0.83, 0.78),
        "lamp_hot" if on else "ambient",
        "pole",
        smooth=True,
    )
    b.add(
        tube([[x, y, z + height + 0.34], [x, y, z + height + 0.42]], [0.24, 0.05], 10),
        "metal",
        (0.05, 0.05, 0.05),
        "ambient",
        "pole",
    )
    return (x, y, z + height + 0.17)


def wire(
    b: Builder, start: npt.ArrayLike, end: npt.ArrayLike, sag: float, radius: float = 0.014
) -> None:
    """Hang a wire between two points."""
    a, c = np.asarray(start, float), np.asarray(end, float)
    t = np.linspace(0, 1, 13)[:, None]
    p = a + (c - a) * t
    p[:, 2] -= sag * 4 * (t * (1 - t))[:, 0]
    b.add(tube(p, radius, 4, caps=False), "rubber", (0.02, 0.02, 0.02), "ambient", "pole")


def utility_line(b: Builder, rng: np.random.Generator, positions: Line, height: float) -> None:
    """Stand wooden poles with crossarms and hang wires from one to the next."""
    spots = np.asarray(positions, float)
    along = spots[-1, :2] - spots[0, :2]
    heading = float(np.arctan2(along[1], along[0])) + np.pi / 2
    across = np.array([np.cos(heading), np.sin(heading), 0])
    tops = []
    for p in spots:
        lean = rng.normal(0, 0.1, 2)
        top = np.array([p[0] + lean[0], p[1] + lean[1], p[2] + height])
        b.add(
            tube([p, top], [0.14, 0.10], 8), "wood", (0.13, 0.10, 0.08), "bark", "pole", smooth=True
        )
        b.add(
            box([2.2, 0.1, 0.12], top - [0, 0, 0.5], heading),
            "wood",
            (0.12, 0.10, 0.08),
            "bark",
            "pole",
        )
        if rng.random() < 0.4:
            b.add(
                tube([top - [0.3, 0, 2.2], top - [0.3, 0, 1.3]], 0.22, 9),
                "metal",
                (0.3, 0.3, 0.3),
                "unit",
                "pole",
                smooth=True,
            )
        tops.append(top)
    for a, c in pairwise(tops):
        for off in (-1.0, -0.4, 0.4, 1.0):
            wire(
                b,
                a + across * off - [0, 0, 0.4],
                c + across * off - [0, 0, 0.4],
                rng.uniform(0.4, 0.7),
            )
        wire(b, a - [0, 0, 1.6], c - [0, 0, 1.6], 0.6, 0.03)


def sign(b: Builder, rng: np.random.Generator, position: Vector, heading: float) -> None:
    """Add a traffic sign that looks towards ``heading``."""
    h = rng.uniform(2.1, 2.6)
    b.add(
        place(tube([[0, 0, 0], [0, 0, h]], 0.03, 6), position, heading),
        "metal",
        (0.35, 0.35, 0.36),
        "ambient",
        "pole",
        smooth=True,
    )
    colors = ((0.5, 0.02, 0.03), (0.02, 0.08, 0.4), (0.6, 0.42, 0.02), (0.6, 0.6, 0.6))
    color = colors[rng.integers(len(colors))]
    sides = int(rng.choice([3, 4, 24]))
    t = (
        np.linspace(0, 2 * np.pi, sides, endpoint=False)
        + np.pi / 2
        + (np.pi / 4 if sides == 4 else 0)
    )
    for r, c, x in ((0.33, color, 0.04), (0.24, (0.65, 0.65, 0.63), 0.05)):
        ring = np.stack([np.full(sides, x), r * np.cos(t), h - 0.25 + r * np.sin(t)], 1)
        fan = [[ring[0], ring[k], ring[k + 1], ring[k + 1]] for k in range(1, sides - 1)]
        b.add(place(quads(fan), position, heading), "paint", c, "ambient", "pole")
    b.add(
        place(box([0.02, 0.6, 0.6], [0.02, 0, h - 0.25]), position, heading),
        "metal",
        (0.3, 0.3, 0.3),
        "ambient",
        "pole",
    )


def traffic_signal(
    b: Builder, position: Vector, heading: float, state: int, reach: float = 0.0
) -> None:
    """Add a signal (state 0 red, 1 yellow, 2 green), on an arm of length ``reach`` if given."""
    h = 5.6 if reach else 3.2
    pole: list[list[float]] = [[0, 0, 0], [0, 0, h]]
    if reach:
        pole.append([0, reach, h + 0.1])
    b.add(
        place(tube(pole, 0.07, 7), position, heading),
        "metal",
        (0.15, 0.16, 0.15),
        "ambient",
        "pole",
    )
    y = reach
    b.add(
        place(box([0.25, 0.32, 1.0], [0.1, y, h - 0.55]), position, heading),
        "plastic",
        (0.02, 0.03, 0.02),
        "ambient",
        "pole",
    )
    for k, c in enumerate(((0.9, 0.03, 0.02), (0.8, 0.5, 0.02), (0.05, 0.8, 0.4))):
        disk = sphere([0.24, y, h - 0.25 - 0.3 * k], 0.1, 6)
        on = k == state
        color = c if on else tuple(0.06 * x for x in c)
        b.add(
            place(disk, position, heading),
            "signal_on" if on else "plastic",
            color,
            "lamp_hot" if on else "ambient",
            "pole",
            smooth=True,
        )


def bench(b: Builder, position: Vector, heading: float) -> None:
    """Add a park bench that looks towards ``heading``."""
    for k in range(4):
        b.add(
            place(box([0.1, 1.7, 0.035], [-0.2 + 0.13 * k, 0, 0.45]), position, heading),
            "wood",
            (0.20, 0.12, 0.06),
            "bark",
            "bench",
        )
    for k in range(3):
        b.add(
            place(
                box([0.035, 1.7, 0.1], [-0.28 - 0.03 * k, 0, 0.58 + 0.14 * k]), position, heading
            ),
            "wood",
            (0.20, 0.12, 0.06),
            "bark",
            "bench",
        )
    for y in (-0.7, 0.7):
        b.add(
            place(box([0.5, 0.06, 0.44], [0, y, 0.22]), position, heading),
            "metal",
            (0.06, 0.06, 0.06),
            "ambient",
            "bench",
        )


def fence(
    b: Builder, start: npt.ArrayLike, end: npt.ArrayLike, height: float = 1.2, kind: str = "bars"
) -> None:
    """Add a fence between two points of the ground: ``bars``, ``planks`` or ``rails``."""
    a, c = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(c - a))
    heading = float(np.arctan2(c[1] - a[1], c[0] - a[0]))
    step, size = {"bars": (0.13, 0.02), "planks": (0.17, 0.15), "rails": (2.0, 0.08)}[kind]
    material, color = (
        ("wood", (0.22, 0.17, 0.12)) if kind == "planks" else ("metal", (0.12, 0.13, 0.12))
    )
    heat = "bark" if kind == "planks" else "ambient"
    for u in np.arange(0, length, step):
        p = a + (c - a) * u / length
        b.add(
            box(
                [size, 0.02 if kind != "rails" else size, height],
                [p[0], p[1], p[2] + height / 2],
                heading,
            ),
            material,
            color,
            heat,
            "fence",
        )
    for z in (0.12, 0.55, 0.95):
        mid = (a + c) / 2
        b.add(
            box([length, 0.05, 0.05], [mid[0], mid[1], mid[2] + z * height], heading),
            material,
            color,
            heat,
            "fence",
        )


def bin_(b: Builder, rng: np.random.Generator, position: Vector) -> None:
    """Add a litter bin or a wheeled waste container."""
    x, y, z = position
    if rng.random() < 0.5:
        b.add(
            tube([[x, y, z], [x, y, z + 0.9]], [0.2, 0.26], 12),
            "metal",
            (0.08, 0.12, 0.09),
            "ambient",
            "pole",
            smooth=True,
        )
    else:
        color = ((0.04, 0.12, 0.05), (0.05, 0.05, 0.06), (0.3, 0.22, 0.02))[rng.integers(3)]
        b.add(
            box([0.6, 0.7, 1.0], [x, y, z + 0.55], rng.uniform(-0.3, 0.3)),
            "plastic",
            color,
            "ambient",
            "pole",
        )
        b.add(box([0.64, 0.74, 0.08], [x, y, z + 1.08]), "plastic", color, "ambient", "pole")


def manhole(b: Builder, position: Vector) -> None:
    """Add a cover in the road; sewers are warm."""
    x, y, z = position
    b.add(
        tube([[x, y, z - 0.02], [x, y, z + 0.006]], 0.33, 20),
        "metal",
        (0.07, 0.07, 0.07),
        "sewer",
        "road",
    )


def bollards(b: Builder, positions: npt.ArrayLike) -> None:
    """Stand a row of short posts."""
    for x, y, z in np.asarray(positions, float):
        b.add(
            tube([[x, y, z], [x, y, z + 0.85], [x, y, z + 0.9]], [0.07, 0.07, 0.03], 8),
            "metal",
            (0.2, 0.2, 0.2),
            "ambient",
            "pole",
            smooth=True,
        )
        b.add(
            tube([[x, y, z + 0.65], [x, y, z + 0.75]], 0.073, 8),
            "paint",
            (0.6, 0.6, 0.6),
            "ambient",
            "pole",
        )


def banner(
    b: Builder, rng: np.random.Generator, center: Vector, heading: float, size: tuple[float, float]
) -> None:
    """Hang a printed sheet that looks towards ``heading``."""
    m = box([0.05, size[0], size[1]], [0, 0, 0])
    color = tuple(rng.uniform(0.02, 0.6, 3))
    b.add(place(m, center, heading), "sign", color, "ambient", "building")
