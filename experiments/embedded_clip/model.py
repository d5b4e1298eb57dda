"""The model of the embedded CLIP: a small ModifiedResNet and a small text transformer."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from experiments.embedded_clip.dataset import SIDE
from ldf_utils.clip.attributes import vocabulary
from ldf_utils.clip.model import ClipSpace
from ldf_utils.clip.tokenizer import VOCABULARY, CompactTokenizer
from ldf_utils.data.files import atomic_path, write_json

DIMENSIONS, CONTEXT_LENGTH = 128, 32
VISION = {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64}
TEXT = {"context_length": CONTEXT_LENGTH, "vocab_size": 0, "width": 96, "heads": 4, "layers": 2}
MEAN, STD = 0.4, 0.25
PREPROCESSING: dict[str, Any] = {
    "mean": [MEAN] * 3,
    "std": [STD] * 3,
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def _model_config() -> dict[str, Any]:
    text = TEXT | {"vocab_size": len(vocabulary()[1])}
    return {"embed_dim": DIMENSIONS, "vision_cfg": VISION, "text_cfg": text}


def new_model() -> open_clip.model.CLIP:
    """Return a model with random weights, drawn by torch's global generator."""
    model = open_clip.model.CLIP(**_model_config())
    return model.to(memory_format=torch.channels_last)


def new_tokenizer() -> CompactTokenizer:
    """Return the tokenizer of the model."""
    return CompactTokenizer(*vocabulary(), CONTEXT_LENGTH)


def frozen_copy(model: nn.Module) -> ClipSpace:
    """Wrap a copy of a model that is being trained."""
    copy = deepcopy(model).to(memory_format=torch.channels_last)
    open_clip.model.set_model_preprocess_cfg(copy, {**PREPROCESSING, "size": SIDE})
    return ClipSpace(copy, new_tokenizer(), "draft")


def to_pixels(images: torch.Tensor) -> torch.Tensor:
    """Normalize ``(G, V, 1, H, W)`` in [0, 1] to ``(G * V, 3, H, W)`` for the image tower."""
    pixels = (images.flatten(0, 1).expand(-1, 3, -1, -1) - MEAN) / STD
    return pixels.contiguous(memory_format=torch.channels_last)


def hidden_matrices(model: open_clip.model.CLIP) -> list[nn.Parameter]:
    """Return the convolutions of the image tower and the matrices of the text tower's blocks.

    The attention that pools the image tower has most of its parameters, and would take most of the
    time of `OrthogonalMomentum`; AdamW trains it together with the embeddings and biases.
    """
    kernels = [p for p in model.visual.parameters() if p.ndim == 4]
    return kernels + [p for p in model.transformer.parameters() if p.ndim == 2]


def write_model(model: nn.Module, folder: Path) -> None:
    """Write a model as an open_clip folder: weights in float16, configuration and vocabulary."""
    weights = {
        name: (value if name.endswith("num_batches_tracked") else value.half()).contiguous()
        for name, value in model.state_dict().items()
        if not name.endswith("attn_mask")
    }
    words, token_ids = vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "open_clip_model.safetensors") as temporary:
        save_file(weights, temporary)
    settings = {"model_cfg": _model_config(), "preprocess_cfg": PREPROCESSING}
    write_json(folder / "open_clip_config.json", settings)
    write_json(folder / VOCABULARY, {"words": words, "token_ids": token_ids})
