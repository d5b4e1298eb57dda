"""The command line: ``python -m ldf_utils.training --config FILE``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ldf_utils.data import suspicion
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import check_writable, explain
from ldf_utils.data.pairs import PairFolder, find_sets
from ldf_utils.data.sets import open_sets
from ldf_utils.training.config import TrainConfig, parse_setting, read_config
from ldf_utils.training.distributed import ProcessError, Team, join_team
from ldf_utils.training.run_folder import CHECKPOINT, CURVES, HISTORY, NETWORK, draw_curves
from ldf_utils.training.trainer import TrainingError, fit


def _parser() -> argparse.ArgumentParser:
    settings = ", ".join(f"{setting.name}={setting.default!r}" for setting in fields(TrainConfig))
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.training",
        description="Train a fusion network with words. The folder of the run holds config.json, "
        "environment.json, history.csv and curves.png, samples/, checkpoint.pt and, in the end, "
        "network.pt for python -m ldf_utils.fusion.",
        epilog=f"Settings: {settings}.",
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="settings as TOML")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; overrides the file",
    )
    add(
        "--data",
        metavar="DIR",
        help="a set (with ir/ and vi/) or a folder of sets; else "
        "LDF_DATA_DIR, else the rendered pairs that ship",
    )
    add(
        "--infrared-range",
        default="auto",
        metavar="RANGE",
        help="which counts of deep infrared "
        "pictures of a set are black and white: auto (logged), full, or LOW:HIGH",
    )
    add(
        "--polarity",
        choices=("white-hot", "black-hot"),
        default="white-hot",
        help="how the infrared pictures show what is hot (default: white-hot)",
    )
    add("--output", type=Path, metavar="DIR", help="of the run; runs/NAME for a config NAME.toml")
    add("--resume", action="store_true", help="go on where the run stopped")
    return parser


def _config(arguments: argparse.Namespace) -> TrainConfig:
    config = read_config(arguments.config) if arguments.config else TrainConfig()
    try:
        return TrainConfig.from_dict(config.to_dict() | dict(map(parse_setting, arguments.set)))
    except ValueError as error:
        raise ValueError(f"--set: {error}") from error


def _output(arguments: argparse.Namespace) -> Path:
    if arguments.output is None and arguments.config is None:
        raise ValueError("name a folder for the run with --output, or a --config")
    output = arguments.output or Path("runs") / arguments.config.stem
    if (output / CHECKPOINT).exists() and not arguments.resume:
        raise ValueError(
            f"{output} holds a run already; add --resume to go on with it, or name another folder "
            "with --output DIR"
        )
    check_writable(output, folder=True)
    return output


def _pairs(arguments: argparse.Namespace, team: Team) -> dict[str, PairFolder]:
    data = arguments.data or os.environ.get("LDF_DATA_DIR")
    if not data:
        return open_sets(split="train")
    camera = {
        "infrared_range": arguments.infrared_range,
        "black_hot": arguments.polarity == "black-hot",
    }
    one = (Path(data) / "ir").is_dir()
    sets = {data: PairFolder(data, **camera)} if one else find_sets(data, **camera)
    for pairs in sets.values():
        if team.rank == 0:
            suspicion.warn(pairs, pairs.folder)
    return sets


def _train(arguments: argparse.Namespace) -> None:
    config, output = _config(arguments), _output(arguments)
    team = join_team(config.device)
    if team.rank > 0:  # the first process speaks for all
        logging.disable(logging.WARNING)
    pairs = _pairs(arguments, team)
    result = fit(config, pairs, folder=output, resume=arguments.resume)
    if team.rank == 0:
        draw_curves(result.history, result.folder / CURVES)
        last = result.history[-1]
        kept = f", {last['kept']:.0%} of the patches kept" if "kept" in last else ""
        print(f"{config.steps} steps, loss {last['total']:.3f}{kept}; {result.folder / NETWORK}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when trained, 1 if the training failed, 2 if it could not start."""
    many = int(os.environ.get("WORLD_SIZE", 1)) > 1
    who = f"process {os.environ.get('RANK')}: " if many else ""
    try:
        _train(_parser().parse_args(argv))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {who}{explain(error)}", file=sys.stderr, flush=True)
        return 1 if isinstance(error, TrainingError | ProcessError) else 2
    return 0


def _stopped(argv: Sequence[str] | None = None) -> str:
    """Say after Ctrl-C which steps are kept, and how to go on."""
    arguments = _parser().parse_args(argv)
    folder = arguments.output or Path("runs") / arguments.config.stem
    try:
        steps = len((folder / HISTORY).read_text(encoding="utf-8").splitlines()) - 1
        kept = f"{steps} steps are kept in {folder / CHECKPOINT}; go on with --resume"
    except OSError:
        kept = "no step was finished yet"
    return f"stopped from the keyboard; {kept}"


if __name__ == "__main__":
    run_command(main, _stopped)
