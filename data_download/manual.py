"""Sets behind a drive or a form: fetched by hand, then unpacked, checked and laid out.

The archive's structure is checked before anything is written: names, counts, partners. Each
picture is checked as it is written. `manifest.csv` is written last and makes the set complete.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import re
import shutil
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
from PIL import Image
from tqdm.auto import tqdm

from data_download.registry import DataSet, Roots
from data_download.store import STAGING, Options, SetError, human, listing, locked, prune
from data_download.transfer import difference
from ldf_utils.data.files import write_rows, write_text

MANIFEST = "manifest.csv"
_DIRECTIONS = {"infrared": "ir", "visible": "vi"}


@dataclass(frozen=True)
class Member:
    """A file in an archive or a folder: its name there, its size, how to read it.

    ``checksum`` is the CRC-32 where the archive keeps one, else None.
    """

    name: str
    size: int
    read: Callable[[], bytes]
    checksum: int | None = None


@dataclass
class Plan:
    """What goes where for one part of a set.

    Attributes:
        folder: the folder of the part.
        spec: the part's entry in the registry.
        pictures: "ir" or "vi" to stem to member.
        labels: stem to the member that holds its boxes.
        splits: stem to split, for sets that have splits.
    """

    folder: Path
    spec: Mapping[str, Any]
    pictures: dict[str, dict[str, Member]]
    labels: dict[str, Member]
    splits: dict[str, str]


def folders(dataset: DataSet, roots: Roots) -> list[Path]:
    """The folders that the set is laid out in, one for each part."""
    return [roots.data / part["folder"] for part in dataset.spec["parts"]]


def summary(dataset: DataSet, roots: Roots) -> str:
    """Whether every part was unpacked to its end."""
    here = sum((folder / MANIFEST).is_file() for folder in folders(dataset, roots))
    parts = len(dataset.spec["parts"])
    return "complete" if here == parts else f"{here} of {parts} parts"


def instructions(dataset: DataSet) -> str:
    """Which file to fetch, from where, and what to do with it."""
    lines = [f"Fetch {dataset.spec['archive']} by hand, from one of"]
    lines += [f"  {address}" for address in dataset.spec["urls"]]
    lines.append(f"(terms: {dataset.license}; page: {dataset.homepage}), then")
    lines.append(
        f"  python -m data_download get {dataset.name} --from PATH/TO/{dataset.spec['archive']}"
    )
    lines.append("or give the folder that you have unpacked it to.")
    if "howto" in dataset.spec:
        lines.append(dataset.spec["howto"])
    return "\n".join(lines)


def get(dataset: DataSet, roots: Roots, options: Options, registry=None) -> str:
    """Unpack, check and lay out what was fetched by hand.

    Args:
        dataset: the set.
        roots: where sets are laid out.
        options: ``source`` is the archive or the folder.
        registry: not used.

    Returns:
        One line for each part that says what is there now.

    Raises:
        SetError: without a source, with what to fetch from where; or with everything in which the
            source differs from what was expected.
    """
    if options.source is None:
        if all((folder / MANIFEST).is_file() for folder in folders(dataset, roots)):
            return verify(dataset, roots)
        if options.dry_run:
            return f"{dataset.name}: would fetch nothing by itself.\n{instructions(dataset)}"
        raise SetError(f"{dataset.name} has to be fetched by hand.\n{instructions(dataset)}")
    if not options.source.exists():
        raise SetError(
            f"{options.source}: there is no such file or folder.\n{instructions(dataset)}"
        )
    with _members(options.source) as members:
        plans = _plan(dataset, roots, options.source, members)
        size = sum(member.size for plan in plans for member in _all_members(plan))
        if options.dry_run:
            where = ", ".join(str(plan.folder) for plan in plans)
            count = sum(1 for plan in plans for _ in _all_members(plan))
            return (
                f"{dataset.name}: would unpack {count} files, {size} bytes ({human(size)}), from "
                f"{options.source} to {where}"
            )
        origin = _describe(dataset, options.source)
        return "\n".join(_unpack(dataset, plan, origin) for plan in plans)


@contextlib.contextmanager
def _members(source: Path) -> Iterator[list[Member]]:
    """The files in an archive or a folder.

    Raises:
        SetError: if it is neither, is damaged, or wants to write outside its folder.
    """
    if source.is_dir():
        yield [
            Member(path.relative_to(source).as_posix(), path.stat().st_size, path.read_bytes)
            for path in sorted(source.rglob("*"))
            if path.is_file()
        ]
        return
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                yield _safe(source, [_zipped(archive, i) for i in archive.infolist()])
            return
        if tarfile.is_tarfile(source):
            with tarfile.open(source) as archive:
                yield _safe(source, [_tarred(archive, i) for i in archive if i.isfile()])
            return
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise SetError(f"{source}: the archive is damaged ({error}); fetch it again") from error
    with open(source, "rb") as file:
        page = file.read(256).lstrip().lower().startswith((b"<!doctype html", b"<html"))
    what = "a web page, not an archive" if page else "neither a zip nor a tar archive"
    raise SetError(
        f"{source}: this is {what} ({source.stat().st_size} bytes); perhaps the download was not "
        "finished, or the drive answered with a question. Fetch it again in a browser"
    )


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    return Member(info.filename, info.file_size, lambda: archive.read(info), info.CRC)


def _tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    return Member(info.name, info.size, lambda: archive.extractfile(info).read())


def _safe(source: Path, members: list[Member]) -> list[Member]:
    for member in members:
        name = member.name.replace("\\", "/")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or re.match(r"\w:", name):
            raise SetError(
                f"{source}: its file {member.name!r} would be written outside the folder; nothing "
                "was unpacked. Such an archive is broken or harmful: fetch it from the page named "
                "by `info`"
            )
    return [member for member in members if not member.name.endswith("/")]


def compiled(pattern: str) -> re.Pattern:
    """A pattern of the registry, for names below any folders."""
    return re.compile(rf"(?:.*/)?{pattern}")


def _plan(dataset: DataSet, roots: Roots, source: Path, members: list[Member]) -> list[Plan]:
    """Find the files of every part and check names, counts and partners.

    Raises:
        SetError: with everything that differs from what was expected.
    """
    plans, problems = [], []
    for part in dataset.spec["parts"]:
        plan = Plan(roots.data / part["folder"], part, {"ir": {}, "vi": {}}, {}, {})
        for kind in ("infrared", "visible", "labels"):
            if kind not in part:
                continue
            pattern = compiled(part[kind])
            place = plan.labels if kind == "labels" else plan.pictures[_DIRECTIONS[kind]]
            for member in members:
                match = pattern.fullmatch(member.name)
                if match is None or "__MACOSX" in member.name:
                    continue
                stem = match["stem"]
                if stem in place:
                    problems.append(f"{place[stem].name} and {member.name} share one name")
                place[stem] = member
                if "split" in pattern.groupindex:
                    if plan.splits.setdefault(stem, match["split"]) != match["split"]:
                        problems.append(f"{stem} is in two splits")
        problems += _check_structure(plan)
        plans.append(plan)
    if problems:
        raise SetError(
            f"{source}: this is not the {dataset.name} that is known; nothing was unpacked.\n"
            f"{listing(problems)}\n{instructions(dataset)}"
        )
    return plans


def _check_structure(plan: Plan) -> list[str]:
    infrared, visible = plan.pictures["ir"], plan.pictures["vi"]
    name, problems = plan.folder.name, []
    for what, mine, others in (
        ("infrared", infrared, visible),
        ("visible", visible, infrared),
    ):
        if len(mine) != plan.spec["pairs"]:
            problems.append(
                f"{name}: expected {plan.spec['pairs']} {what} pictures "
                f"({plan.spec[what]}), found {len(mine)}"
            )
        problems += [f"{mine[s].name}: no partner" for s in sorted(mine.keys() - others.keys())]
    counts = Counter(plan.splits[stem] for stem in infrared if stem in plan.splits)
    for split, expected in plan.spec.get("splits", {}).items():
        if counts[split] != expected:
            problems.append(f"{name}: expected {expected} pairs in {split}, found {counts[split]}")
    if "labels" in plan.spec:
        expected = plan.spec.get("labeled")
        if expected is not None and len(plan.labels) != expected:
            problems.append(f"{name}: expected {expected} files of boxes, found {len(plan.labels)}")
        if not plan.labels:
            problems.append(f"{name}: no file of boxes ({plan.spec['labels']})")
        problems += [
            f"{plan.labels[stem].name}: boxes without a picture"
            for stem in sorted(plan.labels.keys() - visible.keys())
        ]
    return problems


def _all_members(plan: Plan) -> Iterator[Member]:
    for place in (*plan.pictures.values(), plan.labels):
        yield from place.values()


def _describe(dataset: DataSet, source: Path) -> str:
    """Where the files came from, for SOURCE.md."""
    if source.is_dir():
        return f"unpacked from the folder {source.name}"
    digest = pooch.file_hash(str(source), alg="sha256")
    text = f"unpacked from {source.name}, {source.stat().st_size} bytes, sha256:{digest}"
    recorded = dataset.spec.get("recorded")
    if recorded:
        kind, digits = recorded.split(":")
        same = pooch.file_hash(str(source), alg=kind) == digits
        text += (
            f"; it {'is' if same else 'is not'} the archive that other projects recorded "
            f"({recorded})"
        )
    return text


def _unpack(dataset: DataSet, plan: Plan, origin: str) -> str:
    folder = plan.folder
    with locked(folder):
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        needed = sum(member.size for member in _all_members(plan))
        free = shutil.disk_usage(folder.parent).free
        if needed > free:
            raise SetError(
                f"{folder}: {human(needed)} are needed and {human(free)} are free; make room, or "
                "choose another folder with --to"
            )
        try:
            rows, boxes, left_out = _write(plan)
        finally:
            shutil.rmtree(folder / STAGING, ignore_errors=True)
        if boxes:
            rows.append(_recorded(write_rows(folder / "labels" / "boxes.csv", boxes), folder))
        if plan.splits:
            splits = [dict(name=s, split=plan.splits[s]) for s in sorted(plan.pictures["ir"])]
            rows.append(_recorded(write_rows(folder / "splits.csv", splits), folder))
        write_text(folder / "SOURCE.md", _source_text(dataset, origin))
        write_rows(folder / MANIFEST, rows)
    pairs = len(plan.pictures["ir"])
    text = f"{dataset.name}: {pairs} pairs in {folder}"
    if "labels" in plan.spec:
        text += f", {len(boxes)} boxes in {len(plan.labels)} pictures"
    if left_out:
        text += f"; {left_out} boxes without an area were left out"
    return text


def _write(plan: Plan) -> tuple[list[dict], list[dict], int]:
    """Write pictures and labels; return manifest rows, boxes, and the boxes left out.

    Raises:
        SetError: with every file that is damaged or of a wrong size; the good ones stay.
    """
    rows: list[dict] = []
    sizes: dict[str, tuple[int, int]] = {}
    problems: list[str] = []
    expected = tuple(plan.spec["size"]) if "size" in plan.spec else None
    total = sum(member.size for member in _all_members(plan))
    with tqdm(total=total, desc=plan.folder.name, unit="B", unit_scale=True, disable=None) as bar:
        for direction, place in plan.pictures.items():
            for stem, member in place.items():  # in the archive's order
                bar.update(member.size)
                target = plan.folder / direction / (stem + Path(member.name).suffix.lower())
                try:
                    content = _content(member, target)
                    with Image.open(io.BytesIO(content)) as image:
                        if member.checksum is None:  # else the archive has vouched for it
                            image.load()
                        size = image.size[::-1]
                except Exception as error:  # Pillow and the archives raise many kinds
                    problems.append(f"{member.name}: damaged ({error})")
                    continue
                if size != (expected or sizes.setdefault(stem, size)):
                    other = expected or sizes[stem]
                    problems.append(
                        f"{member.name}: {size[1]} x {size[0]} pixels, expected "
                        f"{other[1]} x {other[0]}"
                    )
                    continue
                sizes[stem] = size
                rows.append(_place(target, content, plan.folder))
        boxes: list[dict] = []
        left_out = 0
        for stem, member in plan.labels.items():
            bar.update(member.size)
            target = plan.folder / "labels" / plan.spec["label_form"] / Path(member.name).name
            picture = stem + Path(plan.pictures["vi"][stem].name).suffix.lower()
            try:
                content = _content(member, target)
                found = _BOXES[plan.spec["label_form"]](content, sizes.get(stem), plan.spec)
            except Exception as error:
                problems.append(f"{member.name}: {error}")
                continue
            good = [box for box in found if box["xmax"] > box["xmin"] and box["ymax"] > box["ymin"]]
            left_out += len(found) - len(good)
            boxes += [dict(image=picture, **box) for box in good]
            rows.append(_place(target, content, plan.folder))
    if problems:
        raise SetError(
            f"{plan.folder}: {len(problems)} files are not what they have to be; the others were "
            f"unpacked:\n{listing(problems)}\nfetch the archive again and repeat the command"
        )
    return rows, sorted(boxes, key=lambda box: box["image"]), left_out


def _content(member: Member, target: Path) -> bytes:
    """The content of a member: from the copy of an earlier run where its checksum is right."""
    if member.checksum is not None and target.is_file():
        content = target.read_bytes()
        if len(content) == member.size and zlib.crc32(content) == member.checksum:
            return content
    return member.read()


def _place(target: Path, content: bytes, folder: Path) -> dict:
    """Write a file whole or not at all, unless it is there; return its row of the manifest."""
    if not target.is_file() or target.read_bytes() != content:
        temporary = folder / STAGING / "file.part"
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, target)
    path = target.relative_to(folder).as_posix()
    return dict(path=path, bytes=len(content), hash="sha256:" + hashlib.sha256(content).hexdigest())


def _recorded(path: Path, folder: Path) -> dict:
    return _place(path, path.read_bytes(), folder)


def _voc_boxes(content: bytes, size: tuple[int, int] | None, spec: Mapping) -> list[dict]:
    """Boxes of Pascal VOC XML: corners in pixels, and a name."""
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise ValueError("the XML declares entities, which an annotation has no need of")
    try:
        objects = ElementTree.fromstring(content).findall("object")
        return [
            {
                **{
                    corner: round(float(item.findtext(f"bndbox/{corner}")))
                    for corner in ("xmin", "ymin", "xmax", "ymax")
                },
                "name": item.findtext("name").strip(),
            }
            for item in objects
        ]
    except (ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"no annotation in VOC form ({error})") from error


def _yolo_boxes(content: bytes, size: tuple[int, int] | None, spec: Mapping) -> list[dict]:
    """Boxes of YOLO text: class, center and size as fractions of the picture's."""
    if size is None:
        raise ValueError("its picture is damaged, so that its boxes have no scale")
    height, width = size
    boxes = []
    for number, line in enumerate(content.decode("ascii").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            kind, x, y, w, h = line.split()
            name = spec["classes"][int(kind)]
            x, w = float(x) * width, float(w) * width
            y, h = float(y) * height, float(h) * height
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"line {number} is {line!r}; expected a class below {len(spec['classes'])} and "
                "four fractions"
            ) from error
        boxes.append(
            dict(
                xmin=round(x - w / 2),
                ymin=round(y - h / 2),
                xmax=round(x + w / 2),
                ymax=round(y + h / 2),
                name=name,
            )
        )
    return boxes


