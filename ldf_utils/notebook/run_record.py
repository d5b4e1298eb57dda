"""What a run of a notebook records: its environment and its metrics."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from ldf_utils.data.files import run_dir, write_json

METRICS_FILE = "metrics.json"


def short_path(path: str | os.PathLike) -> str:
    """Shorten a path for a published notebook: relative to the run folder, or its last two parts.

    Examples:
        ``fused/RoadScene/a.png`` for a file in the run folder; ``data/RoadScene`` elsewhere.
    """
    path = Path(path).resolve()
    base = run_dir().resolve()
    if path.is_relative_to(base):
        return path.relative_to(base).as_posix()
    return Path(*path.parts[-2:]).as_posix().lstrip("/")


def release_memory() -> None:
    """Return freed memory to the system, on Linux.

    Its C library keeps small freed blocks; after many images of many sizes they can exceed the
    memory in use. On other systems this does nothing.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)


def environment() -> dict[str, str]:
    """Return what the numbers of a run depend on: versions, threads, accelerator, data, CLIP."""
    import torch  # here, so that what runs notebooks does not load it

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
        "pairs": f"folder {Path(data).name!r} (LDF_DATA_DIR)" if data else "rendered",
        "CLIP": f"LDF_CLIP={os.environ.get('LDF_CLIP', 'auto')}",
    }


def environment_report() -> None:
    """Print `environment` in two short lines."""
    parts = [f"{name} {value}" for name, value in environment().items()]
    print(", ".join(parts[:4]) + "\n" + ", ".join(parts[4:]))


def read_metrics(folder: str | os.PathLike | None = None) -> dict[str, dict[str, Any]]:
    """Read what the notebooks of a run have recorded, notebook name to record.

    Args:
        folder: the run folder; by default `run_dir`.

    Raises:
        ValueError: if the file exists but is not a JSON object.
    """
    path = Path(folder or run_dir()) / METRICS_FILE
    if not path.is_file():
        return {}
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} must be JSON ({error}); remove the file and rerun") from error
    if not isinstance(records, dict):
        raise ValueError(f"{path} must be a JSON object; remove the file and rerun")
    return records


def update_metrics(folder: str | os.PathLike, notebook: str, **entries: Any) -> None:
    """Set entries of one notebook's record in ``metrics.json``, atomically.

    Notebooks that run side by side wait for each other: a lock lies beside the file.

    Args:
        folder: the run folder.
        notebook: the stem of the notebook, "04_training".
        **entries: what to set; an entry that is None is removed.
    """
    path = Path(folder) / METRICS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{METRICS_FILE}.lock")):
        records = read_metrics(folder)
        record = {**records.get(notebook, {}), **entries}
        records[notebook] = {key: value for key, value in record.items() if value is not None}
        write_json(path, dict(sorted(records.items())))


def _plain(name: str, value: Any) -> Any:
    """Return a value as JSON stores it; numbers must be finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, (str, bool, int)):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metric {name!r} must be a number, a text or a mapping of names to them, got "
            f"{type(value).__name__}"
        ) from error
    if not math.isfinite(number):
        raise ValueError(f"metric {name!r} is {number}; it must be finite")
    return round(number, 6)


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_written(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def record_metrics(notebook: str, **numbers: Any) -> None:
    """Record a notebook's numbers in ``metrics.json`` of the run folder, and print them.

    The last cell of every notebook calls this; the tests assert the ranges of the numbers.

    Args:
        notebook: the stem of the notebook, "04_training".
        **numbers: name to number (Python, numpy, or a tensor of one element), text, or a mapping
            of names to numbers.

    Raises:
        ValueError: if nothing is given, or a value is neither text nor a finite number.
    """
    if not numbers:
        raise ValueError(f"{notebook}: there must be at least one number to record")
    metrics = {name: _plain(name, value) for name, value in numbers.items()}
    update_metrics(run_dir(), notebook, metrics=metrics)
    print(f"{METRICS_FILE}, {notebook}:")
    for name, value in metrics.items():
        print(f"  {name}: {_written(value)}")
