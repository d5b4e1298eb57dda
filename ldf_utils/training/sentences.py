"""Sentences of a training whose network takes them: one for each crop."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ldf_utils.clip.grammar import draw_sentence
from ldf_utils.clip.model import PROMPTS, ClipSpace, Prompts
from ldf_utils.losses.direction import SHORTEST, TextDirections, text_directions
from ldf_utils.networks.sentence import SentenceFusionNetwork
from ldf_utils.training.config import NETWORKS, TrainConfig


def build_network(config: TrainConfig, clip: ClipSpace | None) -> nn.Module:
    """Return the untrained network that a configuration names, as large as its CLIP asks.

    Args:
        config: ``network`` is used.
        clip: whose directions a network that takes sentences gets; else it is not used.
    """
    kind = NETWORKS[config.network]
    if kind is SentenceFusionNetwork:
        return SentenceFusionNetwork() if clip is None else SentenceFusionNetwork(clip.dim)
    return kind()


class Sentences:
    """Draw the objectives of crops as text directions.

    Args:
        clip: embeds the sentences.
        config: ``sentences``, the prompts and ``direction_text`` are used.

    Raises:
        ClipError: if the model does not know a word of the prompts.
        ValueError: as `text_directions`.
    """

    def __init__(self, clip: ClipSpace, config: TrainConfig):
        self.clip, self.config = clip, config
        self.prompts: Prompts = config.prompts
        self.said = text_directions(clip, self.prompts, config.direction_text)
        sources = clip.encode_text([self.prompts.infrared, self.prompts.visible])
        self._sources = sources

    def draw(self, count: int, generator: torch.Generator) -> TextDirections:
        """Return the directions of ``count`` sentences, drawn or all the one of the configuration.

        Args:
            count: how many.
            generator: source of randomness.

        Returns:
            Directions ``(count, D)``.

        Raises:
            ClipError: if the model does not know a word that the grammar uses.
            ValueError: for a sentence that the model embeds like a source prompt.
        """
        if self.config.sentences == "one":
            return TextDirections(
                self.said.infrared.expand(count, -1), self.said.visible.expand(count, -1)
            )
        sentences = [draw_sentence(generator) for _ in range(count)]
        fused = self.clip.encode_text(sentences)
        if self.config.direction_text == "target":
            return TextDirections(fused, fused)
        infrared, visible = (fused - source.to(fused.device) for source in self._sources)
        short = torch.minimum(infrared.norm(dim=1), visible.norm(dim=1)) < SHORTEST
        for place in short.nonzero().flatten().tolist():  # says which and why
            text_directions(self.clip, replace(self.prompts, fused=sentences[place]))
        return TextDirections(infrared, visible)


def sentences_for(
    network: nn.Module, config: TrainConfig, clip: ClipSpace | None
) -> Sentences | None:
    """Return the sentences of a training, or None for a network that takes none.

    The network's ``spoken`` directions are set to those of the prompts, ``paper`` to those of the
    paper's sentence, by which `ldf_utils.fusion.sentence.check_space` knows the CLIP.

    Args:
        network: what is trained.
        config: its settings.
        clip: embeds the sentences.

    Raises:
        ValueError: if the network and the settings do not fit each other.
    """
    if not isinstance(network, SentenceFusionNetwork):
        if config.sentences != "one":
            raise ValueError(
                f"sentences = {config.sentences!r} needs a network that takes sentences, got a "
                f"{type(network).__name__}; set network = 'sentence'"
            )
        return None
    if clip is None:
        raise ValueError(
            "a network that takes sentences needs a CLIP to be trained, and all weights of terms "
            "with words are 0; raise one of them, or choose another network"
        )
    if network.dim != clip.dim:
        raise ValueError(
            f"the network takes directions of {network.dim} numbers, and the CLIP {clip.name!r} "
            f"has {clip.dim}; build it with SentenceFusionNetwork({clip.dim})"
        )
    sentences = Sentences(clip, config)
    paper = text_directions(clip, PROMPTS)  # says later which CLIP it was
    network.remember(paper.infrared, paper.visible)
    network.say(sentences.said.infrared, sentences.said.visible)
    return sentences
