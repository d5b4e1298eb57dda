"""Sentences at inference: tell a network what the fused picture is to be."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.losses.direction import SHORTEST, text_directions
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.networks.sentence import SentenceFusionNetwork

SUGGESTIONS = (
    PROMPTS.fused,
    "a dark image",
    "a bright image",
    "a sharp image with high contrast",
    "a blurry hazy image",
    "an image with salient people",
    "an image with hidden people and salient vehicles",
    "a smooth image with flat background",
)
"""Sentences to begin with; the embedded CLIP knows all their words."""

_SAME_SPACE = 0.99


def sentence_directions(clip: ClipSpace, sentence: str) -> torch.Tensor:
    """Compute what `SentenceFusionNetwork` reads: both text directions as unit vectors.

    Args:
        clip: embeds the sentences.
        sentence: what the fused picture is to be.

    Returns:
        ``(2, D)``, from the infrared prompt and from the visible prompt.

    Raises:
        ClipError: for a word that a small model does not know, or no word at all.
        ValueError: if the model embeds the sentence like a source prompt; see `text_directions`.
    """
    found = text_directions(clip, replace(PROMPTS, fused=sentence))
    return F.normalize(torch.stack([found.infrared, found.visible]), dim=-1)


def between(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """Go from the directions of one sentence to those of another.

    ``(1 - share) * first + share * second``, of length 1 again; at 0 and 1 the directions given.

    Args:
        first: ``(2, D)`` of `sentence_directions`.
        second: likewise.
        share: in [0, 1].

    Returns:
        ``(2, D)``.

    Raises:
        ValueError: for another share, or halfway between two opposite directions.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    if share in (0, 1):  # exactly the sentence itself
        return second if share else first
    mixed = torch.lerp(first, second, share)
    if mixed.norm(dim=-1).min() < SHORTEST:
        raise ValueError("the two sentences are opposite, and halfway there is no direction")
    return F.normalize(mixed, dim=-1)


def check_space(network: SentenceFusionNetwork, clip: ClipSpace) -> None:
    """Raise an error if a network was trained with another CLIP.

    The directions of the paper's sentence, which the network keeps, have to be those of this
    model.

    Raises:
        ValueError: if they differ, with what to do.
    """
    advice = "train the network with this one: `python -m experiments.sentence train`"
    if clip.dim != network.dim:
        raise ValueError(
            f"the CLIP {clip.name!r} has embeddings of {clip.dim} numbers, and the network was "
            f"trained with one of {network.dim}; {advice}"
        )
    if network.paper.any():
        here = sentence_directions(clip, PROMPTS.fused).to(network.paper)
        cosine = F.cosine_similarity(here, network.paper, dim=-1).min().item()
        if cosine < _SAME_SPACE:
            raise ValueError(
                f"the network was trained with another CLIP than {clip.name!r}: the directions of "
                f"the paper's sentence have a cosine of {cosine:.2f} (expected at least "
                f"{_SAME_SPACE}); {advice}"
            )


def speak(network: nn.Module, sentence: str, clip: ClipSpace | None = None) -> nn.Module:
    """Tell a network what its pictures are to be, for all calls to come.

    Args:
        network: a `SentenceFusionNetwork`.
        sentence: what the fused picture is to be.
        clip: that it was trained with; the embedded one if None.

    Returns:
        The network itself.

    Raises:
        ClipError: as `sentence_directions`.
        ValueError: likewise, or for a network of another kind or trained with another CLIP.

    Example:
        >>> network = speak(load_network("sentence"), "a dark image")  # doctest: +SKIP
        >>> fused = network(infrared, visible)  # doctest: +SKIP
    """
    if not isinstance(network, SentenceFusionNetwork):
        raise ValueError(
            f"a {type(network).__name__} has learned one sentence and takes no other; use the "
            "weights sentence, or train a network with --set network=sentence --set "
            "sentences=grammar"
        )
    clip = load_clip("mini") if clip is None else clip
    check_space(network, clip)
    network.say(*sentence_directions(clip, sentence))
    return network


def network_for(weights: str, sentence: str | None, clip: str = "mini") -> nn.Module:
    """Load a network by the options of a command line.

    Args:
        weights: as in `load_network`.
        sentence: what the fused picture is to be, or None.
        clip: as in `load_clip`; used if there is a sentence.

    Raises:
        ValueError: as `load_network` and `speak`.
        ClipError: as `load_clip` and `speak`.
    """
    network = load_network(weights)
    return network if sentence is None else speak(network, sentence, load_clip(clip))
