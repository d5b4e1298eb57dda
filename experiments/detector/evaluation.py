"""Evaluate the embedded detector: does it prefer one kind of picture, how good is it, how fast?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from experiments.detector.pictures import WEIGHTS, fusers, labeled_sets, methods
from ldf_utils.data.files import write_json, write_text
from ldf_utils.detection.detector import SHIPPED_DETECTOR, Detector, load_detector
from ldf_utils.detection.search import MERGED, SOURCES, search_set
from ldf_utils.detection.table import compare, precision_rows

RECORD, CARD = "detector.json", "detector.md"


def seconds_per_picture(detector: Detector, repeats: int = 20) -> float:
    """Measure the median time of one thread for a picture of 640 x 480 pixels.

    Time of the processor is counted, which does not grow when other programs run.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        gray = torch.rand(1, 480, 640, generator=torch.Generator().manual_seed(0))
        times = []
        for _ in range(repeats + 2):
            begin = time.process_time()
            detector(gray)
            times.append(time.process_time() - begin)
        return sorted(times[2:])[repeats // 2]
    finally:
        torch.set_num_threads(before)


def evaluate(data_dir: str | None = None, output: Path = WEIGHTS / RECORD) -> dict[str, Any]:
    """Measure the shipped detector on every method's pictures of every labeled set.

    Args:
        data_dir: folder of real labeled sets, besides the rendered test set.
        output: where the record goes.

    Returns:
        The record: rows by set, and whether the two sources can be told apart.
    """
    detector = load_detector("embedded")
    record: dict[str, Any] = {
        "command": "python -m experiments.detector evaluate" + (" --data DIR" if data_dir else ""),
        "training": dict(getattr(detector, "metadata", {})),
        "bytes": SHIPPED_DETECTOR.stat().st_size,
        "milliseconds": round(1000 * seconds_per_picture(detector), 1),
        "sets": {},
    }
    for name, (pairs, labels) in labeled_sets(data_dir).items():
        found = search_set(pairs, labels, detector, [*SOURCES, MERGED], fusers(methods()))
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
        record["sets"][name] = {"rows": rounded, "clear": told}
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
        f"| speed | {record['milliseconds']:.0f} ms of one thread for 640 x 480 pixels |",
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
    lines += ["", *_limits(record)]
    return write_text(folder / CARD, "\n".join(lines) + "\n")


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
