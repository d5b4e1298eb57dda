"""The figure: distributions of both cameras, and the distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from experiments.scene_statistics.measures import BETWEEN, PER_CAMERA, RINGS
from ldf_utils.notebook.figures import WIDTH, present, use_style

Array = npt.NDArray[np.float32]
Samples = Mapping[str, Mapping[str, Array]]
EDGES = {
    "gray": np.linspace(0, 1, 25),
    "gradient": np.geomspace(0.002, 0.5, 25),
    "entropy": np.linspace(0, 4.5, 19),
}
TICKS = (5, 10, 20, 40, 80)
AXES = {
    "gray": "gray level",
    "gradient": "gradient (log scale)",
    "entropy": "entropy of a block, bits",
    "spectrum": "cycles a height (log scale)",
}
CAMERAS = {"ir": "infrared", "vi": "visible"}


def _curve(key: str, values: Array) -> tuple[Array, Array]:
    """Return the points of a curve: share of values in each bin, or median log power."""
    if key == "spectrum":
        return np.sqrt(RINGS[1:] * RINGS[:-1]).astype(np.float32), np.median(values, 0)
    edges = EDGES[key]
    inside = np.clip(values, edges[0], edges[-1])
    counts = np.histogram(inside, edges)[0] / len(values)
    middle = (edges[1:] + edges[:-1]) / 2
    return middle.astype(np.float32), counts.astype(np.float32)


def _panel(ax: Axes, key: str, real: Samples, rendered: Array) -> None:
    for found in real.values():
        x, y = _curve(key, found[key])
        ax.plot(x, y, color="#9a9a9a", linestyle="-", linewidth=1)
    ax.plot(*_curve(key, rendered), color="#000000", linestyle="-", linewidth=2.2)
    if key in ("gradient", "spectrum"):
        ax.set_xscale("log")
    if key == "spectrum":
        ax.set_xticks(TICKS, [str(t) for t in TICKS])
        ax.minorticks_off()
    else:
        ax.set_yticks([])
        ax.set_ylim(bottom=0)
    ax.set_xlabel(AXES[key], fontsize=8)


def _dots(ax: Axes, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Draw the mean distance of each statistic: rendered, painted, and between real sets."""
    for y, (_, found) in enumerate(rows):
        ax.plot([0, found["rendered"]["real"]], [y, y], color="#d0d0d0", linestyle="-", linewidth=7)
        ax.plot(found["rendered"]["mean"], y, "o", color="#000000", markersize=6, zorder=3)
        if "painted" in found:
            ax.plot(found["painted"]["mean"], y, "o", color="#444444", markerfacecolor="white")
    ax.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel(
        "mean Wasserstein-1 distance to the real sets, in standard deviations of real pictures; "
        "gray bar: between two real sets",
        fontsize=8,
    )


def finding(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Say in one sentence how often rendered pictures are as near as real sets to each other."""
    near = [label for label, f in rows if f["rendered"]["mean"] <= f["rendered"]["real"]]
    far = [label for label, f in rows if label not in near]
    text = (
        f"In {len(near)} of {len(rows)} statistics the rendered set is as near to the real sets as "
        "these are to each other"
    )
    return text if not far else f"{text}; not in {', '.join(far)}"


def draw(
    real: Mapping[str, Samples],
    made: Samples,
    numbers: Mapping[str, Mapping[str, Any]],
    path: Path,
) -> str:
    """Write the figure and return its title.

    Args:
        real: camera to set to ``measures.samples``.
        made: camera to ``measures.samples`` of the rendered set.
        numbers: camera, or ``correlation``, to statistic to kind to ``measures.distances``.
        path: of the PNG file.
    """
    use_style()
    layout: Any = [[f"{k}{s}" for s in PER_CAMERA] for k in CAMERAS] + [["dots"] * len(PER_CAMERA)]
    fig, axes = plt.subplot_mosaic(
        layout,
        figsize=(WIDTH, 8.0),
        layout="constrained",
        height_ratios=[1, 1, 1.25],
    )
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for kind, camera in CAMERAS.items():
        for key in PER_CAMERA:
            ax = axes[kind + key]
            _panel(ax, key, real[kind], made[kind][key])
            ax.set_title(f"{camera}: {key}", loc="left", fontsize=9)
            rows.append((f"{key} ({camera})", numbers[kind][key]))
    rows.append(("correlation of the two", numbers[BETWEEN][BETWEEN]))
    _dots(axes["dots"], rows)
    title = finding(rows)
    present(
        fig,
        title=title,
        caption="Thin gray: real sets, one line each. Thick black and filled dots: rendered. "
        "Hollow dots: the painted scenes that came before (a record). All pictures at 192 rows; "
        "shares of pixels or blocks, and median power in decades "
        "(`python -m experiments.scene_statistics distances`).",
        alt="Eight small plots of distributions, infrared above visible: gray levels, gradients, "
        "local entropy and spectrum. The line of the rendered set runs among those of the real "
        f"sets. Below, a dot for the distance of each statistic. {title}.",
        path=path,
    )
    return title
