"""Archives and folders that were fetched by hand: their files, with sizes, read one at a time."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from data_download.registry import stays_inside
from data_download.store import SetError
from ldf_utils.data.files import web_page_or_pointer

_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
)


@dataclass(frozen=True)
class Member:
    """A file in an archive or a folder.

    Attributes:
        name: its path there, with forward slashes.
        size: the bytes that it says it has; no more are read.
        read: reads it.
        checksum: the CRC-32 where the archive keeps one, else None.
    """

    name: str
    size: int
    read: Callable[[], bytes]
    checksum: int | None = None


@contextlib.contextmanager
def open_members(source: Path) -> Iterator[list[Member]]:
    """List the files in an archive or a folder; they can be read until the context ends.

    Hidden files, and the folder ``__MACOSX`` that macOS adds to archives, are left out. Links in
    an archive are not followed.

    Args:
        source: a zip or tar archive, or a folder.

    Raises:
        SetError: if it is none of these, is damaged, or names files outside its folder.
        OSError: if it cannot be read.
    """
    if source.is_dir():
        yield [member for member in _in_folder(source) if not _is_hidden(member)]
        return
    with open(source, "rb") as file:  # permission denied is said as such
        start = file.read(256)
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                yield _checked(source, [_zipped(archive, i) for i in archive.infolist()])
            return
        if tarfile.is_tarfile(source):
            with tarfile.open(source) as archive:
                yield _checked(source, [_tarred(archive, i) for i in archive if i.isfile()])
            return
    except _DAMAGED as error:
        raise SetError(f"{source}: the archive is damaged ({error}); fetch it again") from error
    page = web_page_or_pointer(start)
    what = f"{page}, not an archive" if page else "neither a zip nor a tar archive"
    raise SetError(
        f"{source}: this is {what} ({source.stat().st_size} bytes); perhaps the download was not "
        "finished, or the drive answered with a question. Fetch it again in a browser"
    )


def _in_folder(source: Path) -> Iterator[Member]:
    def refuse(error: OSError) -> NoReturn:
        raise error

    for folder, folders, names in os.walk(source, onerror=refuse):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            name = path.relative_to(source).as_posix()
            if path.is_file():
                yield Member(name, path.stat().st_size, path.read_bytes)


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    return Member(info.filename, info.file_size, lambda: archive.read(info), info.CRC)


def _tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    def read() -> bytes:
        file = archive.extractfile(info)
        assert file is not None  # of a regular file there is one
        return file.read()

    return Member(info.name, info.size, read)


def _checked(source: Path, members: list[Member]) -> list[Member]:
    for member in members:
        if not stays_inside(member.name):
            raise SetError(
                f"{source}: its file {member.name!r} would be written outside the folder; nothing "
                "was unpacked. Such an archive is broken or harmful: fetch it from the page named "
                "by `info`"
            )
    return [
        member for member in members if not member.name.endswith("/") and not _is_hidden(member)
    ]


def _is_hidden(member: Member) -> bool:
    parts = PurePosixPath(member.name).parts
    return "__MACOSX" in parts or parts[-1].startswith(".")
