"""One network for any sentence: train it, and measure what its sentences do.

python -m experiments.sentence train --no-words [--seed N]   # what is compared with
python -m experiments.sentence train [--seed N] [--set KEY=VALUE] [--start FILE]
python -m experiments.sentence alone --word dark sharp salient
python -m experiments.sentence measure [--data DIR] [--seeds N]

Trainings go on where they stopped. Those with sentences begin with the network without words of
their seed, which is trained first where it is missing. ``measure`` needs the first two for every
seed; it measures networks of one word where they are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.ablation.variants import WORDS
from experiments.sentence import report
from experiments.sentence.training import CONFIG, NO_WORDS, alone_path, paths, train
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_json, write_text
from ldf_utils.evaluation.sentences import RECORD, load_record
from ldf_utils.training.config import TrainConfig, parse_setting


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sentence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--work", type=Path, default=Path("runs/sentence"), metavar="DIR")
    shared.add_argument("--clip", default="mini", metavar="NAME", help="mini, openai, or a folder")
    training = commands.add_parser("train", parents=[shared], help="train with the grammar")
    alone = commands.add_parser("alone", parents=[shared], help="train with one sentence each")
    alone.add_argument("--word", nargs="+", choices=WORDS, default=["dark", "sharp", "salient"])
    for command in (training, alone):
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--start", type=Path, metavar="FILE", help="weights to begin with")
        command.add_argument("--train", nargs="+", default=["rendered"], metavar="DIR")
        command.add_argument(
            "--set", type=parse_setting, action="append", default=[], metavar="KEY=VALUE"
        )
    training.add_argument("--no-words", action="store_true", help="without language, to compare")
    training.add_argument("--output", type=Path, metavar="FILE", help="(default: what ships)")
    measuring = commands.add_parser("measure", parents=[shared], help="measure, write the record")
    measuring.add_argument("--data", metavar="DIR", help="folder of real sets")
    measuring.add_argument("--seeds", type=int, default=1)
    measuring.add_argument("--rendered", type=int, default=6, help="rendered pairs (default 6)")
    measuring.add_argument("--real", type=int, default=2, help="of each real set (default 2)")
    measuring.add_argument("--side", type=int, default=192, help="of a pair, in pixels")
    measuring.add_argument("--output", type=Path, default=RECORD, metavar="FILE")
    return parser


def _config(arguments: argparse.Namespace) -> TrainConfig:
    config = replace(CONFIG, seed=arguments.seed)
    return TrainConfig.from_dict(config.to_dict() | dict(arguments.set))


def _train(arguments: argparse.Namespace) -> None:
    if arguments.no_words:
        _train_without_words(arguments, arguments.output, dict(arguments.set))
        return
    output = arguments.output or paths(arguments.work, arguments.seed)["sentence"]
    folder = arguments.work / f"sentence_{arguments.seed}"
    train(_config(arguments), output, folder, arguments.train, _start(arguments), arguments.clip)
    print(f"weights in {output.name}")


def _train_without_words(
    arguments: argparse.Namespace, output: Path | None = None, changes: Mapping[str, Any] = {}
) -> None:
    """Train the network that learns from the perceptual term alone."""
    output = output or paths(arguments.work, arguments.seed)["no words"]
    config = replace(CONFIG, seed=arguments.seed, **NO_WORDS)
    config = TrainConfig.from_dict(config.to_dict() | dict(changes))
    folder = arguments.work / f"no_words_{arguments.seed}"
    train(config, output, folder, arguments.train, None, arguments.clip)
    print(f"weights in {output.name}")


def _start(arguments: argparse.Namespace) -> Path:
    """Return the weights to begin with; those without words are trained if they are missing."""
    start = arguments.start or paths(arguments.work, arguments.seed)["no words"]
    if arguments.start is None and not start.exists():
        _train_without_words(arguments)
    return Path(start)


def _alone(arguments: argparse.Namespace) -> None:
    start = _start(arguments)
    for word in arguments.word:
        config = replace(_config(arguments), sentences="one", prompt_fused=WORDS[word])
        output, folder = alone_path(arguments.work, word), arguments.work / f"alone_{word}"
        train(config, output, folder, arguments.train, start, arguments.clip)
        print(f"weights in {output.name}")


def _measure(arguments: argparse.Namespace) -> None:
    record = report.measure_all(
        arguments.work,
        arguments.seeds,
        arguments.data,
        (arguments.rendered, arguments.real, arguments.side),
        arguments.clip,
    )
    write_json(arguments.output, record)
    table = report.table(load_record(arguments.output))
    write_text(arguments.output.with_suffix(".md"), table)
    print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 when it failed."""
    arguments = _parser().parse_args(argv)
    try:
        {"train": _train, "alone": _alone, "measure": _measure}[arguments.command](arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
