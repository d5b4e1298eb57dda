"""What every builder of a person's parts needs: bones, look, noise and how to make a part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.world.part import Part
from experiments.world.people.look import Color, Look
from experiments.world.people.skeleton import Build, Pose, Skeleton
from experiments.world.surface import Array, Noise, vertex_normals

Mesh = tuple[Array, npt.NDArray[np.int32]]


@dataclass(frozen=True)
class Kit:
    """Hold one person in the making, in the person's own frame.

    Attributes:
        look: build and clothes.
        pose: what the person does.
        bones: solved skeleton.
        noise: seeded noise for folds.
        cell: grid step of clothes, in meters.
        instance: number of the person.
    """

    look: Look
    pose: Pose
    bones: Skeleton
    noise: Noise
    cell: float
    instance: int

    @property
    def build(self) -> Build:
        """Return the measures of the body."""
        return self.look.build

    @property
    def short_sleeves(self) -> bool:
        """Return whether the forearms are bare."""
        return self.look.top == "tshirt" or (
            self.look.bottom == "dress" and self.look.seed % 2 == 0
        )

    def color(self, what: str) -> Color:
        """Return the albedo of something worn."""
        return self.look.colors[what]

    def local(self, bone: str, vertices: Array) -> Array:
        """Return vertices in the frame of a bone."""
        frame = self.bones[bone]
        return ((vertices - frame.origin) @ frame.frame).astype(np.float32)

    def rough(self, mesh: Mesh, depth: float, size: float) -> Mesh:
        """Return a mesh displaced by noise of ``depth`` and ``size`` meters."""
        vertices, faces = mesh
        normals = vertex_normals(vertices, faces)
        shift = depth * self.noise(vertices / size)
        return (vertices + normals * shift[:, None]).astype(np.float32), faces

    def part(
        self,
        name: str,
        mesh: Mesh,
        material: str,
        color: str | tuple[float, ...],
        kind: str,
        *,
        heat: npt.ArrayLike | None = None,
        tint: npt.ArrayLike | None = None,
    ) -> Part:
        """Return a part of the person; ``color`` is an albedo or what the look's albedo is for."""
        red, green, blue = self.color(color) if isinstance(color, str) else color
        return Part(
            name=f"person_{self.instance}_{name}",
            vertices=np.ascontiguousarray(mesh[0], np.float32),
            faces=np.ascontiguousarray(mesh[1], np.int32),
            material=material,
            color=(float(red), float(green), float(blue)),
            heat=kind,
            label="person",
            instance=self.instance,
            vertex_color=None if tint is None else np.clip(np.asarray(tint, np.float32), 0, 0.9),
            vertex_heat=None if heat is None else np.asarray(heat, np.float32),
        )
