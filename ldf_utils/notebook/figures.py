"""Figures: one style, and one way to present them: a finding as title, a caption, an alt text.

Every figure of the tutorial goes through `present`. What a picture shows must survive a grey
printer and a screen reader: lines differ in dash and marker as well as in color, bars in hatching,
color maps rise in luminance, and the alt text says in words what the eye is meant to see.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython import get_ipython
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from PIL import Image

from ldf_utils.data.files import atomic_path

WIDTH = 9.0
"""Width of a figure in inches."""

COLORS = ("#1b1b1b", "#d55e00", "#0072b2", "#e69f00", "#007a5e", "#56b4e9", "#8f4a78")
"""Line colors, after Okabe and Ito: told apart by color-blind readers, neighbors differ in grey."""

LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
COLOR_MAP = "cividis"
"""The color map of `show_maps` and `show_matrix`: its luminance rises evenly, so grey keeps it."""
DPI = 110
"""Pixels per inch of a figure."""


def use_style() -> None:
    """Set matplotlib to the style of the tutorial; call it once, after the imports."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 4.0),
            "figure.dpi": DPI,
            "font.family": "DejaVu Sans",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#d9d9d9",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "lines.markersize": 6,
            "legend.frameon": False,
            "image.cmap": "gray",
            "hatch.linewidth": 0.7,
            "axes.prop_cycle": matplotlib.cycler(color=COLORS) + matplotlib.cycler(linestyle=LINES),
        }
    )


def _encode(fig: Figure) -> bytes:
    """The figure as PNG, in gray where it has no color."""
    raw, small = io.BytesIO(), io.BytesIO()
    fig.savefig(raw, format="png", dpi=DPI, facecolor="white")
    image = Image.open(raw).convert("RGB")
    pixels = np.asarray(image)
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def _require_words(name: str, text: str, at_least: int, example: str) -> str:
    text = " ".join(text.split())
    if len(text.split()) < at_least:
        raise ValueError(
            f"{name} of a figure: found {text!r}, expected {at_least} words or more, for example "
            f"{example!r}"
        )
    return text


def present(
    fig: Figure,
    *,
    title: str,
    caption: str,
    alt: str,
    path: str | os.PathLike | None = None,
) -> None:
    """Show a figure: the finding above it, a caption beneath it, the alt text with it.

    In a notebook this gives one PNG output whose metadata carry the alt text, and one Markdown
    output with the caption. Outside of a notebook the title and the caption are printed. The
    figure is closed.

    Args:
        fig: a matplotlib figure, best made with ``layout="constrained"``.
        title: the finding, in words: "Averaging halves the contrast", not "Contrast".
        caption: what is shown and how it was made; Markdown, ``$...$`` for formulas.
        alt: what a person sees who looks at the figure, for one who cannot.
        path: also write the PNG to this file.

    Raises:
        ValueError: if one of the three texts is missing or too short to say anything.
    """
    title = _require_words("title", title, 3, "Averaging halves the contrast of the people")
    caption = _require_words("caption", caption, 3, "The same street scene, fused by two rules.")
    alt = _require_words("alt", alt, 5, "Two pictures: people are bright in the left one only.")
    if fig.get_layout_engine() is None:
        fig.set_layout_engine("constrained")
    size = 13
    columns = int(fig.get_figwidth() * 72 / (0.64 * size))
    wrapped = textwrap.fill(title.replace(" %", "\N{NO-BREAK SPACE}%"), columns)
    fig.suptitle(wrapped, x=0.01, ha="left", fontsize=size, weight="bold")
    try:
        png = _encode(fig)
    finally:
        plt.close(fig)
    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(png)
    if get_ipython() is None:
        print(f"Figure: {title}\n  {caption}")
        return
    display(
        {"image/png": png, "text/plain": title},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )
    display({"text/markdown": f"*{_no_star(caption)}*", "text/plain": caption}, raw=True)


def _no_star(caption: str) -> str:
    """The caption without asterisks outside of formulas; it is set in italics as a whole."""
    parts = caption.split("$")
    return "$".join(part.replace("*", "") if i % 2 == 0 else part for i, part in enumerate(parts))


