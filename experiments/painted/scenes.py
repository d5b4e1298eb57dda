"""Scenes: a procedural world seen by an infrared and a visible camera.

Every scene is a small world in meters: planes (ground, walls, ceiling, skyline), and objects that
stand in it at known depths (trees, lamps, boxes, people, vehicles). One painter fills four maps:

* **reflectance**: how much light a surface gives back, per color;
* **emission**: light it makes itself (lamps, lit windows, headlights);
* **temperature** in degrees Celsius;
* **depth** in meters.

The visible camera sees ``reflectance x illumination + emission`` through haze, smoke and glare;
the infrared camera sees the temperature map, blurred, through neither. Each adds its own sensor
noise. Because the world is known, so is the answer: the *oracle* fusion, the person and vehicle
boxes, and a caption. Real sets have none of these three.

The units and ranges are physical in kind, not calibrated: this world teaches and tests, it does
not replace measurements.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from ldf_utils.data.blur import gaussian_blur
from ldf_utils.data.images import luminance

SETTINGS = ("street", "field", "harbor", "room")
TIMES = ("day", "night")
WEATHERS = ("clear", "haze", "smoke", "glare")
LABELS = ("nothing", "person", "vehicle", "tree", "building")  # of the label map, by number


@dataclass(frozen=True)
class Box:
    """Where an object stands: label, then pixel edges (right and lower edge exclusive)."""

    label: str
    xmin: int
    ymin: int
    xmax: int
    ymax: int


@dataclass
class SceneBatch:
    """Rendered scenes.

    Attributes:
        visible: ``(B, 3, H, W)`` in [0, 1].
        infrared: ``(B, 1, H, W)`` in [0, 1].
        oracle: ``(B, 1, H, W)`` in [0, 1]: what a perfect fusion would show.
        salient: ``(B, 1, H, W)`` in [0, 1]: how much a pixel belongs to a warm object.
        labels: ``(B, 1, H, W)`` uint8: what is seen there, a number of `LABELS`.
        veil: ``(B, 1, H, W)`` in [0, 1]: share of the light that haze or smoke keeps from the
            visible camera.
        boxes: people and vehicles of each scene.
        captions: one sentence a scene.
        attributes: the facts behind the caption.
    """

    visible: torch.Tensor
    infrared: torch.Tensor
    oracle: torch.Tensor
    salient: torch.Tensor
    labels: torch.Tensor
    veil: torch.Tensor
    boxes: list[list[Box]]
    captions: list[str]
    attributes: list[dict]

    def __len__(self) -> int:
        return len(self.captions)


# --- textures: fields of noise with a known spectrum, made once -------------------------------


@functools.cache
def _texture(kind: str, level: int = 0) -> np.ndarray:
    """A 1024 x 1024 tile of unit-variance noise that repeats without a seam.

    Each ``level`` has half as many texels a side, each the mean of four: what is far away shows
    the mean of its texture, not a few texels of it.
    """
    if level:
        half = _texture(kind, level - 1)
        return (half[::2, ::2] + half[1::2, ::2] + half[::2, 1::2] + half[1::2, 1::2]) / 4
    n = 1024
    rng = np.random.default_rng(_number_of(kind))
    fy = np.fft.fftfreq(n)[:, None] * n
    fx = np.fft.rfftfreq(n)[None, :] * n
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1
    spectrum = {
        "cloud": radius**-1.8 * (radius > 2),
        "patchy": radius**-1.3 * (radius > 4),
        "rough": radius**-0.7 * (radius > 8),
        "leaf": np.exp(-(((radius - 170) / 90) ** 2)) + 0.15 * radius**-0.5 * (radius > 8),
        "wave": np.exp(-(((fy - 0) / 260) ** 2)) * np.exp(-((fx / 30) ** 2)) * (radius > 8),
    }[kind]
    phase = rng.standard_normal((n, n // 2 + 1)) + 1j * rng.standard_normal((n, n // 2 + 1))
    tile = np.fft.irfft2(phase * spectrum, s=(n, n))
    tile -= tile.mean()
    return (tile / tile.std()).astype(np.float32)


def _number_of(name: str) -> int:
    """A number from a name that is the same in every run (Python's ``hash`` is not)."""
    return int.from_bytes(name.encode()[:7].ljust(7, b"\0"), "little")


def _look_up(kind: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The texture at metric coordinates: 64 texels a meter, random origin."""
    tile = _texture(kind)
    ou, ov = rng.integers(0, 1024, 2)
    return tile[(v.astype(np.int32) + ov) & 1023, (u.astype(np.int32) + ou) & 1023]


def _patch(
    kind: str, shape: tuple[int, ...], rng: np.random.Generator, zoom: float = 1.0
) -> np.ndarray:
    """A window of the texture in pixels; ``zoom`` above 1 makes it finer."""
    level = min(max(round(math.log2(zoom)), 0), 4)
    tile = _texture(kind, level)
    zoom, last = zoom / 2**level, len(tile) - 1
    rows = (np.arange(shape[0]) * zoom).astype(np.int32) + rng.integers(0, 1024)
    columns = (np.arange(shape[1]) * zoom).astype(np.int32) + rng.integers(0, 1024)
    return tile[(rows & last)[:, None], (columns & last)[None, :]]


# --- the world of one scene --------------------------------------------------------------------


@dataclass
class _World:
    """The maps that the painter fills, and the camera that looks at them."""

    rng: np.random.Generator
    height: int
    width: int
    setting: str
    time: str
    weather: str
    ambient: float  # air temperature, degrees Celsius
    camera: float  # height of the camera above the ground, meters
    sun: tuple | None  # shadow of a meter: meters to the right, meters away; None without sun
    leafy: float  # how bright leaves are: above 1 for cameras that see near infrared
    stored: float  # degrees that walls and roads still hold from the day, at night
    focal: float  # pixels
    horizon: float  # row of the horizon
    center: float  # column of the vanishing point
    reflectance: np.ndarray = field(init=False)
    emission: np.ndarray = field(init=False)
    temperature: np.ndarray = field(init=False)
    depth: np.ndarray = field(init=False)
    shade: np.ndarray = field(init=False)  # how much of the sky's and sun's light arrives
    upright: np.ndarray = field(
        init=False
    )  # 1 where a surface faces the camera: a lamp behind lights its back
    salient: np.ndarray = field(init=False)
    labels: np.ndarray = field(init=False)
    boxes: list = field(default_factory=list)
    lamps: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)

    @property
    def night(self) -> bool:
        return self.time == "night"

    def window(
        self, x: float, depth: float, half_width: float, top: float, bottom: float = 0.0
    ) -> tuple[slice, slice, np.ndarray, np.ndarray, float] | None:
        """Pixels that an upright board may cover, with board coordinates in meters.

        Returns None when the board is out of the picture, else ``(rows, columns, X, Y, unit)``
        with X from the board's middle, Y up from its foot, and unit the meters of one pixel.
        """
        unit = depth / self.focal
        column = self.center + x / unit
        foot = self.horizon + self.camera / unit
        pad = 2
        y0, y1 = int(foot - top / unit) - pad, int(foot - bottom / unit) + pad + 1
        x0, x1 = int(column - half_width / unit) - pad, int(column + half_width / unit) + pad + 1
        y0, y1, x0, x1 = max(y0, 0), min(y1, self.height), max(x0, 0), min(x1, self.width)
        if y0 >= y1 or x0 >= x1:
            return None
        rows, columns = np.ogrid[y0:y1, x0:x1]
        return (
            slice(y0, y1),
            slice(x0, x1),
            ((columns - column) * unit).astype(np.float32),
            ((foot - rows) * unit).astype(np.float32),
            unit,
        )

    def paint(
        self, rows, columns, alpha, reflectance, temperature, depth, emission=None, shade=None,
        label="nothing",
    ):  # fmt: skip
        """Lay a surface over what is there; ``alpha`` is its coverage per pixel."""
        keep = 1 - alpha
        color = np.asarray(reflectance, dtype=np.float32)
        color = color[:, None, None] if color.ndim == 1 else color
        view = self.reflectance[:, rows, columns]
        view *= keep
        view += alpha * color
        for target, value in (
            (self.temperature, temperature),
            (self.depth, depth),
            (self.upright, 1.0),
        ):
            view = target[rows, columns]
            view *= keep
            view += alpha * value
        view = self.emission[:, rows, columns]
        view *= keep
        if emission is not None:
            view += alpha * np.asarray(emission, dtype=np.float32)[:, None, None]
        if shade is not None:
            view = self.shade[rows, columns]
            view *= keep
            view += alpha * shade
        view = self.salient[rows, columns]
        view *= keep
        np.copyto(self.labels[rows, columns], LABELS.index(label), where=alpha > 0.5)


def _cover(distance: np.ndarray, unit: float) -> np.ndarray:
    """Coverage of a pixel from the signed distance to an edge in meters (negative: inside)."""
    return np.clip(0.5 - distance / unit, 0, 1)


def _ellipse(x, y, cx, cy, rx, ry):
    return (np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) - 1) * min(rx, ry)


def _rectangle(x, y, cx, cy, hx, hy, round_by=0.0):
    dx, dy = np.abs(x - cx) - (hx - round_by), np.abs(y - cy) - (hy - round_by)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0) - round_by


def _capsule(x, y, ax, ay, bx, by, radius):
    px, py, vx, vy = x - ax, y - ay, bx - ax, by - ay
    along = np.clip((px * vx + py * vy) / (vx * vx + vy * vy + 1e-6), 0, 1)
    return np.hypot(px - along * vx, py - along * vy) - radius


def _earth(rng, spread=0.03):
    """A muted color."""
    gray = rng.uniform(0.12, 0.5)
    return np.clip(gray + rng.normal(0, spread, 3), 0.03, 0.9).astype(np.float32)


def _planes(w: _World) -> None:
    """Sky, ground, side walls and background: for each pixel the nearest plane its ray meets."""
    rng, night = w.rng, w.night
    rows = np.arange(w.height, dtype=np.float32)[:, None] - w.horizon
    columns = np.arange(w.width, dtype=np.float32)[None, :] - w.center
    indoors = w.setting == "room"
    far = 400.0
    shape = (w.height, w.width)
    # the sky, or nothing
    clouds = _patch("cloud", shape, rng, zoom=256 / max(shape))
    cover = rng.uniform(-1.0, 1.5)
    cloudy = np.clip((clouds + cover) * 0.5, 0, 1)
    up = np.clip(-rows / w.height, 0, 1)
    blue = np.array([0.42, 0.58, 0.85], np.float32)[:, None, None] * (1 - 0.35 * up)
    sky = blue * (1 - cloudy) + np.float32(0.82) * cloudy * (1 - 0.25 * np.clip(clouds, 0, 1))
    level = rng.uniform(0.004, 0.02) if night else rng.uniform(0.7, 1.25)
    w.reflectance = np.zeros((3, *shape), np.float32)
    w.emission = (sky * level).astype(np.float32)
    w.temperature = (w.ambient - rng.uniform(18, 40) * (1 - 0.5 * cloudy) * (0.4 + up)).astype(
        np.float32
    )
    w.depth = np.full(shape, far, np.float32)
    w.shade = np.ones(shape, np.float32)
    w.upright = np.zeros(shape, np.float32)
    w.salient = np.zeros(shape, np.float32)
    w.labels = np.zeros(shape, np.uint8)

    def lay(mask, depth, color, temperature, shade, label="nothing"):
        """A plane where ``mask`` holds and it is nearer than what is there."""
        mask = mask & (depth < w.depth)
        for target, value in (
            (w.depth, depth),
            (w.reflectance, color),
            (w.temperature, temperature),
            (w.shade, shade),
            (w.emission, 0),
            (w.upright, 0),
            (w.labels, LABELS.index(label)),
        ):
            np.copyto(target, value, where=mask)
        return mask

    # background: a wall indoors, a line of trees, hills or roofs outdoors
    back = rng.uniform(5, 9) if indoors else rng.uniform(45, 140)
    unit = back / w.focal
    across = columns * unit
    skyline = rng.uniform(0.02, 0.10) * back
    profile = _texture("patchy")[rng.integers(0, 1024)]
    profile = np.convolve(np.tile(profile, 2), np.ones(5) / 5, mode="same")[512:1536]
    line = skyline * (1 + 0.3 * profile[(across * 5).astype(int) & 1023])
    altitude = w.camera - rows * unit
    if indoors:
        ceiling = rng.uniform(2.5, 3.6)
        mask = np.broadcast_to(altitude < ceiling, shape)
        tone, grain, kind = _earth(rng) + 0.25, 0.03, "patchy"
    else:
        mask = altitude < line
        green = rng.uniform(0.03, 0.18) * w.leafy
        tone = np.array([green * rng.uniform(0.5, 1.2), green, green * 0.5], np.float32)
        grain, kind = 0.5, "rough"
    noise = _patch(kind, shape, rng, zoom=2.0)
    color = np.clip(tone[:, None, None] * (1 + grain * noise), 0.01, 1)
    warm = w.ambient + rng.uniform(-4, 4) + (0.12 if indoors else rng.uniform(0.3, 1.2)) * noise
    label = "nothing" if indoors else "tree"
    laid = lay(mask, np.full(shape, back, np.float32), color, warm, rng.uniform(0.6, 1.0), label)
    np.copyto(w.upright, 1.0, where=laid)
    # side walls
    if w.setting in ("street", "room"):
        for side in (-1, 1):
            if w.setting == "street" and rng.random() < 0.25:
                continue
            _side_wall(w, lay, side, columns, rows, indoors, back)
    # ground (and ceiling)
    below = rows > 0.5
    depth = np.where(below, w.focal * w.camera / np.maximum(rows, 0.5), far)
    depth = np.minimum(depth, far).astype(np.float32) * np.ones(shape, np.float32)
    _ground(w, lay, depth, columns, below & (depth < back))
    if indoors:
        gap = ceiling - w.camera
        depth = np.where(rows < -0.5, w.focal * gap / np.maximum(-rows, 0.5), far)
        depth = depth.astype(np.float32) * np.ones(shape, np.float32)
        gray = np.float32(rng.uniform(0.5, 0.85))
        lay(depth < back, depth, gray, w.ambient + rng.uniform(0, 2), 0.8)


def _side_wall(w, lay, side, columns, rows, indoors, back):
    """A row of facades, or the wall of a room, with windows and bricks in perspective."""
    rng = w.rng
    away = rng.uniform(2.0, 4.0) if indoors else rng.uniform(4.5, 12.0)
    facing = columns * side > 0.5
    depth = np.where(facing, w.focal * away / np.maximum(columns * side, 0.5), 1e4)
    depth = (depth * np.ones((w.height, 1))).astype(np.float32)
    altitude = w.camera - rows * depth / w.focal
    bay = rng.uniform(6, 14)
    house = np.clip((depth / bay).astype(np.int32), 0, 63)
    tall = 100.0 if indoors else rng.uniform(3.5, 16)
    roofs = tall * (1 + (0 if indoors else 0.35) * (rng.random(64).astype(np.float32) - 0.5))
    mask = (altitude < roofs[house]) & (depth < back) & (altitude > -0.05)
    tones = rng.uniform(0.12, 0.5, (64, 1)) + rng.normal(0, 0.035, (64, 3)) + 0.2 * indoors
    tones = np.clip(tones, 0.03, 0.9).astype(np.float32)
    color = tones[house].transpose(2, 0, 1).copy()
    grain = _look_up("rough", depth * 40, altitude * 40, rng)
    color *= 1 + rng.uniform(0.03, 0.22) * grain
    warmth = w.ambient + rng.uniform(-2, 8 if not w.night else 4) + rng.uniform(0.2, 1) * w.stored
    heat = warmth + rng.normal(0, 1.2, 64).astype(np.float32)[house] + 0.3 * grain
    brick = rng.uniform(0.25, 0.6)
    if not indoors and rng.random() < 0.5:  # courses and joints, while they are wider than a pixel
        course = ((altitude / brick) % 1 < 0.18) | (
            ((depth / (2 * brick) + 0.5 * ((altitude / brick).astype(int) % 2)) % 1) < 0.1
        )
        color = np.where(course & (depth < 14), color * 0.72, color)
    if not indoors or rng.random() < 0.5:
        pitch_z, pitch_y = rng.uniform(2.0, 3.5), rng.uniform(2.6, 3.4)
        u, v = depth / pitch_z % 1, altitude / pitch_y % 1
        half = rng.uniform(0.15, 0.3)
        pane = (np.abs(u - 0.5) < half) & (np.abs(v - 0.55) < rng.uniform(0.18, 0.3))
        pane &= altitude > (0.3 if indoors else 0.6)
        frame = (np.abs(u - 0.5) < half + 0.05) & (np.abs(v - 0.55) < 0.34) & ~pane
        color = np.where(frame, np.minimum(color * 1.5, 0.9), color)
        color = np.where(pane, rng.uniform(0.04, 0.15), color)
        heat = np.where(pane, warmth + rng.uniform(-7, 5), heat)
    else:
        pane = np.zeros_like(mask)
    label = "nothing" if indoors else "building"
    laid = lay(mask, depth, np.clip(color, 0.02, 0.95), heat, rng.uniform(0.45, 1.0), label)
    lit_share = rng.uniform(0.1, 0.5) if w.night else 0.0
    if lit_share and not indoors:
        index = (depth / pitch_z).astype(int) * 7 + (altitude / pitch_y).astype(int) * 13
        lit = pane & laid & ((index * 2654435761 >> 7) % 97 < 97 * lit_share)
        glow = np.array([1.0, 0.82, 0.5], np.float32)[:, None, None] * rng.uniform(0.15, 0.7)
        w.emission = np.where(lit, glow, w.emission)


def _ground(w, lay, depth, columns, mask):
    """Asphalt with markings and curbs, grass, a quay with water, or a floor with tiles."""
    rng = w.rng
    x = columns * depth / w.focal
    fine = _look_up("rough", x * 40, depth * 40, rng)
    broad = _look_up("patchy", x * 10, depth * 10, rng)
    fade = np.clip(12 / depth, 0, 1)
    heat = w.ambient + rng.uniform(-4, 3 if w.night else 16) + 0.6 * broad + 0.25 * fine * fade
    if w.setting == "field":
        heat = heat + rng.uniform(-0.3, 0.3) * w.stored
        green = rng.uniform(0.12, 0.34)
        tone = np.array([green * rng.uniform(0.7, 1.5), green, green * 0.45], np.float32)
        tone = w.leafy**0.5 * tone[:, None, None] * (1 + 0.28 * fine * fade + 0.2 * broad)
        wander = 1.2 * np.sin(depth / rng.uniform(4, 12) + rng.uniform(0, 6)) + rng.uniform(-3, 3)
        path = np.abs(x - wander) < rng.uniform(0.5, 1.6)
        if rng.random() < 0.7:
            tone = np.where(path, np.float32(rng.uniform(0.25, 0.5)) * (1 + 0.1 * fine), tone)
            heat = np.where(path, heat + rng.uniform(-2, 5), heat)
    elif w.setting == "room":
        tile = rng.uniform(0.3, 0.8)
        joint = ((x / tile % 1) < 0.06) | ((depth / tile % 1) < 0.06)
        tone = (_earth(rng) + 0.1)[:, None, None] * (1 + 0.06 * broad)
        tone = np.where(joint & (rng.random() < 0.7), tone * 0.6, tone)
        heat = w.ambient + rng.uniform(-2, 2) + 0.2 * broad
    else:
        gray = rng.uniform(0.1, 0.3)
        tone = np.float32(gray) * (1 + 0.12 * fine * fade + 0.1 * broad)
        tone = np.repeat(tone[None], 3, 0)
        edge = rng.uniform(2.5, 4.5)
        walk = np.abs(x) > edge
        tone = np.where(walk, tone * rng.uniform(1.2, 1.9), tone)
        heat = heat + w.stored
        heat = np.where(walk, heat + rng.uniform(-4, 1) - rng.uniform(0, 0.6) * w.stored, heat)
        dashes = rng.uniform(2, 5)
        lines = (np.abs(x) < 0.09) & ((depth / dashes % 1) < 0.55)
        lines |= np.abs(np.abs(x) - edge + 0.3) < 0.07
        if rng.random() < 0.3:  # a crossing
            start = rng.uniform(5, 14)
            lines |= (depth > start) & (depth < start + 3) & ((x % 1.0) < 0.5) & ~walk
        if rng.random() < 0.85:
            tone = np.where(lines, np.float32(rng.uniform(0.55, 0.85)), tone)
            heat = np.where(lines, heat - rng.uniform(0.5, 4), heat)
        if w.setting == "harbor":
            shore = rng.uniform(9, 25)
            water = depth > shore
            ripple = _look_up("wave", x * 20, depth * 8, rng)
            sea = np.array([0.10, 0.16, 0.2], np.float32)[:, None, None] * rng.uniform(0.6, 2.0)
            tone = np.where(water, sea * (1 + 0.35 * ripple), tone)
            heat = np.where(water, w.ambient - rng.uniform(2, 8) + 0.4 * ripple, heat)
        for _ in range(rng.integers(0, 7)):  # covers, patches of new asphalt, pits, puddles
            cx, cz = rng.uniform(-6, 6), max(depth.min(), 1) * rng.uniform(1, 4)
            half = rng.uniform(0.3, 1.2)
            gap = np.hypot(x - cx, depth - cz) if rng.random() < 0.5 else np.maximum(
                np.abs(x - cx), np.abs(depth - cz) * rng.uniform(0.3, 1))  # fmt: skip
            tone = np.where(gap < half, tone * rng.uniform(0.4, 1.6), tone)
            heat = np.where(gap < half, heat + rng.normal(0, 4) - 0.4 * w.stored, heat)
    lay(mask, depth, np.clip(tone, 0.01, 0.95).astype(np.float32), heat, 1.0)


def _tree(w, x, depth):
    rng = w.rng
    tall, bare = rng.uniform(4, 9), rng.random() < 0.15
    radius = tall * rng.uniform(0.22, 0.36)
    board = w.window(x, depth, radius * 1.3, tall * 1.15)
    if board is None:
        return
    rows, columns, u, v, unit = board
    bark = np.array([0.16, 0.12, 0.09], np.float32) * rng.uniform(0.6, 1.4)
    trunk = _cover(_capsule(u, v, 0, 0, rng.normal(0, 0.2), tall * 0.6, 0.04 * tall / 2), unit)
    w.paint(rows, columns, trunk, bark, w.ambient + rng.uniform(-1, 2), depth, shade=0.8,
            label="tree")  # fmt: skip
    if bare:
        for _ in range(9):
            a, s = rng.uniform(0.3, 0.7) * tall, rng.normal(0, 0.8) * radius
            limb = _cover(_capsule(u, v, 0, a, s, a + rng.uniform(0.5, 2), 0.03), unit)
            w.paint(rows, columns, limb, bark, w.ambient, depth, shade=0.8, label="tree")
        return
    shape = np.broadcast_shapes(u.shape, v.shape)
    zoom = max(unit * 30, 0.5)
    leaves = _patch("leaf", shape, rng, zoom=zoom)
    clumps = _patch("patchy", shape, rng, zoom=zoom)
    crown = _ellipse(u, v, 0, tall * 0.68, radius, tall * 0.36)
    edge = crown + 0.24 * radius * clumps + 0.03 * radius * leaves
    cover = _cover(edge, max(2 * unit, 0.15))
    green = rng.uniform(0.05, 0.22) * w.leafy
    tone = np.array([green * rng.uniform(0.5, 1.3), green, green * 0.4], np.float32)
    light = 0.8 + 0.7 * (v / tall - 0.6) + 0.3 * clumps
    color = np.clip(tone[:, None, None] * (light + 0.3 * leaves), 0.01, 0.7)
    rough = rng.uniform(0.1, 0.9)
    heat = w.ambient + rng.uniform(-3, 5) + rough * clumps + 0.5 * rough * leaves
    w.paint(rows, columns, cover, color, heat, depth, shade=0.85, label="tree")
    w.counts["tree"] = w.counts.get("tree", 0) + 1


def _bush(w, x, depth):
    rng = w.rng
    tall = rng.uniform(0.5, 1.6)
    wide = tall * rng.uniform(0.6, 1.6)
    board = w.window(x, depth, wide * 1.3, tall * 1.3)
    if board is None:
        return
    rows, columns, u, v, unit = board
    shape, zoom = np.broadcast_shapes(u.shape, v.shape), max(unit * 40, 0.5)
    leaves, clumps = _patch("leaf", shape, rng, zoom), _patch("patchy", shape, rng, zoom)
    edge = _ellipse(u, v, 0, tall * 0.4, wide, tall * 0.6) + tall * (0.1 * clumps + 0.02 * leaves)
    green = rng.uniform(0.05, 0.26) * w.leafy
    tone = np.array([green * rng.uniform(0.5, 1.3), green, green * 0.4], np.float32)
    color = np.clip(tone[:, None, None] * (0.7 + 0.4 * v / tall + 0.25 * leaves), 0.015, 0.7)
    heat = w.ambient + rng.uniform(-2, 4) + rng.uniform(0.1, 0.6) * leaves
    cover = _cover(edge, max(2 * unit, 0.08))
    w.paint(rows, columns, cover, color, heat, depth, shade=0.85, label="tree")


def _sign(w, x, depth):
    """A traffic sign, a poster or a shop sign: contrast that the infrared camera does not see."""
    rng = w.rng
    low, half, tall = rng.uniform(0.8, 3.0), rng.uniform(0.25, 1.0), rng.uniform(0.3, 1.2)
    board = w.window(x, depth, half * 1.1, low + tall)
    if board is None:
        return
    rows, columns, u, v, unit = board
    pole = _cover(_rectangle(u, v, 0, low / 2, 0.04, low / 2), unit)
    w.paint(rows, columns, pole, np.full(3, 0.3), w.ambient, depth)
    plate = _cover(_rectangle(u, v, 0, low + tall / 2, half, tall / 2, 0.05), unit)
    pitch = rng.uniform(0.12, 0.5)
    marks = ((u / pitch % 1) < rng.uniform(0.3, 0.7)) & (np.abs(v - low - tall / 2) < tall * 0.3)
    light, dark = rng.uniform(0.4, 0.85), np.clip(_earth(rng, 0.1), 0.03, 0.5)
    color = np.where(marks, dark[:, None, None], np.float32(light))
    heat = w.ambient + rng.uniform(-2, 4)
    w.paint(rows, columns, plate, color, heat, depth, shade=rng.uniform(0.7, 1))


def _house(w, x, depth):
    """A house with a gabled roof, windows, a door and perhaps a chimney."""
    rng = w.rng
    half, wall = rng.uniform(2.5, 5.5), rng.uniform(2.4, 5.5)
    rise = half * rng.uniform(0.45, 1.1)
    board = w.window(x, depth, half * 1.15, wall + rise * 1.3)
    if board is None:
        return
    rows, columns, u, v, unit = board
    shape = np.broadcast_shapes(u.shape, v.shape)
    grain = _patch("rough", shape, rng, zoom=max(unit * 40, 0.5))
    tone = np.clip(_earth(rng, 0.05) * rng.uniform(0.6, 1.9), 0.05, 0.85)
    warmth = w.ambient + rng.uniform(-2, 7)
    front = np.maximum(np.abs(u) - half, v - wall) + 0 * v
    gable = np.maximum(v - wall - rise * (1 - np.abs(u) / half), wall - v)
    body = _cover(np.minimum(front, gable), unit)
    boards = 1 - 0.25 * ((v / rng.uniform(0.2, 0.5) % 1) < 0.2) * (unit < 0.1)
    color = np.clip(tone[:, None, None] * (boards + rng.uniform(0.04, 0.15) * grain), 0.02, 0.9)
    built = dict(depth=depth, shade=rng.uniform(0.5, 1), label="building")
    w.paint(rows, columns, body, color, warmth + 0.4 * grain, **built)
    eaves = half * 1.12
    slope = v - wall - rise * 1.02 * (1 - np.abs(u) / eaves)
    roof = np.abs(slope) - 0.22 if rng.random() < 0.5 else np.maximum(slope, wall - v)
    roof = _cover(np.maximum(roof, np.abs(u) - eaves), unit)
    tiles = np.clip(_earth(rng, 0.05) * 0.7, 0.03, 0.5)[:, None, None] * (1 + 0.15 * grain)
    w.paint(rows, columns, roof, tiles, w.ambient + rng.uniform(-9, 6), **built)
    pitch = rng.uniform(1.6, 2.6)
    pane = (np.abs((u / pitch) % 1 - 0.5) < 0.2) & (np.abs((v - 0.2) / 2.6 % 1 - 0.5) < 0.22)
    pane = (pane & (np.abs(u) < half - 0.4) & (v < wall - 0.3) & (v > 0.7)).astype(np.float32)
    glow = np.array([1.0, 0.82, 0.5]) * rng.uniform(0.15, 0.7) if rng.random() < 0.4 else None
    glass = np.full(3, rng.uniform(0.02, 0.2))
    heat = warmth + rng.uniform(-8, 7)
    w.paint(rows, columns, pane, glass, heat, emission=glow if w.night else None, **built)
    if rng.random() < 0.5:
        stack = _cover(_rectangle(u, v, half * 0.4, wall + rise * 0.8, 0.3, rise * 0.35), unit)
        w.paint(rows, columns, stack, tone * 0.7, w.ambient + rng.uniform(0, 18), **built)


def _fence(w, x, depth):
    """Posts with rails or wire mesh: thin things that stand before what lies behind."""
    rng = w.rng
    half, tall, pitch = rng.uniform(3, 9), rng.uniform(0.8, 2.2), rng.uniform(0.9, 2.2)
    board = w.window(x, depth, half, tall)
    if board is None:
        return
    rows, columns, u, v, unit = board
    inside = (np.abs(u) < half) & (v < tall) & (v > 0)
    posts = np.abs((u / pitch) % 1 - 0.5) * pitch - 0.05
    rails = np.abs((v / (tall / 2.2)) % 1 - 0.5) * tall / 2.2 - rng.uniform(0.02, 0.06)
    lines = np.minimum(posts, rails)
    if rng.random() < 0.4 and unit < 0.08:
        mesh = np.abs(((u + v) / 0.3) % 1 - 0.5) * 0.3 - 0.01
        lines = np.minimum(np.minimum(lines, mesh), np.abs(((u - v) / 0.3) % 1 - 0.5) * 0.3 - 0.01)
    tone = np.full(3, rng.uniform(0.08, 0.75))
    w.paint(rows, columns, _cover(lines, unit) * inside, tone, w.ambient + rng.uniform(-4, 3),
            depth, shade=rng.uniform(0.7, 1))  # fmt: skip


def _pole(w, x, depth):
    """A mast with wires that sag across the picture."""
    rng = w.rng
    tall, reach = rng.uniform(6, 10), rng.uniform(15, 40)
    board = w.window(x, depth, reach, tall + 0.4, tall * rng.choice([0.0, 0.7]))
    if board is None:
        return
    rows, columns, u, v, unit = board
    top = tall - 0.6
    bar = np.minimum(_capsule(u, v, 0, 0, 0, tall, 0.1), _capsule(u, v, -0.9, top, 0.9, top, 0.06))
    sag = 1.2 * (np.abs(u) / reach) * (1 - np.abs(u) / reach) * 4
    lines = np.abs(v - (tall - 0.6 - sag)) - 0.02
    lines = np.minimum(lines, np.abs(v - (tall - 1.4 - 0.8 * sag)) - 0.02)
    heat = w.ambient + rng.uniform(-3, 2)
    dark = np.full(3, rng.uniform(0.03, 0.2))
    w.paint(rows, columns, _cover(lines, max(unit, 0.03)) * 0.8, dark, heat, depth)
    w.paint(rows, columns, _cover(bar, unit), dark * 1.5, heat, depth)


def _shadow(w, x, depth, half, tall):
    """Dark ground behind or before an object, where the sun shines."""
    right, away = w.sun
    x1, d1 = x + right * tall, depth + away * tall
    far, near = max(depth, d1) + half, max(min(depth, d1) - half, 1.0)
    top = int(w.horizon + w.focal * w.camera / far)
    bottom = int(w.horizon + w.focal * w.camera / near) + 2
    y0, y1 = max(top, 0), min(bottom, w.height)
    edge0, edge1 = (min(x, x1) - half), (max(x, x1) + half)
    at = [w.center + e * w.focal / d for e in (edge0, edge1) for d in (near, far)]
    x0, x2 = max(int(min(at)), 0), min(int(max(at)) + 2, w.width)
    if y0 >= y1 or x0 >= x2:
        return
    rows, columns = np.ogrid[y0:y1, x0:x2]
    drop = np.maximum(rows - w.horizon, 0.5)
    z = (w.focal * w.camera / drop).astype(np.float32)
    u = ((columns - w.center) * z / w.focal).astype(np.float32)
    cover = _cover(_capsule(u, z, x, depth, x1, d1, half), 0.15 + 2 * z / w.focal)
    place = (slice(y0, y1), slice(x0, x2))
    cover *= np.abs(w.depth[place] - z) < 0.05 * z + 0.1
    w.shade[place] *= 1 - 0.72 * cover
    w.temperature[place] -= 1.5 * cover


def _lamp(w, x, depth):
    rng = w.rng
    tall = 2.6 if w.setting == "room" else rng.uniform(4, 7)
    arm = rng.choice([-1, 1]) * rng.uniform(0.3, 1.2)
    board = w.window(x, depth, abs(arm) + 0.6, tall + 0.6)
    lit = w.night and rng.random() < 0.85
    if lit:
        tint = np.array([1.0, rng.uniform(0.7, 0.95), rng.uniform(0.4, 0.9)], np.float32)
        w.lamps.append((x + arm, depth, tall, rng.uniform(0.5, 1.8), tint))
    if board is None or w.setting == "room":  # in a room the lamp hangs above the picture
        return
    rows, columns, u, v, unit = board
    pole = np.minimum(
        _capsule(u, v, 0, 0, 0, tall, 0.05), _capsule(u, v, 0, tall, arm, tall + 0.1, 0.04)
    )
    tone = rng.uniform(0.15, 0.45)
    w.paint(
        rows, columns, _cover(pole, unit), np.full(3, tone), w.ambient + rng.uniform(-3, 3), depth
    )
    head = _cover(_ellipse(u, v, arm, tall, 0.28, 0.14), unit)
    glow = tint * 6 if lit else None
    w.paint(rows, columns, head, np.full(3, 0.6), w.ambient + (25 if lit else 2), depth, glow)


def _crate(w, x, depth, half, tall, kind):
    """A box-shaped thing: container, kiosk, shed, cupboard, radiator."""
    rng = w.rng
    board = w.window(x, depth, half * 1.3, tall)
    if board is None:
        return
    rows, columns, u, v, unit = board
    front = _cover(_rectangle(u, v, 0, tall / 2, half, tall / 2), unit)
    tone = np.clip(_earth(rng, 0.06), 0.05, 0.8)
    ridge = 1 + 0.12 * np.sign(np.sin(u * 2 * math.pi / rng.uniform(0.2, 0.5))) * (unit < 0.12)
    grain = _patch("rough", np.broadcast_shapes(u.shape, v.shape), rng, zoom=max(unit * 40, 0.5))
    color = np.clip(tone[:, None, None] * (ridge + 0.1 * grain), 0.02, 0.9)
    heat = w.ambient + (rng.uniform(15, 28) if kind == "radiator" else rng.uniform(-3, 6))
    built = dict(depth=depth, label="nothing" if kind == "radiator" or tall < 2 else "building")
    w.paint(rows, columns, front, color, heat + 0.3 * grain, shade=rng.uniform(0.5, 1), **built)
    door = _cover(_rectangle(u, v, half * 0.3, tall * 0.4, half * 0.25, tall * 0.4), unit)
    w.paint(rows, columns, door, tone * 0.6, heat + rng.uniform(-2, 3), shade=0.7, **built)


def _person(w, x, depth):
    rng = w.rng
    tall = rng.uniform(1.55, 1.9)
    board = w.window(x, depth, 0.55, tall)
    if board is None:
        return
    rows, columns, u, v, unit = board
    swing, lean = rng.uniform(-0.22, 0.22), rng.normal(0, 0.03)
    reach = rng.uniform(-0.25, 0.25, 2)
    hip, neck = 0.5 * tall, 0.82 * tall
    legs = np.minimum(
        _capsule(u, v, -0.07, hip, -0.09 - swing, 0.06, 0.075),
        _capsule(u, v, 0.07, hip, 0.09 + swing, 0.06, 0.075),
    )
    torso = _rectangle(u, v, lean, (hip + neck) / 2, 0.19, (neck - hip) / 2 + 0.05, 0.12)
    arms = np.minimum(
        _capsule(u, v, lean - 0.2, neck - 0.06, -0.28 + reach[0] * 0.3, hip + reach[0] * 0.4, 0.05),
        _capsule(u, v, lean + 0.2, neck - 0.06, 0.28 + reach[1] * 0.3, hip + reach[1] * 0.4, 0.05),
    )
    head = _ellipse(u, v, lean, neck + 0.12, 0.095, 0.13)
    skin = 31 + rng.uniform(0, 4)
    cloth = w.ambient + (skin - w.ambient) * rng.uniform(0.45, 0.8)
    dark = rng.random() < 0.6
    shirt = np.clip(_earth(rng, 0.06) * (0.35 if dark else 1.3), 0.02, 0.9)
    trousers = np.clip(_earth(rng, 0.04) * (0.3 if dark else 0.8), 0.02, 0.9)
    face = np.array([0.45, 0.32, 0.25], np.float32) * rng.uniform(0.4, 1.4)
    before = w.salient[rows, columns].copy()
    fold = 0.1 * _patch("patchy", np.broadcast_shapes(u.shape, v.shape), rng, zoom=2)
    for distance, color, heat in (
        (legs, trousers, cloth - 1),
        (arms, shirt, cloth + 1),
        (torso, shirt, cloth),
        (head, face, skin),
    ):
        textured = np.clip(color[:, None, None] * (1 + fold), 0.01, 0.95)
        cover = _cover(distance, unit)
        w.paint(rows, columns, cover, textured, heat + fold, depth, shade=0.9, label="person")
    whole = _cover(np.minimum(np.minimum(legs, torso), np.minimum(arms, head)), unit)
    w.salient[rows, columns] = np.maximum(before * (1 - whole), whole)
    _remember(w, "person", rows, columns, whole)


def _vehicle(w, x, depth):
    rng = w.rng
    front_view = rng.random() < 0.5
    half = rng.uniform(0.8, 0.95) if front_view else rng.uniform(1.9, 2.4)
    tall = rng.uniform(1.35, 2.1)
    board = w.window(x, depth, half * 1.05, tall)
    if board is None:
        return
    rows, columns, u, v, unit = board
    waist = tall * 0.55
    body = _rectangle(u, v, 0, (waist + 0.25) / 2 + 0.1, half, (waist - 0.2) / 2, 0.15)
    slant = rng.uniform(0.85, 0.95) if front_view else rng.uniform(0.55, 0.8)
    cabin_x = 0 if front_view else rng.uniform(-0.25, 0.25) * half
    narrow = half * slant - 0.35 * (v - waist) * (1 if front_view else 1.2)
    cabin = np.maximum(
        np.abs(u - cabin_x) - narrow, np.abs(v - (tall + waist) / 2) - (tall - waist) / 2
    )
    glass = np.maximum(
        np.abs(u - cabin_x) - narrow + 0.1,
        np.abs(v - (tall + waist) / 2) - (tall - waist) / 2 + 0.09,
    )
    wheel_x = half * (0.75 if front_view else 0.62)
    wheels = np.minimum(
        _ellipse(u, v, -wheel_x, 0.3, 0.13 if front_view else 0.33, 0.32),
        _ellipse(u, v, wheel_x, 0.3, 0.13 if front_view else 0.33, 0.32),
    )
    paint = np.clip(rng.uniform(0.04, 0.8) * (1 + rng.normal(0, 0.12, 3)), 0.02, 0.9).astype(
        np.float32
    )
    running = rng.random() < 0.7
    metal = w.ambient + rng.uniform(-6 if w.night else -3, 6)
    engine = w.ambient + (rng.uniform(14, 30) if running else rng.uniform(0, 6))
    side = 0.0 if front_view else rng.choice([-1, 1]) * half * 0.7
    warm = np.exp(-(((u - side) / (0.75 * min(half, 1))) ** 2) - ((v - waist * 0.6) / 0.5) ** 2)
    before = w.salient[rows, columns].copy()
    shadow = _cover(_ellipse(u, v, 0, 0.03, half, 0.12), unit)
    w.paint(rows, columns, shadow, np.full(3, 0.02), engine * 0.4 + w.ambient * 0.6, depth)
    gloss = 1 + 0.35 * np.clip((v - 0.4 * tall) / tall, -0.5, 0.5)
    w.paint(
        rows, columns, _cover(wheels, unit), np.full(3, 0.03), engine * 0.5 + metal * 0.5, depth
    )
    color = np.clip(paint[:, None, None] * gloss * np.ones_like(u), 0.01, 0.95)
    hull = _cover(np.minimum(body, cabin), unit)
    w.paint(rows, columns, hull, color, metal + (engine - metal) * warm, depth, shade=0.95)
    pane = np.array([0.05, 0.06, 0.07], np.float32) * rng.uniform(0.5, 3)
    w.paint(rows, columns, _cover(glass, unit), pane, metal - rng.uniform(0, 6), depth, shade=0.9)
    w.paint(
        rows,
        columns,
        _cover(_ellipse(u, v, -wheel_x, 0.3, 0.1, 0.12), unit),
        np.full(3, 0.25),
        engine,
        depth,
    )
    lights_x = half * 0.8
    red = front_view and rng.random() < 0.5
    tint = np.array([1.0, 0.12, 0.08] if red else [1.0, 0.95, 0.85], np.float32)
    for place in (-lights_x, lights_x) if front_view else (math.copysign(half * 0.96, side or 1),):
        spot = _cover(_ellipse(u, v, place, waist * 0.72, 0.14, 0.09), unit)
        glow = tint * (2.0 if red else 7.0) if w.night and running else None
        w.paint(rows, columns, spot, tint * 0.6, metal + 6, depth, glow)
    if w.night and running and not red and front_view:
        w.lamps.append((x, depth - 1.5, 0.6, 0.25, tint))
    whole = np.maximum(hull, _cover(wheels, unit))
    np.copyto(w.labels[rows, columns], LABELS.index("vehicle"), where=whole > 0.5)
    heat = warm * whole if running else 0.15 * whole
    w.salient[rows, columns] = np.maximum(before * (1 - whole), heat)
    _remember(w, "vehicle", rows, columns, whole)


def _remember(w, label, rows, columns, whole):
    ys, xs = np.nonzero(whole > 0.5)
    w.counts[label] = w.counts.get(label, 0) + 1
    if len(ys) >= 6:
        w.boxes.append(
            Box(
                label,
                int(columns.start + xs.min()),
                int(rows.start + ys.min()),
                int(columns.start + xs.max() + 1),
                int(rows.start + ys.max() + 1),
            )
        )


_CROWD = {  # how many of each thing a setting holds, at least and at most
    "street": dict(tree=(0, 4), lamp=(1, 4), crate=(0, 1), vehicle=(0, 4), person=(0, 6),
                   bush=(0, 2), sign=(0, 3), house=(0, 1), pole=(0, 1)),
    "field": dict(tree=(1, 6), lamp=(0, 1), crate=(0, 2), vehicle=(0, 2), person=(0, 4),
                  bush=(0, 5), sign=(0, 1), house=(0, 2), pole=(0, 1), fence=(0, 1)),
    "harbor": dict(tree=(0, 1), lamp=(1, 3), crate=(2, 5), vehicle=(0, 3), person=(0, 4),
                   sign=(0, 2), fence=(0, 1)),
    "room": dict(lamp=(0, 1), crate=(1, 4), person=(0, 3), sign=(0, 2)),
}  # fmt: skip
_NEAREST = dict(tree=6, lamp=5, crate=8, vehicle=5, person=3.2, bush=4, sign=4, house=13, pole=9,
                fence=4)  # meters  # fmt: skip
_DRAW = dict(tree=_tree, lamp=_lamp, person=_person, vehicle=_vehicle, bush=_bush, sign=_sign,
             house=_house, pole=_pole, fence=_fence)  # fmt: skip
_SHADOWS = dict(tree=(1.6, 6.0), person=(0.25, 1.7), vehicle=(1.3, 1.2), bush=(0.7, 0.8),
                sign=(0.25, 2.0), lamp=(0.08, 5.0), house=(4.0, 4.0), pole=(0.1, 7.0),
                crate=(1.8, 2.4))  # half width and height, meters  # fmt: skip


def _populate(w: _World) -> None:
    rng = w.rng
    things = []
    deepest = 6.0 if w.setting == "room" else 45.0
    for kind, (low, high) in _CROWD[w.setting].items():
        for _ in range(rng.integers(low, high + 1)):
            near = min(_NEAREST[kind], deepest - 2) * (0.8 + w.camera / 8)
            if w.horizon < 0:  # seen from above: between the lower and the upper edge
                near = w.camera * w.focal / (w.height - w.horizon)
                deepest = w.camera * w.focal / (0.15 * w.height - w.horizon)
            depth = near * (max(deepest, near * 1.5) / near) ** rng.beta(1, 1.4)
            reach = 0.5 * w.width * depth / w.focal * 0.95
            x = rng.uniform(-reach, reach)
            if w.setting == "street" and kind in ("tree", "lamp", "crate", "bush", "sign"):
                x = rng.choice([-1, 1]) * rng.uniform(4, 7)
            elif w.setting == "street" and kind == "vehicle":
                x = rng.choice([-1, 1]) * rng.uniform(1.3, 4.2)
            things.append((depth, kind, x))
    things.sort(reverse=True)
    if w.sun is not None:
        for depth, kind, x in things:
            if kind in _SHADOWS:
                _shadow(w, x, depth, *_SHADOWS[kind])
    for depth, kind, x in things:
        if kind == "house":
            w.counts["building"] = w.counts.get("building", 0) + 1
        if kind == "crate":
            small = w.setting == "room"
            half, tall = (
                (rng.uniform(0.3, 0.9), rng.uniform(0.6, 1.9))
                if small
                else (rng.uniform(1.2, 3.2), rng.uniform(2.2, 3.2))
            )
            radiator = small and rng.random() < 0.4
            _crate(w, x, depth, half, tall, "radiator" if radiator else "crate")
            w.counts["building"] = w.counts.get("building", 0) + (not small)
        else:
            _DRAW[kind](w, x, depth)


# --- light, weather and the two cameras --------------------------------------------------------


def _illuminate(w: _World) -> np.ndarray:
    """Light that falls on each pixel, ``(3, H, W)``."""
    rng, indoors = w.rng, w.setting == "room"
    if w.night:
        ambient = rng.uniform(0.004, 0.05) * (2 if indoors else 1)
        tint = np.array([0.8, 0.9, 1.1], np.float32)
    else:
        ambient = rng.uniform(0.25, 0.6) if indoors else rng.uniform(0.6, 1.2)
        tint = np.array([1.0, 0.97, 0.92], np.float32)
    light = ambient * tint[:, None, None] * w.shade
    rows = np.arange(w.height, dtype=np.float32)[:, None] - w.horizon
    columns = np.arange(w.width, dtype=np.float32)[None, :] - w.center
    altitude = w.camera - rows * w.depth / w.focal
    lateral = columns * w.depth / w.focal  # meters to the right of the camera
    for x, depth, tall, power, color in w.lamps:
        beyond = w.depth - depth  # meters from the lamp away from the camera
        squared = (lateral - x) ** 2 + beyond**2 + 0.4 * (altitude - tall) ** 2 + 1
        front = np.clip(0.25 + 0.75 * beyond / np.sqrt(squared), 0.08, 1)
        arrives = 1 - w.upright * (1 - front)
        light = light + (power * 6 * arrives / squared) * color[:, None, None]
    if not w.night and not indoors and rng.random() < 0.5:  # shadows of clouds or trees
        dapple = _look_up("patchy", lateral * 6, w.depth * 6, rng)
        light = light * (1 - rng.uniform(0.1, 0.45) * np.clip(dapple, 0, 1))
    return light.astype(np.float32)


def _load(w: _World) -> None:
    """Dark surfaces are warmer in the sun, and shine differently without: the same edges in both.

    So the infrared camera sees markings, bricks and bark too, in some scenes weakly, in some
    strongly, in some reversed.
    """
    strength = w.rng.normal(0, 3.0) + (2.0 if w.sun else 0.0)
    gray = w.reflectance.mean(axis=0)
    w.temperature += strength * (0.25 - gray) * (1 - w.salient) * (w.depth < 390)


def build_scene(
    rng: np.random.Generator,
    height: int,
    width: int,
    setting: str | None,
    time: str | None,
    weather: str | None,
) -> tuple[_World, np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict, dict]:
    """Build one world and light it.

    Returns the world, what the visible camera receives, the same without weather, the share of
    light that gets through, the same for infrared, the exposure, and the facts of the caption.
    """
    setting = setting or rng.choice(SETTINGS, p=[0.45, 0.25, 0.15, 0.15])
    time = time or rng.choice(TIMES, p=[0.5, 0.5])
    weather = weather or rng.choice(WEATHERS, p=[0.55, 0.17, 0.14, 0.14])
    raised = setting != "room" and rng.random() < 0.35
    above = raised and rng.random() < 0.4  # a surveillance camera, without a horizon
    focal = max(height, width) * rng.uniform(0.8, 1.5)
    w = _World(
        rng,
        height,
        width,
        str(setting),
        str(time),
        str(weather),
        ambient=float(
            rng.uniform(18, 24)
            if setting == "room"
            else rng.uniform(-2, 18)
            if time == "night"
            else rng.uniform(4, 32)
        ),
        camera=float(rng.uniform(3.5, 7) if raised else rng.uniform(1.4, 2.2)),
        sun=(rng.uniform(-1.5, 1.5), rng.uniform(-0.8, 1.5))
        if time == "day" and setting != "room" and rng.random() < 0.6
        else None,
        leafy=float(rng.uniform(1.8, 3.5) if rng.random() < 0.15 else rng.uniform(0.7, 1.2)),
        focal=float(focal),
        horizon=float(
            height
            * (
                rng.uniform(-0.5, -0.1)
                if above
                else rng.uniform(0.1, 0.35)
                if raised
                else rng.uniform(0.35, 0.55)
            )
        ),
        center=float(width * rng.uniform(0.35, 0.65)),
        stored=float(max(rng.uniform(-6, 14), 0)) if time == "night" else 0.0,
    )
    if setting == "room":
        w.camera = float(rng.uniform(1.3, 1.8))
    _planes(w)
    _populate(w)
    _load(w)
    light = _illuminate(w)
    radiance = w.reflectance * light + w.emission
    clear = radiance
    through = np.ones((height, width), np.float32)  # share of the light that gets through
    glow = (0.06 if w.night else 0.75) * rng.uniform(0.7, 1.2)
    if weather == "haze":
        through = np.exp(-w.depth * rng.uniform(0.03, 0.09)).astype(np.float32)
        if setting == "room":
            through = through**3
    elif weather == "smoke":
        drift = _patch(
            "cloud", (height, width), rng, zoom=rng.uniform(180, 420) / max(height, width)
        )
        density = np.clip(drift * 0.8 + rng.uniform(0.0, 0.9), 0, 2)
        through = np.exp(-density * rng.uniform(1.0, 2.6)).astype(np.float32)
    radiance = radiance * through + glow * (1 - through)
    haze_ir = 1 - 0.15 * (1 - through)
    if weather == "glare":
        gy, gx = rng.uniform(0.15, 0.7) * height, rng.uniform(0.1, 0.9) * width
        yy, xx = np.ogrid[:height, :width]
        distance = np.hypot(yy - gy, xx - gx) / max(height, width)
        strength = rng.uniform(1.5, 5) * (0.5 if w.night else 1)
        bloom = strength * (
            np.exp(-((distance / 0.03) ** 2)) + 0.05 / (distance / 0.1 + 0.15) ** 1.5
        )
        radiance = radiance + bloom.astype(np.float32)
    # exposure: towards a target mean, with a limit to the gain that leaves nights dark
    mean = float(np.clip(radiance, 0, 3).mean())
    target, limit = rng.uniform(0.2, 0.34), rng.uniform(1.2, 4.5)
    gain = min(target / max(mean, 1e-4), limit)
    exposure = dict(gain=gain, lift=min(target / max(float(np.median(clear)), 1e-4), 40.0))
    facts = dict(
        setting=w.setting,
        time=w.time,
        weather=w.weather,
        people=w.counts.get("person", 0),
        vehicles=w.counts.get("vehicle", 0),
        trees=w.counts.get("tree", 0),
        buildings=w.setting == "street" or bool(w.counts.get("building", 0)),
        boxes=len(w.boxes),
        ambient=round(w.ambient, 1),
    )
    return w, radiance * gain, clear, through, haze_ir, exposure, facts


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


def caption(facts: dict) -> str:
    """One sentence for the facts of a scene, the same facts always in the same words."""
    place = {"street": "a street", "field": "a field", "harbor": "a harbor", "room": "a room"}
    air = {"clear": "", "haze": " in haze", "smoke": " behind smoke", "glare": " with glare"}
    parts = []
    for key, one, many in (("people", "person", "people"), ("vehicles", "vehicle", "vehicles")):
        if facts[key]:
            word = _NUMBERS[min(facts[key], 6)]
            parts.append(f"{word} {one if facts[key] == 1 else many}")
    parts += ["trees"] if facts["trees"] else []
    parts += ["buildings"] if facts["buildings"] else []
    when = "at night" if facts["time"] == "night" else "by day"
    listed = " and ".join([", ".join(parts[:-1])] * (len(parts) > 1) + parts[-1:])
    return f"{place[facts['setting']]} {when}{air[facts['weather']]}" + (
        f" with {listed}"
        if listed and facts["weather"] != "glare"
        else f", {listed}" * bool(listed)
    )


def _normalize(image: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Stretch each picture so that its low and high quantile become 0 and 1."""
    flat = image.flatten(1)[:, :: max(image[0].numel() // 8192, 1)]
    edges = torch.quantile(flat, torch.tensor([low, high]), dim=1)[..., None, None, None]
    return (image - edges[0]) / (edges[1] - edges[0]).clamp_min(1e-4)


def _noise_like(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(image.shape, generator=generator)


def _uniform(count, low, high, generator):
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def _coarse_blur(image: torch.Tensor, times: int) -> torch.Tensor:
    """A wide, cheap blur: reduced by a factor and enlarged again."""
    height, width = image.shape[-2:]
    small = F.avg_pool2d(image, times, ceil_mode=True)
    small = gaussian_blur(F.pad(small, (4, 4, 4, 4), mode="replicate"), 1.0)[..., 4:-4, 4:-4]
    return F.interpolate(small, (height, width), mode="bicubic", align_corners=False)


def _visible_camera(radiance, night, generator):
    """Exposure is applied already: optics, shot and read noise, then the camera's tone curve."""
    count = len(radiance)
    scale = max(radiance.shape[-2:]) / 160
    soft = gaussian_blur(radiance, 0.3 + 0.15 * scale)
    bright = (soft - 1).clamp(0, 6)  # light that strays in the lens, around lamps and windows
    near, far = max(int(4 * scale), 2), int(12 * scale)
    stray = _coarse_blur(bright, near) + 0.5 * _coarse_blur(bright, far)
    signal = (soft + _uniform(count, 0.0, 0.35, generator) * stray).clamp_min(0)
    noise = _uniform(count, 0.0005, 0.003, generator) * torch.where(night, 2.5, 1.0)
    shot = (noise * signal + (noise * 0.35) ** 2).sqrt() * _noise_like(signal, generator) * 0.6
    linear = (signal + shot).clamp_min(0)
    compressed = linear * (1 + linear / 2.5) / (1 + linear)  # the shoulder of a film curve
    image = compressed.clamp(0, 1) ** (1 / 2.2)
    # some cameras are set to more contrast: an S around a middle gray
    contrast, middle = _uniform(count, 0.0, 1.0, generator), _uniform(count, 0.35, 0.55, generator)
    steep = torch.sigmoid((image - middle) * 7)
    low, high = torch.sigmoid(-middle * 7), torch.sigmoid((1 - middle) * 7)
    return (image + contrast * ((steep - low) / (high - low) - image)).clamp(0, 1)


def _infrared_camera(temperature, fade, generator):
    """Blur, gain control in one of the ways real cameras do it, sensor noise and faults."""
    count = len(temperature)
    height, width = temperature.shape[-2:]
    scale = max(height, width) / 160
    soft = gaussian_blur(temperature, 0.75 * scale)
    sharp = gaussian_blur(temperature, 0.35 * scale)

    def share(limit):
        return torch.rand(count, 1, 1, 1, generator=generator) < limit

    image = torch.where(share(0.45), soft, sharp)
    mean = image.mean(dim=(-2, -1), keepdim=True)
    image = mean + (image - mean) * fade
    stretched = _normalize(image, 0.01, 0.995)
    gain, offset = _uniform(count, 0.55, 1.0, generator), _uniform(count, 0.0, 0.3, generator)
    plain = stretched * gain + offset * (1 - gain)
    # cameras that enhance detail: local contrast on top
    wide = gaussian_blur(stretched, 3.0 * scale)
    crisp = wide * 0.75 + 0.12 + (stretched - wide) * _uniform(count, 1.2, 3.5, generator)
    # cameras for night driving: all but the hot things near black
    dark = torch.where(share(0.5), stretched, crisp).clamp(0, 1.2)
    dark = dark ** _uniform(count, 1.2, 4.0, generator) * _uniform(count, 0.35, 1.0, generator)
    # cameras that spread the common temperatures over the whole scale
    centered = image - image.mean(dim=(-2, -1), keepdim=True)
    spread = torch.sigmoid(
        centered / centered.std(dim=(-2, -1), keepdim=True).clamp_min(1e-3)
        * _uniform(count, 1.0, 3.0, generator)
        + _uniform(count, -0.8, 0.8, generator)
    )  # fmt: skip
    fine = spread - gaussian_blur(spread, 1.2 * scale)
    spread = spread + _uniform(count, 0.0, 1.5, generator) * fine
    style = torch.rand(count, 1, 1, 1, generator=generator)
    image = torch.where(style < 0.2, plain, torch.where(style < 0.45, dark, crisp))
    image = torch.where(style > 0.72, spread, image)
    image = torch.where(share(0.06), 0.95 - 0.9 * image.clamp(0, 1), image)  # hot is black
    grain = _uniform(count, 0.002, 0.02, generator)
    column = torch.randn(count, 1, 1, width, generator=generator)
    row = torch.randn(count, 1, height, 1, generator=generator) * share(0.3)
    image = image + grain * _noise_like(image, generator) + 0.5 * grain * (column + row)
    shading = _ramp(height)[:, None] ** 2 + _ramp(width) ** 2  # a lens that is warm itself
    image = image + _uniform(count, -0.12, 0.12, generator) * share(0.3) * shading
    dead = torch.rand(image.shape, generator=generator) < 0.0004 * share(0.1)
    return torch.where(dead, (image > 0.5).float() * -1 + 1, image).clamp(0, 1)


def _ramp(length: int) -> torch.Tensor:
    return torch.linspace(-1, 1, length)


def _oracle(clear, through, temperature, salient, lift):
    """The answer, from the world itself.

    Where light gets through, the scene as a good camera would show it: lifted out of the dark by
    its tone curve, without haze, noise or glare. Where it does not, the temperature map. On top,
    warm objects stand out as far as they are warm, with the texture they have.
    """
    seen = luminance(clear) * lift
    bright = (seen / (seen + 0.6)).clamp(0, 1) ** 0.8
    bright = _normalize(bright, 0.005, 0.995).clamp(0, 1) * 0.8 + 0.04
    heat = _normalize(temperature, 0.01, 0.99).clamp(0, 1)
    visible_share = (through * 1.4).clamp(0, 1)
    background = visible_share * bright + (1 - visible_share) * (0.1 + 0.75 * heat)
    detail = background - gaussian_blur(background, 1.2)
    hot = 0.5 + 0.42 * heat
    return (background + salient * 0.75 * (hot + detail - background)).clamp(0, 1)


def render(
    count: int,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
    *,
    start: int = 0,
    setting: str | None = None,
    time: str | None = None,
    weather: str | None = None,
) -> SceneBatch:
    """Render registered pairs with their oracle fusion, boxes and captions.

    Args:
        count: how many scenes.
        size: height and width in pixels, each from 32 to 1024.
        seed: with ``start``, decides the worlds. Worlds of one seed and ``start`` are the same
            whatever ``count`` is; the sensor noise is drawn for the batch.
        start: index of the first scene: ``render(8, start=8)`` are the next eight worlds.
        setting: one of `SETTINGS`, or None for a random one a scene.
        time: one of `TIMES`, or None.
        weather: one of `WEATHERS`, or None.

    Returns:
        The scenes as float32 tensors in [0, 1].

    Raises:
        ValueError: for a count, size or name out of range.
    """
    height, width = size
    if count < 1 or min(size) < 32 or max(size) > 1024:
        raise ValueError(
            f"count must be >= 1 and size from 32 to 1024 pixels, got count={count}, {size=}"
        )
    for name, value, known in (
        ("setting", setting, SETTINGS),
        ("time", time, TIMES),
        ("weather", weather, WEATHERS),
    ):
        if value is not None and value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    parts = [
        build_scene(np.random.default_rng([seed, start + i]), height, width, setting, time, weather)
        for i in range(count)
    ]
    generator = torch.Generator().manual_seed(seed * 1_000_003 + start)

    def stack(arrays):
        tensor = torch.from_numpy(np.stack(arrays).astype(np.float32))
        return tensor[:, None] if tensor.ndim == 3 else tensor

    worlds = [p[0] for p in parts]
    night = torch.tensor([w.night for w in worlds])[:, None, None, None]
    temperature = stack([w.temperature for w in worlds])
    salient = stack([w.salient for w in worlds])
    lift = torch.tensor([p[5]["lift"] for p in parts], dtype=torch.float32)[:, None, None, None]
    return SceneBatch(
        visible=_visible_camera(stack([p[1] for p in parts]), night, generator),
        infrared=_infrared_camera(temperature, stack([p[4] for p in parts]), generator),
        oracle=_oracle(
            stack([p[2] for p in parts]), stack([p[3] for p in parts]), temperature, salient, lift
        ),
        salient=salient,
        labels=torch.from_numpy(np.stack([w.labels for w in worlds]))[:, None],
        veil=1 - stack([p[3] for p in parts]),
        boxes=[w.boxes for w in worlds],
        captions=[caption(p[6]) for p in parts],
        attributes=[p[6] for p in parts],
    )
