"""Hashes by which files are verified."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def git_blob_id(path: str | os.PathLike) -> str:
    """Compute the id by which git names the content of a file.

    It is the SHA-1 of ``blob SIZE``, a zero byte and the content.
    https://git-scm.com/book/en/v2/Git-Internals-Git-Objects

    Args:
        path: the file.

    Returns:
        40 hexadecimal digits.
    """
    head = b"blob %d\0" % Path(path).stat().st_size
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.sha1(head, usedforsecurity=False)
        ).hexdigest()


def file_hash(path: str | os.PathLike, kind: str) -> str:
    """Compute the hash of a file in the form ``KIND:DIGITS``.

    Args:
        path: the file.
        kind: "git-blob", or a name that hashlib knows, as "sha256".
    """
    if kind == "git-blob":
        return f"{kind}:{git_blob_id(path)}"
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def difference(path: str | os.PathLike, size: int | None, digest: str) -> str | None:
    """Say how a file differs from what is expected.

    Args:
        path: a file that exists.
        size: the expected bytes, or None where they are not known.
        digest: the expected hash, ``KIND:DIGITS``.

    Returns:
        None if it is the right file, else "expected ..., found ...".
    """
    found = Path(path).stat().st_size
    if size is not None and found != size:
        return f"expected {size} bytes, found {found}"
    actual = file_hash(path, digest.split(":")[0])
    return None if actual == digest else f"expected {digest}, found {actual}"
