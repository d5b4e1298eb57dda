"""A stage: what a layout fills, and from which a scene is made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from experiments.world.light import Lamp
from experiments.world.mesh import Builder

Vector = tuple[float, float, float]

LAMP_COLORS: tuple[Vector, ...] = (
    (1.0, 0.62, 0.22),
    (1.0, 0.78, 0.48),
    (0.95, 0.97, 1.0),
    (1.0, 0.88, 0.68),
)


@dataclass(frozen=True)
class Spot:
    """A place for a person: where, facing which way (radians; 0 looks along +x), doing what."""

    position: Vector
    heading: float
    poses: tuple[str, ...] = ("standing", "walking")


@dataclass(frozen=True)
class Slot:
    """A place for a vehicle; ``moving`` ones have engines and lights on."""

    position: Vector
    heading: float
    moving: bool
    kinds: tuple[str, ...] = ("car", "car", "car", "van")


@dataclass
class Stage:
    """Collect what a layout puts into a scene.

    Attributes:
        rng: source of all choices.
        dark: whether lamps are on.
        wet: whether the ground is wet.
        season: ``summer``, ``autumn`` or ``winter``.
        lit: fraction of windows with light.
        camera: origin, target and angle of view, set by the layout.
    """

    rng: np.random.Generator
    dark: bool
    wet: bool = False
    season: str = "summer"
    lit: float = 0.0
    builder: Builder = field(default_factory=Builder)
    lamps: list[Lamp] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    camera: tuple[Vector, Vector, float] = ((0.0, -9.0, 1.9), (0.0, 10.0, 1.5), 50.0)
    lamp_color: Vector = (1.0, 0.78, 0.48)
    indoors: bool = False
    taken: list[Slot] = field(default_factory=list)

    def shine(self, position: Vector, intensity: float, cutoff: float = 72.0) -> None:
        """Put a lamp that shines down, or (``cutoff`` 180) all around, if it is dark."""
        if self.dark:
            self.lamps.append(Lamp(position, self.lamp_color, intensity, (0.0, 0.0, -1.0), cutoff))

    def look(self, origin: Vector, yaw: float, pitch: float, fov: float) -> None:
        """Set the camera; ``yaw`` in degrees from +y to the right, ``pitch`` in degrees upwards."""
        a, e = np.radians(yaw), np.radians(pitch)
        d = (np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e))
        target = (origin[0] + 10 * d[0], origin[1] + 10 * d[1], origin[2] + 10 * d[2])
        self.camera = (origin, (float(target[0]), float(target[1]), float(target[2])), fov)
