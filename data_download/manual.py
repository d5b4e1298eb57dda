"""Sets behind a drive or a form: fetched by hand, then unpacked, checked and laid out.

The archive's structure is checked before anything is written: names, counts, partners, sizes.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data_download.archives import Member, open_members
from data_download.hashes import difference
from data_download.registry import DataSet, Roots, stays_inside
from data_download.store import (
    Options,
    SetError,
    human,
    listing,
    locked,
    prune,
    remove_files,
    require_writable,
)
from data_download.unpack import (
    MANIFEST,
    MOST_PIXELS,
    PARTIAL,
    Plan,
    describe,
    known_paths,
    read_manifest,
    unpack,
)
from ldf_utils.data.names import stem_of

_PLACES = {"infrared": "ir", "visible": "vi"}
_MOST_TOTAL = 50_000_000_000  # bytes of one set after unpacking; LLVIP, the largest, has 4e9
_MOST_LABEL = 1_000_000  # bytes of a file of boxes


def folders(dataset: DataSet, roots: Roots) -> list[Path]:
    """Name the folders that the set is laid out in, one for each part."""
    return [roots.data / part["folder"] for part in dataset.spec["parts"]]


def summary(dataset: DataSet, roots: Roots) -> str:
    """Say how many parts were unpacked to their end, by their manifests alone."""
    here = 0
    for folder, part in _parts(dataset, roots):
        with contextlib.suppress(SetError):  # `verify` says what is wrong with it
            here += not _manifest_problems(folder, part)
    total = len(dataset.spec["parts"])
    return "complete" if here == total else f"{here} of {total} parts"


def _parts(dataset: DataSet, roots: Roots) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    yield from zip(folders(dataset, roots), dataset.spec["parts"], strict=True)


def instructions(dataset: DataSet) -> str:
    """Say which file to fetch, from where, and what to do with it."""
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


def get(dataset: DataSet, roots: Roots, options: Options, registry: object = None) -> str:
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
    with open_members(options.source) as members:
        plans = _plan(dataset, roots, options.source, members)
        if options.dry_run:
            where = ", ".join(str(plan.folder) for plan in plans)
            sizes = [member.size for plan in plans for member in plan.members()]
            return (
                f"{dataset.name}: would unpack {len(sizes)} files, {sum(sizes)} bytes "
                f"({human(sum(sizes))}), from {options.source} to {where}"
            )
        for plan in plans:
            targets = [path for *_, path in plan.targets()] + [*map(plan.label_target, plan.labels)]
            for place in sorted({path.parent for path in targets} | {plan.folder}):
                require_writable(place)
        origin = describe(dataset, options.source)
        return "\n".join(unpack(dataset, plan, origin) for plan in plans)


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the registry, for names below any folders."""
    return re.compile(rf"(?:.*/)?{pattern}")


def _canonical(name: str) -> str:
    """Bring a name to the form in which the package compares names (`ldf_utils.data.names`)."""
    path = PurePosixPath(unicodedata.normalize("NFC", name))
    return path.with_name(stem_of(path) + path.suffix.lower()).as_posix()


def _plan(dataset: DataSet, roots: Roots, source: Path, members: list[Member]) -> list[Plan]:
    """Find the files of every part and check names, counts, partners and sizes.

    Raises:
        SetError: with everything that differs from what was expected.
    """
    plans, problems = [], []
    for part in dataset.spec["parts"]:
        plan = Plan(roots.data / part["folder"], part)
        for kind in ("infrared", "visible", "labels"):
            if kind not in part:
                continue
            pattern = compiled(part[kind])
            place = plan.labels if kind == "labels" else plan.images[_PLACES[kind]]
            for member in members:
                match = pattern.fullmatch(_canonical(member.name))
                if match is None:
                    continue
                stem = match["stem"]
                if stem in place:
                    problems.append(f"{place[stem].name} and {member.name} share one name")
                place[stem] = member
                if "split" in pattern.groupindex:
                    if plan.splits.setdefault(stem, match["split"]) != match["split"]:
                        problems.append(f"{stem} is in two splits")
        problems += _check_structure(plan) + _check_sizes(plan)
        plans.append(plan)
    if problems:
        raise SetError(
            f"{source}: this is not the {dataset.name} that is known; nothing was unpacked.\n"
            f"{listing(problems)}\n{instructions(dataset)}"
        )
    return plans


