"""One step of the training of the embedded CLIP, and what changes from step to step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.embedded_clip import cameras, losses
from experiments.embedded_clip.adversarial import optimize_negatives
from experiments.embedded_clip.config import EmbeddedClipConfig
from experiments.embedded_clip.dataset import HIDDEN, SALIENT, Batch, draw_index, make_batch
from experiments.embedded_clip.model import (
    CELLS,
    DIMENSIONS,
    PLACE_WIDTH,
    encode_text,
    frozen_copy,
    hidden_matrices,
    image_places,
    load_grown,
    new_model,
    new_tokenizer,
    pool_places,
    to_pixels,
)
from experiments.embedded_clip.orthogonal import OrthogonalMomentum
from experiments.embedded_clip.pieces import Pieces
from experiments.embedded_clip.truth import OBJECTS, cell_signs
from ldf_utils.clip.attributes import INDEX, draw_captions, draw_denials, match
from ldf_utils.clip.model import bfloat16_pays
from ldf_utils.data.files import atomic_path
from ldf_utils.losses.direction import TextDirections, direction_loss

HARD = ("people", "vehicles", "trees", "buildings", "night", "salient", "salient_people",
        "salient_vehicles", "artifacts", "hazy")  # fmt: skip
"""Attributes that take longest to learn: what is shown, and what few images show."""


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
        self.model = new_model().to(config.device)
        if config.start:
            load_grown(self.model, Path(config.start))
        self.average = deepcopy(self.model).requires_grad_(False)
        self.attribute_head = nn.Linear(DIMENSIONS, len(INDEX)).to(config.device)
        self.place_head = nn.Conv2d(PLACE_WIDTH, len(OBJECTS), 1).to(config.device)
        heads = (self.attribute_head, self.place_head)
        self.parameters = [*self.model.parameters(), *(p for h in heads for p in h.parameters())]
        self.optimizers = _optimizers(self.model, self.parameters, config)
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, config.learning_rate_factor)
            for optimizer in self.optimizers
        ]
        self.attribute_weights = torch.ones(len(INDEX), device=config.device)
        self.attribute_weights[[INDEX[name] for name in HARD]] = config.hard_weight
        modalities = [INDEX["infrared"], INDEX["visible"]]
        self.attribute_weights[modalities] = config.modality_weight
        self.step = 0
        self.negatives: torch.Tensor | None = None
        self.log: list[dict[str, float]] = []
        self.bfloat16 = bfloat16_pays(config.device)
        self._beside = ThreadPoolExecutor(1)  # makes the next batch meanwhile, on a CPU
        self._next: Future[Batch] | None = None

    def run_step(self, pieces: Pieces) -> dict[str, torch.Tensor]:
        """Draw a batch, change the weights once, and return the losses."""
        config, step = self.config, self.step
        if self._next is None:
            generator = seeded(config, step)
            if self._adds_negatives(step):
                self._add_negatives(pieces, generator)
            batch = self._make_batch(pieces, step, generator)
        else:
            batch, self._next = self._next.result(), None
        more = step + 1 < config.total_steps and not self._adds_negatives(step + 1)
        if config.device == "cpu" and more:
            later = seeded(config, step + 1)
            self._next = self._beside.submit(self._make_batch, pieces, step + 1, later)
        found = self.compute_losses(batch, torch.Generator("cpu").manual_seed(step))
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

    def _adds_negatives(self, step: int) -> bool:
        return step in {int(share * self.config.steps) for share in self.config.adversarial_at}

    def _make_batch(self, pieces: Pieces, step: int, generator: torch.Generator) -> Batch:
        return make_batch(
            draw_squares(pieces, self.config, generator),
            generator,
            negatives=self.negatives,
            augmented=self.config.augmented_share(step),
            textured=step % 2 == 1 or step >= self.config.steps + self.config.second_cycle_steps,
        )

    def compute_losses(self, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Compute every loss of a batch, for captions that the generator draws, on the CPU."""
        scenes, views = batch.images.shape[:2]
        truth = batch.truth.flatten(0, 1)
        with torch.device("cpu"):
            sentences, assertions = draw_captions(truth.cpu(), self.config.captions, generator)
            asserting, denying, columns = draw_denials(generator)
            tokens = self.tokenize([*sentences, *asserting, *denying])
        device = torch.device(self.config.device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            places = image_places(self.model, to_pixels(batch.images))
            images = pool_places(self.model, places)
            with sdpa_kernel(SDPBackend.MATH):  # on a CPU twice as fast for short sentences
                texts = encode_text(self.model, tokens.to(device))
        images = F.normalize(images.float(), dim=-1)
        texts = F.normalize(texts.float(), dim=-1)
        true, false = match(truth, assertions.to(device))
        logits = self.model.logit_scale.exp() * images @ texts[: len(sentences)].T
        yes, no = texts[len(sentences) :].chunk(2)
        weights = self.attribute_weights
        found = {
            "contrast": losses.contrastive_loss(logits, true, false),
            "denial": losses.denial_loss(images, truth, yes, no, columns, weights=weights[columns]),
        }
        attribute = losses.attribute_loss(self.attribute_head(8.0 * images), truth, weights)
        cells = cell_signs(batch.labels, batch.truth, CELLS).flatten(0, 1)
        seen = self.place_head(places.float())
        place = losses.attribute_loss(*(x.movedim(1, -1).flatten(0, -2) for x in (seen, cells)))
        images = images.view(scenes, views, -1)
        moved = (images, batch.origin)
        fainter = torch.zeros_like(batch.change)
        fainter[:, HIDDEN] = batch.change[:, HIDDEN]
        found |= {
            "attribute": attribute,
            "place": place,
            "degradation": losses.degradation_loss(
                *moved, batch.change - fainter, yes, no, columns
            ),
            "salience": losses.degradation_loss(*moved, fainter, yes, no, columns),
        }
        prompts = texts[[1, 0, 2]]  # infrared, visible, fused
        found["pair"] = losses.pair_loss(images[:, 1], images[:, 0], prompts)
        from_texts = direction_losses(images, prompts)
        found["direction"] = self._direction(from_texts, batch)
        if self.step >= self.config.steps:
            found["order"] = losses.order_loss(batch.images, from_texts[:, 1])
        return found

    def _direction(self, from_texts: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Demand of a clear oracle a low L_dir, and by a margin a lower one than that of others.

        The margin of averages and maxima is half of that of degraded views, as is that of an image
        with salient objects before the same with hidden ones.
        """
        oracle, others = from_texts[:, :1], from_texts[:, 1 : SALIENT - 2]
        clear = ((batch.truth[:, 2, INDEX["clear"]] > 0) & batch.has_oracle).float()
        margin = torch.full((others.shape[1],), self.config.margin, device=others.device)
        margin[0] *= 0.5
        ahead = F.relu(margin + oracle - others).mean(1)
        wanted = (clear * (ahead + 0.3 * from_texts[:, 0])).sum() / clear.sum().clamp_min(1)
        hidden = (batch.change[:, HIDDEN, INDEX["salient"]] < 0).float()
        order = from_texts[:, SALIENT - 2] - from_texts[:, HIDDEN - 2]
        order = F.relu(0.5 * self.config.margin + order)
        return wanted + (hidden * order).sum() / hidden.sum().clamp_min(1)

    def _add_negatives(self, pieces: Pieces, generator: torch.Generator) -> None:
        """Optimize images against the average as it is now, and keep them."""
        index = draw_index(pieces, self.config.adversarial_squares, 0.0, generator)
        squares = to_device(pieces.read(index), self.config.device)
        shots = cameras.see(squares, generator)
        chosen = {
            name: (shot.image[:, 0] * 255).round().to(torch.uint8)
            for name, shot in zip(("visible", "infrared"), shots, strict=True)
        }
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
            "place_head": self.place_head,
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
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.config.device)
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


def seeded(config: EmbeddedClipConfig, step: int) -> torch.Generator:
    """Return the source of all chance of a step, on the device of the training."""
    return torch.Generator(config.device).manual_seed(config.seed * 1_000_003 + step)


def to_device(squares: Mapping[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    """Move squares to a device."""
    return {name: value.to(device) for name, value in squares.items()}


def draw_squares(
    pieces: Pieces, config: EmbeddedClipConfig, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Draw the squares of a step and read them."""
    index = draw_index(pieces, config.squares_per_step, config.recorded_share, generator)
    return to_device(pieces.read(index), config.device)
