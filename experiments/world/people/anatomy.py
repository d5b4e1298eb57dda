"""Solids of the body by bone: trunk, arms, hands, legs, feet, neck and head."""

from __future__ import annotations

import numpy as np

from experiments.world.people.skeleton import Bone, Build, Skeleton
from experiments.world.surface import Array, Loft, ball, rod

Rows = tuple[tuple[float, float, float, float], ...]


def scaled(rows: Rows, along: float, across: float, ease: float = 0.0) -> Rows:
    """Return knots scaled along and across, and eased outward by ``ease`` meters."""
    return tuple(
        (w * along, u * across + ease, v * across + ease, c * across) for w, u, v, c in rows
    )


def hanging(bone: Bone, rows: Rows, caps: tuple[float, float], power: float = 2.0) -> Loft:
    """Return a loft along a bone that hangs down: ``w`` in ``rows`` is the way down the bone."""
    knots = tuple((-w, u, v, c) for w, u, v, c in reversed(rows))
    return Loft(bone.origin, bone.frame, knots, (caps[1], caps[0]), power)


def pelvis(build: Build, bones: Skeleton, ease: float = 0.0) -> Loft:
    """Return hips and seat up to the waist."""
    wide = 1 + 0.07 * build.feminine
    waist = 1 - 0.08 * build.feminine
    belly = 1 + 1.1 * max(build.girth - 1, 0)
    rows = (
        (-0.10, 0.080, 0.120 * wide, -0.015),
        (-0.02, 0.112, 0.168 * wide, -0.012),
        (0.06, 0.108, 0.166 * wide, -0.004),
        (0.12, 0.100 * belly, 0.150 * waist, 0.008 * belly),
        (0.19, 0.098 * belly, 0.140 * waist, 0.010 * belly),
    )
    across = build.scale * build.girth
    bone = bones["pelvis"]
    return Loft(bone.origin, bone.frame, scaled(rows, build.scale, across, ease), (0.05, 0.05), 2.3)


def chest(build: Build, bones: Skeleton, ease: float = 0.0) -> Loft:
    """Return the trunk from the waist to the collar."""
    bone = bones["chest"]
    narrow = 1 - 0.07 * build.feminine
    belly = 1 + 1.0 * max(build.girth - 1, 0)
    bust = 0.016 * build.feminine
    rows = (
        (-0.04, 0.096 * belly, 0.138 * narrow, 0.010 * belly),
        (0.08, 0.103, 0.145 * narrow, 0.006),
        (0.18, 0.120 + bust, 0.160 * narrow, 0.006 + 0.6 * bust),
        (0.25, 0.114, 0.160 * narrow, -0.002),
        (0.305, 0.090, 0.122 * narrow, -0.014),
        (0.345, 0.062, 0.078 * narrow, -0.014),
    )
    across = build.scale * build.girth
    along = bone.length / 0.345
    return Loft(bone.origin, bone.frame, scaled(rows, along, across, ease), (0.05, 0.025), 2.2)


def shoulders(build: Build, bones: Skeleton, ease: float = 0.0) -> list[Loft]:
    """Return the slopes from the neck to the shoulders and the caps of the shoulders."""
    solids = []
    size = build.scale * (0.7 + 0.3 * build.girth)
    collar = bones["chest"].at(-0.018, 0, bones["chest"].length * 1.0)
    for side in ("left", "right"):
        arm = bones[f"upper_arm/{side}"]
        toward = arm.at(-0.004, 0, 0.0)
        solids.append(rod(collar, toward, 0.046 * size + 0.5 * ease, 0.044 * size + 0.8 * ease))
        rows = ((0.0, 0.057, 0.055, 0.0), (0.11, 0.036, 0.034, 0.0))
        solids.append(hanging(arm, scaled(rows, build.scale, size, ease), (0.040, 0.06)))
    return solids


def upper_arm(build: Build, bone: Bone, ease: float = 0.0) -> Loft:
    """Return the arm from shoulder to elbow."""
    rows = (
        (0.0, 0.054, 0.052, 0.0),
        (0.09, 0.051, 0.047, 0.004),
        (0.18, 0.046, 0.042, 0.004),
        (0.295, 0.040, 0.040, 0.0),
    )
    across = build.scale * (0.55 + 0.45 * build.girth) * (1 - 0.1 * build.feminine)
    return hanging(bone, scaled(rows, bone.length / 0.295, across, ease), (0.04, 0.035))


