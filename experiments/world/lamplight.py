"""Direct light of lamps, without noise: one shadow ray from every pixel to every lamp."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from experiments.world.light import Lamp
from experiments.world.renderer import Renderer, Seen

Array = npt.NDArray[np.float32]
# Strength and exponent of the highlight (Blinn 1977) of each finish; others have none.
HIGHLIGHT = {
    "satin": (0.03, 30.0),
    "lacquer": (0.25, 300.0),
    "glass": (0.5, 800.0),
    "metal": (0.15, 40.0),
    "wet": (0.45, 60.0),
    "water": (0.6, 300.0),
    "chrome": (0.8, 200.0),
}


def beam(lamp: Lamp, toward: Array) -> Array:
    """Return how much of a lamp's intensity leaves in unit directions ``toward``."""
    if lamp.cutoff >= 180:
        return np.ones(toward.shape[:-1], np.float32)
    cosine = toward @ np.asarray(lamp.direction, np.float32)
    narrow = lamp.cutoff < 40  # a headlight: brightest ahead, no even disk
    outer = np.cos(np.radians(lamp.cutoff))
    inner = np.cos(np.radians((0.05 if narrow else 0.35) * lamp.cutoff))
    t = np.clip((cosine - outer) / (inner - outer), 0, 1)
    return (t**4 if narrow else t * t * (3 - 2 * t)).astype(np.float32)


def lamp_light(
    renderer: Renderer,
    lamps: tuple[Lamp, ...],
    seen: Seen,
    directions: Array,
    gloss: npt.NDArray[np.float32],
) -> tuple[Array, Array]:
    """Return diffuse irradiance over pi and highlights, both ``(H, W, 3)``.

    ``gloss`` holds the highlight's strength and exponent per pixel, ``(H, W, 2)``.
    """
    diffuse = np.zeros((*seen.part.shape, 3), np.float32)
    shine = np.zeros_like(diffuse)
    for lamp in lamps:
        to = np.asarray(lamp.position, np.float32) - seen.position
        far = np.linalg.norm(to, axis=-1)
        way = to / np.maximum(far, 1e-3)[..., None]
        facing = (way * seen.normal).sum(-1)
        strength = lamp.intensity * beam(lamp, -way) / np.maximum(far, 0.3) ** 2
        useful = (seen.part >= 0) & (facing > 0) & (strength > 2e-5)
        if not useful.any():
            continue
        start = seen.position[useful] + seen.normal[useful] * 0.01 + way[useful] * 0.01
        free = renderer.unobstructed(start, way[useful], far[useful] - 0.3)
        power = np.zeros_like(far)
        power[useful] = strength[useful] * free
        color = np.asarray(lamp.color, np.float32)
        diffuse += (power * facing / np.pi)[..., None] * color
        half = way - directions
        half /= np.linalg.norm(half, axis=-1, keepdims=True) + 1e-6
        peak = (
            np.clip((half * seen.normal).sum(-1), 0, 1) ** gloss[..., 1]
            * (gloss[..., 1] + 2)
            / (2 * np.pi)
        )
        shine += (power * np.clip(facing, 0, 1) * gloss[..., 0] * peak)[..., None] * color
    return diffuse, shine
