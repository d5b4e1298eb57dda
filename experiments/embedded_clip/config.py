"""Settings of the training of the embedded CLIP."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class EmbeddedClipConfig:
    """Settings of the training.

    Those of the shipped weights changed on the way: see history in weights/mini_clip/training.json.
    """

    steps: int = 1650
    second_cycle_steps: int = 400  # a second, lower cycle of the learning rate (arXiv:1608.03983)
    second_cycle_rate: float = 0.5  # where it begins, as a share of the learning rate
    textured_steps: int = 200  # at the end, all with much texture; before, every second one
    squares_per_step: int = 18  # each gives nine images
    recorded_share: float = 0.15  # of the squares, of real cameras
    start: str | None = None  # folder of a model to start from; its tower may be smaller
    captions: int = 160
    learning_rate: float = 1.0e-3
    hidden_learning_rate: float = 3.0e-3  # of `hidden_matrices`, by `OrthogonalMomentum`
    warm_up: int = 60
    weight_decay: float = 0.05
    direction_weight: float = 0.5
    denial_weight: float = 1.5
    attribute_weight: float = 1.5
    place_weight: float = 2.0
    pair_weight: float = 1.0
    degradation_weight: float = 1.0
    salience_weight: float = 4.0
    order_weight: float = 1.0  # from the second cycle on
    modality_weight: float = 4.0  # of infrared and visible among the attributes, the hardest pair
    hard_weight: float = 2.5  # of those in `HARD` among the attributes
    augmented: tuple[float, float, float] = (0.25, 0.35, 0.4)
    """Share of augmented scenes: it grows from the first to the second for half of the steps; then
    it is the third."""
    adversarial_at: tuple[float, ...] = (0.355, 0.65, 0.93)  # as shares of the steps
    adversarial_steps: int = 60
    adversarial_squares: int = 64
    margin: float = 0.4  # of L_dir between the oracle and the other views
    average_decay: float = 0.995
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    save_every: int = 50

    @property
    def total_steps(self) -> int:
        return self.steps + self.second_cycle_steps + self.textured_steps

    def learning_rate_factor(self, step: int) -> float:
        """Return the factor of both learning rates: warm-up, then two cosines that end at 0.02."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        later, top = step - self.steps, 1.0
        if later < 0:
            share = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        elif later < self.second_cycle_steps:
            share, top = later / self.second_cycle_steps, self.second_cycle_rate
        else:  # the end of a cosine that began with the second cycle, at the full rate
            share = later / max(self.second_cycle_steps + self.textured_steps, 1)
        return 0.02 + (top - 0.02) * 0.5 * (1 + math.cos(math.pi * share))

    def augmented_share(self, step: int) -> float:
        """Return the share of augmented scenes at a step."""
        first, second, last = self.augmented
        if 2 * step < self.steps:
            return first + (second - first) * 2 * step / self.steps
        return last
