"""The bounded network: fixed bands, learned maps, a sum of what the sources hold."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from torch.nn import functional as F

from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.drawings.parts import Drawing
from ldf_utils.notebook.figures.style import FUSED, INFRARED, VISIBLE


def _bands(image: torch.Tensor) -> list[torch.Tensor]:
    """Split into three detail bands, shown about middle gray, and a base."""
    shown = []
    for _ in range(3):
        small = F.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True)
        shown.append(0.5 + 3 * (image - F.interpolate(small, image.shape[-2:], mode="bilinear")))
        image = small
    return [*shown, image]


def _draw(axis: Axes) -> None:
    seen = parts.example()
    view = (..., slice(96, 480), slice(0, 512))
    infrared, visible, fused = (seen[name][view] for name in ("infrared", "visible", "fused"))
    parts.picture(axis, 0.75, 2.95, 1.25, infrared, "infrared", INFRARED)
    parts.picture(axis, 0.75, 0.95, 1.25, visible, "visible", VISIBLE)
    names = ("fine", "medium", "coarse", "base")
    for x, name, one, other in zip(
        (2.15, 2.95, 3.75, 4.55), names, _bands(infrared), _bands(visible), strict=True
    ):
        parts.picture(axis, x, 3.0, 0.7, one, "", INFRARED)
        parts.picture(axis, x, 0.95, 0.7, other, "", VISIBLE)
        parts.note(axis, x, 2.6, name, fontsize=10)
        parts.note(axis, x, 0.55, name, fontsize=10)
    parts.note(axis, 3.35, 3.5, "fixed: split into three bands of detail and a base")
    parts.arrow(axis, (1.42, 2.98), (1.75, 2.98))
    parts.arrow(axis, (1.42, 0.95), (1.75, 0.95))
    parts.box(axis, 2.55, 1.88, 1.7, 0.72, "small U-Net\nsees both sources", "trained")
    parts.arrow(axis, (1.1, 2.3), (1.66, 2.0))
    parts.arrow(axis, (1.1, 1.5), (1.66, 1.75))
    parts.arrow(axis, (3.44, 1.88), (3.75, 1.88))
    parts.box(axis, 4.5, 1.88, 1.45, 0.86, "maps: share of\neach source,\namount, tone")

    parts.arrow(axis, (5.26, 1.88), (5.65, 1.88))
    parts.arrow(axis, (4.98, 2.98), (5.75, 2.3), INFRARED, bend=-0.15)
    parts.arrow(axis, (4.98, 0.95), (5.75, 1.46), VISIBLE, bend=0.15)
    parts.box(axis, 6.15, 1.88, 0.95, 0.8, "mix each\nband,\nadd up")
    parts.arrow(axis, (6.64, 1.88), (7.0, 1.88))
    parts.note(axis, 6.45, 1.12, "bounded:\nvalues stay\nin 0 to 1", fontsize=10)
    parts.picture(axis, 7.95, 1.95, 1.75, fused, "fused", FUSED)


bounded_network = Drawing(
    draw=_draw,
    height=3.7,
    title="The network predicts how to mix; all detail comes from the sources",
    caption="Thick border: trained. The maps say, at each place and in each band, how much of "
    "either source is used and how strongly its detail is shown. Bands are drawn about mid-gray.",
    alt="An infrared and a visible image are each split into three bands of detail and a base. A "
    "small U-Net with a thick border sees both images and gives maps. The maps control a box that "
    "mixes the bands and adds them up; the result is the fused image.",
)
