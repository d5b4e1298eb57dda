"""The command line of the benchmark, and its report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from experiments.training_speed.measure import BFLOAT16, WIDTH, Comparison, Phase, compare
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import check_writable, explain, write_json


def report(result: Comparison) -> str:
    """Return the comparison as text, with tables in Markdown."""
    setting, names = result.setting, list(result.phases)
    lines = [
        f"{setting['images']} images of {setting['crop']} pixels with {setting['patches']} patches "
        f"each, {setting['kept']:.0%} of them kept (more than {setting['entropy_threshold']:.2f} "
        f"bits in both sources); {setting['device']}, {setting['threads']} threads, torch "
        f"{setting['torch']}; random weights; medians of {setting['repeats']} runs in turn",
    ]
    if setting["device"] == "CPU":
        lines.append("No GPU was used: figures of a GPU are missing here.")
    if BFLOAT16 not in names:
        lines.append("This processor only emulates bfloat16, so that step is left out.")
    columns = "step | loss | gradient differs by | seconds | times faster | roofline, s"
    lines += ["", f"| {columns} | share of roofline |", "|---|---|---|---|---|---|---|"]
    for name, seconds in result.seconds.items():
        bound = result.bound(name)
        lines.append(
            f"| {name} | {result.losses[name]['total']:.5f} | {result.gradient_error[name]:.1e} | "
            f"{seconds:.3f} | {result.ratio[name]:.2f} | {bound:.3f} | {bound / seconds:.0%} |"
        )
    lines += ["", "| part | " + " | ".join(f"{n}, s | GFLOP" for n in names) + " |"]
    lines.append("|---" * (1 + 2 * len(names)) + "|")
    for part in dict.fromkeys(part for phases in result.phases.values() for part in phases):
        phases = [result.phases[name].get(part, Phase(0.0, 0)) for name in names]
        lines.append(_row(part, [(phase.seconds, phase.flops) for phase in phases]))
    sums = [(sum(p.seconds for p in result.phases[n].values()), result.flops(n)) for n in names]
    lines += [_row("all", sums), ""]
    rows = setting["rows"]
    for dtype, rate in result.rates.items():
        size = 4 if dtype == "float32" else 2
        moved = size * (rows * WIDTH + 4 * WIDTH**2 + 4 * rows * WIDTH)
        ridge = rate / result.bandwidth
        lines.append(
            f"{dtype}: {rate / 1e9:.0f} GFLOP/s in a matrix product, "
            f"{result.bandwidth / 1e9:.1f} GB/s of memory, so {ridge:.1f} FLOP a byte are needed "
            f"to be bound by arithmetic; a layer of CLIP with {rows} rows has "
            f"{8 * rows * WIDTH**2 / moved:.0f}"
        )
    return "\n".join(lines)


def _row(part: str, cells: Sequence[tuple[float, int]]) -> str:
    texts = [f"{seconds:.4f} | {flops / 1e9:.1f}" for seconds, flops in cells]
    return f"| {part} | " + " | ".join(texts) + " |"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m experiments.training_speed``."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.training_speed",
        description="Measure our training step against the released one, in turn, with one half "
        "of the patches kept.",
    )
    parser.add_argument("--images", type=int, help="crops a step (default 16 on a GPU, else 2)")
    parser.add_argument("--patches", type=int, default=32, help="per crop (default 32)")
    parser.add_argument("--crop", type=int, default=224, help="side in pixels (default 224)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--compile", action="store_true", help="compile the towers of ours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    arguments = parser.parse_args(argv)
    for name in ("images", "patches", "repeats", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be >= 1, got {value}")
    options = vars(arguments)
    path, threads = options.pop("json"), options.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    try:
        if path:
            check_writable(path)
        result = compare(**options)
        print(report(result))
        if path:
            print(f"\nWrote {write_json(path, asdict(result))}")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    run_command(main)
