"""The fusion network that ships with the repository: train it, measure it, write its card.

python -m experiments.shipped_network train              # on the rendered set
python -m experiments.shipped_network train --settings paper --train rendered DIR --output DIR
python -m experiments.shipped_network card [--data DIR]  # figures on rendered and real pairs
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.ablation.samples import SHIPPED, training_sets
from ldf_utils import evaluation
from ldf_utils.clip.loading import load_clip
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_json, write_text
from ldf_utils.data.pairs import Pair, PairFolder, find_sets
from ldf_utils.data.sets import RENDERED
from ldf_utils.fusion import rules
from ldf_utils.fusion.inference import fuse_tensors
from ldf_utils.metrics import USUAL
from ldf_utils.networks.checkpoint import load_network, save_network
from ldf_utils.training.config import NETWORKS, TrainConfig, parse_setting
from ldf_utils.training.trainer import fit

FOLDER = Path(__file__).resolve().parent.parent / "ldf_utils" / "weights"
WEIGHTS, RECORD, CARD = "fusion_bounded.pt", "fusion_bounded.json", "README.md"
CONFIG = TrainConfig(
    steps=250,
    batch=4,
    crop=128,
    patches=8,
    learning_rate=3e-3,
    weight_perceptual=200.0,  # with 10, people are seen worse
    autocast=True,
    clip="mini",
)
SETTINGS = {"shipped": CONFIG, "paper": replace(CONFIG, weight_perceptual=10.0)}
"""The settings of what ships, and the same with the paper's weights: 2, 10, 6 and 10."""


def train(
    config: TrainConfig = CONFIG,
    folder: Path = FOLDER,
    sets: Sequence[str] = (SHIPPED,),
    name: str = "",
) -> Path:
    """Train, and write the weights with a record of the settings.

    Args:
        config: the settings; the default made the shipped weights.
        folder: where the weights and the record go.
        sets: to train on, as `experiments.ablation.samples.Settings.train` names them.
        name: of the settings in `SETTINGS`, for the record.

    Returns:
        The path of the weights.

    Raises:
        ImageError: if a set is missing or cannot be read.
    """
    clip = load_clip(config.clip)
    opened = training_sets(sets)
    pairs: list[Pair] = [pair for _, opened_set in opened for pair in opened_set]
    started = time.perf_counter()
    result = fit(config, pairs, clip=clip, folder="runs/shipped")
    options = f" --settings {name}" if name not in ("", "shipped") else ""
    options += " --train " + " ".join(found for found, _ in opened)
    record = {
        "command": f"python -m experiments.shipped_network train{options}",
        "sets": {found: len(opened_set) for found, opened_set in opened},
        "config": config.to_dict(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in result.network.parameters()),
    }
    write_json(folder / RECORD, record)
    return Path(save_network(result.network, folder / WEIGHTS, metadata=record))


def measure(data_dir: str | None) -> dict[str, dict[str, dict[str, float]]]:
    """Compute means and mean ranks of the shipped network and of the classical rules, per set.

    Args:
        data_dir: a folder of real sets, or None for the rendered test set only.

    Returns:
        Set to method to metric to mean, with the number of pairs as ``pairs`` and the mean rank
        among the methods of the set, over all metrics, as ``rank``.
    """
    network = load_network("shipped")

    def by_rule(rule):
        return lambda pair: rule(pair.infrared[None], pair.luminance[None])[0]

    fusers = {name: by_rule(rule) for name, rule in rules.RULES.items()}
    fusers["shipped"] = lambda pair: fuse_tensors(
        network, pair.infrared[None], pair.luminance[None]
    )[0]
    sets = {"held-out rendered": PairFolder(RENDERED / "test")}
    sets.update(find_sets(data_dir) if data_dir else {})
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, pairs in sets.items():
        rows = evaluation.evaluate_set(pairs, methods=[], metrics=USUAL, extra=fusers, jobs=2)
        ranks = evaluation.mean_ranks(rows)
        table[name] = {
            row["method"]: {"pairs": len(pairs), "rank": round(ranks[row["method"]], 2)}
            | {m: round(row[m], 4) for m in USUAL}
            for row in evaluation.mean_rows(rows)
        }
    return table