def clip_note(clip: Any) -> str:
    """The sentence for captions that says which CLIP measured what is shown.

    Args:
        clip: a `ldf_utils.clip.model.ClipSpace`, or anything with ``name``, ``words`` and
            ``stands_in``.
    """
    if clip.stands_in:
        return (
            "Measured with the small embedded CLIP, which stands in here for OpenAI's ViT-B/32; "
            "the numbers of the large model differ."
        )
    return f"Measured with CLIP {clip.name}."


def clip_banner(clip: Any) -> None:
    """Show, as a box in a notebook or a line in a terminal, which CLIP is in use.

    Args:
        clip: a `ldf_utils.clip.model.ClipSpace`, or anything with ``name``, ``words`` and
            ``stands_in``.
    """
    if clip.stands_in:
        text = (
            "**A small embedded CLIP stands in for OpenAI's ViT-B/32.** It was trained on "
            f"generated scenes and knows {len(clip.words or ())} words, for infrared and visible, "
            "light, sharpness, noise, haze, contrast, detail, salient objects, artifacts, people, "
            "vehicles, trees, buildings and places. The ideas carry over, the numbers do not. With "
            "a network, set the environment variable `LDF_CLIP` to `openai` to see the original "
            "ones."
        )
    else:
        text = f"**CLIP in use: {clip.name}** (frozen; nothing stands in for it)."
    if get_ipython() is None:
        print(text.replace("**", "").replace("`", ""))
    else:
        display({"text/markdown": f"> {text}", "text/plain": text}, raw=True)


