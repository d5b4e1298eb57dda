"""Training of the embedded CLIP, a small open_clip model that every notebook can run with.

It knows which of a few dozen attributes hold for an image (infrared or visible, sharp or blurry,
noisy, dark, hazy, detailed, salient objects, artifacts, people, ...) and the words for them
(`ldf_utils.clip.attributes`), and nothing else.

Every training image is generated, and the truth of each attribute is known
(`experiments.embedded_clip.dataset`). A caption asserts a few attributes, so it is known whether it
is true or false of an image, or undecided. Most losses use exactly that
(`experiments.embedded_clip.losses`). One more asks for the geometry that language-driven fusion
needs: the oracle fusion has a lower L_dir (`ldf_utils.losses.direction`) than averages, maxima and
degraded images; in the second cycle of the learning rate, maxima have a lower one than averages.

A linear layer on the embedding predicts the attributes, in training only: at first all sentences
have similar embeddings, and this loss does not depend on them.

Several times during the training, images are optimized against the model as it is then
(`experiments.embedded_clip.adversarial`) and become examples of artifacts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip import losses
from experiments.embedded_clip.adversarial import optimize_negatives
from experiments.embedded_clip.dataset import Batch, load_scenes, make_batch
from experiments.embedded_clip.model import (
    DIMENSIONS,
    frozen_copy,
    hidden_matrices,
    new_model,
    new_tokenizer,
    to_pixels,
    write_model,
)
from experiments.embedded_clip.orthogonal import OrthogonalMomentum
from ldf_utils.clip.attributes import INDEX, draw_captions, draw_denials, match
from ldf_utils.clip.loading import MINI_FOLDER
from ldf_utils.clip.model import bfloat16_pays
from ldf_utils.data.files import atomic_path, write_json
from ldf_utils.losses.direction import TextDirections, direction_loss

HARD = ("people", "vehicles", "trees", "buildings", "night", "salient", "artifacts", "hazy")
"""Attributes that take longest to learn: what is shown, and what few images show."""


@dataclass
class EmbeddedClipConfig:
    """Settings of the training; the defaults made the shipped weights."""

    scenes: int = 14000
    steps: int = 1700
    second_cycle_steps: int = 400  # a second, lower cycle of the learning rate (arXiv:1608.03983)
    second_cycle_rate: float = 0.5  # where it begins, as a share of the learning rate
    textured_steps: int = 200  # at the end, with as much texture as real sources may contain
    scenes_per_step: int = 24  # each gives seven images
    captions: int = 160
    learning_rate: float = 1.6e-3
    hidden_learning_rate: float = 4.8e-3  # of `hidden_matrices`, by `OrthogonalMomentum`
    warm_up: int = 60
    weight_decay: float = 0.05
    direction_weight: float = 0.5
    denial_weight: float = 1.5
    attribute_weight: float = 1.5
    pair_weight: float = 1.0
    degradation_weight: float = 1.0
    order_weight: float = 1.0  # from the second cycle on
    modality_weight: float = 4.0  # of infrared and visible among the attributes, the hardest pair
    hard_weight: float = 2.0  # of those in `HARD` among the attributes
    augmented: tuple[float, float, float] = (0.25, 0.5, 1.0)
    """Share of augmented scenes: it grows from the first to the second for half of the steps; then
    it is the third."""
    adversarial_at: tuple[float, ...] = (0.3, 0.5, 0.7, 0.85)  # as shares of the steps
    adversarial_steps: int = 80
    adversarial_scenes: int = 96
    margin: float = 0.4  # of L_dir between the oracle and the other views
    average_decay: float = 0.995
    seed: int = 0
    threads: int = 2
    save_every: int = 100

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


class Trainer:
    """Hold everything that changes during the training.

    Args:
        config: the settings.
        checkpoint: the file that `save` writes.

    Attributes:
        model: the model that the optimizers change.
        average: the moving average of its weights, which becomes the result.
        step: how many steps are done.
        negatives: ``(N, H, W)`` uint8, adversarial images so far, or None.
        log: losses, every 20 steps.
    """

    def __init__(self, config: EmbeddedClipConfig, checkpoint: Path):
        self.config, self.checkpoint = config, checkpoint
        torch.manual_seed(config.seed)
        self.tokenize = new_tokenizer()
        self.model = new_model()
        self.average = deepcopy(self.model).requires_grad_(False)
        self.attribute_head = nn.Linear(DIMENSIONS, len(INDEX))
        self.parameters = [*self.model.parameters(), *self.attribute_head.parameters()]
        self.optimizers = _optimizers(self.model, self.parameters, config)
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, config.learning_rate_factor)
            for optimizer in self.optimizers
        ]
        self.attribute_weights = torch.ones(len(INDEX))
        self.attribute_weights[[INDEX[name] for name in HARD]] = config.hard_weight
        modalities = [INDEX["infrared"], INDEX["visible"]]
        self.attribute_weights[modalities] = config.modality_weight
        self.step = 0
        self.negatives: torch.Tensor | None = None
        self.log: list[dict[str, float]] = []
        self.bfloat16 = bfloat16_pays()

    def run_step(self, scenes: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Draw a batch, change the weights once, and return the losses."""
        config, step = self.config, self.step
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        if step in {int(share * config.steps) for share in config.adversarial_at}:
            self._add_negatives(scenes, generator)
        found = self.compute_losses(
            make_batch(
                scenes,
                torch.randint(len(scenes["night"]), (config.scenes_per_step,), generator=generator),
                generator,
                negatives=self.negatives,
                augmented=config.augmented_share(step),
                textured=step >= config.steps + config.second_cycle_steps,
            ),
            generator,
        )
        weights = {name: getattr(config, f"{name}_weight", 1.0) for name in found}
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.stack([weights[name] * loss for name, loss in found.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()
        self._update_average()
        self.step += 1
        return found

    def compute_losses(self, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Compute every loss of a batch, for captions that the generator draws."""
        scenes, views = batch.images.shape[:2]
        truth = batch.truth.flatten(0, 1)
        sentences, assertions = draw_captions(truth, self.config.captions, generator)
        asserting, denying, columns = draw_denials(generator)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
            images = self.model.encode_image(to_pixels(batch.images))
            texts = self.model.encode_text(self.tokenize([*sentences, *asserting, *denying]))
        images = F.normalize(images.float(), dim=-1)
        texts = F.normalize(texts.float(), dim=-1)
        true, false = match(truth, assertions)
        logits = self.model.logit_scale.exp() * images @ texts[: len(sentences)].T
        yes, no = texts[len(sentences) :].chunk(2)
        weights = self.attribute_weights
        found = {
            "contrast": losses.contrastive_loss(logits, true, false),
            "denial": losses.denial_loss(images, truth, yes, no, columns, weights=weights[columns]),
        }
        attribute = losses.attribute_loss(self.attribute_head(8.0 * images), truth, weights)
        images = images.view(scenes, views, -1)
        degradation = losses.degradation_loss(images, batch.origin, batch.change, yes, no, columns)
        prompts = texts[[1, 0, 2]]  # infrared, visible, fused
        pair = losses.pair_loss(images[:, 1], images[:, 0], prompts)
        from_texts = direction_losses(images, prompts)
        found |= {"direction": self._direction(from_texts, batch), "attribute": attribute}
        found |= {"pair": pair, "degradation": degradation}
        if self.step >= self.config.steps:
            found["order"] = losses.order_loss(batch.images, from_texts[:, 1])
        return found

    def _direction(self, from_texts: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Demand of a clear oracle a low L_dir, and by a margin a lower one than that of others.

        The margin of averages and maxima is half of that of degraded views.
        """
        clear = (batch.truth[:, 2, INDEX["clear"]] > 0).float()
        margin = torch.full((from_texts.shape[1] - 1,), self.config.margin)
        margin[0] *= 0.5
        ahead = F.relu(margin + from_texts[:, :1] - from_texts[:, 1:]).mean(1)
        return (clear * (ahead + 0.3 * from_texts[:, 0])).sum() / clear.sum().clamp_min(1)

    def _add_negatives(
        self, scenes: Mapping[str, torch.Tensor], generator: torch.Generator
    ) -> None:
        """Optimize images against the average as it is now, and keep them."""
        count = self.config.adversarial_scenes
        index = torch.randint(len(scenes["night"]), (count,), generator=generator)
        chosen = {name: scenes[name][index] for name in ("infrared", "visible")}
        clip = frozen_copy(self.average)
        made = optimize_negatives(clip, chosen, self.config.adversarial_steps, generator)
        self.negatives = made if self.negatives is None else torch.cat([self.negatives, made])

    @torch.no_grad()
    def _update_average(self) -> None:
        self.model.logit_scale.clamp_(max=math.log(50))
        decay = min(self.config.average_decay, (self.step + 1) / (self.step + 10))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - decay)
        for slow, fast in zip(self.average.buffers(), self.model.buffers(), strict=True):
            slow.copy_(fast)

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "model": self.model,
            "average": self.average,
            "attribute_head": self.attribute_head,
        }
        for index, pair in enumerate(zip(self.optimizers, self.schedules, strict=True)):
            parts[f"optimizer_{index}"], parts[f"schedule_{index}"] = pair
        return parts

    def save(self, seconds: float) -> None:
        """Write the checkpoint, atomically, with the seconds of training so far."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"config": asdict(self.config), "step": self.step, "seconds": seconds}
        state |= {"log": self.log, "negatives": self.negatives}
        with atomic_path(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def load(self) -> float:
        """Read the checkpoint and return the seconds of training before it.

        Raises:
            ValueError: if it was made with other settings.
        """
        state = torch.load(self.checkpoint, weights_only=True)
        if state["config"] != asdict(self.config):
            raise ValueError(
                f"{self.checkpoint}: was made with other settings; remove it to start again, or "
                f"use the same settings to resume. Expected {asdict(self.config)}, "
                f"got {state['config']}"
            )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.log, self.negatives = state["step"], state["log"], state["negatives"]
        return state["seconds"]


def _optimizers(
    model: open_clip.model.CLIP, parameters: Sequence[nn.Parameter], config: EmbeddedClipConfig
) -> list[torch.optim.Optimizer]:
    """`OrthogonalMomentum` for the hidden matrices, AdamW for the rest, biases without decay."""
    hidden = hidden_matrices(model)
    rest = [p for p in parameters if not any(p is h for h in hidden)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    decay = config.weight_decay
    return [adam, OrthogonalMomentum(hidden, config.hidden_learning_rate, weight_decay=decay)]


def direction_losses(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Compute L_dir of every view but the two sources.

    Args:
        images: ``(G, V, D)`` embeddings of length 1: visible, infrared, then the others.
        texts: ``(3, D)`` embeddings of the infrared, visible and fused prompt.

    Returns:
        ``(G, V - 2)`` in [0, 2].
    """
    directions = TextDirections(infrared=texts[2] - texts[0], visible=texts[2] - texts[1])
    return direction_loss(images[:, 2:], images[:, 1, None], images[:, 0, None], directions)


def count_statistics(
    visual: nn.Module,
    scenes: Mapping[str, torch.Tensor],
    negatives: torch.Tensor | None,
    config: EmbeddedClipConfig,
    batches: int = 60,
) -> None:
    """Compute means and variances of the batch norms again, for the averaged weights.

    Those of the training belong to other weights, and reflect the last few batches only; they moved
    the border between infrared and visible from one run to the next (arXiv:1803.05407, section 3).

    Args:
        visual: the image tower with averaged weights.
        scenes: as `load_scenes` returns them.
        negatives: adversarial images, or None.
        config: of the training.
        batches: how many to average over.
    """

    def pixels() -> Iterator[torch.Tensor]:
        for batch in range(batches):
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 900_000 + batch)
            size = (config.scenes_per_step,)
            index = torch.randint(len(scenes["night"]), size, generator=generator)
            textured = config.textured_steps > 0
            made = make_batch(scenes, index, generator, negatives=negatives, textured=textured)
            yield to_pixels(made.images)

    torch.optim.swa_utils.update_bn(pixels(), visual)


