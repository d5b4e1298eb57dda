"""Drawings of the tutorial: one file each, one style, title, caption and alt text beside the code.

Example:
    >>> from ldf_utils.notebook import drawings
    >>> drawings.two_cameras.show()  # doctest: +SKIP
"""

from ldf_utils.notebook.drawings.bounded_network import bounded_network
from ldf_utils.notebook.drawings.clip_towers import clip_towers
from ldf_utils.notebook.drawings.fusion_direction import fusion_direction
from ldf_utils.notebook.drawings.lineage import lineage
from ldf_utils.notebook.drawings.parts import Drawing
from ldf_utils.notebook.drawings.patches import patches
from ldf_utils.notebook.drawings.training_step import training_step
from ldf_utils.notebook.drawings.two_cameras import two_cameras

__all__ = [
    "Drawing",
    "bounded_network",
    "clip_towers",
    "fusion_direction",
    "lineage",
    "patches",
    "training_step",
    "two_cameras",
]
