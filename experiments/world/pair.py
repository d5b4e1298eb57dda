"""Render one pair with its truth, and write it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from experiments.world import cameras, shading, truth
from experiments.world.air import rain_streaks, through_air
from experiments.world.light import Lamp, Light, random_light
from experiments.world.renderer import Renderer
from experiments.world.scene import Scene
from experiments.world.thermal import apparent, radiance
from ldf_utils.data.files import atomic_path

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
# Temperature is stored in 16 bits as (celsius + 100) * 100, depth in centimeters (65535: sky).
TEMPERATURE_OFFSET, TEMPERATURE_SCALE, DEPTH_SCALE, SKY = 100.0, 100.0, 100.0, 65535


class BlockedView(ValueError):
    """Something stands right in front of the camera."""


@dataclass(frozen=True)
class Pair:
    """Both pictures and what is true of them; all arrays are ``(H, W)`` or ``(H, W, 3)``."""

    infrared: Bytes
    visible: Bytes
    oracle: Bytes
    labels: Bytes
    instances: npt.NDArray[np.uint16]
    depth: Array
    temperature: Array
    facts: dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """What the cameras need to know of a scene: seed, frame, kind of light, strength of rain."""

    seed: int
    frame: int
    light: str
    rain: float


@dataclass(frozen=True)
class Traced:
    """What reaches the cameras, and the truth.

    ``seen`` and ``good`` are visible radiance ``(H, W, 3)`` through the air and in good light,
    ``felt`` and ``band`` infrared radiance ``(H, W)`` through the air and without it.
    """

    shown: Shown
    seen: Array
    good: Array
    felt: Array
    band: Array
    labels: Bytes
    instances: npt.NDArray[np.uint16]
    depth: Array
    temperature: Array
    facts: dict[str, Any]


def good_light(scene: Scene) -> Light:
    """Return the light for the oracle: the scene's own by day, else an even, bright sky."""
    if scene.light.kind in ("clear", "overcast"):
        return scene.light
    if scene.light.kind == "indoor":
        x, y, z = scene.camera.origin
        along = scene.camera.axes()[2]
        fill = tuple(
            Lamp(
                (x + d * float(along[0]), y + d * float(along[1]), z + 0.5),
                (1, 1, 1),
                0.5 + 0.25 * d,
            )
            for d in (0.3, 4.0, 9.0)
        )
        return replace(scene.light, lamps=(*scene.light.lamps, *fill))
    light = random_light("overcast", np.random.default_rng(scene.seed))
    return replace(
        light, cloud_color=(0.8, 0.83, 0.87), zenith=(0.7, 0.74, 0.78), horizon=(0.55, 0.58, 0.6)
    )


def rain(picture: Array, strength: float, rng: np.random.Generator) -> Array:
    """Let streaks of rain, as bright as the picture's bright parts, cover a part of the light."""
    alpha = rain_streaks((picture.shape[0], picture.shape[1]), strength, rng)[..., None]
    bright = np.quantile(picture.reshape(-1, 3), 0.8, axis=0)
    return (picture * (1 - 0.5 * alpha) + alpha * bright * 0.8).astype(np.float32)


def trace(scene: Scene, width: int, height: int, samples: int = 3) -> Traced:
    """Compute what reaches the cameras, and the truth; see ``render_pair``."""
    renderer = Renderer(scene.parts, max(scene.light.sun_color) > 0, scene.fixed)
    view = shading.look(scene, renderer, width, height)
    blocked = float((view.seen.depth < (1.2 if scene.layout == "indoor" else 3.0)).mean())
    if blocked > 0.12:
        raise BlockedView(f"{blocked:.0%} of the picture is closer than 3 m")
    clear = shading.visible_radiance(scene, scene.light, renderer, view, samples)
    temperature, band = shading.temperatures(scene, renderer, view)
    depth = shading.nearest(view.seen.depth, view.factor)
    seen, felt = through_air(
        scene.air,
        scene.light,
        scene.camera.origin,
        scene.camera.directions(width, height),
        depth,
        clear,
        band,
        float(radiance(scene.weather.air)),
    )
    bright = good_light(scene)
    good = clear
    if bright is not scene.light:
        good = shading.visible_radiance(scene, bright, renderer, view, samples)
    labels, instances = truth.masks(scene.parts, view.seen, view.factor)
    facts = truth.attributes(truth.boxes(labels, instances), dict(scene.attributes))
    facts["caption"] = truth.caption(facts)
    facts["boxes"] = [asdict(b) for b in truth.boxes(labels, instances)]
    facts["weather"] = asdict(scene.weather)
    facts["fog_per_meter"] = scene.air.fog
    shown = Shown(scene.seed, scene.frame, scene.light.kind, scene.air.rain)
    return Traced(shown, seen, good, felt, band, labels, instances, depth, temperature, facts)


