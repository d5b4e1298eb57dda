"""From what pixels see to the two radiance pictures, before air and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from experiments.world.lamplight import HIGHLIGHT, lamp_light
from experiments.world.light import Light, sky_radiance
from experiments.world.materials import material_of
from experiments.world.noise import fractal
from experiments.world.renderer import Renderer, Seen
from experiments.world.scene import Scene
from experiments.world.textures import TEXTURES, Points
from experiments.world.thermal import (
    leaving_radiance,
    radiance,
    sky_temperature,
    surface_temperature,
)

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """What subpixels see, with everything that does not depend on the light.

    Attributes:
        seen: geometry at the subpixels.
        directions: unit directions of the rays.
        base: plain albedo.
        albedo: factor of the texture.
        relief: of the texture.
        factor: subpixels along a side of a pixel.
    """

    seen: Seen
    directions: Array
    base: Array
    albedo: Array
    relief: Array
    factor: int


def pool(a: Array, factor: int) -> Array:
    """Average blocks of ``factor`` x ``factor`` pixels."""
    h, w = a.shape[0] // factor, a.shape[1] // factor
    return a.reshape(h, factor, w, factor, *a.shape[2:]).mean((1, 3), dtype=np.float32)


def texture(scene: Scene, seen: Seen, directions: Array) -> tuple[Array, Array]:
    """Evaluate every material's texture where it is seen: albedo factor and relief."""
    factor = np.ones((*seen.part.shape, 3), np.float32)
    relief = np.zeros(seen.part.shape, np.float32)
    names = np.array([material_of(p.material).texture for p in scene.parts])
    spread = np.linalg.norm(directions[0, 0] - directions[0, 1])
    facing = np.abs((seen.normal * directions).sum(-1))
    step = (
        np.where(np.isfinite(seen.depth), seen.depth, 0)
        * spread
        / np.sqrt(np.maximum(facing, 0.05))
    )
    owner = np.where(seen.part >= 0, names[seen.part], "")
    for name in np.unique(names):
        at = owner == name
        if not at.any():
            continue
        points = Points(
            seen.position[at],
            seen.normal[at],
            seen.part[at],
            seen.face[at],
            step[at],
            scene.seed % 100003,
        )
        factor[at], relief[at] = TEXTURES[str(name)](points)
        relief[at] += points.mottle()
    return factor, relief


def smooth(light: Array, seen: Seen, levels: int = 3, cut: bool = True) -> Array:
    """Remove the path tracer's noise from light on surfaces, not across edges of things.

    An a-trous wavelet filter (Dammertz et al. 2010, "Edge-avoiding a-trous wavelet transform for
    fast global illumination filtering") guided by part, normal and distance; fireflies are first
    cut to three times the median around them, if ``cut``.
    """
    gray = light.mean(-1)
    if cut:
        cap = 3.0 * ndimage.median_filter(gray, 3) + 1e-4
        light = light * np.minimum(1.0, cap / np.maximum(gray, 1e-6))[..., None]
    depth = np.where(np.isfinite(seen.depth), seen.depth, 1e4).astype(np.float32)
    for level in range(levels):
        step = 2**level
        gray = light.mean(-1)
        total, weights = light.copy(), np.ones_like(gray)
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            for sign in (1, -1):
                shift = (sign * dy * step, sign * dx * step)
                other = np.roll(light, shift, (0, 1))
                other_gray = np.roll(gray, shift, (0, 1))
                w = (np.roll(seen.part, shift, (0, 1)) == seen.part).astype(np.float32)
                w *= (
                    np.clip((np.roll(seen.normal, shift, (0, 1)) * seen.normal).sum(-1), 0, 1) ** 16
                )
                w *= np.abs(np.roll(depth, shift, (0, 1)) - depth) < 0.03 * step * depth
                w *= 1 / (
                    1 + 2 * (np.abs(other_gray - gray) / (0.25 * (other_gray + gray) + 1e-6)) ** 2
                )
                total += w[..., None] * other
                weights += w
        light = total / weights[..., None]
    return light.astype(np.float32)


def highlights(scene: Scene) -> Array:
    """Strength and exponent of every part's highlight, ``(parts, 2)``."""
    return np.array(
        [HIGHLIGHT.get(material_of(p.material).finish, (0.0, 1.0)) for p in scene.parts], np.float32
    )


def bounce(diffuse: Array, seen: Seen) -> Array:
    """Stand in for lamp light reflected by surfaces around: the picture's own, widely blurred."""
    size = diffuse.shape[0] / 10
    return np.stack([ndimage.gaussian_filter(diffuse[..., c], size) for c in range(3)], -1)


