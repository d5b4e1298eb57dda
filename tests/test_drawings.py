"""Drawings of the notebooks: they draw, stay on their canvas, and survive a gray printer."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from ldf_utils.notebook import drawings
from ldf_utils.notebook.drawings import parts
from ldf_utils.notebook.figures import style

NAMES = [name for name in drawings.__all__ if name != "Drawing"]


@pytest.fixture(params=NAMES)
def drawing(request):
    return getattr(drawings, request.param)


def test_there_are_the_seven():
    assert len(NAMES) == 7
    assert all(isinstance(getattr(drawings, name), drawings.Drawing) for name in NAMES)


def test_every_text_lies_on_the_canvas(drawing):
    fig, axis = parts.canvas(drawing.height)
    drawing.draw(axis)
    renderer = fig.canvas.get_renderer()
    frame = axis.get_window_extent(renderer)
    plt.close(fig)
    written = [text for text in axis.texts if text.get_text()]
    assert len(written) >= 5
    for text in written:
        place = text.get_window_extent(renderer)
        inside = place.x0 >= frame.x0 and place.x1 <= frame.x1 and place.y0 >= frame.y0
        assert inside and place.y1 <= frame.y1, text.get_text()


def test_no_two_texts_overlap(drawing):
    fig, axis = parts.canvas(drawing.height)
    drawing.draw(axis)
    renderer = fig.canvas.get_renderer()
    texts = [t for t in axis.texts if t.get_text()]
    places = [t.get_window_extent(renderer) for t in texts]
    plt.close(fig)
    for i, place in enumerate(places):
        for j in range(i):
            assert not place.padded(-2).overlaps(places[j].padded(-2)), (
                texts[i].get_text(),
                texts[j].get_text(),
            )


def test_it_is_shown_with_its_texts_and_written(drawing, tmp_path, capsys):
    path = tmp_path / "drawing.png"
    drawing.show(path=str(path))
    printed = capsys.readouterr().out
    assert drawing.title in printed and drawing.caption in printed
    width, height = Image.open(path).size
    assert 900 <= width <= 1100 and height < 600
    assert len(drawing.alt.split()) >= 20 and drawing.alt != drawing.caption


def test_the_sources_differ_without_color():
    def luminance(look):
        red, green, blue = to_rgb(look["color"])
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    looks = style.INFRARED, style.VISIBLE, style.FUSED
    assert len({look["marker"] for look in looks}) == 3
    assert style.INFRARED["dash"] != style.VISIBLE["dash"]
    assert luminance(style.FUSED) < min(luminance(style.INFRARED), luminance(style.VISIBLE)) - 0.1


def test_the_trained_and_the_frozen_differ_without_color():
    fig, axis = parts.canvas(1.0)
    for x, kind in ((1, "plain"), (4, "trained"), (7, "frozen")):
        parts.box(axis, x, 0.5, 1, 0.5, kind, kind)
    plain, trained, frozen, _ = axis.patches
    plt.close(fig)
    assert trained.get_linewidth() > 2 * plain.get_linewidth()
    assert frozen.get_hatch() and not plain.get_hatch()
