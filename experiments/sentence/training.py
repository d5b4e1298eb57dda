"""Train the network that takes any sentence, and those that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from experiments.ablation.samples import training_sets
from ldf_utils.clip.loading import load_clip
from ldf_utils.evaluation.ablation import BASE
from ldf_utils.networks.checkpoint import SENTENCE_WEIGHTS, load_network, save_network
from ldf_utils.networks.salient import SalientFusionNetwork
from ldf_utils.networks.sentence import SentenceFusionNetwork
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.trainer import fit

CONFIG = replace(
    BASE,
    steps=1500,
    batch=4,
    learning_rate=5e-4,
    samples=0,
    crop=96,
    network="sentence",
    sentences="grammar",
    weight_direction=12.0,
    weight_patch=0.0,
    checkpoint_every=100,
)
"""The paper's weights, with that of the patches added to that of the direction: a crop has the size
that the embedded CLIP sees, so it is a patch itself, and one embedding does for two. It begins with
the network of `NO_WORDS`. From new weights, at 1e-3 or more, the maps may reach their limits and
stay there, whatever the sentence says: with 1,500 steps at 3e-3, the network ended with two looks,
one bright and one dark, and at 1e-3 with another CLIP, with one."""

NO_WORDS: dict[str, Any] = dict(
    steps=450,
    learning_rate=1e-3,
    network="salient",
    sentences="one",
    weight_direction=0.0,
    weight_patch=0.0,
    weight_angle=0.0,
)
"""The same without language: what the effect of a sentence is measured against, and what the
training with sentences begins with."""


def train(
    config: TrainConfig,
    output: Path,
    folder: Path,
    sets: Sequence[str] = ("rendered",),
    start: Path | None = None,
    clip_name: str = "mini",
) -> Path:
    """Train, and write the weights with a record of the settings; it goes on where it stopped.

    Args:
        config: the settings.
        output: the file of the weights.
        folder: of the run, which holds its checkpoint.
        sets: to train on, as `experiments.ablation.samples.Settings.train` names them.
        start: weights to begin with, as of a training with another CLIP; new ones if None.
        clip_name: as in `load_clip`.

    Returns:
        The file.
    """
    config = replace(config, clip=clip_name)
    opened = training_sets(sets)
    pairs = {name: pairs for name, pairs in opened}
    clip = load_clip(clip_name)
    network = None if start is None else begin_with(load_network(start), clip.dim)
    result = fit(config, pairs, clip, network, folder=folder, resume=True)
    record: dict[str, Any] = {
        "config": config.to_dict(),
        "sets": {name: len(pairs) for name, pairs in opened},
        "start": None if start is None else start.name,
        "parameters": sum(p.numel() for p in result.network.parameters()),
    }
    return save_network(result.network, output, record)


def begin_with(network: nn.Module, dim: int) -> SentenceFusionNetwork:
    """Return a network of sentences that starts with the weights of one that may take none.

    Args:
        network: a `SentenceFusionNetwork`, which is returned as it is, or a `SalientFusionNetwork`,
            which a new one imitates whatever the sentence says.
        dim: length of CLIP's embeddings.

    Raises:
        ValueError: for another network.
    """
    if isinstance(network, SentenceFusionNetwork):
        return network
    if not isinstance(network, SalientFusionNetwork):
        raise ValueError(
            f"expected a SentenceFusionNetwork or a SalientFusionNetwork to start with, found a "
            f"{type(network).__name__}"
        )
    settings: dict[str, Any] = dict(network.arguments)
    begun = SentenceFusionNetwork(dim, **settings)
    begun.load_state_dict(network.state_dict(), strict=False)  # all but what reads the sentence
    return begun


def paths(work: Path, seed: int) -> dict[str, Path]:
    """Name the files of the networks with this seed: with sentences, and without words."""
    with_sentences = SENTENCE_WEIGHTS if seed == 0 else work / f"sentence_{seed}.pt"
    return {"sentence": with_sentences, "no words": work / f"no_words_{seed}.pt"}


def alone_path(work: Path, word: str) -> Path:
    """Name the file of a network that was trained with one word's sentence alone."""
    return work / f"alone_{word}.pt"
