"""Detectors: the embedded one, and torchvision's with COCO weights, behind one interface."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import detection as published
from torchvision.ops import batched_nms

from ldf_utils.data.files import atomic_path
from ldf_utils.data.state_dict import WeightsError, check_state, named_tensors, read_weights
from ldf_utils.detection.boxes import CLASSES, Boxes
from ldf_utils.detection.network import MULTIPLE, SmallDetector
from ldf_utils.networks.checkpoint import weights_dir

SHIPPED_DETECTOR = Path(__file__).parent.parent / "weights" / "detector.pt"
"""The detector that ships, trained on rendered pairs; its card is ``detector.md`` beside it."""
LONGER_SIDE = 640
"""Pictures are brought to this longer side for the embedded detector."""
LEAST_SCORE, SAME, MOST = 0.02, 0.6, 100
"""Of each picture, the best 100 boxes are kept, from this score on and after suppression."""

_FORMAT = "ldf_utils.detection/1"
_COCO_CLASSES = {1: "person", **dict.fromkeys((2, 3, 4, 6, 8), "vehicle")}
_PUBLISHED: Mapping[str, tuple[Callable[..., nn.Module], Any]] = {
    "ssdlite320_mobilenet_v3_large": (
        published.ssdlite320_mobilenet_v3_large,
        published.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1,
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        published.fasterrcnn_mobilenet_v3_large_320_fpn,
        published.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
    ),
}
NAMES = ("embedded", *_PUBLISHED)


class Detector(Protocol):
    """What finds people and vehicles in a gray picture.

    Attributes:
        name: for tables.
        fingerprint: of the weights; results of equal ones may be kept.
    """

    name: str
    fingerprint: str

    def __call__(self, gray: torch.Tensor) -> Boxes:
        """Find boxes in ``(1, H, W)`` in [0, 1], best score first."""


def fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Compute the SHA-256 of the names and values of some weights."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check(gray: torch.Tensor) -> None:
    if gray.ndim != 3 or gray.shape[0] != 1:
        raise ValueError(f"a picture to search must have shape (1, H, W), got {tuple(gray.shape)}")


class EmbeddedDetector:
    """A `SmallDetector` with scaling before and suppression after it.

    Args:
        network: trained.
        metadata: what is known of its training.
        name: for tables.
    """

    def __init__(
        self,
        network: SmallDetector,
        metadata: Mapping[str, Any] | None = None,
        name: str = "embedded",
    ):
        self.name, self.metadata = name, dict(metadata or {})
        self.fingerprint = fingerprint(network.state_dict())
        mine = SmallDetector(**network.arguments)
        mine.load_state_dict(network.state_dict())
        self._network = mine.fold().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, gray: torch.Tensor) -> Boxes:
        """Find boxes in ``(1, H, W)`` in [0, 1], best score first.

        Raises:
            ValueError: for another shape.
        """
        _check(gray)
        height, width = gray.shape[-2:]
        scale = LONGER_SIDE / max(height, width)
        size = [max(1, round(side * scale)) for side in (height, width)]
        x = gray[None].float()
        if size != [height, width]:
            x = F.interpolate(x, size, mode="bilinear", antialias=scale < 1)
        below, right = (-side % MULTIPLE for side in size)
        x = F.pad(x, (0, right, 0, below), mode="replicate")
        logits, corners = self._network(x.contiguous(memory_format=torch.channels_last))
        found = _suppress(logits[0].sigmoid(), corners[0], (size[0], size[1]))
        back = np.array([width / size[1], height / size[0]] * 2)
        return Boxes(found.corners * back, found.classes, found.scores)


def _suppress(scores: torch.Tensor, corners: torch.Tensor, size: tuple[int, int]) -> Boxes:
    """Keep the best boxes: ``(N, classes)`` scores and ``(N, 4)`` corners of one picture."""
    cells, classes = torch.nonzero(scores > LEAST_SCORE, as_tuple=True)
    values = scores[cells, classes]
    if len(values) > 1000:
        values, order = values.topk(1000)
        cells, classes = cells[order], classes[order]
    boxes = corners[cells]
    boxes = torch.stack(
        [boxes[:, 0::2].clamp(0, size[1]), boxes[:, 1::2].clamp(0, size[0])], dim=-1
    ).flatten(1)
    solid = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(1)
    boxes, values, classes = boxes[solid], values[solid], classes[solid]
    kept = batched_nms(boxes, values, classes, SAME)[:MOST]
    return Boxes(boxes[kept].double().numpy(), classes[kept].numpy(), values[kept].double().numpy())


class PublishedDetector:
    """A detector of torchvision, trained on COCO; gray is given to all three channels.

    Args:
        name: one of torchvision, in `NAMES`.
        network: with its weights.
    """

    def __init__(self, name: str, network: nn.Module):
        self.name, self._network = name, network.eval()
        self.fingerprint = fingerprint(network.state_dict())

    @torch.inference_mode()
    def __call__(self, gray: torch.Tensor) -> Boxes:
        """Find boxes in ``(1, H, W)`` in [0, 1], best score first.

        Raises:
            ValueError: for another shape.
        """
        _check(gray)
        found = self._network([gray.float().clamp(0, 1).expand(3, -1, -1)])[0]
        names = [_COCO_CLASSES.get(int(label)) for label in found["labels"]]
        kept = [k for k, name in enumerate(names) if name is not None][:MOST]
        return Boxes(
            found["boxes"][kept].double().numpy().reshape(-1, 4),
            np.array([CLASSES.index(str(names[k])) for k in kept], np.int64),
            found["scores"][kept].double().numpy(),
        )


def save_detector(
    network: SmallDetector, path: str | os.PathLike, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write a `SmallDetector` to one file, atomically, with its weights in half precision.

    Args:
        network: trained.
        path: the file, by custom ending in ``.pt``.
        metadata: anything that JSON can hold.
    """
    content = {
        "format": _FORMAT,
        "arguments": dict(network.arguments),
        "state": {
            name: tensor.detach().half() if tensor.is_floating_point() else tensor
            for name, tensor in network.state_dict().items()
        },
        "metadata": json.loads(json.dumps(dict(metadata or {}))),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def load_detector(name_or_path: str | os.PathLike = "embedded") -> Detector:
    """Load a detector for the CPU.

    Args:
        name_or_path: ``embedded``; a name of torchvision in `NAMES`, whose COCO weights are looked
            for in ``torchvision/`` of the folder of weights and downloaded otherwise; or a file: of
            `save_detector`, or with the weights of one of torchvision's.

    Raises:
        WeightsError: if it is neither, or the file is missing, damaged or of another model.

    Example:
        >>> load_detector("embedded")(torch.zeros(1, 480, 640)).corners.shape  # doctest: +SKIP
        (0, 4)
    """
    name = os.fspath(name_or_path)
    if name == "embedded":
        if not SHIPPED_DETECTOR.is_file():
            raise WeightsError(
                f"{SHIPPED_DETECTOR}: the detector that ships with this package is not there; "
                "restore it with `git checkout -- ldf_utils/weights`"
            )
        return _load_file(SHIPPED_DETECTOR, name)
    if name in _PUBLISHED:
        return _load_published(name)
    path = Path(name)
    if not path.exists() and not path.suffix:
        raise WeightsError(
            f"{name!r} is neither a file nor a known detector; expected {', '.join(NAMES)} or the "
            "path of a weights file"
        )
    return _load_file(path, path.stem)


def load_small_detector(path: str | os.PathLike) -> SmallDetector:
    """Load the network of a file of `save_detector`, to train it further.

    Raises:
        WeightsError: as `load_detector`.
    """
    network, _ = _read_small(Path(path), read_weights(path))
    return network


def _load_file(path: Path, name: str) -> Detector:
    content = read_weights(path)
    if not isinstance(content, dict) or "format" not in content:
        return _load_state(named_tensors(content, path), path)
    return EmbeddedDetector(*_read_small(path, content), name)


def _read_small(path: Path, content: Any) -> tuple[SmallDetector, dict[str, Any]]:
    held = content.get("format") if isinstance(content, dict) else None
    if held != _FORMAT:
        raise WeightsError(
            f"{path}: found format {held!r}, expected {_FORMAT!r}: this is no file of save_detector"
        )
    try:
        network = SmallDetector(**content["arguments"])
        state, metadata = dict(content["state"]), dict(content["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: this file of save_detector cannot be used ({error!r}); it was changed or "
            "written by another version of the package. Save the detector again"
        ) from error
    expected = network.state_dict()
    state = {n: v.to(expected[n].dtype) if n in expected else v for n, v in state.items()}
    check_state(state, expected, path, "SmallDetector")
    network.load_state_dict(state)
    return network, metadata


def _load_published(name: str) -> Detector:
    weights = _PUBLISHED[name][1]
    path = weights_dir() / "torchvision" / str(weights.url).rsplit("/", 1)[-1]
    if path.is_file():
        return _load_state(named_tensors(read_weights(path), path), path)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"{name}: its weights are not in {path} and could not be downloaded ({error}). Connect "
            f"to the network once, or put {weights.url} there"
        ) from error
    return _load_state(state, path)


def _load_state(state: Mapping[str, torch.Tensor], path: Path) -> Detector:
    """Recognize one of torchvision's detectors by its tensors."""
    kinds = {"head.classification_head": "ssdlite320_mobilenet_v3_large"}
    kinds["roi_heads"] = "fasterrcnn_mobilenet_v3_large_320_fpn"
    names = [name for start, name in kinds.items() if any(k.startswith(start) for k in state)]
    if not names:
        raise WeightsError(
            f"{path}: these are not the weights of a detector; expected a file of save_detector or "
            f"of {' or '.join(_PUBLISHED)}"
        )
    network = _PUBLISHED[names[0]][0](weights=None, weights_backbone=None)
    check_state(state, network.state_dict(), path, names[0])
    network.load_state_dict(state)
    return PublishedDetector(names[0], network)
