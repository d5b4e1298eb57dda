"""Training of the embedded CLIP, a small open_clip model that every notebook can run with.

It knows which of a few dozen attributes hold for an image (infrared or visible, sharp or blurry,
noisy, dark, hazy, detailed, salient objects, artifacts, people, ...) and the words for them
(`ldf_utils.clip.attributes`), and nothing else.

Training images are packed squares of rendered worlds and of a few real clips, seen by random
cameras (`experiments.embedded_clip.dataset`). What is true of each is known. A caption asserts a
few attributes, so it is known whether it is true or false of an image, or undecided. Most losses
use exactly that (`experiments.embedded_clip.losses`). One more asks for the geometry that
language-driven fusion needs: the oracle fusion has a lower L_dir (`ldf_utils.losses.direction`)
than averages, maxima and degraded images, and an image in which people and warm vehicles stand out
has a lower one than the same image in which they are hidden; in the second cycle of the learning
rate, maxima have a lower one than averages.

A linear layer on the embedding predicts the attributes, in training only: at first all sentences
have similar embeddings, and this loss does not depend on them. Another one, on what the image tower
finds at each of 6 x 6 places, predicts where people, vehicles, trees and buildings are: a sentence
says only that there are some, from which a person of a few pixels is hard to learn.

Several times during the training, images are optimized against the model as it is then
(`experiments.embedded_clip.adversarial`) and become examples of artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn
from tqdm.auto import tqdm

from experiments.embedded_clip.config import EmbeddedClipConfig
from experiments.embedded_clip.dataset import VIEWS, make_batch
from experiments.embedded_clip.model import (
    to_pixels,
    write_model,
)
from experiments.embedded_clip.pieces import Pieces
from experiments.embedded_clip.trainer import Trainer, draw_squares, seeded
from ldf_utils.data.files import write_json


def count_statistics(
    visual: nn.Module,
    pieces: Pieces,
    negatives: torch.Tensor | None,
    config: EmbeddedClipConfig,
    batches: int = 60,
) -> None:
    """Compute means and variances of the batch norms again, for the averaged weights.

    Those of the training belong to other weights, and reflect the last few batches only; they moved
    the border between infrared and visible from one run to the next (arXiv:1803.05407, section 3).

    Args:
        visual: the image tower with averaged weights.
        pieces: the packed squares.
        negatives: adversarial images, or None.
        config: of the training.
        batches: how many to average over.
    """

    def pixels() -> Iterator[torch.Tensor]:
        for batch in range(batches):
            generator = seeded(config, 900_000 + batch)
            squares = draw_squares(pieces, config, generator)
            textured = config.textured_steps > 0
            made = make_batch(squares, generator, negatives=negatives, textured=textured)
            yield to_pixels(made.images)

    torch.optim.swa_utils.update_bn(pixels(), visual)


def fit_steps(config: EmbeddedClipConfig, pieces: Pieces, minutes: float) -> EmbeddedClipConfig:
    """Scale the steps of a training so that it takes some minutes on this machine.

    The time of a step is measured over 20 steps of a trainer that is thrown away.

    Args:
        config: the settings; the proportions of its cycles are kept.
        pieces: the packed squares.
        minutes: for all steps; a tenth is kept for the adversarial rounds.
    """
    trainer = Trainer(replace(config, adversarial_at=()), Path("unused"))
    for step in range(25):
        if step == 5:
            _wait_for(config.device)
            started = time.monotonic()
        trainer.run_step(pieces)
    _wait_for(config.device)
    seconds = (time.monotonic() - started) / 20
    ratio = 0.9 * 60 * minutes / seconds / config.total_steps
    names = ("steps", "second_cycle_steps", "textured_steps", "warm_up")
    scaled: dict[str, Any] = {n: max(1, int(ratio * getattr(config, n))) for n in names}
    print(f"{1000 * seconds:.0f} ms a step: {sum(scaled.values()) - scaled['warm_up']} steps")
    return replace(config, **scaled)


def _wait_for(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def train(
    config: EmbeddedClipConfig,
    pack: Path,
    folder: Path,
    work: Path = Path("runs/embedded_clip"),
    minutes: float | None = None,
) -> Path:
    """Train the embedded CLIP and write it, atomically, as an open_clip model folder.

    An interrupted run resumes from its latest checkpoint in ``work``.

    Args:
        config: the settings.
        pack: folder of packed squares, see `experiments.embedded_clip.packing`.
        folder: where the weights, the configuration, the vocabulary and the record go.
        work: where the checkpoint goes.
        minutes: scale the steps to this time, see `fit_steps`; such a run does not resume.

    Returns:
        ``folder``.

    Raises:
        ValueError: if the checkpoint was made with other settings, or the packed squares do not
            say which worlds are held out.
        FileNotFoundError: if nothing is packed.
    """
    torch.set_num_threads(config.threads)
    pieces = Pieces(pack)
    held_out_every = pieces.held_out_every
    with torch.device(config.device):  # all new tensors
        if minutes is not None:
            config = fit_steps(config, pieces, minutes)
        trainer = Trainer(config, work / "checkpoint.pt")
        seconds = _run(trainer, pieces, resume=minutes is None)
        count_statistics(trainer.average.visual, pieces, trainer.negatives, config)
    write_model(trainer.average.cpu(), folder)
    record = {
        "command": "python -m experiments.embedded_clip train",
        "config": asdict(config),
        "data": pieces.summary(),
        "held_out_every": held_out_every,
        "images_per_step": config.squares_per_step * len(VIEWS),
        "adversarial_images": config.adversarial_squares,
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


def _run(trainer: Trainer, pieces: Pieces, resume: bool) -> float:
    """Do the steps that remain; return the seconds of all of them."""
    config, started, seconds = trainer.config, time.monotonic(), 0.0
    if resume and trainer.checkpoint.is_file():
        seconds = trainer.load()
        print(f"resuming at step {trainer.step}")
    total = config.total_steps
    bar = tqdm(range(trainer.step, total), initial=trainer.step, total=total, desc="training")
    for step in bar:
        scale = trainer.model.logit_scale.exp().item()
        found = trainer.run_step(pieces)
        if step % 20 == 0 or step == total - 1:
            row = {name: loss.item() for name, loss in found.items()}
            trainer.log.append({"step": step, **row, "scale": scale})
            bar.set_postfix({name: f"{value:.3f}" for name, value in trainer.log[-1].items()})
        if (step + 1) % config.save_every == 0 or step == total - 1:
            trainer.save(seconds + time.monotonic() - started)
    return seconds + time.monotonic() - started
