"""A pool of rendered worlds for training: what arrives at the two cameras, before any camera.

Each world is drawn once and seen by several cameras: from its own place, toward a person, toward a
vehicle, and to some other side. A view is one compressed file ``WORLD_VIEW.npz``, with linear
radiance and apparent temperature behind the air, so that training can draw exposure, gain,
polarity, noise and blur anew each time (`experiments.embedded_clip.cameras`).

The work can be stopped at any time and resumed: ``worlds/WORLD.json`` comes last and says that all
views of a world are there.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.world import cameras, shading, truth
from experiments.world.air import through_air
from experiments.world.pair import encode_temperature, good_light, rain
from experiments.world.renderer import Renderer, Seen
from experiments.world.scene import Camera, Scene
from experiments.world.thermal import apparent, radiance
from experiments.world.worlds import LAYOUTS, Wish, draw
from ldf_utils.data.cli import ignore_interrupts
from ldf_utils.data.files import atomic_path, write_json

ARRAYS = ("radiance", "celsius", "labels", "instances", "veil")
"""Of every view; ``oracle`` comes with some, ``facts`` (JSON) with all."""

VEHICLES = ("car", "van", "truck", "bus", "bicycle", "motorcycle")
_PROBE = (64, 48)  # pixels of the small picture that says whether a camera stands well
_TRIES = 12
_TASKS = 25  # worlds to a process: the renderer keeps what it compiled. Not by the executor's
# max_tasks_per_child, which can stop for ever when a process is replaced (CPython issue 115634).


@dataclass(frozen=True)
class PoolConfig:
    """Settings of a pool.

    Attributes:
        seed: of the worlds.
        views: cameras of a world.
        size: of a view, pixels.
        factor: subpixels along a side of a pixel; training shrinks most views anyway.
        samples: paths for each subpixel.
        oracles: share of the views in bad light or bad air that get an oracle; those in good light
            all have one, since it costs nothing there.
    """

    seed: int = 16
    views: int = 4
    size: tuple[int, int] = (256, 192)
    factor: int = 1
    samples: int = 3
    oracles: float = 0.4


def wish(index: int) -> Wish:
    """Return what is fixed of a world: all layouts in turn, every second one at night."""
    layout = list(LAYOUTS)[index % len(LAYOUTS)]
    if layout == "indoor":
        return Wish(layout=layout)
    day = ("clear", "overcast", "clear", "dusk")[index // len(LAYOUTS) // 2 % 4]
    return Wish(layout=layout, kind="night" if (index // len(LAYOUTS) + index) % 2 else day)


# --- where cameras stand --------------------------------------------------------------------------


def _targets(scene: Scene, labels: tuple[str, ...]) -> list[npt.NDArray[np.float64]]:
    """Return the centers of all things with one of these labels, from their bounding boxes."""
    boxes: dict[int, list[npt.NDArray[np.float32]]] = {}
    for part in scene.parts:
        if part.label in labels and part.instance:
            ends = [part.vertices.min(0), part.vertices.max(0)]
            boxes.setdefault(part.instance, []).extend(ends)
    rows = (np.stack(ends) for ends in boxes.values())
    return [(a.min(0).astype(float) + a.max(0)) / 2 for a in rows]


def _vector(a: npt.ArrayLike) -> tuple[float, float, float]:
    x, y, z = np.asarray(a, float)
    return float(x), float(y), float(z)


def _height(indoors: bool, rng: np.random.Generator) -> float:
    if indoors or rng.random() < 0.5:
        return float(rng.uniform(1.2, 2.2))
    return float(rng.uniform(2.5, 8.0))


def toward(scene: Scene, target: npt.NDArray[np.float64], rng: np.random.Generator) -> Camera:
    """Draw a camera that sees something 1.7 m tall at a height of 8 to 60 % of the picture."""
    fov, share = float(rng.uniform(22, 62)), float(np.exp(rng.uniform(np.log(0.08), np.log(0.6))))
    across = 1.7 / share * 4 / 3  # meters that the picture is wide at the target
    distance = across / (2 * np.tan(np.radians(fov) / 2))
    indoors = scene.layout == "indoor"
    distance = float(np.clip(distance, 2.0 if indoors else 4.0, 7.0 if indoors else 60.0))
    back = np.subtract(scene.camera.origin, target)[:2]
    turn = np.arctan2(back[1], back[0]) + rng.normal(0, 0.7)
    origin = target + distance * np.array([np.cos(turn), np.sin(turn), 0])
    origin[2] = _height(indoors, rng)
    aside = across * rng.uniform(-0.35, 0.35)
    aim = target + aside * np.array([-np.sin(turn), np.cos(turn), 0])
    aim[2] += across * rng.uniform(-0.15, 0.25)
    return Camera(_vector(origin), _vector(aim), fov)


def elsewhere(scene: Scene, rng: np.random.Generator) -> Camera:
    """Draw a camera near the scene's own that looks to another side."""
    _, _, forward = scene.camera.axes()
    yaw = np.arctan2(forward[1], forward[0]) + rng.uniform(-1.3, 1.3)
    pitch = rng.uniform(-0.22, 0.06)
    origin = np.asarray(scene.camera.origin, float)
    origin[:2] += rng.normal(0, 0.4 if scene.layout == "indoor" else 1.5, 2)
    origin[2] = _height(scene.layout == "indoor", rng)
    way = np.array([np.cos(yaw), np.sin(yaw), np.tan(pitch)])
    return Camera(_vector(origin), _vector(origin + 10 * way), float(rng.uniform(28, 70)))


