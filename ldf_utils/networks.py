"""Networks: two luminance images in, the fused luminance out.

Three architectures share the call ``network(infrared, visible) -> fused``, all ``(B, 1, H, W)``:

- `BoundedFusionNetwork`, the project's own: small enough to train on a CPU, and bounded, so that
  it can only weigh, mix and stretch what the sources hold;
- `PaperNetwork`, LDFusion (arXiv:2402.16267), which takes the authors' published weights;
- `LDLite`, the authors' distilled student (DOI 10.1109/TNNLS.2026.3688448).

`save_network` and `load_network` keep a network with its architecture in one file.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pooch
import torch
import torch.nn.functional as F
from torch import nn

from ldf_utils.files import atomic_path

SMALLEST_SIDE = 32
"""The least height and width in pixels that a network takes."""

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "fusion_bounded.pt"
"""The project's own trained network."""

_FORMAT = "ldf_utils.networks/1"


class WeightsError(ValueError):
    """A weights file is missing, damaged or of another network; the text says what to do."""


def check_pair(
    infrared: torch.Tensor, visible: torch.Tensor, smallest: int = SMALLEST_SIDE
) -> None:
    """Raise a clear error unless both are luminance batches of one shape and large enough.

    Args:
        infrared: expected ``(B, 1, H, W)``.
        visible: expected of the same shape.
        smallest: the least height and width in pixels.

    Raises:
        ValueError: with the shapes found and what to do.
    """
    if infrared.ndim != 4 or infrared.shape[1] != 1 or infrared.shape != visible.shape:
        raise ValueError(
            "expected two luminance batches of one shape (B, 1, H, W), found infrared "
            f"{tuple(infrared.shape)} and visible {tuple(visible.shape)}; use images.luminance for "
            "color and a registered pair for the size"
        )
    if min(infrared.shape[-2:]) < smallest:
        raise ValueError(
            f"images of {infrared.shape[-1]} x {infrared.shape[-2]} pixels are too small, expected "
            f"at least {smallest} x {smallest}; enlarge the pair or cut it larger"
        )


def _pad_to_multiple(image: torch.Tensor, multiple: int) -> torch.Tensor:
    """Reflect at the right and the bottom until both sides are multiples."""
    height, width = image.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    return F.pad(image, (0, right, 0, bottom), mode="reflect") if right or bottom else image


def soft_clip(x: torch.Tensor, knee: float = 0.02) -> torch.Tensor:
    """Bound to (0, 1) with a gradient everywhere.

    The identity on [knee, 1 - knee]; beyond, a shoulder ``knee * u / (1 + u)`` with ``u`` the
    excess over the knee, which meets the line with slope 1 and approaches 0 or 1 from inside. A
    clamp would stop the gradient of every pixel outside, and such a pixel never comes back.

    Args:
        x: any shape.
        knee: width of a shoulder, in (0, 0.5); 0 and 1 are moved inwards by ``knee / 2``.

    Returns:
        The shape of ``x``, values in (0, 1).
    """
    excess = (x - 0.5).abs() - (0.5 - knee)
    shoulder = excess.clamp(min=0) / (1 + excess.clamp(min=0) / knee)
    return torch.where(excess > 0, 0.5 + (x - 0.5).sign() * (0.5 - knee + shoulder), x)


