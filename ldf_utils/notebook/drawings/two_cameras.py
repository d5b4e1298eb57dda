"""What a visible and an infrared camera measure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.drawings.parts import GRAY, INK, PALE, Drawing
from ldf_utils.notebook.figures.style import INFRARED, VISIBLE


def _person(axis: Axes, x: float, y: float) -> None:
    """Draw a standing figure of 1.2 inches whose feet are at (x, y)."""
    look: dict[str, Any] = {"fc": "white", "ec": INK, "lw": 1.4, "zorder": 3}
    for dx in (-0.13, 0.03):
        axis.add_patch(Rectangle((x + dx, y), 0.1, 0.5, **look))
    style = "round,pad=0,rounding_size=0.08"
    axis.add_patch(FancyBboxPatch((x - 0.17, y + 0.42), 0.34, 0.5, boxstyle=style, **look))
    axis.add_patch(Circle((x, y + 1.06), 0.13, **look))


def _camera(axis: Axes, x: float, y: float, text: str, look: dict) -> None:
    body = {"fc": "white", "ec": look["color"], "ls": look["dash"], "lw": 1.8, "zorder": 3}
    lens = [(x - 0.32, y - 0.16), (x - 0.32, y + 0.16), (x - 0.14, y + 0.07), (x - 0.14, y - 0.07)]
    axis.add_patch(Rectangle((x - 0.14, y - 0.19), 0.5, 0.38, **body))
    axis.add_patch(Polygon(lens, closed=True, **body))
    parts.note(axis, x + 0.1, y - 0.36, text, color=look["color"])


def _wall(axis: Axes) -> None:
    joint: dict[str, Any] = {"color": "#c4c4c4", "lw": 0.6, "ls": "-", "zorder": 0}
    axis.add_patch(Rectangle((0.15, 0.45), 2.15, 2.5, fc=PALE, ec=GRAY, lw=0.8, zorder=0))
    for row, y in enumerate(np.arange(0.45, 2.9, 0.25)):
        axis.plot((0.15, 2.3), (y, y), **joint)
        for x in np.arange(0.15 + 0.25 * (row % 2), 2.3, 0.5):
            axis.plot((x, x), (y, min(y + 0.25, 2.95)), **joint)
    axis.plot((0.1, 3.6), (0.45, 0.45), color=INK, lw=1.2, ls="-")


def _heat(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a wave from start to end, with the head of an arrow."""
    way, length = np.linspace(0, 1, 120), np.hypot(end[0] - start[0], end[1] - start[1])
    dx, dy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    wave = 0.06 * np.sin(2 * np.pi * way * length / 0.22) * (way < 0.93)
    x, y = start[0] + way * dx * length, start[1] + way * dy * length
    axis.plot(x - dy * wave, y + dx * wave, color=INFRARED["color"], lw=1.5, ls="-")
    parts.arrow(axis, (x[-10], y[-10]), end, INFRARED, dash="-")


def _draw(axis: Axes) -> None:
    _wall(axis)
    _person(axis, 1.3, 0.47)
    axis.add_patch(Circle((3.05, 3.15), 0.14, fc="#fff3c4", ec=INK, lw=1.2))
    for turn in np.arange(0, 2 * np.pi, np.pi / 4):
        ray = np.array((np.cos(turn), np.sin(turn)))
        ends = np.array((3.05, 3.15)) + np.stack([0.19 * ray, 0.27 * ray])
        axis.plot(*ends.T, color=INK, lw=1.2, ls="-")
    parts.note(axis, 3.42, 3.15, "lamp or sun", ha="left")
    parts.arrow(axis, (2.82, 2.98), (1.97, 2.25), VISIBLE)
    parts.arrow(axis, (1.95, 2.2), (4.02, 2.32), VISIBLE)
    parts.note(axis, 2.95, 2.47, "reflected light", color=VISIBLE["color"])
    _heat(axis, (1.5, 1.2), (4.02, 1.0))
    parts.note(axis, 2.85, 1.33, "emitted heat", color=INFRARED["color"])
    _camera(axis, 4.4, 2.32, "visible camera", VISIBLE)
    _camera(axis, 4.4, 1.0, "infrared camera", INFRARED)

    seen = parts.example()
    view = (..., slice(140, 480), slice(20, 460))
    parts.arrow(axis, (4.85, 2.32), (5.2, 2.5), VISIBLE)
    parts.arrow(axis, (4.85, 1.0), (5.2, 0.85), INFRARED)
    parts.picture(axis, 6.12, 2.62, 1.75, seen["visible"][view], "visible image", VISIBLE)
    parts.picture(axis, 6.12, 0.92, 1.75, seen["infrared"][view], "infrared image", INFRARED)
    left = {"ha": "left", "linespacing": 1.35, "fontsize": 10}
    text = "+ texture, color, writing\n− dark without a lamp\n− blind in smoke, glare"
    parts.note(axis, 7.1, 2.62, text, **left)
    text = "+ needs no light\n+ warm people stand out\n− equal temperatures\n   look alike"
    parts.note(axis, 7.1, 0.92, text, **left)


two_cameras = Drawing(
    draw=_draw,
    height=3.5,
    title="One camera collects reflected light, the other the heat that things emit",
    caption="The visible camera needs a lamp or the sun. The infrared camera needs neither, "
    "because people and walls radiate by themselves. Right: what both see of one rendered night.",
    alt="A lamp lights a brick wall and a person; reflected light goes to the visible camera. "
    "A wavy line of heat goes from the person to the infrared camera. Beside the cameras are "
    "their images: the lit wall with a dark person, and a bright person on a flat street.",
)
