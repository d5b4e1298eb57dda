"""The protocol of fusion papers: one detector per method, trained on that method's pictures.

All begin with the embedded detector and take the same number of steps on the same crops, and each
training is repeated with other seeds. What is measured is whether a detector that has learned a
method's pictures finds more in them. The merger of both sources takes part with the detectors of
the two sources: it costs two searches and no fusion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments.detector.crops import Picture
from experiments.detector.pictures import as_fuser, labeled_sets, measured_with, methods
from experiments.detector.training import DetectorConfig, train
from ldf_utils.data.files import write_json
from ldf_utils.data.images import to_8bit
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection.average_precision import average_precision, match
from ldf_utils.detection.boxes import Boxes, merge
from ldf_utils.detection.detector import SHIPPED_DETECTOR, EmbeddedDetector, load_small_detector
from ldf_utils.detection.labels import Labels
from ldf_utils.detection.search import MERGED, SOURCES


def ap50(truth: Mapping[str, Boxes], found: Mapping[str, Boxes], classes: Sequence[str]) -> Any:
    """Measure AP at 0.5 of each class, rounded."""
    matches = match(truth, found)
    return {c: round(float(average_precision(matches[c, "all"])[0]), 4) for c in classes}


def _scores(
    found: Mapping[str, Mapping[str, Boxes]], labels: Labels
) -> dict[str, dict[str, float]]:
    """Measure every method, and the merger of both sources."""
    sources = [found[source] for source in SOURCES]
    both = {name: merge([one[name] for one in sources]) for name in sources[0]}
    truth = {name: labels.boxes[name] for name in both}
    return {m: ap50(truth, f, labels.classes) for m, f in {**found, MERGED: both}.items()}


def make_pictures(picture: Picture, pairs: PairFolder, labels: Labels) -> dict[str, torch.Tensor]:
    """Make the picture of each labeled pair once, ``(1, H, W)`` uint8."""
    return {
        stem: to_8bit(as_fuser(picture)(pairs[place])).to(torch.uint8)
        for place, stem in enumerate(pairs.names)
        if stem in labels.boxes
    }


def search_in(detector: EmbeddedDetector, pictures: Mapping[str, torch.Tensor]) -> dict[str, Boxes]:
    """Search pictures of 8 bits."""
    return {stem: detector(gray.float() / 255) for stem, gray in pictures.items()}


def run_protocol(
    work: Path,
    steps: int = 25,
    batch: int = 4,
    seeds: int = 3,
    data_dir: str | None = None,
    network: str = "",
    output: Path | None = None,
) -> dict[str, Any]:
    """Train and measure; what is done is kept in ``work`` and not done again.

    Args:
        work: the folder of the collected pairs.
        steps: of each training.
        batch: crops a step.
        seeds: trainings of each method.
        data_dir: folder of real labeled sets to measure on, besides the rendered test set.
        network: file of another fusion network to take part.
        output: where the record goes.

    Returns:
        The record: settings, and AP at 0.5 by set, class and method, one number a seed, beside
        those of the embedded detector as it is.
    """
    sets, made = labeled_sets(data_dir), methods(network)
    start = load_small_detector(SHIPPED_DETECTOR)
    per_method: dict[str, Any] = {}
    shown = {
        name: {method: make_pictures(picture, *one) for method, picture in made.items()}
        for name, one in sets.items()
    }
    detector = EmbeddedDetector(start)
    found = {
        name: {method: search_in(detector, shown[name][method]) for method in made} for name in sets
    }
    one = {name: _scores(found[name], labels) for name, (_, labels) in sets.items()}
    for seed in tqdm(range(seeds), "seeds"):
        config = DetectorConfig(
            steps=steps, batch=batch, learning_rate=5e-4, average=0.97, seed=seed
        )
        for method, picture in tqdm(made.items(), "methods", leave=False):
            trained, _ = train(
                config,
                work,
                {method: 1.0},
                {method: picture},
                f"{method}-{seed}.pt",
                start,
                progress=False,
            )
            for name in sets:
                found[name][method] = search_in(EmbeddedDetector(trained), shown[name][method])
        for name, (_, labels) in sets.items():
            for method, row in _scores(found[name], labels).items():
                per_method.setdefault(name, {}).setdefault(method, []).append(row)
    record = {
        "command": f"python -m experiments.detector protocol --steps {steps} --batch {batch} "
        f"--seeds {seeds}"
        + (" --data DIR" if data_dir else "")
        + (" --network FILE" if network else ""),
        "weights": measured_with("detector", "fusion network"),
        "steps": steps,
        "batch": batch,
        "seeds": seeds,
        "pairs": len(json.loads((work / "pairs.json").read_text(encoding="utf-8"))),
        "searched": {name: len(labels.boxes) for name, (_, labels) in sets.items()},
        "one_for_all": one,
        "one_per_method": per_method,
    }
    if output is not None:
        write_json(output, record)
    return record
