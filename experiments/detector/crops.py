"""Training crops: rendered pairs with boxes, memory-mapped, as one gray picture of many kinds."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from tqdm.auto import tqdm

from ldf_utils.data.files import atomic_path, write_json
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import find_picture
from ldf_utils.detection.boxes import CLASS_OF, CLASSES, Boxes
from ldf_utils.detection.visibility import contrast
from ldf_utils.fusion.rules import RULES

HEIGHT, WIDTH = 360, 480  # every stored pair
CROP = 256
ZOOM = (0.72, 2.4)
SOFTEN = 0.8  # pixels, of the temperatures of a pool
VARIANTS = 2  # pictures of a view of a pool, by different cameras
LEAST_SHOWN = 0.4  # of a box: less within the crop, and it is ignored
LEAST_CONTRAST = 0.025  # of a box in its picture: less cannot be seen, and it is ignored
LEAST_SIDES = (3.0, 7.0)  # width and height in pixels of the crop: smaller boxes are ignored

Picture = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
KINDS: Mapping[str, float] = {
    "visible": 0.35,  # the hardest to learn
    "infrared": 0.17,
    "mix": 0.16,
    "maximum": 0.08,
    "laplacian_pyramid": 0.16,
    "guided_filter": 0.08,
}
"""How often each kind of picture is drawn; ``mix`` is an average with a random weight."""


@dataclass(frozen=True)
class Crop:
    """One training picture.

    Attributes:
        gray: ``(1, CROP, CROP)`` in [0, 1].
        boxes: ``(M, 4)`` corners in pixels of the crop.
        classes: ``(M,)`` places in `CLASSES`.
        ignored: ``(M,)`` bool: too small, too much cut off, or not to be seen in this picture.
    """

    gray: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor
    ignored: torch.Tensor


@dataclass(frozen=True)
class Stored:
    """One pair to store: both luminances ``(2, h, w)`` uint8, and rows of corners and class."""

    pictures: np.ndarray
    rows: list[list[float]]


def _rows(boxes: Iterable[Mapping[str, Any]]) -> list[list[float]]:
    """Bring boxes of a rendered set to rows of corners and class."""
    found = []
    for box in boxes:
        name = CLASS_OF[box["name"]]
        if name is not None:
            corners = [float(box[key]) for key in ("xmin", "ymin", "xmax", "ymax")]
            found.append([*corners, CLASSES.index(name)])
    return found


def _gray(path: Path) -> np.ndarray:
    levels: np.ndarray = (luminance(read_image(path))[0] * 255).round().numpy()
    return levels.astype(np.uint8)


def _packed(folder: Path) -> Iterator[Callable[[], Stored]]:
    """Yield how to read each pair of a rendered folder, packed or raw."""
    boxes: dict[str, list[dict[str, Any]]] = {}
    if (folder / "boxes.csv").is_file():
        with open(folder / "boxes.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                boxes.setdefault(Path(row["image"]).stem, []).append(dict(row))
        stems = [path.stem for path in sorted((folder / "ir").iterdir())]
    else:
        facts = sorted((folder / "truth" / "facts").glob("*.json"))
        boxes = {p.stem: json.loads(p.read_text(encoding="utf-8"))["boxes"] for p in facts}
        stems = list(boxes)

    def read(stem: str) -> Stored:
        paths = [find_picture(folder / camera, stem) for camera in ("ir", "vi")]
        if None in paths:
            raise ValueError(f"{folder}: no ir/{stem}.* or vi/{stem}.*; render it again")
        pictures = np.stack([_gray(path) for path in paths if path])
        return Stored(pictures, _rows(boxes.get(stem, [])))

    for stem in stems:
        yield functools.partial(read, stem)


def _pooled(folder: Path) -> Iterator[Callable[[], Stored]]:
    """Yield how to photograph each view of a pool: by `VARIANTS` cameras of each kind."""
    from experiments.world import cameras
    from experiments.world.pair import TEMPERATURE_OFFSET, TEMPERATURE_SCALE

    def read(path: Path, variant: int) -> Stored:
        rng = np.random.default_rng([variant, *path.stem.encode()])
        with np.load(path) as view:
            facts = json.loads(str(view["facts"]))
            celsius = view["celsius"].astype(np.float32) / TEMPERATURE_SCALE - TEMPERATURE_OFFSET
            color = cameras.random_visible(facts["light"], rng)
            visible = cameras.develop(view["radiance"].astype(np.float32), color, rng)
        soft = ndimage.gaussian_filter(celsius, SOFTEN)  # a pool has one ray a pixel
        infrared = cameras.sense(soft, cameras.random_thermal(rng), rng)
        luma = np.round(visible @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
        return Stored(np.stack([infrared, luma]), _rows(facts["boxes"]))

    worlds = sorted(path.stem for path in (folder / "worlds").glob("*.json"))
    for path in (path for world in worlds for path in sorted(folder.glob(f"{world}_*.npz"))):
        for variant in range(VARIANTS):
            yield functools.partial(read, path, variant)


def collect(sources: Iterable[Path], work: Path) -> int:
    """Write the luminance of both cameras of all pairs to one file that can be memory-mapped.

    Args:
        sources: rendered folders, as ``python -m experiments.world render`` or ``pack`` write them,
            and pools of ``python -m experiments.embedded_clip pool``.
        work: the folder of the training; ``pairs.npy`` and ``pairs.json`` are written there.

    Returns:
        The number of pairs.

    Raises:
        ValueError: if there is no pair, or a picture is missing.
    """
    readers = [
        reader
        for folder in sources
        for reader in (_pooled if (folder / "worlds").is_dir() else _packed)(folder)
    ]
    if not readers:
        raise ValueError("no rendered pair to train on; name folders with --sources")
    known: list[dict[str, Any]] = []
    with atomic_path(work / "pairs.npy") as temporary:
        shape = (len(readers), 2, HEIGHT, WIDTH)
        store = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        for k, reader in enumerate(tqdm(readers, "collecting", disable=None)):
            pair = reader()
            height, width = pair.pictures.shape[-2:]
            whole = torch.from_numpy(pair.pictures)[None].float()
            whole = F.interpolate(whole, (HEIGHT, WIDTH), mode="bicubic", antialias=True)
            store[k] = whole[0].clamp(0, 255).round().numpy()
            scale = [WIDTH / width, HEIGHT / height] * 2 + [1]
            rows = (np.array(pair.rows).reshape(-1, 5) * scale).tolist()
            known.append({"enlarged": max(1.0, HEIGHT / height), "rows": rows})
        store.flush()
        del store
    write_json(work / "pairs.json", known)
    return len(readers)


class Crops:
    """Random crops of the collected pairs.

    Args:
        work: the folder that `collect` wrote to.
        kinds: what is drawn how often, a part of `KINDS`, or functions of ``infrared, visible``
            ``(1, 1, H, W)`` that give a picture (for one detector per method).

    """

    def __init__(
        self,
        work: Path,
        kinds: Mapping[str, float] = KINDS,
        methods: Mapping[str, Picture] | None = None,
    ):
        self.pairs = np.load(work / "pairs.npy", mmap_mode="r")
        known = json.loads((work / "pairs.json").read_text(encoding="utf-8"))
        self.boxes = [np.array(pair["rows"], np.float64).reshape(-1, 5) for pair in known]
        self.enlarged = [float(pair["enlarged"]) for pair in known]
        self.kinds, self.methods = dict(kinds), dict(methods or {})

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw one crop."""
        index = int(rng.integers(len(self.pairs)))
        rows = self.boxes[index]
        most = ZOOM[1] / self.enlarged[index]  # of the pixels that were rendered
        zoom = float(np.exp(rng.uniform(*np.log([ZOOM[0], most]))))
        side = round(CROP / zoom)
        x0, y0 = (int(rng.integers(0, size - side + 1)) for size in (WIDTH, HEIGHT))
        if len(rows) and rng.random() < 0.75:
            box = rows[rng.integers(len(rows))]
            x0, y0 = (
                int(np.clip((a + b) / 2 - side * rng.uniform(0.2, 0.8), 0, size - side))
                for a, b, size in ((box[0], box[2], WIDTH), (box[1], box[3], HEIGHT))
            )
        part = torch.from_numpy(self.pairs[index, :, y0 : y0 + side, x0 : x0 + side].copy())
        part = F.interpolate(
            part[None].float() / 255, (CROP, CROP), mode="bilinear", antialias=zoom < 1
        )
        infrared, visible = part[:, :1], part[:, 1:]
        gray = vary(self._picture(infrared, visible, rng), rng)[0].clamp(0, 1)
        corners = (rows[:, :4] - [x0, y0, x0, y0]) * (CROP / side)
        classes = rows[:, 4]
        if rng.random() < 0.5:
            gray = gray.flip(-1)
            corners = np.stack(
                [CROP - corners[:, 2], corners[:, 1], CROP - corners[:, 0], corners[:, 3]], 1
            )
        return _within(gray, corners, classes)

    def _picture(
        self, infrared: torch.Tensor, visible: torch.Tensor, rng: np.random.Generator
    ) -> torch.Tensor:
        kinds = list(self.kinds)
        weights = np.array([self.kinds[kind] for kind in kinds])
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        if kind in self.methods:
            return self.methods[kind](infrared, visible)
        if kind in ("infrared", "visible"):
            return infrared if kind == "infrared" else visible
        if kind == "mix":
            return torch.lerp(visible, infrared, float(rng.uniform(0.25, 0.75)))
        return RULES[kind](infrared, visible)


