"""Label files: the boxes in Pascal VOC XML, YOLO text, COCO JSON and CSV, as plain rows."""

from __future__ import annotations

import csv
import io
import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_boxes(content: bytes) -> list[Row]:
    """Read Pascal VOC XML.

    Args:
        content: the file.

    Returns:
        Boxes with ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels, and ``name``; those marked as
        difficult have ``ignored``, too.

    Raises:
        ValueError: if it is not of this form, or declares entities.
    """
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise ValueError("the XML declares entities, which an annotation does not need")
    boxes = []
    try:
        for item in ElementTree.fromstring(content).findall("object"):
            box: Row = {
                corner: _number(item.findtext(f"bndbox/{corner}") or "") for corner in CORNERS
            }
            name = (item.findtext("name") or "").strip()
            if not name:
                raise ValueError("an object has no name")
            difficult = (item.findtext("difficult") or "0").strip() == "1"
            boxes.append(box | {"name": name} | ({"ignored": True} if difficult else {}))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"no annotation in VOC form ({error})") from error
    return boxes


def yolo_boxes(content: bytes, size: tuple[int, int] | None, classes: Sequence[str]) -> list[Row]:
    """Read YOLO text: a class, and center and size as fractions of the image's.

    Args:
        content: the file.
        size: height and width of the image in pixels, or None if it is damaged.
        classes: the names of the classes.

    Returns:
        Boxes with ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels, and ``name``.

    Raises:
        ValueError: if a line is not of this form, or the size is not known.
    """
    if size is None:
        raise ValueError("its image is damaged, so the scale of its boxes is unknown")
    height, width = size
    boxes = []
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            index, *fractions = line.split()
            if not 0 <= int(index) < len(classes):
                raise ValueError(index)
            x, y, w, h = map(_number, fractions)
            x, y, w, h = x * width, y * height, w * width, h * height
            corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            boxes.append({**dict(zip(CORNERS, corners, strict=True)), "name": classes[int(index)]})
        except ValueError as error:
            raise ValueError(
                f"line {number} is {line!r}; expected a class below {len(classes)} and four "
                "fractions"
            ) from error
    return boxes


def csv_boxes(content: bytes) -> dict[str, list[Row]]:
    """Read a table with the columns ``image,xmin,ymin,xmax,ymax,name``.

    A row with an image and five empty cells says that there is nothing in the image.

    Returns:
        Name of the image to its boxes.

    Raises:
        ValueError: if a column is missing, or a row has no number where one should be.
    """
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    wanted = ("image", *CORNERS, "name")
    if lacking := [column for column in wanted if column not in (reader.fieldnames or ())]:
        raise ValueError(
            f"no column {', '.join(lacking)}; expected the columns {','.join(wanted)}, found "
            f"{','.join(reader.fieldnames or ()) or 'none'}"
        )
    found: dict[str, list[Row]] = {}
    for row in reader:
        boxes = found.setdefault((row["image"] or "").strip(), [])
        cells = [(row[column] or "").strip() for column in wanted[1:]]
        if not any(cells):
            continue
        try:
            corners = [_number(cell) for cell in cells[:4]]
        except ValueError as error:
            raise ValueError(f"line {reader.line_num}: {error}; expected four corners") from error
        boxes.append({**dict(zip(CORNERS, corners, strict=True)), "name": cells[4]})
    return found


def coco_boxes(content: bytes) -> dict[str, list[Row]]:
    """Read COCO JSON: ``images``, ``categories``, ``annotations`` with ``bbox``.

    Returns:
        ``file_name`` of each image to its boxes; those of crowds have ``ignored``.

    Raises:
        ValueError: if it is not of this form.
    """
    try:
        held = json.loads(content)
        names = {category["id"]: str(category["name"]) for category in held["categories"]}
        files = {image["id"]: str(image["file_name"]) for image in held["images"]}
        found: dict[str, list[Row]] = {file: [] for file in files.values()}
        for item in held["annotations"]:
            x, y, width, height = (_number(value) for value in item["bbox"])
            corners = (x, y, x + width, y + height)
            row: Row = {
                **dict(zip(CORNERS, corners, strict=True)),
                "name": names[item["category_id"]],
            }
            crowd = {"ignored": True} if item.get("iscrowd") else {}
            found[files[item["image_id"]]].append(row | crowd)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"no annotation in COCO form ({said})") from error
    return found


def _number(text: Any) -> float:
    """Read a finite number."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value
