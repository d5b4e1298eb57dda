"""The fusion network that ships with the repository: train it, measure it, write its card.

python -m tools.shipped_network train              # on generated scenes alone
python -m tools.shipped_network card [--data DIR]  # figures on held-out scenes and real sets
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ldf_utils import baselines, evaluation
from ldf_utils.clip_space import load_clip
from ldf_utils.files import write_json, write_text
from ldf_utils.fusing import fuse_tensors
from ldf_utils.images import Pair, find_sets
from ldf_utils.networks import load_network, save_network
from ldf_utils.scenes import render, write_set
from ldf_utils.training import TrainConfig, fit

FOLDER = Path(__file__).resolve().parent.parent / "ldf_utils" / "weights"
WEIGHTS, RECORD, CARD = "fusion_bounded.pt", "fusion_bounded.json", "README.md"
SCENES, SIZE, SEED, HELD_OUT_SEED = 600, (192, 256), 500, 600
CONFIG = TrainConfig(
    steps=600,
    batch=6,
    crop=128,
    patches=8,
    learning_rate=2e-3,
    weight_perceptual=200.0,  # the small judge is easily pleased; this holds it to the scene
    clip="mini",
)
METRICS = ("EN", "SD", "SF", "AG", "MI", "SCD", "SSIM")


def scene_pairs(count: int, seed: int, size: tuple[int, int] = SIZE) -> list[Pair]:
    """Generated pairs in memory."""
    pairs = []
    for start in tqdm(range(0, count, 20), desc="rendering scenes", leave=False):
        batch = render(min(20, count - start), size, seed, start=start)
        for i in range(len(batch)):
            pairs.append(Pair(f"{start + i:05d}", batch.infrared[i], batch.visible[i]))
    return pairs


def train(config: TrainConfig = CONFIG, folder: Path = FOLDER) -> Path:
    """Train on generated scenes alone and write the weights with a record of how.

    Args:
        config: the settings; the default made the shipped weights.
        folder: where the weights and the record go.

    Returns:
        The path of the weights.
    """
    clip = load_clip(config.clip)
    pairs = scene_pairs(SCENES, SEED)
    started = time.perf_counter()
    result = fit(config, pairs, clip=clip, folder="runs/shipped")
    record = {
        "command": "python -m tools.shipped_network train",
        "scenes": SCENES, "size": SIZE, "seed": SEED, "config": config.to_dict(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
        "parameters": sum(p.numel() for p in result.network.parameters()),
    }  # fmt: skip
    write_json(folder / RECORD, record)
    return Path(save_network(result.network, folder / WEIGHTS, metadata=record))


def measure(data_dir: str | None) -> dict[str, dict[str, dict[str, float]]]:
    """Means of the shipped network and of averaging, per set.

    Args:
        data_dir: a folder of real sets, or None for held-out scenes only.

    Returns:
        Set to method to metric to mean, with the number of pairs as metric ``pairs``.
    """
    network = load_network("shipped")
    fusers = {
        "average": lambda pair: baselines.average(pair.infrared[None], pair.luminance[None])[0],
        "shipped": lambda pair: fuse_tensors(network, pair.infrared[None], pair.luminance[None])[0],
    }
    sets = {"held-out scenes": write_set("runs/shipped/held_out", 40, SIZE, HELD_OUT_SEED)}
    sets.update(find_sets(data_dir) if data_dir else {})
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, pairs in sets.items():
        known = [method for method in pairs.fused_methods() if method == "oracle"]
        rows = evaluation.evaluate_set(pairs, methods=known, metrics=METRICS, extra=fusers)
        table[name] = {
            row["method"]: {"pairs": len(pairs), **{m: round(row[m], 4) for m in METRICS}}
            for row in evaluation.mean_rows(rows)
        }
    return table


def card(record: Mapping[str, Any], table: Mapping[str, Any], size: int) -> str:
    """The model card as Markdown."""
    config = record["config"]
    lines = [
        "# The fusion network that ships",
        "",
        f"`{WEIGHTS}`: a `BoundedFusionNetwork` of {record['parameters']:,} parameters "
        f"({size / 1e6:.2f} MB). It mixes and amplifies what the two sources hold; it cannot "
        "invent texture.",
        "",
        "| | |",
        "|---|---|",
        f"| data | {record['scenes']} generated pairs of {record['size'][1]} x "
        f"{record['size'][0]} pixels, seed {record['seed']}; no real picture |",
        f"| judge | the embedded CLIP (`{config['clip']}`) |",
        f"| training | {config['steps']} steps of {config['batch']} crops of {config['crop']} "
        f"pixels, {config['patches']} patches each, {record['minutes']} minutes on "
        f"{record['threads']} CPU threads |",
        f"| loss | {config['weight_direction']:g} direction + {config['weight_patch']:g} patch + "
        f"{config['weight_angle']:g} angle + {config['weight_perceptual']:g} perceptual "
        f"({config['perceptual']}) |",
        f"| made by | `{record['command']}` (torch {record['torch']}) |",
        "",
        "Means over each set, luminance rounded to 0..255, MI in nats. Made by "
        "`python -m tools.shipped_network card --data DIR`.",
        "",
        "| set | pairs | method | " + " | ".join(METRICS) + " |",
        "|---" * (3 + len(METRICS)) + "|",
    ]
    for name, methods in table.items():
        for method, row in methods.items():
            cells = " | ".join(f"{row[m]:.3f}" for m in METRICS)
            lines.append(f"| {name} | {row['pairs']} | {method} | {cells} |")
    lines += [
        "",
        "Limits: trained on generated scenes, under a small judge. Contrast and activity rise; "
        "agreement with the sources (SSIM) falls, as it does for language-driven fusion in "
        "general. It is a starting point for the tutorial, not a product.",
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.shipped_network", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="train and write the weights")
    writing = commands.add_parser("card", help="measure and write the card")
    writing.add_argument("--data", help="folder of real sets, each with ir/ and vi/")
    args = parser.parse_args(argv)
    try:
        if args.command == "train":
            print(f"weights in {train().name}")
        else:
            record = json.loads((FOLDER / RECORD).read_text(encoding="utf-8"))
            size = (FOLDER / WEIGHTS).stat().st_size
            write_text(FOLDER / CARD, card(record, measure(args.data), size))
            print(f"card in {CARD}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