def train(
    config: EmbeddedClipConfig,
    folder: Path = MINI_FOLDER,
    work: Path = Path("runs/embedded_clip"),
) -> Path:
    """Train the embedded CLIP and write it, atomically, as an open_clip model folder.

    An interrupted run resumes from its latest checkpoint in ``work``.

    Args:
        config: the settings.
        folder: where the weights, the configuration, the vocabulary and the record go.
        work: where the checkpoint goes.

    Returns:
        ``folder``.

    Raises:
        ValueError: if the checkpoint was made with other settings.
    """
    started, seconds = time.monotonic(), 0.0
    torch.set_num_threads(config.threads)
    trainer = Trainer(config, work / "checkpoint.pt")
    if trainer.checkpoint.is_file():
        seconds = trainer.load()
        print(f"resuming at step {trainer.step}")
    scenes = load_scenes(config.scenes, seed=1000 + config.seed, processes=config.threads)
    total = config.total_steps
    bar = tqdm(range(trainer.step, total), initial=trainer.step, total=total, desc="training")
    for step in bar:
        scale = trainer.model.logit_scale.exp().item()
        found = trainer.run_step(scenes)
        if step % 20 == 0 or step == total - 1:
            row = {name: loss.item() for name, loss in found.items()}
            trainer.log.append({"step": step, **row, "scale": scale})
            bar.set_postfix({name: f"{value:.3f}" for name, value in trainer.log[-1].items()})
        if (step + 1) % config.save_every == 0 or step == total - 1:
            trainer.save(seconds + time.monotonic() - started)
    seconds += time.monotonic() - started
    count_statistics(trainer.average.visual, scenes, trainer.negatives, config)
    write_model(trainer.average, folder)
    record = {
        "command": "python -m experiments.embedded_clip train",
        "config": asdict(config),
        "minutes": round(seconds / 60, 1),
        "threads": config.threads,
        "parameters": sum(p.numel() for p in trainer.average.parameters()),
        "log": trainer.log[-1:],
        "precision": "bfloat16" if trainer.bfloat16 else "float32",
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
    }
    write_json(folder / "training.json", record)
    return folder
