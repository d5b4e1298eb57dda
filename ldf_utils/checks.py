"""Checks: friendly verdicts on the exercises, and what a notebook says of itself.

An exercise check is a generator of hints under the decorator `exercise`: the first hint is shown,
nothing else; without a hint the exercise is solved. No check stops a notebook, so that a notebook
whose exercises are still open runs to its end.

    @exercise("Cosine of two embeddings")
    def check_cosine(answer, first, second):
        yield expect_shape("the answer", answer, ())
        yield expect_close("the answer", answer, (first * second).sum())
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import os
import platform
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ldf_utils.files import write_json

METRICS_FILE = "metrics.json"


# ------------------------------------------------------------------ verdicts


@dataclass(frozen=True)
class Verdict:
    """What a check found; true if the exercise is solved.

    Attributes:
        exercise: the name of the exercise.
        hint: what to look at next, or None if all is well.
    """

    exercise: str
    hint: str | None = None

    def __bool__(self) -> bool:
        return self.hint is None

    def __str__(self) -> str:
        if self.hint is None:
            return f"Well done: {self.exercise}."
        return f"Not yet: {self.exercise}.\n" + textwrap.indent(self.hint, "  ")

    def _ipython_display_(self) -> None:
        """Nothing: the check has printed the verdict, also where it is not a cell's last line."""


def exercise(name: str) -> Callable[[Callable[..., Iterator[str | None]]], Callable[..., Verdict]]:
    """Make a check of an exercise out of a generator of hints.

    The check prints its verdict and returns it. It asks the generator for hints until one is not
    None. A first argument that is still ``...`` or None means that the exercise is open. An
    exception (most often from the learner's function) becomes a hint as well.

    Args:
        name: the exercise, as a noun phrase without a full stop.

    Returns:
        A decorator for a generator function that yields a hint, or None, per requirement.
    """

    def decorate(hints: Callable[..., Iterator[str | None]]) -> Callable[..., Verdict]:
        @functools.wraps(hints)
        def checked(answer: Any, *args: Any, **kwargs: Any) -> Verdict:
            if answer is ... or answer is None:
                hint = "put your answer in place of the three dots and run the cell again"
            else:
                hint = _first_hint(hints, answer, *args, **kwargs)
            verdict = Verdict(name, hint)
            print(verdict)
            return verdict

        return checked

    return decorate


def _first_hint(hints: Callable[..., Iterator[str | None]], *args: Any, **kwargs: Any):
    try:
        return next((hint for hint in hints(*args, **kwargs) if hint), None)
    except Exception as error:
        return (
            f"running it raised {type(error).__name__}: {error}\n"
            "call it yourself in a cell of its own to see where"
        )


def expect(condition: bool, hint: str) -> str | None:
    """The hint, unless the condition holds."""
    return None if bool(condition) else hint


def expect_shape(what: str, found: Any, shape: tuple[int, ...]) -> str | None:
    """A hint, unless `found` is a tensor (or number, for ``()``) of this shape."""
    if not isinstance(found, (torch.Tensor, int, float)):
        return f"{what} is a {type(found).__name__}; expected a tensor of shape {shape}"
    if tuple(torch.as_tensor(found).shape) != tuple(shape):
        return f"{what} has shape {tuple(torch.as_tensor(found).shape)}; expected {tuple(shape)}"
    return None


def expect_close(
    what: str, found: Any, expected: Any, tolerance: float = 1e-4, hint: str = ""
) -> str | None:
    """A hint, unless all numbers agree.

    Args:
        what: how to call the value in the hint.
        found: a number or a tensor.
        expected: a number or a tensor.
        tolerance: the largest absolute difference that passes.
        hint: what to think about when the numbers differ.
    """
    expected = torch.as_tensor(expected).detach().double()
    wrong_shape = expect_shape(what, found, tuple(expected.shape))
    if wrong_shape:
        return wrong_shape
    found = torch.as_tensor(found).detach().double()
    difference = (found - expected).abs()
    if not difference.isfinite().all():
        return f"{what} holds a number that is not finite" + (f"; {hint}" if hint else "")
    if difference.numel() and difference.max() > tolerance:
        at = int(difference.argmax())
        return (
            f"{what}: found {found.flatten()[at]:.5g}, expected {expected.flatten()[at]:.5g}"
            + (f" (at the largest difference, element {at})" if found.ndim else "")
            + (f"; {hint}" if hint else "")
        )
    return None


def expect_between(what: str, found: Any, low: float, high: float, hint: str = "") -> str | None:
    """A hint, unless the number lies in [low, high]."""
    number = float(found)
    if not low <= number <= high:
        return f"{what} is {number:.4g}; expected {low:g} to {high:g}" + (
            f"; {hint}" if hint else ""
        )
    return None


