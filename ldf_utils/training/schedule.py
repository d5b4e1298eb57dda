"""The learning rate of a step, and the seed of a step."""

from __future__ import annotations

import math

import numpy as np

from ldf_utils.training.config import TrainConfig

# The milestones of the authors' settings: epochs, of 100. Their code counts steps against them.
_MILESTONES = (50, 60, 70, 80, 90, 100)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: up in a line, then by ``config.schedule``.

    ``cosine`` goes down in half a cosine. ``halving`` stays and is halved after 50, 60, 70, 80 and
    90 % of the steps: the milestones of the authors' settings, in epochs of 100. ``released`` is
    what their code makes of these, since it moves both schedulers after each step of the first
    epoch (the warm-up) and never again: the rate ends its warm-up one step too high and stays
    there, and it is halved for step 50, 60, ... 100 alone, where the warm-up is that long.

    Args:
        step: from 0 to ``config.steps - 1``.
        config: ``learning_rate``, ``schedule``, ``warmup``, ``steps``, ``min_lr_ratio`` are used.

    Returns:
        Rising to ``learning_rate``, which the last step of the warm-up has; then, for ``cosine``,
        falling to ``min_lr_ratio * learning_rate``, which the last step of all has.
    """
    rising = round(config.warmup * config.steps)
    if config.schedule == "released":
        moved = min(step, rising)
        share = (moved + 1) / rising if rising else 1.0
        return config.learning_rate * share * (0.5 if moved in _MILESTONES and rising else 1.0)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    if config.schedule == "halving":
        passed = sum(100 * step >= milestone * config.steps for milestone in _MILESTONES)
        return config.learning_rate * 0.5**passed
    cosine = (1 + math.cos(math.pi * (step + 1 - rising) / (config.steps - rising))) / 2
    lowest = config.min_lr_ratio
    return config.learning_rate * (lowest + (1 - lowest) * cosine)


def step_seed(seed: int, step: int, rank: int = 0, part: int = 0) -> int:
    """Mix (seed, step, rank, part) to one number: neighbors give unrelated streams."""
    numbers = (seed, step, rank, part) if part else (seed, step, rank)
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
