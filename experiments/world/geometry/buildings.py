"""Buildings: facades with recessed windows, doors, shops, balconies, roofs and chimneys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.world.mesh import Builder, Color, Mesh, box, merge, place, quads, tube

WALLS: tuple[tuple[str, Color], ...] = (
    ("brick", (0.28, 0.12, 0.08)),
    ("brick", (0.34, 0.20, 0.13)),
    ("brick", (0.22, 0.14, 0.11)),
    ("plaster", (0.55, 0.50, 0.40)),
    ("plaster", (0.60, 0.58, 0.54)),
    ("plaster", (0.48, 0.36, 0.24)),
    ("plaster", (0.42, 0.44, 0.46)),
    ("concrete", (0.36, 0.35, 0.33)),
    ("concrete", (0.28, 0.28, 0.28)),
    ("wood", (0.30, 0.24, 0.18)),
)


@dataclass(frozen=True)
class Style:
    """How one building looks; meters."""

    wall: str
    color: Color
    storey: float
    window: tuple[float, float]
    spacing: float
    recess: float
    balconies: bool
    shops: bool
    gable: bool
    lit: float


def random_style(rng: np.random.Generator, lit: float) -> Style:
    """Draw a style; ``lit`` is the fraction of windows with light behind them."""
    wall, color = WALLS[rng.integers(len(WALLS))]
    tint = rng.uniform(0.75, 1.2) * rng.uniform(0.95, 1.05, 3)
    return Style(
        wall=wall,
        color=(color[0] * tint[0], color[1] * tint[1], color[2] * tint[2]),
        storey=rng.uniform(2.8, 3.6),
        window=(rng.uniform(0.9, 1.8), rng.uniform(1.2, 1.8)),
        spacing=rng.uniform(2.0, 3.4),
        recess=rng.uniform(0.1, 0.3),
        balconies=rng.random() < 0.3,
        shops=rng.random() < 0.35,
        gable=rng.random() < 0.35,
        lit=lit,
    )


def _rect(u0: float, u1: float, v0: float, v1: float, depth: float = 0.0) -> list[list[float]]:
    """Corners of a rectangle on a facade, seen from outside (-y)."""
    return [[u0, depth, v0], [u1, depth, v0], [u1, depth, v1], [u0, depth, v1]]


def _hole(u0: float, u1: float, v0: float, v1: float, depth: float) -> list[list[list[float]]]:
    """Return the four reveals of an opening."""
    a, b, c, d = _rect(u0, u1, v0, v1)
    e, f, g, h = _rect(u0, u1, v0, v1, depth)
    return [[a, b, f, e], [b, c, g, f], [c, d, h, g], [d, a, e, h]]


class Facade:
    """One wall with openings, built along +x at y = 0 and looking towards -y."""

    def __init__(self, width: float, style: Style, rng: np.random.Generator) -> None:
        self.width, self.style, self.rng = width, style, rng
        self.wall: list[list[list[float]]] = []
        self.glass: list[Mesh] = []
        self.lit: list[Mesh] = []
        self.frame: list[Mesh] = []
        self.slab: list[Mesh] = []
        self.metal: list[Mesh] = []
        self.unit: list[Mesh] = []
        self.shop: list[Mesh] = []
        self.band: list[Mesh] = []
        self.door: list[Mesh] = []

    def _pane(self, u0: float, u1: float, v0: float, v1: float, lit: bool) -> None:
        """Glass with its frame in an opening."""
        d, t = self.style.recess, 0.06
        (self.lit if lit else self.glass).append(quads([_rect(u0, u1, v0, v1, d)]))
        mid = (u0 + u1) / 2
        bars = [(u0, u0 + t), (u1 - t, u1)] + ([(mid - t / 2, mid + t / 2)] if u1 - u0 > 1 else [])
        for a, b in bars:
            self.frame.append(box([b - a, t, v1 - v0], [(a + b) / 2, d - 0.02, (v0 + v1) / 2]))
        for v in (v0 + t / 2, v1 - t / 2):
            self.frame.append(box([u1 - u0, t, t], [mid, d - 0.02, v]))
        self.slab.append(box([u1 - u0 + 0.16, 0.14, 0.05], [mid, -0.04, v0 - 0.02]))

    def storey(self, z: float, height: float, kind: str) -> None:
        """Add one floor: ``windows``, ``shops`` or ``doors``."""
        s, rng = self.style, self.rng
        shop = kind == "shops"
        width, tall = (s.spacing * 1.25, height - 0.9) if shop else s.window
        pitch = max(s.spacing * (1.5 if shop else 1.0), width + 0.4)
        count = max(1, int((self.width - 0.6) / pitch))
        left = (self.width - (count - 1) * pitch) / 2
        sill = 0.35 if shop else 0.95
        door = int(rng.integers(count)) if kind != "windows" else -1
        v1 = z + min(sill + tall, height - 0.25)
        edge = 0.0
        for k in range(count):
            c, w = left + k * pitch, width
            v0 = z + sill
            if k == door:
                v0, w = z + 0.1, 1.1
            u0, u1 = c - w / 2, c + w / 2
            self.wall.append(_rect(edge, u0, z, z + height))
            self.wall.append(_rect(u0, u1, z, v0))
            self.wall.append(_rect(u0, u1, v1, z + height))
            self.wall += _hole(u0, u1, v0, v1, s.recess)
            edge = u1
            if k == door and not shop:
                self.door.append(quads([_rect(u0, u1, v0, v1, s.recess)]))
                self.slab.append(box([1.7, 0.8, 0.15], [c, -0.4, z + 0.05]))
            elif shop:
                self.shop.append(quads([_rect(u0, u1, v0, v1, s.recess)]))
                self.frame.append(box([0.08, 0.08, v1 - v0], [c, s.recess, (v0 + v1) / 2]))
            else:
                self._pane(u0, u1, v0, v1, rng.random() < s.lit)
                self._extras(c, v0, z)
        self.wall.append(_rect(edge, self.width, z, z + height))
        if shop:
            self.band.append(
                box([self.width - 0.4, 0.12, 0.55], [self.width / 2, -0.06, z + height - 0.4])
            )

    def _extras(self, c: float, v0: float, z: float) -> None:
        """Add a balcony or an air-conditioner at a window, or neither."""
        s, rng = self.style, self.rng
        if s.balconies and z > 1 and rng.random() < 0.6:
            w = s.window[0] + 0.9
            self.slab.append(box([w, 1.0, 0.14], [c, -0.5, z + 0.05]))
            for u in np.arange(c - w / 2, c + w / 2 + 0.01, 0.14):
                self.metal.append(box([0.025, 0.025, 0.95], [u, -0.97, z + 0.55]))
            self.metal.append(box([w, 0.05, 0.05], [c, -0.97, z + 1.03]))
        elif z > 1 and rng.random() < 0.12:
            self.unit.append(box([0.8, 0.35, 0.6], [c + s.window[0] * 0.3, -0.2, v0 - 0.45]))

    def emit(
        self, b: Builder, origin: tuple[float, float, float], heading: float, instance: int
    ) -> None:
        """Move everything to its place and hand it to the builder."""
        s = self.style
        trim = tuple(0.5 * c + 0.25 for c in s.color)
        groups: list[tuple[list[Mesh], str, tuple[float, ...], str]] = [
            ([quads(self.wall)], s.wall, s.color, "wall"),
            (self.glass, "glass", (0.03, 0.035, 0.04), "window"),
            (self.lit, "lit_glass", (0.5, 0.45, 0.35), "lit_window"),
            (self.shop, "shop_glass", (0.5, 0.47, 0.4), "lit_window"),
            (self.frame, "paint", (0.5, 0.5, 0.48), "frame"),
            (self.slab, "concrete", trim, "wall"),
            (self.metal, "metal", (0.08, 0.08, 0.09), "ambient"),
            (self.unit, "paint", (0.55, 0.55, 0.52), "unit"),
            (self.band, "sign", tuple(self.rng.uniform(0.05, 0.6, 3)), "ambient"),
            (self.door, "wood", tuple(self.rng.uniform(0.03, 0.25, 3)), "door"),
        ]
        for meshes, material, color, heat in groups:
            if meshes:
                m = place(merge(meshes), origin, heading)
                b.add(m, material, color, heat, "building", instance=0 * instance)


Piece = tuple[Mesh, str, Color, str]


def _gable(w: float, d: float, h: float, style: Style, rng: np.random.Generator) -> list[Piece]:
    """Two slopes of tiles, their ends and a chimney."""
    tile: Color = (0.16, 0.09, 0.07) if rng.random() < 0.5 else (0.09, 0.09, 0.10)
    r, o, e = h + d * rng.uniform(0.25, 0.45), 0.35, h - 0.15
    slopes = [
        [[-o, -o, e], [w + o, -o, e], [w + o, d / 2, r], [-o, d / 2, r]],
        [[w + o, d + o, e], [-o, d + o, e], [-o, d / 2, r], [w + o, d / 2, r]],
    ]
    ends = [
        [[0, d, h], [0, 0, h], [0, d / 2, r - 0.1], [0, d / 2, r - 0.1]],
        [[w, 0, h], [w, d, h], [w, d / 2, r - 0.1], [w, d / 2, r - 0.1]],
    ]
    stack = box([0.6, 0.6, 1.4], [w * rng.uniform(0.2, 0.8), d * 0.4, r])
    return [
        (quads(slopes), "roof", tile, "roof"),
        (quads(ends), style.wall, style.color, "wall"),
        (stack, "brick", (0.25, 0.12, 0.09), "chimney"),
    ]


def _flat(w: float, d: float, h: float, style: Style, rng: np.random.Generator) -> list[Piece]:
    """Return a level roof with a parapet, units and perhaps an aerial."""
    rng.random()  # as many draws as a gable makes before its shape
    level = quads([[[0, 0, h], [w, 0, h], [w, d, h], [0, d, h]]])
    pieces: list[Piece] = [(level, "concrete", (0.2, 0.2, 0.2), "roof")]
    r, g, b = style.color
    for size, c in (
        ([w + 0.2, 0.25, 0.6], [w / 2, 0.05, h + 0.25]),
        ([0.25, d, 0.6], [0.05, d / 2, h + 0.25]),
        ([0.25, d, 0.6], [w - 0.05, d / 2, h + 0.25]),
    ):
        pieces.append((box(size, c), "concrete", (0.8 * r, 0.8 * g, 0.8 * b), "wall"))
    for _ in range(int(rng.integers(1, 5))):
        s = rng.uniform(0.5, 1.8, 3)
        c = [rng.uniform(1, w - 1), rng.uniform(1, d - 1), h + s[2] / 2]
        heat = "unit" if rng.random() < 0.5 else "ambient"
        pieces.append((box(s, c), "metal", (0.4, 0.4, 0.4), heat))
    if rng.random() < 0.5:
        x = rng.uniform(1, w - 1)
        aerial = tube([[x, 1, h], [x, 1, h + 2.5]], 0.03, 5)
        pieces.append((aerial, "metal", (0.2, 0.2, 0.2), "ambient"))
    return pieces


def building(
    b: Builder,
    rng: np.random.Generator,
    position: tuple[float, float],
    heading: float,
    width: float,
    depth: float,
    storeys: int,
    lit: float = 0.0,
    style: Style | None = None,
) -> None:
    """Add a building whose front starts at ``position``, runs along ``heading``, looks right."""
    style = style or random_style(rng, lit)
    base = (position[0], position[1], 0.0)
    along = np.array([np.cos(heading), np.sin(heading)])
    back = np.array([-np.sin(heading), np.cos(heading)])
    corners = [
        np.array(position),
        np.array(position) + along * width,
        np.array(position) + along * width + back * depth,
        np.array(position) + back * depth,
    ]
    top = 0.0
    for side in range(4):
        span = width if side % 2 == 0 else depth
        facade = Facade(span, style, rng)
        top = 0.0
        for level in range(storeys):
            kind = ("shops" if style.shops else "doors") if level == 0 and side == 0 else "windows"
            height = style.storey + (0.8 if level == 0 and style.shops else 0.0)
            facade.storey(top, height, kind)
            top += height
        c = corners[side]
        facade.emit(b, (float(c[0]), float(c[1]), 0.0), heading + side * np.pi / 2, 0)
    pipe = place(tube([[0.25, -0.08, 0], [0.25, -0.08, top]], 0.05, 6), base, heading)
    b.add(pipe, "metal", (0.3, 0.3, 0.3), "ambient", "building")
    for mesh, material, color, heat in (_gable if style.gable else _flat)(
        width, depth, top, style, rng
    ):
        b.add(place(mesh, base, heading), material, color, heat, "building")


def skyline(
    b: Builder, rng: np.random.Generator, distance: float, spread: float, lit: float
) -> None:
    """Put plain blocks far away, so that the horizon is not bare."""
    style = random_style(rng, lit)
    for x in np.arange(-spread, spread, 16.0):
        if rng.random() < 0.8:
            w, d = rng.uniform(9, 22), rng.uniform(8, 14)
            building(
                b,
                rng,
                (x + rng.uniform(-4, 4), distance + rng.uniform(0, 40)),
                rng.uniform(-0.2, 0.2),
                w,
                d,
                int(rng.integers(2, 9)),
                lit,
                style if rng.random() < 0.3 else None,
            )
