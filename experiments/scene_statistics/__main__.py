"""Are rendered pictures like real ones?

    python -m experiments.scene_statistics distances --real DIR ...
    python -m experiments.scene_statistics classify --real DIR ...

Every ``DIR`` is a set with ``ir/`` and ``vi/``. ``distances`` compares distributions and draws
``docs/rendered_statistics.png``; ``classify`` trains a network to tell rendered from real crops.
Both write their numbers to a JSON file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.scene_statistics import measures
from experiments.scene_statistics.classifier import classify as answer
from experiments.scene_statistics.figure import draw
from experiments.scene_statistics.pictures import CROP, KINDS, Picture, read_set
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import write_json
from ldf_utils.data.sets import RENDERED

PAINTED = Path(__file__).with_name("painted.json")
"""What the same commands said of the painted scenes that came before, at the commit it names."""

Sets = dict[str, list[Picture]]


def rendered(kind: str, rows: int | None) -> Sets:
    """Read the rendered pairs for training and for tests."""
    return {f"rendered {s}": read_set(RENDERED / s, kind, rows) for s in ("train", "test")}


def real_sets(folders: Sequence[Path], kind: str, rows: int | None) -> Sets:
    """Read real sets; pictures smaller than a crop are left out, and how many is said."""
    sets: Sets = {}
    for folder in folders:
        found = read_set(folder, kind, rows)
        sets[folder.name] = [p for p in found if min(p.gray.shape) >= CROP]
        if len(sets[folder.name]) < len(found):
            print(f"{folder.name}: {len(found) - len(sets[folder.name])} pictures are too small")
    return sets


def _together(sets: Sets) -> list[Picture]:
    return [p for pictures in sets.values() for p in pictures]


def _correlations(infrared: Sequence[Picture], visible: Sequence[Picture]) -> dict[str, Any]:
    """Return the correlation of the two cameras in every pair."""
    pairs = zip(infrared, visible, strict=True)
    values = [
        measures.correlation(i.gray, v.gray) for i, v in pairs if i.gray.shape == v.gray.shape
    ]
    return {measures.BETWEEN: np.array(values, np.float32)}


def distances(args: argparse.Namespace) -> int:
    """Compare distributions, write the figure and the numbers."""
    real: dict[str, Sets] = {k: real_sets(args.real, k, measures.ROWS) for k in KINDS}
    made = {k: _together(rendered(k, measures.ROWS)) for k in KINDS}
    real_samples = {k: {n: measures.samples(p) for n, p in real[k].items()} for k in KINDS}
    made_samples = {k: measures.samples(p) for k, p in made.items()}
    pairs = {n: _correlations(real["ir"][n], real["vi"][n]) for n in real["ir"]}
    between = measures.distances(_correlations(made["ir"], made["vi"]), pairs)
    found = {k: measures.distances(made_samples[k], real_samples[k]) for k in KINDS}
    numbers: dict[str, dict[str, dict[str, Any]]] = {
        k: {s: {"rendered": found[k][s]} for s in measures.PER_CAMERA} for k in KINDS
    }
    numbers[measures.BETWEEN] = {measures.BETWEEN: {"rendered": between[measures.BETWEEN]}}
    before = json.loads(PAINTED.read_text(encoding="utf-8"))
    if sorted(real["ir"]) == before["sets"]:  # distances to other sets cannot be compared
        for kind, statistics in before["distances"].items():
            for statistic, distance in statistics.items():
                numbers[kind][statistic]["painted"] = distance
    slopes = {
        k: {
            n: round(float(np.mean([measures.slope(p.gray) for p in pictures])), 2)
            for n, pictures in {"rendered": made[k], **real[k]}.items()
        }
        for k in KINDS
    }
    title = draw(real_samples, made_samples, numbers, args.out.with_suffix(".png"))
    record = {
        "command": "python -m experiments.scene_statistics distances --real DIR ...",
        "finding": title,
        "pairs": {n: len(p) for n, p in real["ir"].items()},
        "distances": numbers,
        "exponent_of_the_amplitude_spectrum": slopes,
    }
    write_json(args.out.with_suffix(".json"), record)
    return 0


def classify(args: argparse.Namespace) -> int:
    """Train the classifier; print and write its answers."""
    numbers: dict[str, dict[str, Any]] = {}
    for kind in args.kinds:
        real = real_sets(args.real, kind, None)
        found = answer(rendered(kind, None), real, steps=args.steps)
        numbers[kind] = {"rendered": asdict(found)}
        print(
            f"{kind}: right in {found.right:.1%} of unseen crops "
            f"({found.low:.1%} to {found.high:.1%}), {found.seen:.1%} of seen ones",
            flush=True,
        )
        print("  " + ", ".join(f"{n} {s:.0%}" for n, s in found.sets.items()), flush=True)
    command = f"python -m experiments.scene_statistics classify --steps {args.steps} --real DIR ..."
    write_json(args.out, {"command": command, "answers": numbers})
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.scene_statistics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("distances", help="compare distributions and draw the figure")
    p.add_argument("--real", type=Path, nargs="+", required=True, help="folders of real sets")
    p.add_argument("--out", type=Path, default=Path("docs/rendered_statistics"))
    p.set_defaults(run=distances)
    p = commands.add_parser("classify", help="train a network to tell made from real crops")
    p.add_argument("--real", type=Path, nargs="+", required=True, help="folders of real sets")
    p.add_argument("--steps", type=int, default=500, help="of training, in each of three folds")
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    p.add_argument("--out", type=Path, default=Path("docs/rendered_classifier.json"))
    p.set_defaults(run=classify)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    run_command(main)
