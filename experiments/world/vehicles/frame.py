"""What every builder of a vehicle's parts needs: its number, state and colors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.world.part import Part
from experiments.world.vehicles.shapes import Array, Mesh

Color = tuple[float, float, float]

BLACK: Color = (0.018, 0.018, 0.020)
RUBBER: Color = (0.022, 0.022, 0.023)
GLASS: Color = (0.020, 0.024, 0.026)
STEEL: Color = (0.15, 0.15, 0.155)
CHROME: Color = (0.55, 0.56, 0.58)
# Shares of new cars by color in Europe and North America: gray scales make up three quarters
# (BASF Color Report 2022).
PAINTS: tuple[tuple[float, Color], ...] = (
    (0.26, (0.62, 0.62, 0.60)),
    (0.20, (0.014, 0.014, 0.016)),
    (0.15, (0.11, 0.115, 0.12)),
    (0.13, (0.33, 0.335, 0.34)),
    (0.09, (0.020, 0.045, 0.14)),
    (0.07, (0.26, 0.014, 0.016)),
    (0.04, (0.19, 0.155, 0.12)),
    (0.03, (0.020, 0.060, 0.035)),
    (0.03, (0.33, 0.13, 0.03)),
)


def sample_paint(rng: np.random.Generator) -> Color:
    """Draw a color of paint."""
    weights = np.array([weight for weight, _ in PAINTS])
    color = PAINTS[int(rng.choice(len(PAINTS), p=weights / weights.sum()))][1]
    red, green, blue = np.clip(np.array(color) * rng.uniform(0.85, 1.15), 0.01, 0.75)
    return float(red), float(green), float(blue)


@dataclass(frozen=True)
class Bay:
    """Hold one vehicle in the making, in its own frame: x forward, y left, z up.

    Attributes:
        kind: for names and labels.
        instance: number of the vehicle.
        running: whether engine, tires and exhaust are warm.
        lights: whether the lamps shine.
        paint: color of the body.
        cell: grid step, in meters.
        label: class of the vehicle.
    """

    kind: str
    instance: int
    running: bool
    lights: bool
    paint: Color
    cell: float
    label: str

    def part(
        self,
        name: str,
        mesh: Mesh,
        material: str,
        color: Color,
        heat: str,
        *,
        smooth: bool = True,
        tint: Array | None = None,
        warm: Array | None = None,
    ) -> Part:
        """Return a part of the vehicle."""
        return Part(
            name=f"{self.kind}_{self.instance}_{name}",
            vertices=np.ascontiguousarray(mesh[0], np.float32),
            faces=np.ascontiguousarray(mesh[1], np.int32),
            material=material,
            color=color,
            heat=heat,
            label=self.label,
            instance=self.instance,
            normals_smooth=smooth,
            vertex_color=None if tint is None else np.asarray(tint, np.float32),
            vertex_heat=None if warm is None else np.asarray(warm, np.float32),
        )

    def warm(self, hot: str, cold: str) -> str:
        """Return one of two kinds of heat by whether the vehicle runs."""
        return hot if self.running else cold

    def headlamp(self, name: str, mesh: Mesh) -> Part:
        """Return a lamp in front."""
        material = "headlamp_on" if self.lights else "lamp"
        heat = "lamp_hot" if self.lights else "ambient"
        color = (0.9, 0.88, 0.8) if self.lights else (0.5, 0.52, 0.54)
        return self.part(name, mesh, material, color, heat)

    def taillamp(self, name: str, mesh: Mesh) -> Part:
        """Return a red lamp at the rear."""
        material = "taillamp_on" if self.lights else "lamp"
        color = (0.6, 0.02, 0.015) if self.lights else (0.22, 0.012, 0.012)
        return self.part(name, mesh, material, color, "ambient")


def spread(points: Array, center: npt.ArrayLike, size: npt.ArrayLike) -> Array:
    """Return a bump of height 1 around ``center`` with half axes ``size``."""
    scaled = (points - np.asarray(center, np.float32)) / np.asarray(size, np.float32)
    return np.asarray(np.exp(-(scaled**2).sum(1)), np.float32)
