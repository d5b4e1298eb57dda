"""Light: the sky with sun and clouds, and the lamps of a night."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from experiments.world.noise import fractal

Array = npt.NDArray[np.float32]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Lamp:
    """One artificial light: radiant intensity, and cutoff in degrees (180: in all directions)."""

    position: Vector
    color: Vector
    intensity: float
    direction: Vector = (0.0, 0.0, -1.0)
    cutoff: float = 180.0


@dataclass(frozen=True)
class Light:
    """What lights a scene; radiances relative to a white wall in the sun at about 1.

    ``sun`` is the direction to the sun; ``sun_color`` its irradiance (zeros by night or overcast);
    ``zenith`` and ``horizon`` are radiances of the sky, ``cloud`` its cover in [0, 1].
    """

    kind: str
    sun: Vector
    sun_color: Vector
    zenith: Vector
    horizon: Vector
    cloud: float
    cloud_color: Vector
    glow: Vector
    seed: int
    lamps_on: bool
    lamps: tuple[Lamp, ...] = field(default=())


def _scaled(color: tuple[float, float, float], by: float) -> Vector:
    return (color[0] * by, color[1] * by, color[2] * by)


def random_light(kind: str, rng: np.random.Generator) -> Light:
    """Draw light of a kind: ``clear``, ``overcast``, ``dusk``, ``night`` or ``indoor``.

    Raises:
        ValueError: if the kind is none of these.
    """
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.radians(rng.uniform(18, 62))
    seed = int(rng.integers(1 << 30))

    def to(e: float) -> Vector:
        return (
            float(np.cos(azimuth) * np.cos(e)),
            float(np.sin(azimuth) * np.cos(e)),
            float(np.sin(e)),
        )

    none: Vector = (0.0, 0.0, 0.0)
    if kind == "clear":
        warmth = float(np.clip(1 - elevation / 0.9, 0, 0.6))
        sun = (3.0, 2.85 - 0.6 * warmth, 2.6 - 1.5 * warmth)
        zenith, horizon = (0.13, 0.24, 0.50), (0.48, 0.56, 0.66)
        cloud, puff, glow = rng.uniform(0.0, 0.6), (0.85, 0.85, 0.86), (0.5, 0.45, 0.35)
        return Light(kind, to(elevation), sun, zenith, horizon, cloud, puff, glow, seed, False)
    if kind == "overcast":
        gray = rng.uniform(0.5, 0.9)
        zenith, horizon = _scaled((0.9, 0.95, 1.0), gray), _scaled((0.72, 0.76, 0.8), gray)
        puff = _scaled((0.8, 0.83, 0.87), gray)
        return Light(kind, to(elevation), none, zenith, horizon, 1.0, puff, none, seed, False)
    if kind == "dusk":
        low = to(max(float(np.radians(rng.uniform(-3, 6))), 0.03))
        zenith, horizon = (0.022, 0.032, 0.07), (0.10, 0.085, 0.085)
        cloud, puff, glow = rng.uniform(0.1, 0.8), (0.06, 0.045, 0.05), (0.16, 0.07, 0.03)
        return Light(kind, low, none, zenith, horizon, cloud, puff, glow, seed, True)
    if kind in ("night", "indoor"):
        level = rng.uniform(0.3, 1.6) * 1e-3
        town = (1.3, 1.0, 0.75) if rng.random() < 0.6 else (0.7, 0.85, 1.3)
        zenith, horizon = _scaled((0.6, 0.8, 1.4), level), _scaled(town, 2.5 * level)
        cloud, puff = rng.uniform(0.2, 0.9), _scaled(town, 1.4 * level)
        return Light(kind, to(0.5), none, zenith, horizon, cloud, puff, none, seed, True)
    raise ValueError(f"light must be clear, overcast, dusk, night or indoor, got {kind!r}")


def brighter(light: Light, by: float) -> Light:
    """Return the light with its sky ``by`` times as bright."""
    return replace(
        light,
        zenith=_scaled(light.zenith, by),
        horizon=_scaled(light.horizon, by),
        cloud_color=_scaled(light.cloud_color, by),
    )


def sky_radiance(light: Light, directions: npt.NDArray[np.floating]) -> Array:
    """Return the sky's radiance in unit directions ``(..., 3)``, without the sun's disk."""
    up = np.clip(directions[..., 2], 0.0, 1.0)
    blend = (1 - up)[..., None] ** 3.5
    sky = np.asarray(light.zenith) * (1 - blend) + np.asarray(light.horizon) * blend
    toward = np.clip(directions @ np.asarray(light.sun), 0, 1)[..., None]
    low = np.exp(-up / 0.18)[..., None] if light.kind == "dusk" else 1.0
    sky = sky + np.asarray(light.glow) * (toward**6 * 0.6 + toward**60 * 1.5) * low
    if light.cloud > 0:
        plane = directions / (up + 0.12)[..., None]
        puff = fractal(plane, 1.1, 5, seed=light.seed) + 0.25 * fractal(
            plane, 4.0, 2, seed=light.seed + 5
        )
        cover = np.clip((puff + 1.3 * light.cloud - 0.75) * 2.2, 0, 1)[..., None]
        shade = 1 - 0.35 * np.clip(puff, -0.3, 1)[..., None]
        edge = 1 + 2.0 * toward**8
        sky = sky * (1 - 0.9 * cover) + np.asarray(light.cloud_color) * shade * edge * 0.9 * cover
    ground = np.asarray(light.horizon) * 0.25
    below = np.clip(-directions[..., 2] * 8, 0, 1)[..., None]
    return np.maximum(sky * (1 - below) + ground * below, 0).astype(np.float32)


def environment_map(light: Light, height: int = 96) -> Array:
    """Return the sky as a latitude-longitude map ``(height, 2 height, 3)``, z upwards."""
    theta = (np.arange(height) + 0.5) / height * np.pi
    phi = (np.arange(2 * height) + 0.5) / (2 * height) * 2 * np.pi
    t, p = np.meshgrid(theta, phi, indexing="ij")
    d = np.stack([np.sin(t) * np.sin(p), np.sin(t) * np.cos(p), np.cos(t)], -1)
    return sky_radiance(light, d)
