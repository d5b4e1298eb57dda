"""One vehicle as parts, by its kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.world.part import Part
from experiments.world.vehicles.car_specs import CARS
from experiments.world.vehicles.cars import build_car
from experiments.world.vehicles.cycles import build_bicycle, build_motorcycle
from experiments.world.vehicles.frame import Bay, Color, sample_paint
from experiments.world.vehicles.heavy import build_bus, build_truck

CELL = 0.042
KINDS = (
    "hatchback",
    "sedan",
    "suv",
    "wagon",
    "van",
    "minibus",
    "truck",
    "bus",
    "bicycle",
    "motorcycle",
)


def build_vehicle(
    rng: np.random.Generator,
    kind: str = "car",
    *,
    position: tuple[float, float, float] = (0.0, 0.0, 0.0),
    heading: float = 0.0,
    instance: int = 1,
    running: bool = False,
    lights: bool = False,
    paint: Color | None = None,
    detail: float = 1.0,
    phase: float = 0.0,
) -> list[Part]:
    """Build a vehicle.

    Args:
        rng: source of randomness for what is not given.
        kind: one of :data:`KINDS`, or ``car`` for one of the four cars.
        position: point of the ground under the middle of the vehicle, in meters.
        heading: direction of travel in radians, counter-clockwise from the x axis.
        instance: number of the vehicle in the scene.
        running: whether engine, tires and exhaust are warm.
        lights: whether the lamps (and the windows of a bus) shine.
        paint: albedo of the body; drawn as on real streets if None.
        detail: 1 for about 30,000 vertices of a car; 0.6 is enough below 100 pixels of width.
        phase: turn of a bicycle's cranks in [0, 1).

    Returns:
        Parts whose label is ``car`` (also for vans), ``truck``, ``bus``, ``bicycle`` or
        ``motorcycle``.

    Raises:
        ValueError: for an unknown kind, or ``detail`` not above 0.

    Example:
        >>> parts = build_vehicle(np.random.default_rng(0), "sedan", running=True, detail=0.5)
        >>> "hood_warm" in {part.heat for part in parts}
        True
    """
    if detail <= 0:
        raise ValueError(f"detail must be > 0, got {detail}")
    if kind == "car":
        kind = str(rng.choice(["hatchback", "sedan", "suv", "wagon"], p=[0.34, 0.26, 0.28, 0.12]))
    if kind not in KINDS:
        raise ValueError(f"kind must be car or one of {', '.join(KINDS)}, got {kind!r}")
    paint = sample_paint(rng) if paint is None else paint
    label = "car" if kind in CARS else kind
    bay = Bay(kind, instance, running, lights, paint, CELL / detail, label)
    if kind in CARS:
        parts = build_car(bay, CARS[kind], rng)
    elif kind == "bus":
        parts = build_bus(bay, rng)
    elif kind == "truck":
        parts = build_truck(bay, rng)
    elif kind == "bicycle":
        parts = build_bicycle(bay, rng, phase)
    else:
        parts = build_motorcycle(bay, rng)
    c, s = np.cos(heading), np.sin(heading)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    shift = np.asarray(position, np.float32)
    return [replace(part, vertices=part.vertices @ turned.T + shift) for part in parts]