def _halve(image: torch.Tensor) -> torch.Tensor:
    """Half the size: binomial [1 3 3 1] / 8 along both axes, sample centers between pixels."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=image.dtype, device=image.device) / 8
    channels = image.shape[1]
    kernel = (taps[:, None] * taps)[None, None].expand(channels, 1, 4, 4)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=channels)


def _enlarge(image: torch.Tensor, factor: int = 2) -> torch.Tensor:
    return F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)


def _stretch(x: torch.Tensor, gain: torch.Tensor, scale: float) -> torch.Tensor:
    """Gain on small values, slope 1 on large ones: ``x + (gain - 1) * scale * tanh(x / scale)``.

    Monotone for every gain >= 0. A plain product would overshoot at strong edges (halos) when the
    gain is above 1 and would erase edges together with noise when it is below.
    """
    return x + (gain - 1) * scale * torch.tanh(x / scale)


def _box(image: torch.Tensor, side: int) -> torch.Tensor:
    """Mean over a square of odd side, the border repeated."""
    return F.avg_pool2d(F.pad(image, (side // 2,) * 4, mode="replicate"), side, stride=1)


def _surroundings(base: torch.Tensor) -> torch.Tensor:
    """Mean over a wide neighborhood; at an eighth of the size about 50 pixels of the full one."""
    return _enlarge(_box(_halve(_halve(base)), 5), 4)


def _limit(x: torch.Tensor, bound: float = 2.0) -> torch.Tensor:
    return bound * torch.tanh(x / bound)


def _mix(pair: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``weight`` of the first channel (infrared), the rest of the second (visible)."""
    return pair[:, 1:] + weight * (pair[:, :1] - pair[:, 1:])


