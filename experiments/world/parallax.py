"""Two cameras side by side: the infrared picture is displaced by an amount that depth gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from experiments.world import cameras, shading
from experiments.world.air import through_air
from experiments.world.pair import Pair, render_pair, write_pair
from experiments.world.renderer import Renderer
from experiments.world.scene import Camera, Scene
from experiments.world.thermal import apparent, radiance
from ldf_utils.data.files import atomic_path

Array = npt.NDArray[np.float32]


def displacement(camera: Camera, depth: Array, baseline: float) -> Array:
    """Return where each pixel of the first camera lies in the second, minus where it lies here.

    With the second camera ``baseline`` meters to the right, looking the same way, a point at
    distance Z along the axis moves by ``-f baseline / Z`` pixels in x and not in y, with the focal
    length ``f = (width / 2) / tan(fov / 2)`` in pixels; the sky does not move.

    Args:
        camera: the first camera.
        depth: meters along the ray, ``(H, W)``, infinite for the sky.
        baseline: meters.

    Returns:
        ``(H, W, 2)`` in pixels, x and y.
    """
    height, width = depth.shape
    focal = (width / 2) / np.tan(np.radians(camera.fov) / 2)
    along = camera.directions(width, height) @ camera.axes()[2].astype(np.float32)
    flow = np.zeros((height, width, 2), np.float32)
    flow[..., 0] = -focal * baseline / (depth * along)
    return flow


def render_side_by_side(
    scene: Scene, width: int, height: int, baseline: float, samples: int = 3
) -> tuple[Pair, npt.NDArray[np.uint8], Array]:
    """Render a pair, the infrared picture from ``baseline`` meters aside, and the displacement."""
    pair = render_pair(scene, width, height, samples)
    aside = replace(scene, camera=scene.camera.moved(baseline))
    renderer = Renderer(aside.parts, max(aside.light.sun_color) > 0)
    view = shading.look(aside, renderer, width, height)
    _, band = shading.temperatures(aside, renderer, view)
    depth = shading.nearest(view.seen.depth, view.factor)
    rays = aside.camera.directions(width, height)
    dark = np.zeros((height, width, 3), np.float32)
    around = float(radiance(aside.weather.air))
    origin = aside.camera.origin
    _, felt = through_air(aside.air, aside.light, origin, rays, depth, dark, band, around)
    thermal = cameras.ThermalCamera(**pair.facts["cameras"]["thermal"])
    rng = np.random.default_rng([scene.seed, 8])
    warped = cameras.sense(apparent(felt), thermal, rng, fixed_seed=scene.seed)
    return pair, warped, displacement(scene.camera, pair.depth, baseline)


def write_side_by_side(
    pair: Pair, warped: npt.NDArray[np.uint8], flow: Array, folder: Path, name: str
) -> None:
    """Write ``ir_warp/`` and ``flow/`` beside the pair."""
    with atomic_path(folder / "ir_warp" / f"{name}.png") as temporary:
        Image.fromarray(warped).save(temporary)
    with atomic_path(folder / "flow" / f"{name}.npz") as temporary:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, flow=(np.round(flow * 32) / 32).astype(np.float16))
    write_pair(pair, folder, name)
