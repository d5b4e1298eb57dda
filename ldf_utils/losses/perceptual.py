"""The perceptual term L_perc: features of the fused image near the maximum of the sources'."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip.frozen import FrozenConvolutions


class FilterBank(nn.Module):
    """Compute edges and blobs at several scales: no training, no download.

    At each scale: first derivatives of a Gaussian (sigma 1 pixel) in four directions and one
    difference of Gaussians (sigma 1 and 1.6), each split into its positive and its negative part,
    as in a layer of a convolutional network with ReLU: ten channels. The next scale sees the
    image at half the size.

    Args:
        scales: number of scales.
        contrast: the step between two flat areas, in [0, 1] units of the image, whose derivative
            is 1 at its peak. It sets the unit of the features: 0.2 is an edge that one sees well.
    """

    kernels: torch.Tensor

    def __init__(self, scales: int = 4, contrast: float = 0.2):
        super().__init__()
        if scales < 1 or contrast <= 0:
            raise ValueError(
                f"scales must be >= 1 and contrast > 0, got scales={scales}, contrast={contrast}"
            )
        self.scales = scales
        x = torch.arange(-4, 5, dtype=torch.float64)
        narrow, wide = (torch.exp(-((x / sigma) ** 2) / 2) for sigma in (1.0, 1.6))
        narrow, wide = narrow / narrow.sum(), wide / wide.sum()
        across = torch.outer(narrow, x * narrow)
        across = across / across[:, x > 0].sum()  # a unit step gives 1
        blob = torch.outer(narrow, narrow) - torch.outer(wide, wide)
        blob = blob * (across.abs().sum() / blob.abs().sum())
        turns = [math.pi * quarter / 4 for quarter in range(4)]
        edges = [math.cos(turn) * across + math.sin(turn) * across.T for turn in turns]
        self.register_buffer("kernels", torch.stack([*edges, blob])[:, None].float() / contrast)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each scale.

        Args:
            images: ``(B, 1, H, W)``; sides of at least ``2 ** (scales - 1)`` pixels.

        Returns:
            One ``(B, 10, h, w)`` per scale, fine to coarse, non-negative.

        Raises:
            ValueError: for another shape or smaller images.
        """
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(f"images must be luminance (B, 1, H, W), got {tuple(images.shape)}")
        if min(images.shape[-2:]) < 2 ** (self.scales - 1):
            raise ValueError(
                f"images of {images.shape[-1]} x {images.shape[-2]} pixels have no "
                f"{self.scales} scales; sides must be >= {2 ** (self.scales - 1)}"
            )
        kernels: torch.Tensor = self.kernels.to(images.dtype)
        features: list[torch.Tensor] = []
        for scale in range(self.scales):
            if scale:
                images = F.avg_pool2d(images, 2)
            response = F.conv2d(F.pad(images, (4, 4, 4, 4), mode="replicate"), kernels)
            features.append(F.relu(torch.cat([response, -response], dim=1)))
        return features


