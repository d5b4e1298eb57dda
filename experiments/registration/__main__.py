"""Measure the candidates: ``python -m experiments.registration --output DIR``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from experiments.registration.candidates import CANDIDATES
from experiments.registration.checks import check
from experiments.registration.pairs import (
    KnownPair,
    elastic,
    parallax,
    published,
    registered,
    turned,
    warped,
)
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import write_json, write_rows, write_text

VIEWS = ((0.7, 1.4), (0.9, 0.6), (0.55, 1.0))
GROUPS = ("published", "own", "parallax", "warped", "turned", "elastic", "as-is", "views", "checks")
_KEPT = "the same, accepted or refused"


def measure(group: str, pairs: Iterable[KnownPair], names: Sequence[str]) -> list[dict]:
    """Measure candidates on pairs; one row for each of both."""
    rows = []
    for pair in pairs:
        for name in names:
            begin = time.process_time()
            found = CANDIDATES[name](pair)
            seconds = time.process_time() - begin
            matrix, field = found if isinstance(found, tuple) else (found, None)
            rows.append(
                {
                    "group": group,
                    "pair": pair.name,
                    "candidate": name,
                    "before": round(pair.before, 3),
                    "after": round(min(pair.error(matrix, field), 999.0), 3),
                    "seconds": round(seconds, 3),
                }
            )
        print(group, pair.name, *(f"{r['after']:.2f}" for r in rows[-len(names) :]), flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Summarize rows as Markdown, a line for each group and candidate."""
    lines = [
        "| pairs | candidate | before | after | 9 of 10 below | below 2 px | worse | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((row["group"], row["candidate"]) for row in rows)
    for group, name in keys:
        mine = [row for row in rows if (row["group"], row["candidate"]) == (group, name)]
        before, after, seconds = (
            np.array([row[key] for row in mine]) for key in ("before", "after", "seconds")
        )
        worse = int((after > before + 1e-3).sum())
        lines.append(
            f"| {group} ({len(mine)}) | {name} | {np.median(before):.2f} | {np.median(after):.2f} "
            f"| {np.quantile(after, 0.9):.2f} | {(after < 2).sum()} of {len(mine)} | {worse} "
            f"| {np.median(seconds):.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.registration", description=__doc__)
    parser.add_argument("--data", metavar="DIR", help="folder of registered real sets")
    parser.add_argument("--published", metavar="DIR", help="folder of sets with ir_warp/ and flow/")
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument("--every", type=int, default=1, help="take every n-th registered pair")
    parser.add_argument("--pairs", nargs="*", metavar="SET/STEM", help="and of these only")
    parser.add_argument("--only", nargs="*", choices=GROUPS, help="groups (default: all)")
    arguments = parser.parse_args(argv)
    data = Path(arguments.data) if arguments.data else None
    chosen = (data, arguments.every, arguments.pairs)
    wanted = arguments.only or GROUPS
    rows: list[dict] = []
    if arguments.published and "published" in wanted:
        rows += measure("published", published(Path(arguments.published)), list(CANDIDATES))
    if arguments.published and "own" in wanted:
        pairs = published(Path(arguments.published), own=True)
        rows += measure("published, own registration", pairs, list(CANDIDATES)[3:])
    if "parallax" in wanted:
        rows += measure("rendered parallax", parallax(), list(CANDIDATES))
    synthetic = {"warped": warped, "turned": turned, "elastic": elastic}
    for name in (name for name in synthetic if name in wanted):
        displaced = [synthetic[name](p, k) for k, p in enumerate(registered(*chosen))]
        rows += measure(name, displaced, list(CANDIDATES)[:-1] if name == "warped" else [_KEPT])
        if "own" in wanted:
            own = registered(*chosen, own=True)
            displaced = [synthetic[name](p, k) for k, p in enumerate(own)]
            rows += measure(f"{name}, own registration", displaced, [_KEPT])
    if "as-is" in wanted:
        rows += measure("registered, as they are", registered(*chosen), [_KEPT])
    if "views" in wanted:
        pairs = (warped(p, k, VIEWS[k % len(VIEWS)]) for k, p in enumerate(registered(*chosen)))
        rows += measure("another view and size", pairs, [_KEPT])
    output = Path(arguments.output)
    if "checks" in wanted:
        checked = [check(turned(pair, k)) for k, pair in enumerate(registered(*chosen))]
        write_rows(output / "checks.csv", checked)
    write_rows(output / "registration.csv", rows)
    write_text(output / "registration.md", table(rows))
    write_json(output / "registration.json", {"arguments": vars(arguments), "pairs": len(rows)})
    print(table(rows))
    return 0


if __name__ == "__main__":
    run_command(main)
