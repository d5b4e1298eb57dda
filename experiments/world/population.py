"""People and vehicles on the places that a layout offers."""

from __future__ import annotations

import numpy as np

from experiments.world.layouts.stage import Slot, Spot, Stage
from experiments.world.light import Lamp


def in_view(stage: Stage, position: tuple[float, float, float], near: float, far: float) -> bool:
    """Whether a place lies in front of the camera, within its angle of view."""
    origin, target, fov = stage.camera
    d = np.subtract(position, origin)[:2]
    f = np.subtract(target, origin)[:2]
    length, f = float(np.hypot(*d)), f / np.hypot(*f)
    if not near < length < far:
        return False
    return bool(np.degrees(np.arccos(np.clip(d @ f / length, -1, 1))) < fov * 0.5 + 4)


def _inside(slot: Slot, position: tuple[float, float, float]) -> bool:
    """Whether a place lies within a vehicle, or closer to it than a person fits."""
    d = np.subtract(position, slot.position)[:2]
    c, s = np.cos(slot.heading), np.sin(slot.heading)
    return bool(abs(c * d[0] + s * d[1]) < 3.2 and abs(-s * d[0] + c * d[1]) < 1.35)


def add_people(stage: Stage, count: int) -> int:
    """Build up to ``count`` people on spots that the camera sees; return how many."""
    from experiments.world.people.person import build_person

    rng = stage.rng
    high = stage.camera[0][2] > 3
    spots = [
        s
        for s in stage.spots
        if in_view(stage, s.position, 2.5 if stage.indoors else 5.0 if high else 4.0, 48.0)
    ]
    taken: list[Spot] = []
    for k in rng.permutation(len(spots)):
        spot = spots[k]
        close = any(np.hypot(*np.subtract(s.position, spot.position)[:2]) < 0.65 for s in taken)
        close = close or any(_inside(slot, spot.position) for slot in stage.taken)
        if close or len(taken) >= count:
            continue
        taken.append(spot)
        far = float(np.hypot(*np.subtract(spot.position, stage.camera[0])[:2]))
        pose = str(spot.poses[rng.integers(len(spot.poses))])
        stage.builder.extend(
            build_person(
                rng,
                pose,
                position=spot.position,
                heading=spot.heading,
                instance=stage.builder.new_instance(),
                detail=float(np.clip(11.0 / far, 0.42, 0.85)),
            )
        )
    return len(taken)


def add_vehicles(stage: Stage, most: int) -> int:
    """Build up to ``most`` vehicles, nearest slots first; return how many."""
    from experiments.world.vehicles.vehicle import build_vehicle

    rng = stage.rng

    def distance(slot: Slot) -> float:
        return float(np.hypot(*np.subtract(slot.position, stage.camera[0])[:2]))

    slots = sorted(
        (s for s in stage.slots if in_view(stage, s.position, 4.0 if stage.indoors else 5.5, 90)),
        key=distance,
    )[:most]
    for slot in slots:
        kind = str(slot.kinds[rng.integers(len(slot.kinds))])
        lights = slot.moving and stage.dark
        running = slot.moving or rng.random() < 0.12
        stage.builder.extend(
            build_vehicle(
                rng,
                kind,
                position=slot.position,
                heading=slot.heading,
                instance=stage.builder.new_instance(),
                running=running,
                lights=lights,
                detail=float(np.clip(12.0 / distance(slot), 0.3, 0.8)),
            )
        )
        if lights and kind in ("car", "van", "bus", "truck", "motorcycle"):
            _headlights(stage, slot, 1 if kind == "motorcycle" else 2)
    stage.taken = list(slots)
    return len(slots)


def _headlights(stage: Stage, slot: Slot, count: int) -> None:
    """Shine two beams forward and a little down."""
    c, s = np.cos(slot.heading), np.sin(slot.heading)
    x, y, z = slot.position
    for side in (-0.6, 0.6) if count == 2 else (0.0,):
        p = (x + 2.6 * c - side * s, y + 2.6 * s + side * c, z + 0.7)
        d = np.array([c, s, -0.035])
        d /= np.linalg.norm(d)
        stage.lamps.append(
            Lamp(p, (1.0, 0.95, 0.85), 40.0, (float(d[0]), float(d[1]), float(d[2])), 34.0)
        )
