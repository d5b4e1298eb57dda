"""The command line: ``python -m experiments.ablation``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.ablation.report import write_study
from experiments.ablation.run import run_study
from experiments.ablation.samples import SHIPPED, Settings
from experiments.ablation.variants import GROUPS, Variant
from ldf_utils.data.cli import run_command
from ldf_utils.evaluation.ablation import BASE, DECLARED
from ldf_utils.training.config import TrainConfig, parse_setting

# --- command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablation",
        description="Train with other terms and other sentences, at equal steps, and compare.",
        epilog="\n".join(
            f"{group}: " + "; ".join(f"{variant.name} ({variant.label})" for variant in variants)
            for group, variants in GROUPS.items()
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="DIR", help="folder of real sets to measure on as well")
    parser.add_argument(
        "--group", choices=GROUPS, default="terms", help="which variants (default: terms)"
    )
    parser.add_argument(
        "--train",
        nargs="+",
        default=[SHIPPED],
        metavar="DIR",
        help="sets to train on, or folders of sets; the word rendered, which is the default, names "
        "the training part of the set that ships",
    )
    parser.add_argument("--steps", type=int, default=BASE.steps, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these variants")
    parser.add_argument("--clip", default=BASE.clip, help="mini, openai, or a model's folder")
    parser.add_argument(
        "--set",
        type=parse_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting of ldf_utils.training for all variants",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/ablation"),
        metavar="DIR",
        help="gets study.json, .csv and .md; finished trainings in it are not made again",
    )
    return parser


def _chosen(group: str, names: Sequence[str] | None) -> list[Variant]:
    known = {variant.name: variant for variant in GROUPS[group]}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"there is no variant {unknown[0]!r}; expected some of {', '.join(known)}")
    return [variant for name, variant in known.items() if names is None or name in names]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when done, 1 when something failed."""
    try:
        arguments = _parser().parse_args(argv)
        values = BASE.to_dict() | {"steps": arguments.steps, "clip": arguments.clip}
        config = TrainConfig.from_dict(values | dict(arguments.set))
        settings = Settings(config=config, data=arguments.data, train=tuple(arguments.train))
        begin = time.perf_counter()
        study = run_study(
            settings,
            arguments.output,
            _chosen(arguments.group, arguments.only),
            arguments.seeds,
            arguments.jobs,
        )
        paths = write_study(study, arguments.output)
        for finding in study.findings(DECLARED):
            hypothesis = finding.hypothesis
            print(
                f"{hypothesis.variant} against {hypothesis.baseline}, {hypothesis.measure} "
                f"on {finding.place}: "
                f"{finding.difference.mean:+.3f}, expected {'+' if hypothesis.sign > 0 else '-'}: "
                f"{finding.verdict}"
            )
        print(f"{(time.perf_counter() - begin) / 60:.1f} minutes; {paths[-1]}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
