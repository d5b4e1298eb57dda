"""One step of training: what is computed, what is frozen, where the gradient goes."""

from __future__ import annotations

from matplotlib.axes import Axes

from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.drawings.parts import Drawing
from ldf_utils.notebook.figures.style import COLORS, FUSED, INFRARED, VISIBLE

_BACK = {"color": COLORS[4], "dash": (0, (2, 1.2)), "lw": 2.2}


def _forward(axis: Axes) -> None:
    seen = parts.example()
    crop = (..., slice(230, 450), slice(130, 350))
    parts.picture(axis, 0.7, 2.62, 0.95, seen["infrared"][crop], "infrared crop", INFRARED)
    parts.picture(axis, 0.7, 1.2, 0.95, seen["visible"][crop], "visible crop", VISIBLE)
    parts.box(axis, 2.3, 1.95, 1.2, 0.85, "network\n(trained)", "trained")
    parts.arrow(axis, (1.24, 2.5), (1.67, 2.2), INFRARED)
    parts.arrow(axis, (1.24, 1.3), (1.67, 1.7), VISIBLE)
    parts.picture(axis, 3.85, 2.0, 1.0, seen["fused"][crop], "", FUSED)
    parts.note(axis, 3.85, 1.36, "fused crop")
    parts.arrow(axis, (2.93, 2.05), (3.32, 2.05))

    parts.box(axis, 5.6, 2.7, 1.25, 0.8, "CLIP image\ntower (frozen)", "frozen")
    parts.box(axis, 5.6, 1.2, 1.25, 0.8, "features of\nedges (frozen)", "frozen")
    parts.arrow(axis, (4.4, 2.3), (4.93, 2.6))
    parts.note(axis, 4.42, 2.72, "whole and\npatches", fontsize=9.5)
    parts.arrow(axis, (4.4, 1.75), (4.93, 1.35))
    parts.box(axis, 5.6, 3.65, 1.25, 0.55, "text tower", "frozen")
    parts.note(axis, 4.5, 3.65, "three sentences, once before training", ha="right")
    parts.arrow(axis, (4.57, 3.65), (4.95, 3.65))
    parts.box(axis, 7.25, 2.7, 1.1, 0.8, "$L_{dir}$, $L_{patch}$,\n$L_{angle}$")
    parts.box(axis, 7.25, 1.2, 1.1, 0.55, "$L_{perc}$")
    parts.arrow(axis, (6.25, 2.75), (6.68, 2.75))
    parts.arrow(axis, (6.25, 1.25), (6.68, 1.25))
    parts.arrow(axis, (6.25, 3.65), (7.25, 3.13), bend=-0.25)
    parts.box(axis, 8.45, 1.95, 0.8, 0.6, "sum $L$")
    parts.arrow(axis, (7.82, 2.6), (8.3, 2.27))
    parts.arrow(axis, (7.82, 1.25), (8.3, 1.63))


def _draw(axis: Axes) -> None:
    _forward(axis)
    for start, end, bend in (
        ((8.65, 2.27), (7.82, 2.88), 0.25),
        ((8.65, 1.63), (7.82, 1.05), -0.25),
        ((6.68, 2.5), (6.25, 2.5), 0),
        ((6.68, 1.05), (6.25, 1.05), 0),
        ((4.93, 2.42), (4.4, 2.12), 0),
        ((4.93, 1.12), (4.4, 1.55), 0),
        ((3.32, 1.82), (2.93, 1.82), 0),
    ):
        parts.arrow(axis, start, end, _BACK, bend=bend)
    parts.arrow(axis, (0.3, 0.2), (0.75, 0.2))
    parts.note(axis, 0.85, 0.2, "forward", ha="left")
    parts.arrow(axis, (2.4, 0.2), (1.95, 0.2), _BACK)
    text = "gradient: passes through the frozen towers, changes only the network"
    parts.note(axis, 2.5, 0.2, text, ha="left")
    parts.note(axis, 5.6, 1.95, "the clean sources go\nin as well, without gradient", fontsize=9.5)


training_step = Drawing(
    draw=_draw,
    height=4.0,
    title="The gradient passes through the frozen towers and changes only the network",
    caption="Thick border: trained; hatched: frozen. Solid arrows: the way from a pair to the "
    "loss; dashed green arrows: the way back. The paper takes the features of VGG19; the default "
    "here is a bank of fixed filters.",
    alt="From left to right: an infrared and a visible crop enter the network, which has a thick "
    "border; the fused crop enters two hatched boxes, CLIP's image tower and edge features; their "
    "losses are added up. Dashed arrows lead back from the sum through both boxes to the network.",
)
