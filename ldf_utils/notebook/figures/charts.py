"""Charts: curves, bars, dots, points in a plane, tables of numbers."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ldf_utils.notebook.figures import output
from ldf_utils.notebook.figures.style import (
    COLOR_MAP,
    COLORS,
    HATCHES,
    LINES,
    MARKERS,
    WIDTH,
    grid_shape,
    require_some,
)


def _numbers(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    return np.atleast_1d(np.asarray(values, dtype=float))


def _axis_of_history(history: Sequence[Mapping[str, Any]]) -> str | None:
    return next((name for name in ("step", "epoch") if name in history[0]), None)


def _series(
    curves: Sequence[Mapping[str, Any]] | Mapping[str, Any], y: Sequence[str] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label to (x, y), from rows of a history, or from label to values or (x, y)."""
    series: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if isinstance(curves, Mapping):
        for label, value in curves.items():
            if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[0]) == 1:
                series[label] = (_numbers(value[0]), _numbers(value[1]))
            else:
                numbers = _numbers(value)
                series[label] = (np.arange(len(numbers)), numbers)
        return series
    names = list(y) if y else [name for name in curves[0] if name not in ("step", "epoch")]
    x = _axis_of_history(curves)
    for name in names:
        rows = [(i, row) for i, row in enumerate(curves) if row.get(name) is not None]
        if not rows:
            raise ValueError(f"the history has no {name!r}; it has {sorted(curves[0])}")
        series[name] = (
            _numbers([row[x] if x else i for i, row in rows]),
            _numbers([row[name] for _, row in rows]),
        )
    return series


