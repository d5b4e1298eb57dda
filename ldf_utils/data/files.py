"""Files: writes that are either complete or absent, and pages that came in place of a file."""

from __future__ import annotations

import contextlib
import csv
import errno
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


def check_writable(path: str | os.PathLike, *, folder: bool = False) -> None:
    """Check that a file or a folder can be written, ahead of the work whose result it will hold.

    Nothing is left behind: a temporary file is made in the nearest folder that exists, and removed.

    Args:
        path: where the file is to be in the end; missing folders above it will be made later.
        folder: whether ``path`` is the folder that files are to be written to.

    Raises:
        OSError: with what is in the way: `PermissionError`, `IsADirectoryError`,
            `NotADirectoryError`, or what else the file system says (a read-only disk, a full one).

    Example:
        >>> check_writable("results/table.csv")
    """
    path = Path(path)
    if path.is_dir() and not folder:
        raise IsADirectoryError(errno.EISDIR, "expected a file, found a folder", str(path))
    place = path if folder else path.parent
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder, found a file", str(place))
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        text = (error.strerror or str(error)).lower()
        raise type(error)(error.errno, f"cannot be written, {text}", str(place)) from error


def explain(error: BaseException) -> str:
    """Say in one sentence what an error means, and what to do about a disk or a permission.

    Example:
        >>> explain(OSError(28, "No space left on device", "out/a.png"))
        'out/a.png: no space left on device; free some, or write to another disk, and run again'
    """
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    place = "" if error.filename is None else f"{error.filename}: "
    remedy = {
        errno.ENOSPC: "free some, or write to another disk, and run again",
        getattr(errno, "EDQUOT", None): "free some, or write to another disk, and run again",
        errno.EACCES: "change its permissions, or choose another place",
        errno.EPERM: "change its permissions, or choose another place",
        errno.EROFS: "choose a place that can be written",
    }.get(error.errno or 0)
    text = error.strerror[0].lower() + error.strerror[1:]
    return f"{place}{text}" + (f"; {remedy}" if remedy else "")


def web_page_or_pointer(start: bytes) -> str | None:
    """Say whether a file that should hold data is text that a server sent in its place.

    Args:
        start: the first 256 bytes or more.

    Returns:
        "a web page", "a Git LFS pointer", or None for anything else.

    Example:
        >>> web_page_or_pointer(b"<!DOCTYPE html><title>Please log in</title>")
        'a web page'
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<!--")):
        return "a web page"
    return "a Git LFS pointer" if text.startswith(b"version https://git-lfs") else None


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


def run_dir() -> Path:
    """Return the folder for what a run of the tutorial leaves behind; make it if it is missing.

    ``LDF_RUN_DIR`` if that is set, else ``runs/tutorial`` in the checkout around the working
    directory, else ``runs/tutorial`` in the working directory.
    """
    named, here = os.environ.get("LDF_RUN_DIR"), Path.cwd()
    if named:
        folder = Path(named)
    else:
        around = (path for path in (here, *here.parents) if (path / "ldf_utils").is_dir())
        checkout = next((path for path in around if (path / "pyproject.toml").is_file()), here)
        folder = checkout / "runs" / "tutorial"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