def stands_well(scene: Scene, renderer: Renderer, camera: Camera) -> bool:
    """Whether a camera stands in the open, as the scene's own does, and nothing blocks its view."""
    start, end = np.asarray(scene.camera.origin, float), np.asarray(camera.origin, float)
    way, far = end - start, float(np.linalg.norm(end - start))
    if far > 0.5:
        rays = np.stack([way, -way]).astype(np.float32) / far
        ends = np.stack([start, end]).astype(np.float32)
        if renderer.unobstructed(ends, rays, np.full(2, far, np.float32)).min() < 1:
            return False
    seen = renderer.geometry(camera, *_PROBE)
    indoors = scene.layout == "indoor"
    close = float((seen.depth < (0.9 if indoors else 2.2)).mean())
    facing = (seen.normal * camera.directions(*_PROBE)).sum(-1)
    inside_out = float((facing > 0.05)[seen.part >= 0].mean()) if (seen.part >= 0).any() else 1.0
    return close < 0.08 and inside_out < 0.15


def draw_cameras(
    scene: Scene, renderer: Renderer, count: int, rng: np.random.Generator
) -> Iterator[Camera]:
    """Draw cameras: the scene's own, toward people and vehicles in turns, and to other sides.

    Where there are fewer than these four, the first is drawn, so that all come as often.
    """
    people, vehicles = _targets(scene, ("person",)), _targets(scene, VEHICLES)
    first = int(rng.integers(4)) if count < 4 else 0
    for kind in range(first, first + count):
        things = (people, people or vehicles, vehicles or people, [])[kind % 4]
        if kind % 4 == 0 and kind < 4 and stands_well(scene, renderer, scene.camera):
            yield scene.camera
            continue
        for _ in range(_TRIES):
            if things:
                camera = toward(scene, things[rng.integers(len(things))], rng)
            else:
                camera = elsewhere(scene, rng)
            if stands_well(scene, renderer, camera):
                yield camera
                break


# --- views ----------------------------------------------------------------------------------------


