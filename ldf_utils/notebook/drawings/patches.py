"""Where patches are cut, which ones count, and what they are compared with."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ldf_utils.metrics import entropy
from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.drawings.parts import INK, Drawing
from ldf_utils.notebook.figures.style import FUSED, INFRARED, VISIBLE

_SIDE = 132  # pixels; far smaller than the paper's, so that several can be told apart
_CORNERS = ((30, 300, 4), (150, 170, -5), (330, 300, 3), (470, 190, -3), (250, 12, 5))


def _cut(image: torch.Tensor, left: int, top: int) -> torch.Tensor:
    return image[..., top : top + _SIDE, left : left + _SIDE]


def _frame(axis: Axes, at: tuple[float, float, float], unit: float, counts: bool) -> None:
    """Draw one turned square at its middle in inches; one that does not count gets a cross."""
    x, y, degrees = at
    side = _SIDE * unit
    for color, width in ((INK, 3.4), ("white", 1.6)):
        style: dict[str, Any] = {"fill": False, "ec": color, "lw": width, "zorder": 3}
        turn: dict[str, Any] = {"angle": degrees, "rotation_point": "center"}
        corner = (x - side / 2, y - side / 2)
        square = Rectangle(corner, side, side, ls="-" if counts else ":", **turn, **style)
        axis.add_patch(square)
    if not counts:
        corners = square.get_corners()
        for ends in (corners[::2], corners[1::2]):
            axis.plot(*ends.T, color="white", lw=1.4, ls=":", zorder=3)


def _draw(axis: Axes) -> None:
    seen = parts.example()
    sources = seen["infrared"], seen["visible"]
    bits = [
        min(entropy(_cut(s, left, top), rounded=False).item() for s in sources)
        for left, top, _ in _CORNERS
    ]
    dropped, chosen = bits.index(min(bits)), 3
    width = 3.3
    unit, middle = width / 640, (1.8, 1.82)
    parts.picture(axis, *middle, width, seen["fused"], "")
    parts.note(axis, 0.15, 3.28, "fused image, patches at random places", ha="left")
    for i, (left, top, degrees) in enumerate(_CORNERS):
        x = middle[0] + (left + _SIDE / 2 - 320) * unit
        y = middle[1] - (top + _SIDE / 2 - 240) * unit
        _frame(axis, (x, y, degrees), unit, i != dropped)
    parts.note(
        axis,
        0.15,
        0.3,
        "dotted: too little to see in one source,\nso this patch does not count",
        ha="left",
    )

    parts.picture(axis, 4.75, 2.5, 0.85, _cut(seen["fused"], *_CORNERS[chosen][:2]), "one patch")
    parts.picture(axis, 4.75, 1.35, 0.8, seen["infrared"], "whole infrared", INFRARED)
    parts.picture(axis, 4.75, 0.5, 0.8, seen["visible"], "", VISIBLE)
    parts.note(axis, 4.75, 0.08, "whole visible", color=VISIBLE["color"])
    first = _CORNERS[chosen]
    x = middle[0] + (first[0] + _SIDE - 320) * unit
    y = middle[1] - (first[1] + 30 - 240) * unit
    parts.arrow(axis, (x, y), (4.28, 2.5), dash=":", lw=1.6)
    parts.box(axis, 6.0, 1.5, 0.72, 2.5, "CLIP\nimage\ntower", "frozen")
    for y in (2.5, 1.35, 0.5):
        parts.arrow(axis, (5.24, y), (5.62, y))
        parts.arrow(axis, (6.38, y), (6.7, y))

    patch, infrared, visible = (7.15, 2.5), (7.0, 1.35), (7.0, 0.5)
    parts.arrow(axis, infrared, (7.12, 2.4), INFRARED, lw=2.0)
    parts.arrow(axis, visible, (7.2, 2.4), VISIBLE, lw=2.0, bend=0.35)
    parts.point(axis, patch, FUSED, r"$\tilde{V}_{patch}$", dx=0.1, dy=0.26, fontsize=13)
    parts.point(axis, infrared, INFRARED, r"$\tilde{V}_{ir}$", dx=-0.02, dy=-0.26, fontsize=13)
    parts.point(axis, visible, VISIBLE, r"$\tilde{V}_{vs}$", dx=-0.02, dy=-0.26, fontsize=13)
    parts.note(axis, 8.22, 1.7, "both arrows should\npoint as in words,", fontsize=10)
    parts.note(axis, 8.22, 1.28, r"$\Delta V_{ir}$ and $\Delta V_{vs}$", fontsize=12)


patches = Drawing(
    draw=_draw,
    height=3.45,
    title="A patch of the fused image is compared with the whole source images",
    caption="Each patch must itself have moved from the sources toward the sentence. The patches "
    "are drawn smaller than they are, so that they can be told apart.",
    alt="Left a fused night scene with five small turned squares; one over a flat part is dotted "
    "and crossed out. Center one patch above the whole infrared and the whole visible image, all "
    "three led through CLIP. Right two arrows, from each source to the patch.",
)
