"""Labels: the boxes of a set in any of four forms, checked, with the project's two classes."""

from __future__ import annotations

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ldf_utils.data.headers import upright_size
from ldf_utils.data.names import find_picture, stem_of
from ldf_utils.data.pairs import PairFiles, PairFolder
from ldf_utils.detection import label_files
from ldf_utils.detection.boxes import CLASS_OF, CLASSES, Boxes
from ldf_utils.detection.label_files import CORNERS, Row

SLACK = 1.0
"""Pixels by which a box may leave the picture: labels count from 0 or 1, and are rounded."""
FORMS = (
    "boxes.csv (image,xmin,ymin,xmax,ymax,name), *.json (COCO), *.xml (Pascal VOC) or *.txt (YOLO, "
    "with classes.txt)"
)


class LabelError(ValueError):
    """A set has no labels that can be used; the text says what is expected."""


@dataclass
class Labels:
    """The boxes of a set.

    Attributes:
        boxes: stem to boxes. A picture that was labeled and shows nothing has no box; one that was
            not labeled is absent.
        source: the file or folder they come from.
        problems: one sentence per label that is left out or changed.
        notes: what else one should know: names that are not counted, pictures without labels.
    """

    boxes: dict[str, Boxes]
    source: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """The classes of which there is a box that counts."""
        found = {int(c) for boxes in self.boxes.values() for c in boxes.classes[~boxes.ignored]}
        return [name for place, name in enumerate(CLASSES) if place in found]


def read_labels(
    set_dir: Path, pairs: PairFiles, class_of: Mapping[str, str | None] | None = None
) -> Labels:
    """Read the labels of a set from ``labels/`` (or from a ``boxes.csv`` beside ``ir/``).

    Args:
        set_dir: the folder of the set.
        pairs: its pairs; labels of other pictures are reported.
        class_of: names to classes, in addition to `CLASS_OF`; None for names that are not counted.

    Returns:
        Boxes by stem. A box that is empty, that lies outside of the picture or whose name is
        unknown is left out, one that reaches out by more than a pixel is cut, and each is named.

    Raises:
        LabelError: if there are none, if they come in two forms, or if a table of all boxes cannot
            be read.
    """
    table = {_plain(k): v for k, v in {**CLASS_OF, **(class_of or {})}.items()}
    source, rows, problems = _rows(set_dir, pairs)
    labels = Labels({}, source, problems)
    known = {stem: (vi, ir) for stem, ir, vi in pairs.files}
    uncounted: Counter[str] = Counter()
    for stem, (place, mine) in rows.items():
        if stem not in known:
            if find_picture(set_dir / "vi", stem) is None:  # else it is a part of the set
                problems.append(f"{place}: labels of {stem!r}, but there is no such pair")
            continue
        size = _size(*known[stem])
        kept = [_checked(row, place, stem, size, table, uncounted, problems.append) for row in mine]
        labels.boxes[stem] = _boxes([row for row in kept if row is not None])
    without = [stem for stem in known if stem not in labels.boxes]
    if uncounted:
        names = ", ".join(f"{count} {name}" for name, count in uncounted.most_common())
        labels.notes.append(f"{source}: boxes of other classes are not counted: {names}")
    if without:
        labels.notes.append(
            f"{source}: {len(without)} of {len(known)} pairs have no labels and are left out "
            f"({', '.join(without[:4])}{', ...' if len(without) > 4 else ''})"
        )
    if not labels.boxes:
        raise LabelError(
            "\n  ".join([f"{source}: no pair of this set has labels that can be read", *problems])
        )
    return labels


def labels_of_sets(
    sets: Mapping[str, PairFolder],
) -> tuple[dict[str, Labels], dict[str, str]]:
    """Read the labels of several sets, of which some may have none.

    Returns:
        Name of a set to its labels, and name of each other set to the reason.

    Raises:
        LabelError: if no set has labels.
    """
    found: dict[str, Labels] = {}
    without: dict[str, str] = {}
    for name, pairs in sets.items():
        try:
            found[name] = read_labels(pairs.folder, pairs)
        except LabelError as error:
            without[name] = str(error)
    if not found:
        raise LabelError("\n  ".join(["no set has labels:", *without.values()]))
    return found, without


# --- finding and reading the files ----------------------------------------------------------------


