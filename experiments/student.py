"""A smaller fusion network, taught by a larger one: is it as good, and how much faster?

python -m experiments.student train --train rendered DIR        # made the weights that ship
python -m experiments.student measure FILE ... --data DIR [--rivals FILE] [--output FILE]

The student is a `BoundedFusionNetwork` of fewer channels. It is fitted to what the teacher makes of
the training pairs, levels and their differences; no CLIP is needed (Hinton et al. 2015,
arXiv:1503.02531, for outputs of a regression).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from experiments import fusion_speed
from experiments.ablation.samples import SHIPPED, training_sets
from experiments.shipped_network import among_rivals
from ldf_utils import evaluation
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_text
from ldf_utils.data.pairs import Pair, PairFolder, find_sets
from ldf_utils.data.sets import RENDERED
from ldf_utils.fusion import rules
from ldf_utils.fusion.inference import Network, fuse_tensors
from ldf_utils.fusion.runtime import onnx_network
from ldf_utils.metrics import USUAL
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import STUDENT_WEIGHTS, load_network, save_network


@dataclass(frozen=True)
class StudentConfig:
    """Settings of a distillation.

    Attributes:
        width: of the student; the network that ships has 16.
        steps: steps in all.
        batch: crops a step.
        crop: side of a crop in pixels.
        learning_rate: at the first step; it falls to 0 as a cosine.
        weight_slope: of the differences of neighbors, beside the levels.
        seed: of weights and crops.
    """

    width: int = 8
    steps: int = 1000
    batch: int = 8
    crop: int = 128
    learning_rate: float = 4e-3
    weight_slope: float = 2.0
    seed: int = 0


def taught(teacher: nn.Module, pairs: Sequence[Pair]) -> list[torch.Tensor]:
    """Fuse all pairs whole, and return infrared, visible and fused, ``(3, H, W)`` each."""
    examples = []
    for pair in tqdm(pairs, desc="teacher", disable=None):
        infrared, visible = pair.infrared, pair.luminance
        fused = fuse_tensors(teacher, infrared[None], visible[None], tile=None)[0]
        examples.append(torch.cat([infrared, visible, fused]))
    return examples


def distance(student: torch.Tensor, teacher: torch.Tensor, weight_slope: float) -> torch.Tensor:
    """Compute the mean absolute error of levels, and of differences of neighbors both ways."""
    error = student - teacher
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + weight_slope * slopes


def distill(
    examples: Sequence[torch.Tensor], config: StudentConfig
) -> tuple[BoundedFusionNetwork, list[float]]:
    """Fit a student.

    Args:
        examples: infrared, visible and what the teacher made of them, ``(3, H, W)`` each, no side
            below ``config.crop``.
        config: the settings.

    Returns:
        The student in eval mode, and the distance to the teacher at each step.
    """
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    student, losses = BoundedFusionNetwork(config.width), []
    optimizer = torch.optim.AdamW(student.parameters(), config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / config.steps)
    )
    for _ in tqdm(range(config.steps), desc="student", disable=None):
        chosen = torch.randint(len(examples), (config.batch,), generator=generator).tolist()
        batch = torch.stack([_cut(examples[k], config.crop, generator) for k in chosen])
        infrared, visible, fused = batch.split(1, dim=1)
        loss = distance(student(infrared, visible), fused, config.weight_slope)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return student.eval(), losses


def _cut(example: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Cut a square, mirrored by half of the draws."""
    top, left, mirrored = (
        int(torch.randint(high, (), generator=generator))
        for high in (example.shape[-2] - side + 1, example.shape[-1] - side + 1, 2)
    )
    cut = example[:, top : top + side, left : left + side]
    return cut.flip(-1) if mirrored else cut


