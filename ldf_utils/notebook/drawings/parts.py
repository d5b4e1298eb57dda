"""What the drawings are made of: a canvas in inches, boxes, arrows, images and notes.

Infrared is orange, dashed and square, visible is blue, solid and triangular, fused is black and
round, in words as in images. What is trained has a thick border, what is frozen is hatched.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import Arc, FancyArrowPatch, FancyBboxPatch, Rectangle

from ldf_utils.data.sets import rendered_sets
from ldf_utils.fusion.inference import fuse_tensors
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.notebook.figures.images import to_array
from ldf_utils.notebook.figures.output import present
from ldf_utils.notebook.figures.style import COLORS, WIDTH

Point = tuple[float, float]

INK = COLORS[0]
GRAY = "#6b6b6b"
PALE = "#f2f2f2"
TITLE_HEIGHT = 0.42
EXAMPLE = "0014"
"""The rendered night that the drawings show: a person before a lit wall and a flat street."""


@dataclass(frozen=True)
class Drawing:
    """Hold a drawing and its texts.

    Attributes:
        draw: paints on a canvas of `parts.canvas`.
        height: of the canvas in inches; the width is that of all figures.
        title: what the drawing says.
        caption: how to read it.
        alt: the drawing in words.

    Example:
        >>> from ldf_utils.notebook import drawings
        >>> drawings.two_cameras.show()  # doctest: +SKIP
    """

    draw: Callable[[Axes], None]
    height: float
    title: str
    caption: str
    alt: str

    def show(self, path: str | None = None) -> None:
        """Show the drawing in a notebook; also write it as PNG to `path`, if one is given."""
        fig, axis = canvas(self.height)
        self.draw(axis)
        present(fig, title=self.title, caption=self.caption, alt=self.alt, path=path)


def canvas(height: float) -> tuple[Figure, Axes]:
    """Make an empty axis whose unit is an inch; (0, 0) is the lower left corner."""
    fig = plt.figure(figsize=(WIDTH, height + TITLE_HEIGHT))
    fig.set_layout_engine(PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True))
    axis = fig.add_axes((0, 0, 1, height / (height + TITLE_HEIGHT)))
    axis.set(xlim=(0, WIDTH), ylim=(0, height))
    axis.set_axis_off()
    return fig, axis


def note(axis: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write a text, centered at (x, y)."""
    usual: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10.5, "color": INK}
    axis.text(x, y, text, **(usual | style))


def box(
    axis: Axes, x: float, y: float, width: float, height: float, text: str, kind: str = "plain"
) -> None:
    """Draw a box centered at (x, y): plain, trained (thick border) or frozen (hatched)."""
    looks: dict[str, dict[str, Any]] = {
        "plain": {"fc": "white", "ec": INK, "lw": 1.0},
        "trained": {"fc": "white", "ec": INK, "lw": 3.0},
        "frozen": {"fc": PALE, "ec": "#c9c9c9", "lw": 0.8, "hatch": "////"},
    }
    corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.06"
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, **looks[kind]))
    back = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.9}
    if kind == "frozen":
        axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fill=False, ec=GRAY))
    note(axis, x, y, text, bbox=back if kind == "frozen" else None)


def arrow(
    axis: Axes, start: Point, end: Point, look: dict[str, Any] | None = None, **style: Any
) -> None:
    """Draw an arrow; `bend` (0 is straight), `lw`, `dash` and `gap` (inches left at the end)."""
    look = (look or {"color": INK, "dash": "-"}) | style
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=13,
            lw=look.get("lw", 1.4),
            ls=look["dash"],
            color=look["color"],
            shrinkA=0,
            shrinkB=72 * look.get("gap", 0),
            connectionstyle=f"arc3,rad={look.get('bend', 0)}",
            zorder=2,
        )
    )


def point(axis: Axes, place: Point, look: dict[str, Any], text: str = "", **style: Any) -> None:
    """Draw a marked point with its name beside it; `dx` and `dy` move the name."""
    dx, dy = style.pop("dx", 0.0), style.pop("dy", 0.2)
    marker = {"marker": look["marker"], "color": look["color"], "ms": 9, "mec": "white"}
    axis.plot(*place, ls="", zorder=4, **marker)
    note(axis, place[0] + dx, place[1] + dy, text, **({"color": look["color"]} | style))


def picture(
    axis: Axes,
    x: float,
    y: float,
    width: float,
    image: torch.Tensor,
    text: str = "",
    look: dict[str, Any] | None = None,
) -> None:
    """Draw an image centered at (x, y) with its name below and a border in its own look."""
    array = to_array(image)
    half, tall = width / 2, width * array.shape[0] / array.shape[1] / 2
    extent = (x - half, x + half, y - tall, y + tall)
    axis.imshow(array, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", zorder=1)
    look = look or {"color": INK, "dash": "-"}
    border = {"fill": False, "ec": look["color"], "ls": look["dash"], "lw": 1.8, "zorder": 2}
    axis.add_patch(Rectangle((x - half, y - tall), width, 2 * tall, **border))
    note(axis, x, y - tall - 0.14, text, color=look["color"])


def angle_between(
    axis: Axes, corner: Point, radius: float, degrees: Sequence[float], text: str
) -> None:
    """Mark the angle from the first to the second of two directions, and name it."""
    first, second = sorted(degrees)
    size = 2 * radius
    axis.add_patch(Arc(corner, size, size, theta1=first, theta2=second, color=INK, lw=1.2))
    middle, far = math.radians((first + second) / 2), radius + 0.17
    note(axis, corner[0] + far * math.cos(middle), corner[1] + far * math.sin(middle), text)


@functools.cache
def example() -> dict[str, torch.Tensor]:
    """Return one rendered pair and what the shipped network makes of it, ``(1, 1, H, W)`` each."""
    nights = rendered_sets()["RenderedNight"]
    pair = nights[nights.names.index(EXAMPLE)]
    infrared, visible = pair.infrared[None], pair.luminance[None]
    fused = fuse_tensors(load_network("shipped"), infrared, visible)
    return {"infrared": infrared, "visible": visible, "fused": fused}
