"""What is trained and measured on: the rendered set, real pairs."""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from experiments.ablation.measures import Sample
from experiments.ablation.objects import Box
from ldf_utils.data.pairs import Pair, PairFolder, find_sets
from ldf_utils.data.sets import RENDERED
from ldf_utils.data.truth import Truth
from ldf_utils.evaluation.ablation import BASE
from ldf_utils.training.config import TrainConfig

SHIPPED = "rendered"
"""The word by which `Settings.train` names the training part of the rendered set."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the results, but for the code and the weights of CLIP.

    Attributes:
        config: what all variants share.
        held_out: rendered pairs to measure on, of the test part.
        data: folder of real sets to measure on as well, or None.
        pairs_per_set: real pairs of each set, evenly spread over it; of those with labels, if any.
        side: longest side of the part of a real or rendered pair that is used.
        train: sets to train on: folders with ``ir/`` and ``vi/``, folders of such, or `SHIPPED`.
    """

    config: TrainConfig = BASE
    held_out: int = 24
    data: str | None = None
    pairs_per_set: int = 4
    side: int = 256
    train: tuple[str, ...] = (SHIPPED,)

    def __post_init__(self):
        for name in ("held_out", "pairs_per_set"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not self.train:
            raise ValueError(f"train must name at least one set, such as {SHIPPED!r}")


@dataclass(frozen=True)
class StudyData:
    """Pairs to train on and samples to measure on, and one number for all their pixels."""

    pairs: tuple[Pair, ...]
    samples: Mapping[str, tuple[Sample, ...]]
    digest: str


def read_boxes(folder: Path) -> dict[str, list[Box]]:
    """Read ``labels/boxes.csv`` or ``boxes.csv`` of a set: stem to boxes; empty without them.

    Raises:
        ValueError: if a column is missing or a number cannot be read.
    """
    path = folder / "labels" / "boxes.csv"
    path = path if path.is_file() else folder / "boxes.csv"
    if not path.is_file():
        return {}
    boxes: dict[str, list[Box]] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                edges = [round(float(row[k])) for k in ("xmin", "ymin", "xmax", "ymax")]
                boxes.setdefault(Path(row["image"]).stem, []).append(Box(row["name"], *edges))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected image,xmin,ymin,xmax,ymax,name with numbers, "
                    f"found {row!r}"
                ) from error
    return boxes


