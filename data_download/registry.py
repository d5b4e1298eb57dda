"""The registry: what can be fetched, from where, and how a right copy is recognized.

It is data, `tables/sets.toml` and the CSV tables beside it; this module reads it and refuses
entries that contradict themselves.
"""

from __future__ import annotations

import csv
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pooch

from ldf_utils.data.files import explain

REGISTRY = Path(__file__).parent / "tables" / "sets.toml"
KINDS = ("files", "video", "hub", "manual")
HASH = re.compile(r"sha256:[0-9a-f]{64}|git-blob:[0-9a-f]{40}")
_NEEDED = {
    "files": ("source", "commit", "table", "rules"),
    "video": ("source", "commit", "table", "rules"),
    "hub": ("source", "commit", "file", "bytes", "hash"),
    "manual": ("archive", "urls", "parts"),
}


class RegistryError(ValueError):
    """The registry contradicts itself; the text names the file and the entry."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a set.

    Attributes:
        path: the path in its repository.
        bytes: the size, or None where it is not known.
        hash: ``sha256:...`` or ``git-blob:...``.
        place: "data", "weights" or "hub", the folder that ``target`` is relative to.
        target: where the file lies in that folder, with forward slashes.
    """

    path: str
    bytes: int | None
    hash: str
    place: str
    target: str


@dataclass(frozen=True)
class DataSet:
    """One entry of the registry.

    Attributes:
        name: what the command line calls it.
        kind: one of `KINDS`.
        title: one line that says what it is.
        license: what the source states, in words.
        cite: how to cite it.
        homepage: a page for people.
        source: ``OWNER/REPO``, where there is one.
        commit: the pinned commit or revision.
        base: the address in front of ``OWNER/REPO/COMMIT/PATH``.
        note: what else one should know.
        requires: sets that are fetched along.
        files: every file, for the kinds "files", "video" and "hub".
        spec: the whole entry, for what only one kind has.
    """

    name: str
    kind: str
    title: str
    license: str
    cite: str
    homepage: str
    source: str = ""
    commit: str = ""
    base: str = ""
    note: str = ""
    requires: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Count the bytes of all files whose size is known."""
        return sum(file.bytes or 0 for file in self.files)


@dataclass(frozen=True)
class Roots:
    """The folders that sets are laid out in: images, weights, and the cache of the model hub."""

    data: Path
    weights: Path
    hub: Path

    def of(self, file: RemoteFile) -> Path:
        """Name the folder that the target of a file is relative to."""
        return {"data": self.data, "weights": self.weights, "hub": self.hub}[file.place]

    def path(self, file: RemoteFile) -> Path:
        """Name the place of a file on this machine."""
        return self.of(file) / file.target


def weights_dir() -> Path:
    """Name the folder of downloaded weights: LDF_WEIGHTS_DIR, or one in the user's cache."""
    chosen = os.environ.get("LDF_WEIGHTS_DIR")
    return Path(chosen) if chosen else Path(pooch.os_cache("ldf_tutorial")) / "weights"