class _Block(nn.Sequential):
    """3x3 convolution with reflected border, then leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, padding_mode="reflect"),
            nn.LeakyReLU(0.1),
        )
        nn.init.kaiming_normal_(self[0].weight, a=0.1)
        nn.init.zeros_(self[0].bias)


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.block = _Block(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


class BoundedFusionNetwork(nn.Module):
    """The project's own network: it weighs what the sources hold and cannot invent texture.

    Both sources are split into a Laplacian pyramid (Burt and Adelson 1983,
    DOI 10.1109/TCOM.1983.1095851): three detail bands (full, half and quarter size) and a base at
    an eighth. A small U-Net looks at both luminances and predicts maps, not pixels:

    - ``weight`` in (0, 1): the share of the infrared base in the mixed base. Its logit starts from
      the difference of the two bases, so that the brighter one counts more: warm people, lit
      windows and the sky are kept without any training (a start from contrast to the
      surroundings lets a bright sky glow around dark trees);
    - per band the share of the infrared detail and the amount of detail. The share starts from the
      ratio of the local energies of the two bands, so that the stronger detail wins, and leans to
      the source of the base, so that an object comes with its own outline; the amount lies in
      (0, ``max_gain``) and starts at 1. The network moves the logits of weight and shares by at
      most 2 either way, so it cannot quite drop what stands out in one source only;
    - ``contrast`` in (1/2, 2) and ``brightness`` in (-1/4, 1/4): tone of the mixed base about its
      surroundings, at a thirty-second of the size, too coarse to draw outlines.

    With all heads at zero this is a fusion rule of its own, and equal sources come out as they are.

    Each map has the resolution of the band that it acts on, as in multiresolution blending: it is
    as smooth as what it mixes. Gains act on small detail and leave strong edges at slope 1 (see
    `_stretch`), which keeps halos down. The sum is bounded by `soft_clip`.

    There is no normalization over the image and no global pooling: what a pixel becomes depends
    on its surroundings only, so large images can be fused in tiles.

    Args:
        width: channels at half size; the deeper levels have 2, 3 and 4 times as many.
        max_gain: upper bound of the amount of detail, above 1.
    """

    bands = ("fine", "medium", "coarse")
    multiple = 32
    local = True

    def __init__(self, width: int = 16, max_gain: float = 3.0):
        super().__init__()
        if width < 1 or max_gain <= 1:
            raise ValueError(
                f"expected width >= 1 and max_gain > 1, found width={width}, max_gain={max_gain}"
            )
        self.arguments = {"width": width, "max_gain": max_gain}
        self.max_gain = max_gain
        half, quarter, eighth, sixteenth = width, 2 * width, 3 * width, 4 * width
        self.encode_half = _Block(8, half)
        self.encode_quarter = nn.Sequential(_Block(half, quarter, stride=2), _Residual(quarter))
        self.encode_eighth = nn.Sequential(_Block(quarter, eighth, stride=2), _Residual(eighth))
        self.encode_sixteenth = nn.Sequential(
            _Block(eighth, sixteenth, stride=2), _Residual(sixteenth), _Residual(sixteenth)
        )
        self.decode_eighth = _Block(sixteenth + eighth, eighth)
        self.decode_quarter = _Block(eighth + quarter, quarter)
        self.decode_half = _Block(quarter + half, half)
        self.tone_head = nn.Conv2d(sixteenth, 2, 1)
        self.weight_head = nn.Conv2d(eighth, 1, 1)
        self.band_heads = nn.ModuleList(
            [nn.Conv2d(half, 2, 1), nn.Conv2d(half, 2, 1), nn.Conv2d(quarter, 2, 1)]
        )
        for head in (self.tone_head, self.weight_head, *self.band_heads):
            nn.init.normal_(head.weight, std=0.01)  # start near the rule without a network
            nn.init.zeros_(head.bias)

    def forward(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1], H and W at least 32, odd ones included.
            visible: luminance of the same shape.

        Returns:
            ``(B, 1, H, W)`` in (0, 1).

        Raises:
            ValueError: for another shape or a smaller image.
        """
        return self._run(infrared, visible)[0]

    def maps(self, infrared: torch.Tensor, visible: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every map the fused image is made with, at the size of the image.

        Args:
            infrared: as in `forward`.
            visible: as in `forward`.

        Returns:
            Name to ``(B, 1, H, W)``: ``weight`` (share of the infrared base, (0, 1)),
            ``infrared_gain_BAND`` and ``visible_gain_BAND`` for the bands fine, medium and coarse
            (what small detail of that source is multiplied by, (0, max_gain)), ``contrast``
            ((1/2, 2)) and ``brightness`` ((-1/4, 1/4)).

        Raises:
            ValueError: as `forward`.
        """
        maps = self._run(infrared, visible)[1]
        height, width = infrared.shape[-2:]
        full = height + -height % self.multiple
        return {
            name: (m if m.shape[-2] == full else _enlarge(m, full // m.shape[-2]))[
                ..., :height, :width
            ]
            for name, m in maps.items()
        }

    def _features(self, pair: torch.Tensor) -> tuple[torch.Tensor, ...]:
        half = self.encode_half(F.pixel_unshuffle(pair - 0.5, 2))
        quarter = self.encode_quarter(half)
        eighth = self.encode_eighth(quarter)
        sixteenth = self.encode_sixteenth(eighth)
        eighth = self.decode_eighth(torch.cat([_enlarge(sixteenth), eighth], 1))
        quarter = self.decode_quarter(torch.cat([_enlarge(eighth), quarter], 1))
        half = self.decode_half(torch.cat([_enlarge(quarter), half], 1))
        return half, quarter, eighth, sixteenth

    def _run(
        self, infrared: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        check_pair(infrared, visible)
        height, width = infrared.shape[-2:]
        pair = _pad_to_multiple(torch.cat([infrared, visible], 1), self.multiple)
        half, quarter, eighth, sixteenth = self._features(pair)

        levels = [pair]
        for _ in self.bands:
            levels.append(_halve(levels[-1]))
        details = [upper - _enlarge(lower) for upper, lower in itertools.pairwise(levels)]

        bases = levels[-1]
        preference = _limit(self.weight_head(eighth)) + 5 * (bases[:, :1] - bases[:, 1:])
        maps = {"weight": torch.sigmoid(preference)}
        base, level = (_mix(x, maps["weight"]) for x in (bases, _surroundings(bases)))
        tone = F.avg_pool2d(torch.tanh(self.tone_head(sixteenth)), 2)
        contrast, brightness = _enlarge(_box(tone, 3), 4).split(1, dim=1)
        maps["contrast"], maps["brightness"] = torch.exp2(contrast), 0.25 * brightness
        fused = level + maps["brightness"] + _stretch(base - level, maps["contrast"], scale=0.25)

        share_and_amount = [
            _enlarge(self.band_heads[0](half)),
            self.band_heads[1](half),
            self.band_heads[2](quarter),
        ]
        start = math.log(1 / (self.max_gain - 1))  # the sigmoid is 1 / max_gain there
        for band, detail, heads in reversed(
            list(zip(self.bands, details, share_and_amount, strict=True))
        ):
            energy = _enlarge(_halve(detail.square())) + 1e-4
            stronger = energy[:, :1].log() - energy[:, 1:].log()
            preference = _enlarge(preference)
            share = torch.sigmoid(_limit(heads[:, :1]) + stronger + 0.5 * preference)
            amount = self.max_gain * torch.sigmoid(heads[:, 1:] + start)
            fused = _enlarge(fused) + _stretch(_mix(detail, share), amount, scale=0.1)
            maps[f"infrared_gain_{band}"] = share * amount
            maps[f"visible_gain_{band}"] = (1 - share) * amount
        return soft_clip(fused)[..., :height, :width], maps


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
        """The fused image before it is cropped.

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
        encoder, decoder = _read_weights(encoder_path), _read_weights(decoder_path)
        _check_state(self.encoder, encoder, encoder_path, "the encoder of LDFusion")
        _check_state(self.decoder, decoder, decoder_path, "the decoder of LDFusion")
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
    is half a grey level brighter on average.
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


_ARCHITECTURES = {kind.__name__: kind for kind in (BoundedFusionNetwork, PaperNetwork, LDLite)}

# name -> (folder and files in a folder of weights, the set of data_download that brings them)
_PUBLISHED = {
    "ld-lite": ("LD-Lite", ("final.pt",), "ld-lite"),
    "ldfusion": ("LDFusion", ("Enc_final.pt", "Dec_final.pt"), "ldfusion-weights"),
}


def weights_dir() -> Path:
    """Where optional official weights are looked for first.

    Returns:
        The folder named by ``LDF_WEIGHTS_DIR``; without it the folder ``weights`` beside
        ``LDF_DATA_DIR``; without both the cache of ``python -m data_download``. It need not exist.
    """
    if os.environ.get("LDF_WEIGHTS_DIR"):
        return Path(os.environ["LDF_WEIGHTS_DIR"])
    if os.environ.get("LDF_DATA_DIR"):
        return Path(os.environ["LDF_DATA_DIR"]).resolve().parent / "weights"
    return _download_cache()


def _download_cache() -> Path:
    return Path(pooch.os_cache("ldf_tutorial")) / "weights"


def save_network(
    network: nn.Module, path: str | os.PathLike, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write a network to one file, atomically: architecture, arguments, tensors, metadata.

    The file holds plain types and tensors only, so ``torch.load(..., weights_only=True)`` reads it.

    Args:
        network: one of the architectures of this module.
        path: the file, by custom ending in ``.pt``.
        metadata: anything that JSON can hold (command, seed, date, measured values).

    Returns:
        The path written.

    Raises:
        TypeError: if the network is of another class, or the metadata is not plain.
    """
    architecture = type(network).__name__
    if _ARCHITECTURES.get(architecture) is not type(network):
        raise TypeError(
            f"{path}: a {architecture} cannot be saved; expected one of "
            f"{', '.join(_ARCHITECTURES)} (from DistributedDataParallel pass `.module`)"
        )
    content = {
        "format": _FORMAT,
        "architecture": architecture,
        "arguments": dict(network.arguments),
        "state": {
            name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()
        },
        "metadata": json.loads(json.dumps(dict(metadata or {}))),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def load_network(name_or_path: str | os.PathLike = "shipped") -> nn.Module:
    """A trained network, in eval mode, on the CPU, in float32.

    Args:
        name_or_path: ``"shipped"`` (the project's own), ``"ld-lite"`` or ``"ldfusion"`` (the
            authors', looked for in `weights_dir` and in the cache of ``python -m data_download``),
            or a path: a file of `save_network`, LD-Lite's ``final.pt``, or LDFusion's
            ``Enc_final.pt`` or ``Dec_final.pt`` beside each other (either file or their folder).

    Returns:
        The network; ``network.metadata`` is what `save_network` was given, empty for the authors'.

    Raises:
        WeightsError: if nothing is found (with what was looked for and how to get it), or a file
            is damaged or holds another network.
    """
    name = os.fspath(name_or_path)
    if name == "shipped":
        if not SHIPPED_WEIGHTS.is_file():
            raise WeightsError(
                f"{SHIPPED_WEIGHTS}: the network that ships with this package is not there; "
                "restore it with `git checkout -- ldf_utils/weights`, or train one "
                "(`python -m ldf_utils.training --help`)"
            )
        network = _load_file(SHIPPED_WEIGHTS)
    elif name in _PUBLISHED:
        network = _load_file(_find_published(name))
    else:
        path = Path(name)
        if not path.exists() and not path.suffix:
            raise WeightsError(
                f"{name!r} is neither a file nor a known network; expected shipped, "
                f"{', '.join(_PUBLISHED)} or the path of a weights file"
            )
        network = _load_file(path / "Enc_final.pt" if path.is_dir() else path)
    return network.eval()


def _find_published(name: str) -> Path:
    folder, files, download = _PUBLISHED[name]
    roots = dict.fromkeys([weights_dir(), _download_cache()])
    for root in roots:
        if all((root / folder / file).is_file() for file in files):
            return root / folder / files[0]
    wanted = " and ".join(f"{folder}/{file}" for file in files)
    raise WeightsError(
        f"{name}: {wanted} not found in {' or '.join(map(str, roots))}. Get the authors' weights "
        f"with `python -m data_download get {download}`, or set LDF_WEIGHTS_DIR to the folder that "
        f"holds {folder}/"
    )


def _load_file(path: Path) -> nn.Module:
    if path.name in _PUBLISHED["ldfusion"][1]:
        network = PaperNetwork().load_authors(*(path.parent / f for f in _PUBLISHED["ldfusion"][1]))
        network.metadata = {}
        return network
    content = _read_weights(path)
    if content.get("format") == _FORMAT:
        try:
            network = _ARCHITECTURES[content["architecture"]](**content["arguments"])
            state, metadata = content["state"], dict(content["metadata"])
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{path}: this file of save_network cannot be used ({error!r}); it was changed or "
                "written by another version of the package. Save the network again"
            ) from error
    elif "format" in content:
        raise WeightsError(
            f"{path}: found format {content['format']!r}, expected {_FORMAT!r}; the file was "
            "written by another version of the package. Save the network again"
        )
    elif any(str(key).startswith(("content_encoder", "style_encoder", "mlp.")) for key in content):
        raise WeightsError(
            f"{path}: this is one half of LDFusion; its encoder and decoder are expected beside "
            f"each other as {' and '.join(_PUBLISHED['ldfusion'][1])}. Name the files so and give "
            "the folder"
        )
    else:
        network, state, metadata = LDLite(), content, {}
    _check_state(network, state, path, type(network).__name__)
    network.load_state_dict(state)
    network.metadata = metadata
    return network


def _read_weights(path: str | os.PathLike) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file; check the path")
    with open(path, "rb") as file:
        start = file.read(512).lstrip()
    size = path.stat().st_size
    if start.startswith((b"<", b"version https://git-lfs")):
        kind = "a web page" if start.startswith(b"<") else "a Git LFS pointer"
        raise WeightsError(
            f"{path}: this is {kind} ({size} bytes), not a weights file; delete it and fetch the "
            "file itself (`python -m data_download list` shows what can be fetched)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
        raise WeightsError(
            f"{path}: the weights file is damaged, cut off or no weights file ({size} bytes: "
            f"{reason}); fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: found a {type(content).__name__}, expected a dictionary of tensors; this is "
            "no weights file of a network known here"
        )
    return content


def _check_state(
    module: nn.Module, state: Mapping[str, Any], path: str | os.PathLike, what: str
) -> None:
    """Every tensor of the module, none besides, all of the right shape; or one error with all."""
    expected = module.state_dict()
    shapes = {
        name: tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        for name, value in state.items()
    }
    problems = [
        f"missing: {name} {tuple(t.shape)}" for name, t in expected.items() if name not in shapes
    ]
    problems += [f"extra: {name} {shape}" for name, shape in shapes.items() if name not in expected]
    problems += [
        f"shape: {name} is {shapes[name]}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    if problems:
        more = [f"and {len(problems) - 8} more"] if len(problems) > 8 else []
        raise WeightsError(
            f"{path}: these tensors are not those of {what} ({len(problems)} differences):\n  "
            + "\n  ".join(problems[:8] + more)
            + "\ncheck that the file belongs to this network"
        )
