"""Skeletons: lengths of bones by height and age, and forward kinematics of a pose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from experiments.world.surface import Array, frame_along

SIDES = ("left", "right")


@dataclass(frozen=True)
class Build:
    """Hold the measures of a body, in meters unless said otherwise.

    Attributes:
        height: from sole to crown.
        girth: factor on the widths of trunk and limbs, 1 for average.
        feminine: 0 to 1, wider hips, narrower shoulders.
    """

    height: float
    girth: float = 1.0
    feminine: float = 0.0

    @property
    def scale(self) -> float:
        """Return the height relative to 1.75 m."""
        return self.height / 1.75

    @property
    def head(self) -> float:
        """Return the factor on the head, which grows less than the body does."""
        return float(np.clip(1 - 0.28 * (1.75 - self.height), 0.8, 1.03))

    @property
    def shoulder(self) -> float:
        """Return half the distance between the shoulder joints."""
        return 0.172 * self.scale * (1 - 0.09 * self.feminine) * (0.75 + 0.25 * self.girth)

    @property
    def hip(self) -> float:
        """Return half the distance between the hip joints."""
        return 0.088 * self.scale * (1 + 0.06 * self.feminine)

    @property
    def lengths(self) -> dict[str, float]:
        """Return the lengths of the bones."""
        head = 0.225 * self.head
        trunk_and_legs = self.height - head
        unit = trunk_and_legs / (1.75 - 0.225)
        return {
            "shin": 0.415 * unit,
            "thigh": 0.425 * unit,
            "ankle": 0.08 * unit,
            "pelvis": 0.17 * unit,
            "chest": 0.345 * unit,
            "neck": 0.075 * unit + 0.045 * self.head,
            "upper_arm": 0.295 * unit,
            "forearm": 0.255 * unit,
        }


@dataclass
class Pose:
    """Hold the angles of the joints in degrees, left and right in this order.

    Attributes:
        lean, side, yaw: of the trunk: forward, to the left, and turned to the left.
        pelvis_yaw, pelvis_pitch: turn and forward tilt of the hips.
        nod, look: head forward and turned to the left.
        shoulder: flexion (arm forward), abduction (arm outward), twist (forearm inward).
        elbow: flexion.
        hip: flexion (thigh forward), abduction, twist outward.
        knee, ankle: flexion; a positive ankle lifts the toes.
        curl: how far the fingers are closed, 0 to 1.
        hand_at, foot_at: targets of wrists and ankles in meters, in place of angles.
        pelvis_at: place of the hips; None lets the lower foot stand on the ground.
        name: what the person does, for captions.
    """

    lean: float = 2.0
    side: float = 0.0
    yaw: float = 0.0
    pelvis_yaw: float = 0.0
    pelvis_pitch: float = 0.0
    nod: float = 0.0
    look: float = 0.0
    shoulder: list[list[float]] = field(default_factory=lambda: [[2, 9, 14], [2, 9, 14]])
    elbow: list[float] = field(default_factory=lambda: [14.0, 14.0])
    hip: list[list[float]] = field(default_factory=lambda: [[0, 3, 6], [0, 3, 6]])
    knee: list[float] = field(default_factory=lambda: [3.0, 3.0])
    ankle: list[float] = field(default_factory=lambda: [0.0, 0.0])
    curl: list[float] = field(default_factory=lambda: [0.4, 0.4])
    hand_at: list[tuple[float, float, float] | None] = field(default_factory=lambda: [None, None])
    foot_at: list[tuple[float, float, float] | None] = field(default_factory=lambda: [None, None])
    pelvis_at: tuple[float, float, float] | None = None
    name: str = "standing"


@dataclass(frozen=True)
class Bone:
    """Hold where a bone starts and its frame: u forward, v left, w up (against its direction)."""

    origin: Array
    frame: Array
    length: float

    @property
    def end(self) -> Array:
        """Return the far end of a bone that hangs down along -w."""
        return self.origin - self.length * self.frame[:, 2]

    def at(self, u: float, v: float, w: float) -> Array:
        """Return a point given in the frame of the bone."""
        return (self.origin + self.frame @ np.array([u, v, w], np.float32)).astype(np.float32)


Skeleton = dict[str, Bone]


def turn(axis: str, degrees: float) -> Array:
    """Return the rotation by ``degrees`` about x, y or z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis], np.float32)


def solve(build: Build, pose: Pose) -> Skeleton:
    """Return the bones of a pose, x forward, y left, z up, the lower sole on z = 0.

    Args:
        build: measures of the body.
        pose: angles and targets.

    Returns:
        Bones ``pelvis``, ``chest``, ``neck``, ``head`` and, with ``.left`` and ``.right`` after a
        slash (``thigh/left``), thigh, shin, foot, upper_arm, forearm and hand.
    """
    free = _trunk(build, pose, np.zeros(3, np.float32))
    _legs(build, pose, free, targets=False)
    drop = min(_sole(build, free[f"foot/{side}"]) for side in SIDES)
    root = np.array([0.0, 0.0, -drop], np.float32)
    if pose.pelvis_at is not None:
        root = np.array(pose.pelvis_at, np.float32)
    bones = _trunk(build, pose, root)
    _legs(build, pose, bones, targets=True)
    _arms(build, pose, bones)
    return bones


