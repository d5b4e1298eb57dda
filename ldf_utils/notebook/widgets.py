"""Widgets: the figures of the tutorial with sliders, menus and text fields.

Every function draws its static figure first, with the default settings, and adds the widget only
if ``interactive`` is true. So a page, a print and a run without a browser show the same figure as
a live notebook. The code uses what ipywidgets 7.7 and 8 have in common.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import ipywidgets
import torch
from IPython.display import display

from ldf_utils.clip.model import ClipError
from ldf_utils.clip.tokenizer import nearest_words
from ldf_utils.notebook import figures


def controls(
    draw: Callable[..., None], handles: Mapping[str, ipywidgets.ValueWidget]
) -> ipywidgets.interactive:
    """Make a widget with the handles above the figure that `draw` makes of their values.

    A prompt that CLIP cannot read is answered by its message in place of the figure.

    Args:
        draw: called with the values of the handles by name.
        handles: name of an argument to its slider, menu or text field.
    """

    @functools.wraps(draw)
    def redraw(**values: Any) -> None:
        try:
            draw(**values)
        except ClipError as error:
            print(error)

    for handle in handles.values():
        if hasattr(handle, "continuous_update"):
            handle.continuous_update = False  # draw when the handle is released
    return ipywidgets.interactive(redraw, **handles)


def respellings(sentence: str, words: frozenset[str] | None, most: int = 4) -> list[str]:
    """Return the sentence with its unknown words replaced by the nearest known ones.

    Args:
        sentence: what was typed.
        words: the words that CLIP knows; None if it knows ordinary English.
        most: the largest number of sentences to return.

    Returns:
        Sentences of known words; empty if all words are known or one has no near word.

    Example:
        ``respellings("a blury image", clip.words)`` has ``"a blurry image"`` first.
    """
    typed = re.findall(r"[a-z0-9']+", sentence.lower())
    if words is None or all(word in words for word in typed):
        return []
    near = [[word] if word in words else nearest_words(word, words, most) for word in typed]
    if not all(near):
        return []
    count = max(map(len, near))
    return [" ".join(options[min(k, len(options) - 1)] for options in near) for k in range(count)]


def prompt_field(clip: Any, choices: Sequence[str], value: str = "") -> ipywidgets.Combobox:
    """Make a text field for a prompt, which suggests sentences and corrects unknown words.

    Args:
        clip: a `ldf_utils.clip.model.ClipSpace`.
        choices: the suggested sentences; any other may be typed.
        value: the first content.
    """
    field = ipywidgets.Combobox(
        value=value,
        options=list(choices),
        ensure_option=False,
        placeholder="your own sentence",
        description="prompt",
    )

    def suggest(change: Mapping[str, Any]) -> None:
        field.options = [*respellings(change["new"], clip.words), *choices]

    field.observe(suggest, "value")
    return field


def explore(
    draw: Callable[..., None],
    handles: Mapping[str, ipywidgets.ValueWidget],
    *,
    interactive: bool = False,
) -> None:
    """Draw a figure with the default values of its handles, and add the handles if asked.

    Args:
        draw: draws one figure, for example with `figures.show_images`.
        handles: name of an argument of `draw` to a widget; its value is the default.
        interactive: add the widget under the static figure.
    """
    draw(**{name: handle.value for name, handle in handles.items()})
    if interactive:
        display(controls(draw, handles))


def wipe(left: torch.Tensor, right: torch.Tensor, position: float) -> torch.Tensor:
    """Join one image left of a line and another right of it.

    Args:
        left: ``(1 or 3, H, W)``.
        right: ``(1 or 3, H, W)`` of the same height and width.
        position: where the line is, 0 (all right) to 1 (all left).

    Returns:
        ``(C, H, W)`` with the larger of both numbers of channels; the line is white.

    Raises:
        ValueError: if the sizes differ.
    """
    if left.shape[-2:] != right.shape[-2:]:
        raise ValueError(
            f"images to compare must have one size, got {tuple(left.shape[-2:])} and "
            f"{tuple(right.shape[-2:])} pixels (height, width)"
        )
    channels = max(left.shape[-3], right.shape[-3])
    left, right = (p.expand(channels, -1, -1) for p in (left, right))
    column = round(position * left.shape[-1])
    mixed = torch.cat([left[..., :column], right[..., column:]], dim=-1)
    if 0 < column < left.shape[-1]:
        mixed[..., column - 1 : column + 1] = 1.0
    return mixed


def show_wipe(images: Mapping[str, torch.Tensor], left: str, right: str, line: float) -> None:
    """Show two images in one place, with a line between them.

    Args:
        images: label to image, ``(1 or 3, H, W)`` in [0, 1].
        left: label of the image left of the line.
        right: label of the one right of it.
        line: as ``position`` in `wipe`.

    Raises:
        ValueError: as `wipe`.
    """
    figures.show_images(
        {f"{left} | {right}": wipe(images[left], images[right], line)},
        title=f"Left of the line: {left}; right of it: {right}",
        caption="The line lies where the slider is.",
        alt=f"One image: {left} up to {line:.0%} of its width, {right} from there on.",
        columns=1,
    )


def compare_slider(
    images: Mapping[str, torch.Tensor],
    *,
    interactive: bool = False,
    **texts: Unpack[figures.Texts],
) -> None:
    """Show images side by side; then two of them in one place, with a line to move between them.

    Args:
        images: label to image, ``(1 or 3, H, W)`` in [0, 1], two or more of one size.
        interactive: add the slider.
        **texts: title, caption, alt and path, see `figures.Texts`.

    Raises:
        ValueError: for fewer than two images, and as `figures.show_images`.
    """
    if len(images) < 2:
        raise ValueError(f"there must be at least two images to compare, got {list(images)}")
    figures.show_images(images, **texts)

    if interactive:
        labels = list(images)
        handles = {
            "left": ipywidgets.Dropdown(options=labels, value=labels[0], description="left"),
            "right": ipywidgets.Dropdown(options=labels, value=labels[-1], description="right"),
            "line": ipywidgets.FloatSlider(value=0.5, min=0.0, max=1.0, description="line"),
        }
        display(controls(functools.partial(show_wipe, images), handles))


def map_explorer(
    maps: Mapping[str, torch.Tensor],
    *,
    limits: tuple[float, float] | str = "each",
    unit: str = "",
    interactive: bool = False,
    **texts: Unpack[figures.Texts],
) -> None:
    """Show maps of numbers side by side; then one of them, cut at a threshold.

    Args:
        maps: label to map, ``(H, W)`` or ``(1, H, W)`` or ``(1, 1, H, W)``.
        limits: as in `figures.show_maps`.
        unit: as in `figures.show_maps`.
        interactive: add the menu and the slider.
        **texts: title, caption, alt and path, see `figures.Texts`.

    Raises:
        ValueError: as `figures.show_maps`.
    """
    figures.show_maps(maps, limits=limits, unit=unit, **texts)

    def draw(name: str, percentile: float) -> None:
        values = torch.as_tensor(maps[name]).detach().float().cpu()
        threshold = torch.quantile(values.flatten(), percentile / 100)
        above = values >= threshold
        figures.show_maps(
            {name: values, f"{name}, {threshold:.3g} and more": above.float()},
            title=f"{above.float().mean():.0%} of the pixels of {name} reach {threshold:.3g}",
            caption="Left: the map. Right: 1 where it reaches the threshold, 0 elsewhere.",
            alt=f"Two maps: {name}, and the pixels at which it is at least {threshold:.3g}.",
        )

    if interactive:
        labels = list(maps)
        handles = {
            "name": ipywidgets.Dropdown(options=labels, value=labels[0], description="map"),
            "percentile": ipywidgets.FloatSlider(
                value=90.0, min=0.0, max=100.0, description="percentile"
            ),
        }
        display(controls(draw, handles))


def prompt_explorer(
    clip: Any,
    images: Mapping[str, torch.Tensor],
    prompts: Sequence[str],
    *,
    title: str | None = None,
    alt: str | None = None,
    interactive: bool = False,
) -> None:
    """Show the cosines of prompts with images; then a field for a prompt of the reader.

    Args:
        clip: a `ldf_utils.clip.model.ClipSpace`.
        images: label to image, ``(1 or 3, H, W)`` in [0, 1].
        prompts: one or more sentences.
        title: the finding; by default the nearest prompt of each image.
        alt: the figure in words; by default the cosines.
        interactive: add the text field.

    Raises:
        ValueError: if there is no prompt or no image.
    """
    if not prompts or not images:
        raise ValueError(f"there must be prompts and images, got {len(prompts)} and {len(images)}")
    with torch.no_grad():
        embedded = torch.cat([clip.encode_image(image[None]) for image in images.values()])

    def draw(prompt: str) -> None:
        texts = [*prompts, *([prompt.strip()] if prompt.strip() else [])]
        cosines = clip.encode_text(texts) @ embedded.T
        nearest = [texts[i] for i in cosines.argmax(dim=0).tolist()]
        found = "; ".join(f"{la}: {text!r}" for la, text in zip(images, nearest, strict=True))
        rows = {
            text: dict(zip(images, row, strict=True))
            for text, row in zip(texts, cosines.tolist(), strict=True)
        }
        values = "; ".join(
            f"{text!r} " + ", ".join(f"{label} {value:.3f}" for label, value in row.items())
            for text, row in rows.items()
        )
        default = not prompt.strip()
        figures.show_bars(
            rows,
            title=(title if default and title else f"Nearest prompt of {found}"),
            caption=f"Cosine of each prompt with each image. {figures.clip_note(clip)}",
            alt=(alt if default and alt else f"Bars of cosines: {values}."),
            x_label="cosine",
            number="{:.3f}",
        )

    explore(draw, {"prompt": prompt_field(clip, prompts)}, interactive=interactive)
