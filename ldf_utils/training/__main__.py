"""The command line: ``python -m ldf_utils.training --config FILE``."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.scenes import open_sets
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.distributed import ProcessError, join_team
from ldf_utils.training.trainer import (
    CHECKPOINT,
    CURVES,
    NETWORK,
    TrainingError,
    _first_alone,
    draw_curves,
    fit,
)

# --- command line


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.training",
        description="Train a fusion network with words. The folder of the run holds config.json, "
        "environment.json, history.csv and curves.png, samples/, checkpoint.pt and, in the end, "
        "network.pt for python -m ldf_utils.fusing.",
        epilog="Settings: "
        + ", ".join(f"{setting.name}={setting.default!r}" for setting in fields(TrainConfig))
        + ".",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; overrides the file",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="a set (with ir/ and vi/) or a folder of sets; else LDF_DATA_DIR, else pairs that "
        "are generated",
    )
    parser.add_argument(
        "--generated", type=int, default=12, metavar="N", help="pairs of each generated set"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="of the run; runs/NAME for a config NAME.toml"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    return parser


def _train(arguments: argparse.Namespace) -> None:
    values = {}
    if arguments.config:
        values = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
    config = TrainConfig.from_dict(values | dict(arguments.set))
    output = arguments.output
    if output is None:
        if arguments.config is None:
            raise ValueError("name a folder for the run with --output, or a --config")
        output = Path("runs") / arguments.config.stem
    if (output / CHECKPOINT).exists() and not arguments.resume:
        raise ValueError(
            f"{output} holds a run already; add --resume to go on with it, or name another folder"
        )
    if arguments.data and (Path(arguments.data) / "ir").is_dir():
        pairs = PairFolder(arguments.data)
    else:
        pairs = _first_alone(
            join_team(config.device), lambda: open_sets(arguments.data, count=arguments.generated)
        )
    result = fit(config, pairs, folder=output, resume=arguments.resume)
    if int(os.environ.get("RANK", 0)) == 0:
        draw_curves(result.history, result.folder / CURVES)
        last = result.history[-1]
        print(f"{config.steps} steps, loss {last['total']:.3f}; {result.folder / NETWORK}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when trained, 1 if the training failed, 2 if it could not start."""
    argv = list(sys.argv[1:] if argv is None else argv)
    many = int(os.environ.get("WORLD_SIZE", 1)) > 1
    who = f"process {os.environ.get('RANK')}: " if many else ""
    try:
        _train(_parser().parse_args(argv))
    except (TrainingError, ProcessError) as error:
        print(f"error: {who}{error}", file=sys.stderr, flush=True)
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {who}{error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