def emission(scene: Scene, light: Light, seen: Seen) -> Array:
    """Radiance of small bright things, which do not light the scene themselves."""
    glow = np.array(
        [
            (0.0 if m.lights_scene else m.emission) * np.asarray(p.color)
            for p in scene.parts
            for m in (material_of(p.material),)
        ],
        np.float32,
    ).reshape(-1, 3)
    share = np.float32(1.0 if light.lamps_on else 0.02)
    return np.where((seen.part >= 0)[..., None], glow[seen.part] * share, np.float32(0))


def look(scene: Scene, renderer: Renderer, width: int, height: int, factor: int = 2) -> Look:
    """Find what every subpixel sees and which texture it has."""
    w, h = width * factor, height * factor
    seen = renderer.geometry(scene.camera, w, h)
    directions = scene.camera.directions(w, h)
    albedo, relief = texture(scene, seen, directions)
    base = renderer.face_color[seen.face] + np.float32(0.004)
    return Look(seen, directions, base, albedo, relief, factor)


def visible_radiance(
    scene: Scene, light: Light, renderer: Renderer, view: Look, samples: int
) -> Array:
    """Return linear radiance ``(H, W, 3)`` under a light, without air."""
    h, w = view.seen.part.shape
    sky = view.seen.part < 0
    traced = renderer.light(scene.camera, light, w, h, samples, scene.seed & 0x7FFFFFFF)
    lit = smooth(traced / view.base, view.seen)
    shine = np.zeros_like(lit)
    if light.lamps_on and light.lamps:
        gloss = highlights(scene)[np.maximum(view.seen.part, 0)]
        diffuse, shine = lamp_light(renderer, light.lamps, view.seen, view.directions, gloss)
        lit = lit + diffuse + 0.08 * bounce(diffuse, view.seen)
    lit = lit * view.base * view.albedo + shine + emission(scene, light, view.seen)
    return pool(np.where(sky[..., None], sky_radiance(light, view.directions), lit), view.factor)


def exposure_to_sky(
    renderer: Renderer, seen: Seen, sun: tuple[float, float, float], seed: int, rays: int = 4
) -> tuple[Array, Array]:
    """Return the sun's irradiance (1: facing it) and the fraction of sky seen, per subpixel."""
    hit = seen.part >= 0
    normal = seen.normal[hit]
    start = seen.position[hit] + 0.02 * normal
    way = np.asarray(sun, np.float32)
    far = np.full(len(start), 1e4, np.float32)
    light = np.zeros(hit.shape, np.float32)
    facing = np.clip(normal @ way, 0, 1)
    light[hit] = facing * renderer.unobstructed(start, np.broadcast_to(way, start.shape), far)
    rng = np.random.default_rng(seed)
    view = np.zeros(hit.shape, np.float32)
    for _ in range(rays):
        d = rng.standard_normal(start.shape, np.float32)
        d = normal + d / np.linalg.norm(d, axis=1, keepdims=True)
        d /= np.linalg.norm(d, axis=1, keepdims=True) + 1e-6
        view[hit] += renderer.unobstructed(start, d, far) * (d[:, 2] > 0) / rays
    return light, smooth(view[..., None], seen, cut=False)[..., 0]


def temperatures(scene: Scene, renderer: Renderer, view: Look) -> tuple[Array, Array]:
    """Return temperature in degrees Celsius and leaving band radiance, ``(H, W)``, without air."""
    weather, seen = scene.weather, view.seen
    sun, open_sky = exposure_to_sky(renderer, seen, scene.light.sun, scene.seed)
    kinds = [p.heat for p in scene.parts]
    celsius, emissivity = surface_temperature(
        kinds, np.maximum(seen.part, 0), weather, sun, open_sky, view.relief
    )
    celsius = celsius + renderer.face_heat[seen.face]
    up = np.arcsin(np.clip(view.directions[..., 2], -1, 1))
    plane = view.directions / (np.clip(view.directions[..., 2:], 0, 1) + 0.15)
    swing = 6.0 * weather.cloud * (1.2 - weather.cloud) + 0.5
    cloud = swing * fractal(plane, 1.3, 4, seed=scene.light.seed)
    sky = seen.part < 0
    celsius = np.where(sky, sky_temperature(weather, up) + cloud, celsius).astype(np.float32)
    band = leaving_radiance(celsius, emissivity, open_sky, weather)
    band = np.where(sky, radiance(celsius), band)
    return pool(celsius, view.factor), pool(band, view.factor)


def nearest(depth: Array, factor: int) -> Array:
    """Return the smallest depth of every block of subpixels."""
    h, w = depth.shape[0] // factor, depth.shape[1] // factor
    return depth.reshape(h, factor, w, factor).min((1, 3))
