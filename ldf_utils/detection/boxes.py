"""Boxes around people and vehicles: one class for truth and for detections, and what they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms, box_iou

CLASSES = ("person", "vehicle")

CLASS_OF: Mapping[str, str | None] = {
    **dict.fromkeys(("person", "people", "pedestrian", "cyclist", "rider"), "person"),
    **dict.fromkeys(("vehicle", "car", "bus", "truck", "van"), "vehicle"),
    **dict.fromkeys(("bicycle", "bike", "motorcycle", "motorbike", "motor"), "vehicle"),
    **dict.fromkeys(
        ("lamp", "light", "sign", "dog", "animal", "deer", "skateboard", "train"), None
    ),
    **dict.fromkeys(("traffic light", "traffic sign", "stop sign", "hydrant", "color cone"), None),
    **dict.fromkeys(("car stop", "curve", "guardrail", "bump", "other vehicle"), None),
}
"""Names in published labels (lower case, with blanks) to one of `CLASSES`; None: not counted."""


@dataclass(frozen=True)
class Boxes:
    """Some boxes of one picture.

    Attributes:
        corners: ``(N, 4)`` float64, ``xmin, ymin, xmax, ymax`` in pixels; the left upper corner of
            the picture is 0, 0.
        classes: ``(N,)`` integers, places in `CLASSES`.
        scores: ``(N,)`` float64, how sure a detector is; 1 for labels.
        ignored: ``(N,)`` bool, labels that count neither as found nor as missed.
    """

    corners: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    ignored: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        count = len(self.corners)
        if not len(self.scores):
            object.__setattr__(self, "scores", np.ones(count))
        if not len(self.ignored):
            object.__setattr__(self, "ignored", np.zeros(count, bool))
        shapes = [a.shape for a in (self.corners, self.classes, self.scores, self.ignored)]
        if shapes != [(count, 4), (count,), (count,), (count,)]:
            raise ValueError(f"boxes must have shapes (N, 4), (N,), (N,), (N,), got {shapes}")

    def __len__(self) -> int:
        return len(self.corners)

    def pick(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Boxes:
        """Return the boxes that a mask or indices choose."""
        return Boxes(
            self.corners[chosen], self.classes[chosen], self.scores[chosen], self.ignored[chosen]
        )

    @classmethod
    def of(cls, rows: Iterable[tuple[Sequence[float], str]]) -> Boxes:
        """Make boxes of corners with the names of their classes.

        Example:
            >>> Boxes.of([((10, 20, 30, 80), "person")]).corners
            array([[10., 20., 30., 80.]])
        """
        rows = list(rows)
        corners = np.array([corners for corners, _ in rows], np.float64).reshape(-1, 4)
        return cls(corners, np.array([CLASSES.index(name) for _, name in rows], np.int64))


def overlaps(first: Boxes, second: Boxes) -> npt.NDArray[np.float64]:
    """Compute the intersection over union of each two boxes.

    Returns:
        ``(len(first), len(second))`` in [0, 1].
    """
    found: npt.NDArray[np.float64] = box_iou(
        torch.from_numpy(first.corners), torch.from_numpy(second.corners)
    ).numpy()
    return found


def merge(detections: Sequence[Boxes], overlap: float = 0.5) -> Boxes:
    """Merge detections of one scene in several pictures by non-maximum suppression.

    Of boxes of one class that overlap by more than ``overlap``, the one with the highest score
    stays. This is late fusion: it needs two runs of the detector and no fused picture.

    Args:
        detections: boxes of the same scene, for example in its infrared and visible picture.
        overlap: intersection over union from which two boxes are taken for one.

    Returns:
        The boxes that stay, highest score first.
    """
    parts = [
        np.concatenate([getattr(boxes, name) for boxes in detections])
        for name in ("corners", "classes", "scores", "ignored")
    ]
    together = Boxes(*parts)
    kept = batched_nms(
        *(torch.from_numpy(part) for part in (parts[0], parts[2], parts[1])), overlap
    )
    return together.pick(kept.numpy())


@dataclass(frozen=True)
class Outcome:
    """What a detector found in one picture at one score.

    Attributes:
        found: ``(len(truth),)`` bool, labels that a detection hits; ignored labels are neither
            found nor missed.
        missed: ``(len(truth),)`` bool.
        false: ``(len(detections),)`` bool, detections that hit nothing.
    """

    found: npt.NDArray[np.bool_]
    missed: npt.NDArray[np.bool_]
    false: npt.NDArray[np.bool_]


def outcome(truth: Boxes, detections: Boxes, score: float = 0.0, overlap: float = 0.5) -> Outcome:
    """Decide which labels are found, which are missed, and which detections are false.

    Detections are served in the order of their scores; each takes the free label of its class that
    it overlaps most, if by ``overlap`` or more.

    Args:
        truth: labels.
        detections: of the same picture.
        score: detections below it do not take part.
        overlap: least intersection over union of a hit.
    """
    found = np.zeros(len(truth), bool)
    false = np.zeros(len(detections), bool)
    shared = overlaps(detections, truth)
    for k in np.argsort(-detections.scores, kind="mergesort"):
        if detections.scores[k] < score:
            break
        same = (truth.classes == detections.classes[k]) & (shared[k] >= overlap)
        free = np.flatnonzero(same & ~found & ~truth.ignored)
        if len(free):
            found[free[np.argmax(shared[k, free])]] = True
        else:
            false[k] = not (same & truth.ignored).any()
    return Outcome(found, ~found & ~truth.ignored, false)


def sort_boxes(
    truth: Boxes, detections: Boxes, score: float = 0.0
) -> dict[str, npt.NDArray[np.float64]]:
    """Sort the boxes of a picture into ``found`` and ``missed`` labels and ``false`` detections.

    Args:
        truth: labels.
        detections: of the same picture.
        score: detections below it do not take part.

    Returns:
        Corners ``(N, 4)`` of each kind.
    """
    made = outcome(truth, detections, score)
    return {
        "found": truth.corners[made.found],
        "missed": truth.corners[made.missed],
        "false": detections.corners[made.false],
    }


def best_score(truth: Mapping[str, Boxes], detections: Iterable[Mapping[str, Boxes]]) -> float:
    """Find the score with the highest F1 over some methods together, for pictures of boxes.

    F1 is ``2 found / (2 found + missed + false)``.

    Args:
        truth: labels of each picture.
        detections: of each method, those of the pictures that it has.

    Returns:
        One of 0.05, 0.1, ..., 0.95.
    """
    methods = list(detections)

    def f1(score: float) -> float:
        found = wrong = 0
        for method in methods:
            for name, boxes in method.items():
                made = outcome(truth[name], boxes, score)
                found += int(made.found.sum())
                wrong += int(made.missed.sum() + made.false.sum())
        return 2 * found / max(1, 2 * found + wrong)

    return max((round(0.05 * k, 2) for k in range(1, 20)), key=f1)
