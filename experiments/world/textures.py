"""Textures over space: fine variation of albedo, and of temperature, on every surface.

A texture takes the points of a picture that lie on one material and gives the factor by which the
albedo varies there, and a relief in about [-1, 1] that the thermal camera uses: what is darker,
dirtier or deeper is also a little warmer or cooler. Nothing needs texture coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.world.noise import fractal, hash01

Array = npt.NDArray[np.float32]
Result = tuple[Array, Array]


@dataclass(frozen=True)
class Points:
    """Points of a picture on one material: all arrays have the same length N.

    ``position`` and ``normal`` are ``(N, 3)``; ``part`` and ``face`` are integers; ``footprint``
    is the size of a pixel on the surface in meters; ``seed`` makes scenes differ.
    """

    position: Array
    normal: Array
    part: npt.NDArray[np.int32]
    face: npt.NDArray[np.int32]
    footprint: Array
    seed: int

    def noise(
        self, wavelength: float, octaves: int = 3, seed: int = 0, squash: float = 1.0
    ) -> Array:
        """Solid noise at the points; ``squash`` stretches it along z."""
        p = self.position if squash == 1.0 else self.position * [1, 1, squash]
        return fractal(p, wavelength, octaves, seed=self.seed + seed, footprint=self.footprint)

    def mottle(self) -> Array:
        """Variation at every scale from 3 m to that of a pixel, about [-1, 1]."""
        p, size = self.position, self.footprint
        return 2.0 * fractal(p, 3.0, 6, gain=0.8, seed=self.seed + 91, footprint=size)

    def wall_axes(self) -> tuple[Array, Array]:
        """Horizontal and vertical coordinate on a wall, meters; on the ground, x and y."""
        n = self.normal
        flat = np.abs(n[:, 2]) > 0.8
        length = np.hypot(n[:, 0], n[:, 1]) + 1e-6
        u = (-n[:, 1] * self.position[:, 0] + n[:, 0] * self.position[:, 1]) / length
        return np.where(flat, self.position[:, 0], u), np.where(
            flat, self.position[:, 1], self.position[:, 2]
        )

    def fade(self, size: float) -> Array:
        """1 where a detail of ``size`` meters is resolved, 0 where it is not."""
        return np.clip(size / (self.footprint + 1e-9) - 0.5, 0, 1).astype(np.float32)


def _gray(x: Array) -> Array:
    """Return the same factor for the three channels."""
    return np.repeat(np.clip(x, 0.05, 3.0)[:, None], 3, 1).astype(np.float32)


def _tinted(x: Array, tint: tuple[float, float, float]) -> Array:
    """Return a factor whose variation leans to one color."""
    return np.clip(1 + x[:, None] * np.asarray(tint, np.float32), 0.05, 3.0).astype(np.float32)


def _cells(
    a: Array, b: Array, width: float, height: float, gap: float, p: Points, bond: float = 0.5
) -> tuple[Array, Array]:
    """Bricks or slabs: a random number per cell, and 1 in the joints."""
    row = np.floor(b / height)
    shifted = a / width + bond * np.mod(row, 2)
    col = np.floor(shifted)
    du, dv = (shifted - col) * width, (b / height - row) * height
    joint = ((du < gap) | (dv < gap)).astype(np.float32) * p.fade(gap * 3)
    return hash01(col.astype(np.int64), row.astype(np.int64), p.part), joint


def _litter(p: Points) -> tuple[Array, Array]:
    """Fallen leaves, paper and spots of gum on the ground: 1 where they lie, and their tone."""
    x, y = p.position[:, 0], p.position[:, 1]
    amount = 0.35 * float(hash01(p.seed, 71)) ** 3 + 0.4 * np.clip(p.noise(3.0, 2, 72) - 0.15, 0, 1)
    lies, tone = np.zeros_like(x), np.zeros_like(x)
    for layer, cell in enumerate((0.16, 0.31)):
        a, b = x / cell + 0.37 * layer, y / cell
        col, row = np.floor(a).astype(np.int64), np.floor(b).astype(np.int64)
        dx = a - col - 0.3 - 0.4 * hash01(col, row, 73 + layer)
        dy = b - row - 0.3 - 0.4 * hash01(col, row, 75 + layer)
        turn = np.pi * hash01(col, row, 77 + layer)
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        inside = (u / 0.28) ** 2 + (v / 0.15) ** 2 < 1
        here = inside & (hash01(col, row, 79 + layer) < amount)
        lies = np.where(here, 1.0, lies)
        tone = np.where(here, hash01(col, row, 81 + layer), tone)
    fade = p.fade(0.05)
    return (lies * fade).astype(np.float32), tone.astype(np.float32)


def _littered(p: Points, rgb: Array, relief: Array) -> Result:
    """Strew litter over the ground: most leaves are brown or yellow, some things are white."""
    lies, tone = _litter(p)
    brown = np.stack([0.9 + 2.0 * tone, 0.75 + 1.4 * tone, 0.5 + 0.3 * tone], -1)
    color = np.where(tone[:, None] > 0.97, 3.0, brown)
    mixed = rgb * (1 - lies[:, None]) + color * lies[:, None]
    return mixed.astype(np.float32), relief + lies * (0.7 - tone)


def plain(p: Points) -> Result:
    """Almost nothing: a trace of dirt."""
    n = p.noise(0.5, 2)
    return _gray(1 + 0.04 * n), n


def dirty(p: Points) -> Result:
    """Paint or plastic with dirt that grows towards the ground."""
    n = p.noise(0.6, 4)
    low = np.exp(-np.clip(p.position[:, 2], 0, 3) / 0.35)
    return _gray(1 + 0.14 * n - 0.15 * low * (0.6 + n)), n


def asphalt(p: Points) -> Result:
    """Grains, patches, oil along the lanes, cracks."""
    grain = p.noise(0.03, 2, 1)
    blotch = p.noise(2.2, 4, 2)
    stretched = fractal(
        p.position * [1.0, 0.12, 1.0], 0.9, 3, seed=p.seed + 3, footprint=p.footprint
    )
    ridge = np.abs(p.noise(3.5, 4, 4))
    torn = np.clip(p.noise(9.0, 2, 6) * 4, 0, 1)
    crack = torn * np.clip(1 - ridge / 0.014, 0, 1) * p.fade(0.05)
    patch = (p.noise(6.0, 1, 5) > 0.45).astype(np.float32)
    edge = np.clip(1 - np.abs(p.noise(6.0, 1, 5) - 0.45) / 0.012, 0, 1) * p.fade(0.06)
    x = 1 + 0.2 * grain + 0.26 * blotch + 0.2 * stretched - 0.5 * crack - 0.3 * patch - 0.4 * edge
    relief = 0.6 * blotch + 0.7 * stretched - 0.5 * patch + 0.06 * grain + 0.8 * crack + edge
    return _littered(p, _gray(x), relief)


def paving(p: Points) -> Result:
    """Slabs with joints, each a little different."""
    size = 0.3 + 0.3 * float(hash01(p.seed, 3))
    a, b = p.wall_axes()
    cell, joint = _cells(a, b, size, size, 0.012, p, 0.5 if p.seed % 2 else 0.0)
    n, grain = p.noise(1.5, 4, 1), p.noise(0.02, 1, 9)
    x = (0.86 + 0.28 * cell * p.fade(size)) * (1 + 0.2 * n + 0.1 * grain) * (1 - 0.4 * joint)
    return _littered(p, _gray(x), 0.7 * n + 0.6 * (cell - 0.5) - 0.8 * joint)


def tiles(p: Points) -> Result:
    """Smooth floor tiles."""
    a, b = p.wall_axes()
    cell, joint = _cells(a, b, 0.6, 0.6, 0.008, p, 0.0)
    n = p.noise(0.8, 4, 1)
    return _gray((0.93 + 0.14 * cell) * (1 + 0.07 * n) * (1 - 0.35 * joint)), 0.5 * n - 0.3 * joint


def road_paint(p: Points) -> Result:
    """Worn paint."""
    wear = p.noise(0.25, 4, 1)
    x = np.where(wear > 0.22, 0.35, 1.0) * (1 + 0.15 * p.noise(0.03, 1, 2))
    return _gray(x.astype(np.float32)), -0.6 - 0.4 * wear


def concrete(p: Points) -> Result:
    """Stains that run down, blotches, pores."""
    runs = p.noise(0.5, 3, 1, squash=0.12)
    n = p.noise(1.6, 4, 2)
    a, b = p.wall_axes()
    slab, joint = _cells(a, b, 2.6, 1.4, 0.025, p, 0.0)
    x = 1 + 0.24 * n + 0.2 * runs + 0.07 * p.noise(0.03, 1, 3)
    x = x * (0.9 + 0.2 * slab) * (1 - 0.4 * joint)
    return _gray(x), 0.7 * n + 0.5 * runs + 0.4 * (slab - 0.5) + 0.8 * joint


def brick(p: Points) -> Result:
    """Rows of bricks with mortar, soot and lighter patches."""
    a, b = p.wall_axes()
    cell, joint = _cells(a, b, 0.25, 0.085, 0.012, p)
    n, grain = p.noise(2.5, 4, 1), p.noise(0.02, 1, 2)
    tone = (0.72 + 0.55 * cell * p.fade(0.085) + 0.27 * (1 - p.fade(0.085))) * (
        1 + 0.2 * n + 0.12 * grain
    )
    rgb = tone[:, None] * np.stack([1 + 0.12 * cell, np.ones_like(cell), 1 - 0.08 * cell], -1)
    mortar = np.array([1.5, 2.3, 2.8], np.float32) * (1 + 0.2 * n)[:, None]
    rgb = rgb * (1 - joint[:, None]) + mortar * joint[:, None]
    return np.clip(rgb, 0.05, 4).astype(np.float32), 0.6 * n + 0.8 * (cell - 0.5) - 0.9 * joint


def plaster(p: Points) -> Result:
    """Smooth walls with rain streaks, dirt at the foot and repaired spots."""
    n = p.noise(2.0, 5, 1)
    streak = p.noise(0.35, 3, 2, squash=0.06)
    low = np.exp(-np.clip(p.position[:, 2], 0, 50) / 0.5)
    spot = p.noise(3.0, 2, 3)
    mend = (spot > 0.5).astype(np.float32)
    bare = np.clip((p.noise(1.4, 4, 4) - 0.42) * 12, 0, 1)  # plaster has come off here
    ridge = np.abs(p.noise(2.5, 4, 5))
    crack = np.clip(1 - ridge / 0.012, 0, 1) * np.clip(spot * 4, 0, 1) * p.fade(0.04)
    x = 1 + 0.2 * n + 0.2 * streak - 0.35 * low * (0.7 + n) + 0.1 * mend - 0.3 * bare - 0.4 * crack
    relief = 0.6 * n + 0.6 * streak + 0.5 * mend - 0.6 * bare + 0.6 * crack
    return _tinted(x - 1, (1.0, 1.03, 1.12)), relief


def wood(p: Points) -> Result:
    """Boards with grain."""
    a, b = p.wall_axes()
    board = hash01(np.floor(b / 0.14).astype(np.int64), p.part)
    joint = (np.mod(b, 0.14) < 0.012).astype(np.float32) * p.fade(0.03)
    grain = fractal(
        np.stack([a * 0.3, b * 6, 0 * a], -1), 0.3, 3, seed=p.seed, footprint=p.footprint
    )
    x = (0.8 + 0.4 * board * p.fade(0.14)) * (1 + 0.2 * grain) * (1 - 0.5 * joint)
    return _gray(x), 0.5 * grain + 0.5 * (board - 0.5)


def roof(p: Points) -> Result:
    """Rows of tiles with moss."""
    a = p.position[:, 0] * np.abs(p.normal[:, 1]) + p.position[:, 1] * np.abs(p.normal[:, 0])
    cell, joint = _cells(a, p.position[:, 2], 0.3, 0.2, 0.03, p)
    n = p.noise(1.2, 4, 1)
    return _gray((0.75 + 0.5 * cell) * (1 + 0.25 * n) * (1 - 0.5 * joint)), 0.6 * n + 0.3 * cell


def metal(p: Points) -> Result:
    """Scratches and rust spots."""
    n = p.noise(0.4, 4, 1)
    rust = np.clip((n - 0.3) * 3, 0, 1)
    rgb = _gray(1 + 0.2 * n)
    return rgb * (1 - rust[:, None] * np.array([0.1, 0.45, 0.6], np.float32)), n


def car(p: Points) -> Result:
    """Lacquer with road dirt below, dust above."""
    n = p.noise(0.5, 4, 1)
    low = np.exp(-np.clip(p.position[:, 2] - 0.25, 0, 3) / 0.22)
    return _gray(1 + 0.05 * n - 0.3 * low * (0.5 + n)), 0.4 * n


def glass(p: Points) -> Result:
    """Something dark and uneven behind the pane: curtains, rooms."""
    n = p.noise(0.6, 3, 1)
    room = hash01(
        np.floor(p.position[:, 2] / 2.9).astype(np.int64),
        np.floor((p.position[:, 0] + p.position[:, 1]) / 2.3).astype(np.int64),
    )
    return _gray(0.5 + 2.2 * room**3 + 0.3 * n), 0.5 * n + 1.2 * (room - 0.5)


def interior(p: Points) -> Result:
    """Show a lit room behind a window: warm or cold light, brighter above, curtains, furniture."""
    a, z = p.wall_axes()
    room = np.floor(a / 2.3).astype(np.int64)
    level = np.floor(z / 2.9).astype(np.int64)
    tone, power = hash01(room, level, 5), hash01(room, level, 9)
    fold = 0.5 + 0.5 * np.sin(a * (25 + 30 * tone))
    curtain = (hash01(room, level, 13) < 0.5).astype(np.float32)
    things = p.noise(0.5, 3, 1)
    x = (
        (0.2 + 1.6 * power**2)
        * (1 + 0.5 * things)
        * (1 - 0.35 * curtain * fold)
        * (0.6 + 0.4 * np.mod(z, 2.9))
    )
    warm = np.stack([1.15 - 0.3 * tone, 0.95 + 0.05 * tone, 0.55 + 0.65 * tone], -1)
    return np.clip(x[:, None] * warm, 0.02, 4).astype(np.float32), 0.5 * things


def shop(p: Points) -> Result:
    """Shelves and goods behind a shop window."""
    a, z = p.wall_axes()
    goods = hash01(np.floor(a / 0.17).astype(np.int64), np.floor(z / 0.3).astype(np.int64), p.part)
    hue = hash01(np.floor(a / 0.5).astype(np.int64), np.floor(z / 0.3).astype(np.int64), 3)
    shelf = (np.mod(z, 0.3) < 0.04).astype(np.float32)
    base = (
        (0.45 + 0.9 * goods) * (1 - 0.6 * shelf) * (0.6 + 0.2 * z) * (1 + 0.4 * p.noise(1.5, 3, 2))
    )
    rgb = base[:, None] * np.stack([0.8 + 0.4 * hue, np.full_like(hue, 0.95), 1.15 - 0.5 * hue], -1)
    return np.clip(rgb, 0.03, 4).astype(np.float32), goods - 0.5


def sign(p: Points) -> Result:
    """Rows of light blocks like letters on a colored ground."""
    a, z = p.wall_axes()
    col, row = np.floor(a / 0.11).astype(np.int64), np.floor(z / 0.11).astype(np.int64)
    word = (
        hash01(np.floor(a / 0.9).astype(np.int64), np.floor(z / 0.45).astype(np.int64), p.part)
        > 0.35
    )
    ink = (hash01(col, row, p.part) > 0.45) & word & (np.mod(row, 4) != 0)
    x = np.where(ink, 3.0, 1.0).astype(np.float32) * (1 + 0.15 * p.noise(1.0, 3, 1))
    return _gray(x), np.where(ink, -0.5, 0.3).astype(np.float32)


def cloth(p: Points) -> Result:
    """Fine folds and weave; what is printed on clothes is in their colors."""
    fold = p.noise(0.16, 4, 1, squash=0.45)
    crease = np.clip(1 - np.abs(p.noise(0.22, 2, 4, squash=0.5)) / 0.06, 0, 1) * p.fade(0.03)
    z = p.position[:, 2]
    band = 0.05 + 0.09 * hash01(p.part, 5)
    quilted = (hash01(p.part, 6) < 0.3) * (np.mod(z, band) < 0.2 * band) * p.fade(0.02)
    x = 1 + 0.16 * fold - 0.25 * crease - 0.2 * quilted + 0.08 * p.noise(0.01, 1, 2)
    return _gray(x), (1.1 * fold + 0.9 * crease + 0.9 * quilted).astype(np.float32)


def skin(p: Points) -> Result:
    """Slight variation of tone."""
    n = p.noise(0.06, 3, 1)
    return _tinted(n, (0.06, 0.12, 0.12)), n


def hair(p: Points) -> Result:
    """Strands."""
    n = p.noise(0.03, 2, 1, squash=0.25)
    return _gray(1 + 0.4 * n), n


def rubber(p: Points) -> Result:
    """Dusty tread."""
    n = p.noise(0.1, 3, 1)
    return _gray(1 + 0.3 * n), n


def leaf(p: Points) -> Result:
    """Every leaf has its own tone; clumps differ."""
    own = hash01(p.face // 2, p.part) - 0.5
    clump = p.noise(1.1, 3, 1)
    x = 1 + 0.75 * own + 0.4 * clump
    rgb = _gray(x) * np.stack([1 + 0.5 * own, np.ones_like(own), 1 - 0.2 * own], -1)
    return rgb.astype(np.float32), 0.8 * own + 0.7 * clump


def blade(p: Points) -> Result:
    """Blades of grass, darker at the root."""
    own = hash01(p.face // 2, p.part) - 0.5
    return _gray(0.95 + 0.7 * own + 0.2 * p.noise(2.0, 2, 1)), own


def bark(p: Points) -> Result:
    """Furrows along the trunk."""
    n = p.noise(0.07, 3, 1, squash=0.2)
    return _gray(1 + 0.5 * n + 0.2 * p.noise(0.8, 2, 2)), n


def lawn(p: Points) -> Result:
    """Grass from afar: blotches, dry spots, blades."""
    blotch, fine = p.noise(3.0, 4, 1), p.noise(0.06, 3, 2)
    dry = np.clip(p.noise(5.0, 3, 3) * 2 - 0.3, 0, 1)
    rgb = _gray(1 + 0.3 * blotch + 0.5 * fine)
    return (rgb * (1 + dry[:, None] * np.array([0.7, 0.15, 0.1], np.float32))).astype(
        np.float32
    ), blotch + 0.6 * fine + dry


def soil(p: Points) -> Result:
    """Earth, gravel and pebbles."""
    n, fine = p.noise(2.5, 4, 1), p.noise(0.05, 3, 2)
    return _tinted(0.3 * n + 0.5 * fine, (1.0, 0.95, 0.85)), n + 0.5 * fine


def snow(p: Points) -> Result:
    """Snow with tracks and dirty patches."""
    n = p.noise(1.5, 4, 1)
    return _tinted(0.1 * n, (1.0, 0.95, 0.8)), n


TEXTURES: dict[str, Callable[[Points], Result]] = {
    f.__name__: f
    for f in (
        plain, dirty, asphalt, paving, tiles, road_paint, concrete, brick, plaster, wood, roof,
        metal, car, glass, interior, shop, sign, cloth, skin, hair, rubber, leaf, blade, bark, lawn,
        soil, snow,
    )
}  # fmt: skip
