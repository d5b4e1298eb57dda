"""The model of the embedded CLIP: a small ModifiedResNet and a small text transformer."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from experiments.embedded_clip.dataset import SIDE
from ldf_utils.clip.attributes import vocabulary
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace
from ldf_utils.clip.tokenizer import VOCABULARY, CompactTokenizer
from ldf_utils.data.files import atomic_path, write_json

DIMENSIONS, CONTEXT_LENGTH = 128, 32
VISION: dict[str, Any] = {"image_size": SIDE, "layers": [1, 2, 3, 1], "width": 24, "head_width": 64}
TEXT = {"context_length": CONTEXT_LENGTH, "vocab_size": 0, "width": 96, "heads": 4, "layers": 2}
CELLS, PLACE_WIDTH = SIDE // 16, 16 * VISION["width"]
"""Side and channels of what `image_places` returns."""
MEAN, STD = 0.4, 0.25
PREPROCESSING: dict[str, Any] = {
    "mean": [MEAN] * 3,
    "std": [STD] * 3,
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def model_config(vision: dict[str, Any] = VISION) -> dict[str, Any]:
    """Return open_clip's configuration of the model, with this image tower."""
    text = TEXT | {"vocab_size": len(vocabulary()[1])}
    return {"embed_dim": DIMENSIONS, "vision_cfg": vision, "text_cfg": text}


def new_model() -> open_clip.model.CLIP:
    """Return a model with random weights, drawn by torch's global generator."""
    model = open_clip.model.CLIP(**model_config())
    return model.to(memory_format=torch.channels_last)


def load_grown(model: open_clip.model.CLIP, folder: Path) -> None:
    """Fill a model from one whose image tower may have fewer blocks, and compute the same.

    What a residual block adds is scaled by the weight of its last batch norm; in new blocks that is
    set to 0, so that they pass on what they get until they have learned something.

    Args:
        model: to be filled.
        folder: of the other model, with the same words.

    Raises:
        ValueError: if anything but whole blocks is missing, or a shape differs.
    """
    state = load_clip(folder).model.state_dict()
    fresh = model.state_dict()
    new = {name for name in fresh if name not in state}
    blocks = {name.rsplit(".", 2)[0] for name in new if name.endswith("bn3.weight")}
    strange = {n for n in new if not any(n.startswith(f"{block}.") for block in blocks)}
    strange |= {n for n in state if n not in fresh or state[n].shape != fresh[n].shape}
    if strange:
        raise ValueError(
            f"{folder}: expected a model of the same widths and words with fewer blocks, but "
            f"{', '.join(sorted(strange)[:4])} do not fit"
        )
    model.load_state_dict(fresh | state)
    with torch.no_grad():
        for block in blocks:
            model.get_submodule(f"{block}.bn3").weight.zero_()


def new_tokenizer() -> CompactTokenizer:
    """Return the tokenizer of the model."""
    return CompactTokenizer(*vocabulary(), CONTEXT_LENGTH)


def frozen_copy(model: nn.Module) -> ClipSpace:
    """Wrap a copy of a model that is being trained."""
    copy = deepcopy(model).to(memory_format=torch.channels_last)
    open_clip.model.set_model_preprocess_cfg(copy, {**PREPROCESSING, "size": SIDE})
    return ClipSpace(copy, new_tokenizer(), "draft")


def encode_text(model: open_clip.model.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Embed sentences as the model does, but no further than the longest of them goes."""
    length = int((tokens != 0).sum(1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection


def encode_image(model: open_clip.model.CLIP, pixels: torch.Tensor) -> torch.Tensor:
    """Embed images as the model does; only the mean asks in the pooling, since only it is used."""
    return pool_places(model, image_places(model, pixels))


def image_places(model: open_clip.model.CLIP, pixels: torch.Tensor) -> torch.Tensor:
    """Return what the image tower finds at each place, `CELLS` along a side, before its last layer.

    Args:
        model: the model.
        pixels: ``(N, 3, 96, 96)`` from `to_pixels`.

    Returns:
        ``(N, PLACE_WIDTH, CELLS, CELLS)``.
    """
    tower = model.visual
    return tower.layer3(tower.layer2(tower.layer1(tower.stem(pixels))))


def pool_places(model: open_clip.model.CLIP, places: torch.Tensor) -> torch.Tensor:
    """Embed images by what `image_places` found in them."""
    pool = model.visual.attnpool
    places = model.visual.layer4(places).flatten(2).permute(0, 2, 1)
    places = torch.cat([places.mean(1, keepdim=True), places], 1)
    places = places + pool.positional_embedding.to(places.dtype)

    def heads(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)

    query, key = heads(pool.q_proj(places[:, :1])), heads(pool.k_proj(places))
    seen = F.scaled_dot_product_attention(query, key, heads(pool.v_proj(places)))
    return pool.c_proj(seen.transpose(1, 2).flatten(1))


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


def write_model(model: nn.Module, folder: Path, vision: dict[str, Any] = VISION) -> None:
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
    settings = {"model_cfg": model_config(vision), "preprocess_cfg": PREPROCESSING}
    write_json(folder / "open_clip_config.json", settings)
    write_json(folder / VOCABULARY, {"words": words, "token_ids": token_ids})
