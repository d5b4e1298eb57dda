"""What is true of a pair, to the pixel: labels, things, boxes, depth, and the oracle fusion.

The oracle answers what a perfect fusion would show. It has two parts, one given by physics and one
chosen. Given: the same scene from the same place in clear air and good light, without sensor
noise. Everything that the visible camera could not see for smoke, fog, glare or the dark is in it,
and nothing is invented. Chosen: how a picture for human eyes shows warmth, of which light knows
nothing. Here every thing that is warmer than its surroundings is as much brighter than them as in
the infrared picture (in gray levels, averaged over the neighborhood), and keeps its own detail and
color. Cold things keep the look that good light gives them, so that the sky does not turn black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from experiments.world.cameras import ThermalCamera, automatic_gain
from experiments.world.part import Part
from experiments.world.renderer import Seen

Array = npt.NDArray[np.float32]

LABELS = (
    "sky", "person", "car", "van", "truck", "bus", "bicycle", "motorcycle", "building", "road",
    "ground", "vegetation", "water", "pole", "bench", "fence", "furniture", "wall", "floor",
    "other",
)  # fmt: skip
BRIGHTEST = 0.86
BOXED = ("person", "car", "van", "truck", "bus", "bicycle", "motorcycle")


@dataclass(frozen=True)
class Box:
    """A thing's bounding box in pixels, half-open, and how much of the picture it fills."""

    name: str
    instance: int
    xmin: int
    ymin: int
    xmax: int
    ymax: int
    pixels: int


def label_number(name: str) -> int:
    """Return the number of a label in the masks; unknown ones count as ``other``."""
    return LABELS.index(name) if name in LABELS else LABELS.index("other")


def _majority(values: npt.NDArray[np.int32], factor: int) -> npt.NDArray[np.int32]:
    """Take the most frequent value of every block of subpixels (of equal ones, the first)."""
    h, w = values.shape[0] // factor, values.shape[1] // factor
    blocks = values.reshape(h, factor, w, factor).swapaxes(1, 2).reshape(h, w, factor * factor)
    votes = (blocks[..., :, None] == blocks[..., None, :]).sum(-1)
    return np.take_along_axis(blocks, votes.argmax(-1)[..., None], -1)[..., 0]


def masks(
    parts: list[Part], seen: Seen, factor: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Return the label and the instance (0: none) of every pixel."""
    labels = np.array([*(label_number(p.label) for p in parts), 0], np.int32)[seen.part]
    instances = np.array([*(p.instance for p in parts), 0], np.int32)[seen.part]
    return _majority(labels, factor).astype(np.uint8), _majority(instances, factor).astype(
        np.uint16
    )


def boxes(
    labels: npt.NDArray[np.uint8], instances: npt.NDArray[np.uint16], least: int = 20
) -> list[Box]:
    """Return the boxes of people and vehicles of which at least ``least`` pixels are seen."""
    found = []
    for number, slices in enumerate(ndimage.find_objects(instances.astype(np.int32)), start=1):
        if slices is None:
            continue
        inside = instances[slices] == number
        kinds = np.bincount(labels[slices][inside], minlength=len(LABELS))
        name = LABELS[int(kinds.argmax())]
        if name in BOXED and int(inside.sum()) >= least:
            y, x = slices
            found.append(Box(name, number, x.start, y.start, x.stop, y.stop, int(inside.sum())))
    return found


def oracle(
    good: npt.NDArray[np.uint8], celsius: Array, camera: ThermalCamera, solid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Make the oracle fusion of a picture in good light and the true apparent temperature.

    With Y the luma of ``good``, t the noise-free infrared picture, and an underscore for the mean
    over the neighborhood, the mean luma ``Y_in`` of a warm thing rises by
    ``max(0, (t - t_) - (Y_in - Y_))``, to 0.86 at most, and its detail ``Y - Y_in`` is squeezed as
    far as white demands. The weight of all this rises from 0 to 1 where something is 2 to 5 kelvin
    warmer than its neighborhood.

    Args:
        good: the scene in clear air and good light, ``(H, W, 3)``, 8 bits.
        celsius: apparent temperature ``(H, W)`` without noise, in clear air.
        camera: the thermal camera, for the range that its gain takes.
        solid: where there is something and not the sky, which is colder than all.
    """
    h = good.shape[0]
    y = good.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    t = np.asarray(automatic_gain(celsius, camera), np.float32)
    wide, near = h / 9, h / 120
    middle = float(np.median(celsius[solid])) if solid.any() else 0.0
    first = np.maximum(celsius - _around(celsius, solid.astype(np.float32), wide), 0)
    cool = (solid / (1 + (first / 2) ** 2)).astype(np.float32)
    excess = celsius - np.maximum(_around(celsius, cool, wide), middle)
    warm = np.clip((ndimage.gaussian_filter(excess, 0.5) - 2) / 3, 0, 1)
    rest = (1 - warm) * solid
    own = ndimage.gaussian_filter(y * warm, near) / (ndimage.gaussian_filter(warm, near) + 1e-3)
    lift = np.maximum(0, (t - _around(t, rest, wide)) - (own - _around(y, rest, wide)))
    level = np.minimum(own + lift, np.maximum(BRIGHTEST, own))
    squeeze = np.clip((1 - level) / (1 - own + 1e-3), 0.35, 1.0)
    raised = level + (y - own) * squeeze
    out = good.astype(np.float32) + 255 * (warm * (raised - y))[..., None]
    return (np.clip(out, 0, 255) + 0.5).astype(np.uint8)


def _around(
    values: npt.NDArray[np.floating], weight: npt.NDArray[np.floating], size: float
) -> Array:
    """Average over the neighborhood, counting only what ``weight`` says."""
    total = ndimage.gaussian_filter(weight, size) + 1e-4
    mean = float((values * weight).sum() / max(float(weight.sum()), 1e-4))
    return (ndimage.gaussian_filter((values - mean) * weight, size) / total + mean).astype(
        np.float32
    )


def attributes(boxes_: list[Box], given: dict[str, Any]) -> dict[str, Any]:
    """Add what the boxes say (how many people and vehicles) to a scene's attributes."""
    people = sum(b.name == "person" for b in boxes_)
    vehicles = sum(b.name not in ("person",) for b in boxes_)
    return {**given, "people": people, "vehicles": vehicles}


def _count(n: int, one: str, many: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six")
    return f"{words[n] if n < len(words) else n} {one if n == 1 else many}"


def caption(facts: dict[str, Any]) -> str:
    """Say in one sentence what a pair shows."""
    light = {
        "clear": "in daylight",
        "overcast": "under an overcast sky",
        "dusk": "at dusk",
        "night": "at night",
        "indoor": "in dim light",
    }
    words = [f"{facts['place']} {light[str(facts['light'])]}"]
    if facts.get("air", "clear") != "clear":
        words.append(f"in {facts['air']}")
    things = []
    if facts["people"]:
        things.append(_count(int(facts["people"]), "person", "people"))
    if facts["vehicles"]:
        things.append(_count(int(facts["vehicles"]), "vehicle", "vehicles"))
    return " ".join(words) + (" with " + " and ".join(things) if things else ", empty")
