"""The command line of the embedded CLIP: its pool, packing, training, evaluation and card."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.embedded_clip.calibration import calibrate
from experiments.embedded_clip.card import write_card
from experiments.embedded_clip.config import EmbeddedClipConfig
from experiments.embedded_clip.evaluation import evaluate
from experiments.embedded_clip.packing import HELD_OUT_EVERY, pack
from experiments.embedded_clip.training import train
from experiments.embedded_clip.transport import compress, expand
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_json

_OPTIONS: dict[str, Callable[[str], Any]] = {
    "steps": int,
    "second_cycle_steps": int,
    "textured_steps": int,
    "warm_up": int,
    "squares_per_step": int,
    "adversarial_squares": int,
    "adversarial_steps": int,
    "recorded_share": float,
    "learning_rate": float,
    "hidden_learning_rate": float,
    "start": str,
    "seed": int,
    "threads": int,
    "device": str,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.embedded_clip",
        description="Train and evaluate the embedded CLIP, and write its card.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pool = commands.add_parser("pool", help="render worlds to train on; those there are kept")
    pool.add_argument("--out", type=Path, default=Path("runs/pool"), help="folder of the views")
    pool.add_argument("--count", type=int, default=3000, help="worlds, each with a few views")
    pool.add_argument("--views", type=int, default=4, help="cameras of a world")
    pool.add_argument("--first", type=int, default=0, help="number of the first world")
    pool.add_argument("--jobs", type=int, default=1, help="processes")
    packing = commands.add_parser("pack", help="cut the pool and real frames into squares")
    packing.add_argument("--pool", type=Path, default=Path("runs/pool"))
    packing.add_argument("--out", type=Path, default=Path("runs/pack"))
    packing.add_argument(
        "--held-out-every", type=int, default=HELD_OUT_EVERY, help="which worlds are not trained on"
    )
    packing.add_argument("--real", help="folder of the real sets M3SVD and WRD")
    compressing = commands.add_parser("compress", help="put the squares into a few small files")
    compressing.add_argument("--pack", type=Path, default=Path("runs/pack"))
    compressing.add_argument("--out", type=Path, default=Path("runs/parts"))
    compressing.add_argument("--megabytes", type=float, default=24.0, help="size of a file")
    expanding = commands.add_parser("expand", help="make squares of such files again")
    expanding.add_argument("--parts", type=Path, default=Path("runs/parts"))
    expanding.add_argument("--out", type=Path, default=Path("runs/pack"))
    training = commands.add_parser("train", help="train on packed squares, write the weights")
    training.add_argument("--pack", type=Path, default=Path("runs/pack"))
    for name, kind in _OPTIONS.items():
        default = getattr(EmbeddedClipConfig, name)
        training.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    training.add_argument(
        "--minutes", type=float, help="scale the steps to this time; does not resume"
    )
    training.add_argument(
        "--work",
        type=Path,
        default=Path("runs/embedded_clip"),
        help="folder of the checkpoint; an interrupted run resumes there",
    )
    calibration = commands.add_parser(
        "calibrate", help="move the point between infrared and visible by what real frames say"
    )
    calibration.add_argument("--real", required=True, help="folder of the sets M3SVD and WRD")
    evaluation = commands.add_parser("evaluate", help="print and write the accuracies")
    evaluation.add_argument("--pack", type=Path, help="folder of packed squares")
    evaluation.add_argument("--data", help="folder of real sets, each with ir/ and vi/")
    evaluation.add_argument("--lite", help="weights of LD-Lite, to rank it by L_dir as well")
    evaluation.add_argument("--squares", type=int, default=600, help="of the packed ones, at most")
    evaluation.add_argument("--out", type=Path, help="file of the report (beside the weights)")
    card = commands.add_parser("card", help="write the model card")
    for command in (training, calibration, evaluation, card):
        command.add_argument("--folder", type=Path, default=MINI_FOLDER, help="the model's folder")
    return parser


def _render_pool(out: Path, count: int, first: int, views: int, jobs: int) -> int:
    from experiments.embedded_clip.pool import PoolConfig, render_pool  # needs the renderer

    return render_pool(out, count, PoolConfig(views=views), jobs, first)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 1 when it failed."""
    arguments = vars(_parser().parse_args(argv))
    command, folder = arguments.pop("command"), arguments.pop("folder", None)
    try:
        if command == "pool":
            return min(1, _render_pool(**arguments))
        if command == "pack":
            squares = pack(**arguments)
            print(f"{squares} squares in {arguments['out']}")
        elif command == "compress":
            parts = compress(arguments["pack"], arguments["out"], arguments["megabytes"])
            print(f"{len(parts)} parts in {arguments['out']}")
        elif command == "expand":
            print(f"{expand(arguments['parts'], arguments['out'])} squares in {arguments['out']}")
        elif command == "train":
            places = {name: arguments.pop(name) for name in ("pack", "work", "minutes")}
            config = EmbeddedClipConfig(**arguments)
            print(f"weights in {train(config, folder=folder, **places)}")
        elif command == "calibrate":
            print(json.dumps(calibrate(folder, **arguments), indent=2))
        elif command == "evaluate":
            out = arguments.pop("out") or folder / "evaluation.json"
            record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
            every = record.get("held_out_every")
            report = evaluate(load_clip(folder), held_out_every=every, **arguments)
            write_json(out, report)
            print(json.dumps(report, indent=2))
        else:
            print(f"card in {write_card(folder)}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
