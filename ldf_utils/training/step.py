"""A training step: its batches, and the gradient that they give.

Everything random in a step comes from one number made of (seed, step, rank), so that step 100 is
the same whether or not the run was stopped before it, and whatever else the process does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ldf_utils.losses.direction import TextDirections
from ldf_utils.losses.fusion_loss import FusionLoss, LossTerms
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.schedule import step_seed
from ldf_utils.training.sentences import Sentences


@dataclass(frozen=True)
class Prepared:
    """Hold one batch, drawn and noised, before the network has seen it."""

    infrared: torch.Tensor  # clean crops, (B, 1, crop, crop) in [0, 1]
    visible: torch.Tensor  # luminance, the same shape
    noisy: tuple[torch.Tensor, torch.Tensor]  # infrared and visible as the network sees them
    generator: torch.Generator  # goes on with the patches
    seed: int  # for what draws from torch's own random state, as dropout does
    said: TextDirections | None = None  # for a network that takes sentences: one for each crop


def prepare(
    crops: Crops,
    step: int,
    rank: int = 0,
    device: torch.device | str = "cpu",
    sentences: Sentences | None = None,
) -> list[Prepared]:
    """Draw the ``accumulate`` batches of a step (from 0), which depend on (seed, step, rank) alone.

    They are on the CPU; for a GPU as ``device`` they lie where they are copied from without a wait.
    With ``sentences`` each crop has its own, or all have that of the configuration.

    Raises:
        ImageError: as `Crops`.
    """
    config, batches = crops.config, []
    pinned = torch.device(device).type == "cuda"
    for part in range(config.accumulate):
        seed = step_seed(config.seed, step, rank, part)
        generator = torch.Generator().manual_seed(seed)
        before = (step * config.accumulate + part) * config.batch
        infrared, visible = crops.batch(generator, before)
        tensors = [infrared, visible]
        for clean in (infrared, visible):
            tensors.append(clean + config.noise * torch.randn(clean.shape, generator=generator))
        if pinned:
            tensors = [x.pin_memory() for x in tensors]
        noisy = (tensors[2], tensors[3])
        said = None if sentences is None else sentences.draw(config.batch, generator)
        batches.append(Prepared(tensors[0], tensors[1], noisy, generator, seed + 1, said))
    return batches


def gradients(
    network: nn.Module,
    criterion: FusionLoss,
    batches: Sequence[Prepared],
    config: TrainConfig,
    device: torch.device,
) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Add the gradient of one step to the parameters of the network: the mean over the batches.

    Args:
        network: what is trained; it is put in training mode.
        criterion: the loss, on the device.
        batches: of `prepare`.
        config: ``autocast_network`` is used.
        device: of the network.

    Returns:
        The mean over the batches of ``total``, of each term before its weight and of ``kept``; and
        what the network made of each batch.
    """
    rows, made = [], []
    for batch in batches:
        torch.manual_seed(batch.seed)  # for networks that draw by themselves, as dropout does
        infrared, visible, *noisy = (
            x.to(device, non_blocking=True) for x in (batch.infrared, batch.visible, *batch.noisy)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast_network):
            said = None if batch.said is None else batch.said.to(device)
            more = () if said is None else (torch.stack([said.infrared, said.visible], dim=1),)
            fused = network.train()(*noisy, *more)
        if config.autocast_network:
            fused = fused.float()
        loss = criterion(fused, infrared, visible, batch.generator, directions=said)
        (loss.total / len(batches)).backward()
        rows.append(_values(loss))
        made.append(fused.detach())
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}, made


def _values(loss: LossTerms) -> dict[str, float]:
    numbers = torch.stack([loss.total.detach(), *loss.terms.values()]).tolist()  # one wait
    values = dict(zip(("total", *loss.terms), numbers, strict=True))
    return values if loss.kept is None else values | {"kept": loss.kept}
