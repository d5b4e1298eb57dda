"""Boxes around objects, from the two forms that sets keep them in."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from typing import Any

Box = dict[str, Any]


def voc_boxes(content: bytes, size: tuple[int, int] | None, spec: Mapping[str, Any]) -> list[Box]:
    """Read Pascal VOC XML.

    Args:
        content: the file.
        size: not used: corners are in pixels.
        spec: not used.

    Returns:
        Boxes with ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels, and ``name``.

    Raises:
        ValueError: if it is not of this form, or declares entities.
    """
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise ValueError("the XML declares entities, which an annotation does not need")
    boxes = []
    try:
        for item in ElementTree.fromstring(content).findall("object"):
            box: Box = {
                corner: round(float(item.findtext(f"bndbox/{corner}") or ""))
                for corner in ("xmin", "ymin", "xmax", "ymax")
            }
            name = (item.findtext("name") or "").strip()
            if not name:
                raise ValueError("an object has no name")
            boxes.append(box | {"name": name})
    except (ElementTree.ParseError, ValueError, OverflowError) as error:
        raise ValueError(f"no annotation in VOC form ({error})") from error
    return boxes


def yolo_boxes(content: bytes, size: tuple[int, int] | None, spec: Mapping[str, Any]) -> list[Box]:
    """Read YOLO text: a class, and center and size as fractions of the image's.

    Args:
        content: the file.
        size: height and width of the image in pixels, or None if it is damaged.
        spec: ``classes`` are the names of the classes.

    Returns:
        Boxes as `voc_boxes`.

    Raises:
        ValueError: if a line is not of this form, or the size is not known.
    """
    if size is None:
        raise ValueError("its image is damaged, so the scale of its boxes is unknown")
    height, width = size
    boxes = []
    for number, line in enumerate(content.decode("ascii").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            index, *fractions = line.split()
            if not 0 <= int(index) < len(spec["classes"]):
                raise ValueError(index)
            x, y, w, h = map(float, fractions)
            x, y, w, h = x * width, y * height, w * width, h * height
            boxes.append(
                {
                    "xmin": round(x - w / 2),
                    "ymin": round(y - h / 2),
                    "xmax": round(x + w / 2),
                    "ymax": round(y + h / 2),
                    "name": spec["classes"][int(index)],
                }
            )
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"line {number} is {line!r}; expected a class below {len(spec['classes'])} and "
                "four fractions"
            ) from error
    return boxes


READERS: dict[str, Callable[[bytes, tuple[int, int] | None, Mapping[str, Any]], list[Box]]] = {
    "voc": voc_boxes,
    "yolo": yolo_boxes,
}
