"""A CLIP model that embeds sentences and images, and the three prompts of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, cast

import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.data.images import ImageError, check_values


class ClipError(RuntimeError):
    """A CLIP model can't be loaded, or was asked for what it can't do; the text says what to do."""


class WeightsNotFound(ClipError):
    """There are no weights to load: no such path, or no way to fetch them."""


@dataclass(frozen=True)
class Prompts:
    """The three sentences of the language-driven fusion model (arXiv:2402.16267).

    Attributes:
        visible: what a visible picture is.
        infrared: what an infrared picture is.
        fused: the objective: what the fused picture is to be.
    """

    visible: str = "a visible gray image"
    infrared: str = "an infrared image"
    fused: str = "a clear image with detailed background and salient objects"

    def __iter__(self) -> Iterator[str]:
        return iter(astuple(self))


PROMPTS = Prompts()


def resize_square(images: torch.Tensor, side: int) -> torch.Tensor:
    """Resize images to a square as CLIP is given them: bilinear, antialiased.

    Args:
        images: ``(B, C, H, W)``.
        side: in pixels.

    Returns:
        ``(B, C, side, side)``; the images themselves where they have that size.
    """
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)


class ClipSpace(nn.Module):
    """A frozen CLIP: prompts and images to L2-normalized embeddings.

    Args:
        model: an open_clip model with ``encode_image`` and ``encode_text``.
        tokenize: sentences to ``(N, L)`` token numbers.
        name: ``openai``, ``mini`` or the name of a file.
        stands_in: True where the embedded model takes the place of OpenAI's.
        words: the words the model knows, or None for ordinary English.

    Attributes:
        image_size: side in pixels of what the image tower sees.
        dim: length of an embedding.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenize: Callable[[Sequence[str]], torch.Tensor],
        name: str,
        stands_in: bool = False,
        words: frozenset[str] | None = None,
    ):
        super().__init__()
        self.model = cast(Any, model.float().requires_grad_(False))
        self.tokenize, self.name, self.stands_in, self.words = tokenize, name, stands_in, words
        settings: Any = open_clip.get_model_preprocess_cfg(model)
        size = settings["size"]
        self.image_size: int = int(size if isinstance(size, int) else size[0])
        self.dim: int = int(self.model.text_projection.shape[-1])
        for key in ("mean", "std"):
            value = torch.tensor(settings[key], dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(key, value, persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> ClipSpace:
        """CLIP stays in evaluation mode, whatever the module around it is put to."""
        return super().train(False)

    @torch.no_grad()
    def encode_text(self, sentences: str | Sequence[str]) -> torch.Tensor:
        """Embed prompts.

        Args:
            sentences: one prompt, or N.

        Returns:
            ``(N, dim)`` of length 1 each.

        Raises:
            ClipError: for a word that a small model does not know, or no word at all.
        """
        sentences = [sentences] if isinstance(sentences, str) else list(sentences)
        if not sentences or any(not s.strip() for s in sentences):
            raise ClipError(f"prompts must have at least one word each, got {sentences!r}")
        tokens = self.tokenize(sentences).to(self.mean.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the image tower sees: 3 channels, bilinear to a square, CLIP's mean, std."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ImageError(f"images must have shape (B, 1 or 3, H, W), got {tuple(images.shape)}")
        if not images.requires_grad:  # networks in training may leave [0, 1]
            images = check_values(images, "pictures for CLIP")
        images = resize_square(images.to(self.mean.device), self.image_size)
        return (images.expand(-1, 3, -1, -1) - self.mean) / self.std

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Embed pictures; gradients reach the pixels, never the model.

        Args:
            images: ``(B, C, H, W)`` in [0, 1], C 1 (repeated to three) or 3, any size; it is
                brought to ``image_size`` with anti-aliasing, on the device of the model.

        Returns:
            ``(B, dim)`` of length 1 each, on the device of the model.

        Raises:
            ImageError: for another shape.
        """
        return F.normalize(self.model.encode_image(self.prepare(images)).float(), dim=-1)

    def extra_repr(self) -> str:
        return f"name={self.name!r}, image_size={self.image_size}, dim={self.dim}"


BANNER = (
    "NOTE: the embedded mini CLIP stands in for OpenAI's ViT-B/32. It was trained on rendered "
    "worlds and a few real clips and knows {words} words; figures made with it show the mechanism "
    "of the method, not the authors' numbers. With a network: load_clip('openai')."
)


def bfloat16_pays(device: str | torch.device = "cpu") -> bool:
    """Whether a tower is faster in bfloat16 than in float32 on a device.

    A processor without AVX-512 has no instructions for it: the numbers are converted one by one,
    and a convolution takes several times as long.

    Args:
        device: ``cpu``, ``cuda``, ...

    Returns:
        True where the hardware computes in bfloat16.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
