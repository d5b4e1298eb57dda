"""State dicts: read from a file of any of the usual forms, and compared with what a network
needs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


class WeightsError(ValueError):
    """A weights file is missing, damaged or of another network; the text says what to do."""


def read_weights(path: str | os.PathLike) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file; check the path")
    with open(path, "rb") as file:
        start = file.read(512).lstrip()
    size = path.stat().st_size
    if start.startswith((b"<", b"version https://git-lfs")):
        kind = "a web page" if start.startswith(b"<") else "a Git LFS pointer"
        raise WeightsError(
            f"{path}: this is {kind} ({size} bytes), not a weights file; delete it and fetch the "
            "file itself (`python -m data_download list` shows what can be fetched)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
        raise WeightsError(
            f"{path}: the weights file is damaged, cut off or no weights file ({size} bytes: "
            f"{reason}); fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: found a {type(content).__name__}, expected a dictionary of tensors; this is "
            "no weights file of a network known here"
        )
    return content


def check_state(
    module: nn.Module, state: Mapping[str, Any], path: str | os.PathLike, what: str
) -> None:
    """Every tensor of the module, none besides, all of the right shape; or one error with all."""
    expected = module.state_dict()
    shapes = {
        name: tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        for name, value in state.items()
    }
    problems = [
        f"missing: {name} {tuple(t.shape)}" for name, t in expected.items() if name not in shapes
    ]
    problems += [f"extra: {name} {shape}" for name, shape in shapes.items() if name not in expected]
    problems += [
        f"shape: {name} is {shapes[name]}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    if problems:
        more = [f"and {len(problems) - 8} more"] if len(problems) > 8 else []
        raise WeightsError(
            f"{path}: these tensors are not those of {what} ({len(problems)} differences):\n  "
            + "\n  ".join(problems[:8] + more)
            + "\ncheck that the file belongs to this network"
        )
