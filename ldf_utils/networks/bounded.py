"""The bounded fusion network: it mixes and amplifies what the sources hold, and invents nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

Adjust = Callable[[int, torch.Tensor], torch.Tensor]
"""Features of a level of the decoder (0 the coarsest) to what the next level and heads get."""

SMALLEST_SIDE = 32
"""The least height and width in pixels that a network takes."""


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
    if not torch.is_grad_enabled():  # the same in fewer passes: excess^2 / (excess + knee) off
        signed = x - x.clamp(knee, 1 - knee)
        return x - signed * signed.abs() / (signed.abs() + knee)
    excess = (x - 0.5).abs() - (0.5 - knee)
    shoulder = excess.clamp(min=0) / (1 + excess.clamp(min=0) / knee)
    return torch.where(excess > 0, 0.5 + (x - 0.5).sign() * (0.5 - knee + shoulder), x)


def _halve(image: torch.Tensor) -> torch.Tensor:
    """Half the size: binomial [1 3 3 1] / 8 along both axes, sample centers between pixels."""
    padded = F.pad(image, (1, 1, 1, 1), mode="reflect")
    if not torch.is_grad_enabled():  # sums of strided views: a tenth of the time of a convolution
        for _ in range(2):  # along the rows, then, of what is turned, along the columns
            inner = padded[..., 1:-1:2, :] + padded[..., 2::2, :]
            outer = padded[..., 0:-2:2, :] + padded[..., 3::2, :]
            padded = inner.mul_(3).add_(outer).mul_(1 / 8).transpose(-1, -2)
        return padded
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=image.dtype, device=image.device) / 8
    channels = image.shape[1]
    kernel = (taps[:, None] * taps)[None, None].expand(channels, 1, 4, 4)
    return F.conv2d(padded, kernel, stride=2, groups=channels)


def _enlarge(image: torch.Tensor, factor: int = 2) -> torch.Tensor:
    # A factor taken from sizes is a symbol when the network is exported for any size.
    return F.interpolate(image, scale_factor=int(factor), mode="bilinear", align_corners=False)


def _stretch(x: torch.Tensor, gain: torch.Tensor, scale: float) -> torch.Tensor:
    """Gain on small values, slope 1 on large ones: ``x + (gain - 1) * scale * tanh(x / scale)``.

    Monotone for every gain >= 0. A plain product would overshoot at strong edges (halos) when the
    gain is above 1 and would erase edges together with noise when it is below.
    """
    if not torch.is_grad_enabled():  # tanh by the sigmoid, which is several times as fast
        bent = torch.sigmoid(x * (2 / scale)).mul_(2 * scale).sub_(scale)
        return torch.addcmul(x, bent, gain - 1)
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


def _as_they_are(level: int, features: torch.Tensor) -> torch.Tensor:
    return features


class _Block(nn.Sequential):
    """3x3 convolution with reflected border, then leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        convolution = nn.Conv2d(
            inputs, outputs, 3, stride=stride, padding=1, padding_mode="reflect"
        )
        super().__init__(convolution, nn.LeakyReLU(0.1))
        nn.init.kaiming_normal_(convolution.weight, a=0.1)
        nn.init.zeros_(cast(torch.Tensor, convolution.bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return super().forward(x)
        return F.leaky_relu_(self[0](x), 0.1)


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.block = _Block(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


def _head(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Apply a 1x1 convolution; without a gradient as a product of matrices, which is faster."""
    if torch.is_grad_enabled() or len(features) > 1:
        return head(features).contiguous()
    weight, bias = cast(nn.Conv2d, head).weight[:, :, 0, 0], cast(nn.Conv2d, head).bias
    pixels = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    return torch.addmm(cast(torch.Tensor, bias)[:, None], weight, pixels.t()).view(
        1, -1, *features.shape[2:]
    )


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
        return self._enlarged(self._run(infrared, visible)[1], infrared.shape[-2:])

    def _enlarged(
        self, maps: dict[str, torch.Tensor], size: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        height, width = size
        full = height + -height % self.multiple
        return {
            name: (m if m.shape[-2] == full else _enlarge(m, full // m.shape[-2]))[
                ..., :height, :width
            ]
            for name, m in maps.items()
        }

    def _features(
        self, pair: torch.Tensor, adjust: Adjust = _as_they_are
    ) -> tuple[torch.Tensor, ...]:
        start = F.pixel_unshuffle(pair - 0.5, 2)
        if not torch.is_grad_enabled():
            start = start.contiguous(memory_format=torch.channels_last)  # and all that follows
        half = self.encode_half(start)
        quarter = self.encode_quarter(half)
        eighth = self.encode_eighth(quarter)
        sixteenth = adjust(0, self.encode_sixteenth(eighth))
        eighth = adjust(1, self.decode_eighth(torch.cat([_enlarge(sixteenth), eighth], 1)))
        quarter = adjust(2, self.decode_quarter(torch.cat([_enlarge(eighth), quarter], 1)))
        half = adjust(3, self.decode_half(torch.cat([_enlarge(quarter), half], 1)))
        return half, quarter, eighth, sixteenth

    def _run(
        self, infrared: torch.Tensor, visible: torch.Tensor, adjust: Adjust = _as_they_are
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        check_pair(infrared, visible)
        height, width = infrared.shape[-2:]
        pair = _pad_to_multiple(torch.cat([infrared, visible], 1), self.multiple)
        half, quarter, eighth, sixteenth = self._features(pair, adjust)

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
            _enlarge(_head(self.band_heads[0], half)),
            _head(self.band_heads[1], half),
            _head(self.band_heads[2], quarter),
        ]
        start = math.log(1 / (self.max_gain - 1))  # the sigmoid is 1 / max_gain there
        for band, detail, heads in reversed(
            list(zip(self.bands, details, share_and_amount, strict=True))
        ):
            energy = _enlarge(_halve(detail.square())) + 1e-4
            if torch.is_grad_enabled():
                stronger = energy[:, :1].log() - energy[:, 1:].log()
            else:
                stronger = (energy[:, :1] / energy[:, 1:]).log_()
            preference = _enlarge(preference)
            share = torch.sigmoid(_limit(heads[:, :1]) + stronger + 0.5 * preference)
            amount = self.max_gain * torch.sigmoid(heads[:, 1:] + start)
            fused = _enlarge(fused) + _stretch(_mix(detail, share), amount, scale=0.1)
            maps[f"infrared_gain_{band}"] = share * amount
            maps[f"visible_gain_{band}"] = (1 - share) * amount
        return soft_clip(fused)[..., :height, :width], maps
