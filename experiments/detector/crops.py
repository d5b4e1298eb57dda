"""Training crops: rendered pairs with boxes, memory-mapped, as one gray picture of many kinds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ldf_utils.data.files import atomic_path, write_json
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import find_picture
from ldf_utils.detection.boxes import CLASS_OF, CLASSES
from ldf_utils.fusion.rules import RULES

HEIGHT, WIDTH = 360, 480  # every stored pair
CROP = 256
ZOOM = (0.72, 2.4)
LEAST_SHOWN = 0.4  # of a box: less within the crop, and it is ignored
LEAST_SIDES = (3.0, 7.0)  # width and height in pixels of the crop: smaller boxes are ignored

Picture = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
KINDS: Mapping[str, float] = {
    "visible": 0.23,
    "infrared": 0.23,
    "mix": 0.18,
    "maximum": 0.1,
    "laplacian_pyramid": 0.16,
    "guided_filter": 0.1,
}
"""How often each kind of picture is drawn; ``mix`` is an average with a random weight."""


@dataclass(frozen=True)
class Crop:
    """One training picture.

    Attributes:
        gray: ``(1, CROP, CROP)`` in [0, 1].
        boxes: ``(M, 4)`` corners in pixels of the crop.
        classes: ``(M,)`` places in `CLASSES`.
        ignored: ``(M,)`` bool, too small or too much cut off to be learned.
    """

    gray: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor
    ignored: torch.Tensor


def _labels(folder: Path) -> dict[str, list[list[float]]]:
    """Read the boxes of a rendered folder, packed or raw: stem to rows of corners and class."""
    found: dict[str, list[list[float]]] = {}
    if (folder / "boxes.csv").is_file():
        with open(folder / "boxes.csv", newline="", encoding="utf-8") as file:
            rows = [(Path(row["image"]).stem, row) for row in csv.DictReader(file)]
    else:
        rows = [
            (path.stem, box)
            for path in sorted((folder / "truth" / "facts").glob("*.json"))
            for box in json.loads(path.read_text(encoding="utf-8"))["boxes"]
        ]
    for stem, row in rows:
        name = CLASS_OF[row["name"]]
        if name is not None:
            corners = [float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")]
            found.setdefault(stem, []).append([*corners, CLASSES.index(name)])
    return found


def _finished(folder: Path) -> list[str]:
    """List the stems of a rendered folder whose files are all there."""
    facts = sorted((folder / "truth" / "facts").glob("*.json"))
    return [path.stem for path in facts or sorted((folder / "ir").iterdir())]


def collect(sources: Iterable[Path], work: Path) -> int:
    """Write the luminance of both cameras of all pairs to one file that can be memory-mapped.

    Args:
        sources: rendered folders, as ``python -m experiments.world render`` or ``pack`` write them.
        work: the folder of the training; ``pairs.npy`` and ``pairs.json`` are written there.

    Returns:
        The number of pairs.

    Raises:
        ValueError: if there is no pair.
    """
    stems = [(folder, stem) for folder in sources for stem in _finished(folder)]
    if not stems:
        raise ValueError("no rendered pair to train on; name folders with --sources")
    boxes, known = [], {folder: _labels(folder) for folder in dict.fromkeys(f for f, _ in stems)}
    with atomic_path(work / "pairs.npy") as temporary:
        shape = (len(stems), 2, HEIGHT, WIDTH)
        store = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        for k, (folder, stem) in enumerate(stems):
            for channel, camera in enumerate(("ir", "vi")):
                path = find_picture(folder / camera, stem)
                if path is None:
                    raise ValueError(f"{folder / camera}: no picture {stem}.*; render it again")
                picture = luminance(read_image(path))[None]
                size = picture.shape[-2:]
                picture = F.interpolate(picture, (HEIGHT, WIDTH), mode="bicubic", antialias=True)
                store[k, channel] = (picture[0, 0].clamp(0, 1) * 255).round().numpy()
            scale = [WIDTH / size[1], HEIGHT / size[0]] * 2 + [1]
            boxes.append((np.array(known[folder].get(stem, [])).reshape(-1, 5) * scale).tolist())
        store.flush()
        del store
    write_json(work / "pairs.json", boxes)
    return len(stems)


class Crops:
    """Random crops of the collected pairs.

    Args:
        work: the folder that `collect` wrote to.
        kinds: what is drawn how often, a part of `KINDS`, or functions of ``infrared, visible``
            ``(1, 1, H, W)`` that give a picture (for one detector per method).
        tones: whether tone curves, blur, noise and inversion are drawn, too.
    """

    def __init__(
        self,
        work: Path,
        kinds: Mapping[str, float] = KINDS,
        methods: Mapping[str, Picture] | None = None,
    ):
        self.pairs = np.load(work / "pairs.npy", mmap_mode="r")
        rows = json.loads((work / "pairs.json").read_text(encoding="utf-8"))
        self.boxes = [np.array(row, np.float64).reshape(-1, 5) for row in rows]
        self.kinds, self.methods = dict(kinds), dict(methods or {})

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw one crop."""
        index = int(rng.integers(len(self.pairs)))
        rows = self.boxes[index]
        zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
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
    seen = (sides > 1).all(1)
    shown = sides.prod(1) / whole.prod(1).clip(1e-6)
    ignored = (shown < LEAST_SHOWN) | (sides < LEAST_SIDES).any(1)
    return Crop(
        gray,
        torch.from_numpy(cut[seen]).float(),
        torch.from_numpy(classes[seen]).long(),
        torch.from_numpy(ignored[seen]),
    )


def stack(crops: Sequence[Crop]) -> torch.Tensor:
    """Stack the pictures of some crops to a batch."""
    return torch.stack([crop.gray for crop in crops])
