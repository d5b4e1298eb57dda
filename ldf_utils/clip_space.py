"""CLIP space: one place where sentences and pictures become vectors that can be compared.

Two models serve the same interface:

* ``openai``: ViT-B/32 with the weights of Radford et al., "Learning Transferable Visual Models
  From Natural Language Supervision", arXiv:2103.00020, as the method prescribes. About 600 MB,
  from a hub.
* ``mini``: the small model that ships with this repository (see `ldf_utils.mini_clip`), trained on
  `ldf_utils.scenes` alone. It knows a few dozen attributes of infrared, visible and fused
  pictures and no more. It stands in where there is no network, and says so.

Both are open_clip models, filled strictly by one loader (`load_clip`), frozen, in evaluation mode
and in float32. Whether a file holds OpenAI's weights is asked of the weights themselves: a few
cosines between sentences are kept with the project, and `selfcheck` compares.

    python -m ldf_utils.clip_space selfcheck                # OpenAI's weights, as far as at hand
    python -m ldf_utils.clip_space selfcheck --clip PATH    # a file or a folder
    python -m ldf_utils.clip_space fingerprint FILE.npy     # makes the kept cosines again
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import logging
import os
import re
import socket
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import open_clip
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from ldf_utils.files import write_json
from ldf_utils.images import ImageError

OPENAI_MODEL, OPENAI_WEIGHTS = "ViT-B-32-quickgelu", "openai"
MINI_FOLDER = Path(__file__).parent / "weights" / "mini_clip"
VOCABULARY = "vocabulary.json"
CONFIG = "open_clip_config.json"
FOLDER_PREFIX = "local-dir:"
FINGERPRINTS = Path(__file__).parent / "weights" / "clip_vit_b32_fingerprints.json"

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_WEIGHT_ENDINGS = (".safetensors", ".bin", ".pth", ".pt")


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

    def __iter__(self):
        return iter(astuple(self))


PROMPTS = Prompts()


_SMALL_WORDS = frozenset("a an and at by in no of too well with".split())
_ENDINGS = ("iness", "ness", "less", "ings", "ing", "est", "ers", "ies", "ed", "er", "es", "ly",
            "s", "y", "e")  # fmt: skip


def _stem(word: str) -> str:
    """A word without its ending, so that blur, blurred and blurry have one stem."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def nearest_words(word: str, words: Iterable[str], most: int = 4) -> list[str]:
    """Known words that may stand for an unknown one.

    Args:
        word: what was asked for, in lower case.
        words: the known words.
        most: how many to return at most.

    Returns:
        Other forms of the same word first (plural and singular, "blurring" for "blurry"), then
        words that begin with the same five letters or more ("photograph": "photo"), then words of
        like spelling, as of a slip of the finger. Empty where nothing is near.
    """
    known = sorted(set(words) - _SMALL_WORDS)
    known.sort(key=lambda w: -difflib.SequenceMatcher(None, word, w).ratio())
    forms = [w for w in known if _stem(w) == _stem(word)]
    begins = [w for w in known if len(word) >= 5 and w[:5] == word[:5]]
    alike = difflib.get_close_matches(word, known, n=most, cutoff=0.75)
    return list(dict.fromkeys([*forms, *begins, *alike]))[:most]


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
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
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
                    near = nearest_words(word, self.words)
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