def _check_structure(plan: Plan) -> list[str]:
    infrared, visible = plan.images["ir"], plan.images["vi"]
    name = plan.folder.name
    problems: list[str] = []
    for what, mine, others in (
        ("infrared", infrared, visible),
        ("visible", visible, infrared),
    ):
        if len(mine) != plan.spec["pairs"]:
            problems.append(
                f"{name}: expected {plan.spec['pairs']} {what} images "
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
            f"{plan.labels[stem].name}: boxes without an image"
            for stem in sorted(plan.labels.keys() - visible.keys())
        ]
    return problems


def _check_sizes(plan: Plan) -> list[str]:
    """Check what files claim to have, before any is read, so that memory and disk are safe."""
    height, width = plan.size or (1, MOST_PIXELS)
    most_image = 8 * height * width + 1_000_000  # more than 4 channels of 16 bits, not compressed
    problems = []
    for most, place in (
        (most_image, plan.images["ir"]),
        (most_image, plan.images["vi"]),
        (
            _MOST_LABEL,
            plan.labels,
        ),
    ):
        problems += [
            f"{member.name}: {member.size} bytes after unpacking, expected at most {most}"
            for member in place.values()
            if member.size > most
        ]
        problems += [
            f"{stem!r} is not a file name"
            for stem in place
            if not stays_inside(stem) or "/" in stem or "\\" in stem
        ]
    total = sum(member.size for member in plan.members())
    if total > _MOST_TOTAL:
        problems.append(
            f"{plan.folder.name}: {total} bytes after unpacking, expected at most {_MOST_TOTAL}"
        )
    return problems


def _manifest_problems(folder: Path, part: Mapping[str, Any]) -> list[str]:
    """Compare a manifest with what the registry says about the part."""
    if not (folder / MANIFEST).is_file():
        return [f"{folder}: not unpacked, or not completely"]
    counts = Counter(row["path"].split("/")[0] for row in read_manifest(folder))
    return [
        f"{folder / MANIFEST}: expected {part['pairs']} {what} images, found {counts[place]}"
        for what, place in _PLACES.items()
        if counts[place] != part["pairs"]
    ]


def verify(dataset: DataSet, roots: Roots) -> str:
    """Compare every file with what was unpacked, and their number with the registry.

    Returns:
        One line for each part that says that all is well.

    Raises:
        SetError: if a part is not there, or a file is missing or differs.
    """
    lines, problems = [], []
    for folder, part in _parts(dataset, roots):
        problems += _manifest_problems(folder, part)
        rows = read_manifest(folder) if (folder / MANIFEST).is_file() else []
        for row in rows:
            path = folder / row["path"]
            wrong = (
                difference(path, int(row["bytes"]), row["hash"]) if path.is_file() else "missing"
            )
            if wrong:
                problems.append(f"{path}: {wrong}")
        lines.append(f"{dataset.name}: {len(rows)} files in {folder}, all as unpacked")
    if problems:
        raise SetError(
            f"{dataset.name}: {len(problems)} problems:\n"
            f"{listing(problems, most=len(problems))}\n"
            f"{instructions(dataset)}"
        )
    return "\n".join(lines)


def remove(dataset: DataSet, roots: Roots, options: Options, registry: object = None) -> str:
    """Remove what was unpacked, completely or not, and no other files.

    Raises:
        SetError: if the manifest is damaged or names a file outside the folder of the set; then
            nothing is removed.
    """
    lines = []
    for folder in folders(dataset, roots):
        paths = [folder / path for path in sorted(known_paths(folder))]
        paths = [path for path in paths if path.is_file()]
        size = sum(path.stat().st_size for path in paths)
        if not any((folder / name).is_file() for name in (MANIFEST, PARTIAL)):
            lines.append(f"{dataset.name}: nothing of it in {folder}")
        elif options.dry_run:
            lines.append(f"{folder}: would remove {len(paths)} files ({human(size)})")
        else:
            with locked(folder):
                remove_files(folder, paths)
                for name in (MANIFEST, PARTIAL, "SOURCE.md"):
                    (folder / name).unlink(missing_ok=True)
                left = prune(folder)
            kept = f"; {left} other files were left where they are" if left else ""
            lines.append(f"{dataset.name}: removed {len(paths)} files ({human(size)}){kept}")
    return "\n".join(lines)