# ------------------------------------------------- what a notebook says of itself


def run_dir() -> Path:
    """The folder for what a run leaves behind; it is made if it is missing.

    ``LDF_RUN_DIR`` if that is set, else ``runs/tutorial`` in the checkout around the working
    directory, else ``runs/tutorial`` in the working directory.
    """
    named = os.environ.get("LDF_RUN_DIR")
    here = Path.cwd()
    if named:
        folder = Path(named)
    else:
        checkouts = [
            p for p in (here, *here.parents) if (p / "pyproject.toml").is_file() and
            (p / "ldf_utils").is_dir()
        ]  # fmt: skip
        folder = (checkouts[0] if checkouts else here) / "runs" / "tutorial"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def short_path(path: str | os.PathLike) -> str:
    """A path fit for a published notebook: from the run folder on, or its last two parts.

    Examples:
        ``fused/RoadScene/a.png`` for a file in the run folder; ``data/RoadScene`` elsewhere.
    """
    path = Path(path).resolve()
    base = run_dir().resolve()
    if path.is_relative_to(base):
        return path.relative_to(base).as_posix()
    return Path(*path.parts[-2:]).as_posix().lstrip("/")


def environment() -> dict[str, str]:
    """What the numbers of a run depend on: versions, threads, accelerator, data, CLIP."""

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    if torch.cuda.is_available():
        accelerator = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        accelerator = "Apple MPS"
    else:
        accelerator = "none (CPU)"
    data = os.environ.get("LDF_DATA_DIR")
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "open_clip": version("open_clip_torch"),
        "threads": str(torch.get_num_threads()),
        "accelerator": accelerator,
        "pairs": f"folder {Path(data).name!r} (LDF_DATA_DIR)" if data else "generated",
        "CLIP": f"LDF_CLIP={os.environ.get('LDF_CLIP', 'auto')}",
    }


def environment_report() -> None:
    """Print `environment` in two short lines."""
    parts = [f"{name} {value}" for name, value in environment().items()]
    print(", ".join(parts[:4]) + "\n" + ", ".join(parts[4:]))


def read_metrics(folder: str | os.PathLike | None = None) -> dict[str, dict[str, Any]]:
    """What the notebooks of a run have recorded, notebook name to record.

    Args:
        folder: the run folder; by default `run_dir`.

    Raises:
        ValueError: if the file is there but is no JSON object.
    """
    path = Path(folder or run_dir()) / METRICS_FILE
    if not path.is_file():
        return {}
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: no JSON ({error}); remove the file and run again") from error
    if not isinstance(records, dict):
        raise ValueError(f"{path}: expected an object; remove the file and run again")
    return records


def update_metrics(folder: str | os.PathLike, notebook: str, **entries: Any) -> None:
    """Set entries of one notebook's record in ``metrics.json``, atomically.

    Args:
        folder: the run folder.
        notebook: the stem of the notebook, "04_training".
        **entries: what to set; an entry that is None is removed.
    """
    records = read_metrics(folder)
    record = {**records.get(notebook, {}), **entries}
    records[notebook] = {key: value for key, value in record.items() if value is not None}
    write_json(Path(folder) / METRICS_FILE, dict(sorted(records.items())))


def _plain(name: str, value: Any) -> Any:
    """A value as JSON has it; numbers must be finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, (str, bool, int)):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metric {name!r}: expected a number, a text or names to numbers, found "
            f"{type(value).__name__}"
        ) from error
    if not math.isfinite(number):
        raise ValueError(f"metric {name!r} is {number}; a run that computes this has gone wrong")
    return round(number, 6)


def record_metrics(notebook: str, **numbers: Any) -> None:
    """Record a notebook's numbers in ``metrics.json`` of the run folder, and print them.

    The last cell of every notebook calls this; the tests assert the ranges of the numbers.

    Args:
        notebook: the stem of the notebook, "04_training".
        **numbers: name to number (Python, numpy, or a tensor of one element), text, or a mapping
            of names to numbers.

    Raises:
        ValueError: if nothing is given, or a value is not finite or no number.
    """
    if not numbers:
        raise ValueError(f"{notebook}: expected at least one number to record")
    metrics = {name: _plain(name, value) for name, value in numbers.items()}
    update_metrics(run_dir(), notebook, metrics=metrics)
    print(f"{METRICS_FILE}, {notebook}:")
    for name, value in metrics.items():
        print(f"  {name}: {_written(value)}")


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_written(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
