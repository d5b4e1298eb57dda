"""Rooms: walls with a door and windows, ceiling lights, tables, chairs, shelves, machines."""

from __future__ import annotations

import numpy as np

from experiments.world.mesh import Builder, box, place, quads, sphere, tube

Vector = tuple[float, float, float]


def shell(b: Builder, rng: np.random.Generator, size: Vector, floor: str = "floor") -> None:
    """Build floor, ceiling and walls of a room from (-w/2, 0, 0) to (w/2, d, h)."""
    w, d, h = size
    x = w / 2
    tone = rng.uniform(0.35, 0.6) * np.array([1.0, rng.uniform(0.94, 1.0), rng.uniform(0.8, 0.98)])
    ground = rng.uniform(0.08, 0.3) * np.array([1.0, 0.95, rng.uniform(0.7, 1.0)])
    b.add(
        quads([[[-x, 0, 0], [x, 0, 0], [x, d, 0], [-x, d, 0]]]),
        floor,
        tuple(ground),
        "floor",
        "floor",
    )
    b.add(
        quads([[[-x, d, h], [x, d, h], [x, 0, h], [-x, 0, h]]]),
        "plaster",
        (0.6, 0.6, 0.58),
        "inner_wall",
        "wall",
    )
    walls = [
        [[-x, d, 0], [x, d, 0], [x, d, h], [-x, d, h]],
        [[x, d, 0], [x, 0, 0], [x, 0, h], [x, d, h]],
        [[-x, 0, 0], [-x, d, 0], [-x, d, h], [-x, 0, h]],
        [[x, 0, 0], [-x, 0, 0], [-x, 0, h], [x, 0, h]],
    ]
    b.add(quads(walls), "plaster", tuple(tone), "inner_wall", "wall")
    for side in (-1, 1):
        b.add(
            box([0.03, d, 0.1], [side * (x - 0.015), d / 2, 0.05]),
            "wood",
            (0.2, 0.15, 0.1),
            "inner_wall",
            "wall",
        )
    for y in np.arange(1.2, d, 2.4):
        b.add(
            box([w, 0.05, 0.03], [0, y, h - 0.02]), "metal", (0.4, 0.4, 0.4), "inner_wall", "wall"
        )


def windows(b: Builder, rng: np.random.Generator, size: Vector, lit: bool) -> None:
    """Put windows with radiators below on one side wall, a door and a board on the end wall."""
    w, d, h = size
    x = -w / 2 + 0.03
    for y in np.arange(1.2, d - 1.0, 2.2):
        pane = [[x, y, 1.0], [x, y + 1.4, 1.0], [x, y + 1.4, h - 0.5], [x, y, h - 0.5]]
        b.add(
            quads([pane[::-1]]),
            "lit_glass" if lit else "glass",
            (0.5, 0.55, 0.6) if lit else (0.02, 0.025, 0.03),
            "window",
            "wall",
        )
        for off in (0.0, 0.7, 1.4):
            b.add(
                box([0.06, 0.06, h - 1.5], [x, y + off, (h + 0.5) / 2]),
                "paint",
                (0.55, 0.55, 0.55),
                "frame",
                "wall",
            )
        if rng.random() < 0.8:
            for k in range(9):
                b.add(
                    box([0.1, 0.08, 0.55], [x + 0.07, y + 0.15 + 0.13 * k, 0.45]),
                    "paint",
                    (0.6, 0.6, 0.58),
                    "radiator",
                    "furniture",
                )
    u = rng.uniform(-w / 2 + 0.8, w / 2 - 1.5)
    b.add(
        box([0.95, 0.06, 2.05], [u, d - 0.03, 1.03]),
        "wood",
        tuple(rng.uniform(0.05, 0.35, 3)),
        "door",
        "wall",
    )
    b.add(
        box([rng.uniform(0.8, 2), 0.03, rng.uniform(0.5, 1)], [-u, d - 0.03, 1.6]),
        "sign",
        tuple(rng.uniform(0.05, 0.5, 3)),
        "inner_wall",
        "furniture",
    )


def chair(b: Builder, position: Vector, heading: float, color: Vector) -> None:
    """Add a chair that looks towards ``heading``."""
    for x in (-0.19, 0.19):
        for y in (-0.19, 0.19):
            b.add(
                place(tube([[x, y, 0], [x, y, 0.45]], 0.018, 5), position, heading),
                "metal",
                (0.1, 0.1, 0.1),
                "ambient",
                "furniture",
            )
    b.add(
        place(box([0.44, 0.44, 0.05], [0, 0, 0.46]), position, heading),
        "fabric",
        color,
        "ambient",
        "furniture",
    )
    b.add(
        place(box([0.04, 0.42, 0.4], [-0.21, 0, 0.75]), position, heading),
        "fabric",
        color,
        "ambient",
        "furniture",
    )


