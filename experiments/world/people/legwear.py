"""What is worn below: trousers, skirts, the tails of coats, shoes, and the legs beneath."""

from __future__ import annotations

import numpy as np

from experiments.world.part import Part
from experiments.world.people import anatomy
from experiments.world.people.folds import Crease, fold, hang, warmth
from experiments.world.people.kit import Kit, Mesh
from experiments.world.people.skeleton import SIDES, Bone
from experiments.world.surface import Field, Loft

# How far below the hips of a 1.75 m body each top ends, in meters.
HEMS = {
    "tshirt": 0.08,
    "shirt": 0.10,
    "hoodie": 0.08,
    "jacket": 0.11,
    "suit": 0.14,
    "puffer": 0.09,
    "coat": 0.42,
}
_LEGS = {  # ease at hip, thigh, knee and cuff
    "trousers": (0.010, 0.014, 0.018, 0.036),
    "jeans": (0.008, 0.009, 0.013, 0.024),
    "leggings": (0.004, 0.003, 0.003, 0.004),
    "shorts": (0.012, 0.026, 0.030, 0.03),
}


def trousers(kit: Kit) -> Part:
    """Return both legs of the trousers with the seat."""
    look, build, bones = kit.look, kit.build, kit.bones
    hip, top, knee, cuff = _LEGS[look.bottom]
    seat = anatomy.pelvis(build, bones, hip)
    legs = {side: _leg(kit, side, (top, knee, cuff)) for side in SIDES}
    everything = [seat, *(solid for pair in legs.values() for solid in pair)]
    whole = None
    for side in SIDES:
        field = Field.around(everything, kit.cell).add(seat, 0)
        for solid in legs[side]:
            field.add(solid, 0.045)
        _cut_leg(kit, field, side)
        whole = field if whole is None else whole.merge(field, 0.012)
    assert whole is not None
    waist = bones["pelvis"]
    hem = min(HEMS[look.top], 0.25) if look.bottom == "shorts" else HEMS[look.top]
    high = (0.05 - hem) * build.scale
    whole.above(waist.at(0, 0, high), -waist.frame[:, 2], 0.004)
    vertices, faces = whole.mesh()
    depth = {"trousers": 0.009, "jeans": 0.010, "leggings": 0.003, "shorts": 0.010}[look.bottom]
    vertices, shift = fold(vertices, faces, _leg_creases(kit, depth), kit.noise, 0.5 * depth)
    tight = np.zeros(len(vertices), np.float32)
    for side in SIDES:
        local = kit.local(f"thigh/{side}", vertices)
        tight = np.maximum(tight, np.exp(-((local[:, 2] / 0.3) ** 2)) * (local[:, 0] > 0))
    heat = 1.2 * tight + warmth(kit.noise, vertices, shift)
    tint = None
    if look.bottom == "jeans":
        fade = 1 + 0.45 * tight + 0.2 * kit.noise(vertices / 0.09) - 25 * np.minimum(shift, 0.01)
        tint = np.outer(np.clip(fade, 0.6, 2), kit.color("bottom"))
    mesh = (vertices, faces)
    return kit.part("trousers", mesh, "cloth", "bottom", "clothed_limb", heat=heat, tint=tint)


def _leg(kit: Kit, side: str, ease: tuple[float, float, float]) -> list[Loft]:
    """Return thigh and shin of a trouser leg, the thigh alone for shorts."""
    thigh, shin = kit.bones[f"thigh/{side}"], kit.bones[f"shin/{side}"]
    upper = anatomy.thigh(kit.build, thigh, ease[0])
    if kit.look.bottom == "shorts":
        return [upper]
    lower = anatomy.shin(kit.build, shin, ease[1], 0.03)
    low = lower.knots[0][0]
    rows = tuple(
        (w, u + (ease[2] - ease[1]) * (w / low) ** 2, v + (ease[2] - ease[1]) * (w / low) ** 2, c)
        for w, u, v, c in lower.knots
    )
    return [upper, Loft(lower.origin, lower.frame, rows, lower.caps)]


def _cut_leg(kit: Kit, field: Field, side: str) -> None:
    """Cut a trouser leg to its length at the cuff."""
    shin, thigh = kit.bones[f"shin/{side}"], kit.bones[f"thigh/{side}"]
    if kit.look.bottom == "shorts":
        field.above(thigh.at(0, 0, -0.82 * thigh.length), thigh.frame[:, 2], 0.005)
        return
    short = {"leggings": 0.93, "jeans": 1.0, "trousers": 1.05}[kit.look.bottom]
    field.above(shin.at(0, 0, -short * shin.length), shin.frame[:, 2], 0.005)


def _leg_creases(kit: Kit, depth: float) -> list[Crease]:
    """Return where trousers fold: at the groin, behind the knee and above the shoe."""
    creases = [
        Crease(kit.bones["pelvis"], ((-0.6, depth), (1, 0.5 * depth)), (0.07, 0.18), up=True)
    ]
    for side in SIDES:
        thigh, shin = kit.bones[f"thigh/{side}"], kit.bones[f"shin/{side}"]
        creases.append(
            Crease(
                thigh,
                ((0, 1.6 * depth), (0.3, 0.7 * depth), (0.7, 0.8 * depth), (1, 2 * depth)),
                (0.075, 0.17),
                0.5,
            )
        )
        creases.append(
            Crease(
                shin,
                (
                    (0, 2 * depth),
                    (0.25, 0.9 * depth),
                    (0.65, depth),
                    (0.9, 2.4 * depth),
                    (1.05, 2.4 * depth),
                ),
                (0.055, 0.15),
                0.35,
            )
        )
    return creases


