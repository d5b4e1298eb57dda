"""Images and maps of numbers, side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ldf_utils.notebook.figures import output
from ldf_utils.notebook.figures.style import COLOR_MAP, COLORS, grid, grid_shape, require_some


def to_array(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """Convert an image to the layout that matplotlib wants.

    Args:
        image: ``(H, W)``, ``(1 or 3, H, W)`` or ``(1, 1 or 3, H, W)``; values in [0, 1].

    Returns:
        ``(H, W)`` or ``(H, W, 3)`` float32, clamped to [0, 1].

    Raises:
        ValueError: for another shape.
    """
    array = torch.as_tensor(image).detach().float().cpu()
    shape = tuple(array.shape)
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise ValueError(
            f"an image to show must have shape (H, W), (1 or 3, H, W) or (1, 1 or 3, H, W), got "
            f"{shape}; show one image of a batch as batch[i]"
        )
    values: np.ndarray = array.clamp(0, 1).permute(1, 2, 0).numpy()
    return values[..., 0] if values.shape[-1] == 1 else values


def _draw(axis: Axes, image: np.ndarray, label: str | None) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    if label:
        axis.set_title(label)


def _outline(axis: Axes, box: Sequence[float]) -> None:
    """Draw a box visible on dark and bright ground: a white line on a wider black one."""
    x0, y0, x1, y1 = box
    for color, width in (("black", 3.0), ("white", 1.2)):
        axis.add_patch(
            Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=color, lw=width)
        )


def show_images(
    images: Mapping[str, torch.Tensor],
    *,
    columns: int | None = None,
    boxes: Mapping[str, Iterable[Sequence[float]]] | None = None,
    zoom: tuple[int, int, int, int] | None = None,
    **texts: Unpack[output.Texts],
) -> None:
    """Show images side by side, each under its label, on one gray scale from 0 to 1.

    Args:
        images: label to image, ``(1 or 3, H, W)`` in [0, 1].
        columns: images a row; by default up to 4.
        boxes: label to boxes ``(x0, y0, x1, y1)`` in pixels, drawn on that image.
        zoom: ``(x0, y0, x1, y1)`` in pixels; this part is outlined in each image and shown
            enlarged beneath it.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no image, a shape is wrong, or a text is missing.
    """
    require_some(images, "image")
    arrays = {label: to_array(image) for label, image in images.items()}
    if unknown := set(boxes or {}) - set(arrays):
        raise ValueError(f"boxes for {sorted(unknown)}, but the images are {list(arrays)}")
    rows, columns = grid_shape(len(arrays), columns, 4)
    aspect = max(p.shape[0] / p.shape[1] for p in arrays.values())
    fig, axes = grid(rows * (2 if zoom else 1), columns, aspect)
    for i, (label, array) in enumerate(arrays.items()):
        row, column = divmod(i, columns)
        axis = axes[row * 2 if zoom else row, column]
        _draw(axis, array, label)
        for box in (boxes or {}).get(label, ()):
            _outline(axis, box)
        if zoom:
            x0, y0, x1, y1 = zoom
            _outline(axis, zoom)
            _draw(axes[row * 2 + 1, column], array[y0:y1, x0:x1], f"{label}, detail")
    output.present(fig, **texts)


BOX_STYLES = {
    "found": (COLORS[5], "-"),
    "missed": (COLORS[3], "--"),
    "false": (COLORS[1], ":"),
}
"""What was detected: color and dash of the boxes of `show_boxes`."""


def show_boxes(
    images: Mapping[str, torch.Tensor],
    boxes: Mapping[str, Mapping[str, Iterable[Sequence[float]]]],
    *,
    columns: int = 3,
    **texts: Unpack[output.Texts],
) -> None:
    """Show images with the boxes that a detector found, missed, and saw where nothing is.

    All images show the same part: the one that holds all boxes.

    Args:
        images: label to image, ``(1 or 3, H, W)`` in [0, 1], all of one size.
        boxes: label to kind to boxes ``(x0, y0, x1, y1)`` in pixels; kinds are those of
            `BOX_STYLES`.
        columns: images a row.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no image, a shape or a kind is wrong, or a text is missing.
    """
    require_some(images, "image")
    arrays = {label: to_array(image) for label, image in images.items()}
    if unknown := {kind for drawn in boxes.values() for kind in drawn} - set(BOX_STYLES):
        raise ValueError(f"boxes must be {', '.join(BOX_STYLES)}, got {', '.join(sorted(unknown))}")
    left, top, right, bottom = _part(next(iter(arrays.values())).shape, boxes)
    rows, columns = grid_shape(len(arrays), columns, columns)
    fig, axes = grid(rows, columns, (bottom - top) / (right - left))
    for axis, (label, array) in zip(axes.flat, arrays.items(), strict=False):
        _draw(axis, array, label)
        axis.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
        for kind, corners in boxes.get(label, {}).items():
            for x0, y0, x1, y1 in corners:
                axis.add_patch(_box((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, kind))
    handles = [_box((0, 0), 1, 1, kind) for kind in BOX_STYLES]
    shape: dict[str, Any] = {"ncols": len(handles), "handlelength": 3, "handleheight": 1.4}
    fig.legend(handles, list(BOX_STYLES), loc="outside lower center", **shape)
    output.present(fig, **texts)


def _box(corner: tuple[float, float], width: float, height: float, kind: str) -> Rectangle:
    """Make a box whose line, dashes and all, has a black rim."""
    color, dash = BOX_STYLES[kind]
    rim = [withStroke(linewidth=4.0, foreground="black")]
    return Rectangle(corner, width, height, fill=False, lw=2.0, ec=color, ls=dash, path_effects=rim)


def _part(
    shape: Sequence[int], boxes: Mapping[str, Mapping[str, Iterable[Sequence[float]]]]
) -> tuple[float, float, float, float]:
    """Find the part of an image that holds all boxes, of its proportions; all without boxes."""
    height, width = shape[:2]
    corners = [list(c) for drawn in boxes.values() for kind in drawn.values() for c in kind]
    if not corners:
        return 0, 0, width, height
    (x0, y0), (x1, y1) = np.min(corners, axis=0)[:2], np.max(corners, axis=0)[2:]
    scale = min(1.0, 1.15 * max((x1 - x0) / width, (y1 - y0) / height))
    half = scale * width / 2, scale * height / 2
    x = min(max((x0 + x1) / 2, half[0]), width - half[0])
    y = min(max((y0 + y1) / 2, half[1]), height - half[1])
    return x - half[0], y - half[1], x + half[0], y + half[1]


def show_image_table(
    rows: Mapping[str, Mapping[str, torch.Tensor]], **texts: Unpack[output.Texts]
) -> None:
    """Show a table of images, one row a scene and one column a method.

    Args:
        rows: row label to (column label to image, ``(1 or 3, H, W)`` in [0, 1]); the cell of a
            column that a row lacks says so.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: as `show_images`.
    """
    labels = list(dict.fromkeys(itertools.chain.from_iterable(rows.values())))
    require_some(labels, "image")
    arrays = {r: {c: to_array(image) for c, image in row.items()} for r, row in rows.items()}
    aspect = max(p.shape[0] / p.shape[1] for row in arrays.values() for p in row.values())
    fig, axes = grid(len(rows), len(labels), aspect, extra=0.1)
    for i, (name, row) in enumerate(arrays.items()):
        for j, label in enumerate(labels):
            axis = axes[i, j]
            if i == 0:
                axis.set_title(label)
            if label in row:
                _draw(axis, row[label], None)
            else:
                axis.text(0.5, 0.5, "no result", ha="center", transform=axis.transAxes)
        side = axes[i, 0]
        side.text(-0.03, 0.5, name, rotation=90, ha="right", va="center", transform=side.transAxes)
    output.present(fig, **texts)


def _finite_map(label: str, values: torch.Tensor) -> np.ndarray:
    """Return a map as ``(H, W)``, checked to be finite."""
    array: np.ndarray = torch.as_tensor(values).detach().float().cpu().numpy()
    if array.ndim < 2 or math.prod(array.shape[:-2]) != 1:
        raise ValueError(f"map {label!r} must have shape (H, W), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"map {label!r} contains NaN or infinity; mask them first")
    return array.reshape(array.shape[-2:])


def show_maps(
    maps: Mapping[str, torch.Tensor],
    *,
    columns: int | None = None,
    limits: tuple[float, float] | str = "each",
    unit: str = "",
    **texts: Unpack[output.Texts],
) -> None:
    """Show maps of numbers (weights, gradients, differences), each with its color bar.

    Args:
        maps: label to map, ``(H, W)`` or ``(1, H, W)`` or ``(1, 1, H, W)``, of any range.
        columns: maps a row; by default up to 3.
        limits: the range of the colors: ``(low, high)``, ``"each"`` for the range of each map,
            ``"shared"`` for that of all, or ``"symmetric"``: shared and even about zero.
        unit: label of the color bars.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no map, a shape is wrong, a value is not finite, a text is missing.
    """
    require_some(maps, "map")
    values = {label: _finite_map(label, tensor) for label, tensor in maps.items()}
    low = min(float(v.min()) for v in values.values())
    high = max(float(v.max()) for v in values.values())
    span: tuple[float | None, float | None]
    if isinstance(limits, tuple):
        span = limits
    elif limits in (
        spans := {
            "each": (None, None),
            "shared": (low, high),
            "symmetric": (-max(abs(low), abs(high)), max(abs(low), abs(high))),
        }
    ):
        span = spans[limits]
    else:
        raise ValueError(f"limits must be (low, high), each, shared or symmetric, got {limits!r}")
    rows, columns = grid_shape(len(values), columns, 3)
    fig, axes = grid(rows, columns, 0.85 * max(v.shape[0] / v.shape[1] for v in values.values()))
    for axis, (label, array) in zip(axes.flat, values.items(), strict=False):
        image = axis.imshow(array, cmap=COLOR_MAP, vmin=span[0], vmax=span[1])
        axis.set_title(label)
        fig.colorbar(image, ax=axis, shrink=0.8).set_label(unit)
    output.present(fig, **texts)
