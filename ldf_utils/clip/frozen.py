"""Frozen towers: the embeddings and features of networks that never change, for less work.

A training step spends nearly all its time in two networks that never change: CLIP's image tower and
VGG19. Because they are frozen and look at luminance only, a part of their work can be left out
without changing what comes out, except for floating-point rounding:

- the first convolution sees the same channel three times, so its kernels are summed, and CLIP's
  mean and standard deviation are folded into them;
- CLIP reads one token of its last layer, so that layer is computed for one token of fifty;
- ``x * sigmoid(1.702 x)`` is ``silu(1.702 x) / 1.702``: one kernel in place of three, with the
  factors folded into the weights around it;
- weights are converted to bfloat16 once, not in every call;
- VGG19 runs with channels last, where convolutions of a CPU and of a GPU are faster, and stops
  at the last layer that is needed.

All weights are buffers: no gradient is ever computed for them. `FrozenClip` has the interface of
`ldf_utils.clip.model.ClipSpace`, so a loss does not know which of the two it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip.model import ClipSpace, resize_square

try:  # the names of open_clip's parts, to recognize a tower by
    from open_clip.transformer import LayerNorm, QuickGELU, ResidualAttentionBlock
    from open_clip.transformer import VisionTransformer as _VisionTransformer
except ImportError:  # another version of open_clip: no tower is recognized
    _VisionTransformer = None

_SLOPE = 1.702  # of QuickGELU


class FrozenVisionTransformer(nn.Module):
    """CLIP's vision transformer for luminance, frozen.

    Args:
        clip: whose image tower `supports` finds fit.
        dtype: in which it computes.

    Raises:
        ValueError: if the tower is of another kind.
    """

    def __init__(self, clip: ClipSpace, dtype: torch.dtype = torch.float32):
        super().__init__()
        reason = self.supports(clip)
        if reason:
            raise ValueError(f"this image tower has no frozen form: {reason}")
        visual: Any = clip.model.visual
        self.dtype = dtype
        self.size: int = clip.image_size
        self.side: int = visual.conv1.kernel_size[0]
        self.heads: int = visual.transformer.resblocks[0].attn.num_heads
        width = visual.conv1.out_channels
        with torch.no_grad():
            # sum_c W_c (x - m_c) / s_c, about x = 1/2, where rounding to bfloat16 costs least
            scaled = visual.conv1.weight / clip.std
            kernel = scaled.sum(dim=1).reshape(width, -1)
            offset = (scaled * (0.5 - clip.mean)).sum(dim=(1, 2, 3))
            place = visual.positional_embedding.clone()
            place[0] += visual.class_embedding
            place[1:] += offset
            self._keep("kernel", kernel)
            self._keep("place", place)
            self._keep("first", visual.ln_pre.weight, visual.ln_pre.bias)
            for index, block in enumerate(visual.transformer.resblocks):
                up, activation, down = block.mlp.c_fc, block.mlp.gelu, block.mlp.c_proj
                slope = _SLOPE if isinstance(activation, QuickGELU) else 1.0
                self._keep(f"norm_1_{index}", block.ln_1.weight, block.ln_1.bias)
                self._keep(f"inward_{index}", block.attn.in_proj_weight, block.attn.in_proj_bias)
                out = block.attn.out_proj
                self._keep(f"outward_{index}", out.weight, out.bias)
                self._keep(f"norm_2_{index}", block.ln_2.weight, block.ln_2.bias)
                self._keep(f"up_{index}", up.weight * slope, up.bias * slope)
                self._keep(f"down_{index}", down.weight / slope, down.bias)
            self._keep("last", visual.ln_post.weight, visual.ln_post.bias)
            self._keep("project", visual.proj.T)
        self.layers, self.quick = index + 1, slope != 1.0

    @staticmethod
    def supports(clip: ClipSpace) -> str | None:
        """Why the tower has no frozen form, or None if it has one."""
        visual: Any = getattr(getattr(clip, "model", None), "visual", None)
        if _VisionTransformer is None or type(visual) is not _VisionTransformer:
            return f"it is a {type(visual).__name__}, expected open_clip's VisionTransformer"
        blocks = list(visual.transformer.resblocks)
        plain = all(
            type(block) is ResidualAttentionBlock
            and type(block.attn) is nn.MultiheadAttention
            and isinstance(block.ls_1, nn.Identity)
            and isinstance(block.ls_2, nn.Identity)
            and type(block.mlp.gelu) in (QuickGELU, nn.GELU)
            and type(block.mlp.gelu) is type(blocks[0].mlp.gelu)
            and type(block.ln_1) is LayerNorm
            for block in blocks
        )
        if (
            not plain
            or visual.attn_pool is not None
            or visual.pool_type != "tok"
            or visual.output_tokens
            or not isinstance(visual.patch_dropout, nn.Identity)
            or type(visual.ln_pre) is not LayerNorm
            or visual.conv1.bias is not None
            or visual.proj is None
        ):
            return "it has parts that CLIP's ViT-B/32 has not"
        return None

    def _keep(self, name: str, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        for part, value in (("weight", weight), ("bias", bias)):
            if value is not None:
                copy = value.detach().clone().to(self.dtype).contiguous()
                self.register_buffer(f"{name}_{part}", copy, persistent=False)

    def _linear(self, name: str, x: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.linear(x, weight[rows], bias[rows])

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.layer_norm(x, weight.shape, weight, bias)

    def _weight(self, name: str) -> torch.Tensor:
        return getattr(self, f"{name}_weight")

    def _split(self, x: torch.Tensor, parts: int) -> Sequence[torch.Tensor]:
        """``(N, T, parts * D)`` to parts of ``(N, heads, T, D / heads)``."""
        x = x.view(*x.shape[:2], parts, self.heads, -1)
        return x.permute(2, 0, 3, 1, 4).unbind()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed luminance of the tower's own size; gradients reach the pixels.

        Args:
            images: ``(N, 1, size, size)`` in [0, 1], not yet normalized.

        Returns:
            ``(N, D)`` float32, not yet of length 1: what ``encode_image`` of the model gives for
            the normalized images with the channel repeated.
        """
        count, side, grid = len(images), self.side, self.size // self.side
        x = (images - 0.5).to(self.dtype)
        x = x.view(count, grid, side, grid, side).transpose(2, 3).reshape(count, grid * grid, -1)
        x = F.linear(x, self._weight("kernel"))
        x = torch.cat([x.new_zeros(count, 1, x.shape[-1]), x], dim=1) + self._weight("place")
        x = self._norm("first", x)
        width = x.shape[-1]
        for index in range(self.layers):
            last = index + 1 == self.layers
            normed = self._norm(f"norm_1_{index}", x)
            inward = f"inward_{index}"
            if last:  # only the first token is read, so only it asks
                x = x[:, :1]
                (query,) = self._split(self._linear(inward, normed[:, :1], slice(0, width)), 1)
                key, value = self._split(self._linear(inward, normed, slice(width, None)), 2)
            else:
                query, key, value = self._split(self._linear(inward, normed), 3)
            seen = F.scaled_dot_product_attention(query, key, value)
            seen = seen.transpose(1, 2).reshape(x.shape)
            x = x + self._linear(f"outward_{index}", seen)
            inner = self._linear(f"up_{index}", self._norm(f"norm_2_{index}", x))
            inner = F.silu(inner) if self.quick else F.gelu(inner)
            x = x + self._linear(f"down_{index}", inner)
        return F.linear(self._norm("last", x[:, 0]), self._weight("project")).float()

    def extra_repr(self) -> str:
        return f"size={self.size}, layers={self.layers}, dtype={self.dtype}"