def _trunk(build: Build, pose: Pose, root: Array) -> Skeleton:
    """Return pelvis, chest, neck and head above the middle of the hips."""
    size = build.lengths
    hips = turn("z", pose.pelvis_yaw) @ turn("y", pose.pelvis_pitch)
    trunk = turn("z", pose.yaw) @ turn("y", pose.lean) @ turn("x", -pose.side)
    waist = root + hips[:, 2] * size["pelvis"]
    collar = waist + trunk[:, 2] * size["chest"]
    neck = trunk @ turn("y", 14 - 0.4 * pose.lean + 0.5 * pose.nod)
    skull = collar + neck[:, 2] * size["neck"]
    face = turn("z", pose.yaw + pose.look) @ turn("y", 0.4 * pose.lean + pose.nod)
    return {
        "pelvis": Bone(root, hips, size["pelvis"]),
        "chest": Bone(waist, trunk, size["chest"]),
        "neck": Bone(collar, neck, size["neck"]),
        "head": Bone(skull, face, 0.2 * build.head),
    }


def _legs(build: Build, pose: Pose, bones: Skeleton, *, targets: bool) -> None:
    """Add thighs, shins and feet."""
    size, pelvis = build.lengths, bones["pelvis"]
    for i, side in enumerate(SIDES):
        sign = 1 - 2 * i
        start = pelvis.at(0, sign * build.hip, 0)
        flexion, out, twist = pose.hip[i]
        frame = pelvis.frame @ turn("y", -flexion) @ turn("x", sign * out) @ turn("z", sign * twist)
        lower = frame @ turn("y", pose.knee[i])
        target = pose.foot_at[i]
        if targets and target is not None:
            hint = pelvis.frame @ np.array([1, sign * np.tan(np.radians(out)), 0], np.float32)
            frame, lower = reach(start, np.array(target), size["thigh"], size["shin"], hint)
        thigh = Bone(start, frame, size["thigh"])
        shin = Bone(thigh.end, lower, size["shin"])
        foot = lower @ turn("y", -pose.ankle[i])
        if targets and target is not None:
            level = np.array([0.0, 0.0, 1.0])
            foot = frame_along(level, lower[:, 0] + 0.5 * frame[:, 0]) @ turn("y", -pose.ankle[i])
        bones |= {f"thigh/{side}": thigh, f"shin/{side}": shin}
        bones[f"foot/{side}"] = Bone(shin.end, foot, size["ankle"])


def _arms(build: Build, pose: Pose, bones: Skeleton) -> None:
    """Add upper arms, forearms and hands."""
    size, chest = build.lengths, bones["chest"]
    for i, side in enumerate(SIDES):
        sign = 1 - 2 * i
        start = chest.at(-0.005, sign * build.shoulder, size["chest"] - 0.068 * build.scale)
        flexion, out, twist = pose.shoulder[i]
        turned = turn("y", -flexion) @ turn("x", sign * out) @ turn("z", -sign * twist)
        frame = chest.frame @ turned
        lower = frame @ turn("y", -pose.elbow[i])
        target = pose.hand_at[i]
        if target is not None:
            hint = chest.frame @ np.array([-0.6, 0.6 * sign, -0.9], np.float32)
            goal = np.array(target, np.float32)
            frame, lower = reach(start, goal, size["upper_arm"], size["forearm"], hint)
            frame = frame_along(frame[:, 2], -frame[:, 0])
            lower = frame_along(lower[:, 2], -lower[:, 0])
        upper = Bone(start, frame, size["upper_arm"])
        fore = Bone(upper.end, lower, size["forearm"])
        bones |= {f"upper_arm/{side}": upper, f"forearm/{side}": fore}
        bones[f"hand/{side}"] = Bone(fore.end, lower, 0.18 * build.scale)


def _sole(build: Build, foot: Bone) -> float:
    """Return the height of the lowest point of the sole."""
    length = build.lengths["ankle"]
    s = build.scale
    points = ((-0.074, 0.004), (0.13, 0.0), (0.19, 0.010))
    return float(min(foot.at(u * s, 0, w * s - length)[2] for u, w in points))


def reach(
    start: Array, goal: npt.ArrayLike, upper: float, lower: float, hint: Array
) -> tuple[Array, Array]:
    """Return the frames of two bones from ``start`` to ``goal``, the joint toward ``hint``."""
    way = np.asarray(goal, np.float64) - start
    distance = float(np.clip(np.linalg.norm(way), 0.05, 0.999 * (upper + lower)))
    axis = way / max(float(np.linalg.norm(way)), 1e-6)
    along = (distance**2 + upper**2 - lower**2) / (2 * distance)
    aside = np.sqrt(max(upper**2 - along**2, 0.0))
    out = hint - np.dot(hint, axis) * axis
    out = out / max(float(np.linalg.norm(out)), 1e-6)
    joint = start + along * axis + aside * out
    end = start + distance * axis
    return frame_along(start - joint, out), frame_along(joint - end, out)