def _window(sample: Sample, side: int) -> Sample:
    """Cut a part with even sides of at most ``side``: about the tallest box, or from the middle.

    A picture whose tallest box is higher than half the part is halved before, as often as needed.
    """
    tallest = max((box.ymax - box.ymin for box in sample.boxes), default=0)
    while tallest > side / 2:
        images = (sample.infrared, sample.visible, sample.warm)
        infrared, visible, warm = (F.avg_pool2d(x[None], 2)[0] for x in images)
        oracle = None if sample.oracle is None else F.avg_pool2d(sample.oracle[None], 2)[0]
        boxes = tuple(
            Box(b.label, b.xmin // 2, b.ymin // 2, b.xmax // 2, b.ymax // 2) for b in sample.boxes
        )
        sample = Sample(sample.name, infrared, visible, warm, oracle, boxes)
        tallest //= 2
    full = sample.infrared.shape[-2:]
    height, width = (min(length - length % 2, side) for length in full)
    top, left = (full[0] - height) // 2, (full[1] - width) // 2
    if sample.boxes:
        box = max(sample.boxes, key=lambda b: b.ymax - b.ymin)
        top = min(max(0, (box.ymin + box.ymax - height) // 2), full[0] - height)
        left = min(max(0, (box.xmin + box.xmax - width) // 2), full[1] - width)
    inside = (slice(None), slice(top, top + height), slice(left, left + width))
    moved = (
        Box(b.label, b.xmin - left, b.ymin - top, b.xmax - left, b.ymax - top) for b in sample.boxes
    )
    return replace(
        sample,
        infrared=sample.infrared[inside].contiguous(),
        visible=sample.visible[inside].contiguous(),
        warm=sample.warm[inside].contiguous(),
        oracle=None if sample.oracle is None else sample.oracle[inside].contiguous(),
        boxes=tuple(
            b for b in moved if b.xmin >= 0 and b.ymin >= 0 and b.xmax <= width and b.ymax <= height
        ),
    )


def _spread(names: Sequence[object], count: int) -> list[int]:
    places = torch.linspace(0, len(names) - 1, min(count, len(names)))
    return places.round().long().tolist()


def real_samples(data: str, pairs_per_set: int, side: int) -> list[Sample]:
    """Parts of real pairs, evenly spread over each set, or over its labeled pairs if it has any.

    Args:
        data: folder of sets, as in `ldf_utils.data.pairs.find_sets`.
        pairs_per_set: how many of each, at most.
        side: longest side of a part.

    Raises:
        ImageError: as `find_sets`, or if a picture cannot be read.
        ValueError: as `read_boxes`.
    """
    samples = []
    for name, pairs in find_sets(data).items():
        boxes = read_boxes(pairs.folder)
        chosen = [k for k, stem in enumerate(pairs.names) if stem in boxes or not boxes]
        for place in _spread(chosen, pairs_per_set):
            pair = pairs[chosen[place]]
            whole = Sample(
                f"{name}/{pair.name}",
                pair.infrared,
                pair.luminance,
                torch.zeros_like(pair.infrared),
                boxes=tuple(boxes.get(pair.name, ())),
            )
            part = _window(whole, side)
            edge = part.infrared.flatten().quantile(0.97)
            samples.append(replace(part, warm=(part.infrared > edge).float()))
    return samples


def rendered_samples(count: int, side: int) -> list[Sample]:
    """Parts of pairs of the rendered test set, evenly spread, with their truth and boxes."""
    pairs = PairFolder(RENDERED / "test")
    boxes, samples = read_boxes(pairs.folder), []
    for place in _spread(pairs.names, count):
        pair = pairs[place]
        truth = Truth(pairs.folder, pair.name)
        whole = Sample(
            f"rendered/{pair.name}",
            pair.infrared,
            pair.luminance,
            truth.warm.float(),
            truth.oracle,
            tuple(boxes.get(pair.name, ())),
        )
        samples.append(_window(whole, side))
    return samples


def training_sets(train: Sequence[str]) -> list[tuple[str, PairFolder]]:
    """Open the sets of `Settings.train`, by name.

    Raises:
        ImageError: as `find_sets`.
    """
    found: list[tuple[str, PairFolder]] = []
    for entry in train:
        if entry == SHIPPED:
            found.append((SHIPPED, PairFolder(RENDERED / "train")))
        elif (Path(entry) / "ir").is_dir():
            found.append((Path(entry).resolve().name, PairFolder(entry)))
        else:
            found.extend(find_sets(entry).items())
    return found


@functools.lru_cache(maxsize=1)
def prepare(settings: Settings) -> StudyData:
    """Read the pairs.

    Raises:
        ImageError: as `real_samples` and `training_sets`.
    """
    pairs = tuple(pair for _, folder in training_sets(settings.train) for pair in folder)
    samples = {"scenes": tuple(rendered_samples(settings.held_out, settings.side))}
    images: list[tuple[torch.Tensor | None, ...]]
    images = [(pair.infrared, pair.luminance) for pair in pairs]
    if settings.data:
        samples["pairs"] = tuple(real_samples(settings.data, settings.pairs_per_set, settings.side))
    digest = hashlib.sha256()
    measured = [sample for group in samples.values() for sample in group]
    images += [(s.infrared, s.visible, s.warm, s.oracle) for s in measured]
    for image in (image for several in images for image in several if image is not None):
        digest.update(image.contiguous().numpy().tobytes())
    digest.update(repr([sample.boxes for sample in measured]).encode())
    return StudyData(pairs, samples, digest.hexdigest())
