"""What people carry: bags, backpacks, cases and umbrellas."""

from __future__ import annotations

import numpy as np

from experiments.world.part import Part
from experiments.world.people.kit import Kit, Mesh
from experiments.world.surface import Field, Loft, ball, rod


def build_carried(kit: Kit) -> list[Part]:
    """Return the parts of what the look carries, none for ``none``."""
    builders = {
        "backpack": _backpack,
        "shoulder_bag": _shoulder_bag,
        "bag": _bag,
        "case": _case,
        "umbrella": _umbrella,
    }
    kind = kit.look.carried
    if kind == "none":
        return []
    if kind not in builders:
        raise ValueError(f"carried must be none or one of {sorted(builders)}, got {kind!r}")
    return builders[kind](kit)


def _solid(kit: Kit, solids: list[Loft], blend: float, rough: float = 0.004) -> Mesh:
    """Return the mesh of joined solids with a little unevenness."""
    field = Field.around(solids, kit.cell * 0.9)
    for solid in solids:
        field.add(solid, blend)
    return kit.rough(field.mesh(), rough, 0.06)


def _backpack(kit: Kit) -> list[Part]:
    """Return a backpack with its straps."""
    chest, s = kit.bones["chest"], kit.build.scale
    back = -0.135 * kit.build.girth * s - 0.03
    rows = (
        (-0.08, 0.075, 0.145, back - 0.035),
        (0.05, 0.080, 0.150, back - 0.040),
        (0.22, 0.068, 0.140, back - 0.028),
        (0.30, 0.045, 0.110, back - 0.010),
    )
    sack = Loft(
        chest.origin,
        chest.frame,
        tuple((w * s, u * s, v * s, c) for w, u, v, c in rows),
        (0.03, 0.03),
        3.2,
    )
    pocket = ball(
        chest.at(back - 0.10 * s, 0, 0.02 * s), [0.035 * s, 0.11 * s, 0.09 * s], chest.frame
    )
    parts = [kit.part("backpack", _solid(kit, [sack, pocket], 0.012), "cloth", "carried", "bag")]
    straps = []
    for sign in (1, -1):
        y = sign * 0.105 * s
        over = chest.at(-0.01, y, chest.length + 0.02 * s)
        front = chest.at(0.15 * s * kit.build.girth, y * 1.05, 0.62 * chest.length)
        under = chest.at(0.03 * s, sign * 0.19 * s * kit.build.girth, 0.2 * chest.length)
        straps += [rod(over, front, 0.020, 0.020), rod(front, under, 0.020, 0.018)]
        straps.append(rod(chest.at(back, y, 0.28 * s), over, 0.02, 0.02))
    mesh = _solid(kit, straps, 0.01, 0.001)
    return [*parts, kit.part("straps", mesh, "cloth", "carried", "bag")]


def _shoulder_bag(kit: Kit) -> list[Part]:
    """Return a bag at the hip with its strap across the chest."""
    pelvis, chest, s = kit.bones["pelvis"], kit.bones["chest"], kit.build.scale
    side = 1 if kit.look.seed % 2 else -1
    wide = 0.20 * s * kit.build.girth + 0.05
    center = pelvis.at(0.03 * s, side * wide, 0.0)
    rows = ((-0.10, 0.14, 0.042, 0.0), (0.0, 0.145, 0.045, 0.0), (0.09, 0.125, 0.030, 0.0))
    bag = Loft(
        center,
        pelvis.frame,
        tuple((w * s, u * s, v * s, c) for w, u, v, c in rows),
        (0.02, 0.015),
        3.5,
    )
    shoulder = chest.at(-0.01, -side * 0.11 * s, chest.length + 0.025 * s)
    depth = 0.15 * s * kit.build.girth
    straps = []
    for sign in (1, -1):
        middle = chest.at(sign * depth, -side * 0.02 * s, 0.55 * chest.length)
        low = pelvis.at(sign * 0.10 * s, side * wide * 0.92, 0.09 * s)
        straps += [rod(shoulder, middle, 0.014, 0.014), rod(middle, low, 0.014, 0.014)]
    return [
        kit.part("bag", _solid(kit, [bag], 0.0), "cloth", "carried", "bag"),
        kit.part("strap", _solid(kit, straps, 0.008, 0.0), "cloth", "carried", "bag"),
    ]


