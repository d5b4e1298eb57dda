"""CLIP space: one place where sentences and pictures become vectors that can be compared.

Two models serve the same interface:

* ``openai``: ViT-B/32 with the weights of Radford et al., "Learning Transferable Visual Models
  From Natural Language Supervision", arXiv:2103.00020, as the method prescribes. About 600 MB,
  from a hub.
* ``mini``: the small model that ships with this repository (see `ldf_utils.mini_clip`), trained on
  `ldf_utils.scenes` alone. It knows a few dozen attributes of infrared, visible and fused
  pictures and no more. It stands in where there is no network, and says so.

Both are made by the same open_clip calls, frozen, in evaluation mode and in float32.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.images import ImageError

OPENAI_MODEL, OPENAI_WEIGHTS = "ViT-B-32-quickgelu", "openai"
MINI_FOLDER = Path(__file__).parent / "weights" / "mini_clip"
VOCABULARY = "vocabulary.json"

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ClipError(RuntimeError):
    """A CLIP model can't be loaded, or was asked for what it can't do; the text says what to do."""


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

    def __iter__(self):
        return iter(astuple(self))


PROMPTS = Prompts()


class CompactTokenizer:
    """open_clip's tokenizer, cut down to the words that a small model was trained with.

    The large model has a row for each of 49,408 tokens. The embedded one keeps the rows that its
    captions use, so token numbers are mapped; every word outside is an error, never a guess.

    Args:
        words: the words that may be used.
        token_ids: open_clip's numbers of the kept tokens, ascending; the place in this list is the
            row in the small model. The last is the end-of-text token, so that it stays the
            highest number, where open_clip's text tower reads the sentence's embedding.
        context_length: tokens of a sentence, start and end included.
    """

    def __init__(self, words: Sequence[str], token_ids: Sequence[int], context_length: int):
        self.words = frozenset(words)
        self.rows = {token: row for row, token in enumerate(token_ids)}
        self.context_length = context_length
        self._tokenize = open_clip.SimpleTokenizer(context_length=context_length)

    @classmethod
    def from_folder(cls, folder: Path) -> CompactTokenizer:
        """Read ``vocabulary.json`` and the context length beside the model's weights."""
        kept = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        context = config["model_cfg"]["text_cfg"]["context_length"]
        return cls(kept["words"], kept["token_ids"], context)

    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        """Sentences to rows.

        Returns:
            ``(N, context_length)`` int64, zero behind the end.

        Raises:
            ClipError: for an empty sentence, one too long, or a word that the model does not know.
        """
        spoken_words = []
        for sentence in sentences:
            spoken = re.findall(r"[a-z0-9']+", sentence.lower())
            spoken_words.append(" ".join(spoken))
            if not spoken:
                raise ClipError(f"the prompt {sentence!r} holds no word; write a short sentence")
            for word in spoken:
                if word not in self.words:
                    near = difflib.get_close_matches(word, sorted(self.words), n=4, cutoff=0.5)
                    raise ClipError(
                        f"the embedded CLIP does not know the word {word!r} in {sentence!r}"
                        + (f"; the nearest words it knows: {', '.join(near)}" if near else "")
                        + f". It knows {len(self.words)} words (load_clip('mini').words lists "
                        "them); load_clip('openai') knows ordinary English"
                    )
        tokens = self._tokenize(spoken_words)  # words only: commas and stops carry no meaning here
        end = max(self.rows)
        rows = torch.zeros_like(tokens)
        for index, line in enumerate(tokens.tolist()):
            length = line.index(end) + 1
            if (
                length == self.context_length
                and len(self._tokenize.encode(spoken_words[index])) + 2 > self.context_length
            ):
                raise ClipError(
                    f"the prompt {sentences[index]!r} is longer than {self.context_length - 2} "
                    "tokens; shorten it"
                )
            rows[index, :length] = torch.tensor([self.rows[token] for token in line[:length]])
        return rows


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

    def __init__(
        self,
        model: nn.Module,
        tokenize: Callable[[Sequence[str]], torch.Tensor],
        name: str,
        stands_in: bool = False,
        words: frozenset[str] | None = None,
    ):
        super().__init__()
        self.model = model.float().requires_grad_(False)
        self.tokenize, self.name, self.stands_in, self.words = tokenize, name, stands_in, words
        settings = open_clip.get_model_preprocess_cfg(model)
        size = settings["size"]
        self.image_size: int = int(size if isinstance(size, int) else size[0])
        self.dim: int = int(model.text_projection.shape[-1])
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
            raise ClipError(f"expected prompts with at least one word each, found {sentences!r}")
        tokens = self.tokenize(sentences).to(self.mean.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """What the image tower sees: three channels, bilinear to a square, CLIP's mean and std."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ImageError(f"expected images (B, 1 or 3, H, W), found {tuple(images.shape)}")
        side = self.image_size
        if images.shape[-2:] != (side, side):
            images = F.interpolate(
                images, (side, side), mode="bilinear", align_corners=False, antialias=True
            )
        return (images.expand(-1, 3, -1, -1) - self.mean) / self.std

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Embed pictures; gradients reach the pixels, never the model.

        Args:
            images: ``(B, C, H, W)`` in [0, 1], C 1 (repeated to three) or 3, any size; it is
                brought to ``image_size`` with anti-aliasing.

        Returns:
            ``(B, dim)`` of length 1 each.

        Raises:
            ImageError: for another shape.
        """
        return F.normalize(self.model.encode_image(self.prepare(images)).float(), dim=-1)

    def extra_repr(self) -> str:
        return f"name={self.name!r}, image_size={self.image_size}, dim={self.dim}"


BANNER = (
    "NOTE: the embedded mini CLIP stands in for OpenAI's ViT-B/32. It was trained on generated "
    "scenes only and knows {words} words; figures made with it show the mechanism of the method, "
    "not the authors' numbers. With a network: load_clip('openai')."
)


def load_clip(name: str | os.PathLike = "auto", device: str | torch.device = "cpu") -> ClipSpace:
    """Load a CLIP model, frozen, in evaluation mode, in float32.

    Args:
        name: ``"openai"``; ``"mini"``; ``"auto"`` (the environment variable ``LDF_CLIP`` if set,
            else OpenAI's weights where they are cached or can be fetched, else, within seconds and
            with a banner, ``mini``); or a path: a folder with ``open_clip_config.json`` and
            weights, or a file of ViT-B/32 weights (``.pt``, ``.bin``, ``.safetensors``).
        device: where to put it.

    Returns:
        The model as a `ClipSpace`.

    Raises:
        ClipError: if the weights are not there, or are not what they should be. Random weights are
            never returned.
    """
    if name == "auto":
        name = os.environ.get("LDF_CLIP") or "auto"
    if name == "auto":
        reason = _why_not_openai()
        if reason is None:
            try:
                return load_clip("openai", device)
            except ClipError as error:
                reason = str(error)
        clip = load_clip("mini", device)
        print(BANNER.format(words=len(clip.words)), f"(Reason: {reason})", flush=True)
        return clip
    if name == "openai":
        model = _create(OPENAI_MODEL, pretrained=OPENAI_WEIGHTS)
        return ClipSpace(model, open_clip.get_tokenizer(OPENAI_MODEL), "openai").to(device)
    path = MINI_FOLDER if name == "mini" else Path(name)
    if not path.exists():
        known = "'auto', 'openai', 'mini', or the path of a folder or a file of weights"
        raise ClipError(f"{name}: no such file or folder, and no known name; expected {known}")
    if path.is_dir():
        for needed in ("open_clip_config.json", "*.safetensors or *.bin"):
            if not any(any(path.glob(pattern)) for pattern in needed.split(" or ")):
                raise ClipError(f"{path}: no {needed} in this folder; it holds no open_clip model")
        model = _create(f"local-dir:{path}")
        if (path / VOCABULARY).is_file():
            tokenize = CompactTokenizer.from_folder(path)
            clip = ClipSpace(model, tokenize, "mini", stands_in=True, words=tokenize.words)
        else:
            clip = ClipSpace(model, open_clip.get_tokenizer(f"local-dir:{path}"), path.name)
        return clip.to(device)
    _refuse_what_is_no_weights_file(path)
    model = _create(OPENAI_MODEL, pretrained=str(path))
    return ClipSpace(model, open_clip.get_tokenizer(OPENAI_MODEL), path.name).to(device)


def _create(model_name: str, pretrained: str | None = None) -> nn.Module:
    try:
        return open_clip.create_model(
            model_name, pretrained=pretrained, precision="fp32", require_pretrained=True
        )
    except Exception as error:  # open_clip raises many kinds; every one means: no weights
        what = pretrained if pretrained and Path(pretrained).exists() else model_name
        raise ClipError(
            f"{what}: the weights could not be loaded ({type(error).__name__}: {error}). Check the "
            "network or the file; load_clip('mini') needs neither"
        ) from error


def _refuse_what_is_no_weights_file(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"version https://git-lfs")):
        raise ClipError(
            f"{path}: this is a text page ({path.stat().st_size} bytes), not weights; a download "
            "saved an error page or a pointer. Fetch the file again"
        )
    if path.suffix not in (".pt", ".pth", ".bin", ".safetensors"):
        raise ClipError(f"{path}: expected .pt, .pth, .bin or .safetensors, found {path.suffix!r}")


def _why_not_openai(timeout: float = 3.0) -> str | None:
    """None where OpenAI's weights are cached or within reach, else the reason in words."""
    import huggingface_hub
    from huggingface_hub import constants

    repository = open_clip.get_pretrained_cfg(OPENAI_MODEL, OPENAI_WEIGHTS)["hf_hub"].strip("/")
    for file in _HUB_FILES:
        if isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str):
            return None
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "yes"):
        return "HF_HUB_OFFLINE is set and the weights are not cached"
    if "BINDER_SERVICE_HOST" in os.environ:
        return "a Binder session has too little memory for the large model"
    address = urlsplit(constants.ENDPOINT)
    reached = threading.Event()

    def knock():
        try:
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname, port), timeout).close()
            reached.set()
        except OSError:
            pass

    thread = threading.Thread(target=knock, daemon=True)  # a name lookup may hang for minutes
    thread.start()
    thread.join(timeout)
    return None if reached.is_set() else f"no connection to {address.hostname}"