def show_curves(
    curves: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    *,
    y: Sequence[str] | None = None,
    x_label: str = "",
    y_label: str = "",
    panels: bool = False,
    **texts: Unpack[output.Texts],
) -> None:
    """Show curves that differ in color, dash and marker.

    Args:
        curves: rows of a history (one mapping a step, one number a term), or label to values, or
            label to ``(x, y)``.
        y: the columns of a history to draw over ``step`` or ``epoch``; by default all others.
        x_label: the horizontal quantity with its unit; by default the name of the column.
        y_label: the vertical quantity with its unit.
        panels: one panel a curve, for terms of different size.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no curve, a column is missing, or a text is missing.
    """
    require_some(curves, "curve")
    series = _series(curves, y)
    rows, columns = grid_shape(len(series), None, 3) if panels else (1, 1)
    size = (WIDTH, 2.5 * rows + 0.5 if panels else 4.2)
    fig, found = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    axes = list(found.flat) if panels else [found[0, 0]] * len(series)
    for unused in axes[len(series) :]:
        unused.set_visible(False)
    if not x_label and not isinstance(curves, Mapping):
        x_label = _axis_of_history(curves) or ""
    for i, (axis, (label, (along, up))) in enumerate(zip(axes, series.items(), strict=False)):
        look = {"color": COLORS[i % 7], "linestyle": LINES[i % 7], "marker": MARKERS[i % 7]}
        axis.plot(along, up, label=label, markevery=max(1, len(up) // 8), **look)
        axis.set(xlabel=x_label, ylabel=y_label)
        if panels:
            axis.set_title(label)
    if not panels and len(series) > 1:
        axes[0].legend(loc="best", handlelength=4)
    output.present(fig, **texts)


def _places(groups: Mapping[str, Mapping[str, float]], gap: float) -> dict[tuple[str, str], float]:
    """(group, label) to the place of its bar, with a gap after each group."""
    places, place = {}, 0.0
    for group, bars in groups.items():
        for label, value in bars.items():
            if not math.isfinite(value):
                raise ValueError(f"bar {group!r} / {label!r} must be a finite number, got {value}")
            places[group, label] = place
            place += 1.0
        place += gap
    return places


def show_bars(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    *,
    x_label: str = "",
    errors: Mapping[str, float] | None = None,
    number: str = "{:.3g}",
    **texts: Unpack[output.Texts],
) -> None:
    """Show horizontal bars with their numbers, first on top.

    Args:
        values: label to value; or group to (label to value), where a label has one color and one
            hatching in all groups.
        x_label: the quantity that the length shows, with its unit.
        errors: label to half the length of an error bar (for ungrouped bars).
        number: the format of the value at a bar.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no bar, a value is not finite, or a text is missing.
    """
    require_some(values, "bar")
    grouped = all(isinstance(value, Mapping) for value in values.values())
    groups: dict[str, dict[str, float]] = {
        group: dict(value) if isinstance(value, Mapping) else {group: value}
        for group, value in values.items()
    }
    labels = list(dict.fromkeys(itertools.chain.from_iterable(groups.values())))
    gap = 0.6 if grouped else 0.0
    places = _places(groups, gap)
    height = 0.36 * (len(places) + gap * len(groups)) + 1.3
    fig, axis = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    for i, label in enumerate(labels):
        own = [(p, float(groups[g][label])) for (g, name), p in places.items() if name == label]
        bars = axis.barh(
            [p for p, _ in own],
            [value for _, value in own],
            height=0.8,
            color=COLORS[i % 7] if grouped else COLORS[2],
            hatch=HATCHES[i % 7] if grouped else "",
            edgecolor="white",
            label=label,
            xerr=[errors[label]] * len(own) if errors and label in errors else None,
        )
        axis.bar_label(bars, [number.format(value) for _, value in own], padding=3, fontsize=10)
    middle = [np.mean([p for (g, _), p in places.items() if g == group]) for group in groups]
    axis.set_yticks(middle, [textwrap.fill(str(name), 30) for name in groups])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.axvline(0, color="black", lw=0.8, ls="-")
    axis.margins(x=0.12)
    axis.set_xlabel(x_label)
    if grouped:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handleheight=1.4)
    output.present(fig, **texts)


def _check_dots(panels: Mapping[str, Mapping[str, Sequence[float]]], reference: str | None) -> None:
    """Raise ValueError unless all panels have the same rows of finite numbers."""
    require_some(panels, "panel")
    rows = list(next(iter(panels.values())))
    for measure, found in panels.items():
        if list(found) != rows or not rows or not all(len(v) for v in found.values()):
            raise ValueError(f"panel {measure!r} must have values for each of {rows}, got {found}")
        if not all(math.isfinite(x) for values in found.values() for x in values):
            raise ValueError(f"panel {measure!r} contains NaN or infinity")
    if reference is not None and reference not in rows:
        raise ValueError(f"reference {reference!r} is not one of the rows {rows}")


def show_dots(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    reference: str | None = None,
    filled: Iterable[tuple[str, str]] | None = None,
    **texts: Unpack[output.Texts],
) -> None:
    """Show repeated results, one dot each: a panel a measure, a row a kind, a line over its range.

    Args:
        panels: measure with its unit to (row to values), all panels with the same rows; the first
            row is on top.
        reference: a row whose mean is drawn as a dashed line through the panel.
        filled: (measure, row) whose dots are filled, all others are hollow; all filled if None.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no panel, rows differ or are empty, a value is not finite, the
            reference is no row, or a text is missing.
    """
    _check_dots(panels, reference)
    rows = list(next(iter(panels.values())))
    solid = set(itertools.product(panels, rows)) if filled is None else set(filled)
    size = (WIDTH, 0.42 * len(rows) + 1.5)
    fig, axes = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axis, (measure, found) in zip(axes.flat, panels.items(), strict=True):
        if reference is not None:
            axis.axvline(np.mean(found[reference]), color="#777777", lw=1.0, ls="--")
        for k, (row, values) in enumerate(found.items()):
            axis.plot([min(values), max(values)], [k, k], color=COLORS[0], lw=1.4, ls="-")
            color = COLORS[2] if (measure, row) in solid else "white"
            look = {"marker": MARKERS[k % 7], "color": color, "ec": COLORS[0], "lw": 1.2}
            axis.scatter(values, [k] * len(values), s=42, zorder=3, **look)
        wrapped = textwrap.fill(measure, max(12, 62 // len(panels)), break_long_words=False)
        axis.set_xlabel(wrapped, fontsize=10)
        axis.tick_params(axis="x", labelsize=9)
        axis.locator_params(axis="x", nbins=3)
        axis.margins(x=0.15, y=0.12)
    axes[0, 0].set_yticks(range(len(rows)), [textwrap.fill(row, 26) for row in rows], fontsize=10)
    axes[0, 0].invert_yaxis()
    output.present(fig, **texts)


def show_points(
    points: Mapping[str, tuple[Any, Any]],
    *,
    x_label: str,
    y_label: str,
    annotate: bool = False,
    **texts: Unpack[output.Texts],
) -> None:
    """Show groups of points in a plane, each group with its own marker.

    Args:
        points: label to ``(x, y)``, numbers or equally long sequences of numbers.
        x_label: the horizontal quantity with its unit.
        y_label: the vertical quantity with its unit.
        annotate: write the label beside the mean of its points instead of drawing a legend.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no point, x and y differ in length, or a text is missing.
    """
    require_some(points, "point")
    fig, axis = plt.subplots(figsize=(WIDTH, 5.0), layout="constrained")
    centers = {}
    for i, (label, (first, second)) in enumerate(points.items()):
        x, y = _numbers(first), _numbers(second)
        if x.shape != y.shape:
            raise ValueError(f"{label!r}: x and y must be equally long, got {x.size} and {y.size}")
        centers[label] = (float(x.mean()), float(y.mean()))
        look: dict[str, Any] = {"color": COLORS[i % 7], "marker": MARKERS[i % 7], "ec": "white"}
        axis.scatter(x, y, s=60 if x.size < 20 else 28, linewidths=0.6, label=label, **look)
    axis.margins(0.12)
    axis.set(xlabel=x_label, ylabel=y_label)
    if annotate:
        _write_beside(fig, axis, centers)
    elif len(points) > 1:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    output.present(fig, **texts)


def _write_beside(fig: Figure, axis: Axes, centers: Mapping[str, tuple[float, float]]) -> None:
    """Write each label where it covers least of the other labels and points, within the axes."""
    fig.draw_without_rendering()
    across, up = axis.transData.transform(list(centers.values())).T
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in zip(across, up, strict=True)]
    places = [(7, 5, "left"), (7, -12, "left"), (-7, 5, "right"), (-7, -12, "right")]
    places += [(0, y, "center") for y in (12, -19, 20, -27)]

    def area(box):
        return 0 if box is None else box.width * box.height

    def covered(text):
        box = text.get_window_extent()
        *shared, inside = (area(Bbox.intersection(box, other)) for other in (*taken, axis.bbox))
        return sum(shared) + area(box) - inside

    for label, center in centers.items():
        tried = [
            axis.annotate(label, center, (x, y), textcoords="offset points", ha=side, fontsize=10)
            for x, y, side in places
        ]
        best = min(tried, key=covered)
        for text in tried:
            if text is not best:
                text.remove()
        taken.append(best.get_window_extent())


def show_matrix(
    values: torch.Tensor | np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    limits: tuple[float, float] | None = None,
    number: str = "{:.2f}",
    unit: str = "",
    **texts: Unpack[output.Texts],
) -> None:
    """Show a table of numbers as a grid of shades with the numbers written in.

    Args:
        values: ``(R, C)``.
        rows: R labels.
        columns: C labels.
        limits: the range of the shades; by default that of the values.
        number: the format of a number.
        unit: label of the color bar.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if the labels do not fit the shape, or a text is missing.
    """
    array = torch.as_tensor(values).detach().float().cpu().numpy()
    if array.shape != (len(rows), len(columns)):
        raise ValueError(
            f"matrix of shape {array.shape} with {len(rows)} row and {len(columns)} column labels"
        )
    low, high = limits or (float(array.min()), float(array.max()))
    fig, axis = plt.subplots(figsize=(WIDTH, 0.62 * len(rows) + 1.9), layout="constrained")
    image = axis.imshow(array, cmap=COLOR_MAP, vmin=low, vmax=high, aspect="auto")
    wide = max(8, 72 // len(columns))
    names = [textwrap.fill(x, wide, break_long_words=False) for x in columns]
    axis.set_xticks(range(len(columns)), names, fontsize=10 if len(columns) < 8 else 8.5)
    axis.set_yticks(range(len(rows)), [textwrap.fill(label, 34) for label in rows], fontsize=10)
    axis.grid(visible=False)
    for i, j in np.ndindex(*array.shape):
        color = "black" if (array[i, j] - low) / max(high - low, 1e-12) > 0.55 else "white"
        axis.text(j, i, number.format(array[i, j]), ha="center", va="center", color=color)
    fig.colorbar(image, ax=axis, label=unit)
    output.present(fig, **texts)
