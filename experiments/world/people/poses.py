"""Poses: walking with its phase, standing, sitting, riding and carrying."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experiments.world.people.skeleton import Build, Pose

# One step cycle of a leg: phase from heel strike, then hip, knee and ankle in degrees
# (Perry, Gait Analysis, 1992, figures 7-1 to 9-1, read off at ten points).
_CYCLE = np.array(
    [
        [0.00, 28, 4, 2],
        [0.10, 22, 17, -4],
        [0.25, 6, 11, 4],
        [0.40, -8, 5, 9],
        [0.52, -13, 12, 8],
        [0.62, -5, 38, -16],
        [0.73, 14, 62, -8],
        [0.85, 28, 38, 0],
        [0.95, 30, 8, 2],
        [1.00, 28, 4, 2],
    ]
)


def walking(rng: np.random.Generator, phase: float | None = None, stride: float = 1.0) -> Pose:
    """Return a walker at ``phase`` of the step cycle, 0 to 1 from the left heel's strike."""
    at = float(rng.random()) if phase is None else phase % 1.0
    pose = Pose(name="walking", lean=3 * stride + 1)
    for i, shift in enumerate((0.0, 0.5)):
        t = (at + shift) % 1.0
        hip, knee, ankle = (float(np.interp(t, _CYCLE[:, 0], _CYCLE[:, k])) for k in (1, 2, 3))
        pose.hip[i] = [hip * stride, 1.0, 5.0]
        pose.knee[i] = knee * (0.6 + 0.4 * stride)
        pose.ankle[i] = ankle
        swing = -float(np.cos(2 * np.pi * (t - 0.04)))
        pose.shoulder[i] = [2 + 21 * swing * stride, 8, 16]
        pose.elbow[i] = 22 + 12 * max(swing, 0) * stride
    left = float(np.cos(2 * np.pi * at))
    pose.pelvis_yaw = -5 * left * stride
    pose.yaw = 6 * left * stride
    pose.side = 1.5 * float(np.sin(2 * np.pi * at))
    return pose


def standing(rng: np.random.Generator, kind: str | None = None) -> Pose:
    """Return somebody who stands: relaxed, pockets, phone, crossed, waiting, pointing, call."""
    kinds = ("relaxed", "pockets", "phone", "crossed", "waiting", "pointing", "call")
    kind = kind or str(rng.choice(kinds, p=[0.28, 0.2, 0.2, 0.08, 0.12, 0.04, 0.08]))
    pose = Pose(name="standing", look=float(rng.normal(0, 14)), lean=float(rng.normal(1, 1.5)))
    bent = int(rng.integers(2))
    pose.hip[bent] = [7, 6, 14]
    pose.knee[bent] = 13
    pose.hip[1 - bent] = [-1, 3, 7]
    pose.side = 2.5 * (1 - 2 * bent)
    if kind == "pockets":
        pose.shoulder = [[-8, 14, 34], [-8, 14, 34]]
        pose.elbow = [38, 38]
    elif kind == "phone":
        pose.shoulder[0] = [24, 6, 42]
        pose.elbow[0] = 98
        pose.nod, pose.look, pose.curl[0] = 24, 4, 0.7
    elif kind == "crossed":
        pose.shoulder = [[22, 10, 62], [26, 10, 62]]
        pose.elbow = [92, 86]
    elif kind == "waiting":
        pose.shoulder = [[8, 5, 38], [8, 5, 38]]
        pose.elbow = [42, 42]
    elif kind == "pointing":
        pose.shoulder[1] = [74, 12, 0]
        pose.elbow[1] = 12
    elif kind == "call":
        pose.shoulder[1] = [38, 22, 44]
        pose.elbow[1], pose.curl[1] = 140, 0.8
    return pose


def sitting(rng: np.random.Generator, build: Build, seat: float = 0.45) -> Pose:
    """Return somebody who sits with the seat at ``seat`` meters, the feet on the ground."""
    pose = Pose(name="sitting", lean=float(rng.uniform(-10, 16)), look=float(rng.normal(0, 14)))
    size = build.lengths
    seat = min(seat, size["shin"] + size["ankle"])
    height = seat + 0.085 * build.scale
    pose.pelvis_at = (0.0, 0.0, height)
    pose.pelvis_pitch = -8
    forward = size["thigh"] * 0.97
    for i, sign in enumerate((1, -1)):
        x = forward + float(rng.uniform(-0.08, 0.1))
        y = sign * (build.hip + float(rng.uniform(0.0, 0.05)))
        pose.foot_at[i] = (x, y, size["ankle"])
        pose.hip[i] = [85, 4, 0]
        pose.hand_at[i] = (0.62 * forward, sign * (build.hip + 0.03), height + 0.10 * build.scale)
    if rng.random() < 0.35:
        reach = (0.55 * forward, 0.04, height + 0.26 * build.scale)
        pose.hand_at[0], pose.nod, pose.lean = reach, 26, 8
    return pose


def riding(
    saddle: tuple[float, float, float],
    grips: tuple[tuple[float, float, float], tuple[float, float, float]],
    pedals: tuple[tuple[float, float, float], tuple[float, float, float]],
    *,
    lean: float,
    build: Build,
    name: str,
) -> Pose:
    """Return a rider by the places of saddle, grips and pedals (left, right) in meters."""
    pose = Pose(name=name, lean=lean, nod=-0.3 * lean, pelvis_pitch=0.5 * lean)
    ankle = build.lengths["ankle"]
    pose.pelvis_at = (saddle[0], saddle[1], saddle[2] + 0.09 * build.scale)
    for i in range(2):
        grip, pedal = grips[i], pedals[i]
        pose.hand_at[i] = (grip[0] - 0.05, grip[1], grip[2] + 0.035)
        pose.foot_at[i] = (pedal[0] - 0.09, pedal[1], pedal[2] + ankle + 0.015)
        pose.hip[i], pose.ankle[i], pose.curl[i] = [60, 4, 0], -6, 0.9
    return pose


def carrying(pose: Pose, what: str, build: Build) -> Pose:
    """Return ``pose`` with the arms changed for what is carried.

    Args:
        pose: walking or standing.
        what: ``bag`` or ``case`` (right hand), ``backpack``, ``shoulder_bag``, ``umbrella``
            (right hand up), ``child`` (left hand down and out), ``parent`` (right hand up).
        build: measures of the body.
    """
    if what in ("bag", "case"):
        pose.shoulder[1], pose.elbow[1], pose.curl[1] = [pose.shoulder[1][0] * 0.3, 6, 8], 6, 0.9
        pose.side += 2
    elif what == "umbrella":
        pose.shoulder[1], pose.elbow[1], pose.curl[1] = [32, 6, 36], 100, 0.9
    elif what == "child":
        pose.shoulder[0], pose.elbow[0], pose.curl[0] = [6, 18, 0], 8, 0.6
    elif what == "parent":
        pose.shoulder[1], pose.elbow[1], pose.curl[1] = [10, 122, 0], 12, 0.6
    pose.name = pose.name if what == "none" else f"{pose.name} with {what.replace('_', ' ')}"
    return pose


POSES: dict[str, Callable[..., Pose]] = {"walking": walking, "standing": standing}
