"""The papers that lead to language-driven fusion, on a time line."""

from __future__ import annotations

from matplotlib.axes import Axes

from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.drawings.parts import GRAY, INK, Drawing

# Year of the first public version (preprint or journal), name, what it added.
_WORDS = (
    (1.35, "2013", "word2vec", "differences of\nvectors have\na meaning"),
    (3.15, "2021", "CLIP", "sentences and\nimages in\none space"),
    (4.65, "2021", "StyleGAN-NADA", "a step in words\ntrains a step\nin images"),
    (6.3, "2021", "CLIPstyler", "many patches\nmust follow,\nnot one image"),
)
_FUSION = (
    (0.75, "1983", "Laplacian\npyramid"),
    (2.1, "2013", "guided\nfilter"),
    (3.35, "2018", "DenseFuse"),
    (4.65, "2020", "U2Fusion"),
    (5.95, "2022", "CDDFuse"),
    (7.2, "2024", "Text-IF"),
)


def _draw(axis: Axes) -> None:
    for y, text in ((3.65, "words and images"), (1.72, "infrared and visible fusion")):
        parts.note(axis, 0.1, y, text, ha="left", weight="bold")
    axis.plot((1.35, 6.3), (3.15, 3.15), color=INK, lw=1.4, ls="-", zorder=0)
    for x, year, name, gave in _WORDS:
        axis.plot(x, 3.15, "o", color=INK, ms=8)
        parts.note(axis, x, 3.36, year, color=GRAY)
        parts.note(axis, x, 2.95, name, weight="bold")
        parts.note(axis, x, 2.5, gave, fontsize=10)
    axis.plot((0.75, 7.2), (1.15, 1.15), color=GRAY, lw=1.4, ls="--", zorder=0)
    for x, year, name in _FUSION:
        axis.plot(x, 1.15, "s", color="white", mec=GRAY, mew=1.6, ms=8)
        parts.note(axis, x, 1.37, year, color=GRAY)
        parts.note(axis, x, 0.72, name, linespacing=1.1)
    parts.note(axis, 8.3, 1.05, "rules, then\nhand-made losses", fontsize=10, color=GRAY)
    parts.box(axis, 8.02, 2.62, 1.62, 1.5, "", "trained")
    parts.note(axis, 8.02, 3.17, "2024", color=GRAY)
    parts.note(axis, 8.02, 2.95, "LDFusion", weight="bold")
    parts.note(axis, 8.02, 2.42, "two directions,\nentropy filter,\nangle term", fontsize=10)
    parts.arrow(axis, (6.45, 3.15), (7.18, 3.0), lw=1.8)
    parts.arrow(axis, (7.46, 1.2), (7.8, 1.84), color=GRAY, dash="--", lw=1.8)


lineage = Drawing(
    draw=_draw,
    height=3.85,
    title="Two lines of work meet in language-driven fusion",
    caption="Years of the first public version (preprint or journal); the distances are not to "
    "scale. LDFusion appeared at ACM MM in 2025, and an extension with a small network followed "
    "in 2026.",
    alt="A time line with two rows. Above, words and images: word2vec 2013, CLIP, StyleGAN-NADA "
    "and CLIPstyler 2021. Below, fusion: Laplacian pyramid 1983, guided filter 2013, DenseFuse "
    "2018, U2Fusion 2020, CDDFuse 2022, Text-IF 2024. Arrows from both rows lead to LDFusion 2024.",
)
