"""Train the embedded detector; an interrupted run goes on from its last checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from experiments.detector.crops import KINDS, Crops, Picture, stack
from experiments.detector.loss import detection_loss
from ldf_utils.data.files import atomic_path
from ldf_utils.detection.network import SmallDetector

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class DetectorConfig:
    """Settings of a training.

    Attributes:
        steps: steps in all.
        batch: crops a step.
        learning_rate: at its highest.
        weight_decay: of AdamW.
        average: share that the averaged weights keep at each step; they are what is saved.
        seed: of the weights and of the crops.
        threads: of torch. With one, equal settings and pairs give equal weights on a machine.
    """

    steps: int = 1950
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    average: float = 0.998
    seed: int = 0
    threads: int = 1


def rate(step: int, config: DetectorConfig) -> float:
    """Return the learning rate of a step: up to 100 steps of warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / min(100, max(1, config.steps // 10)))
    return (
        config.learning_rate
        * warm
        * (0.01 + 0.99 * (1 + math.cos(math.pi * step / config.steps)) / 2)
    )


@dataclass
class _State:
    network: SmallDetector
    averaged: SmallDetector
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path, config: DetectorConfig) -> None:
        content = {
            "config": asdict(config),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path, config: DetectorConfig) -> None:
        content = torch.load(path, weights_only=True)
        theirs = content["config"] | {"threads": config.threads}
        if theirs != asdict(config):
            raise ValueError(
                f"{path}: this run has the settings {content['config']}, asked for were "
                f"{asdict(config)}; finish it with its own, or choose another --work"
            )
        self.network.load_state_dict(content["network"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds = content["step"], content["seconds"]


def _start(config: DetectorConfig, start: SmallDetector | None) -> _State:
    torch.manual_seed(config.seed)
    network, averaged = SmallDetector(), SmallDetector()
    if start is not None:
        network.load_state_dict(start.state_dict())
    averaged.load_state_dict(network.state_dict())
    network.to(memory_format=torch.channels_last)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return _State(network, averaged.eval(), torch.optim.AdamW(groups, lr=config.learning_rate))


def _follow(averaged: SmallDetector, network: SmallDetector, keep: float) -> None:
    """Move the averaged weights toward the present ones."""
    theirs = network.state_dict()
    for name, mine in averaged.state_dict().items():
        if mine.dtype.is_floating_point:
            mine.lerp_(theirs[name], 1 - keep)
        else:
            mine.copy_(theirs[name])


def train(
    config: DetectorConfig,
    work: Path,
    kinds: Mapping[str, float] = KINDS,
    methods: Mapping[str, Picture] | None = None,
    checkpoint: str = CHECKPOINT,
    start: SmallDetector | None = None,
    every: int = 200,
    progress: bool = True,
) -> tuple[SmallDetector, dict[str, Any]]:
    """Train on the pairs that were collected in a folder.

    Args:
        config: the settings.
        work: the folder of ``pairs.npy``; the checkpoint is kept there, too.
        kinds: as for `Crops`.
        methods: the same.
        checkpoint: its name.
        start: weights to begin with; random ones for None.
        every: steps between checkpoints.
        progress: whether to show a progress bar.

    Returns:
        The averaged network and a record: losses, seconds, pairs.

    Raises:
        ValueError: if the checkpoint has other settings.
    """
    torch.set_num_threads(config.threads)
    crops, state, path = Crops(work, kinds, methods), _start(config, start), work / checkpoint
    if path.is_file():
        state.load(path, config)
    losses: list[dict[str, float]] = []
    steps = range(state.step, config.steps)
    bar = tqdm(steps, "training", config.steps, initial=state.step, disable=not progress)
    for step in bar:
        begin = time.process_time()
        rng = np.random.default_rng([config.seed, step])
        batch = [crops.draw(rng) for _ in range(config.batch)]
        for group in state.optimizer.param_groups:
            group["lr"] = rate(step, config)
        state.network.train()
        logits, boxes = state.network(stack(batch).contiguous(memory_format=torch.channels_last))
        loss = detection_loss(logits, boxes, batch)
        state.optimizer.zero_grad()
        loss["total"].backward()
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), 10.0)
        state.optimizer.step()
        _follow(state.averaged, state.network, min(config.average, (1 + step) / (10 + step)))
        losses.append({name: value.item() for name, value in loss.items()})
        state.step, state.seconds = step + 1, state.seconds + time.process_time() - begin
        if state.step % every == 0 or state.step == config.steps:
            state.save(path, config)
            recent = losses[-every:]
            means = {k: sum(row[k] for row in recent) / len(recent) for k in recent[0]}
            if progress:
                text = " ".join(f"{k} {v:.3f}" for k, v in means.items())
                bar.write(f"step {state.step} {text}")
    record = {
        "config": asdict(config),
        "pairs": len(crops.pairs),
        "minutes": round(state.seconds / 60, 1),
        "parameters": sum(p.numel() for p in state.averaged.parameters()),
    }
    return state.averaged, record
