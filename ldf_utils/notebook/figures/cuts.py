"""Patches: where they lie in an image, and what they show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import matplotlib.pyplot as plt
import torch

from ldf_utils.notebook.figures import output
from ldf_utils.notebook.figures.images import to_array
from ldf_utils.notebook.figures.style import COLORS, LINES, WIDTH, require_some


def show_patches(
    image: torch.Tensor,
    outlines: torch.Tensor,
    patches: Mapping[str, torch.Tensor],
    **texts: Unpack[output.Texts],
) -> None:
    """Show an image with the outlines of patches, and the patches beside it.

    Args:
        image: ``(1 or 3, H, W)`` in [0, 1].
        outlines: ``(N, 2, K)``, x and y of the corners of each patch in pixels, the first corner
            repeated at the end.
        patches: label to patch, ``(1 or 3, h, w)`` in [0, 1], in the order of the outlines.
        **texts: title, caption, alt and path, see `Texts`.

    Raises:
        ValueError: if there is no patch, the counts differ, or a text is missing.
    """
    require_some(patches, "patch")
    if len(patches) != len(outlines):
        raise ValueError(f"{len(patches)} patches must have as many outlines, got {len(outlines)}")
    rows, columns = (2, (len(patches) + 1) // 2) if len(patches) > 3 else (1, len(patches))
    fig = plt.figure(figsize=(WIDTH, 0.56 * WIDTH), layout="constrained")
    grid = fig.add_gridspec(rows, 2 * columns)
    whole = fig.add_subplot(grid[:, :columns])
    shown = to_array(image)
    whole.imshow(shown, cmap="gray", vmin=0, vmax=1)
    height, width = shown.shape[:2]
    margin = 0.06 * width
    whole.set(xlim=(-margin, width + margin), ylim=(height + margin, -margin))
    whole.set_axis_off()
    for k, (label, patch) in enumerate(patches.items()):
        color, dash = COLORS[1 + k % 6], LINES[k % 7]
        across, down = outlines[k].tolist()
        whole.plot(across, down, color="white", lw=4, ls="-")
        whole.plot(across, down, color=color, lw=2.2, ls=dash)
        axis = fig.add_subplot(grid[k // columns, columns + k % columns])
        axis.imshow(to_array(patch), cmap="gray", vmin=0, vmax=1)
        axis.set_title(label, fontsize=10)
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set(visible=True, color=color, lw=2.4, ls=dash)
    output.present(fig, **texts)