_BOXES = {"voc": _voc_boxes, "yolo": _yolo_boxes}


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


def _manifest(folder: Path) -> list[dict]:
    with open(folder / MANIFEST, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def verify(dataset: DataSet, roots: Roots) -> str:
    """Compare every file with what was unpacked.

    Raises:
        SetError: if a part is not there, or a file is missing or differs.
    """
    lines, problems = [], []
    for folder in folders(dataset, roots):
        if not (folder / MANIFEST).is_file():
            problems.append(f"{folder}: not unpacked, or not to the end")
            continue
        rows = _manifest(folder)
        for row in rows:
            wrong = _row_problem(folder, row)
            if wrong:
                problems.append(f"{folder / row['path']}: {wrong}")
        lines.append(f"{dataset.name}: {len(rows)} files in {folder}, all as unpacked")
    if problems:
        raise SetError(
            f"{dataset.name}: {len(problems)} problems:\n"
            f"{listing(problems, most=len(problems))}\n"
            f"{instructions(dataset)}"
        )
    return "\n".join(lines)


def _row_problem(folder: Path, row: Mapping[str, str]) -> str | None:
    path = folder / row["path"]
    if not path.is_file():
        return "missing"
    return difference(path, int(row["bytes"]), row["hash"])


def remove(dataset: DataSet, roots: Roots, options: Options, registry=None) -> str:
    """Remove what was unpacked, and no other files."""
    lines = []
    for folder in folders(dataset, roots):
        if not (folder / MANIFEST).is_file():
            lines.append(f"{dataset.name}: nothing of it in {folder}")
            continue
        with locked(folder):
            rows = _manifest(folder)
            size = sum(int(row["bytes"]) for row in rows)
            if options.dry_run:
                lines.append(f"{folder}: would remove {len(rows)} files ({human(size)})")
                continue
            for row in rows:
                (folder / row["path"]).unlink(missing_ok=True)
            for name in (MANIFEST, "SOURCE.md"):
                (folder / name).unlink(missing_ok=True)
            left = prune(folder)
            kept = f"; {left} other files were left where they are" if left else ""
            lines.append(f"{dataset.name}: removed {len(rows)} files ({human(size)}){kept}")
        if not folder.exists():
            (folder.parent / f".{folder.name}.lock").unlink(missing_ok=True)
    return "\n".join(lines)
