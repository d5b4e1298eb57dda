"""Heads: face, hair, hats, hoods and what is worn on the face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.world.part import Part
from experiments.world.people import anatomy
from experiments.world.people.kit import Kit
from experiments.world.surface import Array, Field, Loft, ball, rod, vertex_normals

_FULL = ("jacket", "puffer", "coat", "hoodie")


def build_head(kit: Kit) -> list[Part]:
    """Return neck, head, hair, headwear and what is worn on the face."""
    look = kit.look
    parts = [_face(kit), _features(kit)]
    hooded = look.headwear in ("hood", "helmet")
    if look.hair_style != "bald" and look.headwear != "helmet":
        parts.append(_hair(kit, tucked=hooded or look.headwear in ("beanie", "cap", "hat")))
    if look.beard:
        parts.append(_beard(kit))
    if look.mask:
        parts.append(_mask(kit))
    if look.glasses:
        parts.extend(_glasses(kit))
    if look.headwear != "none":
        parts += _headwear(kit)
    return parts


def _egg(kit: Kit, u: float, v: float, w: float, *radii: float) -> Loft:
    """Return an ellipsoid in the frame of the head, in meters of an adult head."""
    bone, s = kit.bones["head"], kit.build.head
    return ball(bone.at(u * s, v * s, w * s), [r * s for r in radii], bone.frame)


def _face(kit: Kit) -> Part:
    """Return the skin of head and neck."""
    solids, sockets = anatomy.skull(kit.build, kit.bones)
    throat = anatomy.neck(kit.build, kit.bones)
    field = Field.around([*solids, throat], kit.cell * 0.72)
    for solid in solids[:6]:
        field.add(solid, 0.016)
    for solid in sockets:
        field.cut(solid, 0.018)
    for solid in solids[6:]:
        field.add(solid, 0.012)
    field.add(throat, 0.02)
    vertices, faces = field.mesh()
    local = kit.local("head", vertices) / kit.build.head
    nose = np.exp(-np.sum((local - [0.105, 0, 0.045]) ** 2, 1) / 0.02**2)
    eye = np.exp(-np.sum((np.abs(local) - [0.085, 0.030, 0.066]) ** 2, 1) / 0.02**2)
    ear = np.exp(-np.sum((np.abs(local) - [0.006, 0.080, 0.052]) ** 2, 1) / 0.025**2)
    heat = 1.2 * eye - 2.2 * nose - 1.5 * ear
    color = np.repeat(np.array([kit.color("skin")], np.float32), len(vertices), 0)
    flush = 0.5 * nose + 0.4 * ear
    cheek = np.exp(-np.sum((np.abs(local) - [0.08, 0.045, 0.035]) ** 2, 1) / 0.025**2)
    color *= 1 + np.outer(flush + 0.5 * cheek, [0.05, -0.12, -0.12])
    mouth = np.exp(-np.sum(((local - [0.095, 0, 0.003]) / [0.02, 0.021, 0.0055]) ** 2, 1))
    color *= 1 - np.outer(mouth, [0.25, 0.5, 0.45])
    color *= 1 - 0.55 * eye[:, None]
    return kit.part("face", (vertices, faces), "skin", "skin", "skin", heat=heat, tint=color)


def _features(kit: Kit) -> Part:
    """Return brows and eyes."""
    solids = anatomy.eyes(kit.build, kit.bones)
    field = Field.around(solids, kit.cell * 0.3)
    for solid in solids:
        field.add(solid, 0.0)
    color = tuple(0.6 * c + 0.008 for c in kit.color("hair"))
    if max(color) > 0.1:
        color = (0.05, 0.04, 0.035)
    return kit.part("eyes", field.mesh(), "skin", color, "skin")


def _scalp(kit: Kit, thick: float) -> list[Loft]:
    """Return the cap of hair over the skull."""
    lift = thick + 0.004
    return [
        _egg(kit, -0.006, 0, 0.100, 0.098 + lift, 0.078 + lift, 0.084 + lift),
        _egg(kit, -0.045, 0, 0.070, 0.055 + lift, 0.060 + lift, 0.075 + lift),
    ]


def _hair(kit: Kit, *, tucked: bool) -> Part:
    """Return the hair by its style; ``tucked`` keeps it under a hat."""
    style = kit.look.hair_style
    thick = {"crop": 0.002, "short": 0.009, "medium": 0.013}.get(style, 0.010)
    solids = _scalp(kit, 0.002 if tucked else thick)
    bone, s = kit.bones["head"], kit.build.head
    if style in ("medium", "long") and kit.look.headwear not in ("hood", "helmet"):
        drop = -0.05 if style == "medium" else -0.17
        rows = (
            (drop, 0.030, 0.062, -0.062),
            (drop * 0.5, 0.042, 0.082, -0.050),
            (0.03, 0.066, 0.092, -0.030),
            (0.09, 0.085, 0.090, -0.016),
        )
        knots = anatomy.scaled(rows, s, s, thick * 0.4)
        solids.append(Loft(bone.origin, bone.frame, knots, (0.03, 0.04)))
    elif style == "bun":
        solids.append(_egg(kit, -0.125, 0, 0.125, 0.040, 0.042, 0.040))
    elif style == "ponytail":
        solids.append(_egg(kit, -0.120, 0, 0.110, 0.030, 0.026, 0.030))
        start, end = bone.at(-0.13 * s, 0, 0.10 * s), bone.at(-0.135 * s, 0.01, -0.09 * s)
        solids.append(rod(start, end, 0.030 * s, 0.014 * s))
    field = Field.around(solids, kit.cell * 0.72)
    for solid in solids:
        field.add(solid, 0.02)
    field.cut(_egg(kit, 0.085, 0, 0.030, 0.080, 0.074, 0.092), 0.012)
    if style in ("crop", "short", "bald") or tucked:
        field.above(bone.at(-0.09 * s, 0, 0.012 * s), bone.frame @ np.array([0.25, 0, 1]), 0.02)
        for sign in (1, -1):
            field.cut(_egg(kit, 0.012, sign * 0.088, 0.035, 0.034, 0.022, 0.046), 0.01)
    vertices, faces = field.mesh()
    short = style in ("crop", "short")
    local = kit.local("head", vertices)
    angle = np.arctan2(local[:, 1], local[:, 0] + 0.01)
    around = np.stack([np.cos(angle), np.sin(angle)], 1) * (3.0 if short else 4.5)
    strands = kit.noise(
        np.concatenate([around, local[:, 2:3] / (0.07 if short else 0.22)], 1) * 1.6
    )
    tufts = kit.noise(vertices / 0.045)
    depth = 0.0025 if style == "crop" or tucked else 0.006 if short else 0.009
    shift = depth * (0.8 * strands + 0.7 * tufts - 0.2)
    vertices = vertices + vertex_normals(vertices, faces) * shift[:, None]
    tint = np.outer(np.clip(1 + 0.9 * strands + 0.4 * tufts, 0.3, 2.6), kit.color("hair"))
    heat = 1.5 * tufts - 150 * thick + 1.5
    return kit.part("hair", (vertices, faces), "hair", "hair", "hair", heat=heat, tint=tint)


def _beard(kit: Kit) -> Part:
    """Return a short beard."""
    bone, s = kit.bones["head"], kit.build.head
    rows = (
        (-0.050, 0.030, 0.028, 0.060),
        (-0.024, 0.049, 0.050, 0.041),
        (0.012, 0.066, 0.064, 0.027),
        (0.04, 0.068, 0.065, 0.02),
    )
    jaw = Loft(bone.origin, bone.frame, anatomy.scaled(rows, s, s), (0.010, 0.01))
    field = Field.around([jaw], kit.cell * 0.5).add(jaw, 0)
    field.cut(_egg(kit, 0.10, 0, 0.040, 0.05, 0.046, 0.034), 0.008)
    field.cut(_egg(kit, 0.112, 0, 0.002, 0.02, 0.022, 0.008), 0.004)
    return kit.part("beard", kit.rough(field.mesh(), 0.002, 0.015), "hair", "hair", "hair")


def _mask(kit: Kit) -> Part:
    """Return a surgical mask over nose, mouth and chin."""
    bone, s = kit.bones["head"], kit.build.head
    rows = (
        (-0.046, 0.034, 0.036, 0.058),
        (-0.01, 0.058, 0.060, 0.040),
        (0.045, 0.074, 0.068, 0.030),
    )
    shell = Loft(bone.origin, bone.frame, anatomy.scaled(rows, s, s, 0.004), (0.008, 0.006))
    field = Field.around([shell], kit.cell * 0.5).add(shell, 0)
    field.above(bone.at(0.03 * s, 0, 0), bone.frame @ np.array([1.0, 0, -0.2]), 0.01)
    color = (0.5, 0.6, 0.7) if kit.look.seed % 3 else (0.02, 0.02, 0.02)
    return kit.part("mask", field.mesh(), "cloth", color, "clothed_torso")


def _glasses(kit: Kit) -> list[Part]:
    """Return glasses, dark to the thermal camera; none where they are thinner than a cell."""
    lenses = [_egg(kit, 0.100, sign * 0.033, 0.066, 0.004, 0.023, 0.016) for sign in (1, -1)]
    bone, s = kit.bones["head"], kit.build.head
    for sign in (1, -1):
        hinge = bone.at(0.094 * s, sign * 0.060 * s, 0.070 * s)
        lenses.append(rod(hinge, bone.at(0, sign * 0.082 * s, 0.07 * s), 0.0028, 0.0028))
    field = Field.around(lenses, kit.cell * 0.32)
    for lens in lenses:
        field.add(lens, 0.0)
    if field.is_empty:
        return []
    return [kit.part("glasses", field.mesh(), "plastic", (0.015, 0.015, 0.018), "ambient")]


def _headwear(kit: Kit) -> list[Part]:
    """Return cap, beanie, hat, hood or helmet."""
    kind = kit.look.headwear
    if kind == "hood":
        return [_hood(kit)]
    if kind == "helmet":
        return _helmet(kit)
    bone, s = kit.bones["head"], kit.build.head
    thick = {"cap": 0.012, "beanie": 0.017, "hat": 0.012}[kind]
    crown = _egg(kit, -0.006, 0, 0.106, 0.100 + thick, 0.080 + thick, 0.084 + thick)
    solids = [crown]
    if kind == "cap":
        brim = _egg(kit, 0.115, 0, 0.112, 0.075, 0.066, 0.006)
        solids.append(Loft(brim.origin, brim.frame @ _pitch(10), brim.knots, brim.caps))
    elif kind == "hat":
        solids.append(_egg(kit, 0.0, 0, 0.118, 0.165, 0.148, 0.008))
    else:
        solids.append(_egg(kit, -0.006, 0, 0.105, 0.113 + 0.006, 0.093 + 0.006, 0.03))
    field = Field.around(solids, kit.cell * 0.72)
    for solid in solids:
        field.add(solid, 0.006)
    tilt = np.array([-0.18 if kind != "hat" else -0.05, 0, 1])
    edge = {"cap": 0.098, "beanie": 0.092, "hat": 0.104}[kind]
    field.above(bone.at(0, 0, (edge - 0.012) * s), bone.frame @ tilt, 0.005)
    mesh = kit.rough(field.mesh(), 0.002, 0.03) if kind == "beanie" else field.mesh()
    return [kit.part("headwear", mesh, "cloth", "headwear", "hair")]


def _hood(kit: Kit) -> Part:
    """Return a hood that is up, open around the face."""
    bone, s = kit.bones["head"], kit.build.head
    rows = (
        (-0.10, 0.085, 0.105, -0.02),
        (-0.03, 0.096, 0.104, -0.008),
        (0.06, 0.116, 0.104, -0.008),
        (0.14, 0.100, 0.084, -0.012),
        (0.185, 0.060, 0.045, -0.022),
    )
    shell = Loft(bone.origin, bone.frame, anatomy.scaled(rows, s, s, 0.012), (0.03, 0.022))
    field = Field.around([shell], kit.cell * 0.7).add(shell, 0)
    field.cut(_egg(kit, 0.095, 0, 0.052, 0.095, 0.068, 0.108), 0.012)
    return kit.part("hood", kit.rough(field.mesh(), 0.005, 0.05), "cloth", "top", "clothed_torso")


def _helmet(kit: Kit) -> list[Part]:
    """Return a bicycle helmet, or a full helmet with visor for a motorcycle."""
    full = "motorcycle" in kit.pose.name
    solids: Sequence[Loft] = [_egg(kit, -0.004, 0, 0.108, 0.122, 0.100, 0.098)]
    bone, s = kit.bones["head"], kit.build.head
    if full:
        solids = [*solids, _egg(kit, 0.004, 0, 0.055, 0.128, 0.106, 0.120)]
    field = Field.around(solids, kit.cell * 0.65)
    for solid in solids:
        field.add(solid, 0.02)
    edge, tilt = (-0.05, 0.1) if full else (0.088, -0.16)
    field.above(bone.at(0, 0, edge * s), bone.frame @ np.array([tilt, 0, 1.0]), 0.01)
    if full:
        field.cut(_egg(kit, 0.115, 0, 0.064, 0.050, 0.082, 0.036), 0.006)
    parts = [kit.part("helmet", field.mesh(), "plastic", "headwear", "ambient")]
    if full:
        visor = Field.around(solids, kit.cell * 0.65).add(
            _egg(kit, 0.012, 0, 0.064, 0.108, 0.094, 0.052), 0
        )
        parts.append(kit.part("visor", visor.mesh(), "plastic", (0.01, 0.01, 0.012), "ambient"))
    return parts


def _pitch(degrees: float) -> Array:
    """Return the rotation that lowers the front by ``degrees``."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
