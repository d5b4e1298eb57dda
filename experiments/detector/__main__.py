"""The command line: ``python -m experiments.detector train | evaluate | protocol | sentences``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ldf_utils
from experiments.detector.crops import KINDS, collect
from experiments.detector.evaluation import evaluate, write_card
from experiments.detector.pictures import WEIGHTS
from experiments.detector.protocol import run_protocol
from experiments.detector.sentences import run_sentences
from experiments.detector.training import DetectorConfig, train
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain
from ldf_utils.data.sets import RENDERED
from ldf_utils.detection.detector import SHIPPED_DETECTOR, save_detector

PROTOCOL, SENTENCES = WEIGHTS / "detection_protocol.json", WEIGHTS / "detection_sentences.json"


def train_shipped(
    config: DetectorConfig, sources: Sequence[Path], work: Path, output: Path
) -> dict[str, Any]:
    """Collect pairs, train, and write the weights with what is known of them."""
    if (work / "pairs.json").is_file():
        print(f"the pairs collected in {work} are used; remove pairs.json to collect them anew")
    else:
        collect(sources, work)
    network, record = train(config, work)
    metadata = record | {
        "command": _command(config, sources),
        "data": f"{record['pairs']} rendered pairs; no real picture",
        "kinds": ", ".join(f"{kind} {share:.0%}" for kind, share in KINDS.items())
        + "; tone curves, noise, blur; 8 % inverted; what cannot be seen does not count",
        "text": f"{config.steps} steps of {config.batch} crops of 256 pixels, "
        f"{record['minutes']} minutes of {config.threads} thread(s); averaged weights",
    }
    save_detector(network, output, metadata)
    return metadata


def _command(config: DetectorConfig, sources: Sequence[Path]) -> str:
    """Return the command of a training, without where this machine keeps things."""
    root, defaults = Path(ldf_utils.__file__).parents[1], DetectorConfig()
    parts = ["python -m experiments.detector train", f"--steps {config.steps}"]
    for name in ("batch", "seed", "threads"):
        if (value := getattr(config, name)) != getattr(defaults, name):
            parts.append(f"--{name} {value}")
    if list(sources) != [RENDERED / "train"]:
        places = [path.resolve() for path in sources]
        names = [p.relative_to(root).as_posix() if root in p.parents else p.name for p in places]
        parts.append("--sources " + shlex.join(names))
    return " ".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.detector", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("train", help="train the detector that ships; resumes")
    defaults = DetectorConfig()
    for name in ("steps", "batch", "seed", "threads"):
        p.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    p.add_argument("--output", type=Path, default=SHIPPED_DETECTOR, help="file of the weights")
    p = commands.add_parser("evaluate", help="measure it on all methods; writes record and card")
    p.add_argument("--data", help="folder of real sets with labels")
    p.add_argument("--network", default="", help="file of another fusion network")
    p = commands.add_parser("protocol", help="one detector per method; resumes")
    p.add_argument("--steps", type=int, default=25)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--data", help="folder of real sets with labels")
    p.add_argument("--network", default="", help="file of another fusion network")
    p.add_argument("--output", type=Path, default=PROTOCOL)
    p = commands.add_parser("sentences", help="which sentence helps? resumes")
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--data", help="folder of real sets with labels")
    p.add_argument("--output", type=Path, default=SENTENCES)
    for name in ("train", "protocol", "sentences"):
        p = commands.choices[name]
        p.add_argument("--work", type=Path, default=Path("runs/detector"), help="kept between runs")
    for name in ("train", "protocol"):
        commands.choices[name].add_argument(
            "--sources",
            type=Path,
            nargs="+",
            default=[RENDERED / "train"],
            help="rendered folders, and pools of experiments.embedded_clip (default: what ships)",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 1 when it failed."""
    a = _parser().parse_args(argv)
    try:
        if a.command == "train":
            config = DetectorConfig(steps=a.steps, batch=a.batch, seed=a.seed, threads=a.threads)
            train_shipped(config, a.sources, a.work, a.output)
            print(f"weights in {a.output}")
        elif a.command == "evaluate":
            evaluate(a.data, a.network)
            print(f"card in {write_card()}")
        elif a.command == "protocol":
            if not (a.work / "pairs.npy").is_file():
                collect(a.sources, a.work)
            run_protocol(a.work, a.steps, a.batch, a.seeds, a.data, a.network, a.output)
            print(f"record in {a.output}")
        else:
            run_sentences(a.work, a.steps, a.seeds, a.data, a.output)
            print(f"record in {a.output}")
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main, "stopped; the same command goes on from the last checkpoint")