class VGG19Features(nn.Module):
    """Features of VGG19 trained on ImageNet: conv2_1, conv3_1 and conv4_2 after ReLU.

    As in the authors' code, the input is not normalized with ImageNet's mean and deviation. The
    weights (about 550 MB) are torchvision's; they are taken from torch's cache, or downloaded
    unless the environment variable HF_HUB_OFFLINE is set.

    Args:
        features: the convolutional part of a VGG19 to use in place of torchvision's trained one.

    Raises:
        RuntimeError: if the weights can neither be found nor downloaded. Features of random
            weights would look like a loss and mean nothing.
    """

    layers = (6, 11, 22)  # of torchvision's vgg19().features

    def __init__(self, features: nn.Sequential | None = None):
        super().__init__()
        features = self._trained() if features is None else features
        self.features = features[: max(self.layers) + 1].eval().requires_grad_(False)

    @staticmethod
    def _trained() -> nn.Sequential:
        from torchvision.models import VGG19_Weights, vgg19

        weights = VGG19_Weights.IMAGENET1K_V1
        name = weights.url.rsplit("/", 1)[-1]
        cached = Path(torch.hub.get_dir()) / "checkpoints" / name
        try:
            if not cached.is_file() and os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
                raise OSError("downloads are switched off by HF_HUB_OFFLINE")
            with _socket_timeout(10):
                state = weights.get_state_dict(progress=True, check_hash=True)
            with torch.device("meta"):  # only the convolutions get memory, by assignment
                network = vgg19(weights=None)
            features = {k[9:]: v for k, v in state.items() if k.startswith("features.")}
            network.features.load_state_dict(features, assign=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise RuntimeError(
                f"the perceptual loss 'vgg19' needs the weights {name}, which are not at {cached} "
                f"and could not be had ({error}). Put the file there, or use "
                "perceptual='filterbank', which needs none"
            ) from error
        return network.features

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each layer.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1]; the channel is repeated to three.

        Returns:
            Features after ReLU with 128, 256 and 512 channels at 1/2, 1/4 and 1/8 of the size.
        """
        features, x = [], images.expand(-1, 3, -1, -1)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.layers:
                features.append(x)
        return features


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Without it, a download on a machine whose network swallows packets hangs for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class PerceptualLoss(nn.Module):
    """Compare the fused image with the stronger feature of the two sources.

    ``sum over layers of MSE(features(fused), max(features(infrared), features(visible)))``, with
    the maximum taken feature by feature (arXiv:2402.16267).

    Args:
        features: ``"filterbank"`` (`FilterBank`: no weights), ``"vgg19"`` (`VGG19Features`: the
            paper's), ``"auto"`` (VGG19 where its weights can be had, else the filter bank), or a
            module that maps ``(B, 1, H, W)`` to a list of tensors.
        frozen: run VGG19 as a `ldf_utils.clip.frozen.FrozenConvolutions`: faster.
        autocast: run VGG19 in bfloat16; without ``frozen`` by autocasting.
        compile: compile the frozen VGG19 with `torch.compile`.

    Attributes:
        name: of the features in use.
        missing: why the filter bank stands in for VGG19, or None.

    Raises:
        ValueError: for another word.
        RuntimeError: if VGG19's weights cannot be had.
    """

    def __init__(
        self,
        features: str | nn.Module = "filterbank",
        frozen: bool = False,
        autocast: bool = False,
        compile: bool = False,
    ):
        super().__init__()
        self.name = features if isinstance(features, str) else type(features).__name__
        self.missing: str | None = None
        if self.name == "auto":
            try:
                self.name, features = "vgg19", VGG19Features()
            except RuntimeError as error:
                self.name, features, self.missing = "filterbank", FilterBank(), str(error)
        if isinstance(features, str):
            kinds = {"filterbank": FilterBank, "vgg19": VGG19Features}
            if features not in kinds:
                raise ValueError(
                    f"perceptual must be one of auto, {', '.join(kinds)}, got {features!r}"
                )
            features = kinds[features]()
        assert isinstance(features, nn.Module)
        self.autocast = autocast and isinstance(features, VGG19Features)
        if frozen and isinstance(features, VGG19Features):
            dtype = torch.bfloat16 if autocast else torch.float32
            frozen_features = FrozenConvolutions(features.features, features.layers, dtype)
            self.autocast = False
            if compile:
                frozen_features.compile()
            features = frozen_features
        self.features: nn.Module = features

    def _look(self, images: torch.Tensor) -> list[torch.Tensor]:
        if not self.autocast:
            return self.features(images)
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.features(images)

    def forward(
        self, fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            fused: ``(B, 1, H, W)`` in [0, 1].
            infrared: the same shape; no gradient flows to it.
            visible: the same shape; no gradient flows to it.

        Returns:
            A scalar, at least 0.
        """
        with torch.no_grad():
            both = zip(self._look(infrared), self._look(visible), strict=True)
            wanted = [torch.maximum(one, other) for one, other in both]
        losses = [
            F.mse_loss(_at_least_float(got), _at_least_float(want))
            for got, want in zip(self._look(fused), wanted, strict=True)
        ]
        return sum(losses[1:], losses[0])


def _at_least_float(x: torch.Tensor) -> torch.Tensor:
    """Squares are summed in float32 or better, whatever the features were computed in."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
