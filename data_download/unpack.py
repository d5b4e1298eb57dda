"""Unpack the files of a set that was fetched by hand, each checked, and record them.

`manifest.csv` is written last and makes the set complete; until then `manifest.partial.csv` names
what may be there, so that it can be removed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from data_download.archives import Member
from data_download.hashes import file_hash
from data_download.registry import HASH, DataSet, stays_inside
from data_download.store import (
    STAGING,
    SetError,
    listing,
    locked,
    remove_files,
    require_space,
)
from ldf_utils.data.files import write_rows, write_text
from ldf_utils.detection import label_files

MANIFEST = "manifest.csv"
PARTIAL = "manifest.partial.csv"
CLASSES = "labels/classes.txt"  # of YOLO labels, which number them: one name a line
MOST_PIXELS = 40_000_000  # of an image in a set whose image size is not known


@dataclass
class Plan:
    """What goes where for one part of a set.

    Attributes:
        folder: the folder of the part.
        spec: the part's entry in the registry.
        images: "ir" or "vi" to stem to member.
        labels: stem to the member that holds its boxes.
        splits: stem to split, for sets that have splits.
    """

    folder: Path
    spec: Mapping[str, Any]
    images: dict[str, dict[str, Member]] = field(default_factory=lambda: {"ir": {}, "vi": {}})
    labels: dict[str, Member] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every image, or None where they differ."""
        return tuple(self.spec["size"]) if "size" in self.spec else None

    def members(self) -> Iterator[Member]:
        """Every file of the part."""
        for place in (*self.images.values(), self.labels):
            yield from place.values()

    def targets(self) -> Iterator[tuple[str, str, Member, Path]]:
        """Each image: "ir" or "vi", stem, member, and where it goes."""
        for direction, place in self.images.items():
            for stem, member in place.items():
                name = stem + PurePosixPath(member.name).suffix.lower()
                yield direction, stem, member, self.folder / direction / name

    def label_target(self, stem: str) -> Path:
        """Where the file of boxes goes."""
        return self.folder / "labels" / (stem + PurePosixPath(self.labels[stem].name).suffix)


def describe(dataset: DataSet, source: Path) -> str:
    """Say where the files came from, for SOURCE.md."""
    if source.is_dir():
        return f"unpacked from the folder {source.name}"
    size, digest = source.stat().st_size, file_hash(source, "sha256")
    text = f"unpacked from {source.name}, {size} bytes, {digest}"
    recorded = dataset.spec.get("recorded")
    if recorded:
        same = file_hash(source, recorded.split(":")[0]) == recorded
        text += (
            f"; it {'is' if same else 'is not'} the archive that other projects recorded "
            f"({recorded})"
        )
    return text


def unpack(dataset: DataSet, plan: Plan, origin: str) -> str:
    folder = plan.folder
    with locked(folder):
        try:
            before = known_paths(folder)
        except SetError:  # a damaged manifest, which is now replaced
            before = set()
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        require_space(folder, sum(member.size for member in plan.members()))
        planned = {path.relative_to(folder).as_posix() for *_, path in plan.targets()}
        planned |= {plan.label_target(s).relative_to(folder).as_posix() for s in plan.labels}
        planned |= {CLASSES} if "classes" in plan.spec else set()
        planned |= {"splits.csv"} if plan.splits else set()
        write_rows(folder / PARTIAL, [{"path": path} for path in sorted(planned | before)])
        (folder / MANIFEST).unlink(missing_ok=True)
        try:
            rows, count = _write(plan)
        finally:
            shutil.rmtree(folder / STAGING, ignore_errors=True)
        if "classes" in plan.spec:
            text = "".join(f"{name}\n" for name in plan.spec["classes"])
            rows.append(_recorded(write_text(folder / CLASSES, text), folder))
        if plan.splits:
            splits = [{"name": s, "split": plan.splits[s]} for s in sorted(plan.images["ir"])]
            rows.append(_recorded(write_rows(folder / "splits.csv", splits), folder))
        remove_files(folder, [folder / old for old in before - {row["path"] for row in rows}])
        write_text(folder / "SOURCE.md", _source_text(dataset, origin))
        write_rows(folder / MANIFEST, rows)
        (folder / PARTIAL).unlink()
    text = f"{dataset.name}: {len(plan.images['ir'])} pairs in {folder}"
    if "labels" in plan.spec:
        text += f", {count} boxes in {len(plan.labels)} images"
    return text


