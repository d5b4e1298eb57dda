"""The network that takes any sentence: two text directions adjust what it does to the sources."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.networks.bounded import Adjust
from ldf_utils.networks.salient import SalientFusionNetwork


class SentenceFusionNetwork(SalientFusionNetwork):
    """The bounded network with a sentence as a third input.

    The sentence comes as its two text directions in CLIP's space,
    ``D_ir = V_fused - V_infrared`` and ``D_vi = V_fused - V_visible``, as unit vectors. A small
    network of two layers maps them to a scale and an offset for every channel of the four levels of
    the decoder (FiLM, arXiv:1709.07871),

        features <- (1 + scale(D_ir, D_vi)) * features + offset(D_ir, D_vi)

    before the heads that predict the maps. All that bounds `SalientFusionNetwork`, whose U-Net,
    heads and maps it has, bounds this network as well: a sentence changes how the sources are
    mixed, stretched and lifted, and no sentence can invent texture. The last layer starts at
    zero, so before the training every sentence gives the network without a sentence.

    A call without directions uses those of ``spoken``, so the network fits wherever
    ``network(infrared, visible)`` is expected; `say` sets them.

    Args:
        dim: length of CLIP's embeddings: 128 for the embedded model, 512 for ViT-B/32.
        width: as in `SalientFusionNetwork`.
        max_gain: as in `SalientFusionNetwork`.
        max_lift: as in `SalientFusionNetwork`.
        hidden: width of the network that reads the directions.

    Attributes:
        spoken: ``(2, dim)``, the directions of a call without; zeros are no sentence.
        paper: ``(2, dim)``, the directions of the paper's sentence in the space that the network
            was trained in, by which another CLIP is recognized; zeros if it is not known.

    Raises:
        ValueError: for a value out of its range.

    Example:
        >>> network, images = SentenceFusionNetwork(dim=4), torch.rand(2, 1, 1, 64, 64)
        >>> network(*images, torch.eye(2, 4)).shape
        torch.Size([1, 1, 64, 64])
    """

    spoken: torch.Tensor
    paper: torch.Tensor

    def __init__(
        self,
        dim: int = 128,
        width: int = 16,
        max_gain: float = 3.0,
        max_lift: float = 0.4,
        hidden: int = 96,
    ):
        super().__init__(width, max_gain, max_lift)
        if dim < 1 or hidden < 1:
            raise ValueError(f"dim and hidden must be >= 1, got dim={dim}, hidden={hidden}")
        self.arguments |= {"dim": dim, "hidden": hidden}
        self.dim = dim
        self.channels = (4 * width, 3 * width, 2 * width, width)
        last = nn.Linear(hidden, 2 * sum(self.channels))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.words = nn.Sequential(nn.Linear(2 * dim, hidden), nn.SiLU(), last)
        self.register_buffer("spoken", torch.zeros(2, dim))
        self.register_buffer("paper", torch.zeros(2, dim))

    def say(self, infrared: torch.Tensor, visible: torch.Tensor) -> SentenceFusionNetwork:
        """Set the directions of all calls that give none.

        Args:
            infrared: ``(dim,)``, from the infrared sentence to that of the fused picture.
            visible: ``(dim,)``, from the visible sentence to it.

        Returns:
            The network itself.

        Raises:
            ValueError: for another shape.
        """
        directions = torch.stack([infrared, visible]).detach()
        self._check(directions)
        self.spoken.copy_(F.normalize(directions, dim=-1))
        return self

    def remember(self, infrared: torch.Tensor, visible: torch.Tensor) -> SentenceFusionNetwork:
        """Set ``spoken`` as `say`, and ``paper`` as well, when a training begins."""
        self.say(infrared, visible)
        self.paper.copy_(self.spoken)
        return self

    def forward(
        self,
        infrared: torch.Tensor,
        visible: torch.Tensor,
        directions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Fuse as a sentence asks.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1], H and W at least 32, odd ones included.
            visible: luminance of the same shape.
            directions: ``(2, dim)``, or ``(B, 2, dim)`` for a sentence each, infrared first, of any
                length; ``spoken`` if None.

        Returns:
            ``(B, 1, H, W)`` in (0, 1).

        Raises:
            ValueError: for another shape or a smaller image.
        """
        return self._run(infrared, visible, self.adjust(directions))[0]

    def maps(
        self,
        infrared: torch.Tensor,
        visible: torch.Tensor,
        directions: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Every map the fused image is made with, at the size of the image.

        Args:
            infrared: as in `forward`.
            visible: as in `forward`.
            directions: as in `forward`.

        Returns:
            As `SalientFusionNetwork.maps`.

        Raises:
            ValueError: as `forward`.
        """
        maps = self._run(infrared, visible, self.adjust(directions))[1]
        return self._enlarged(maps, infrared.shape[-2:])

    def _check(self, directions: torch.Tensor) -> None:
        if directions.ndim not in (2, 3) or directions.shape[-2:] != (2, self.dim):
            raise ValueError(
                f"directions must be (2, {self.dim}) or (B, 2, {self.dim}), got "
                f"{tuple(directions.shape)}; they belong to the CLIP that the network was trained "
                "with"
            )

    def adjust(self, directions: torch.Tensor | None = None) -> Adjust:
        """Return what a sentence does to the features of each level of the decoder.

        Args:
            directions: as in `forward`.

        Returns:
            A function of the level (0 the coarsest, to 3) and its features ``(B, C, h, w)``.

        Raises:
            ValueError: for directions of another shape.
        """
        directions = self.spoken if directions is None else directions
        self._check(directions)
        last = cast(nn.Linear, self.words[-1])
        read = F.normalize(directions, dim=-1).flatten(-2) * math.sqrt(self.dim)
        read = self.words(read.to(last.weight))
        levels = [x[..., None, None] for x in read.split([2 * c for c in self.channels], dim=-1)]

        def adjusted(level: int, features: torch.Tensor) -> torch.Tensor:
            scale, offset = levels[level].chunk(2, dim=-3)
            return features * (1 + scale) + offset

        return adjusted
