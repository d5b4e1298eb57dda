"""A scene: its parts, light, weather, air and camera, before anything is rendered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.world.air import Air
from experiments.world.light import Light
from experiments.world.part import Part
from experiments.world.thermal import Weather

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Where both cameras stand, what they look at, and the horizontal angle of view in degrees."""

    origin: Vector
    target: Vector
    fov: float

    def axes(self) -> npt.NDArray[np.float64]:
        """Return right, up and forward as rows of a matrix."""
        forward = np.subtract(self.target, self.origin)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    def directions(self, width: int, height: int) -> npt.NDArray[np.float32]:
        """Return the unit direction of every pixel's center, ``(height, width, 3)``."""
        half = np.tan(np.radians(self.fov) / 2)
        x = ((np.arange(width) + 0.5) / width * 2 - 1) * half
        y = (1 - (np.arange(height) + 0.5) / height * 2) * half * height / width
        gx, gy = np.meshgrid(x, y)
        d = np.stack([gx, gy, np.ones_like(gx)], -1) @ self.axes()
        return (d / np.linalg.norm(d, axis=-1, keepdims=True)).astype(np.float32)

    def moved(self, right: float) -> Camera:
        """Return a camera shifted to the right by so many meters, looking the same way."""
        shift = self.axes()[0] * right
        origin, target = np.add(self.origin, shift), np.add(self.target, shift)
        return Camera(_vector(origin), _vector(target), self.fov)


def _vector(a: npt.NDArray[np.floating]) -> Vector:
    return (float(a[0]), float(a[1]), float(a[2]))


@dataclass(frozen=True)
class Scene:
    """Everything that both cameras, the truth and the caption need.

    In a sequence ``frame`` numbers the pictures, and the first ``fixed`` parts do not move.
    """

    parts: list[Part]
    light: Light
    weather: Weather
    air: Air
    camera: Camera
    layout: str
    seed: int
    attributes: dict[str, str | int | float | bool]
    frame: int = 0
    fixed: int | None = None