def _veil(scene: Scene, depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the share of visible light that the air absorbs, found at half the size."""
    height, width = depth.shape
    small = np.ascontiguousarray(depth[::2, ::2])
    directions = scene.camera.directions(width, height)[::2, ::2]
    white = np.full((*small.shape, 3), 1e4, np.float32)  # airlight is nothing against it
    origin = scene.camera.origin
    seen, _ = through_air(scene.air, scene.light, origin, directions, small, white, small, 0.0)
    share = np.clip(1 - seen.mean(-1) / 1e4, 0, 1)
    return share.repeat(2, 0).repeat(2, 1)[:height, :width].astype(np.float32)


def _oracle(
    scene: Scene,
    renderer: Renderer,
    view: shading.Look,
    clear: npt.NDArray[np.float32],
    band: npt.NDArray[np.float32],
    config: PoolConfig,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8] | None:
    """Return the luma of the oracle, or None where it would cost and chance says no."""
    bright = good_light(scene)
    if bright is not scene.light:
        if rng.random() >= config.oracles:
            return None
        clear = shading.visible_radiance(scene, bright, renderer, view, config.samples)
    plain = cameras.VisibleCamera()
    clean = replace(plain, glare=0.01, noise=0.0, shot=0.0, vignette=0.0, blur=0.5)
    solid = np.isfinite(shading.nearest(view.seen.depth, view.factor))
    thermal = cameras.random_thermal(rng)
    good = cameras.develop(clear, clean, rng)
    answer = truth.oracle(good, apparent(band), thermal, solid)
    return np.round(answer @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def render_view(
    scene: Scene, renderer: Renderer, config: PoolConfig, rng: np.random.Generator
) -> dict[str, Any]:
    """Render what the scene's camera would see.

    Returns:
        ``radiance`` ``(H, W, 3)`` float16, linear, and ``celsius`` ``(H, W)`` uint16, apparent
        temperature as `experiments.world.pair.encode_temperature`, both behind air and rain;
        ``labels``, ``instances``; ``veil`` uint8, the share of light that the air absorbs; where
        there is one ``oracle``, luma, uint8; and ``facts``, JSON.
    """
    width, height = config.size
    view = shading.look(scene, renderer, width, height, config.factor)
    clear = shading.visible_radiance(scene, scene.light, renderer, view, config.samples)
    _, band = shading.temperatures(scene, renderer, view)
    depth = shading.nearest(view.seen.depth, view.factor)
    directions = scene.camera.directions(width, height)
    origin, air_radiance = scene.camera.origin, float(radiance(scene.weather.air))
    seen, felt = through_air(
        scene.air, scene.light, origin, directions, depth, clear, band, air_radiance
    )
    if scene.air.rain > 0:
        seen = rain(seen, scene.air.rain, rng)
    labels, instances = truth.masks(scene.parts, view.seen, view.factor)
    boxes = truth.boxes(labels, instances)
    facts = truth.attributes(boxes, dict(scene.attributes))
    facts |= {"boxes": [asdict(b) for b in boxes], "weather": asdict(scene.weather)}
    facts |= {"fog_per_meter": scene.air.fog, "camera": asdict(scene.camera)}
    made = {
        "radiance": np.clip(seen, 0, 6e4).astype(np.float16),
        "celsius": encode_temperature(apparent(felt)),
        "labels": labels,
        "instances": instances,
        "veil": np.round(255 * _veil(scene, depth)).astype(np.uint8),
        "facts": json.dumps(facts),
    }
    answer = _oracle(scene, renderer, view, clear, band, config, rng)
    return made if answer is None else made | {"oracle": answer}


def is_dull(seen: Seen) -> bool:
    """Whether a picture shows little but one thing, as a wall in front of the camera."""
    counts = np.bincount(seen.part.ravel() + 1)
    return bool(counts.max() > 0.9 * counts.sum())


def render_world(folder: Path, index: int, config: PoolConfig) -> float:
    """Render and write all views of a world; return the seconds that it took."""
    started = time.perf_counter()
    scene = draw(config.seed, index, wish(index))
    renderer = Renderer(scene.parts, max(scene.light.sun_color) > 0, scene.fixed)
    rng = np.random.default_rng([config.seed, index, 16])
    names = []
    for number, camera in enumerate(draw_cameras(scene, renderer, config.views, rng)):
        if is_dull(renderer.geometry(camera, *_PROBE)):
            continue
        view = replace(scene, camera=camera, seed=(scene.seed + number) & 0x7FFFFFFF)
        arrays = render_view(view, renderer, config, rng)
        name = f"{index:05d}_{number}"
        with atomic_path(folder / f"{name}.npz") as temporary:
            np.savez_compressed(temporary, **arrays)
        names.append(name)
    seconds = round(time.perf_counter() - started, 1)
    record = {"views": names, "seconds": seconds, "variant": str(renderer.mi.variant())}
    write_json(folder / "worlds" / f"{index:05d}.json", record | {"config": asdict(config)})
    return seconds


def missing(folder: Path, count: int, first: int = 0) -> list[int]:
    """Return those of ``count`` worlds from number ``first`` on that are not there yet."""
    numbers = range(first, first + count)
    return [i for i in numbers if not (folder / "worlds" / f"{i:05d}.json").exists()]


def render_pool(
    folder: Path, count: int, config: PoolConfig, processes: int = 1, first: int = 0
) -> int:
    """Render the worlds that are not there yet; return how many failed."""
    todo = missing(folder, count, first)
    print(f"{folder}: {count - len(todo)} of {count} worlds are there", flush=True)
    context = multiprocessing.get_context("spawn")
    failed, batch = 0, processes * _TASKS
    for start in range(0, len(todo), batch):  # new processes for every batch: see _TASKS
        with ProcessPoolExecutor(processes, context, ignore_interrupts) as pool:
            waiting = {
                pool.submit(render_world, folder, index, config): index
                for index in todo[start : start + batch]
            }
            for done, future in enumerate(as_completed(waiting), start + 1):
                index, error = waiting[future], future.exception()
                if error is None:
                    text = f"{future.result():.1f} s"
                else:
                    failed, text = failed + 1, f"failed: {type(error).__name__}: {error}"
                stream = sys.stdout if error is None else sys.stderr
                print(f"[{done}/{len(todo)}] world {index:05d} {text}", file=stream, flush=True)
    return failed
