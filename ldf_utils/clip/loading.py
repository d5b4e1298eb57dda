"""CLIP space: one place where sentences and pictures become vectors that can be compared.

Two models serve the same interface:

* ``openai``: ViT-B/32 with the weights of Radford et al., "Learning Transferable Visual Models
  From Natural Language Supervision", arXiv:2103.00020, as the method prescribes. About 600 MB,
  from a hub.
* ``mini``: the small model that ships with this repository (see
`experiments.embedded_clip.training`), trained on
  `ldf_utils.data.scenes` alone. It knows a few dozen attributes of infrared, visible and fused
  pictures and no more. It stands in where there is no network, and says so.

Both are open_clip models, filled strictly by one loader (`load_clip`), frozen, in evaluation mode
and in float32. Whether a file holds OpenAI's weights is asked of the weights themselves: a few
cosines between sentences are kept with the project, and `selfcheck` compares.

    python -m ldf_utils.clip selfcheck                # OpenAI's weights, as far as at hand
    python -m ldf_utils.clip selfcheck --clip PATH    # a file or a folder
    python -m ldf_utils.clip fingerprint FILE.npy     # makes the kept cosines again
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file
from torch import nn

from ldf_utils.clip.model import BANNER, ClipError, ClipSpace, WeightsNotFound
from ldf_utils.clip.tokenizer import CONFIG, VOCABULARY, CompactTokenizer

OPENAI_MODEL, OPENAI_WEIGHTS = "ViT-B-32-quickgelu", "openai"
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
        from ldf_utils.clip.fingerprints import _why_not_openai

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
    from ldf_utils.clip.fingerprints import _PROMPTS, AGREE, _compare, _largest, read_fingerprints

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


"""Largest difference of a cosine at which weights count as OpenAI's: room for float16, no more."""
"""Correlation of the cosines from which on a disagreement is a question and not a refusal.

Both limits are chosen and not measured: where they were set, there were no real weights.
"""
