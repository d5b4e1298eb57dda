"""What a training step is made of: its configuration, crops of pairs, and the learning rate.

Everything random in a step comes from one number made of (seed, step, rank), so that step 100 is
the same whether or not the run was stopped before it, and whatever else the process does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ldf_utils.losses.fusion_loss import FusionLoss, LossTerms
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.schedule import step_seed


@dataclass(frozen=True)
class Prepared:
    """One batch, drawn and noised, before the network has seen it.

    Attributes:
        infrared: clean crops, ``(B, 1, crop, crop)`` in [0, 1].
        visible: luminance, the same shape.
        noisy: infrared and visible as the network sees them.
        generator: goes on with the patches.
        seed: for what draws from torch's own random state, as dropout does.
        keys: of each crop, (pair, mirrored) where it is always the same, else None.
    """

    infrared: torch.Tensor
    visible: torch.Tensor
    noisy: tuple[torch.Tensor, torch.Tensor]
    generator: torch.Generator
    seed: int
    keys: tuple[tuple[int, bool] | None, ...]


def prepare(
    crops: Crops, step: int, rank: int = 0, device: torch.device | str = "cpu"
) -> list[Prepared]:
    """The batches of one step, which depend on (seed, step, rank) alone.

    Args:
        crops: where they are cut from.
        step: from 0.
        rank: number of this process.
        device: for a GPU the batches are put where they are copied from without a wait.

    Returns:
        ``accumulate`` batches, on the CPU.

    Raises:
        ImageError: as `Crops`.
    """
    config, batches = crops.config, []
    pinned = torch.device(device).type == "cuda"
    for part in range(config.accumulate):
        seed = step_seed(config.seed, step, rank, part)
        generator = torch.Generator().manual_seed(seed)
        before = (step * config.accumulate + part) * config.batch
        *clean, keys = crops._batch(generator, before)
        noisy = [x + config.noise * torch.randn(x.shape, generator=generator) for x in clean]
        tensors = [x.pin_memory() if pinned else x for x in (*clean, *noisy)]
        batches.append(Prepared(*tensors[:2], tuple(tensors[2:]), generator, seed + 1, keys))
    return batches


Embedded = dict[tuple[int, bool], tuple[torch.Tensor, torch.Tensor]]
"""Embeddings of sources that come again, infrared and visible, by (pair, mirrored)."""


def gradients(
    network: nn.Module,
    criterion: FusionLoss,
    batches: Sequence[Prepared],
    config: TrainConfig,
    device: torch.device,
    embedded: Embedded | None = None,
) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Add the gradient of one step to the parameters of the network: the mean over the batches.

    Args:
        network: what is trained; it is put in training mode.
        criterion: the loss, on the device.
        batches: of `prepare`.
        config: ``autocast_network`` and ``cache_sources`` are used.
        device: of the network.
        embedded: what is kept from step to step if ``cache_sources`` is set.

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
            fused = network.train()(*noisy)
        if config.autocast_network:
            fused = fused.float()
        known = {}
        if config.cache_sources and embedded is not None and None not in batch.keys:
            known["sources"] = _embedded(criterion, infrared, visible, batch.keys, embedded)
        loss = criterion(fused, infrared, visible, batch.generator, **known)
        (loss.total / len(batches)).backward()
        rows.append(_values(loss))
        made.append(fused.detach())
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}, made


def _embedded(criterion, infrared, visible, keys, embedded):
    """Embeddings of sources that come again and again.

    Each is computed alone when it is first seen, so that its value does not depend on the batch
    that it came in, nor a resumed run on what was seen before the stop.
    """
    for i, key in enumerate(keys):
        if key not in embedded:
            embedded[key] = criterion.embed_sources(infrared[i : i + 1], visible[i : i + 1])
    if embedded[keys[0]] is None:
        return None
    return tuple(torch.cat([embedded[key][side] for key in keys]) for side in (0, 1))


def _values(loss: LossTerms) -> dict[str, float]:
    numbers = torch.stack([loss.total.detach(), *loss.terms.values()]).tolist()  # one wait
    values = dict(zip(("total", *loss.terms), numbers, strict=True))
    return values if loss.kept is None else values | {"kept": loss.kept}