def skirt(kit: Kit) -> Part:
    """Return a skirt from the waist to about the knee, wide enough for the stride."""
    pelvis, s = kit.bones["pelvis"], kit.build.scale
    long = (0.30 + 0.32 * ((kit.look.seed >> 3) % 4) / 3) * s
    if kit.look.top == "coat":
        long = max(long, (HEMS["coat"] + 0.04) * s)
    solids = cone(kit, long, 0.012, 0.16 * s, 0.04)
    field = Field.around(solids, kit.cell)
    for solid in solids:
        field.add(solid, 0.06)
    if kit.look.bottom == "skirt":
        high = (0.05 - HEMS[kit.look.top]) * s
        field.above(pelvis.at(0, 0, high), -pelvis.frame[:, 2], 0.004)
    vertices, faces = field.above(pelvis.at(0, 0, -long), pelvis.frame[:, 2], 0.004).mesh()
    pleats = 14.0 if kit.look.seed % 3 == 0 else 8.0
    vertices, shift = hang(vertices, faces, pelvis, (0.05, -long), kit.noise, 0.022, pleats)
    heat = -60 * shift + 0.5 * kit.noise(vertices / 0.12) - 1.0
    return kit.part("skirt", (vertices, faces), "cloth", "bottom", "clothed_limb", heat=heat)


def cone(kit: Kit, down: float, ease: float, top: float, flare: float) -> list[Loft]:
    """Return the solids of a tube from ``top`` to ``down`` below the hips, around both legs.

    Args:
        kit: the person.
        down: way from the hips to the hem, in meters.
        ease: distance from the body at the hips.
        top: way from the hips up to where the tube ends.
        flare: how much wider the hem is.
    """
    build, bones = kit.build, kit.bones
    pelvis, s = bones["pelvis"], build.scale
    knees = np.stack([kit.local("pelvis", bones[f"shin/{x}"].origin[None])[0] for x in SIDES])
    reach = min(1.0, down / max(build.lengths["thigh"], 1e-3))
    front = float(knees[:, 0].max()) * reach
    back = float(knees[:, 0].min()) * reach
    middle, half = (front + back) / 2, (front - back) / 2
    wide = max(0.15 * s * build.girth, float(np.abs(knees[:, 1]).max()) + 0.05 * s) + flare
    g = s * build.girth
    hem = 0.085 * s + half + flare
    rows = (
        (-down - 0.02, hem, wide, middle),
        (-0.5 * down, 0.100 * g + 0.6 * half + 0.5 * flare, 0.172 * g + 0.5 * flare, 0.5 * middle),
        (0.0, 0.114 * g + ease, 0.170 * g + ease, -0.008),
        (top, 0.098 * g + ease, 0.140 * g + ease, 0.008),
    )
    tube = Loft(pelvis.origin, pelvis.frame, rows, (0.03, 0.03), 2.2)
    legs = [anatomy.thigh(build, bones[f"thigh/{side}"], ease + 0.008) for side in SIDES]
    return [tube, *legs]


def bare_legs(kit: Kit) -> Part:
    """Return legs in tights or bare."""
    build, bones = kit.build, kit.bones
    solids = [anatomy.shin(build, bones[f"shin/{x}"], 0.0, 0.04) for x in SIDES]
    solids += [anatomy.thigh(build, bones[f"thigh/{x}"]) for x in SIDES]
    field = Field.around(solids, kit.cell * 0.9)
    for solid in solids:
        field.add(solid, 0.015)
    tights = kit.look.bottom != "shorts" and kit.look.seed % 2 == 0
    heat = "clothed_limb" if tights else "skin"
    color: str | tuple[float, ...] = (0.02, 0.018, 0.02) if tights else "skin"
    vertices, faces = field.mesh()
    cool = -4.5 + 1.2 * kit.noise(vertices / 0.1)
    material = "cloth" if tights else "skin"
    return kit.part(
        "legs", (vertices, faces), material, color, heat, heat=0.5 * cool if tights else cool
    )


def shoe(kit: Kit, side: str) -> Part:
    """Return a shoe with its sole."""
    foot: Bone = kit.bones[f"foot/{side}"]
    solids, point, up = anatomy.shoe(kit.build, foot)
    field = Field.around(solids, kit.cell * 0.8)
    for solid in solids:
        field.add(solid, 0.02)
    vertices, faces = field.above(point, up, 0.004).mesh()
    height = (vertices - point) @ up
    tint = np.repeat(np.array([kit.color("shoe")], np.float32), len(vertices), 0)
    tint[height < 0.022 * kit.build.scale] = kit.color("sole")
    heat = 2.5 * np.clip(height / 0.1, 0, 1) - 2.0
    mesh: Mesh = (vertices, faces)
    return kit.part(f"shoe_{side}", mesh, "shoe", "shoe", "shoe", heat=heat, tint=tint)