def to_array(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """A picture as matplotlib wants it.

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
            f"a picture to show has shape (H, W), (1 or 3, H, W) or (1, 1 or 3, H, W), found "
            f"{shape}; show one picture of a batch as batch[i]"
        )
    array = array.clamp(0, 1).permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def _cells(count: int, columns: int | None, most: int) -> tuple[int, int]:
    columns = columns or min(count, most)
    return math.ceil(count / columns), columns


def _grid(rows: int, columns: int, aspect: float, extra: float = 0.3) -> tuple[Figure, np.ndarray]:
    """A figure of equal cells; `aspect` is height over width of what they hold."""
    height = rows * (WIDTH / columns * aspect + extra) + 0.5
    scale = min(1.0, 11.0 / height)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, height * scale),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    return fig, axes


def _draw(axis: Axes, picture: np.ndarray, label: str | None) -> None:
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    if label:
        axis.set_title(label)


def _need_some(things: Mapping | Sequence, what: str) -> None:
    if not len(things):
        raise ValueError(f"there is no {what} to show: found an empty {type(things).__name__}")


def show_images(
    images: Mapping[str, torch.Tensor],
    *,
    title: str,
    caption: str,
    alt: str,
    columns: int | None = None,
    boxes: Mapping[str, Iterable[Sequence[float]]] | None = None,
    zoom: tuple[int, int, int, int] | None = None,
    path: str | os.PathLike | None = None,
) -> None:
    """Show pictures side by side, each under its label, on one grey scale from 0 to 1.

    Args:
        images: label to picture, ``(1 or 3, H, W)`` in [0, 1].
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        columns: pictures a row; by default up to 4.
        boxes: label to boxes ``(x0, y0, x1, y1)`` in pixels, drawn on that picture.
        zoom: ``(x0, y0, x1, y1)`` in pixels; this part is outlined in each picture and shown
            enlarged beneath it.
        path: also write the PNG to this file.

    Raises:
        ValueError: if there is no picture, a shape is wrong, or a text is missing.
    """
    _need_some(images, "picture")
    pictures = {label: to_array(image) for label, image in images.items()}
    if unknown := set(boxes or {}) - set(pictures):
        raise ValueError(f"boxes for {sorted(unknown)}, but the pictures are {list(pictures)}")
    rows, columns = _cells(len(pictures), columns, 4)
    aspect = max(p.shape[0] / p.shape[1] for p in pictures.values())
    fig, axes = _grid(rows * (2 if zoom else 1), columns, aspect)
    for i, (label, picture) in enumerate(pictures.items()):
        row, column = divmod(i, columns)
        axis = axes[row * 2 if zoom else row, column]
        _draw(axis, picture, label)
        for x0, y0, x1, y1 in (boxes or {}).get(label, ()):
            _outline(axis, x0, y0, x1, y1)
        if zoom:
            x0, y0, x1, y1 = zoom
            _outline(axis, x0, y0, x1, y1)
            _draw(axes[row * 2 + 1, column], picture[y0:y1, x0:x1], f"{label}, detail")
    present(fig, title=title, caption=caption, alt=alt, path=path)


def _outline(axis: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    """A box that is seen on dark and on bright ground: a white line on a wider black one."""
    for color, width in (("black", 3.0), ("white", 1.2)):
        axis.add_patch(
            Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=color, lw=width)
        )


def show_image_table(
    rows: Mapping[str, Mapping[str, torch.Tensor]],
    *,
    title: str,
    caption: str,
    alt: str,
    path: str | os.PathLike | None = None,
) -> None:
    """Show a table of pictures: a row a scene, a column a method.

    Args:
        rows: row label to (column label to picture, ``(1 or 3, H, W)`` in [0, 1]); a row may lack
            a column, whose cell then says so.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        path: also write the PNG to this file.

    Raises:
        ValueError: as `show_images`.
    """
    _need_some(rows, "picture")
    labels = list(dict.fromkeys(itertools.chain.from_iterable(rows.values())))
    _need_some(labels, "picture")
    pictures = {r: {c: to_array(image) for c, image in row.items()} for r, row in rows.items()}
    aspect = max(p.shape[0] / p.shape[1] for row in pictures.values() for p in row.values())
    fig, axes = _grid(len(rows), len(labels), aspect, extra=0.1)
    for i, (name, row) in enumerate(pictures.items()):
        for j, label in enumerate(labels):
            axis = axes[i, j]
            if i == 0:
                axis.set_title(label)
            if label in row:
                _draw(axis, row[label], label if i == 0 else None)
            else:
                axis.text(0.5, 0.5, "no result", ha="center", transform=axis.transAxes)
            if j == 0:
                axis.text(
                    -0.03,
                    0.5,
                    name,
                    rotation=90,
                    ha="right",
                    va="center",
                    transform=axis.transAxes,
                )
    present(fig, title=title, caption=caption, alt=alt, path=path)


def show_maps(
    maps: Mapping[str, torch.Tensor],
    *,
    title: str,
    caption: str,
    alt: str,
    columns: int | None = None,
    limits: tuple[float, float] | str = "each",
    unit: str = "",
    path: str | os.PathLike | None = None,
) -> None:
    """Show maps of numbers (weights, gradients, differences), each with its color bar.

    Args:
        maps: label to map, ``(H, W)`` or ``(1, H, W)`` or ``(1, 1, H, W)``, of any range.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        columns: maps a row; by default up to 3.
        limits: the range of the colors: ``(low, high)``, ``"each"`` its own, ``"shared"`` by all,
            or ``"symmetric"``: shared and even about zero, for signed maps.
        unit: written at the color bars.
        path: also write the PNG to this file.

    Raises:
        ValueError: if there is no map, a shape is wrong, a value is not finite, a text is missing.
    """
    _need_some(maps, "map")
    values = {}
    for label, tensor in maps.items():
        array = torch.as_tensor(tensor).detach().float().cpu().numpy()
        if array.ndim < 2 or math.prod(array.shape[:-2]) != 1:
            raise ValueError(f"map {label!r}: expected (H, W), found {array.shape}")
        array = array.reshape(array.shape[-2:])
        if not np.isfinite(array).all():
            raise ValueError(f"map {label!r} holds NaN or infinity; mask them first")
        values[label] = array
    low = min(float(v.min()) for v in values.values())
    high = max(float(v.max()) for v in values.values())
    if limits == "symmetric":
        high = max(abs(low), abs(high))
        limits = (-high, high)
    elif limits == "shared":
        limits = (low, high)
    elif limits != "each" and not isinstance(limits, tuple):
        raise ValueError(f"limits: expected (low, high), each, shared or symmetric, found {limits}")
    rows, columns = _cells(len(values), columns, 3)
    fig, axes = _grid(rows, columns, 0.85 * max(v.shape[0] / v.shape[1] for v in values.values()))
    for axis, (label, array) in zip(axes.flat, values.items(), strict=False):
        vmin, vmax = (None, None) if limits == "each" else limits
        image = axis.imshow(array, cmap=COLOR_MAP, vmin=vmin, vmax=vmax)
        axis.set_title(label)
        bar = fig.colorbar(image, ax=axis, shrink=0.8)
        bar.set_label(unit)
    present(fig, title=title, caption=caption, alt=alt, path=path)


def _series(
    curves: Sequence[Mapping[str, Any]] | Mapping[str, Any], x: str | None, y: Sequence[str] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label to (x, y), from rows of a history, or from label to values or (x, y)."""
    if isinstance(curves, Mapping):
        series = {}
        for label, value in curves.items():
            if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[0]) == 1:
                series[label] = (_numbers(value[0]), _numbers(value[1]))
            else:
                numbers = _numbers(value)
                series[label] = (np.arange(len(numbers)), numbers)
        return series
    names = list(y) if y else [name for name in curves[0] if name not in (x, "step", "epoch")]
    if x is None:
        x = next((name for name in ("step", "epoch") if name in curves[0]), None)
    series = {}
    for name in names:
        rows = [(i, row) for i, row in enumerate(curves) if row.get(name) is not None]
        if not rows:
            raise ValueError(f"history has no {name!r}; it has {sorted(curves[0])}")
        series[name] = (
            _numbers([row[x] if x else i for i, row in rows]),
            _numbers([row[name] for _, row in rows]),
        )
    return series


