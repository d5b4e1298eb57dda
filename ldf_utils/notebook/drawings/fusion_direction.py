"""The two arrows of the words, the two arrows of the images, and the angles between them."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.drawings.parts import Drawing, Point
from ldf_utils.notebook.figures.style import FUSED, INFRARED, VISIBLE

_BIG = {"fontsize": 13}


def _triangle(axis: Axes, places: tuple[Point, Point, Point], letter: str, names: str) -> None:
    """Draw infrared, visible and fused, with an arrow from each source to the fused one."""
    infrared, visible, fused = places
    for start, look in ((infrared, INFRARED), (visible, VISIBLE)):
        parts.arrow(axis, start, fused, look, lw=2.0, gap=0.09)
    parts.point(axis, infrared, INFRARED, f"${letter}_{{ir}}$", dy=-0.24, **_BIG)
    parts.point(axis, visible, VISIBLE, f"${letter}_{{vs}}$", dy=-0.24, **_BIG)
    parts.point(axis, fused, FUSED, f"${letter}_f$", dx=0.05, dy=0.24, **_BIG)
    for start, look, name, dx in (
        (infrared, INFRARED, "ir", -0.38),
        (visible, VISIBLE, "vs", 0.38),
    ):
        x, y = (start[0] + fused[0]) / 2 + dx, (start[1] + fused[1]) / 2
        parts.note(axis, x, y, f"$\\Delta {letter}_{{{name}}}$", color=look["color"], **_BIG)
    parts.note(axis, 0.5 * (infrared[0] + visible[0]), 3.35, names, weight="bold")


def _degrees(triangle: tuple[Point, Point, Point], place: int) -> float:
    """Direction of the arrow from a source, infrared 0 or visible 1, to the fused point."""
    (x, y), (to_x, to_y) = triangle[place], triangle[2]
    return math.degrees(math.atan2(to_y - y, to_x - x))


def _fan(axis: Axes, corner: Point, degrees: tuple[float, float], look: dict, name: str) -> None:
    """Draw a step in words and one in images from one point, with the angle between them."""
    for angle, letter in zip(degrees, ("V", r"\tilde{V}"), strict=True):
        dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        end = (corner[0] + 1.3 * dx, corner[1] + 1.3 * dy)
        parts.arrow(axis, corner, end, look, lw=2.0)
        parts.note(
            axis,
            corner[0] + 1.55 * dx,
            corner[1] + 1.48 * dy,
            f"$\\Delta {letter}_{{{name}}}$",
            color=look["color"],
            **_BIG,
        )
    parts.angle_between(axis, corner, 0.75, degrees, f"$\\theta_{{{name}}}$")


def _draw(axis: Axes) -> None:
    words = (0.65, 0.8), (2.35, 0.65), (1.55, 2.75)
    images = (3.5, 1.35), (5.05, 0.65), (4.95, 2.6)
    _triangle(axis, words, "V", "in words")
    _triangle(axis, images, r"\tilde{V}", "in images")
    parts.note(axis, 7.45, 3.35, "compare", weight="bold")
    for corner, place, look, name in (
        ((6.35, 1.2), 0, INFRARED, "ir"),
        ((8.35, 1.2), 1, VISIBLE, "vs"),
    ):
        _fan(axis, corner, (_degrees(words, place), _degrees(images, place)), look, name)
    loss = (
        r"$L_{dir} = \frac{1}{2}\,[\,1-\cos\theta_{vs}\,] + \frac{1}{2}\,[\,1-\cos\theta_{ir}\,]$"
    )
    parts.note(axis, 7.5, 0.42, loss, fontsize=11.5)
    axis.plot((2.98, 2.98), (0.2, 3.3), color="#d0d0d0", lw=0.8, ls="-")
    axis.plot((5.95, 5.95), (0.2, 3.3), color="#d0d0d0", lw=0.8, ls="-")


fusion_direction = Drawing(
    draw=_draw,
    height=3.55,
    title="The steps of the images should point where the steps of the words point",
    caption="Dashed orange: from infrared; solid blue: from visible. Left, what the sentences ask "
    "for; center, what a fusion did; right, the same arrows from one point each, with the angles "
    "that the loss measures.",
    alt="Left a triangle of three sentences: arrows lead from the infrared and from the visible "
    "sentence to the fused one. Center the same for three images, slightly turned. Right each "
    "arrow of the words beside its arrow of the images, with the angle between the two.",
)
