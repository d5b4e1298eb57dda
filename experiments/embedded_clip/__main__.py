"""The command line: ``python -m experiments.embedded_clip pool | train | evaluate | card``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.embedded_clip.card import write_card
from experiments.embedded_clip.evaluation import evaluate
from experiments.embedded_clip.training import EmbeddedClipConfig, train
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.embedded_clip",
        description="Train and evaluate the embedded CLIP, and write its card.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pool = commands.add_parser("pool", help="render worlds to train on; those there are kept")
    pool.add_argument("--out", type=Path, default=Path("runs/pool"), help="folder of the views")
    pool.add_argument("--count", type=int, default=3000, help="worlds, each with a few views")
    pool.add_argument("--jobs", type=int, default=1, help="processes")
    training = commands.add_parser("train", help="render scenes, train, write the weights")
    for name in ("steps", "second_cycle_steps", "textured_steps", "scenes", "seed", "threads"):
        default = getattr(EmbeddedClipConfig, name)
        training.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    training.add_argument(
        "--work",
        type=Path,
        default=Path("runs/embedded_clip"),
        help="folder of the checkpoint; an interrupted run resumes there",
    )
    evaluation = commands.add_parser("evaluate", help="print and write the accuracies")
    evaluation.add_argument("--data", help="folder of real sets, each with ir/ and vi/")
    evaluation.add_argument("--lite", help="weights of LD-Lite, to rank it by L_dir as well")
    evaluation.add_argument("--scenes", type=int, default=600)
    card = commands.add_parser("card", help="write the model card")
    for command in (training, evaluation, card):
        command.add_argument("--folder", type=Path, default=MINI_FOLDER, help="the model's folder")
    return parser


def _render_pool(out: Path, count: int, jobs: int) -> int:
    from experiments.embedded_clip.pool import PoolConfig, render_pool  # needs the renderer

    return render_pool(out, count, PoolConfig(), jobs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 1 when it failed."""
    arguments = vars(_parser().parse_args(argv))
    command, folder = arguments.pop("command"), arguments.pop("folder", None)
    try:
        if command == "pool":
            return min(1, _render_pool(**arguments))
        if command == "train":
            work = arguments.pop("work")
            print(f"weights in {train(EmbeddedClipConfig(**arguments), folder, work)}")
        elif command == "evaluate":
            report = evaluate(load_clip(folder), **arguments)
            write_json(folder / "evaluation.json", report)
            print(json.dumps(report, indent=2))
        else:
            print(f"card in {write_card(folder)}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
