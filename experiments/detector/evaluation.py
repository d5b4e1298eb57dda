"""Evaluate the embedded detector: does it prefer one kind of picture, how good is it, how fast?"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.detector.pictures import (
    CLASSICAL,
    WEIGHTS,
    fusers,
    labeled_sets,
    measured_with,
    methods,
)
from ldf_utils.data.files import write_json, write_text
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection.boxes import best_score, outcome
from ldf_utils.detection.detector import SHIPPED_DETECTOR, Detector, load_detector
from ldf_utils.detection.search import MERGED, SOURCES, Findings, search_set
from ldf_utils.detection.table import compare, precision_rows
from ldf_utils.detection.visibility import is_clear
from ldf_utils.evaluation.evaluate import Fuser

RECORD, CARD = "detector.json", "detector.md"


def seconds_per_picture(detector: Detector, threads: int = 1, repeats: int = 20) -> float:
    """Measure the median time for a picture of 640 x 480 pixels.

    With one thread, time of the processor is counted, which hardly grows when other programs run;
    with several, time on the clock.
    """
    before, clock = torch.get_num_threads(), time.process_time
    if threads > 1:
        clock = time.perf_counter
    torch.set_num_threads(threads)
    try:
        gray = torch.rand(1, 480, 640, generator=torch.Generator().manual_seed(0))
        times = []
        for _ in range(repeats + 2):
            begin = clock()
            detector(gray)
            times.append(clock() - begin)
        return sorted(times[2:])[repeats // 2]
    finally:
        torch.set_num_threads(before)


def clear_found(
    pairs: PairFolder, findings: Findings, extra: Mapping[str, Fuser]
) -> dict[str, list[int]]:
    """Count, of each kind of picture, what is found of all that is clear to see in it.

    Args:
        pairs: the set.
        findings: what was found in it.
        extra: how pictures are made that are not of a source.

    Returns:
        Method to the number of boxes found, at the best score over all methods, and of all.
    """
    score = best_score(findings.truth, findings.found.values())
    counts = {method: [0, 0] for method in (*SOURCES, *extra)}
    for place, name in enumerate(pairs.names):
        searched = [method for method in counts if name in findings.found[method]]
        if not searched:
            continue
        pair, truth = pairs[place], findings.truth[name]
        sources = {"visible": pair.luminance, "infrared": pair.infrared}
        for method in searched:
            picture = sources[method] if method in sources else extra[method](pair)
            clear = is_clear(picture, truth)
            made = outcome(truth, findings.found[method][name], score)
            counts[method][0] += int((made.found & clear).sum())
            counts[method][1] += int(clear.sum())
    return counts


def evaluate(
    data_dir: str | None = None, network: str = "", output: Path = WEIGHTS / RECORD
) -> dict[str, Any]:
    """Measure the shipped detector on every method's pictures of every labeled set.

    Args:
        data_dir: folder of real labeled sets, besides the rendered test set.
        network: file of another fusion network to take part.
        output: where the record goes.

    Returns:
        The record: rows by set, and whether the two sources can be told apart.
    """
    detector = load_detector("embedded")
    record: dict[str, Any] = {
        "command": "python -m experiments.detector evaluate"
        + (" --data DIR" if data_dir else "")
        + (" --network FILE" if network else ""),
        "training": dict(getattr(detector, "metadata", {})),
        "bytes": SHIPPED_DETECTOR.stat().st_size,
        "milliseconds": round(1000 * seconds_per_picture(detector), 1),
        "milliseconds_two": round(1000 * seconds_per_picture(detector, 2), 1),
        "weights": measured_with("detector", "fusion network"),
        "sets": {},
    }
    fused = fusers(methods(network))
    rules = {rule: fused[rule] for rule in CLASSICAL}  # quick to make again
    for name, (pairs, labels) in labeled_sets(data_dir).items():
        found = search_set(pairs, labels, detector, [*SOURCES, MERGED], fused)
        rows = precision_rows(found, labels.classes)
        rounded = [
            {
                k: round(v, 4) if isinstance(v, float) and v == v else None if v != v else v
                for k, v in row.items()
            }
            for row in rows
        ]
        told = [
            f"{c.name}: {c.better} over {c.worse} by {c.gain.value:.3f} "
            f"[{c.gain.low:.3f}, {c.gain.high:.3f}]"
            for one in labels.classes
            for c in compare(found, one)
            if c.gain.clear
        ]
        clear = clear_found(pairs, found, rules)
        record["sets"][name] = {"rows": rounded, "clear": told, "clear_found": clear}
    write_json(output, record)
    return record


def write_card(folder: Path = WEIGHTS) -> Path:
    """Write the card of the detector from its record."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    training = record["training"]
    lines = [
        "# The detector that ships",
        "",
        f"`detector.pt`: a `SmallDetector` of {training.get('parameters', 0):,} parameters in half "
        f"precision ({record['bytes'] / 1e6:.2f} MB) for two classes, person and vehicle. It "
        "searches one gray picture of any size, brought to a longer side of 640 pixels.",
        "",
        "| | |",
        "|---|---|",
        f"| data | {training.get('data', '')} |",
        f"| pictures | {training.get('kinds', '')} |",
        f"| training | {training.get('text', '')} |",
        f"| speed | {record['milliseconds']:.0f} ms of one thread for 640 x 480 pixels, "
        f"{record['milliseconds_two']:.0f} ms on the clock with two threads |",
        f"| made by | `{training.get('command', '')}` |",
        "",
        "AP50: average precision at an overlap of 0.5, with its 95 % bootstrap interval over the "
        f"pictures. AP: its mean over overlaps of 0.5 to 0.95. Made by `{record['command']}`.",
        "",
        "| set | class | method | AP50 | 95 % | AP | small | medium | large | boxes | pictures |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in record["sets"].items():
        for row in sorted(found["rows"], key=lambda r: (r["class"], -(r["ap50"] or 0))):
            cells = [row[f"ap50_{size}"] for size in ("small", "medium", "large")]
            sizes = " | ".join("-" if x is None else f"{x:.3f}" for x in cells)
            lines.append(
                f"| {name} | {row['class']} | {row['method']} | {row['ap50']:.3f} | "
                f"{row['ap50_low']:.3f} to {row['ap50_high']:.3f} | {row['ap']:.3f} | {sizes} | "
                f"{row['boxes']} | {row['images']} |"
            )
    lines += ["", "Differences of AP50 whose 95 % interval excludes 0:", ""]
    for name, found in record["sets"].items():
        lines += [f"- {name}, {line}" for line in found["clear"]] or [f"- {name}: none"]
    lines += ["", *_preference(record), "", *_limits(record)]
    lines += ["", "How these weights came about, and what was tried: `docs/detector.md`."]
    return write_text(folder / CARD, "\n".join(lines) + "\n")


def _preference(record: dict[str, Any]) -> list[str]:
    """Say whether one kind of picture is searched better than another."""
    lines = [
        "Does it prefer a camera? Share found of the boxes that are clear to see in a picture "
        "(`ldf_utils.detection.visibility.is_clear`), at the best score over all methods:",
        "",
        "| set | picture | found | clear to see | share |",
        "|---|---|---|---|---|",
    ]
    for name, found in record["sets"].items():
        for method, (hits, seen) in found["clear_found"].items():
            share = f"{100 * hits / seen:.0f} %" if seen else "-"
            lines.append(f"| {name} | {method} | {hits} | {seen} | {share} |")
    return lines


def _limits(record: dict[str, Any]) -> list[str]:
    """Say how far the detector can be trusted on real pairs."""
    real = {
        name: max(row["ap50"] or 0 for row in found["rows"] if row["class"] == "person")
        for name, found in record["sets"].items()
        if name != "rendered" and any(r["class"] == "person" for r in found["rows"])
    }
    text = "Limits: it has seen rendered scenes only."
    if real:
        best = ", ".join(f"{value:.2f} on {name}" for name, value in real.items())
        text += f" Its best AP50 of people on real pairs is {best}."
    return [text + " It compares pictures; it is no detector to rely on."]
