"""The registry: what can be fetched, from where, and how a right copy is recognized.

It is data, `tables/sets.toml` and the CSV tables beside it; this module reads it and refuses
entries that contradict themselves.
"""

from __future__ import annotations

import csv
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pooch

REGISTRY = Path(__file__).parent / "tables" / "sets.toml"
KINDS = ("files", "hub", "manual")
_HASH = re.compile(r"sha256:[0-9a-f]{64}|git-blob:[0-9a-f]{40}")
_NEEDED = {
    "files": ("source", "commit", "table", "rules"),
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
        place: "data" or "weights", the folder that ``target`` is relative to.
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
        folder: the folder it is laid out in.
        source: ``OWNER/REPO``, where there is one.
        commit: the pinned commit or revision.
        base: the address in front of ``OWNER/REPO/COMMIT/PATH``.
        note: what else one should know.
        requires: sets that are fetched along.
        files: every file, for kind "files".
        spec: the whole entry, for what only one kind has.
    """

    name: str
    kind: str
    title: str
    license: str
    cite: str
    homepage: str
    folder: str
    source: str = ""
    commit: str = ""
    base: str = ""
    note: str = ""
    requires: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all files whose size is known."""
        if self.kind == "hub":
            return self.spec["bytes"]
        return sum(file.bytes or 0 for file in self.files)


@dataclass(frozen=True)
class Roots:
    """The two folders that sets are laid out in: pictures and weights."""

    data: Path
    weights: Path

    def path(self, file: RemoteFile) -> Path:
        """Where a file lies on this machine."""
        return (self.weights if file.place == "weights" else self.data) / file.target


def weights_dir() -> Path:
    """The folder of downloaded weights: LDF_WEIGHTS_DIR, or one in the user's cache."""
    chosen = os.environ.get("LDF_WEIGHTS_DIR")
    return Path(chosen) if chosen else Path(pooch.os_cache("ldf_tutorial")) / "weights"


def load_registry(path: str | os.PathLike | None = None) -> dict[str, DataSet]:
    """Read the registry.

    Args:
        path: a TOML file in the form of `tables/sets.toml`; None for the one that ships.

    Returns:
        Name to set, in the order of the file.

    Raises:
        RegistryError: if the file or a table is missing, is not of this form, or two files of a
            set would take one place.
    """
    path = Path(path) if path is not None else REGISTRY
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RegistryError(f"{path}: there is no such registry file") from error
    except tomllib.TOMLDecodeError as error:
        raise RegistryError(f"{path}: not a TOML file ({error})") from error
    base = entries.get("base", "")
    sets = {
        name: _read_set(path, name, entry, base) for name, entry in entries.get("sets", {}).items()
    }
    if not sets:
        raise RegistryError(f"{path}: no set in it; expected tables [sets.NAME]")
    for dataset in sets.values():
        for other in dataset.requires:
            if other not in sets:
                raise RegistryError(f"{path}: {dataset.name} requires {other!r}, which is no set")
    return sets


def _read_set(path: Path, name: str, entry: Mapping[str, Any], base: str) -> DataSet:
    where = f"{path}: [sets.{name}]"
    kind = entry.get("kind")
    if kind not in KINDS:
        raise RegistryError(f"{where}: kind is one of {', '.join(KINDS)}, found {kind!r}")
    missing = [key for key in ("title", "license", *_NEEDED[kind]) if key not in entry]
    if missing:
        raise RegistryError(f"{where}: {', '.join(missing)} missing")
    folder = entry.get("folder", name)
    _check_place(where, folder)
    if "hash" in entry and not _HASH.fullmatch(entry["hash"]):
        raise RegistryError(f"{where}: {entry['hash']!r} is no hash of a known form")
    for part in entry["parts"] if kind == "manual" else ():
        _check_part(where, part)
    files: tuple[RemoteFile, ...] = ()
    if kind == "files":
        files = _read_table(path.parent / entry["table"], where, folder, entry["rules"])
    return DataSet(
        name=name,
        kind=kind,
        title=entry["title"],
        license=entry["license"],
        cite=entry.get("cite", ""),
        homepage=entry.get("homepage", ""),
        folder=folder,
        source=entry.get("source", ""),
        commit=entry.get("commit", ""),
        base=entry.get("base", base),
        note=entry.get("note", ""),
        requires=tuple(entry.get("requires", ())),
        files=files,
        spec=entry,
    )


def _check_place(where: str, place: str) -> None:
    parts = PurePosixPath(place).parts
    if not parts or place.startswith("/") or ".." in parts or "\\" in place or ":" in place:
        raise RegistryError(f"{where}: {place!r} does not stay inside the folder of sets")


def _check_part(where: str, part: Mapping[str, Any]) -> None:
    missing = [key for key in ("folder", "infrared", "visible", "pairs") if key not in part]
    if missing:
        raise RegistryError(f"{where}: a part has no {', '.join(missing)}")
    _check_place(where, part["folder"])
    for key in ("infrared", "visible", "labels"):
        if key in part and "stem" not in re.compile(part[key]).groupindex:
            raise RegistryError(f"{where}: {part[key]!r} has no group (?P<stem>...)")
    if "labels" in part and part.get("label_form") not in ("voc", "yolo"):
        raise RegistryError(f"{where}: label_form is voc or yolo")


def _read_table(table: Path, where: str, folder: str, rules: list) -> tuple[RemoteFile, ...]:
    try:
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise RegistryError(f"{where}: there is no table {table}") from error
    files: dict[tuple[str, str], RemoteFile] = {}
    used = set()
    for number, row in enumerate(rows, start=2):
        try:
            source, size, digest = row["path"], row["bytes"], row["hash"]
        except KeyError as error:
            raise RegistryError(f"{table}: the columns are path, bytes, hash") from error
        if not _HASH.fullmatch(digest or ""):
            raise RegistryError(f"{table}, line {number}: {digest!r} is no hash of a known form")
        for index, (pattern, replacement) in enumerate(rules):
            match = re.fullmatch(pattern, source)
            if match is None:
                continue
            used.add(index)
            target = match.expand(replacement)
            place = "weights" if target.startswith("weights:") else "data"
            target = target.removeprefix("weights:") if place == "weights" else f"{folder}/{target}"
            _check_place(f"{table}, line {number}", target)
            if (place, target) in files:
                raise RegistryError(
                    f"{where}: {files[place, target].path} and {source} both go to {target}"
                )
            known = int(size) if size else None
            files[place, target] = RemoteFile(source, known, digest, place, target)
            break
    idle = [rule[0] for index, rule in enumerate(rules) if index not in used]
    if idle:
        raise RegistryError(f"{where}: no row of {table.name} matches {', '.join(idle)}")
    return tuple(files.values())