def load_clip(name: str | os.PathLike = "auto", device: str | torch.device = "cpu") -> ClipSpace:
    """Load a CLIP model, frozen, in evaluation mode, in float32.

    Every name takes the same way: find the configuration and the file, read the tensors, hold
    their names and shapes against the model's, fill it strictly.

    Args:
        name: ``"openai"``; ``"mini"``; ``"auto"`` (the environment variable ``LDF_CLIP`` if set,
            else OpenAI's weights where they are cached or can be fetched, else, within seconds and
            with a banner, ``mini``); or a path. A folder (also written ``local-dir:FOLDER``) has
            ``open_clip_config.json`` and weights. A file is taken for OpenAI's ViT-B/32 and gets
            its activation, QuickGELU: a state dict, plain or under ``state_dict``, as
            ``.safetensors``, ``.pt``, ``.pth`` or ``.bin``, or OpenAI's own TorchScript archive.
            Other weights of that shape, as LAION's, need a folder whose configuration says which
            activation they were trained with.
        device: where to put it.

    Returns:
        The model as a `ClipSpace`.

    Raises:
        WeightsNotFound: if the weights are not there and can't be fetched.
        ClipError: if they are not what they should be: another file, an incomplete one, missing,
            surplus or misshapen tensors, an activation that is not that of the training. Random
            weights are never returned.
    """
    name = os.fspath(name)
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
        return _load_file(_fetch_openai(), "openai").to(device)
    path = MINI_FOLDER if name == "mini" else Path(name.removeprefix(FOLDER_PREFIX))
    if not path.exists() or (name.startswith(FOLDER_PREFIX) and not path.is_dir()):
        known = "'auto', 'openai', 'mini', or the path of a folder or a file of weights"
        what = "folder" if name.startswith(FOLDER_PREFIX) else "file or folder, and no known name"
        raise WeightsNotFound(f"{name}: no such {what}; expected {known}")
    clip = _load_folder(path) if path.is_dir() else _load_file(path, path.name)
    return clip.to(device)


def _load_file(path: Path, name: str) -> ClipSpace:
    """A file of ViT-B/32 weights in OpenAI's configuration."""
    model = _fill(OPENAI_MODEL, path, f"OpenAI's ViT-B/32 ({OPENAI_MODEL} in open_clip)")
    return ClipSpace(model, open_clip.get_tokenizer(OPENAI_MODEL), name)


def _load_folder(folder: Path) -> ClipSpace:
    """An open_clip folder; with a vocabulary beside the weights it is the embedded model."""
    config = _read_config(folder)
    weights = _weights_in(folder)
    _refuse_a_known_name_with_another_activation(folder, config)
    model = _fill(f"{FOLDER_PREFIX}{folder}", weights, f"the model of {folder / CONFIG}")
    if (folder / VOCABULARY).is_file():
        tokenize = CompactTokenizer.from_folder(folder)
        return ClipSpace(model, tokenize, "mini", stands_in=True, words=tokenize.words)
    clip = ClipSpace(model, open_clip.get_tokenizer(f"{FOLDER_PREFIX}{folder}"), folder.name)
    _refuse_openai_weights_with_gelu(clip, folder)
    return clip


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG
    if not path.is_file():
        raise ClipError(f"{folder}: no {CONFIG} in this folder; it holds no open_clip model")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        if {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            return config
        found = f"a model_cfg with {', '.join(config) or 'nothing in it'}"
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
    raise ClipError(
        f"{path}: this is no open_clip configuration ({found}); expected JSON with a model_cfg "
        "that has embed_dim, vision_cfg and text_cfg. Fetch the file again, from where the "
        "weights are from"
    )


def _weights_in(folder: Path) -> Path:
    """The one file of weights in a folder; those with open_clip's own names come first."""
    for name in _HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHT_ENDINGS)
    if len(found) == 1:
        return found[0]
    held = f"it holds {', '.join(p.name for p in found)}" if found else "it holds no weights"
    raise ClipError(
        f"{folder}: expected {_HUB_FILES[0]}, or one other file *{', *'.join(_WEIGHT_ENDINGS)}; "
        f"{held}. Name the file to be used {_HUB_FILES[0]}, or give its path"
    )


def _hub_repository() -> str:
    return open_clip.get_pretrained_cfg(OPENAI_MODEL, OPENAI_WEIGHTS)["hf_hub"].strip("/")


def _fetch_openai() -> Path:
    """The file of OpenAI's weights in the hub's cache; fetched first if it is not there."""
    try:
        config = open_clip.get_pretrained_cfg(OPENAI_MODEL, OPENAI_WEIGHTS)
        return Path(open_clip.download_pretrained(config))
    except Exception as error:  # the hub raises many kinds; every one means: no weights
        raise WeightsNotFound(
            f"openai: the weights are not in the cache and could not be fetched "
            f"({type(error).__name__}: {_first_line(error)}). Expected {_HUB_FILES[0]} of "
            f"{_hub_repository()} on the hub. Check the network, or give the path of a file that "
            "you have; load_clip('mini') needs neither"
        ) from error


