"""Figures that one lesson needs: probabilities of two classes, two triangles, a pull on pixels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Unpack

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from ldf_utils.notebook.figures import output
from ldf_utils.notebook.figures.images import to_array
from ldf_utils.notebook.figures.style import (
    COLOR_MAP,
    COLORS,
    FUSED,
    INFRARED,
    VISIBLE,
    WIDTH,
    require_some,
)


def show_probabilities(
    probabilities: Mapping[str, torch.Tensor], label: str, **texts: Unpack[output.Texts]
) -> None:
    """Show the probability of one class for infrared and visible images, one row a set.

    Args:
        probabilities: set to ``(N, 2)``, the infrared image of each pair first.
        label: of the axis.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no set, or a text is missing.
    """
    require_some(probabilities, "set")
    size = (WIDTH, 0.6 * len(probabilities) + 1.6)
    fig, axis = plt.subplots(figsize=size, layout="constrained")
    kinds = {"infrared": INFRARED, "visible": VISIBLE}
    for row, values in enumerate(probabilities.values()):
        for column, (kind, look) in enumerate(kinds.items()):
            heights = [row - 0.16 + 0.32 * column] * len(values)
            name = kind if row == 0 else None
            style = {"color": look["color"], "marker": look["marker"], "label": name}
            axis.scatter(values[:, column], heights, s=26, alpha=0.7, **style)
    axis.axvline(0.5, color="black", lw=1, ls="--")
    labels = [f"{name} ({len(values)} pairs)" for name, values in probabilities.items()]
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    output.present(fig, **texts)


def _triangle(axis: Axes, points: Mapping[str, torch.Tensor]) -> None:
    """Draw points; arrows lead from the first two to the third."""
    places = [tuple(place.tolist()) for place in points.values()]
    named = [(look["color"], look["marker"]) for look in (INFRARED, VISIBLE, FUSED)]
    others = zip(itertools.cycle(COLORS[3:]), itertools.cycle("DvPXp<>hd8"), strict=False)
    looks = itertools.chain(named, others)  # without end: every point gets one
    for label, place, (color, marker) in zip(points, places, looks, strict=False):
        look: dict[str, Any] = {"color": color, "marker": marker}
        axis.scatter(place[0], place[1], s=70, ec="white", zorder=3, label=label, **look)
    for start in places[:2]:
        arrow = {"arrowstyle": "->", "lw": 1.6, "shrinkA": 6, "shrinkB": 6}
        axis.annotate("", places[2], start, arrowprops=arrow)
    axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.2)
    axis.set_title(f"arrows to: {list(points)[2]}")
    axis.set(xlabel="from infrared to visible", ylabel="toward the goal")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=10)


def show_triangles(
    words: Mapping[str, torch.Tensor],
    images: Mapping[str, torch.Tensor],
    **texts: Unpack[output.Texts],
) -> None:
    """Show two sets of points in one plane, with arrows from the first two points to the third.

    Args:
        words: label to ``(2,)``: infrared, visible and fused prompt.
        images: label to ``(2,)``: infrared, visible, a fused image, and others.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no point, or a text is missing.
    """
    require_some(words, "point")
    require_some(images, "point")
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 5.2), layout="constrained")
    for axis, points in zip(axes, (words, images), strict=True):
        _triangle(axis, points)
    output.present(fig, **texts)


def show_pull(
    image: torch.Tensor, pull: torch.Tensor, labels: tuple[str, str], **texts: Unpack[output.Texts]
) -> None:
    """Show an image and beside it a signed map of the same size, scaled to -1..1.

    Args:
        image: ``(1, 1, H, W)`` in [0, 1].
        pull: ``(1, 1, H, W)``, divided here by the 99th percentile of its absolute value.
        labels: of the image and of the map.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: for a wrong shape, or if a text is missing.
    """
    for name, values in (("image", image), ("pull", pull)):
        if values.shape != (1, 1, *image.shape[-2:]):
            raise ValueError(
                f"{name} must have shape (1, 1, H, W), the same for both, got "
                f"{tuple(values.shape)} beside {tuple(image.shape)}"
            )
    tall = image.shape[-2] / image.shape[-1]
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, WIDTH / 2 * tall + 0.9), layout="constrained")
    axes[0].imshow(to_array(image), cmap="gray", vmin=0, vmax=1)
    scaled = pull / pull.abs().flatten().quantile(0.99).clamp_min(1e-12)
    shown = axes[1].imshow(scaled[0, 0].cpu(), cmap=COLOR_MAP, vmin=-1, vmax=1)
    fig.colorbar(shown, ax=axes[1], shrink=0.8)
    for axis, label in zip(axes, labels, strict=True):
        axis.set_axis_off()
        axis.set_title(label)
    output.present(fig, **texts)
