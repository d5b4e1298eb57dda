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

from tqdm.auto import tqdm

from experiments.detector.crops import Picture
from experiments.detector.pictures import as_fuser, fusers, labeled_sets, methods
from experiments.detector.training import DetectorConfig, train
from ldf_utils.data.files import write_json
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection.average_precision import average_precision, match
from ldf_utils.detection.boxes import Boxes, merge
from ldf_utils.detection.detector import SHIPPED_DETECTOR, EmbeddedDetector, load_small_detector
from ldf_utils.detection.labels import Labels
from ldf_utils.detection.search import MERGED, SOURCES, search_set

Scores = dict[str, dict[str, float]]


def ap50(truth: Mapping[str, Boxes], found: Mapping[str, Boxes], classes: Sequence[str]) -> Any:
    """Measure AP at 0.5 of each class, rounded."""
    matches = match(truth, found)
    return {c: round(float(average_precision(matches[c, "all"])[0]), 4) for c in classes}


def search_with(
    detector: EmbeddedDetector, picture: Picture, pairs: PairFolder, labels: Labels
) -> dict[str, Boxes]:
    """Search the labeled pairs of a set in the pictures of one method."""
    options: dict[str, Any] = {"progress": False}
    found = search_set(pairs, labels, detector, [], {"it": as_fuser(picture)}, **options)
    return found.found["it"]


def run_protocol(
    work: Path,
    steps: int = 100,
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
    one: dict[str, Any] = {}
    for name, (pairs, labels) in sets.items():
        detector = EmbeddedDetector(start)
        result = search_set(pairs, labels, detector, [*SOURCES, MERGED], fusers(made))
        one[name] = {m: ap50(result.truth, f, labels.classes) for m, f in result.found.items()}
    for seed in tqdm(range(seeds), "seeds"):
        found: dict[str, dict[str, dict[str, Boxes]]] = {name: {} for name in sets}
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
            for name, (pairs, labels) in sets.items():
                detector = EmbeddedDetector(trained)
                found[name][method] = search_with(detector, picture, pairs, labels)
        for name, (_, labels) in sets.items():
            sources = [found[name][source] for source in SOURCES]
            both = {n: merge([f[n] for f in sources]) for n in sources[0]}
            for method, boxes in (found[name] | {MERGED: both}).items():
                truth = {n: labels.boxes[n] for n in boxes}
                rows = per_method.setdefault(name, {}).setdefault(method, [])
                rows.append(ap50(truth, boxes, labels.classes))
    record = {
        "command": f"python -m experiments.detector protocol --steps {steps} --batch {batch} "
        f"--seeds {seeds}" + (" --data DIR" if data_dir else ""),
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
