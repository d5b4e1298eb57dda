"""Style and layout of the figures."""

from __future__ import annotations

import math
from collections.abc import Sized
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

WIDTH = 9.0
"""Width of a figure in inches."""
DPI = 110
"""Pixels per inch of a figure."""
COLORS = ("#1b1b1b", "#d55e00", "#0072b2", "#e69f00", "#007a5e", "#56b4e9", "#8f4a78")
"""Line colors after Okabe and Ito: distinct for color-blind readers, neighbors differ in gray."""
INFRARED: dict[str, Any] = {"color": COLORS[1], "dash": "--", "marker": "s"}
VISIBLE: dict[str, Any] = {"color": COLORS[2], "dash": "-", "marker": "^"}
FUSED: dict[str, Any] = {"color": COLORS[0], "dash": "-", "marker": "o"}
"""How each kind of image looks in drawings and figures."""
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
COLOR_MAP = "cividis"
"""The color map of `show_maps` and `show_matrix`; its luminance rises evenly, so gray keeps it."""


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
            "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=LINES),
        }
    )


def grid_shape(count: int, columns: int | None, most: int) -> tuple[int, int]:
    """Rows and columns for `count` cells."""
    columns = columns or min(count, most)
    return math.ceil(count / columns), columns


def grid(rows: int, columns: int, aspect: float, extra: float = 0.3) -> tuple[Figure, np.ndarray]:
    """Make a figure of equal cells; `aspect` is height over width of their contents."""
    height = min(11.0, rows * (WIDTH / columns * aspect + extra) + 0.5)
    fig, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    return fig, axes


def require_some(things: Sized, what: str) -> None:
    """Raise ValueError if there is nothing to show."""
    if not len(things):
        raise ValueError(f"there is no {what} to show: got an empty {type(things).__name__}")
