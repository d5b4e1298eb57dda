"""Figures: texts that must be there, alt text in the output, size, gray-safe looks; widgets."""

import io
import itertools
from types import SimpleNamespace

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from ldf_utils.clip.model import ClipError
from ldf_utils.notebook import figures, widgets
from ldf_utils.notebook.figures import output

matplotlib.use("agg")

TEXTS = {
    "title": "Noise looks like noise",
    "caption": "Random numbers, drawn as they are.",
    "alt": "A square of uniform random noise.",
}


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would receive: a list of (data, metadata)."""
    outputs = []
    monkeypatch.setattr(output, "get_ipython", lambda: object())
    monkeypatch.setattr(
        output, "display", lambda data, metadata=None, raw=False: outputs.append((data, metadata))
    )
    return outputs


def picture(channels=1, height=40, width=60, seed=0):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def decoded(output):
    return Image.open(io.BytesIO(output[0]["image/png"]))


def test_present_gives_one_picture_with_alt_text_and_one_caption(shown):
    figures.show_images({"noise": picture()}, **TEXTS)
    (image, metadata), (caption, _) = shown
    assert metadata == {"image/png": {"alt": TEXTS["alt"]}}
    assert image["text/plain"] == TEXTS["title"]
    assert caption["text/markdown"] == f"*{TEXTS['caption']}*"
    assert decoded(shown[0]).format == "PNG"
    assert not plt.get_fignums(), "the figure is still open, matplotlib would show it once more"


def test_the_caption_keeps_the_asterisks_of_formulas(shown):
    figures.show_images({"noise": picture()}, **{**TEXTS, "caption": "It is *not* $a*b$ here."})
    assert shown[1][0]["text/markdown"] == "*It is not $a*b$ here.*"


@pytest.mark.parametrize("name", ["title", "caption", "alt"])
def test_a_figure_without_words_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} of a figure must have .* got 'Loss'"):
        figures.show_images({"noise": picture()}, **{**TEXTS, name: "Loss"})


def test_boxes_are_drawn_in_the_color_of_their_kind(shown):
    boxes = {"noise": {"found": [(5, 5, 20, 30)], "missed": [], "false": [(40, 5, 55, 30)]}}
    figures.show_boxes({"noise": picture(), "plain": picture()}, boxes, **TEXTS)
    drawn = np.asarray(decoded(shown[0]).convert("RGB")).reshape(-1, 3)
    for color in ("#56b4e9", "#d55e00"):
        wanted = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
        assert (drawn == wanted).all(1).sum() > 20
    with pytest.raises(ValueError, match="boxes must be found, missed, false, got odd"):
        figures.show_boxes({"noise": picture()}, {"noise": {"odd": []}}, **TEXTS)


@pytest.mark.parametrize("corners", [(2, 2, 6, 8), (50, 30, 60, 40), (0, 0, 64, 48)])
def test_boxes_are_shown_enlarged_and_within_the_image(monkeypatch, corners):
    drawn = []
    monkeypatch.setattr(figures.output, "present", lambda fig, **texts: drawn.append(fig))
    image = torch.zeros(1, 48, 64)
    figures.show_boxes({"one": image}, {"one": {"found": [corners]}}, **TEXTS)
    (left, right), (bottom, top) = drawn[0].axes[0].get_xlim(), drawn[0].axes[0].get_ylim()
    assert -0.5 <= left <= corners[0] - 0.5 and corners[2] - 0.5 <= right <= 63.5
    assert -0.5 <= top <= corners[1] - 0.5 and corners[3] - 0.5 <= bottom <= 47.5
    assert (right - left) / (bottom - top) == pytest.approx(64 / 48)
    plt.close(drawn[0])


def test_a_figure_that_is_shown_keeps_its_pixels_and_colors(shown):
    fig, axis = plt.subplots(figsize=(9, 4))
    axis.imshow(picture(3, 400, 600).permute(1, 2, 0).numpy())
    figures.present(fig, **TEXTS)
    image = decoded(shown[0])
    assert image.width == 9 * figures.DPI
    assert len(image.convert("RGB").getcolors(1 << 24)) > 10_000


def test_the_picture_is_written_to_a_file_as_well(shown, tmp_path):
    figures.show_images({"noise": picture()}, **TEXTS, path=tmp_path / "a" / "noise.png")
    assert (tmp_path / "a" / "noise.png").read_bytes() == shown[0][0]["image/png"]


def test_outside_of_a_notebook_the_texts_are_printed(capsys):
    figures.show_images({"noise": picture()}, **TEXTS)
    printed = capsys.readouterr().out
    assert TEXTS["title"] in printed and TEXTS["caption"] in printed


def test_gray_values_are_shown_as_they_are(shown):
    """A picture of 0.25 is drawn as gray 64: no rescaling to its own range."""
    figures.show_images({"flat": torch.full((1, 50, 50), 0.25)}, **TEXTS)
    pixels = np.asarray(decoded(shown[0]).convert("L"))
    height, width = pixels.shape
    assert abs(int(pixels[height // 2, width // 2]) - 64) <= 1


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 5, 7), (1, 1, 5, 7), (1, 3, 5, 7)])
def test_to_array_takes_the_shapes_it_names(shape):
    array = figures.to_array(torch.ones(shape))
    assert array.shape == ((5, 7, 3) if 3 in shape else (5, 7))


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 1, 5, 7), (7,)])
def test_to_array_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="show one image of a batch as batch"):
        figures.to_array(torch.ones(shape))


def test_zoom_and_boxes_are_drawn(shown):
    dark = torch.zeros(1, 60, 80)
    figures.show_images({"dark": dark}, **TEXTS)
    figures.show_images({"dark": dark}, **TEXTS, boxes={"dark": [(10, 10, 50, 40)]})
    plain, boxed = (np.asarray(decoded(shown[i]).convert("L")) for i in (0, 2))
    assert (boxed > 200).sum() > (plain > 200).sum() + 500, "the white line of the box"
    figures.show_images({"dark": dark}, **TEXTS, zoom=(10, 10, 50, 40))
    assert decoded(shown[4]).height > 1.3 * decoded(shown[0]).height, "the enlarged part"


def test_boxes_of_an_unknown_picture_are_an_error():
    with pytest.raises(ValueError, match=r"boxes for \['b'\]"):
        figures.show_images({"a": picture()}, **TEXTS, boxes={"b": []})


def test_a_missing_cell_of_an_image_table_is_drawn_as_missing(shown):
    rows = {"one": {"a": picture(), "b": picture()}, "two": {"a": picture()}}
    figures.show_image_table(rows, **TEXTS)
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.show_images({}, **TEXTS), "no image"),
        (lambda: figures.show_image_table({}, **TEXTS), "no image"),
        (lambda: figures.show_maps({}, **TEXTS), "no map"),
        (lambda: figures.show_curves([], **TEXTS), "no curve"),
        (lambda: figures.show_bars({}, **TEXTS), "no bar"),
        (lambda: figures.show_points({}, x_label="x", y_label="y", **TEXTS), "no point"),
        (
            lambda: figures.show_maps({"m": torch.rand(2, 3, 4)}, **TEXTS),
            "must have shape",
        ),
        (lambda: figures.show_maps({"m": torch.tensor([[float("nan")]])}, **TEXTS), "NaN"),
        (lambda: figures.show_maps({"m": torch.eye(3)}, limits="all", **TEXTS), "limits"),
        (lambda: figures.show_bars({"a": float("inf")}, **TEXTS), "must be a finite number"),
        (lambda: figures.show_curves([{"step": 0, "a": 1}], y=["b"], **TEXTS), "no 'b'"),
        (
            lambda: figures.show_points({"a": ([1, 2], [1])}, x_label="x", y_label="y", **TEXTS),
            "equally long, got 2 and 1",
        ),
        (lambda: figures.show_matrix(torch.eye(2), ["a"], ["b", "c"], **TEXTS), "1 row"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def axes_of(monkeypatch, call):
    """The axes of the figure that `call` presents."""
    caught = []
    monkeypatch.setattr(output, "present", lambda fig, **_: caught.append(fig))
    call()
    (fig,) = caught
    plt.close(fig)
    return fig.axes


def test_curves_of_a_history(monkeypatch):
    history = [{"step": 10 * i, "total": 2.0 / (i + 1), "angle": float(i)} for i in range(20)]
    (axis,) = axes_of(monkeypatch, lambda: figures.show_curves(history, **TEXTS))
    total, angle = axis.lines
    assert axis.get_xlabel() == "step"
    assert total.get_xdata().tolist() == [row["step"] for row in history]
    assert angle.get_ydata().tolist() == [row["angle"] for row in history]
    assert total.get_linestyle() != angle.get_linestyle(), "told apart without color"
    assert total.get_marker() != angle.get_marker()


def test_a_gap_in_the_history_leaves_the_point_out(monkeypatch):
    history = [{"step": 0, "a": 1.0, "b": None}, {"step": 1, "a": 2.0, "b": 5.0}]
    axes = axes_of(monkeypatch, lambda: figures.show_curves(history, panels=True, **TEXTS))
    assert axes[1].lines[0].get_xdata().tolist() == [1]


def test_bars_have_the_length_of_their_values(monkeypatch):
    values = {"EN": {"average": 6.0, "ours": 7.0}, "SD": {"average": 30.0, "ours": 50.0}}
    (axis,) = axes_of(monkeypatch, lambda: figures.show_bars(values, **TEXTS))
    assert sorted(bar.get_width() for bar in axis.patches) == [6.0, 7.0, 30.0, 50.0]
    assert len({bar.get_hatch() for bar in axis.patches}) == 2, "told apart without color"


def test_symmetric_maps_have_zero_in_the_middle(monkeypatch):
    maps = {"a": torch.tensor([[-1.0, 3.0]]), "b": torch.tensor([[0.0, 1.0]])}
    axes = axes_of(monkeypatch, lambda: figures.show_maps(maps, limits="symmetric", **TEXTS))
    limits = {axis.images[0].get_clim() for axis in axes if axis.images}
    assert limits == {(-3.0, 3.0)}


def test_points_and_matrix_can_be_drawn(shown):
    figures.show_points(
        {"infrared": (0.1, 0.2), "fused": ([0.4, 0.6], [0.5, 0.7])},
        x_label="x",
        y_label="y",
        annotate=True,
        **TEXTS,
    )
    figures.show_matrix(torch.eye(2), ["a", "b"], ["a", "b"], **TEXTS)
    assert len(shown) == 4


def test_labels_of_near_points_do_not_cover_each_other(monkeypatch):
    near = {f"method number {i}": (2 + 0.05 * i, 2.0) for i in range(4)}
    near |= {"far to the left, beside an edge": (0.0, 2.0), "far to the right": (5.0, 5.0)}
    (axis,) = axes_of(
        monkeypatch,
        lambda: figures.show_points(near, x_label="x", y_label="y", annotate=True, **TEXTS),
    )
    assert [text.get_text() for text in axis.texts] == list(near)
    boxes = [text.get_window_extent() for text in axis.texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1


def test_dots_lie_at_their_values_and_claims_are_filled(monkeypatch):
    panels = {
        "brightness": {"usual": [10.0, 12.0], "dark": [5.0, 7.0]},
        "sharpness": {"usual": [1.0, 2.0], "dark": [1.0, 3.0]},
    }

    def draw(**more):
        return axes_of(monkeypatch, lambda: figures.show_dots(panels, **more, **TEXTS))

    axes = draw(reference="usual", filled=[("brightness", "dark")])
    for axis, (measure, rows) in zip(axes, panels.items(), strict=True):
        assert axis.get_xlabel() == measure
        dots = axis.collections
        assert [d.get_offsets()[:, 0].tolist() for d in dots] == list(rows.values())
        assert [d.get_offsets()[0, 1] for d in dots] == [0, 1]
        assert axis.lines[0].get_xdata()[0] == pytest.approx(np.mean(rows["usual"]))
        filled = [bool(d.get_facecolor()[0, :3].min() < 0.9) for d in dots]
        assert filled == [False, measure == "brightness"]
    assert all(len(axis.lines) == 2 for axis in draw())  # no reference: the ranges alone
    for bad, words in (
        ({"a": {"x": [1.0]}, "b": {"y": [1.0]}}, "must have values for each of"),
        ({"a": {"x": [float("nan")]}}, "NaN"),
        ({}, "panel"),
    ):
        with pytest.raises(ValueError, match=words):
            figures.show_dots(bad, **TEXTS)
    with pytest.raises(ValueError, match="not one of the rows"):
        figures.show_dots(panels, reference="other", **TEXTS)


def luminance_of(color):
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_neighboring_colors_differ_on_a_gray_printer():
    grays = [luminance_of(color) for color in figures.COLORS]
    steps = [abs(a - b) for a, b in itertools.pairwise(grays)]
    assert min(steps) > 0.08, steps


def test_the_color_map_rises_in_luminance():
    colors = matplotlib.colormaps[figures.COLOR_MAP](np.linspace(0, 1, 64))[:, :3]
    grays = colors @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(grays) > 0).all()


def test_use_style_sets_gray_safe_lines():
    with matplotlib.rc_context():
        figures.use_style()
        cycle = list(plt.rcParams["axes.prop_cycle"])
    assert len({str(look["linestyle"]) for look in cycle}) == len(cycle) == 7


def test_clip_note_and_banner_name_the_stand_in(shown):
    small = SimpleNamespace(name="mini", words=frozenset({"dark"}), stands_in=True)
    large = SimpleNamespace(name="ViT-B-32-quickgelu", stands_in=False)
    assert "stands in" in figures.clip_note(small)
    assert "stands in" not in figures.clip_note(large)
    assert "ViT-B-32-quickgelu" in figures.clip_note(large)
    figures.clip_banner(small)
    figures.clip_banner(large)
    assert shown[0][0]["text/markdown"].startswith("> **A small embedded CLIP stands in")
    assert "knows 1 words" in shown[0][0]["text/markdown"]
    assert "the original weights" in shown[1][0]["text/markdown"]


# ------------------------------------------------------------------ widgets


class TwoDimensionalClip:
    """Embeds a picture by its mean and deviation, a text by its length: enough to draw bars."""

    name, stands_in, words = "two-dimensional", True, None

    def encode_image(self, images):
        values = torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], dim=1)
        return torch.nn.functional.normalize(values, dim=1)

    def encode_text(self, texts):
        values = torch.tensor([[float(len(text)), 10.0] for text in texts])
        return torch.nn.functional.normalize(values, dim=1)


@pytest.fixture
def drawn(monkeypatch):
    """Titles of what is presented, and the widgets that are shown."""
    record = SimpleNamespace(titles=[], widgets=[])
    monkeypatch.setattr(
        output, "present", lambda fig, *, title, **_: (record.titles.append(title), plt.close(fig))
    )
    monkeypatch.setattr(widgets, "display", record.widgets.append)
    return record


@pytest.mark.parametrize("interactive", [False, True])
def test_widgets_draw_their_static_figure_and_add_the_widget_if_asked(drawn, interactive):
    images = {"infrared": picture(1), "visible": picture(3)}
    widgets.compare_slider(images, interactive=interactive, **TEXTS)
    widgets.map_explorer({"weights": picture()}, interactive=interactive, **TEXTS)
    widgets.prompt_explorer(TwoDimensionalClip(), images, ["a b"], interactive=interactive)
    static = [title for title in drawn.titles if title.startswith(("Noise", "Nearest"))]
    assert static[0] == TEXTS["title"] and len(static) >= 3
    assert len(drawn.widgets) == (3 if interactive else 0)


def test_moving_a_handle_draws_again(drawn):
    calls = []
    slider = ipywidgets.FloatSlider(value=0.5, min=0, max=1)
    panel = widgets.controls(lambda weight: calls.append(weight), {"weight": slider})
    slider.value = 0.75
    assert calls[-1] == 0.75 and panel.children[0] is slider


def test_explore_draws_once_with_the_defaults(drawn):
    calls = []
    slider = ipywidgets.IntSlider(value=3, min=0, max=9)
    widgets.explore(lambda count: calls.append(count), {"count": slider})
    assert calls == [3] and not drawn.widgets


def test_a_new_prompt_is_drawn_with_the_others(drawn):
    images = {"infrared": picture(1), "visible": picture(3)}
    widgets.prompt_explorer(TwoDimensionalClip(), images, ["a b"], interactive=True)
    field = drawn.widgets[0].children[0]
    field.value = "a hot street at night"
    assert "'infrared': " not in drawn.titles[-1]
    assert drawn.titles[-1].count("a hot street at night") == 2, "it is nearest to both pictures"


class WordyClip(TwoDimensionalClip):
    """Knows some words, and refuses the others as the embedded CLIP does."""

    words = frozenset({"a", "hot", "blurry", "blurred", "dark", "image"})

    def encode_text(self, texts):
        for word in " ".join(texts).split():
            if word not in self.words:
                raise ClipError(f"the embedded CLIP does not know the word {word!r}")
        return super().encode_text(texts)


def test_an_unknown_word_gets_a_message_and_suggestions(drawn, capsys):
    widgets.prompt_explorer(WordyClip(), {"a": picture()}, ["a dark image"], interactive=True)
    panel, count = drawn.widgets[0], len(drawn.titles)
    field = panel.children[0]
    assert list(field.options) == ["a dark image"]
    field.value = "A blury image"
    assert len(drawn.titles) == count, "no figure for a prompt that CLIP cannot read"
    assert "does not know the word" in capsys.readouterr().out + str(panel.children[-1].outputs)
    assert field.options[0] == "a blurry image" and "a dark image" in field.options
    field.value = field.options[0]
    assert len(drawn.titles) == count + 1 and "a blurry image" in drawn.titles[-1]
    assert list(field.options) == ["a dark image"], "nothing to correct"


def test_respellings_are_for_unknown_words_only():
    words = frozenset({"a", "blurry", "image", "picture"})
    assert widgets.respellings("an imag", words) == []  # "an" has no near word
    assert widgets.respellings("a blury imag", words)[0] == "a blurry image"
    assert widgets.respellings("a blurry image", words) == []
    assert widgets.respellings("anything at all", None) == []


def test_moving_the_sliders_changes_the_figure(drawn):
    images = {"infrared": picture(1), "visible": picture(3)}
    widgets.compare_slider(images, interactive=True, **TEXTS)
    left, _, slider = drawn.widgets[0].children[:3]
    before = len(drawn.titles)
    slider.value = 0.25
    left.value = "visible"
    assert drawn.titles[-1] == "Left of the line: visible; right of it: visible"
    assert len(drawn.titles) == before + 2
    widgets.map_explorer({"weights": torch.arange(100.0).view(10, 10)}, interactive=True, **TEXTS)
    drawn.widgets[1].children[1].value = 50.0
    assert drawn.titles[-1] == "50% of the pixels of weights reach 49.5"


def test_wipe_joins_two_pictures_at_the_line():
    mixed = widgets.wipe(torch.zeros(1, 4, 10), torch.full((3, 4, 10), 0.5), 0.3)
    assert mixed.shape == (3, 4, 10)
    assert (mixed[..., :2] == 0).all() and (mixed[..., 2:4] == 1).all()
    assert (mixed[..., 4:] == 0.5).all()
    torch.testing.assert_close(
        widgets.wipe(torch.zeros(1, 4, 10), torch.ones(1, 4, 10), 1.0), torch.zeros(1, 4, 10)
    )


def test_wipe_and_compare_refuse_what_cannot_be_compared():
    with pytest.raises(ValueError, match="must have one size"):
        widgets.wipe(torch.zeros(1, 4, 10), torch.zeros(1, 4, 11), 0.5)
    with pytest.raises(ValueError, match="at least two images"):
        widgets.compare_slider({"a": picture()}, **TEXTS)
