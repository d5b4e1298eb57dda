"""Figures of the tutorial: one style, a finding as title, a caption, an alt text.

Every figure goes through `present`. Figures must survive a gray printer and a screen reader: lines
differ in dash and marker as well as in color, bars in hatching, color maps rise in luminance, and
the alt text says in words what the figure shows.
"""

from ldf_utils.notebook.figures.charts import (
    show_bars,
    show_curves,
    show_dots,
    show_matrix,
    show_points,
)
from ldf_utils.notebook.figures.cuts import show_patches
from ldf_utils.notebook.figures.images import (
    show_boxes,
    show_image_table,
    show_images,
    show_maps,
    to_array,
)
from ldf_utils.notebook.figures.lessons import (
    show_probabilities,
    show_pull,
    show_triangles,
)
from ldf_utils.notebook.figures.output import Texts, clip_banner, clip_note, present
from ldf_utils.notebook.figures.style import (
    COLOR_MAP,
    COLORS,
    DPI,
    HATCHES,
    LINES,
    MARKERS,
    WIDTH,
    use_style,
)

__all__ = [
    "COLORS",
    "COLOR_MAP",
    "DPI",
    "HATCHES",
    "LINES",
    "MARKERS",
    "WIDTH",
    "Texts",
    "clip_banner",
    "clip_note",
    "present",
    "show_bars",
    "show_boxes",
    "show_curves",
    "show_dots",
    "show_image_table",
    "show_images",
    "show_maps",
    "show_matrix",
    "show_patches",
    "show_points",
    "show_probabilities",
    "show_pull",
    "show_triangles",
    "to_array",
    "use_style",
]