def _bag(kit: Kit) -> list[Part]:
    """Return a shopping bag that hangs from the right hand."""
    hand, s = kit.bones["hand/right"], kit.build.scale
    grip = hand.at(0.0, 0.0, -0.10 * s)
    ahead = hand.frame[:, 0] * np.array([1, 1, 0], np.float32)
    ahead /= max(float(np.linalg.norm(ahead)), 1e-6)
    frame = np.stack([ahead, np.cross([0, 0, 1], ahead), [0, 0, 1]], axis=1).astype(np.float32)
    drop = grip - np.array([0, 0, 0.19 * s], np.float32)
    rows = ((-0.19, 0.145, 0.060, 0.0), (-0.05, 0.16, 0.075, 0.0), (0.10, 0.14, 0.03, 0.0))
    sack = Loft(
        drop, frame, tuple((w * s, u * s, v * s, c) for w, u, v, c in rows), (0.02, 0.01), 3.0
    )
    handles = [
        rod(drop + frame @ np.array([x * s, 0, 0.09 * s], np.float32), grip, 0.008, 0.008)
        for x in (-0.08, 0.08)
    ]
    field = Field.around([sack, *handles], kit.cell * 0.8)
    for solid in [sack, *handles]:
        field.add(solid, 0.006)
    mesh = kit.rough(field.mesh(), 0.008, 0.06)
    return [kit.part("bag", mesh, "plastic", "carried", "bag")]


def _case(kit: Kit) -> list[Part]:
    """Return a rolling case or briefcase at the right hand."""
    hand, s = kit.bones["hand/right"], kit.build.scale
    grip = hand.at(0.0, 0.0, -0.10 * s)
    ahead = hand.frame[:, 0] * np.array([1, 1, 0], np.float32)
    ahead /= max(float(np.linalg.norm(ahead)), 1e-6)
    frame = np.stack([ahead, np.cross([0, 0, 1], ahead), [0, 0, 1]], axis=1).astype(np.float32)
    center = grip - np.array([0, 0, 0.19 * s], np.float32)
    rows = ((-0.13, 0.20, 0.05, 0.0), (0.13, 0.20, 0.05, 0.0))
    body = Loft(
        center, frame, tuple((w * s, u * s, v * s, c) for w, u, v, c in rows), (0.015, 0.015), 8.0
    )
    handle = rod(grip - frame[:, 0] * 0.05, grip + frame[:, 0] * 0.05, 0.012, 0.012)
    return [kit.part("case", _solid(kit, [body, handle], 0.01, 0.0), "plastic", "carried", "bag")]


def _umbrella(kit: Kit) -> list[Part]:
    """Return an open umbrella over the head, held in the right hand."""
    hand, s = kit.bones["hand/right"], kit.build.scale
    grip = hand.at(0.0, 0.02, -0.08 * s)
    head = kit.bones["head"]
    top = np.array([*(0.55 * grip[:2] + 0.45 * head.origin[:2]), head.origin[2] + 0.52], np.float32)
    axis = (top - grip) / np.linalg.norm(top - grip)
    stick = rod(grip - axis * 0.12, top + axis * 0.04, 0.009, 0.006)
    parts = [kit.part("stick", _solid(kit, [stick], 0, 0.0), "metal", (0.1, 0.1, 0.1), "ambient")]
    return [*parts, kit.part("umbrella", _canopy(top, axis), "cloth", "carried", "bag")]


def _canopy(top: np.ndarray, axis: np.ndarray, radius: float = 0.52, ribs: int = 8) -> Mesh:
    """Return the cloth of an umbrella: eight panels that sag between the ribs."""
    rings, around = 10, ribs * 8
    r = np.linspace(0.0, 1.0, rings + 1)[:, None]
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)[None]
    sag = np.abs(np.sin(ribs * angle / 2))
    reach = radius * r * (1 - 0.05 * sag * r)
    height = -0.20 * r**2.2 - 0.02 * r * sag
    side = np.cross(axis, [0.0, 1.0, 0.0])
    side = side / np.linalg.norm(side)
    other = np.cross(axis, side)
    grid = (
        top
        + (reach * np.cos(angle))[..., None] * side
        + (reach * np.sin(angle))[..., None] * other
        + (height + 0 * angle)[..., None] * axis
    ).reshape(-1, 3)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(rings), np.arange(around), indexing="ij"))
    a, b = i * around + j, i * around + (j + 1) % around
    faces = np.concatenate(
        [np.stack([a, a + around, b], 1), np.stack([b, a + around, b + around], 1)]
    )
    return grid.astype(np.float32), faces.astype(np.int32)