def _first_line(error: BaseException, most: int = 200) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return line if len(line) <= most else line[:most] + " ..."


# --- reading weights ------------------------------------------------------------------------------

_FETCH_AGAIN = f"Fetch the file again; OpenAI's ViT-B/32 is {_HUB_FILES[0]} of {_hub_repository()}"
_OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, whatever of the known forms it has; told by content."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(512)
    text = start.lstrip().lower()
    if size == 0:
        raise ClipError(f"{path}: the file is empty; expected CLIP weights. {_FETCH_AGAIN}")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"version https://git-lfs")):
        raise ClipError(
            f"{path}: this is a text page ({size} bytes), not weights; a download saved an error "
            f"page or a pointer. {_FETCH_AGAIN}"
        )
    if start[8:9] == b"{":
        _refuse_a_cut_safetensors_file(path, size)
        read = load_file
    elif start.startswith(b"PK"):
        read = _read_archive
    elif start.startswith(b"\x80"):  # how torch wrote before 2020
        read = _read_pickle
    else:
        raise ClipError(
            f"{path}: neither a safetensors file nor one of torch ({size} bytes, beginning with "
            f"{start[:12]!r}); expected CLIP weights. {_FETCH_AGAIN}"
        )
    try:
        held = read(path)
    except ClipError:
        raise
    except Exception as error:  # the readers raise many kinds; every one means: no weights
        raise ClipError(
            f"{path}: the weights could not be read ({type(error).__name__}: "
            f"{_first_line(error)}); expected names and tensors. {_FETCH_AGAIN}"
        ) from error
    return _named_tensors(held, path)


def _refuse_a_cut_safetensors_file(path: Path, size: int) -> None:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length < size else b""
    whole = 8 + length
    if len(header) == length:
        try:
            entries = json.loads(header)
            whole += max(e["data_offsets"][1] for k, e in entries.items() if k != "__metadata__")
        except (ValueError, KeyError, TypeError):
            return  # safetensors says what is wrong with it
    if whole > size:
        raise ClipError(
            f"{path}: the file is cut short: {size} bytes, and its header asks for {whole} or "
            f"more. {_FETCH_AGAIN}"
        )


def _read_archive(path: Path):
    if not zipfile.is_zipfile(path):
        raise ClipError(
            f"{path}: the file is cut short ({path.stat().st_size} bytes): it begins like a file "
            f"of torch, and the list of contents at its end is missing. {_FETCH_AGAIN}"
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):  # TorchScript, OpenAI's own form
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is an old form
            return torch.jit.load(str(path), map_location="cpu").state_dict()
    return _read_pickle(path)


def _read_pickle(path: Path):
    with open(path, "rb") as file:  # given the path, torch would judge by its ending
        return torch.load(file, map_location="cpu", weights_only=True)


def _named_tensors(held, path: Path) -> dict[str, torch.Tensor]:
    """Unwrap a state dict, and drop what is known to come with it and is no weight."""
    if isinstance(held, Mapping) and isinstance(held.get("state_dict"), Mapping):
        held = held["state_dict"]
    if not isinstance(held, Mapping) or not all(torch.is_tensor(v) for v in held.values()):
        found = type(held).__name__
        if isinstance(held, Mapping):
            found = f"entries {', '.join(map(repr, list(held)[:5]))}"
        raise ClipError(
            f"{path}: found {found}; expected names and tensors, plain or under 'state_dict'. "
            "These are not the weights of a CLIP model; give the path of a file that is"
        )
    if held and all(name.startswith("module.") for name in held):  # trained on several devices
        held = {name.removeprefix("module."): tensor for name, tensor in held.items()}
    return {
        name: tensor
        for name, tensor in held.items()
        if name not in _OPENAI_SCALARS or tensor.numel() != 1
    }


def _fill(model_name: str, path: Path, expected_by: str) -> nn.Module:
    """Make an open_clip model and fill it from a file; names and shapes must all agree."""
    state = _read_weights(path)
    model = _create(model_name, expected_by)
    expected = model.state_dict()
    for name, tensor in state.items():  # a scalar may be stored as one number in a list
        if name in expected and tensor.numel() == expected[name].numel() == 1:
            state[name] = tensor.reshape(expected[name].shape)
    _refuse_what_does_not_fit(state, expected, path, expected_by)
    model.load_state_dict(state, strict=True)
    return model