class FrozenClip(nn.Module):
    """A CLIP in its frozen form, with the interface of `ClipSpace`.

    Args:
        clip: the model. Where its image tower has no frozen form (see
            `FrozenVisionTransformer.supports`), the tower itself is used.
        autocast: compute images in bfloat16; embeddings come back in the dtype of the images.
        compile: compile the tower with `torch.compile`: slower to start, faster then.

    Attributes:
        tower: the frozen image tower, or None.

    Example:
        >>> from ldf_utils.clip.loading import load_clip
        >>> FrozenClip(load_clip("mini")).encode_image(torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 128])
    """

    def __init__(self, clip: ClipSpace, autocast: bool = False, compile: bool = False):
        super().__init__()
        self.clip, self.autocast = clip.requires_grad_(False), autocast
        self.name, self.stands_in, self.words = clip.name, clip.stands_in, clip.words
        self.image_size, self.dim = clip.image_size, clip.dim
        self.tower: FrozenVisionTransformer | None = None
        if FrozenVisionTransformer.supports(clip) is None:
            dtype = torch.bfloat16 if autocast else torch.float32
            self.tower = FrozenVisionTransformer(clip, dtype)
            if compile:
                self.tower.compile(dynamic=True)

    def train(self, mode: bool = True) -> FrozenClip:
        """Stay in evaluation mode, whatever mode the module around it takes."""
        return super().train(False)

    def encode_text(self, sentences: str | Sequence[str]) -> torch.Tensor:
        """As `ClipSpace.encode_text`."""
        return self.clip.encode_text(sentences)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Embed luminance; gradients reach the pixels.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1].

        Returns:
            ``(B, dim)`` of length 1 each, in the dtype of the images.
        """
        if self.tower is not None:
            embeddings = self.tower(resize_square(images, self.image_size))
        else:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
                embeddings = self.clip.encode_image(images)
        return F.normalize(embeddings.to(images.dtype), dim=-1)


class FrozenConvolutions(nn.Module):
    """The first layers of a plain convolutional network such as VGG19, frozen, for luminance.

    Args:
        features: convolutions, ReLUs and max poolings in a row, for images of three channels.
        layers: the places in ``features`` to look at.
        dtype: in which it computes.

    Raises:
        ValueError: if there is a layer of another kind.
    """

    def __init__(
        self,
        features: nn.Sequential,
        layers: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.dtype, self.layers = dtype, tuple(layers)
        self.kinds: list[str] = []
        for index, layer in enumerate(features[: max(layers) + 1]):
            if isinstance(layer, nn.Conv2d) and set(layer.stride) == {1} and layer.groups == 1:
                with torch.no_grad():
                    weight = layer.weight.sum(1, keepdim=True) if index == 0 else layer.weight
                weight = weight.detach().clone().to(dtype, memory_format=torch.channels_last)
                self.register_buffer(f"weight_{index}", weight, persistent=False)
                assert layer.bias is not None  # VGG's convolutions have one
                bias = layer.bias.detach().clone().to(dtype)
                self.register_buffer(f"bias_{index}", bias, persistent=False)
                self.kinds.append("convolution")
            elif isinstance(layer, nn.ReLU):
                self.kinds.append("relu")
            elif isinstance(layer, nn.MaxPool2d) and layer.kernel_size == 2:
                self.kinds.append("pool")
            else:
                raise ValueError(
                    f"layer {index} is {layer}; expected convolutions of stride 1, ReLUs and "
                    "max poolings of 2, as in VGG19"
                )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of the chosen layers.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1].

        Returns:
            One tensor a layer, in the dtype of the tower.
        """
        x, features = images.to(self.dtype, memory_format=torch.channels_last), []
        for index, kind in enumerate(self.kinds):
            if kind == "convolution":
                weight, bias = getattr(self, f"weight_{index}"), getattr(self, f"bias_{index}")
                x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
            elif kind == "relu":
                x = F.relu(x)
            else:
                x = F.max_pool2d(x, 2)
            if index in self.layers:
                features.append(x)
        return features