def _rows(
    set_dir: Path, pairs: PairFiles
) -> tuple[Path, dict[str, tuple[str, list[Row]]], list[str]]:
    """Read rows by stem with the place they come from."""
    folder = set_dir / "labels"
    for path in (folder / "boxes.csv", set_dir / "boxes.csv"):
        if path.is_file():
            return path, _of_one_file(path, label_files.csv_boxes), []
    found = {
        ending: sorted(p for p in folder.glob(f"*{ending}") if not p.name.startswith("."))
        for ending in (".csv", ".json", ".xml", ".txt")
    }
    found[".txt"] = [path for path in found[".txt"] if path.name != "classes.txt"]
    there = [ending for ending, paths in found.items() if paths]
    if not there:
        raise LabelError(f"{folder}: no labels; expected {FORMS}")
    if len(there) > 1 or (there[0] in (".csv", ".json") and len(found[there[0]]) > 1):
        names = [path.name for ending in there for path in found[ending][:2]]
        raise LabelError(
            f"{folder}: labels in several files or forms ({', '.join(names)}); keep one form, as "
            f"{FORMS}"
        )
    paths = found[there[0]]
    if there[0] in (".csv", ".json"):
        read = label_files.csv_boxes if there[0] == ".csv" else label_files.coco_boxes
        return paths[0], _of_one_file(paths[0], read), []
    return folder, *_of_many_files(paths, folder, pairs)


def _of_one_file(
    path: Path, read: Callable[[bytes], dict[str, list[Row]]]
) -> dict[str, tuple[str, list[Row]]]:
    try:
        found = read(path.read_bytes())
    except ValueError as error:
        raise LabelError(f"{path}: {error}") from error
    rows: dict[str, tuple[str, list[Row]]] = {}
    for image, mine in found.items():
        rows.setdefault(stem_of(image), (str(path), []))[1].extend(mine)
    return rows


def _of_many_files(
    paths: list[Path], folder: Path, pairs: PairFiles
) -> tuple[dict[str, tuple[str, list[Row]]], list[str]]:
    """Read one file per picture; a damaged one is reported."""
    known = {stem: (vi, ir) for stem, ir, vi in pairs.files}
    rows: dict[str, tuple[str, list[Row]]] = {}
    problems: list[str] = []
    names = _yolo_names(folder) if paths[0].suffix == ".txt" else []
    for path in paths:
        stem = stem_of(path)
        try:
            content = path.read_bytes()
            if path.suffix == ".xml":
                mine = label_files.voc_boxes(content)
            elif stem in known:
                mine = label_files.yolo_boxes(content, _size(*known[stem]), names)
            else:
                mine = []
            rows[stem] = (str(path), mine)
        except ValueError as error:
            problems.append(f"{path}: {error}; this picture is left out")
    return rows, problems


def _yolo_names(folder: Path) -> list[str]:
    """Read the names of the classes of YOLO labels, one a line."""
    for path in (folder / "classes.txt", folder.parent / "classes.txt"):
        if path.is_file():
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    raise LabelError(
        f"{folder}: YOLO labels number their classes; expected {folder / 'classes.txt'} with one "
        "name a line"
    )


def _size(*paths: Path) -> tuple[int, int] | None:
    """Read height and width of the first picture that has them."""
    for path in paths:
        with contextlib.suppress(ValueError):  # whoever reads the picture reports it
            return upright_size(path)
    return None


# --- one box --------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    """Spell a name as in `CLASS_OF`: lower case, with blanks."""
    return unicodedata.normalize("NFC", name).strip().lower().replace("_", " ")


def _checked(
    row: Row,
    place: str,
    stem: str,
    size: tuple[int, int] | None,
    table: Mapping[str, str | None],
    uncounted: Counter[str],
    report: Callable[[str], None],
) -> Row | None:
    """Return a row that can be used, with its class; None for one that is left out."""
    name = _plain(row["name"])
    corners = [float(row[corner]) for corner in CORNERS]
    what = f"{place}: {stem}, {row['name'] or 'unnamed'} at {', '.join(f'{c:g}' for c in corners)}"
    if name not in table:
        report(
            f"{what}: unknown class {row['name']!r}; left out. Say what it is with "
            f"--class {row['name'] or 'NAME'}=person, =vehicle or =none"
        )
        return None
    if table[name] is None:
        uncounted[name] += 1
        return None
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        report(f"{what}: the box is empty, expected xmin < xmax and ymin < ymax; left out")
        return None
    if size is not None:
        height, width = size
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            report(f"{what}: outside of the picture, which is {width} x {height}; left out")
            return None
        if min(x0, y0) < -SLACK or x1 > width + SLACK or y1 > height + SLACK:
            report(f"{what}: reaches out of the picture, which is {width} x {height}; cut there")
        corners = [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))]
    return {"corners": corners, "class": table[name], "ignored": bool(row.get("ignored"))}


def _boxes(rows: list[Row]) -> Boxes:
    boxes = Boxes.of((row["corners"], row["class"]) for row in rows)
    return Boxes(
        boxes.corners,
        boxes.classes,
        boxes.scores,
        np.array([row["ignored"] for row in rows], bool),
    )