def _create(model_name: str, expected_by: str) -> nn.Module:
    """A model of open_clip with the random weights that it starts with, to be filled."""

    def of_others(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname  # which warns that it has read no weights

    logger = logging.getLogger()
    logger.addFilter(of_others)
    try:
        model = open_clip.create_model(model_name, load_weights=False, precision="fp32")
    except Exception as error:  # open_clip raises many kinds; every one means: no such model
        raise ClipError(
            f"{expected_by} could not be made ({type(error).__name__}: {_first_line(error)}); "
            "check the configuration"
        ) from error
    finally:
        logger.removeFilter(of_others)
    if not isinstance(model, open_clip.CLIP):
        raise ClipError(
            f"{expected_by} is a {type(model).__name__} of open_clip; expected a CLIP with both "
            "towers of its own, as OpenAI's. Choose another model"
        )
    return model


def _refuse_what_does_not_fit(
    state: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    path: Path,
    expected_by: str,
) -> None:
    def some(entries: Sequence[str]) -> str:
        return ", ".join(entries[:3]) + (", ..." if len(entries) > 3 else "")

    missing = [name for name in expected if name not in state]
    surplus = [name for name in state if name not in expected]
    misshapen = [
        f"{name} is {tuple(tensor.shape)} and not {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    unlike = [
        f"{name} holds {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in state.items()
        if name in expected and tensor.is_floating_point() != expected[name].is_floating_point()
    ]
    faults = [
        f"{len(names)} {what} ({some(names)})"
        for names, what in (
            (missing, "missing"),
            (surplus, "not expected"),
            (misshapen, "of another shape"),
            (unlike, "of another kind of number"),
        )
        if names
    ]
    if not faults:
        return
    advice = "Give a file of that model, whole and unchanged"
    if any(name.startswith(("text_model.", "vision_model.")) for name in state):
        advice = f"This is the layout of the transformers library. {_FETCH_AGAIN}"
    elif len(missing) == len(expected):
        advice = f"These are the weights of something else. {_FETCH_AGAIN}"
    raise ClipError(
        f"{path}: the weights do not fit. Found {len(state)} tensors, expected the "
        f"{len(expected)} of {expected_by}: {'; '.join(faults)}. {advice}"
    )


# --- the activation -------------------------------------------------------------------------------


def _refuse_a_known_name_with_another_activation(folder: Path, config: Mapping) -> None:
    """A folder named as one of open_clip's documented models has to have its activation."""
    parts = folder.absolute().parts
    names = [part.split("--")[-1] for part in parts if part.startswith("models--")]
    names.append(parts[-1])
    documented = {}
    for model, tag in open_clip.list_pretrained():
        entry = open_clip.get_pretrained_cfg(model, tag)
        repository = entry.get("hf_hub", "").strip("/").split("/")[-1]
        documented[repository] = bool(entry.get("quick_gelu", False))
    known = next((name for name in names if name in documented), None)
    if known:
        quick, reason = documented[known], f"open_clip's list of models has {known} with"
    elif "openai" in re.split(r"[^a-z0-9]+", names[-1].lower()):
        quick, reason = True, "the folder's name says that the weights are OpenAI's, trained with"
    else:
        return
    found = bool(config.get("quick_gelu", False))
    if found != quick:
        raise ClipError(_wrong_activation(folder, found, reason))


def _wrong_activation(folder: Path, found: bool, reason: str) -> str:
    kinds = {True: "QuickGELU", False: "GELU"}
    return (
        f"{folder / CONFIG}: found the activation {kinds[found]} (quick_gelu "
        f"{str(found).lower()}), but {reason} {kinds[not found]}. The weights would load and the "
        f'numbers be wrong; set "quick_gelu": {str(not found).lower()} in its model_cfg'
    )


@contextlib.contextmanager
def _other_activation(model: nn.Module) -> Iterator[None]:
    """The text tower with GELU in place of QuickGELU, or the reverse, for a while."""
    blocks = [block.mlp for block in model.transformer.resblocks]
    own = [block.gelu for block in blocks]
    other = nn.GELU if isinstance(own[0], QuickGELU) else QuickGELU
    try:
        for block in blocks:
            block.gelu = other()
        yield
    finally:
        for block, activation in zip(blocks, own, strict=True):
            block.gelu = activation


def _has_the_towers_of_openai(clip: ClipSpace) -> bool:
    model = getattr(clip, "model", None)
    if not isinstance(model, open_clip.CLIP) or clip.dim != 512:
        return False
    blocks = model.transformer.resblocks
    kinds = {type(block.mlp.gelu) for block in blocks}
    return (
        tuple(model.token_embedding.weight.shape) == (49408, 512)
        and len(blocks) == 12
        and len(kinds) == 1
        and kinds <= {nn.GELU, QuickGELU}
    )


def _refuse_openai_weights_with_gelu(clip: ClipSpace, folder: Path) -> None:
    """OpenAI's weights under GELU, whatever the folder is called: asked of the fingerprints."""
    if not _has_the_towers_of_openai(clip):
        return
    if isinstance(clip.model.transformer.resblocks[0].mlp.gelu, QuickGELU):
        return
    kept = read_fingerprints()
    for prompt in dict.fromkeys((kept.prompt, _PROMPTS[-1])):
        with _other_activation(clip.model):
            other = _largest(_compare(clip, kept, prompt))
        if other <= AGREE and 3 * other < _largest(_compare(clip, kept, prompt)):
            reason = (
                f"with the other one the weights agree with the fingerprints of OpenAI's, to "
                f"{other:.5f}. These were trained with"
            )
            raise ClipError(_wrong_activation(folder, False, reason))


# --- fingerprints of OpenAI's weights -------------------------------------------------------------

# Near, middle and far apart; names of one word that begin with a consonant, so that neither "an"
# nor the writing of two words can make a difference.
_PAIRS = (
    ("cat", "dog"), ("car", "truck"), ("fork", "knife"), ("dog", "truck"), ("car", "cat"),
    ("cat", "zebra"), ("zebra", "dog"), ("knife", "car"), ("fork", "dog"), ("truck", "fork"),
    ("zebra", "frisbee"), ("frisbee", "knife"), ("cat", "frisbee"), ("truck", "frisbee"),
    ("zebra", "fork"), ("bench", "frisbee"), ("bench", "car"), ("bench", "zebra"),
)  # fmt: skip
_PROMPT = "a {name}"
_PROMPTS = (_PROMPT, "{name}", "a photo of a {name}")

AGREE = 0.005
"""Largest difference of a cosine at which weights count as OpenAI's: room for float16, no more."""
ALIKE = 0.8
"""Correlation of the cosines from which on a disagreement is a question and not a refusal.

Both limits are chosen and not measured: where they were set, there were no real weights.
"""


@dataclass(frozen=True)
class Fingerprints:
    """What is kept of OpenAI's text tower: cosines between a few sentences.

    Attributes:
        prompt: the sentence, with ``{name}`` where the name goes.
        pairs: two names and the cosine between their sentences.
        source: where the cosines are from, in words.
    """

    prompt: str
    pairs: tuple[tuple[str, str, float], ...]
    source: str


@dataclass(frozen=True)
class FingerprintRow:
    """One cosine, kept and found.

    Attributes:
        first: a name.
        second: another name.
        expected: cosine between their sentences, as kept.
        found: the same, of the model that was asked.
    """

    first: str
    second: str
    expected: float
    found: float

    @property
    def difference(self) -> float:
        """Found minus expected."""
        return self.found - self.expected


@dataclass(frozen=True)
class SelfCheck:
    """What the comparison with the fingerprints gave.

    Attributes:
        rows: the cosines, with the prompt that fits best.
        prompt: that prompt.
        largest: prompt to the largest difference without its sign, for all prompts tried.
        correlation: of expected and found cosines, with the best prompt.
        verdict: ``agree``; ``activation`` (they would, with the other activation); ``question``
            (like OpenAI's, not equal); ``other`` (not OpenAI's).
    """

    rows: tuple[FingerprintRow, ...]
    prompt: str
    largest: Mapping[str, float]
    correlation: float
    verdict: str

    @property
    def agrees(self) -> bool:
        """True if the weights are OpenAI's, as far as the fingerprints reach."""
        return self.verdict == "agree"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        largest = self.largest[self.prompt]
        facts = (
            f"(largest difference {largest:.4f} with the prompt {self.prompt!r}, correlation "
            f"{self.correlation:.2f})"
        )
        return {
            "agree": f"These are OpenAI's weights, as far as the text tower tells {facts}.",
            "activation": "These are OpenAI's weights under the wrong activation: with the other "
            f"one they agree {facts}. Load them with QuickGELU.",
            "question": "A question: the cosines go up and down with those of OpenAI's weights, "
            f"but they are not equal {facts}. The prompt behind the fingerprints could not be "
            "confirmed. So either it was none of those tried, or these are other weights that "
            "know the same words, as LAION's.",
            "other": "These are not OpenAI's weights: they are random, of another model, or "
            f"damaged {facts}.",
        }[self.verdict]

    def __str__(self) -> str:
        lines = [f"{'pair':<22} {'expected':>9} {'found':>9} {'difference':>11}"]
        for row in self.rows:
            pair = f"{row.first}, {row.second}"
            lines.append(f"{pair:<22} {row.expected:9.4f} {row.found:9.4f} {row.difference:+11.4f}")
        lines.append("")
        for prompt, largest in sorted(self.largest.items(), key=lambda item: item[1]):
            lines.append(f"largest difference {largest:.4f} with the prompt {prompt!r}")
        return "\n".join([*lines, self.sentence])


def make_fingerprints(path: str | os.PathLike) -> dict:
    """The kept cosines, from text features of all 80 classes of COCO.

    Args:
        path: ``.npy`` with ``(80, 512)`` features of OpenAI's ViT-B/32 in the order of COCO's
            classes, normalized or not.

    Returns:
        What `FINGERPRINTS` holds.

    Raises:
        ClipError: if the file is not that.
    """
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    path = Path(path)
    try:
        features = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise ClipError(
            f"{path}: no array of numbers ({_first_line(error)}); expected a .npy file of "
            "(80, 512) text features"
        ) from error
    if features.shape != (80, 512) or not np.isfinite(features).all():
        kind = "finite" if np.isfinite(features).all() else "with NaN or infinity"
        raise ClipError(
            f"{path}: found shape {features.shape}, {kind}; expected (80, 512) finite text "
            "features, one row for each class of COCO in COCO's order"
        )
    listed = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    places = {n: i for i, n in enumerate(n for n in listed if n not in ("__background__", "N/A"))}
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return {
        "model": "OpenAI's CLIP ViT-B/32, text tower",
        "source": "published text features of the 80 class names of COCO, (80, 512) float16, as a "
        "large open-vocabulary detector ships them; their exact prompt could not be confirmed",
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "made_by": f"python -m ldf_utils.clip_space fingerprint {path.name}",
        "prompt": _PROMPT,
        "pairs": [
            {"first": a, "second": b, "cosine": round(float(unit[places[a]] @ unit[places[b]]), 5)}
            for a, b in _PAIRS
        ],
    }


def read_fingerprints(path: str | os.PathLike | None = None) -> Fingerprints:
    """The kept cosines of OpenAI's text tower.

    Args:
        path: by default `FINGERPRINTS`.

    Raises:
        ClipError: if the file is not as `make_fingerprints` makes it.
    """
    path = Path(path or FINGERPRINTS)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        pairs = tuple((p["first"], p["second"], float(p["cosine"])) for p in kept["pairs"])
        return Fingerprints(kept["prompt"], pairs, kept["source"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClipError(
            f"{path}: no fingerprints ({type(error).__name__}: {_first_line(error)}); expected "
            "what `python -m ldf_utils.clip_space fingerprint FILE.npy` writes"
        ) from error


def _compare(clip: ClipSpace, kept: Fingerprints, prompt: str) -> tuple[FingerprintRow, ...]:
    names = list(dict.fromkeys(name for first, second, _ in kept.pairs for name in (first, second)))
    vectors = clip.encode_text([prompt.format(name=name) for name in names]).cpu().double()
    of = dict(zip(names, F.normalize(vectors, dim=-1), strict=True))
    return tuple(FingerprintRow(a, b, cosine, float(of[a] @ of[b])) for a, b, cosine in kept.pairs)


def _largest(rows: Iterable[FingerprintRow]) -> float:
    return max(abs(row.difference) for row in rows)


def selfcheck(clip: ClipSpace, fingerprints: str | os.PathLike | None = None) -> SelfCheck:
    """Compare a model with the kept cosines of OpenAI's text tower.

    Says nothing of the image tower, of which no published numbers are at hand.

    Args:
        clip: the model; one that knows ordinary English.
        fingerprints: by default those that come with the project.

    Returns:
        The cosines, the prompt that fits best, and a verdict.

    Raises:
        ClipError: for the embedded model, which knows none of the names.
    """
    kept = read_fingerprints(fingerprints)
    if clip.words is not None:
        raise ClipError(
            f"{clip.name}: this is the embedded model, which knows {len(clip.words)} words and "
            "not those of the fingerprints. There is nothing to compare; give OpenAI's weights"
        )
    tried = {p: _compare(clip, kept, p) for p in dict.fromkeys((kept.prompt, *_PROMPTS))}
    largest = {prompt: _largest(rows) for prompt, rows in tried.items()}
    prompt = min(largest, key=largest.get)
    rows, here = tried[prompt], largest[prompt]
    columns = np.array([(row.expected, row.found) for row in rows]).T
    correlation = float(np.corrcoef(columns)[0, 1]) if columns[1].std() > 1e-6 else 0.0
    there = float("inf")
    if _has_the_towers_of_openai(clip):
        with _other_activation(clip.model):
            there = _largest(_compare(clip, kept, prompt))
    if there <= AGREE and 3 * there < here:
        verdict = "activation"
    elif here <= AGREE:
        verdict = "agree"
    else:
        verdict = "question" if correlation >= ALIKE else "other"
    return SelfCheck(rows, prompt, largest, correlation, verdict)


# --- is there a network? --------------------------------------------------------------------------


def _why_not_openai(timeout: float = 3.0) -> str | None:
    """None where OpenAI's weights are cached or within reach, else the reason in words."""
    import huggingface_hub
    from huggingface_hub import constants

    for file in _HUB_FILES:
        if isinstance(huggingface_hub.try_to_load_from_cache(_hub_repository(), file), str):
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


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: selfcheck, fingerprint.

    Returns:
        For ``selfcheck`` 0 if the weights are OpenAI's, 1 if they are not or it is a question, 2
        if there are none to ask.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.clip_space",
        description="Ask whether CLIP weights are OpenAI's.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser(
        "selfcheck",
        help="compare weights with the kept cosines",
        description="Compare weights with the kept cosines. Exit code 0: they are OpenAI's; 1: "
        "they are not, or it is a question; 2: there are no such weights to ask.",
    )
    asking.add_argument("--clip", default="openai", help="openai (default), or a file or folder")
    making = commands.add_parser("fingerprint", help="make the kept cosines from text features")
    making.add_argument("features", help=".npy, (80, 512): the classes of COCO in their order")
    making.add_argument("--output", default=str(FINGERPRINTS), help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        if args.command == "fingerprint":
            print(f"cosines in {write_json(args.output, make_fingerprints(args.features))}")
            return 0
        return _selfcheck_command(args.clip)
    except (ClipError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _selfcheck_command(name: str) -> int:
    nothing = "Nothing was compared: OpenAI's weights are not at hand."
    reason = _why_not_openai() if name == "openai" else None
    if reason:
        print(f"{nothing} Reason: {reason}. A file that you have: selfcheck --clip PATH")
        return 2
    try:
        clip = load_clip(name)
    except WeightsNotFound as error:
        print(f"{nothing} Reason: {error}")
        return 2
    if clip.stands_in:
        print(f"{nothing} {clip.name} is the embedded model that stands in for them.")
        return 2
    print(f"{clip.name}: cosines between sentences, kept with the project and found\n")
    result = selfcheck(clip)
    print(result)
    return 0 if result.agrees else 1


if __name__ == "__main__":
    raise SystemExit(main())
