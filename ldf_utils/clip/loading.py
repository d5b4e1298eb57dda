"""Loading CLIP: the one place where a name, a folder or a file becomes a model.

Two models serve the same interface (`ldf_utils.clip.model.ClipSpace`):

* ``openai``: ViT-B/32 with the weights of Radford et al., "Learning Transferable Visual Models
  From Natural Language Supervision", arXiv:2103.00020, as the method prescribes. About 600 MB,
  from a hub; its SHA-256 is pinned and compared.
* ``mini``: the small model that ships with this repository, trained by
  ``python -m experiments.embedded_clip`` on rendered worlds and a few real clips. It knows a few
  dozen attributes of infrared, visible and fused images and no more. It stands in where there is no
  network, and says so.

Both are open_clip models, filled strictly, frozen, in evaluation mode and in float32.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import open_clip
import torch
from torch import nn

from ldf_utils.clip.model import BANNER, ClipError, ClipSpace, WeightsNotFound
from ldf_utils.clip.tokenizer import CONFIG, VOCABULARY, CompactTokenizer
from ldf_utils.data.state_dict import (
    WeightsError,
    check_state,
    first_line,
    named_tensors,
    read_weights,
)

OPENAI_MODEL, OPENAI_WEIGHTS = "ViT-B-32-quickgelu", "openai"
OPENAI_SHA256 = "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31"
"""Of ``open_clip_model.safetensors``, as in the registry of ``data_download``."""

MINI_FOLDER = Path(__file__).parent.parent / "weights" / "mini_clip"
FOLDER_PREFIX = "local-dir:"

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_WEIGHT_ENDINGS = (".safetensors", ".bin", ".pth", ".pt")


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
        print(BANNER.format(words=len(clip.words or ())), f"(Reason: {reason})", flush=True)
        return clip
    if name == "openai":
        return _load_openai(_fetch_openai()).to(device)
    path = MINI_FOLDER if name == "mini" else Path(name.removeprefix(FOLDER_PREFIX))
    if not path.exists() or (name.startswith(FOLDER_PREFIX) and not path.is_dir()):
        known = "'auto', 'openai', 'mini', or the path of a folder or a file of weights"
        what = "folder" if name.startswith(FOLDER_PREFIX) else "file or folder, and no known name"
        raise WeightsNotFound(f"{name}: no such {what}; expected {known}")
    clip = _load_folder(path) if path.is_dir() else _load_file(path, path.name)
    return clip.to(device)


def _load_openai(path: Path) -> ClipSpace:
    """Load the hub's file, compared with the pinned SHA-256 where it has the pinned form."""
    if path.suffix == ".safetensors" and (found := _sha256(path)) != OPENAI_SHA256:
        raise ClipError(
            f"{path}: the SHA-256 is {found}, expected {OPENAI_SHA256}; this is not the published "
            f"file of OpenAI's weights. Delete it and load again. {_FETCH_AGAIN}"
        )
    return _load_file(path, "openai")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_file(path: Path, name: str) -> ClipSpace:
    """Load a file of ViT-B/32 weights in OpenAI's configuration."""
    model = _fill(OPENAI_MODEL, path, f"OpenAI's ViT-B/32 ({OPENAI_MODEL} in open_clip)")
    return ClipSpace(model, open_clip.get_tokenizer(OPENAI_MODEL), name)


def _load_folder(folder: Path) -> ClipSpace:
    """Load an open_clip folder; with a vocabulary beside the weights it is the embedded model."""
    config = _read_config(folder)
    weights = _weights_in(folder)
    _refuse_a_known_name_with_another_activation(folder, config)
    _refuse_openai_weights_with_gelu(folder, config, weights)
    model = _fill(f"{FOLDER_PREFIX}{folder}", weights, f"the model of {folder / CONFIG}")
    if (folder / VOCABULARY).is_file():
        tokenize = CompactTokenizer.from_folder(folder)
        return ClipSpace(model, tokenize, "mini", stands_in=True, words=tokenize.words)
    return ClipSpace(model, open_clip.get_tokenizer(f"{FOLDER_PREFIX}{folder}"), folder.name)


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
    """Find the one file of weights in a folder; those with open_clip's own names come first."""
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
    """Return the file of OpenAI's weights in the hub's cache; fetched first if it is not there."""
    try:
        config = open_clip.get_pretrained_cfg(OPENAI_MODEL, OPENAI_WEIGHTS)
        return Path(open_clip.download_pretrained(config))
    except Exception as error:  # the hub raises many kinds; every one means: no weights
        raise WeightsNotFound(
            f"openai: the weights are not in the cache and could not be fetched "
            f"({type(error).__name__}: {first_line(error)}). Expected {_HUB_FILES[0]} of "
            f"{_hub_repository()} on the hub. Check the network, or give the path of a file that "
            "you have; load_clip('mini') needs neither"
        ) from error


# --- filling the model ---


_FETCH_AGAIN = f"OpenAI's ViT-B/32 is {_HUB_FILES[0]} of {_hub_repository()}"
_OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")


def _fill(model_name: str, path: Path, expected_by: str) -> nn.Module:
    """Make an open_clip model and fill it from a file; names and shapes must all agree."""
    try:
        state = named_tensors(read_weights(path), path)
        model = _create(model_name, expected_by)
        expected = model.state_dict()
        for name in _OPENAI_SCALARS:  # three numbers that come with OpenAI's archive
            if name in state and state[name].numel() == 1:
                del state[name]
        for name, tensor in state.items():  # a scalar may be stored as one number in a list
            if name in expected and tensor.numel() == expected[name].numel() == 1:
                state[name] = tensor.reshape(expected[name].shape)
        check_state(state, expected, path, expected_by)
    except WeightsError as error:
        raise ClipError(f"{error}. {_FETCH_AGAIN}") from error
    model.load_state_dict(state, strict=True)
    return model


def _create(model_name: str, expected_by: str) -> nn.Module:
    """Create a model of open_clip with the random weights that it starts with, to be filled."""

    def of_others(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname  # which warns that it has read no weights

    logger = logging.getLogger()
    logger.addFilter(of_others)
    try:
        model = open_clip.create_model(model_name, load_weights=False, precision="fp32")
    except Exception as error:  # open_clip raises many kinds; every one means: no such model
        raise ClipError(
            f"{expected_by} could not be made ({type(error).__name__}: {first_line(error)}); "
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


# --- the activation -------------------------------------------------------------------------------


def _refuse_a_known_name_with_another_activation(folder: Path, config: Mapping) -> None:
    """Check that a folder named as a model documented by open_clip has its activation."""
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


def _refuse_openai_weights_with_gelu(folder: Path, config: Mapping, weights: Path) -> None:
    """OpenAI's weights under GELU, whatever the folder is called: told by their SHA-256."""
    if not config.get("quick_gelu", False) and _sha256(weights) == OPENAI_SHA256:
        reason = "its weights are OpenAI's (by their SHA-256), trained with"
        raise ClipError(_wrong_activation(folder, False, reason))


# --- is there a network? ---


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

    def knock() -> None:
        try:
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname or "", port), timeout).close()
            reached.set()
        except OSError:
            pass

    thread = threading.Thread(target=knock, daemon=True)  # a name lookup may hang for minutes
    thread.start()
    thread.join(timeout)
    return None if reached.is_set() else f"no connection to {address.hostname}"
