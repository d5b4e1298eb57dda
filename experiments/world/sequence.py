"""A sequence: a still camera in a street where people walk and a car passes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from experiments.world.air import Air
from experiments.world.layouts.stage import Stage
from experiments.world.layouts.street import street
from experiments.world.light import Lamp, random_light
from experiments.world.part import Part
from experiments.world.people.look import Look, sample_look
from experiments.world.people.person import build_person
from experiments.world.population import add_vehicles, in_view
from experiments.world.scene import Camera, Scene
from experiments.world.thermal import Weather
from experiments.world.vehicles.vehicle import build_vehicle

FRAMES_PER_SECOND = 10.0
STRIDE = 1.45  # meters that a walker advances in one step cycle
SECONDS = 4.0  # that people stay in view
HEADLIGHT = (1.0, 0.95, 0.85)


@dataclass(frozen=True)
class Walker:
    """Somebody who walks straight on."""

    look: Look
    start: tuple[float, float, float]
    heading: float
    speed: float
    phase: float

    def at(self, seconds: float) -> tuple[tuple[float, float, float], float]:
        """Return position and phase of the step cycle after a time."""
        way = self.speed * seconds
        x, y, z = self.start
        position = (x + way * np.cos(self.heading), y + way * np.sin(self.heading), z)
        return position, (self.phase + way / STRIDE) % 1.0


class Sequence:
    """Draw the still part of a street once, and give the scene of every frame."""

    def __init__(self, seed: int, kind: str = "night", walkers: int = 6) -> None:
        rng = np.random.default_rng([seed, 40])
        dark = kind in ("night", "dusk")
        self.stage = Stage(rng, dark, False, "summer", 0.3 if dark else 0.02)
        street(self.stage)
        moving = [slot for slot in self.stage.slots if slot.moving]
        self.stage.slots = [slot for slot in self.stage.slots if not slot.moving]
        add_vehicles(self.stage, 8)
        self.walkers = self._choose(rng, walkers)
        lane = abs(moving[0].position[0]) if moving else 1.2
        self.side = float(rng.choice([-1.0, 1.0]))
        self.lane, self.car_seed = self.side * lane, int(rng.integers(1 << 30))
        self.first, self.speed = rng.uniform(26, 34), rng.uniform(6, 9)
        self.light = random_light(kind, rng)
        cloud = float(self.light.cloud)
        self.weather = Weather(float(rng.uniform(4, 16)), 0.6 * (not dark), cloud, 1.0)
        self.air = Air(fog=float(10 ** rng.uniform(-3.6, -2.8)), seed=seed)
        self.seed = int(rng.integers(1 << 31))
        self.still = self.stage.builder.parts()

    def _choose(self, rng: np.random.Generator, count: int) -> list[Walker]:
        """Choose people who stay in view: half of them those who come nearest, others by chance."""
        spots = [s for s in self.stage.spots if s.position[2] > 0.1]  # off the car's way
        found = []
        for spot in (spots[k] for k in rng.permutation(len(spots))):
            turn = np.pi * float(rng.integers(2))
            walker = Walker(
                sample_look(rng), spot.position, spot.heading + turn, rng.uniform(0.9, 1.5),
                rng.random(),
            )  # fmt: skip
            way = [walker.at(t)[0] for t in (0.0, SECONDS / 2, SECONDS)]
            near = min(float(np.hypot(*np.subtract(p, self.stage.camera[0])[:2])) for p in way)
            if all(in_view(self.stage, p, 5.0, 30.0) for p in way):
                found.append((near, walker))
        order = sorted(range(len(found)), key=lambda k: found[k][0])
        chosen: list[Walker] = []
        for queue, most in ((order, (count + 1) // 2), (rng.permutation(len(found)), count)):
            for walker in (found[k][1] for k in queue):
                apart = (np.hypot(*np.subtract(walker.start, w.start)[:2]) > 0.8 for w in chosen)
                if len(chosen) < most and all(apart):
                    chosen.append(walker)
        return chosen

    def _car(self, seconds: float, instance: int) -> tuple[list[Part], list[Lamp]]:
        """Build the passing car, towards the camera on its left and away from it on its right."""
        way = self.speed * seconds
        y = self.first - way if self.side < 0 else 2.0 + way
        heading = -np.pi / 2 if self.side < 0 else np.pi / 2
        rng = np.random.default_rng(self.car_seed)
        lights = self.stage.dark
        position = (self.lane, float(y), 0.05)
        parts = build_vehicle(
            rng, "car", position=position, heading=heading, instance=instance, running=True,
            lights=lights, detail=0.7,
        )  # fmt: skip
        ahead = float(np.sin(heading))
        lamps = [
            Lamp(
                (self.lane + dx, y + 2.6 * ahead, 0.75), HEADLIGHT, 40.0, (0.0, ahead, -0.035), 34.0
            )
            for dx in (-0.6, 0.6)
        ]
        return parts, lamps if lights else []

    def frame(self, number: int) -> Scene:
        """Return the scene of a frame."""
        seconds = number / FRAMES_PER_SECOND
        parts, count = list(self.still), max((p.instance for p in self.still), default=0)
        for n, walker in enumerate(self.walkers, start=1):
            position, phase = walker.at(seconds)
            rng = np.random.default_rng([self.seed, n])
            parts += build_person(
                rng, "walking", position=position, heading=walker.heading, instance=count + n,
                look=walker.look, phase=phase, detail=0.7,
            )  # fmt: skip
        car, lamps = self._car(seconds, count + len(self.walkers) + 1)
        light = replace(self.light, lamps=(*self.stage.lamps[:8], *lamps))
        facts: dict[str, str | int | float | bool] = {
            "layout": "street", "place": "a street", "light": light.kind, "air": "clear",
            "frame": number, "seconds_from_start": seconds, "height": self.stage.camera[0][2],
        }  # fmt: skip
        camera = Camera(*self.stage.camera)
        return Scene(
            parts + car, light, self.weather, self.air, camera, "street", self.seed, facts,
            frame=number, fixed=len(self.still),
        )  # fmt: skip