def vary(gray: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change tone, sharpness and noise of a picture at random; at times invert it."""
    gray = gray.clamp(0, 1) ** float(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.08:
        gray = 1 - gray
    if rng.random() < 0.3:
        gray = (gray - 0.5) * float(rng.uniform(0.4, 1.6)) + float(rng.uniform(0.35, 0.65))
    if rng.random() < 0.3:
        few = int(CROP / rng.uniform(1.2, 2.5))
        gray = F.interpolate(gray, (few, few), mode="bilinear", antialias=True)
        gray = F.interpolate(gray, (CROP, CROP), mode="bilinear")
    if rng.random() < 0.4:
        noise = rng.standard_normal(gray.shape, dtype=np.float32) * rng.uniform(0, 0.05)
        gray = gray + torch.from_numpy(noise)
    return gray


def _within(gray: torch.Tensor, corners: np.ndarray, classes: np.ndarray) -> Crop:
    """Cut boxes at the sides of the crop, and say which are ignored."""
    cut = corners.clip(0, CROP)
    sides, whole = cut[:, 2:] - cut[:, :2], corners[:, 2:] - corners[:, :2]
    kept = (sides > 1).all(1)
    shown = sides.prod(1) / whole.prod(1).clip(1e-6)
    ignored = (shown < LEAST_SHOWN) | (sides < LEAST_SIDES).any(1)
    boxes = Boxes(cut[kept], classes[kept].astype(np.int64))
    hidden = contrast(gray, boxes) < LEAST_CONTRAST  # not so where it is not known
    return Crop(
        gray,
        torch.from_numpy(boxes.corners).float(),
        torch.from_numpy(boxes.classes),
        torch.from_numpy(ignored[kept] | hidden),
    )


def stack(crops: Sequence[Crop]) -> torch.Tensor:
    """Stack the pictures of some crops to a batch."""
    return torch.stack([crop.gray for crop in crops])
