"""One person as parts, from a look and a pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.world.part import Part
from experiments.world.people.carried import build_carried
from experiments.world.people.clothes import build_clothes
from experiments.world.people.head import build_head
from experiments.world.people.kit import Kit
from experiments.world.people.look import Look, sample_look
from experiments.world.people.poses import carrying, riding, sitting, standing, walking
from experiments.world.people.skeleton import Pose, solve
from experiments.world.surface import Noise
from experiments.world.vehicles.cycles import contacts

CELL = 0.0150


def build_person(
    rng: np.random.Generator,
    pose: str | Pose = "walking",
    *,
    position: tuple[float, float, float] = (0.0, 0.0, 0.0),
    heading: float = 0.0,
    instance: int = 1,
    look: Look | None = None,
    phase: float | None = None,
    detail: float = 1.0,
) -> list[Part]:
    """Build a person.

    Args:
        rng: source of randomness for the look and the pose, where they are not given.
        pose: a :class:`Pose`, or ``walking``, ``standing``, ``standing:KIND`` with a kind of
            :func:`poses.standing`, ``sitting``, ``riding:bicycle`` or ``riding:motorcycle`` (at
            the position and heading of the cycle), ``walking:WHAT`` with something of
            :func:`poses.carrying`. What the look carries changes the arms of a named pose.
        position: point of the ground under the person, in meters.
        heading: direction of view in radians, counter-clockwise from the x axis.
        instance: number of the person in the scene.
        look: build and clothes; drawn from ``rng`` if None.
        phase: of the step cycle for ``walking``, 0 to 1; drawn if None.
        detail: 1 for about 22,000 vertices, 0.7 for 11,000 (enough below 150 pixels of height),
            0.5 for 5,500 (below 60 pixels).

    Returns:
        Parts with label ``person``, for skin, hair and clothes.

    Raises:
        ValueError: for an unknown pose, or ``detail`` not above 0.

    Example:
        >>> parts = build_person(np.random.default_rng(0), "walking", phase=0.2, detail=0.5)
        >>> {part.label for part in parts}
        {'person'}
    """
    if detail <= 0:
        raise ValueError(f"detail must be > 0, got {detail}")
    look = sample_look(rng) if look is None else look
    stance = named_pose(rng, pose, look, phase) if isinstance(pose, str) else pose
    if stance.name.startswith(("sitting", "riding")):
        look = look.riding(helmet="motorcycle" in stance.name or look.headwear == "helmet")
    if "umbrella" in stance.name:
        look = replace(look, carried="umbrella")
    bones = solve(look.build, stance)
    cell = CELL * (0.6 + 0.4 * look.build.scale) / detail
    kit = Kit(look, stance, bones, Noise(look.seed), cell, instance)
    parts = [*build_head(kit), *build_clothes(kit), *build_carried(kit)]
    return place(parts, position, heading)


def named_pose(rng: np.random.Generator, name: str, look: Look, phase: float | None = None) -> Pose:
    """Return the pose of a name, with the arms changed for what the look carries."""
    kind, _, detail = name.partition(":")
    if kind == "walking":
        pose = walking(rng, phase, stride=float(rng.uniform(0.75, 1.05)))
    elif kind == "standing":
        pose = standing(rng, detail or None)
    elif kind == "sitting":
        return sitting(rng, look.build)
    elif kind == "riding":
        touch = contacts(detail or "bicycle", 0.0 if phase is None else phase)
        return riding(
            touch.saddle,
            touch.grips,
            touch.pedals,
            lean=touch.lean,
            build=look.build,
            name=f"riding a {detail or 'bicycle'}",
        )
    else:
        raise ValueError(
            "pose must be walking, walking:WHAT, standing, standing:KIND, sitting or "
            f"riding:KIND, got {name!r}"
        )
    what = detail if kind == "walking" and detail else look.carried
    return carrying(pose, what, look.build)


def place(parts: list[Part], position: tuple[float, float, float], heading: float) -> list[Part]:
    """Return the parts turned by ``heading`` about z and moved to ``position``."""
    c, s = np.cos(heading), np.sin(heading)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    shift = np.asarray(position, np.float32)
    return [replace(part, vertices=part.vertices @ turned.T + shift) for part in parts]