def among_rivals(rows: Mapping[str, Mapping[str, float]], path: str) -> dict[str, dict[str, float]]:
    """Rank our means together with published ones of other methods on the same pairs.

    Args:
        rows: method to metric to mean, one set of `measure`.
        path: a CSV file with a column ``method`` and one column for each of `USUAL`.

    Returns:
        Method to metric to mean and ``rank``, best first.

    Raises:
        ValueError: if the file lacks a column.
    """
    with open(path, newline="", encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    lacking = {"method", *USUAL} - set(published[0] if published else ())
    if lacking:
        raise ValueError(
            f"{path}: no column {', '.join(sorted(lacking))}; expected method, {', '.join(USUAL)}"
        )
    means = {row["method"]: {m: float(row[m]) for m in USUAL} for row in published}
    means |= {name: {m: row[m] for m in USUAL} for name, row in rows.items()}
    ranks = evaluation.mean_ranks(
        [{"method": name, "image": "all", **row} for name, row in means.items()]
    )
    return {name: {"rank": round(ranks[name], 2), **means[name]} for name in ranks}


def _data(record: Mapping[str, Any]) -> str:
    """Say in words what a network was trained on."""
    source = {"M3SVD": "M3SVD (Linfeng-Tang/M3SVD, MIT)"}
    counts = record["sets"].items()
    return ", ".join(f"{count} pairs of {source.get(name, name)}" for name, count in counts)


def card(
    record: Mapping[str, Any],
    table: Mapping[str, Any],
    size: int,
    rivals: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Write the model card as Markdown.

    Args:
        record: written by `train`.
        table: of `measure`.
        size: of the weights in bytes.
        rivals: of `among_rivals`, or None.

    Returns:
        The text.
    """
    config = record["config"]
    lines = [
        "# The fusion network that ships",
        "",
        f"`{WEIGHTS}`: a `{NETWORKS[config['network']].__name__}` of "
        f"{record['parameters']:,} parameters ({size / 1e6:.2f} MB). It mixes and amplifies what "
        "the two sources contain; it cannot invent texture.",
        "",
        "| | |",
        "|---|---|",
        f"| data | {_data(record)} |",
        f"| CLIP | the embedded CLIP (`{config['clip']}`) |",
        f"| training | {config['steps']} steps of {config['batch']} crops of {config['crop']} "
        f"pixels, {config['patches']} patches each, {record['minutes']} minutes on "
        f"{record['threads']} CPU threads |",
        f"| loss | {config['weight_direction']:g} direction + {config['weight_patch']:g} patch + "
        f"{config['weight_angle']:g} angle + {config['weight_perceptual']:g} perceptual "
        f"({config['perceptual']}) |",
        f"| made by | `{record['command']}` (torch {record['torch']}) |",
        "",
        "Means over each set, luminance rounded to 0..255, MI in nats, against the classical rules "
        "of `ldf_utils.fusion.rules`. Rank: mean over the nine metrics, among the methods of the "
        "set; 1 is best. Made by `python -m experiments.shipped_network card --data DIR --rivals "
        "FILE`.",
        "",
        "| set | pairs | method | rank | " + " | ".join(USUAL) + " |",
        "|---" * (4 + len(USUAL)) + "|",
    ]
    for name, methods in table.items():
        for method, row in sorted(methods.items(), key=lambda item: item[1]["rank"]):
            cells = " | ".join(f"{row[m]:.3f}" for m in USUAL)
            lines.append(f"| {name} | {row['pairs']} | {method} | {row['rank']:.2f} | {cells} |")
    if rivals:
        lines += [
            "",
            "TNO, pairs 01 to 21, among published methods (their true values, measured with the "
            "same definitions):",
            "",
            "| method | rank | " + " | ".join(USUAL) + " |",
            "|---" * (2 + len(USUAL)) + "|",
        ]
        for method, row in rivals.items():
            cells = " | ".join(f"{row[m]:.3f}" for m in USUAL)
            lines.append(f"| {method} | {row['rank']:.2f} | {cells} |")
    lines += [
        "",
        "Limits: trained on rendered pairs and frames of one real set, with a small CLIP. Contrast "
        "and activity rise; agreement with the sources (SSIM) falls, as it does for "
        "language-driven fusion in general. It is a starting point for the tutorial, not a "
        "product.",
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 when it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.shipped_network", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train and write the weights")
    training.add_argument("--settings", choices=SETTINGS, default="shipped")
    training.add_argument(
        "--set",
        type=parse_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting of ldf_utils.training, such as network=salient",
    )
    training.add_argument(
        "--train",
        nargs="+",
        default=[SHIPPED],
        metavar="DIR",
        help="sets, or folders of sets; the word rendered, which is the default, names the "
        "training part of the set that ships",
    )
    training.add_argument(
        "--output", type=Path, default=FOLDER, metavar="DIR", help="of weights and record"
    )
    writing = commands.add_parser("card", help="measure and write the card")
    writing.add_argument("--data", help="folder of real sets, each with ir/ and vi/")
    writing.add_argument("--rivals", help="CSV of published means on the set TNO")
    args = parser.parse_args(argv)
    try:
        if args.command == "train":
            config = TrainConfig.from_dict(SETTINGS[args.settings].to_dict() | dict(args.set))
            path = train(config, args.output, args.train, args.settings)
            print(f"weights in {path.name}")
        else:
            record = json.loads((FOLDER / RECORD).read_text(encoding="utf-8"))
            size = (FOLDER / WEIGHTS).stat().st_size
            table = measure(args.data)
            if args.rivals and "TNO" not in table:
                raise ValueError(f"--rivals: no set TNO in {args.data}; the values are of that set")
            rivals = among_rivals(table["TNO"], args.rivals) if args.rivals else None
            write_text(FOLDER / CARD, card(record, table, size, rivals))
            print(f"card in {CARD}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
