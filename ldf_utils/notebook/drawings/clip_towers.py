"""The two towers of CLIP and the sphere that both lead to."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.patches import Circle

from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.drawings.parts import GRAY, Drawing
from ldf_utils.notebook.figures.style import FUSED, VISIBLE


def _row(axis: Axes, y: float, steps: tuple[str, str], tower: str) -> None:
    """Draw the steps from an input that ends at x = 2.15 to a vector of length 1 at 5.9."""
    prepare, letter = steps
    parts.box(axis, 2.82, y, 0.95, 0.66, prepare)
    parts.box(axis, 4.08, y, 1.1, 0.86, f"{tower}\ntower {letter}", "frozen")
    parts.box(axis, 5.28, y, 0.85, 0.66, "divide by\nlength")
    for start, end in ((2.05, 2.33), (3.3, 3.52), (4.64, 4.84), (5.71, 5.95)):
        parts.arrow(axis, (start, y), (end, y))


def _draw(axis: Axes) -> None:
    parts.box(
        axis,
        1.08,
        2.65,
        1.9,
        0.82,
        "“a clear image with\ndetailed background\nand salient objects”",
    )
    _row(axis, 2.65, ("words to\nnumbers", "$T$"), "text")
    seen = parts.example()
    parts.picture(axis, 1.08, 0.95, 1.75, seen["visible"], "an image", VISIBLE)
    _row(axis, 0.95, ("resize to\na square", "$I$"), "image")
    parts.note(axis, 4.08, 1.8, "trained together on captioned\nimages, then frozen", fontsize=10)

    middle, radius = (7.55, 1.72), 1.12
    axis.add_patch(Circle(middle, radius, fc="white", ec=GRAY, lw=1.2))
    degrees = {"text": 152.0, "image": 204.0}
    text, image = (
        (middle[0] + radius * math.cos(turn), middle[1] + radius * math.sin(turn))
        for turn in map(math.radians, degrees.values())
    )
    parts.note(axis, 6.12, 2.65, "$V$", fontsize=13)
    parts.note(axis, 6.12, 0.95, r"$\tilde{V}$", fontsize=13, color=VISIBLE["color"])
    parts.arrow(axis, (6.25, 2.6), (text[0] - 0.06, text[1] + 0.1), dash=":", lw=1.2)
    parts.arrow(axis, (6.22, 1.02), (image[0] - 0.08, image[1] - 0.1), dash=":", lw=1.2)
    parts.arrow(axis, middle, text, FUSED)
    parts.arrow(axis, middle, image, VISIBLE)
    parts.point(axis, text, FUSED)
    parts.point(axis, image, VISIBLE)
    parts.angle_between(axis, middle, 0.42, tuple(degrees.values()), r"$\theta$")
    parts.note(axis, 8.1, 1.72, "every point\nis a vector\nof length 1", fontsize=10, color=GRAY)
    parts.note(axis, 7.55, 0.3, r"match  =  $\cos\theta$  =  $V\cdot\tilde{V}$")


clip_towers = Drawing(
    draw=_draw,
    height=3.3,
    title="Two towers place a sentence and an image on the same sphere",
    caption="Hatched: frozen; nothing in this tutorial changes CLIP. The real sphere has as many "
    "dimensions as an embedding has numbers; the drawing shows a slice through its center.",
    alt="Upper row: a sentence is turned into numbers, passes the text tower and is divided by its "
    "length. Lower row: an image is resized, passes the image tower and is divided by its length. "
    "Both end as arrows from the center to the edge of one circle, with the angle theta between.",
)
