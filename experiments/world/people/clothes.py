"""Clothes: tops with sleeves, collars and scarves, with folds, and what belongs to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from experiments.world.part import Part
from experiments.world.people import anatomy
from experiments.world.people.folds import Crease, fold, hang, warmth
from experiments.world.people.kit import Kit
from experiments.world.people.legwear import (
    HEMS,
    bare_legs,
    cone,
    shoe,
    skirt,
    trousers,
)
from experiments.world.people.skeleton import SIDES
from experiments.world.surface import Array, Field, Loft, vertex_normals

# Ease of the trunk, ease of the sleeves and depth of the folds, in meters.
_TOPS = {
    "tshirt": (0.010, 0.012, 0.008),
    "shirt": (0.010, 0.009, 0.009),
    "hoodie": (0.018, 0.016, 0.010),
    "jacket": (0.018, 0.014, 0.010),
    "suit": (0.015, 0.011, 0.006),
    "puffer": (0.030, 0.024, 0.004),
    "coat": (0.022, 0.016, 0.009),
}


def build_clothes(kit: Kit) -> list[Part]:
    """Return everything from collar to shoes, and the bare legs and arms under it."""
    parts = [_top(kit)]
    for side in SIDES:
        parts += [_hand(kit, side), shoe(kit, side)]
    if kit.look.bottom in ("skirt", "dress"):
        parts += [skirt(kit), bare_legs(kit)]
    else:
        parts.append(trousers(kit))
        if kit.look.bottom == "shorts":
            parts.append(bare_legs(kit))
    if kit.look.top in ("jacket", "coat", "hoodie", "puffer", "suit", "shirt"):
        parts.append(_collar(kit))
    if kit.look.scarf:
        parts.append(_scarf(kit))
    return parts


def _top(kit: Kit) -> Part:
    """Return trunk and sleeves, with the opening in front in the color of what is beneath."""
    look, build, bones = kit.look, kit.build, kit.bones
    ease, _, depth = _TOPS[look.top]
    drop = HEMS[look.top]
    dress = look.bottom == "dress"
    drop = min(drop, 0.02) if dress else drop
    trunk = [anatomy.chest(build, bones, ease), anatomy.pelvis(build, bones, ease + 0.004)]
    sides = anatomy.shoulders(build, bones, ease * 0.8)
    arms = {side: _arm(kit, side) for side in SIDES}
    straight = [] if dress else [_straight(kit, ease, drop)]
    if look.top == "coat":
        straight += cone(kit, drop * build.scale, ease + 0.006, 0.10 * build.scale, 0.03)
    everything = [*trunk, *sides, *straight, *(solid for arm in arms.values() for solid in arm)]
    field = Field.around(everything, kit.cell)
    for solid in (*trunk, *straight):
        field.add(solid, 0.04)
    for solid in sides:
        field.add(solid, 0.035)
    pelvis = bones["pelvis"]
    field.above(pelvis.at(0, 0, -drop * build.scale), pelvis.frame[:, 2], 0.006)
    for side in SIDES:
        sleeve = Field.around(everything, kit.cell)
        for solid in arms[side]:
            sleeve.add(solid, 0.03)
        if kit.short_sleeves:
            upper = bones[f"upper_arm/{side}"]
            sleeve.above(upper.at(0, 0, -0.56 * upper.length), upper.frame[:, 2], 0.004)
        field.merge(sleeve, 0.006)
    vertices, faces = field.mesh()
    on_trunk = np.clip(1.5 - trunk[0].grown(0.01).distance(vertices) / 0.02, 0, 1)
    vertices, shift = _fold_top(kit, vertices, faces, depth)
    local = kit.local("chest", vertices)
    heat = warmth(kit.noise, vertices, shift) - (2.0 if look.top == "puffer" else 0.0)
    heat += 1.5 * np.exp(-(((local[:, 2] - bones["chest"].length) / 0.06) ** 2))
    heat -= 1.2 * (1 - on_trunk)
    tint = _front(kit, local, on_trunk)
    color = "bottom" if dress else "top"
    return kit.part("top", (vertices, faces), "cloth", color, "clothed_torso", heat=heat, tint=tint)


def _arm(kit: Kit, side: str) -> list[Loft]:
    """Return the two halves of a sleeve, the upper alone for short ones."""
    ease = _TOPS[kit.look.top][1]
    upper, fore = kit.bones[f"upper_arm/{side}"], kit.bones[f"forearm/{side}"]
    solids = [anatomy.upper_arm(kit.build, upper, ease)]
    if not kit.short_sleeves:
        solids.append(anatomy.forearm(kit.build, fore, ease, 0.006))
    return solids


def _straight(kit: Kit, ease: float, drop: float) -> Loft:
    """Return the tube in which a top hangs from the chest to its hem."""
    s, build = kit.build.scale, kit.build
    pelvis = kit.bones["pelvis"]
    girth = s * build.girth
    waist = 1 - 0.09 * build.feminine
    low = -min(drop, 0.12) * s - 0.03
    flare = 0.02 if kit.look.top in ("coat", "hoodie", "puffer") else 0.006
    rows = (
        (low, 0.110 * girth + ease + flare, 0.168 * girth + ease + flare, -0.006),
        (0.05 * s, 0.112 * girth + ease, 0.165 * girth + ease, -0.002),
        (0.18 * s, 0.104 * girth + ease, 0.150 * girth * waist + ease, 0.004),
        (0.30 * s, 0.096 * girth + ease, 0.142 * girth * waist + ease, 0.006),
    )
    return Loft(pelvis.origin, pelvis.frame, rows, (0.03, 0.10), 2.4)


def _fold_top(kit: Kit, vertices: Array, faces: np.ndarray, depth: float) -> tuple[Array, Array]:
    """Return the folded top; a puffer jacket is quilted as well."""
    bones = kit.bones
    creases = [
        Crease(
            bones["chest"],
            ((-0.1, 1.1 * depth), (0.2, depth), (0.6, 0.6 * depth), (1.0, 0.5 * depth)),
            (0.075, 0.20),
            0.9,
            up=True,
        ),
        Crease(
            bones["pelvis"],
            ((-0.6, 0.8 * depth), (0.5, 1.2 * depth), (1, 1.5 * depth)),
            (0.07, 0.20),
            0.3,
            up=True,
        ),
    ]
    for side in SIDES:
        upper, fore = bones[f"upper_arm/{side}"], bones[f"forearm/{side}"]
        bend = ((0, 0.7 * depth), (0.4, depth), (0.75, 1.5 * depth), (1, 1.8 * depth))
        creases.append(Crease(upper, bend, (0.055, 0.13)))
        bend = ((0, 1.8 * depth), (0.3, depth), (0.75, 0.8 * depth), (1, 1.5 * depth))
        creases.append(Crease(fore, bend, (0.05, 0.13)))
    moved, shift = fold(vertices, faces, creases, kit.noise, 0.5 * depth)
    if kit.look.top == "coat":
        reach = (0.02, -HEMS["coat"] * kit.build.scale)
        moved, sway = hang(moved, faces, bones["pelvis"], reach, kit.noise, 0.018, 6.0)
        shift = shift + 0.5 * sway
    if kit.look.top == "puffer":
        local = kit.local("chest", vertices)
        quilt = 0.012 * np.sqrt(np.abs(np.sin(np.pi * local[:, 2] / 0.075))) - 0.008
        moved = moved + vertex_normals(vertices, faces) * quilt[:, None]
        shift = shift + quilt
    return moved.astype(np.float32), shift.astype(np.float32)


def _front(kit: Kit, local: Array, on_trunk: Array) -> Array:
    """Return the colors of the top: an open front, stripes, a print or a yoke."""
    look, bone = kit.look, kit.bones["chest"]
    base = kit.color("bottom" if look.bottom == "dress" else "top")
    tint: Array = np.repeat(np.array([base], np.float32), len(local), 0)
    inner = np.array(kit.color("inner"), np.float32)
    height = local[:, 2] / bone.length
    front = on_trunk * np.clip(0.5 + (local[:, 0] - 0.03) / kit.cell, 0, 1)
    kind = look.seed % 5

    def paint(distance: Array, color: npt.ArrayLike) -> None:
        """Blend a color in where the distance is negative, over one step of the grid."""
        share = (front * np.clip(0.5 - distance / (1.3 * kit.cell), 0, 1))[:, None]
        tint[:] = tint * (1 - share) + share * np.asarray(color, np.float32)

    across = np.abs(local[:, 1])
    if look.top in ("suit", "coat", "jacket") and kind < 3:
        low = {"suit": 0.45, "coat": 0.62, "jacket": 0.72 if kind else -0.6}[look.top]
        width = 0.055 * kit.build.scale * (height - low) / (1 - low)
        if low < 0:
            width = 0.030 + 0.05 * np.clip(height, 0, 1)
        paint(across - width, inner)
        if look.top == "suit" and kind == 0:
            paint(np.maximum(across - width, across - 0.016), (0.03, 0.012, 0.02))
    elif look.top in ("tshirt", "hoodie", "shirt") and kind == 0:
        band = np.clip(0.5 - 2 * np.sin(2 * np.pi * local[:, 2] / 0.09), 0, 1)[:, None]
        tint = tint * (1 - 0.5 * band) + 0.5 * band * inner
    elif look.top in ("tshirt", "hoodie") and kind == 1:
        mark = np.maximum(across - 0.085, np.abs(height - 0.62) * bone.length - 0.05)
        paint(mark, inner)
    elif look.top in ("jacket", "puffer") and kind == 4:
        yoke = np.clip(0.5 + (height - 0.62) * bone.length / kit.cell, 0, 1)[:, None]
        tint = tint * (1 - yoke) + yoke * inner
    return tint


def _hand(kit: Kit, side: str) -> Part:
    """Return a hand, with the bare forearm under a short sleeve."""
    build, bones = kit.build, kit.bones
    number = SIDES.index(side)
    solids = anatomy.hand(build, bones[f"hand/{side}"], kit.pose.curl[number], 1 - 2 * number)
    fingers = len(solids)
    if kit.short_sleeves:
        solids.append(anatomy.forearm(build, bones[f"forearm/{side}"]))
        solids.append(anatomy.upper_arm(build, bones[f"upper_arm/{side}"]))
    field = Field.around(solids, kit.cell * 0.68)
    for k, solid in enumerate(solids):
        field.add(solid, 0.003 if 1 <= k < fingers - 2 else 0.012)
    vertices, faces = field.mesh(relax=1)
    down = -kit.local(f"hand/{side}", vertices)[:, 2] / build.scale
    cold = -2.5 * np.clip((down - 0.05) / 0.12, 0, 1) - 2.0 * (down < -0.03)
    return kit.part(f"hand_{side}", (vertices, faces), "skin", "skin", "skin", heat=cold)


def _collar(kit: Kit) -> Part:
    """Return a collar, or the hood of a hoodie lying on the back."""
    build, bones = kit.build, kit.bones
    neck = bones["neck"]
    ease = {"suit": 0.012, "shirt": 0.008}.get(kit.look.top, 0.020)
    solid = anatomy.neck(build, bones, ease)
    field = Field.around([solid], kit.cell * 0.7).add(solid, 0)
    tall = {"suit": 0.024, "shirt": 0.022, "hoodie": 0.02}.get(kit.look.top, 0.035)
    tilt = neck.frame @ np.array([0.75, 0, -1.0], np.float32)
    field.above(neck.at(0, 0, tall * build.scale), tilt, 0.004)
    if kit.look.top == "hoodie" and kit.look.headwear != "hood":
        s = build.scale
        rows = (
            (-0.06, 0.035, 0.075, -0.075),
            (0.02, 0.055, 0.10, -0.065),
            (0.06, 0.04, 0.08, -0.055),
        )
        hood = Loft(neck.origin, neck.frame, anatomy.scaled(rows, s, s), (0.03, 0.02))
        bigger = Field.around([solid, hood], kit.cell * 0.7).add(solid, 0).add(hood, 0.03)
        bigger.above(neck.at(0.02, 0, tall * s * 1.4), tilt, 0.004)
        return kit.part(
            "collar", kit.rough(bigger.mesh(), 0.006, 0.05), "cloth", "top", "clothed_torso"
        )
    color = "inner" if kit.look.top == "suit" else "top"
    if kit.look.bottom == "dress":
        color = "bottom"
    return kit.part("collar", kit.rough(field.mesh(), 0.003, 0.05), "cloth", color, "clothed_torso")


def _scarf(kit: Kit) -> Part:
    """Return a scarf around the neck."""
    solid = anatomy.neck(kit.build, kit.bones, 0.034)
    neck = kit.bones["neck"]
    field = Field.around([solid], kit.cell * 0.8).add(solid, 0)
    field.above(neck.at(0, 0, 0.075 * kit.build.scale), neck.frame @ np.array([0.2, 0, -1]), 0.02)
    return kit.part(
        "scarf", kit.rough(field.mesh(), 0.012, 0.04), "cloth", "scarf", "clothed_torso"
    )
