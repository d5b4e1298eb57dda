"""What the embedded CLIP knows of people in labeled real pictures: are some there, do they show?

People or none: square crops around each labeled person, against crops of the same sizes without any
label. Salience: a crop with a labeled person, against the same crop with the person hidden in its
surroundings (`experiments.embedded_clip.salience`), with grain or global contrast added, with half
of its contrast, and hidden with grain or contrast. Pictures of both cameras count, those of the
visible one as luminance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from experiments.embedded_clip import salience
from experiments.embedded_clip.scores import area_under_curve, interval
from ldf_utils.clip.attributes import attribute_scores
from ldf_utils.clip.model import PROMPTS, ClipSpace, resize_square
from ldf_utils.data.pairs import Pair, PairFolder
from ldf_utils.detection.boxes import CLASSES
from ldf_utils.detection.labels import read_labels
from ldf_utils.metrics.oracle import masked_mean, widen

SIDE = 128
"""Height and width of a crop after reduction."""

_PERSON = CLASSES.index("person")
_SHARES = (0.3, 0.75)  # height of a person in the crop
_LEAST = 14.0  # pixels that a person must be high
_TRIES = 60

Box = npt.NDArray[np.float64]


def _square(image: torch.Tensor, top: float, left: float, side: float) -> torch.Tensor:
    """Cut a square out of ``(1, H, W)`` and bring it to ``(1, 128, 128)``."""
    rows, columns = slice(int(top), int(top + side)), slice(int(left), int(left + side))
    return resize_square(image[None, :, rows, columns], SIDE)[0].clamp(0, 1)


def _around(box: Box, size: tuple[int, int], rng: np.random.Generator) -> Box | None:
    """Choose a square (top, left, side) in which a box is 30 to 75 % high; None if it cannot be."""
    xmin, ymin, xmax, ymax = box
    height = max(ymax - ymin, xmax - xmin)
    side = min(max(height / rng.uniform(*_SHARES), 40.0), *size)
    if ymax - ymin < _LEAST or height > 0.95 * side:
        return None
    low = np.array([ymax, xmax]) - side, np.array([0.0, 0.0])
    high = np.array([ymin, xmin]), np.array(size) - side
    corner = rng.uniform(np.maximum(*low), np.maximum(np.minimum(*high), np.maximum(*low)))
    return np.array([*corner, side])


def _overlaps(square: Box, corners: Box) -> bool:
    top, left, side = square
    xmin, ymin, xmax, ymax = corners.T
    apart = (xmin > left + side) | (xmax < left) | (ymin > top + side) | (ymax < top)
    return bool((~apart).any())


def _ellipse(box: Box, square: Box, share: float) -> torch.Tensor:
    """Return an ellipse in the middle of a person's box, ``(1, 128, 128)`` bool."""
    top, left, side = square
    xmin, ymin, xmax, ymax = (box - np.array([left, top, left, top])) * SIDE / side
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    x = (columns - (xmin + xmax) / 2) / max(share * (xmax - xmin) / 2, 2)
    y = (rows - (ymin + ymax) / 2) / max(share * (ymax - ymin) / 2, 2)
    return torch.from_numpy(x**2 + y**2 < 1)[None]


def person_mask(images: torch.Tensor, whole: torch.Tensor, core: torch.Tensor) -> torch.Tensor:
    """Find the pixels of people: in their boxes, nearer to the level of the middle than the ring's.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1].
        whole: ``(N, 1, H, W)`` bool: an ellipse as large as the box.
        core: the same: its middle.

    Returns:
        ``(N, 1, H, W)`` with 0 and 1.
    """
    inside, wide = masked_mean(images, core.float()), whole.float()
    ring = masked_mean(images, widen(wide, salience.RING) - wide)
    gap = (inside - ring)[..., None, None]
    return (whole & ((images - ring[..., None, None]) * gap.sign() > 0.5 * gap.abs())).float()


def _crops(
    pair: Pair, corners: Box, people: Box, rng: np.random.Generator
) -> Iterator[tuple[Box, Box | None]]:
    """Yield squares with a person and that person's box, each followed by one without labels."""
    size = (pair.infrared.shape[-2], pair.infrared.shape[-1])
    for box in people:
        square = _around(box, size, rng)
        if square is None:
            continue
        yield square, box
        side = square[2]
        for _ in range(_TRIES):
            corner = rng.uniform(0, 1, 2) * (np.array(size) - side)
            other = np.array([*corner, side])
            if not _overlaps(other, corners):
                yield other, None
                break