def desk(b: Builder, rng: np.random.Generator, position: Vector, heading: float, on: bool) -> None:
    """Add a table with a screen, a cup and papers."""
    top = tuple(rng.uniform(0.15, 0.5) * np.array([1, 0.85, 0.65]))
    b.add(
        place(box([0.8, 1.5, 0.04], [0, 0, 0.73]), position, heading),
        "wood",
        top,
        "ambient",
        "furniture",
    )
    for x in (-0.36, 0.36):
        for y in (-0.7, 0.7):
            b.add(
                place(box([0.05, 0.05, 0.72], [x, y, 0.36]), position, heading),
                "metal",
                (0.15, 0.15, 0.15),
                "ambient",
                "furniture",
            )
    if rng.random() < 0.8:
        y = rng.uniform(-0.3, 0.3)
        b.add(
            place(box([0.04, 0.55, 0.34], [0.15, y, 1.0]), position, heading),
            "plastic",
            (0.02, 0.02, 0.02),
            "screen" if on else "ambient",
            "furniture",
        )
        face = [
            [0.12, y + 0.26, 0.85],
            [0.12, y - 0.26, 0.85],
            [0.12, y - 0.26, 1.15],
            [0.12, y + 0.26, 1.15],
        ]
        b.add(
            place(quads([face]), position, heading),
            "screen" if on else "glass",
            (0.3, 0.4, 0.5) if on else (0.02, 0.02, 0.02),
            "screen" if on else "ambient",
            "furniture",
        )
    if rng.random() < 0.6:
        b.add(
            place(tube([[-0.2, 0.5, 0.75], [-0.2, 0.5, 0.85]], 0.04, 10), position, heading),
            "plastic",
            (0.5, 0.5, 0.5),
            "cup",
            "furniture",
            smooth=True,
        )
    for _ in range(3):
        p = [rng.uniform(-0.3, 0.1), rng.uniform(-0.6, 0.6), 0.765]
        paper = box([0.21, 0.3, 0.02 * rng.random() + 0.004], p, rng.uniform(0, 3))
        b.add(
            place(paper, position, heading),
            "plastic",
            tuple(rng.uniform(0.2, 0.7) * np.ones(3)),
            "ambient",
            "furniture",
        )


def shelf(
    b: Builder, rng: np.random.Generator, position: Vector, heading: float, width: float = 1.2
) -> None:
    """Add a shelf with books and boxes that looks towards ``heading``."""
    for z in np.arange(0.05, 2.0, 0.38):
        b.add(
            place(box([0.32, width, 0.025], [0, 0, z]), position, heading),
            "wood",
            (0.25, 0.19, 0.13),
            "ambient",
            "furniture",
        )
        y = -width / 2 + 0.05
        while y < width / 2 - 0.08 and z < 1.8:
            t, h = rng.uniform(0.02, 0.09), rng.uniform(0.18, 0.33)
            if rng.random() < 0.8:
                b.add(
                    place(box([0.22, t, h], [0, y + t / 2, z + h / 2]), position, heading),
                    "paint",
                    tuple(rng.uniform(0.02, 0.5, 3)),
                    "ambient",
                    "furniture",
                )
            y += t + 0.004
    for y in (-width / 2, width / 2):
        b.add(
            place(box([0.34, 0.03, 1.95], [0, y, 0.98]), position, heading),
            "wood",
            (0.25, 0.19, 0.13),
            "ambient",
            "furniture",
        )


def ceiling_light(b: Builder, position: Vector, on: bool, length: float = 1.2) -> None:
    """Hang a lamp tube below the ceiling."""
    x, y, z = position
    b.add(
        box([0.2, length, 0.06], [x, y, z - 0.03]),
        "paint",
        (0.6, 0.6, 0.6),
        "lamp_hot" if on else "ambient",
        "furniture",
    )
    b.add(
        box([0.14, length * 0.95, 0.02], [x, y, z - 0.07]),
        "tube_on" if on else "plastic",
        (0.95, 0.97, 1.0),
        "lamp_hot" if on else "ambient",
        "furniture",
    )


def machine(b: Builder, rng: np.random.Generator, position: Vector, hot: bool) -> None:
    """Add a cabinet, a boiler with pipes or a pile of boxes."""
    x, y, z = position
    kind = rng.integers(3)
    if kind == 0:
        b.add(
            box([0.7, 0.6, 1.9], [x, y, z + 0.95], rng.uniform(-0.1, 0.1)),
            "paint",
            tuple(rng.uniform(0.1, 0.4) * np.array([0.9, 1, 1.05])),
            "unit" if hot else "ambient",
            "furniture",
        )
    elif kind == 1:
        b.add(
            tube([[x, y, z], [x, y, z + 1.6]], 0.35, 18),
            "metal",
            (0.35, 0.36, 0.38),
            "radiator" if hot else "ambient",
            "furniture",
            smooth=True,
        )
        b.add(
            sphere([x, y, z + 1.6], [0.35, 0.35, 0.12], 7),
            "metal",
            (0.35, 0.36, 0.38),
            "radiator" if hot else "ambient",
            "furniture",
            smooth=True,
        )
        b.add(
            tube([[x, y, z + 1.6], [x, y, z + 2.4], [x + 2, y, z + 2.4]], 0.06, 8),
            "metal",
            (0.3, 0.2, 0.1),
            "radiator" if hot else "ambient",
            "furniture",
            smooth=True,
        )
    else:
        for _ in range(5):
            s = rng.uniform(0.3, 0.6, 3)
            b.add(
                box(
                    s,
                    [
                        x + rng.normal(0, 0.3),
                        y + rng.normal(0, 0.3),
                        z + s[2] / 2 + rng.choice([0, 0.45]),
                    ],
                    rng.uniform(0, 3),
                ),
                "paint",
                (0.3, 0.22, 0.13),
                "ambient",
                "furniture",
            )
