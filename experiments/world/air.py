"""Air: haze, fog, smoke and rain between the camera and the scene, from depth.

Light follows Beer and Lambert, ``L = L0 exp(-tau) + airlight``, with the optical depth ``tau``
summed along each ray through a density that varies in space. Fog and smoke scatter visible light;
the infrared camera's wavelength is longer than most smoke particles, so smoke weakens it little,
and fog a part of what it does to visible light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from experiments.world.light import Lamp, Light
from experiments.world.noise import fractal

Array = npt.NDArray[np.float32]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Plume:
    """A cloud of smoke: an ellipsoid with a ragged edge; density in 1/m at its core."""

    center: Vector
    radii: Vector
    density: float
    color: Vector = (0.75, 0.78, 0.82)


@dataclass(frozen=True)
class Air:
    """What is in the air.

    Attributes:
        fog: extinction of visible light, 1/m (0.002: light haze, 0.05: dense fog).
        plumes: clouds of smoke.
        rain: strength in [0, 1].
        infrared_fog: the infrared's extinction as a fraction of the visible one in fog.
        infrared_smoke: the same in smoke.
        seed: of the density's noise.
    """

    fog: float = 0.0
    plumes: tuple[Plume, ...] = ()
    rain: float = 0.0
    infrared_fog: float = 0.3
    infrared_smoke: float = 0.04
    seed: int = 0


def transmittance(optical_depth: npt.ArrayLike) -> Array:
    """Return ``exp(-tau)``."""
    return np.exp(-np.asarray(optical_depth, np.float32))


def smoke_depth(
    plume: Plume, origin: Vector, directions: Array, depth: Array, seed: int, steps: int = 24
) -> Array:
    """March through a plume and return its optical depth along every ray up to ``depth``."""
    o, c, r = (np.asarray(x, np.float32) for x in (origin, plume.center, plume.radii))
    reach = float(r.max()) * 1.9
    middle = ((c - o) * directions).sum(-1)
    start = np.clip(middle - reach, 0, None)
    stop = np.minimum(middle + reach, depth)
    length = np.clip(stop - start, 0, None)
    jitter = np.random.default_rng(seed).random(depth.shape, np.float32)
    through = length > 0  # the other rays pass beside the plume or end before it
    way, start, length, jitter = (x[through] for x in (directions, start, length, jitter))
    tau = np.zeros(length.shape, np.float32)
    for k in range(steps):
        t = start + (k + jitter) / steps * length
        p = o + way * t[..., None]
        edge = (((p - c) / r) ** 2).sum(-1)
        ragged = fractal(p * [1, 1, 1.3], 0.5 * reach, 5, gain=0.65, seed=seed)
        wisp = np.clip(0.55 + 2.2 * ragged - 0.25 * edge, 0, 2.2)
        tau += np.exp(-1.1 * edge) * wisp**1.5 * length / steps
    whole = np.zeros(depth.shape, np.float32)
    whole[through] = plume.density * tau
    return whole


def fog_depth(air: Air, origin: Vector, directions: Array, depth: Array) -> Array:
    """Return the optical depth of fog, a little denser near the ground and uneven."""
    far = np.minimum(depth, 400.0)
    p = np.asarray(origin, np.float32) + directions * (0.5 * np.minimum(far, 60.0))[..., None]
    uneven = 1 + 0.35 * fractal(p, 14.0, 3, seed=air.seed + 91)
    rise = np.clip(1.15 - 0.9 * np.clip(directions[..., 2], 0, 1), 0.2, 1.2)
    return air.fog * far * uneven * rise


def lamp_glow(
    lamps: tuple[Lamp, ...], origin: Vector, directions: Array, depth: Array, fog: float
) -> Array:
    """Return light scattered from lamps into the rays by thin fog.

    For a ray that passes a lamp at distance h, the integral of ``1 / r^2`` from a to b along it is
    ``(atan(b / h) - atan(a / h)) / h``, with a and b counted from the closest point.
    """
    glow = np.zeros((*depth.shape, 3), np.float32)
    if fog <= 0:
        return glow
    far = np.minimum(depth, 300.0)
    for lamp in lamps:
        to = np.asarray(lamp.position, np.float32) - np.asarray(origin, np.float32)
        along = (to * directions).sum(-1)
        h = np.sqrt(np.maximum((to * to).sum() - along**2, 0.02))
        reach = (np.arctan((far - along) / h) - np.arctan(-along / h)) / h
        fade = np.exp(-fog * np.linalg.norm(to))
        share = 0.35 if lamp.cutoff < 180 else 1.0
        glow += (0.5 * fog * fade * share * lamp.intensity / (4 * np.pi) * np.clip(reach, 0, None))[
            ..., None
        ] * np.asarray(lamp.color, np.float32)
    return glow


def airlight(light: Light) -> Array:
    """Return the radiance of thick fog: the mean of the sky's, plus part of the sun's."""
    sky = 0.5 * np.asarray(light.zenith) + 0.5 * np.asarray(light.horizon)
    return (sky + 0.09 * np.asarray(light.sun_color)).astype(np.float32)


def through_air(
    air: Air,
    light: Light,
    origin: Vector,
    directions: Array,
    depth: Array,
    visible: Array,
    thermal: Array,
    air_radiance: float,
) -> tuple[Array, Array]:
    """Return both radiance pictures as they arrive at the cameras."""
    if air.fog > 0:
        tau = fog_depth(air, origin, directions, depth)
        t = transmittance(tau)[..., None]
        glow = lamp_glow(light.lamps if light.lamps_on else (), origin, directions, depth, air.fog)
        visible = visible * t + airlight(light) * (1 - t) + glow
        t = transmittance(air.infrared_fog * tau)
        thermal = thermal * t + air_radiance * (1 - t)
    for n, plume in enumerate(air.plumes):
        tau = smoke_depth(plume, origin, directions, depth, air.seed + n)
        t = transmittance(tau)[..., None]
        lamps = light.lamps if light.lamps_on else ()
        c = np.asarray(plume.center, np.float32)
        near = sum(
            (
                lamp.intensity
                / (4 * np.pi * max(float(((c - lamp.position) ** 2).sum()), 2.0))
                * np.asarray(lamp.color)
                for lamp in lamps
            ),
            np.zeros(3),
        )
        below = np.clip(1.1 - 0.35 * tau / (1 + tau), 0.5, 1.1)[..., None]
        lit = (
            (airlight(light) * 1.1 + 0.25 * np.asarray(near, np.float32))
            * np.asarray(plume.color, np.float32)
            * below
        )
        visible = visible * t + lit * (1 - t)
        t = transmittance(air.infrared_smoke * tau)
        thermal = thermal * t + air_radiance * (1 - t)
    return visible.astype(np.float32), thermal.astype(np.float32)


def rain_streaks(shape: tuple[int, int], strength: float, rng: np.random.Generator) -> Array:
    """Return the fraction of light that drops near the camera put in each pixel's place."""
    drops = np.zeros(shape, np.float32)
    count = int(strength * shape[0] * shape[1] * 0.0022)
    drops[rng.integers(shape[0], size=count), rng.integers(shape[1], size=count)] = rng.uniform(
        0.2, 1, count
    )
    length = max(3, shape[0] // 22)
    kernel = np.zeros((length, length), np.float32)
    slant = rng.uniform(-0.25, 0.25)
    for k in range(length):
        kernel[k, int(np.clip(length / 2 + slant * (k - length / 2), 0, length - 1))] = 1
    streaks = ndimage.convolve(drops, kernel, mode="constant")
    return np.clip(0.3 * ndimage.gaussian_filter(streaks, 0.6), 0, 0.6)
