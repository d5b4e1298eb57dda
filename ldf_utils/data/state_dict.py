"""State dicts: read from any of the usual forms, and compared with what a model needs.

One reader and one comparison for the fusion networks and for CLIP. What a file holds is told by its
first bytes, not by its name; tensors are only ever read as data (``weights_only``), never executed.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ldf_utils.data.files import web_page_or_pointer


class WeightsError(ValueError):
    """A weights file is missing, damaged or of another model; the text says what to do."""


def read_weights(path: str | os.PathLike) -> Any:
    """Read what a weights file holds.

    Forms: safetensors, ``torch.save`` (new and old), and a TorchScript archive, of which the state
    dict is taken.

    Args:
        path: the file.

    Returns:
        What was saved: by custom a mapping of names to tensors, or one that holds such a mapping.

    Raises:
        WeightsError: if there is no such file, it is cut short, or it is something else.

    Example:
        >>> read_weights("network.pt")["format"]  # doctest: +SKIP
        'ldf_utils.networks/1'
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file; check the path")
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except PermissionError as error:
        raise WeightsError(f"{path}: permission denied; make the file readable") from error
    read = _reader(path, start, size)
    try:
        return read(path)
    except WeightsError:
        raise
    except Exception as error:  # the readers raise many kinds; every one means: no weights
        raise WeightsError(
            f"{path}: the weights could not be read ({type(error).__name__}: {first_line(error)}): "
            f"the file ({size} bytes) is damaged, cut short or holds more than tensors; expected "
            "names and tensors. Fetch the file again"
        ) from error


def _reader(path: Path, start: bytes, size: int) -> Callable[[Path], Any]:
    """Return the function that reads this kind of file."""
    if size == 0:
        raise WeightsError(f"{path}: the file is empty; expected weights. Fetch the file again")
    if kind := web_page_or_pointer(start):
        raise WeightsError(
            f"{path}: this is {kind} ({size} bytes), not weights. Delete it and fetch the file "
            "itself (`python -m data_download list` shows what can be fetched)"
        )
    if start[8:9] == b"{":
        _refuse_a_cut_safetensors_file(path, size)
        return load_file
    if start.startswith(b"PK"):
        return _read_archive
    if start.startswith(b"\x80"):  # how torch wrote before 2020
        return _read_pickle
    raise WeightsError(
        f"{path}: neither a safetensors file nor one of torch ({size} bytes, beginning with "
        f"{start[:12]!r}); expected weights. Fetch the file again"
    )


def first_line(error: BaseException, most: int = 200) -> str:
    """Return the first line of an error's text, cut to a length that fits into another message."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if len(line) <= most else line[:most] + " ..."


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
        raise WeightsError(
            f"{path}: the file is cut short: {size} bytes, and its header asks for {whole} or "
            "more. Fetch the file again"
        )


def _read_archive(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path}: the file is cut short ({path.stat().st_size} bytes): it begins like a file "
            "of torch, and the list of contents at its end is missing. Fetch the file again"
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):  # TorchScript, OpenAI's own form
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is an old form
            return torch.jit.load(str(path), map_location="cpu").state_dict()
    return _read_pickle(path)


def _read_pickle(path: Path) -> Any:
    with open(path, "rb") as file:  # given the path, torch would judge by its ending
        return torch.load(file, map_location="cpu", weights_only=True)


def named_tensors(held: Any, path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Unwrap a state dict: plain, under ``state_dict``, or with the prefix of several devices.

    Args:
        held: what `read_weights` gave.
        path: for the message.

    Returns:
        Names and tensors.

    Raises:
        WeightsError: if it holds anything else.
    """
    if isinstance(held, Mapping) and isinstance(held.get("state_dict"), Mapping):
        held = held["state_dict"]
    if not isinstance(held, Mapping) or not all(torch.is_tensor(v) for v in held.values()):
        found = type(held).__name__
        if isinstance(held, Mapping):
            found = f"entries {', '.join(map(repr, list(held)[:5]))}"
        raise WeightsError(
            f"{path}: found {found}; expected names and tensors, plain or under 'state_dict'. "
            "These are not the weights of this model; give the path of a file that is"
        )
    if held and all(name.startswith("module.") for name in held):  # trained on several devices
        held = {name.removeprefix("module."): tensor for name, tensor in held.items()}
    return dict(held)


def check_state(
    state: Mapping[str, Any],
    expected: Mapping[str, torch.Tensor],
    path: str | os.PathLike,
    what: str,
) -> None:
    """Compare a state dict with the one that a model needs.

    Args:
        state: names and tensors, as read.
        expected: ``state_dict()`` of the model.
        path: of the file, for the message.
        what: the model, in words.

    Raises:
        WeightsError: with all differences: missing and surplus tensors, other shapes, whole
            numbers in place of floating point, and values that are NaN or infinite.
    """
    tensors = {name: t for name, t in state.items() if isinstance(t, torch.Tensor)}
    missing = [f"{name} {tuple(t.shape)}" for name, t in expected.items() if name not in tensors]
    surplus = [
        f"{name} {tuple(value.shape) if name in tensors else type(value).__name__}"
        for name, value in state.items()
        if name not in expected
    ]
    shared = {name: tensor for name, tensor in tensors.items() if name in expected}
    misshapen = [
        f"{name} is {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in shared.items()
        if tensor.shape != expected[name].shape
    ]
    unlike = [
        f"{name} holds {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in shared.items()
        if tensor.is_floating_point() != expected[name].is_floating_point()
    ]
    broken = [
        name
        for name, tensor in shared.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, kind in (
            (missing, "missing"),
            (surplus, "not expected"),
            (misshapen, "of another shape"),
            (unlike, "of another kind of number"),
            (broken, "with NaN or infinite values"),
        )
        if names
    ]
    if not faults:
        return
    advice = "Give a file of that model, whole and unchanged"
    if any(name.startswith(("text_model.", "vision_model.")) for name in state):
        advice = "This is the layout of the transformers library; give a file of open_clip"
    elif len(missing) == len(expected):
        advice = "These are the weights of something else; give a file of that model"
    elif len(faults) == 1 and broken:
        advice = "The training diverged, or the file is damaged; use an earlier checkpoint"
    raise WeightsError(
        f"{path}: the weights do not fit. Found {len(state)} tensors, expected the "
        f"{len(expected)} of {what}: {'; '.join(faults)}. {advice}"
    )