def forearm(build: Build, bone: Bone, ease: float = 0.0, cuff: float = 0.02) -> Loft:
    """Return the arm from elbow to wrist."""
    rows = (
        (0.0, 0.041, 0.041, 0.0),
        (0.06, 0.044, 0.042, 0.004),
        (0.15, 0.036, 0.034, 0.002),
        (0.255, 0.028, 0.023, 0.0),
    )
    across = build.scale * (0.6 + 0.4 * build.girth) * (1 - 0.1 * build.feminine)
    return hanging(bone, scaled(rows, bone.length / 0.255, across, ease), (0.035, cuff))


def hand(build: Build, bone: Bone, curl: float, sign: int) -> list[Loft]:
    """Return palm, fingers and thumb; the palm faces the body."""
    s = build.scale * (0.75 + 0.25 * build.girth)
    palm = hanging(
        bone,
        scaled(
            ((-0.02, 0.027, 0.022, 0.0), (0.03, 0.036, 0.018, 0.004), (0.085, 0.041, 0.016, 0.004)),
            s,
            s,
        ),
        (0.012 * s, 0.012 * s),
        2.4,
    )
    solids = [palm]
    for k in range(4):
        u = (0.030 - 0.020 * k) * s
        root = bone.at(u + 0.004 * s, 0, -0.082 * s)
        length = (0.078, 0.086, 0.080, 0.062)[k] * s
        angle = np.radians(18 + 85 * curl + 5 * k)
        middle = _finger(bone, root, 0.5 * length, angle * 0.6, sign)
        tip = _finger(bone, middle, 0.55 * length, angle * 1.5, sign)
        solids.append(rod(root, middle, 0.0105 * s, 0.0095 * s))
        solids.append(rod(middle, tip, 0.0095 * s, 0.0078 * s))
    thumb = bone.at(0.030 * s, -sign * 0.006 * s, -0.022 * s)
    knuckle = bone.at(0.056 * s, -sign * 0.022 * s, -0.058 * s)
    solids.append(rod(thumb, knuckle, 0.016 * s, 0.0115 * s))
    end = bone.at(0.060 * s, -sign * 0.028 * s, -0.090 * s)
    solids.append(rod(knuckle, end, 0.0115 * s, 0.009 * s))
    return solids


def _finger(bone: Bone, root: Array, length: float, angle: float, sign: int) -> Array:
    """Return the end of a piece of a finger bent by ``angle`` toward the palm."""
    way = np.array([0.0, -sign * np.sin(angle), -np.cos(angle)], np.float32)
    return (root + bone.frame @ way * np.float32(length)).astype(np.float32)


def thigh(build: Build, bone: Bone, ease: float = 0.0) -> Loft:
    """Return the leg from hip to knee."""
    rows = (
        (0.0, 0.094, 0.088, -0.006),
        (0.10, 0.088, 0.082, 0.004),
        (0.25, 0.073, 0.068, 0.006),
        (0.38, 0.060, 0.056, 0.002),
        (0.425, 0.057, 0.054, 0.0),
    )
    across = build.scale * (0.35 + 0.65 * build.girth) * (1 + 0.03 * build.feminine)
    return hanging(bone, scaled(rows, bone.length / 0.425, across, ease), (0.06, 0.045))


def shin(build: Build, bone: Bone, ease: float = 0.0, cap: float = 0.03) -> Loft:
    """Return the leg from knee to ankle, with the calf behind."""
    rows = (
        (0.0, 0.056, 0.053, 0.0),
        (0.09, 0.058, 0.054, -0.010),
        (0.16, 0.055, 0.051, -0.012),
        (0.28, 0.041, 0.039, -0.004),
        (0.40, 0.034, 0.031, 0.0),
    )
    across = build.scale * (0.5 + 0.5 * build.girth) * (1 - 0.04 * build.feminine)
    return hanging(bone, scaled(rows, bone.length / 0.415, across, ease), (0.045, cap))