def _write(plan: Plan) -> tuple[list[dict[str, Any]], int]:
    """Write images and labels; return manifest rows, and the number of boxes.

    Raises:
        SetError: with every file that is damaged or of a wrong size; the good ones stay.
    """
    rows: list[dict[str, Any]] = []
    sizes: dict[str, tuple[int, int]] = {}
    problems: list[str] = []
    count = 0
    total = sum(member.size for member in plan.members())
    with tqdm(total=total, desc=plan.folder.name, unit="B", unit_scale=True, disable=None) as bar:
        for _, stem, member, target in plan.targets():  # in the archive's order
            bar.update(member.size)
            try:
                content = _content(member, target)
                sizes[stem] = _image_size(content, member, plan.size or sizes.get(stem))
            except Exception as error:  # Pillow and the archives raise many kinds
                problems.append(f"{member.name}: {_reason(error)}")
                continue
            rows.append(_place(target, content, plan.folder))
        for stem, member in plan.labels.items():
            bar.update(member.size)
            target = plan.label_target(stem)
            try:
                content = _content(member, target)
                count += _count_boxes(content, sizes.get(stem), plan.spec)
            except Exception as error:
                problems.append(f"{member.name}: {_reason(error)}")
                continue
            rows.append(_place(target, content, plan.folder))
    if problems:
        raise SetError(
            f"{plan.folder}: {len(problems)} files are not what is expected; the others were "
            f"unpacked:\n{listing(problems)}\nfetch the archive again and repeat the command"
        )
    return rows, count


def _count_boxes(content: bytes, size: tuple[int, int] | None, spec: Mapping[str, Any]) -> int:
    """Count the boxes in a file; a ValueError if it is not of the form that it should have."""
    if spec["label_form"] == "voc":
        return len(label_files.voc_boxes(content))
    return len(label_files.yolo_boxes(content, size, spec["classes"]))


def _image_size(
    content: bytes, member: Member, expected: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width of an image as viewers show it; a ValueError if they are not expected."""
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        if "exif" in image.info and image.getexif().get(0x0112, 1) >= 5:  # turned by a quarter
            width, height = height, width
        if expected is not None and (height, width) != expected:
            raise ValueError(f"{width} x {height} pixels, expected {expected[1]} x {expected[0]}")
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels, expected at most {MOST_PIXELS} in all")
        if member.checksum is None:  # else the archive has vouched for it
            image.load()
    return height, width


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # of the file system
        return f"cannot be read, {error.strerror.lower()}"
    return f"damaged ({error})"


def _content(member: Member, target: Path) -> bytes:
    """Read a member, or the copy of an earlier run where its checksum is right."""
    if member.checksum is not None and target.is_file():
        content = target.read_bytes()
        if len(content) == member.size and zlib.crc32(content) == member.checksum:
            return content
    return member.read()


def _place(target: Path, content: bytes, folder: Path) -> dict[str, Any]:
    """Write a file whole or not at all, unless it is there; return its row of the manifest."""
    if not target.is_file() or target.read_bytes() != content:
        temporary = folder / STAGING / "file.part"
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, target)
    digest = hashlib.sha256(content).hexdigest()
    return {
        "path": target.relative_to(folder).as_posix(),
        "bytes": len(content),
        "hash": f"sha256:{digest}",
    }


def _recorded(path: Path, folder: Path) -> dict[str, Any]:
    return _place(path, path.read_bytes(), folder)


def _source_text(dataset: DataSet, origin: str) -> str:
    lines = [
        "# Where these files come from",
        "",
        f"## {dataset.title}",
        "",
        f"- Origin: {origin}",
        f"- Page: {dataset.homepage}",
        *([f"- Commit: {dataset.commit} of {dataset.source}"] if dataset.commit else []),
        f"- License: {dataset.license}",
        f"- Cite: {dataset.cite}",
        *([f"- Note: {dataset.note}"] if dataset.note else []),
        f"- Check: `python -m data_download verify {dataset.name}` compares with {MANIFEST}, which",
        "  was written when the archive was unpacked",
    ]
    return "\n".join(lines) + "\n"


def read_manifest(folder: Path, name: str = MANIFEST) -> list[dict[str, str]]:
    """Read what was recorded of a folder.

    Args:
        folder: the folder of a part.
        name: a file with ``path``, ``bytes`` and ``hash``, or `PARTIAL` with ``path`` alone.

    Raises:
        SetError: if the file is damaged or names a file outside the folder.
    """
    columns = ["path"] if name == PARTIAL else ["path", "bytes", "hash"]
    file = folder / name
    try:
        text = file.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines(), strict=True)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SetError(
            f"{file}: not a CSV file in UTF-8 ({error}); delete it and get the set again"
        ) from error
    if reader.fieldnames is not None and list(reader.fieldnames) != columns:
        raise SetError(
            f"{file}: expected the columns {', '.join(columns)}, found "
            f"{', '.join(reader.fieldnames)}; delete it and get the set again"
        )
    for number, row in enumerate(rows, start=2):
        path = row["path"] or ""
        if not stays_inside(path):
            raise SetError(
                f"{file}, line {number}: {path!r} does not stay inside the folder of the set; "
                "nothing was changed. Correct or delete this line"
            )
        if name != PARTIAL and not (
            (row["bytes"] or "").isdigit() and HASH.fullmatch(row["hash"] or "")
        ):
            raise SetError(
                f"{file}, line {number}: expected a path, its bytes and its hash, found "
                f"{', '.join(str(value) for value in row.values())}; delete it and get the set "
                "again"
            )
    return rows


def known_paths(folder: Path) -> set[str]:
    """Name the files that were unpacked to a folder, also by a run that did not end.

    Raises:
        SetError: as `read_manifest`.
    """
    return {
        row["path"]
        for name in (MANIFEST, PARTIAL)
        if (folder / name).is_file()
        for row in read_manifest(folder, name)
    }