@torch.no_grad()
def evaluate_labeled(clip: ClipSpace, pairs: PairFolder, seed: int = 0) -> dict[str, Any]:
    """Measure people or none, and salient or hidden, on the labeled pictures of a set.

    Args:
        clip: the model.
        pairs: a set with ``labels/``, see `ldf_utils.detection.labels.read_labels`.
        seed: of the crops.

    Returns:
        ``people`` by camera: numbers of crops with and without, balanced accuracy at threshold 0
        with its interval, and area under the curve. ``salience`` by camera: of the crops whose
        person does stand out, the share in which the sentences about salient objects
        (``objects``), about salient people (``people``) and the target sentence (``target``) fit
        the crop better than the changed copy; by change.

    Raises:
        LabelError: if the set has no labels.
    """
    labels = read_labels(pairs.folder, pairs)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    crops: dict[str, list[torch.Tensor]] = {"infrared": [], "visible": []}
    found: list[tuple[Box, Box | None]] = []
    for pair in pairs:
        boxes = labels.boxes.get(pair.name)
        if boxes is None:
            continue
        people = boxes.corners[(boxes.classes == _PERSON) & ~boxes.ignored]
        for square, box in _crops(pair, boxes.corners, people, rng):
            found.append((square, box))
            for name, image in (("infrared", pair.infrared), ("visible", pair.luminance)):
                crops[name].append(_square(image, *square))
    there = torch.tensor([box is not None for _, box in found])
    if there.all() or not there.any():
        return {}
    whole, core = (
        torch.stack([_ellipse(box, square, share) for square, box in found if box is not None])
        for share in (1.0, 0.6)
    )
    report: dict[str, Any] = {"people": {}, "salience": {}}
    for name, images in ((name, torch.stack(rows)) for name, rows in crops.items()):
        report["people"][name] = _people(clip, images, there)
        mask = person_mask(images[there], whole, core)
        report["salience"][name] = _salience(clip, images[there], mask, generator)
    return report


def _people(clip: ClipSpace, images: torch.Tensor, there: torch.Tensor) -> dict[str, Any]:
    scores = attribute_scores(clip, clip.encode_image(images), "people")
    right = interval(scores[there] > 0), interval(scores[~there] <= 0)
    balanced = {k: round((right[0][k] + right[1][k]) / 2, 4) for k in ("mean", "low", "high")}
    area = round(area_under_curve(scores[there], scores[~there]), 4)
    return {"with": int(there.sum()), "without": int((~there).sum()), **balanced, "auc": area}


def _salience(
    clip: ClipSpace, images: torch.Tensor, mask: torch.Tensor, generator: torch.Generator
) -> dict[str, Any]:
    gap, _ = salience.contrast(images, mask)
    stands_out = gap.abs()[:, 0] > salience.OBVIOUS_GAP
    images, mask = images[stands_out], mask[stands_out]
    if not len(images):
        return {"crops": 0}
    hidden = salience.set_contrast(images, mask, torch.zeros(1, 1, 1, 1), torch.tensor(0.5))
    mean = images.mean((-2, -1), keepdim=True)
    grain = 0.06 * torch.randn(images.shape, generator=generator)
    stretch = 0.5 * (images - mean)
    changed = {
        "hidden": hidden,
        "grain": (images + grain).clamp(0, 1),
        "contrast": (images + stretch).clamp(0, 1),
        "less contrast": images - stretch,
        "hidden, grain": (hidden + grain).clamp(0, 1),
        "hidden, contrast": (mean + 1.5 * (hidden - mean)).clamp(0, 1),
    }
    before = _salience_scores(clip, images)
    report: dict[str, Any] = {"crops": len(images)}
    for kind, copies in changed.items():
        after = _salience_scores(clip, copies)
        report[kind] = {name: interval(before[name] > after[name]) for name in before}
    return report


def _salience_scores(clip: ClipSpace, images: torch.Tensor) -> dict[str, torch.Tensor]:
    seen = clip.encode_image(images)
    return {
        "objects": attribute_scores(clip, seen, "salient"),
        "people": attribute_scores(clip, seen, "salient_people"),
        "target": seen @ clip.encode_text(PROMPTS.fused)[0],
    }