def _numbers(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    return np.atleast_1d(np.asarray(values, dtype=float))


def show_curves(
    curves: Sequence[Mapping[str, float]] | Mapping[str, Any],
    *,
    title: str,
    caption: str,
    alt: str,
    x: str | None = None,
    y: Sequence[str] | None = None,
    x_label: str = "",
    y_label: str = "",
    smooth: int = 1,
    log: bool = False,
    panels: bool = False,
    path: str | os.PathLike | None = None,
) -> None:
    """Show curves, told apart by color, dash and marker.

    Args:
        curves: the history of a training (rows with one number a term), or label to values, or
            label to ``(x, y)``.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        x: the column of a history that goes along; by default ``step`` or ``epoch``.
        y: the columns of a history to draw; by default all others.
        x_label: what goes along, with its unit; by default the name of the column.
        y_label: what goes up, with its unit.
        smooth: width of the running mean, in points; the values themselves stay as a thin line.
        log: a logarithmic vertical axis.
        panels: one panel a curve, for terms of different size.
        path: also write the PNG to this file.

    Raises:
        ValueError: if there is no curve, a column is missing, or a text is missing.
    """
    _need_some(curves, "curve")
    series = _series(curves, x, y)
    if panels:
        rows, columns = _cells(len(series), None, 3)
        fig, axes = plt.subplots(
            rows,
            columns,
            figsize=(WIDTH, 2.5 * rows + 0.5),
            layout="constrained",
            squeeze=False,
        )
        for axis in axes.flat[len(series) :]:
            axis.set_visible(False)
        axes = list(axes.flat[: len(series)])
    else:
        fig, axis = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
        axes = [axis] * len(series)
    if not x_label and not isinstance(curves, Mapping):
        x_label = x or next((name for name in ("step", "epoch") if name in curves[0]), "")
    for i, (axis, (label, (along, up))) in enumerate(zip(axes, series.items(), strict=True)):
        look = {"color": COLORS[i % 7], "linestyle": LINES[i % 7], "marker": MARKERS[i % 7]}
        if smooth > 1 and len(up) > smooth:
            axis.plot(along, up, color=look["color"], lw=0.6, alpha=0.35, ls="-")
            up = np.convolve(up, np.ones(smooth) / smooth, mode="valid")
            along = along[smooth - 1 :]
        axis.plot(along, up, label=label, markevery=max(1, len(up) // 8), **look)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        if log:
            axis.set_yscale("log")
        if panels:
            axis.set_title(label)
    if not panels and len(series) > 1:
        axes[0].legend(loc="best", handlelength=4)
    present(fig, title=title, caption=caption, alt=alt, path=path)


def show_bars(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    *,
    title: str,
    caption: str,
    alt: str,
    x_label: str = "",
    errors: Mapping[str, float] | None = None,
    number: str = "{:.3g}",
    path: str | os.PathLike | None = None,
) -> None:
    """Show horizontal bars with their numbers, first on top.

    Args:
        values: label to value; or group to (label to value), where a label has one color and one
            hatching in all groups.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        x_label: what the length means, with its unit.
        errors: label to half the length of an error bar (for ungrouped bars).
        number: how the value at a bar is written.
        path: also write the PNG to this file.

    Raises:
        ValueError: if there is no bar, a value is not finite, or a text is missing.
    """
    _need_some(values, "bar")
    grouped = all(isinstance(value, Mapping) for value in values.values())
    groups = values if grouped else {label: {label: value} for label, value in values.items()}
    labels = list(dict.fromkeys(itertools.chain.from_iterable(groups.values())))
    positions, place = {}, 0.0
    for group, bars in groups.items():
        for label, value in bars.items():
            if not math.isfinite(value):
                raise ValueError(f"bar {group!r} / {label!r}: expected a number, found {value}")
            positions[group, label] = place
            place += 1.0
        place += 0.6 if grouped else 0.0
    fig, axis = plt.subplots(figsize=(WIDTH, 0.36 * place + 1.3), layout="constrained")
    for i, label in enumerate(labels):
        ours = [(p, float(groups[g][label])) for (g, name), p in positions.items() if name == label]
        bars = axis.barh(
            [p for p, _ in ours],
            [value for _, value in ours],
            height=0.8,
            color=COLORS[i % 7] if grouped else COLORS[2],
            hatch=HATCHES[i % 7] if grouped else "",
            edgecolor="white",
            label=label,
            xerr=[errors[label]] * len(ours) if errors and label in errors else None,
        )
        axis.bar_label(bars, [number.format(value) for _, value in ours], padding=3, fontsize=10)
    middle = {
        group: np.mean([p for (g, _), p in positions.items() if g == group]) for group in groups
    }
    axis.set_yticks(list(middle.values()), [textwrap.fill(str(name), 30) for name in middle])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.axvline(0, color="black", lw=0.8, ls="-")
    axis.margins(x=0.12)
    axis.set_xlabel(x_label)
    if grouped:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handleheight=1.4)
    present(fig, title=title, caption=caption, alt=alt, path=path)


def show_dots(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str,
    caption: str,
    alt: str,
    reference: str | None = None,
    filled: Iterable[tuple[str, str]] | None = None,
    path: str | os.PathLike | None = None,
) -> None:
    """Show repeated results, one dot each: a panel a measure, a row a kind, a line over its range.

    Args:
        panels: measure with its unit to (row to values), all panels with the same rows; the first
            row is on top.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        reference: a row whose mean is drawn as a dashed line through the panel.
        filled: (measure, row) whose dots are filled, all others are hollow; all filled if None.
        path: also write the PNG to this file.

    Raises:
        ValueError: if there is no panel, rows differ or are empty, a value is not finite, the
            reference is no row, or a text is missing.
    """
    _need_some(panels, "panel")
    rows = list(next(iter(panels.values())))
    for measure, found in panels.items():
        if list(found) != rows or not rows or not all(len(v) for v in found.values()):
            raise ValueError(
                f"panel {measure!r}: expected values for each of {rows}, found {found}"
            )
        if not all(math.isfinite(x) for values in found.values() for x in values):
            raise ValueError(f"panel {measure!r} holds NaN or infinity")
    if reference is not None and reference not in rows:
        raise ValueError(f"reference {reference!r} is none of the rows {rows}")
    filled = set(itertools.product(panels, rows)) if filled is None else set(filled)
    height = 0.42 * len(rows) + 1.5
    fig, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, height), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (measure, found) in zip(axes.flat, panels.items(), strict=True):
        if reference is not None:
            axis.axvline(np.mean(found[reference]), color="#777777", lw=1.0, ls="--")
        for k, (row, values) in enumerate(found.items()):
            axis.plot([min(values), max(values)], [k, k], color=COLORS[0], lw=1.4, ls="-")
            axis.scatter(
                values, [k] * len(values), s=42, zorder=3, marker=MARKERS[k % 7], lw=1.2,
                ec=COLORS[0], color=COLORS[2] if (measure, row) in filled else "white",
            )  # fmt: skip
        wrapped = textwrap.fill(measure, max(12, 62 // len(panels)), break_long_words=False)
        axis.set_xlabel(wrapped, fontsize=10)
        axis.tick_params(axis="x", labelsize=9)
        axis.locator_params(axis="x", nbins=3)
        axis.margins(x=0.15, y=0.12)
    axes[0, 0].set_yticks(range(len(rows)), [textwrap.fill(row, 26) for row in rows], fontsize=10)
    axes[0, 0].invert_yaxis()
    present(fig, title=title, caption=caption, alt=alt, path=path)


def show_points(
    points: Mapping[str, tuple[Any, Any]],
    *,
    title: str,
    caption: str,
    alt: str,
    x_label: str,
    y_label: str,
    annotate: bool = False,
    arrows: Iterable[tuple[str, str]] = (),
    equal: bool = False,
    path: str | os.PathLike | None = None,
) -> None:
    """Show groups of points in a plane, each group with its own marker.

    Args:
        points: label to ``(x, y)``, numbers or equally long sequences of numbers.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        x_label: what goes along, with its unit.
        y_label: what goes up, with its unit.
        annotate: write the label beside the mean of its points, in place of a legend.
        arrows: pairs of labels; an arrow is drawn from the mean of the first to that of the second.
        equal: one unit is as long along as it is up.
        path: also write the PNG to this file.

    Raises:
        ValueError: if there is no point, x and y differ in length, or a text is missing.
    """
    _need_some(points, "point")
    fig, axis = plt.subplots(figsize=(WIDTH, 5.0), layout="constrained")
    centers = {}
    for i, (label, (x, y)) in enumerate(points.items()):
        x, y = _numbers(x), _numbers(y)
        if x.shape != y.shape:
            raise ValueError(f"points {label!r}: {x.size} along and {y.size} up; expected as many")
        centers[label] = (x.mean(), y.mean())
        look = {"color": COLORS[i % 7], "marker": MARKERS[i % 7]}
        axis.scatter(
            x, y, s=60 if x.size < 20 else 28, ec="white", linewidths=0.6, label=label, **look
        )
    for start, end in arrows:
        axis.annotate(
            "",
            centers[end],
            centers[start],
            arrowprops={"arrowstyle": "->", "lw": 1.6, "shrinkA": 5, "shrinkB": 5},
        )
    if equal:
        axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.12)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    if annotate:
        _write_beside(axis, centers)
    elif len(points) > 1:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    present(fig, title=title, caption=caption, alt=alt, path=path)


def _write_beside(axis: Axes, centers: Mapping[str, tuple[float, float]]) -> None:
    """Write each label where it covers least of the other labels and points, within the axes."""
    axis.figure.draw_without_rendering()
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
    title: str,
    caption: str,
    alt: str,
    limits: tuple[float, float] | None = None,
    number: str = "{:.2f}",
    unit: str = "",
    path: str | os.PathLike | None = None,
) -> None:
    """Show a table of numbers as a grid of shades with the numbers written in.

    Args:
        values: ``(R, C)``.
        rows: R labels.
        columns: C labels.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        limits: the range of the shades; by default that of the values.
        number: how a number is written.
        unit: written at the color bar.
        path: also write the PNG to this file.

    Raises:
        ValueError: if the labels do not fit the shape, or a text is missing.
    """
    array = torch.as_tensor(values).detach().float().cpu().numpy()
    if array.shape != (len(rows), len(columns)):
        raise ValueError(
            f"matrix of shape {array.shape} with {len(rows)} row and {len(columns)} column labels"
        )
    low, high = limits or (float(array.min()), float(array.max()))
    wrapped = [textwrap.fill(label, 24) for label in columns]
    fig, axis = plt.subplots(figsize=(WIDTH, 0.62 * len(rows) + 1.9), layout="constrained")
    image = axis.imshow(array, cmap=COLOR_MAP, vmin=low, vmax=high, aspect="auto")
    axis.set_xticks(range(len(columns)), wrapped, fontsize=10)
    axis.set_yticks(range(len(rows)), [textwrap.fill(label, 34) for label in rows], fontsize=10)
    axis.grid(visible=False)
    for i, j in np.ndindex(*array.shape):
        bright = (array[i, j] - low) / max(high - low, 1e-12) > 0.55
        axis.text(
            j,
            i,
            number.format(array[i, j]),
            ha="center",
            va="center",
            color="black" if bright else "white",
        )
    fig.colorbar(image, ax=axis, label=unit)
    present(fig, title=title, caption=caption, alt=alt, path=path)
