"""The sentences of the page: one, or a place between two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ldf_utils.clip.model import ClipSpace
from ldf_utils.fusion.inference import Network
from ldf_utils.fusion.sentence import between, check_space, sentence_directions
from ldf_utils.networks.sentence import SentenceFusionNetwork


class Speaker:
    """Turn what is typed on the page into a network that fuses so.

    Args:
        network: takes sentences.
        clip: that it was trained with.

    Raises:
        ValueError: if it was trained with another one.
    """

    def __init__(self, network: SentenceFusionNetwork, clip: ClipSpace):
        check_space(network, clip)
        self.network, self.clip = network, clip

    def directions(self, sentence: str, second: str = "", share: float = 0.0) -> torch.Tensor:
        """Return the directions of a sentence, or between it and a second one.

        Raises:
            ClipError: for a word that the model does not know.
            ValueError: for a sentence without direction, or a share outside of [0, 1].
        """
        said = sentence_directions(self.clip, sentence)
        return between(said, sentence_directions(self.clip, second), share) if second else said

    def network_for(self, values: Mapping[str, Any]) -> Network | None:
        """Return what fuses as a request asks, or None if it holds no sentence.

        The network itself is left as it is, since requests come at the same time.

        Args:
            values: ``sentence``, ``second`` and ``share`` are read.
        """
        sentence = str(values.get("sentence") or "").strip()
        if not sentence:
            return None
        second = str(values.get("second") or "").strip()
        said = self.directions(sentence, second, float(values.get("share") or 0.0))
        return lambda infrared, visible: self.network(infrared, visible, said)
