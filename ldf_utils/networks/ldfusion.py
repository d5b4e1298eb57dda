"""The networks of the authors: the paper's, and the smaller LD-Lite."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ldf_utils.data.state_dict import check_state, named_tensors, read_weights
from ldf_utils.networks.bounded import check_pair


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride=stride, padding=1 if stride == 2 else 0)


# The modules below are named so that the tensors carry the names of the authors' files.


class _AuthorsResidual(nn.Module):
    """Reflection pad, 3x3, norm, ReLU, reflection pad, 3x3, norm; plus the input."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.block = nn.Sequential(
            nn.ReflectionPad2d(1),
            _convolution(channels, channels, 3),
            norm(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            _convolution(channels, channels, 3),
            norm(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


class _ContentEncoder(nn.Module):
    """What is where: features at an eighth of the size, instance-normalized."""

    def __init__(self, width: int):
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), _convolution(1, width, 7)]
        layers += [nn.InstanceNorm2d(width), nn.ReLU()]
        for _ in range(3):
            layers += [_convolution(width, 2 * width, 4, stride=2)]
            layers += [nn.InstanceNorm2d(2 * width), nn.ReLU()]
            width *= 2
        layers += [_AuthorsResidual(width, nn.InstanceNorm2d) for _ in range(2)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class _StyleEncoder(nn.Module):
    """How it looks as a whole: one short code per image."""

    def __init__(self, width: int, code: int):
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), _convolution(1, width, 7), nn.ReLU()]
        for inputs, outputs in ((width, 2 * width), (2 * width, 4 * width), (4 * width,) * 2):
            layers += [_convolution(inputs, outputs, 4, stride=2), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), _convolution(4 * width, code, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class _AdaptiveInstanceNorm(nn.Module):
    """Instance norm whose weight and bias come from the style codes (AdaIN, arXiv:1703.06868).

    The running statistics are never used; they are kept because the authors' files hold them.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.bias: torch.Tensor | None = None
        self.weight: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight is None or self.bias is None:
            raise RuntimeError(
                "the style codes have to set weight and bias before the decoder runs"
            )
        return F.instance_norm(x) * self.weight[..., None, None] + self.bias[..., None, None]


class _SampleNorm(nn.Module):
    """Layer norm over a whole sample: unbiased deviation, epsilon added to it, gamma and beta."""

    def __init__(self, channels: int, epsilon: float = 1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        deviation = x.std(dim=(1, 2, 3), keepdim=True)
        x = (x - mean) / (deviation + self.epsilon)
        return x * self.gamma[:, None, None] + self.beta[:, None, None]


def _upsampler(width: int, last: nn.Module) -> nn.Sequential:
    """Three times 5x5 stride-2 transposed convolution, sample norm, ReLU; then 7x7 to one."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.ConvTranspose2d(width, width // 2, 5, stride=2)]
        layers += [_SampleNorm(width // 2), nn.ReLU()]
        width //= 2
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), _convolution(width, 1, 7), last)


class _StyleToNorms(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class _PaperEncoder(nn.Module):
    def __init__(self, width: int, style: int):
        super().__init__()
        self.content_encoder1 = _ContentEncoder(width)
        self.content_encoder2 = _ContentEncoder(width)
        self.style_encoder1 = _StyleEncoder(width, style)
        self.style_encoder2 = _StyleEncoder(width, style)


class _PaperDecoder(nn.Module):
    def __init__(self, width: int, style: int):
        super().__init__()
        self.model_local = nn.Sequential(
            *(_AuthorsResidual(width, _AdaptiveInstanceNorm) for _ in range(2))
        )
        self.model_up = _upsampler(width, nn.Tanh())
        self.norms = [m for m in self.modules() if isinstance(m, _AdaptiveInstanceNorm)]
        self.mlp = _StyleToNorms(style, 256, 2 * width * len(self.norms))

    def forward(self, content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        numbers = self.mlp(style).chunk(2 * len(self.norms), dim=1)
        for norm, bias, weight in zip(self.norms, numbers[0::2], numbers[1::2], strict=True):
            norm.bias, norm.weight = bias, weight
        try:
            return self.model_up(self.model_local(content))
        finally:
            for norm in self.norms:
                norm.bias = norm.weight = None


class _LiteEncoder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.content_encoder1 = _ContentEncoder(width)
        self.content_encoder2 = _ContentEncoder(width)


class _LiteDecoder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.model_up = _upsampler(width, nn.Sigmoid())


class PaperNetwork(nn.Module):
    """The network of LDFusion (arXiv:2402.16267), 5,776,977 parameters, with the authors' names.

    Per source a content encoder (128 channels at an eighth of the size) and a style encoder (8
    numbers per image). The decoder takes both contents, visible first; the style codes set weight
    and bias of its instance norms. Three transposed convolutions enlarge the result to more than
    the input (224 to 245 pixels), of which the top left corner is the fused image. Its norms see
    the whole image: fusing in tiles changes the result.

    The ``tanh`` at the end is clamped to [0, 1] as in the authors' release, so a pixel that the
    ``tanh`` makes negative has no gradient.
    """

    local = False

    def __init__(self):
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.encoder = _PaperEncoder(width=16, style=8)
        self.decoder = _PaperDecoder(width=256, style=16)

    def codes(self, infrared: torch.Tensor, visible: torch.Tensor) -> dict[str, torch.Tensor]:
        """Content and style of both sources.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1], H and W at least 32.
            visible: luminance of the same shape.

        Returns:
            ``content_infrared`` and ``content_visible`` ``(B, 128, H // 8, W // 8)``,
            ``style_infrared`` and ``style_visible`` ``(B, 8)``.

        Raises:
            ValueError: for another shape or a smaller image.
        """
        check_pair(infrared, visible)
        return {
            "content_visible": self.encoder.content_encoder1(visible),
            "content_infrared": self.encoder.content_encoder2(infrared),
            "style_visible": self.encoder.style_encoder1(visible).flatten(1),
            "style_infrared": self.encoder.style_encoder2(infrared).flatten(1),
        }

    def decode(self, codes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the fused image before it is cropped.

        Args:
            codes: what `codes` returns.

        Returns:
            ``(B, 1, 8 h + 21, 8 w + 21)`` in [0, 1], with ``h`` and ``w`` the size of the content.
        """
        content = torch.cat([codes["content_visible"], codes["content_infrared"]], 1)
        style = torch.cat([codes["style_visible"], codes["style_infrared"]], 1)
        return self.decoder(content, style).clamp(0, 1)

    def forward(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Fuse; arguments and errors as `codes`, the result is ``(B, 1, H, W)`` in [0, 1]."""
        height, width = infrared.shape[-2:]
        return self.decode(self.codes(infrared, visible))[..., :height, :width]

    def load_authors(
        self, encoder_path: str | os.PathLike, decoder_path: str | os.PathLike
    ) -> PaperNetwork:
        """Load the authors' published weights, every tensor or none.

        Args:
            encoder_path: their ``Enc_final.pt``.
            decoder_path: their ``Dec_final.pt``.

        Returns:
            The network itself.

        Raises:
            WeightsError: if a file is missing or damaged, or a tensor is missing, extra or of
                another shape.
        """
        encoder = named_tensors(read_weights(encoder_path), encoder_path)
        decoder = named_tensors(read_weights(decoder_path), decoder_path)
        check_state(encoder, self.encoder.state_dict(), encoder_path, "the encoder of LDFusion")
        check_state(decoder, self.decoder.state_dict(), decoder_path, "the decoder of LDFusion")
        self.encoder.load_state_dict(encoder)
        self.decoder.load_state_dict(decoder)
        return self


class LDLite(nn.Module):
    """LD-Lite, the authors' distilled student (DOI 10.1109/TNNLS.2026.3688448), 652,385 parameters.

    The content encoders of LDFusion at half the width and its upsampling decoder; no style code,
    no adaptive norms, a sigmoid at the end. Its norms see the whole image: fusing in tiles changes
    the result.

    The authors' program computes in floating point throughout (luminance, network and return to
    color) and cuts the fraction off when it writes 8 bits; rounding instead, as this package does,
    is half a gray level brighter on average.
    """

    local = False

    def __init__(self):
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.encoder = _LiteEncoder(width=8)
        self.decoder = _LiteDecoder(width=128)

    def forward(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1], H and W at least 32.
            visible: luminance of the same shape.

        Returns:
            ``(B, 1, H, W)`` in (0, 1).

        Raises:
            ValueError: for another shape or a smaller image.
        """
        check_pair(infrared, visible)
        height, width = infrared.shape[-2:]
        content = torch.cat(
            [self.encoder.content_encoder1(visible), self.encoder.content_encoder2(infrared)], 1
        )
        return self.decoder.model_up(content)[..., :height, :width]
