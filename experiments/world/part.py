"""One piece of a scene: a mesh with its material, its source of heat and its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Part:
    """Hold one mesh and what both cameras and the truth need to know about it.

    Attributes:
        name: name without dots, for messages and for the renderer.
        vertices: float32 ``(V, 3)`` in meters; x and y span the ground, z points up.
        faces: int32 ``(F, 3)``, indices into ``vertices``, counter-clockwise from outside.
        material: key of ``materials.MATERIALS`` (``skin``, ``cloth``, ``car_paint``...).
        color: albedo in linear sRGB, three numbers in [0, 1].
        heat: key of ``thermal.HEAT`` (``skin``, ``hood_warm``, ``wall``, ``ambient``...).
        label: class of the thing (``person``, ``car``, ``building``, ``road``...).
        instance: number of the thing that the part belongs to; 0 means none.
        normals_smooth: whether vertex normals are interpolated over the faces.
        vertex_color: float32 ``(V, 3)`` albedo at each vertex in place of ``color``, or None.
        vertex_heat: float32 ``(V,)`` degrees Celsius added at each vertex to the temperature
            that ``heat`` stands for (folds, a hood that is hottest in its middle), or None.
    """

    name: str
    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    material: str
    color: tuple[float, float, float]
    heat: str
    label: str
    instance: int = 0
    normals_smooth: bool = True
    vertex_color: npt.NDArray[np.float32] | None = None
    vertex_heat: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check names and shapes, so that a wrong mesh fails where it is made."""
        if "." in self.name:
            raise ValueError(f"part name must not contain a dot, got {self.name!r}")
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise ValueError(f"{self.name}: vertices must be (V, 3), got {self.vertices.shape}")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"{self.name}: faces must be (F, 3), got {self.faces.shape}")
