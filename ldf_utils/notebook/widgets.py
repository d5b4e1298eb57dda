"""Widgets: the figures of the tutorial with a handle on them.

Every function draws its static figure first, with the default settings, and adds the widget only
if ``interactive`` is true. So a page, a print and a run without a browser show the same figure as
a live notebook. The code keeps to what ipywidgets 7.7 and 8 have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import torch
from IPython.display import display

from ldf_utils.notebook import figures


def controls(
    draw: Callable[..., None], handles: Mapping[str, ipywidgets.ValueWidget]
) -> ipywidgets.interactive:
    """A widget with the handles above the figure that `draw` makes of their values.

    Args:
        draw: called with the values of the handles by name.
        handles: name of an argument to its slider, menu or text field.
    """
    for handle in handles.values():
        if hasattr(handle, "continuous_update"):
            handle.continuous_update = False  # draw when the handle is let go
    return ipywidgets.interactive(draw, **handles)


def explore(
    draw: Callable[..., None],
    handles: Mapping[str, ipywidgets.ValueWidget],
    *,
    interactive: bool = False,
) -> None:
    """Draw a figure with the default values of its handles; then, if wished, let them be moved.

    Args:
        draw: draws one figure, for example with `figures.show_images`.
        handles: name of an argument of `draw` to a widget; its value is the default.
        interactive: add the widget under the static figure.
    """
    draw(**{name: handle.value for name, handle in handles.items()})
    if interactive:
        display(controls(draw, handles))


def wipe(left: torch.Tensor, right: torch.Tensor, position: float) -> torch.Tensor:
    """One picture left of a line and another right of it.

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
            f"pictures of {tuple(left.shape[-2:])} and {tuple(right.shape[-2:])} pixels (height, "
            "width); comparing needs one size"
        )
    channels = max(left.shape[-3], right.shape[-3])
    left, right = (p.expand(channels, -1, -1) for p in (left, right))
    column = round(position * left.shape[-1])
    mixed = torch.cat([left[..., :column], right[..., column:]], dim=-1)
    if 0 < column < left.shape[-1]:
        mixed[..., column - 1 : column + 1] = 1.0
    return mixed


def compare_slider(
    images: Mapping[str, torch.Tensor],
    *,
    title: str,
    caption: str,
    alt: str,
    interactive: bool = False,
) -> None:
    """Pictures side by side; then two of them on one place, with a line to move between them.

    Args:
        images: label to picture, ``(1 or 3, H, W)`` in [0, 1], two or more of one size.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        interactive: add the slider.

    Raises:
        ValueError: for fewer than two pictures, and as `figures.show_images`.
    """
    if len(images) < 2:
        raise ValueError(f"comparing needs two pictures or more, found {list(images)}")
    figures.show_images(images, title=title, caption=caption, alt=alt)

    def draw(left: str, right: str, line: float) -> None:
        figures.show_images(
            {f"{left} | {right}": wipe(images[left], images[right], line)},
            title=f"Left of the line: {left}; right of it: {right}",
            caption="The line lies where the slider is.",
            alt=f"One picture: {left} up to {line:.0%} of its width, {right} from there on.",
            columns=1,
        )

    if interactive:
        labels = list(images)
        handles = {
            "left": ipywidgets.Dropdown(options=labels, value=labels[0], description="left"),
            "right": ipywidgets.Dropdown(options=labels, value=labels[-1], description="right"),
            "line": ipywidgets.FloatSlider(value=0.5, min=0.0, max=1.0, description="line"),
        }
        display(controls(draw, handles))


def map_explorer(
    maps: Mapping[str, torch.Tensor],
    *,
    title: str,
    caption: str,
    alt: str,
    limits: tuple[float, float] | str = "each",
    unit: str = "",
    interactive: bool = False,
) -> None:
    """Maps of numbers side by side; then one of them, cut at a threshold.

    Args:
        maps: label to map, ``(H, W)`` or ``(1, H, W)`` or ``(1, 1, H, W)``.
        title: the finding.
        caption: what is shown.
        alt: the figure in words.
        limits: as in `figures.show_maps`.
        unit: as in `figures.show_maps`.
        interactive: add the menu and the slider.

    Raises:
        ValueError: as `figures.show_maps`.
    """
    figures.show_maps(maps, title=title, caption=caption, alt=alt, limits=limits, unit=unit)

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
    """How near prompts are to pictures in CLIP's space; then a field for a prompt of one's own.

    Args:
        clip: a `ldf_utils.clip.model.ClipSpace`.
        images: label to picture, ``(1 or 3, H, W)`` in [0, 1].
        prompts: one or more sentences.
        title: the finding; by default the nearest prompt of each picture.
        alt: the figure in words; by default the cosines.
        interactive: add the text field.

    Raises:
        ValueError: if there is no prompt or no picture.
    """
    if not prompts or not images:
        raise ValueError(f"needs prompts and pictures; found {len(prompts)} and {len(images)}")
    with torch.no_grad():
        pictures = torch.cat([clip.encode_image(image[None]) for image in images.values()])

    def draw(prompt: str) -> None:
        texts = [*prompts, *([prompt.strip()] if prompt.strip() else [])]
        cosines = clip.encode_text(texts) @ pictures.T
        nearest = [texts[i] for i in cosines.argmax(dim=0).tolist()]
        found = "; ".join(f"{la}: {text!r}" for la, text in zip(images, nearest, strict=True))
        rows = {
            text: dict(zip(images, row, strict=True))
            for text, row in zip(texts, cosines.tolist(), strict=True)
        }
        told = "; ".join(
            f"{text!r} " + ", ".join(f"{label} {value:.3f}" for label, value in row.items())
            for text, row in rows.items()
        )
        default = not prompt.strip()
        figures.show_bars(
            rows,
            title=(title if default and title else f"Nearest prompt of {found}"),
            caption=f"Cosine of each prompt with each picture. {figures.clip_note(clip)}",
            alt=(alt if default and alt else f"Bars of cosines: {told}."),
            x_label="cosine",
            number="{:.3f}",
        )

    field = ipywidgets.Text(value="", placeholder="a sentence of your own", description="prompt")
    explore(draw, {"prompt": field}, interactive=interactive)