def stays_inside(path: str) -> bool:
    """Say whether a relative path cannot lead out of a folder, on any system.

    Example:
        >>> stays_inside("ir/a.png"), stays_inside("../a.png"), stays_inside("C:/a.png")
        (True, False, False)
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return bool(parts) and ".." not in parts and parts[0] != "/" and not re.match(r"\w:", path)


def load_registry(path: str | os.PathLike | None = None) -> dict[str, DataSet]:
    """Read the registry.

    Args:
        path: a TOML file in the form of `tables/sets.toml`; None for the one that ships.

    Returns:
        Name to set, in the order of the file.

    Raises:
        RegistryError: if the file or a table is missing or unreadable, is not of this form, or two
            files of a set would take one place.
    """
    path = Path(path) if path is not None else REGISTRY
    try:
        entries = tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise RegistryError(f"{path}: not a TOML file ({error})") from error
    tables = entries.get("sets")
    if not isinstance(tables, dict) or not tables:
        raise RegistryError(f"{path}: no set in it; expected tables [sets.NAME]")
    sets: dict[str, DataSet] = {}
    for name, entry in tables.items():
        try:
            sets[name] = _read_set(path, name, entry, entries.get("base", ""))
        except (TypeError, AttributeError, KeyError, IndexError, re.error) as error:
            raise RegistryError(
                f"{path}: [sets.{name}] is not of the form that {REGISTRY.name} describes ({error})"
            ) from error
    for dataset in sets.values():
        for other in dataset.requires:
            if other not in sets:
                raise RegistryError(f"{path}: {dataset.name} requires {other!r}, which is no set")
    return sets


def _read_text(path: Path) -> str:
    try:
        if not path.exists():
            raise RegistryError(f"{path}: there is no such file")
        if not path.is_file():
            raise RegistryError(f"{path}: expected a file, found a folder or a device")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RegistryError(f"{path}: not a text file in UTF-8 ({error})") from error
    except OSError as error:
        raise RegistryError(explain(error)) from error


def _read_set(path: Path, name: str, entry: Mapping[str, Any], base: str) -> DataSet:
    where = f"{path}: [sets.{name}]"
    kind = entry.get("kind")
    if kind not in KINDS:
        raise RegistryError(f"{where}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    missing = [key for key in ("title", "license", *_NEEDED[kind]) if key not in entry]
    if missing:
        raise RegistryError(f"{where}: {', '.join(missing)} missing")
    files: tuple[RemoteFile, ...] = ()
    if kind == "manual":
        for part in entry["parts"]:
            _check_part(where, part)
        if not entry["parts"]:
            raise RegistryError(f"{where}: parts must not be empty")
    elif kind in ("files", "video"):
        folder = entry.get("folder", name)
        _check_place(where, folder)
        files = _read_table(path.parent / entry["table"], where, folder, entry["rules"])
        if kind == "video":
            _check_clips(where, files, entry.get("frames", {}))
    else:
        cached = f"models--{entry['source'].replace('/', '--')}/snapshots/{entry['commit']}"
        target = f"{cached}/{entry['file']}"
        _check_place(where, target)
        if not HASH.fullmatch(entry["hash"]):
            raise RegistryError(f"{where}: {entry['hash']!r} is no hash of a known form")
        files = (RemoteFile(entry["file"], entry["bytes"], entry["hash"], "hub", target),)
    return DataSet(
        name=name,
        kind=kind,
        title=entry["title"],
        license=entry["license"],
        cite=entry.get("cite", ""),
        homepage=entry.get("homepage", ""),
        source=entry.get("source", ""),
        commit=entry.get("commit", ""),
        base=entry.get("base", base),
        note=entry.get("note", ""),
        requires=tuple(entry.get("requires", ())),
        files=files,
        spec=entry,
    )


def _check_place(where: str, place: str) -> None:
    if not stays_inside(place) or "\\" in place or ":" in place:
        raise RegistryError(f"{where}: {place!r} does not stay inside the folder of sets")


def clip_of(file: RemoteFile) -> tuple[str, str] | None:
    """Name the direction, "ir" or "vi", and the clip of a file ``clips/ir/NAME.mp4``, or None."""
    *_, clips, direction, name = ("", "", *PurePosixPath(file.target).parts)
    return (direction, PurePosixPath(name).stem) if clips == "clips" else None


def _check_clips(
    where: str, files: tuple[RemoteFile, ...], frames: Mapping[str, list[int]]
) -> None:
    clips: dict[str, set[str]] = {"ir": set(), "vi": set()}
    for direction, name in filter(None, map(clip_of, files)):
        clips[direction].add(name)
    if not clips["ir"] or clips["ir"] != clips["vi"]:
        alone = ", ".join(sorted(clips["ir"] ^ clips["vi"])) or "none at all"
        raise RegistryError(f"{where}: clips must be pairs in clips/ir and clips/vi, found {alone}")
    unknown = sorted(frames.keys() - clips["ir"])
    if unknown:
        raise RegistryError(f"{where}: frames of {', '.join(unknown)}, which is no clip of the set")


def _check_part(where: str, part: Mapping[str, Any]) -> None:
    missing = [key for key in ("folder", "infrared", "visible", "pairs") if key not in part]
    if missing:
        raise RegistryError(f"{where}: a part has no {', '.join(missing)}")
    _check_place(where, part["folder"])
    for key in ("infrared", "visible", "labels"):
        if key in part and "stem" not in re.compile(part[key]).groupindex:
            raise RegistryError(f"{where}: {part[key]!r} has no group (?P<stem>...)")
    if "labels" in part and part.get("label_form") not in ("voc", "yolo"):
        raise RegistryError(
            f"{where}: label_form must be voc or yolo, got {part.get('label_form')!r}"
        )


def _read_table(
    table: Path, where: str, folder: str, rules: list[list[str]]
) -> tuple[RemoteFile, ...]:
    files: dict[tuple[str, str], RemoteFile] = {}
    used = set()
    for number, row in enumerate(csv.DictReader(_read_text(table).splitlines()), start=2):
        line = f"{table}, line {number}"
        try:
            source, size, digest = row["path"], row["bytes"], row["hash"]
        except KeyError as error:
            raise RegistryError(f"{table}: the columns must be path, bytes, hash") from error
        if not HASH.fullmatch(digest or ""):
            raise RegistryError(f"{line}: {digest!r} is no hash of a known form")
        if size and not size.isdigit():
            raise RegistryError(f"{line}: bytes must be a number or empty, got {size!r}")
        for index, (pattern, replacement) in enumerate(rules):
            match = re.fullmatch(pattern, source)
            if match is None:
                continue
            used.add(index)
            place, target = _place(match.expand(replacement), folder)
            _check_place(line, target)
            key = place, target.casefold()  # one file on Windows and macOS
            if key in files:
                raise RegistryError(f"{where}: {files[key].path} and {source} both go to {target}")
            files[key] = RemoteFile(source, int(size) if size else None, digest, place, target)
            break
    unused = [rule[0] for index, rule in enumerate(rules) if index not in used]
    if unused:
        raise RegistryError(f"{where}: no row of {table.name} matches {', '.join(unused)}")
    return tuple(files.values())


def _place(expanded: str, folder: str) -> tuple[str, str]:
    expanded = unicodedata.normalize("NFC", expanded)
    if expanded.startswith("weights:"):  # a colon is not allowed in a target
        return "weights", expanded.removeprefix("weights:")
    return "data", f"{folder}/{expanded}"