def shoot(traced: Traced, black_hot: float = 0.0) -> Pair:
    """Let two cameras, drawn from the scene's seed, take the pair; see ``render_pair``."""
    scene, seen = traced.shown, traced.seen
    rng = np.random.default_rng([scene.seed, 5])
    if scene.rain > 0:
        seen = rain(seen, scene.rain, rng)
    color = cameras.random_visible(scene.light, rng)
    thermal = cameras.random_thermal(rng, black_hot)
    if scene.frame > 0:  # the same cameras in all frames, other noise
        rng = np.random.default_rng([scene.seed, 6, scene.frame])
    visible = cameras.develop(seen, color, rng)
    infrared = cameras.sense(apparent(traced.felt), thermal, rng, fixed_seed=scene.seed)
    clean = replace(
        cameras.VisibleCamera(), glare=0.01, noise=0.0, shot=0.0, vignette=0.0, blur=0.5
    )
    good = cameras.develop(traced.good, clean, rng)
    answer = truth.oracle(good, apparent(traced.band), thermal, np.isfinite(traced.depth))
    facts = {**traced.facts, "cameras": {"visible": asdict(color), "thermal": asdict(thermal)}}
    return Pair(
        infrared, visible, answer, traced.labels, traced.instances, traced.depth,
        traced.temperature, facts,
    )  # fmt: skip


def render_pair(
    scene: Scene, width: int, height: int, samples: int = 3, black_hot: float = 0.0
) -> Pair:
    """Render a scene with both cameras, and its truth.

    Args:
        scene: what to render.
        width: of the pictures, pixels; even.
        height: of the pictures, pixels; even.
        samples: paths for each of the 4 subpixels of a pixel.
        black_hot: share of thermal cameras that show warm as black, in [0, 1].

    Raises:
        BlockedView: if something close fills more than an eighth of the picture.
    """
    return shoot(trace(scene, width, height, samples), black_hot)


def _save(array: npt.NDArray[np.generic], path: Path) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)


def encode_depth(depth: Array) -> npt.NDArray[np.uint16]:
    """Store meters as centimeters in 16 bits; the sky and what is beyond 655 m as 65535."""
    return np.where(np.isfinite(depth), np.clip(depth * DEPTH_SCALE, 0, SKY), SKY).astype(np.uint16)


def encode_temperature(celsius: Array) -> npt.NDArray[np.uint16]:
    """Store degrees Celsius in hundredths above -100 in 16 bits."""
    return np.clip((celsius + TEMPERATURE_OFFSET) * TEMPERATURE_SCALE, 0, SKY).astype(np.uint16)


def write_pair(pair: Pair, folder: str | os.PathLike, name: str) -> None:
    """Write a pair and its truth; the ``json`` file comes last and says that all is there."""
    root = Path(folder)
    _save(pair.infrared, root / "ir" / f"{name}.png")
    _save(pair.visible, root / "vi" / f"{name}.png")
    _save(pair.oracle, root / "truth" / "oracle" / f"{name}.png")
    _save(pair.labels, root / "truth" / "labels" / f"{name}.png")
    _save(pair.instances, root / "truth" / "instances" / f"{name}.png")
    _save(encode_depth(pair.depth), root / "truth" / "depth" / f"{name}.png")
    _save(encode_temperature(pair.temperature), root / "truth" / "temperature" / f"{name}.png")
    with atomic_path(root / "truth" / "facts" / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(pair.facts, indent=1) + "\n")
