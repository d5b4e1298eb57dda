"""Showing a figure with its title, caption and alt text; the note on the CLIP model in use."""

from __future__ import annotations

import io
import os
import textwrap
from typing import Any, NotRequired, TypedDict

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from ldf_utils.data.files import atomic_path
from ldf_utils.notebook.figures.style import DPI


class Texts(TypedDict):
    """The keyword arguments of `present`, which every function that shows a figure takes.

    Attributes:
        title: the finding: "Averaging halves the contrast", not "Contrast".
        caption: what is shown and how it was made; Markdown, ``$...$`` for formulas.
        alt: the figure in words, for readers who cannot see it.
        path: also write the PNG to this file.
    """

    title: str
    caption: str
    alt: str
    path: NotRequired[str | os.PathLike[str] | None]


def _encode(fig: Figure) -> bytes:
    """Encode the figure as PNG, in gray where it has no color."""
    raw, small = io.BytesIO(), io.BytesIO()
    fig.savefig(raw, format="png", dpi=DPI, facecolor="white")
    image = Image.open(raw).convert("RGB")
    pixels = np.asarray(image)
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def _require_words(name: str, text: str, at_least: int, example: str) -> str:
    """Return the text with single spaces, checked to have enough words."""
    text = " ".join(text.split())
    if len(text.split()) < at_least:
        raise ValueError(
            f"the {name} of a figure must have at least {at_least} words, got {text!r}; for "
            f"example {example!r}"
        )
    return text


def present(
    fig: Figure, *, title: str, caption: str, alt: str, path: str | os.PathLike[str] | None = None
) -> None:
    """Show a figure with the finding above, a caption below and an alt text, and close it.

    In a notebook this gives one PNG output whose metadata carry the alt text, and one Markdown
    output with the caption. Outside of a notebook the title and the caption are printed.

    Args:
        fig: a matplotlib figure, best made with ``layout="constrained"``.
        title, caption, alt, path: see `Texts`.

    Raises:
        ValueError: if one of the three texts is missing or too short to say anything.
    """
    title = _require_words("title", title, 3, "Averaging halves the contrast of the people")
    caption = _require_words("caption", caption, 3, "The same street scene, fused by two rules.")
    alt = _require_words("alt", alt, 5, "Two images: people are bright in the left one only.")
    if fig.get_layout_engine() is None:
        fig.set_layout_engine("constrained")
    size = 13
    columns = int(fig.get_figwidth() * 72 / (0.64 * size))
    wrapped = textwrap.fill(title.replace(" %", "\N{NO-BREAK SPACE}%"), columns)
    fig.suptitle(wrapped, x=0.01, ha="left", fontsize=size, weight="bold")
    try:
        png = _encode(fig)
    finally:
        plt.close(fig)
    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(png)
    if get_ipython() is None:
        print(f"Figure: {title}\n  {caption}")
        return
    display({"image/png": png, "text/plain": title}, metadata={"image/png": {"alt": alt}}, raw=True)
    display({"text/markdown": f"*{_no_star(caption)}*", "text/plain": caption}, raw=True)


def _no_star(caption: str) -> str:
    """Remove asterisks outside of formulas from a caption, which is set in italics as a whole."""
    parts = caption.split("$")
    return "$".join(part.replace("*", "") if i % 2 == 0 else part for i, part in enumerate(parts))


def clip_note(clip: Any) -> str:
    """Return the sentence for captions that says which CLIP model the numbers come from.

    Args:
        clip: a `ldf_utils.clip.model.ClipSpace`, or anything with ``name``, ``words`` and
            ``stands_in``.
    """
    if clip.stands_in:
        return (
            "Measured with the small embedded CLIP, which stands in here for OpenAI's ViT-B/32; "
            "the numbers of the large model differ."
        )
    return f"Measured with CLIP {clip.name}."


def clip_banner(clip: Any) -> None:
    """Show which CLIP model is in use, as a box in a notebook or a line in a terminal.

    Args:
        clip: as for `clip_note`.
    """
    if clip.stands_in:
        text = (
            "**A small embedded CLIP stands in for OpenAI's ViT-B/32.** It was trained on "
            f"rendered worlds and a few real clips and knows {len(clip.words or ())} words, for "
            "infrared and visible, light, sharpness, noise, haze, contrast, detail, salient "
            "objects, artifacts, people, vehicles, trees, buildings and places. The ideas carry "
            "over, the numbers do not. With a network connection, set the environment variable "
            "`LDF_CLIP` to `openai` to use the original model."
        )
    else:
        text = f"**CLIP in use: {clip.name}** (frozen, the original weights)."
    if get_ipython() is None:
        print(text.replace("**", "").replace("`", ""))
    else:
        display({"text/markdown": f"> {text}", "text/plain": text}, raw=True)