def train(config: StudentConfig, teacher: str, sets: Sequence[str], output: Path) -> Path:
    """Distill a network from another, and write it with a record of the settings.

    Args:
        config: the settings.
        teacher: as in `load_network`.
        sets: as in `experiments.ablation.samples.Settings.train`.
        output: the file of the weights.
    """
    opened = training_sets(sets)
    pairs = [pair for _, opened_set in opened for pair in opened_set]
    started = time.process_time()
    examples = taught(load_network(teacher).requires_grad_(False), pairs)
    student, losses = distill(examples, config)
    last = losses[-max(1, config.steps // 10) :]
    options = " ".join([f"--teacher {teacher} --train", *(name for name, _ in opened)])
    record = {
        "command": f"python -m experiments.student train {options}",
        "teacher": teacher,
        "sets": {name: len(opened_set) for name, opened_set in opened},
        "config": asdict(config),
        "cpu_minutes": round((time.process_time() - started) / 60, 1),
        "distance": round(sum(last) / len(last), 5),
        "parameters": sum(p.numel() for p in student.parameters()),
    }
    return Path(save_network(student, output, metadata=record))


def ranks(
    networks: Mapping[str, nn.Module], data: str | None, rivals: str | None, jobs: int = 2
) -> dict[str, dict[str, float]]:
    """Rank each network by itself among the classical rules (and published methods) of a set.

    Args:
        networks: name to network.
        data: folder of real sets, of which TNO 01 to 21 and RoadScene are measured; the rendered
            test set without.
        rivals: as in `among_rivals`, for TNO.
        jobs: processes.

    Returns:
        Network to set to mean rank over the nine metrics.
    """
    found = find_sets(data) if data else {"rendered": PairFolder(RENDERED / "test")}
    sets = {name: found[name] for name in ("TNO", "RoadScene", "rendered") if name in found}
    result: dict[str, dict[str, float]] = {name: {} for name in networks}
    for set_name, pairs in sets.items():
        candidates: dict[str, Network] = {**rules.RULES, **networks}
        fusers = {name: _fuser(candidate) for name, candidate in candidates.items()}
        rows = evaluation.evaluate_set(pairs, methods=[], metrics=USUAL, extra=fusers, jobs=jobs)
        for name in networks:
            alone = [row for row in rows if row["method"] in {*rules.RULES, name}]
            result[name][set_name] = evaluation.mean_ranks(alone)[name]
            if rivals and set_name == "TNO":
                means = {str(row["method"]): row for row in evaluation.mean_rows(alone)}
                result[name]["TNO, published"] = among_rivals(means, rivals)[name]["rank"]
    return result


def _fuser(network: Network) -> evaluation.Fuser:
    def fuse(pair: Pair) -> torch.Tensor:
        return fuse_tensors(network, pair.infrared[None], pair.luminance[None])[0]

    return fuse


def times(
    networks: Mapping[str, nn.Module], size: tuple[int, int], rounds: int
) -> dict[str, dict[str, float]]:
    """Measure the networks in turn on one core: medians of its milliseconds a frame.

    Args:
        networks: name to network.
        size: height and width of a frame.
        rounds: of all of them.

    Returns:
        Network to ``torch`` and ``ONNX Runtime`` to milliseconds of processor time.
    """
    pairs = fusion_speed.scene(size, 2)
    variants = {
        (name, runtime): fusion_speed.by_all_cores(
            onnx_network(network, 1) if runtime != "torch" else network, pairs, 1
        )
        for name, network in networks.items()
        for runtime in ("torch", "ONNX Runtime")
    }
    named = {f"{name}, {runtime}": run for (name, runtime), run in variants.items()}
    found = fusion_speed.measure(named, rounds)
    return {
        name: {r: found[f"{name}, {r}"][1] for r in ("torch", "ONNX Runtime")} for name in networks
    }


def table(
    networks: Mapping[str, nn.Module], data: str | None, rivals: str | None, rounds: int
) -> list[str]:
    """Measure time and rank, as lines of Markdown; ratios are to the first network."""
    places = ranks(networks, data, rivals)
    sets = list(next(iter(places.values())))
    sizes = {"640 x 480": (480, 640), "320 x 240": (240, 320)}
    taken = {label: times(networks, size, rounds) for label, size in sizes.items()}
    columns = [f"{label}, {r}" for label in sizes for r in ("torch", "ONNX Runtime")]
    lines = [
        "| network | parameters | "
        + " | ".join([f"rank {name}" for name in sets] + [f"ms {name} (ratio)" for name in columns])
        + " |",
        "|---" * (2 + len(sets) + len(columns)) + "|",
    ]
    first = next(iter(networks))
    for name, network in networks.items():
        cells = [f"{sum(p.numel() for p in network.parameters()):,}"]
        cells += [f"{places[name][one]:.2f}" for one in sets]
        for label in sizes:
            for runtime, value in taken[label][name].items():
                cells.append(f"{value:.1f} ({value / taken[label][first][runtime]:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.student", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    defaults = StudentConfig()
    training = commands.add_parser("train", help="distill a student")
    training.add_argument("--teacher", default="shipped", help="as --weights of ldf_utils.fusion")
    training.add_argument("--train", nargs="+", default=[SHIPPED], metavar="DIR", help="sets")
    for name in ("width", "steps", "batch", "seed"):
        training.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    training.add_argument("--output", type=Path, default=STUDENT_WEIGHTS, metavar="FILE")
    measuring = commands.add_parser("measure", help="compare networks with the one that ships")
    measuring.add_argument("networks", nargs="*", metavar="FILE", help="weights, or known names")
    measuring.add_argument("--data", metavar="DIR", help="folder of real sets")
    measuring.add_argument("--rivals", metavar="FILE", help="CSV of published means on TNO")
    measuring.add_argument("--rounds", type=int, default=9)
    measuring.add_argument("--output", type=Path, metavar="FILE", help="Markdown")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 1 when it failed."""
    arguments: dict[str, Any] = vars(_parser().parse_args(argv))
    try:
        if arguments.pop("command") == "train":
            teacher, sets = arguments.pop("teacher"), arguments.pop("train")
            output = arguments.pop("output")
            print(f"weights in {train(StudentConfig(**arguments), teacher, sets, output)}")
        else:
            names = dict.fromkeys(["shipped", *arguments["networks"]])
            networks = {Path(name).stem: load_network(name).requires_grad_(False) for name in names}
            lines = table(networks, arguments["data"], arguments["rivals"], arguments["rounds"])
            if arguments["output"]:
                write_text(arguments["output"], "\n".join(lines) + "\n")
            print("\n".join(lines))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
