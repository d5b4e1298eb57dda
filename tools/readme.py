"""Make the picture of the README and the measured tables of `docs/measured.md`.

python -m tools.readme teaser   # docs/teaser.png, from the shipped network and a rendered pair
python -m tools.readme table    # the measured tables, from runs/tutorial/metrics.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import interpolate

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import write_text
from ldf_utils.data.images import write_image
from ldf_utils.data.sets import rendered_sets
from ldf_utils.fusion.inference import fuse_pair
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.notebook.run_record import METRICS_FILE

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "measured.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
TEASER = "0014"
"""The rendered test pair of the picture: a person in front of a lit street by night."""
METRICS = ("EN", "SD", "SF", "AG")


def teaser(path: Path = ROOT / "docs" / "teaser.png") -> Path:
    """Write the visible, infrared and fused image of one rendered night, side by side.

    Args:
        path: where to write.

    Returns:
        The path.
    """
    night = rendered_sets()["RenderedNight"]
    pair = next(pair for pair in night if pair.name == TEASER)
    fused = fuse_pair(load_network("shipped"), pair)
    images = torch.stack([pair.visible, pair.infrared.expand(3, -1, -1), fused])
    images = interpolate(images, (240, 320), mode="bilinear", antialias=True).clamp(0, 1)
    gap = torch.ones(3, 240, 8)
    visible, infrared, fused = images
    return write_image(torch.cat([visible, gap, infrared, gap, fused], -1), path)


def tables(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the measured tables as Markdown.

    Args:
        metrics: what a run of all notebooks recorded, see
        `ldf_utils.notebook.run_record.read_metrics`.

    Raises:
        ValueError: if a number that the tables need was not recorded.
    """
    found = metrics.get("05_evaluation", {}).get("metrics", {})
    sets = [key[: -len("_EN_trained")] for key in found if key.endswith("_EN_trained")]
    if not sets:
        raise ValueError(
            "found no set recorded by notebook 05, expected at least one; run `make tutorial` with "
            "LDF_DATA_DIR set first"
        )
    if found.get("network") != "trained":
        raise ValueError(
            f"notebook 05 measured the network {found.get('network')!r}, expected 'trained', "
            "that of notebook 04; run both in one run of `make tutorial`"
        )
    lines = [
        "| set | pairs | " + " | ".join(f"{m} average → trained" for m in METRICS) + " |",
        "|---" * (2 + len(METRICS)) + "|",
    ]
    for name in sets:
        cells = [
            f"{found[f'{name}_{m}_average']:.2f} → {found[f'{name}_{m}_trained']:.2f}"
            for m in METRICS
        ]
        lines.append(f"| {name} | {found[f'{name}_pairs']} | " + " | ".join(cells) + " |")
    lines += ["", "| notebook | seconds | peak memory, MB |", "|---|---|---|"]
    for name, row in sorted(metrics.items()):
        lines.append(f"| {name} | {row['seconds']:.0f} | {row['peak_memory_mb']:.0f} |")
    total = sum(row["seconds"] for row in metrics.values())
    lines.append(f"| all | {total:.0f} | |")
    return "\n".join(lines)


def fill(page: str, table: str) -> str:
    """Return the text of the page with the tables between the two marks.

    Raises:
        ValueError: if a mark is missing.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"docs/measured.md: expected the marks {BEGIN} and {END} once each")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if it went well, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m tools.readme", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("teaser", help="write the picture")
    table = commands.add_parser("table", help="write the measured tables")
    table.add_argument("--metrics", default=str(ROOT / "runs" / "tutorial" / METRICS_FILE))
    args = parser.parse_args(argv)
    try:
        if args.command == "teaser":
            print(f"picture in {teaser().relative_to(ROOT)}")
        else:
            metrics = json.loads(Path(args.metrics).read_text(encoding="utf-8"))
            write_text(MEASURED, fill(MEASURED.read_text(encoding="utf-8"), tables(metrics)))
            print(f"tables in {MEASURED.relative_to(ROOT)}")
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
