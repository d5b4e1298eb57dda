"""Files: writes that are either complete or absent."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; move it to ``path`` if all went well.

    A reader of ``path`` sees the old file or the whole new one, never a part: the temporary file
    lies in the same folder, is flushed to the disk, and takes the name by ``os.replace``. On an
    exception the temporary file is removed and ``path`` is as it was. Missing folders are made.
    The temporary name ends like ``path``, so that writers that choose a format by the ending work.

    Args:
        path: where the file is to be in the end.

    Yields:
        The temporary path to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write ``text`` as UTF-8 to ``path``, atomically, and return the path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write ``value`` as indented JSON to ``path``, atomically, and return the path.

    Raises:
        ValueError: if ``value`` holds a NaN or an infinity, which JSON does not have.
    """
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_rows(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as a CSV table to ``path``, atomically, and return the path.

    Args:
        path: the file.
        rows: at least one row; the columns are the keys of the first, in their order.

    Raises:
        ValueError: if there is no row, or a row has a key that the first has not.
    """
    if not rows:
        raise ValueError(f"{path}: there is no row to write")
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)
