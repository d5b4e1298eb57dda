"""The figures of committed notebooks, made small enough for a repository.

Notebooks that are run, and their pages, keep their figures as they are.
"""

from __future__ import annotations

import base64
import io

import nbformat
from nbformat import NotebookNode
from PIL import Image

MOST_BYTES = 1_400_000
"""How large a committed notebook may be."""

# Tried in this order: scale, and number of colors (None: all). Fewer than 256 would show as bands.
_QUALITIES = (
    (1.0, None),
    (1.0, 256),
    (0.85, 256),
    (0.75, 256),
    (0.65, 256),
    (0.55, 256),
    (0.45, 256),
)


def reduced_png(png: bytes, scale: float, colors: int | None) -> bytes:
    """Return a PNG with its sides multiplied by `scale` and at most `colors` colors."""
    image: Image.Image = Image.open(io.BytesIO(png))
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if scale != 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    if colors is not None:
        image = image.quantize(colors, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def fit_figures(notebook: NotebookNode, most_bytes: int = MOST_BYTES) -> None:
    """Reduce the figures of a notebook, in place, until its file is small enough.

    Always the largest figure loses one step of resolution or colors, so that small ones keep what
    they have. A notebook that is small enough is not changed.

    Args:
        notebook: an executed notebook.
        most_bytes: the size of its file; it may stay larger where all figures are at their last
            step.
    """
    figures = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    originals = [base64.b64decode(data["image/png"]) for data in figures]
    levels = [0] * len(figures)
    excess = len(nbformat.writes(notebook).encode()) - most_bytes
    while excess > 0:
        reducible = [i for i, level in enumerate(levels) if level + 1 < len(_QUALITIES)]
        if not reducible:
            return
        i = max(reducible, key=lambda i: len(figures[i]["image/png"]))
        levels[i] += 1
        smaller = base64.b64encode(reduced_png(originals[i], *_QUALITIES[levels[i]])).decode()
        excess -= len(figures[i]["image/png"]) - len(smaller)
        figures[i]["image/png"] = smaller
