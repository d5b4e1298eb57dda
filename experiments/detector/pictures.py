"""What the studies search: sets with labels, and the methods that make a picture of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

import ldf_utils
from experiments.detector.crops import Picture
from ldf_utils.data.pairs import Pair, PairFolder, find_sets
from ldf_utils.data.sets import RENDERED
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.detection.labels import Labels, labels_of_sets
from ldf_utils.detection.studies import weights_now
from ldf_utils.evaluation.evaluate import Fuser
from ldf_utils.fusion.inference import fuse_tensors
from ldf_utils.fusion.rules import average, laplacian_pyramid, maximum
from ldf_utils.networks.checkpoint import load_network

WEIGHTS = Path(ldf_utils.__file__).parent / "weights"
CLASSICAL: dict[str, Picture] = {
    "average": average,
    "maximum": maximum,
    "pyramid": laplacian_pyramid,
}
"""The rules that take part, under the names of notebook 06."""


def measured_with(*names: str) -> dict[str, str]:
    """Return the hashes of the models that a study is measured with, for its record."""
    now = weights_now()
    return {name: now[name] for name in names}


def labeled_sets(data_dir: str | Path | None = None) -> dict[str, tuple[PairFolder, Labels]]:
    """Return the rendered test set, and the labeled sets of a folder."""
    sets = {"rendered": PairFolder(RENDERED / "test")}
    sets |= find_sets(data_dir) if data_dir else {}
    return {name: (sets[name], labels) for name, labels in labels_of_sets(sets)[0].items()}


def methods(network: str = "") -> dict[str, Picture]:
    """Return the methods to compare: functions of infrared and visible ``(1, 1, H, W)``.

    Args:
        network: file of another network, called ``trained``.
    """
    found: dict[str, Picture] = {
        "visible": lambda infrared, visible: visible,
        "infrared": lambda infrared, visible: infrared,
    }
    found |= CLASSICAL
    for name, file in {"shipped": "shipped", "LD-Lite": "ld-lite", "trained": network}.items():
        if file:
            try:
                found[name] = by_network(load_network(file))
            except WeightsError:
                if name != "LD-Lite":
                    raise
    return found


def by_network(network: torch.nn.Module) -> Picture:
    """Make a method of a network, without gradients."""
    return lambda infrared, visible: fuse_tensors(network, infrared, visible)


def as_fuser(picture: Picture) -> Fuser:
    """Make of a method a function of a pair that gives ``(1, H, W)``."""

    def fuse(pair: Pair) -> torch.Tensor:
        return picture(pair.infrared[None], pair.luminance[None])[0]

    return fuse


def fusers(found: Mapping[str, Picture]) -> dict[str, Fuser]:
    """Make functions of a pair of all methods but the sources."""
    return {n: as_fuser(p) for n, p in found.items() if n not in ("visible", "infrared")}
