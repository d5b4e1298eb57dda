"""Folds of cloth: small displacements along the normals, gathered where a body bends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.world.people.skeleton import Bone
from experiments.world.surface import Array, Noise, vertex_normals


@dataclass(frozen=True)
class Crease:
    """Describe the folds along one bone.

    Attributes:
        bone: the bone, hanging down along -w (trunk bones point up along +w).
        depth: rows ``(way along the bone as a fraction, depth of the folds in meters)``.
        pitch: distance from fold to fold along the bone and around it, in meters.
        slant: how far the folds run up while they run around.
        up: whether the bone points up.
    """

    bone: Bone
    depth: tuple[tuple[float, float], ...]
    pitch: tuple[float, float] = (0.06, 0.17)
    slant: float = 0.4
    up: bool = False


def fold(
    vertices: Array, faces: np.ndarray, creases: list[Crease], noise: Noise, loose: float = 0.006
) -> tuple[Array, Array]:
    """Displace a garment by its folds.

    Args:
        vertices: ``(V, 3)`` in meters.
        faces: ``(F, 3)``.
        creases: folds by bone; each vertex follows the bones near it.
        noise: three-dimensional noise, seeded by the person.
        loose: amplitude of the wide waves, in meters.

    Returns:
        Displaced vertices and the displacement ``(V,)`` in meters.
    """
    normals = vertex_normals(vertices, faces)
    total = np.zeros(len(vertices), np.float32)
    weight = np.full(len(vertices), 1e-6, np.float32)
    for number, crease in enumerate(creases):
        local = (vertices - crease.bone.origin) @ crease.bone.frame
        way = (local[:, 2] if crease.up else -local[:, 2]) / crease.bone.length
        beyond = np.maximum(np.maximum(-way, way - 1), 0) * crease.bone.length
        away = np.sqrt(local[:, 0] ** 2 + local[:, 1] ** 2 + beyond**2)
        near = np.exp(-away / 0.03).astype(np.float32) + 1e-9
        depth = np.interp(way, [row[0] for row in crease.depth], [row[1] for row in crease.depth])
        along, around = crease.pitch
        turned = local[:, 2] + crease.slant * local[:, 1]
        at = np.stack([turned / along, local[:, 0] / around, local[:, 1] / around], 1)
        bend = noise(at + 0.6 * noise(0.4 * at + 9.1)[:, None] + 5.3 * number)
        ridge = 0.9 - 2.6 * np.sqrt(bend * bend + 0.003)
        total += near * (depth * np.maximum(ridge, -0.9)).astype(np.float32)
        weight += near
    shift = total / weight + loose * noise(vertices / 0.11 + 3.7)
    return (vertices + normals * shift[:, None]).astype(np.float32), shift.astype(np.float32)


def hang(
    vertices: Array,
    faces: np.ndarray,
    axis: Bone,
    reach: tuple[float, float],
    noise: Noise,
    depth: float = 0.02,
    count: float = 9.0,
) -> tuple[Array, Array]:
    """Displace a skirt by hanging folds that deepen from ``reach[0]`` down to ``reach[1]``.

    Args:
        vertices: ``(V, 3)`` in meters.
        faces: ``(F, 3)``.
        axis: bone around which the folds run.
        reach: heights above the bone's origin where folds begin and are deepest.
        noise: seeded noise.
        depth: depth of the folds at the hem, in meters.
        count: folds around.

    Returns:
        Displaced vertices and the displacement ``(V,)``.
    """
    normals = vertex_normals(vertices, faces)
    local = (vertices - axis.origin) @ axis.frame
    angle = np.arctan2(local[:, 1], local[:, 0] + 1e-6)
    down = np.clip((reach[0] - local[:, 2]) / max(reach[0] - reach[1], 1e-3), 0, 1)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * count / 3.2
    wave = noise(np.concatenate([circle, local[:, 2:3] * 1.6], 1))
    level = np.abs(normals[:, 2]) < 0.8
    shift = depth * down * (0.7 - 1.8 * np.abs(wave)) * level
    return (vertices + normals * shift[:, None]).astype(np.float32), shift.astype(np.float32)


def warmth(noise: Noise, vertices: Array, shift: Array) -> Array:
    """Return degrees added where cloth lies on the skin, and taken where it stands off."""
    patches = np.clip(2.8 * noise(vertices / 0.16 + 1.3), -2.8, 2.8)
    return (patches - 170 * np.clip(shift, -0.02, 0.02) + 0.6 * noise(vertices / 0.06)).astype(
        np.float32
    )