def shoe(build: Build, bone: Bone) -> tuple[list[Loft], Array, Array]:
    """Return the solids of a shoe, a point of its sole and the sole's normal."""
    s = build.scale
    depth = bone.length
    frame = np.stack([bone.frame[:, 2], -bone.frame[:, 1], bone.frame[:, 0]], axis=1)
    low = -(depth - 0.002)
    rows = (
        (-0.062, 0.046, 0.028, low + 0.020),
        (-0.035, 0.056, 0.036, low + 0.022),
        (0.02, 0.058, 0.038, low + 0.018),
        (0.07, 0.046, 0.043, low + 0.014),
        (0.13, 0.036, 0.048, low + 0.012),
        (0.175, 0.030, 0.040, low + 0.010),
    )
    knots = tuple((w * s, u * s, v * s, c) for w, u, v, c in rows)
    body = Loft(bone.origin, frame.astype(np.float32), knots, (0.018 * s, 0.040 * s), 2.5)
    top = hanging(
        bone,
        ((-0.01 * s, 0.046 * s, 0.038 * s, -0.008 * s), (0.05 * s, 0.050 * s, 0.037 * s, 0.0)),
        (0.006, 0.02),
    )
    return [body, top], bone.at(0, 0, -depth), bone.frame[:, 2]


def neck(build: Build, bones: Skeleton, ease: float = 0.0) -> Loft:
    """Return the neck from between the collar bones into the skull."""
    bone = bones["neck"]
    s = build.head * (0.75 + 0.25 * build.girth) * (1 - 0.1 * build.feminine)
    length = bone.length
    rows = (
        (-0.035, 0.064 * s + ease, 0.070 * s + ease, -0.004),
        (0.3 * length, 0.056 * s + ease, 0.056 * s + ease, 0.0),
        (length + 0.02, 0.060 * s + ease, 0.055 * s + ease, 0.0),
    )
    return Loft(bone.origin, bone.frame, rows, (0.02, 0.02))


def skull(build: Build, bones: Skeleton) -> tuple[list[Loft], list[Loft]]:
    """Return the solids of the head and those to be taken away (the sockets of the eyes)."""
    bone, s = bones["head"], build.head
    jaw = 1 - 0.06 * build.feminine
    f = bone.frame

    def egg(u: float, v: float, w: float, *radii: float) -> Loft:
        return ball(bone.at(u * s, v * s, w * s), [r * s for r in radii], f)

    rows = (
        (-0.046, 0.026, 0.024 * jaw, 0.058),
        (-0.024, 0.046, 0.046 * jaw, 0.040),
        (0.015, 0.064, 0.061 * jaw, 0.026),
        (0.060, 0.070, 0.067, 0.019),
        (0.110, 0.072, 0.068, 0.012),
    )
    face = Loft(bone.origin, f, scaled(rows, s, s), (0.010 * s, 0.03 * s), 2.15)
    solids = [
        egg(-0.004, 0, 0.096, 0.098, 0.077, 0.086),
        face,
        egg(0.076, 0, 0.088, 0.018, 0.052, 0.012),
        rod(
            bone.at(0.090 * s, 0, 0.074 * s),
            bone.at(0.108 * s, 0, 0.034 * s),
            0.008 * s,
            0.0125 * s,
        ),
        egg(0.087, 0, 0.004, 0.010, 0.024, 0.010),
        egg(0.076, 0, -0.036, 0.016, 0.020, 0.014),
    ]
    solids += [egg(0.070, sign * 0.040, 0.036, 0.018, 0.020, 0.018) for sign in (1, -1)]
    ears = [egg(-0.006, sign * 0.076, 0.052, 0.019, 0.009, 0.031) for sign in (1, -1)]
    sockets = [egg(0.098, sign * 0.033, 0.066, 0.014, 0.019, 0.012) for sign in (1, -1)]
    return solids + ears, sockets


def eyes(build: Build, bones: Skeleton) -> list[Loft]:
    """Return brows and eyes, dark at any distance."""
    bone, s, f = bones["head"], build.head, bones["head"].frame
    solids = []
    for sign in (1, -1):
        solids.append(ball(bone.at(0.076 * s, sign * 0.032 * s, 0.066 * s), [0.013 * s] * 3, f))
        brow = [0.005 * s, 0.019 * s, 0.0045 * s]
        solids.append(ball(bone.at(0.0885 * s, sign * 0.034 * s, 0.087 * s), brow, f))
    return solids
