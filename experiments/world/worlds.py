"""Draw a scene from a seed: place, light, weather, air, people, vehicles and camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.world.air import Air, Plume
from experiments.world.layouts.greens import field, park
from experiments.world.layouts.indoor import indoor
from experiments.world.layouts.roads import crossing, parking
from experiments.world.layouts.stage import Stage
from experiments.world.layouts.street import street
from experiments.world.layouts.yards import courtyard, waterfront
from experiments.world.light import Light, brighter, random_light
from experiments.world.population import add_people, add_vehicles
from experiments.world.scene import Camera, Scene
from experiments.world.thermal import Weather

LAYOUTS: dict[str, Callable[[Stage], None]] = {
    "street": street,
    "crossing": crossing,
    "parking": parking,
    "park": park,
    "courtyard": courtyard,
    "waterfront": waterfront,
    "field": field,
    "indoor": indoor,
}
PLACES = {
    "street": "a street",
    "crossing": "a road crossing",
    "parking": "a parking lot",
    "park": "a park",
    "courtyard": "a courtyard",
    "waterfront": "a waterfront",
    "field": "open country",
    "indoor": "a room",
}
WEIGHTS = {
    "street": 0.28,
    "crossing": 0.14,
    "parking": 0.13,
    "park": 0.12,
    "courtyard": 0.11,
    "waterfront": 0.06,
    "field": 0.06,
    "indoor": 0.10,
}
KINDS = (("night", 0.46), ("dusk", 0.08), ("clear", 0.28), ("overcast", 0.18))


@dataclass(frozen=True)
class Wish:
    """What a caller fixes of a scene; None leaves it to chance.

    ``black_hot`` is the share of thermal cameras that show warm as black.
    """

    layout: str | None = None
    kind: str | None = None
    air: str | None = None
    black_hot: float = 0.0


def _weather(kind: str, light: Light, wet: bool, season: str, rng: np.random.Generator) -> Weather:
    """Draw temperatures that go with light and season."""
    mean = {"summer": 21.0, "autumn": 10.0, "winter": 2.0}[season]
    air = mean + rng.normal(0, 3.5) + (3.0 if kind == "clear" else -3.0 if kind == "night" else 0.0)
    sun = rng.uniform(0.35, 1.0) * (1 - 0.5 * light.cloud) if kind == "clear" else 0.0
    cloud = float(np.clip(light.cloud + rng.normal(0, 0.15), 0, 1))
    stored = rng.uniform(0.3, 1.4) if kind in ("night", "dusk") else rng.uniform(-0.5, 0.6)
    return Weather(float(air), float(sun), cloud, float(stored), wet)


def _air(name: str, stage: Stage, rng: np.random.Generator) -> Air:
    """Draw what is in the air."""
    seed = int(rng.integers(1 << 20))
    haze = float(10 ** rng.uniform(-3.6, -2.5))
    if name == "fog":
        fog = float(10 ** rng.uniform(-1.75, -1.2))
        return Air(fog=fog, infrared_fog=float(rng.uniform(0.06, 0.3)), seed=seed)
    if name == "rain":
        return Air(fog=float(rng.uniform(0.002, 0.006)), rain=float(rng.uniform(0.3, 1)), seed=seed)
    if name == "smoke":
        return Air(fog=haze, plumes=tuple(_plumes(stage, rng)), seed=seed)
    return Air(fog=haze, seed=seed)


def _plumes(stage: Stage, rng: np.random.Generator) -> list[Plume]:
    """Put one to three clouds of smoke between the camera and what it looks at."""
    origin, target, fov = (np.asarray(x, float) for x in stage.camera)
    forward = (target - origin) / np.linalg.norm(target - origin)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    plumes = []
    for _ in range(int(rng.integers(1, 4))):
        d = rng.uniform(6, 14)
        side = rng.uniform(-0.7, 0.7) * d * np.tan(np.radians(fov) / 2)
        c = origin + forward * d + right * side
        r = (rng.uniform(1.8, 4.5), rng.uniform(1.5, 3.5), rng.uniform(1.2, 2.8))
        tone = rng.uniform(0.55, 1.0)
        tint = np.array([0.9, 0.97, 1.02]) if rng.random() < 0.5 else np.ones(3)
        color = tuple(float(x) for x in tone * tint)
        center = (float(c[0]), float(c[1]), float(max(0.8, r[2] * 0.6)))
        plumes.append(Plume(center, r, float(rng.uniform(0.6, 2.4)), color))  # type: ignore[arg-type]
    return plumes


def draw(seed: int, index: int, wish: Wish | None = None, attempt: int = 0) -> Scene:
    """Draw scene ``index`` of the set with this seed; each ``attempt`` is another scene.

    Example:
        >>> draw(7, 0, Wish(layout="street", kind="night")).layout
        'street'
    """
    wish = wish or Wish()
    rng = np.random.default_rng([seed, index, attempt])
    names, weights = list(WEIGHTS), np.array(list(WEIGHTS.values()))
    layout = wish.layout or str(rng.choice(names, p=weights / weights.sum()))
    kinds, shares = [name for name, _ in KINDS], [share for _, share in KINDS]
    kind = wish.kind or ("indoor" if layout == "indoor" else str(rng.choice(kinds, p=shares)))
    airs = ["clear", "fog", "smoke", "rain"] if layout != "indoor" else ["clear", "smoke"]
    odds = [0.62, 0.12, 0.19, 0.07] if layout != "indoor" else [0.6, 0.4]
    air = wish.air or str(rng.choice(airs, p=odds))
    dark = kind in ("night", "dusk", "indoor")
    wet = air == "rain" or (dark and rng.random() < 0.2)
    season = str(rng.choice(["summer", "autumn", "winter"], p=[0.6, 0.25, 0.15]))
    lit = rng.uniform(0.1, 0.45) if dark else 0.02
    stage = Stage(rng, dark, wet, season, float(lit))
    LAYOUTS[layout](stage)
    crowd = int(rng.choice([0, 1, 2, 3, 4, 6, 9], p=[0.07, 0.15, 0.2, 0.2, 0.16, 0.14, 0.08]))
    add_vehicles(stage, int(rng.integers(3, 11)))
    people = add_people(stage, crowd)
    base = random_light(kind, rng)
    if layout == "field" and kind == "night":  # no lamps, so let there be a moon
        base = brighter(base, float(rng.uniform(3, 9)))
    near = sorted(
        stage.lamps, key=lambda lamp: np.hypot(*np.subtract(lamp.position, stage.camera[0])[:2])
    )
    light = Light(**{**base.__dict__, "lamps": tuple(near[:12])})
    facts: dict[str, str | int | float | bool] = {
        "layout": layout, "place": PLACES[layout], "light": kind, "air": air, "season": season,
        "wet": bool(wet), "placed_people": people, "height": round(float(stage.camera[0][2]), 2),
        "fov": round(float(stage.camera[2]), 1),
    }  # fmt: skip
    weather = _weather(kind, light, wet, season, rng)
    return Scene(
        stage.builder.parts(),
        light,
        weather,
        _air(air, stage, rng),
        Camera(*stage.camera),
        layout,
        int(rng.integers(1 << 31)),
        facts,
    )
