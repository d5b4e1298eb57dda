"""What the first notebooks show: the pair, its window, the fused candidates, their figures."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
import torch

from ldf_utils.data.pairs import Pair
from ldf_utils.data.sets import rendered_sets
from ldf_utils.notebook import candidates, examples, figures
from ldf_utils.notebook.figures import output

TEXTS = {
    "title": "A finding in words",
    "caption": "What is shown here.",
    "alt": "A figure that is described in words.",
}


def pair(name, infrared, visible):
    return Pair(name, infrared[None], visible[None])


def scene(name, person_infrared, person_visible, ground):
    """A square of 64 pixels with a person of 8 x 16 pixels in its lower right."""
    noise = 0.02 * torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    infrared, visible = 0.3 + noise, ground + 0.1 * torch.linspace(0, 1, 64).expand(64, 64)
    infrared[40:56, 44:52], visible[40:56, 44:52] = person_infrared, person_visible
    return pair(name, infrared, visible)


def test_the_pair_in_which_only_the_infrared_shows_the_person_comes_first():
    seen_by_both = scene("both", 0.9, 0.9, 0.1)
    seen_by_one = scene("one", 0.9, 0.1, 0.1)
    bright_day = scene("day", 0.9, 0.5, 0.6)
    order = examples.most_informative([seen_by_both, bright_day, seen_by_one])
    assert [found.name for found in order] == ["one", "both", "day"]
    assert len(examples.most_informative([seen_by_both] * 9, most=4)) == 4


def test_the_window_holds_what_is_warm():
    shown = scene("one", 0.9, 0.1, 0.1)
    left, top, right, bottom = examples.warm_window(shown)
    assert right - left == bottom - top == 24
    inside = examples.warm_pixels(shown)[..., top:bottom, left:right].sum()
    assert inside > 0.8 * examples.warm_pixels(shown).sum()


def test_the_set_that_is_wanted_is_chosen():
    sets = {"Other": "a", "MSRS": "b", "RenderedNight": "c"}
    assert examples.choose_set(sets) == "b" and examples.choose_set(sets, "Other") == "a"
    assert examples.choose_set({"Other": "a"}) == "a"
    with pytest.raises(KeyError):
        examples.choose_set(sets, "TNO")


def test_the_night_of_the_drawings_is_the_most_informative_one():
    from ldf_utils.notebook.drawings import parts

    nights = rendered_sets()["RenderedNight"]
    assert examples.most_informative(nights)[0].name == parts.EXAMPLE


def test_candidates_are_squares_of_all_pairs():
    sets = {"RenderedNight": rendered_sets()["RenderedNight"]}
    made = candidates.fuse_candidates(sets, count=2, side=32, longest=64)
    assert made.pairs == 2 and {"average", "pyramid", "network", "oracle"} <= set(made.which)
    assert all(image.shape == (2, 1, 32, 32) for image in made.images.values())
    mean = (made.images["infrared"] + made.images["visible"]) / 2
    torch.testing.assert_close(made.images["average"], mean)
    made.add("one", mean[:1], [1])
    assert "one" not in made.complete and "average" in made.complete


def test_a_tie_is_what_two_standard_errors_cannot_tell_apart():
    best = torch.tensor([0.5, 0.6, 0.7, 0.8])
    scores = {
        "best": best,
        "just behind": best - torch.tensor([0.1, -0.1, 0.2, -0.1]),
        "always behind": best - torch.tensor([0.2, 0.21, 0.19, 0.2]),
    }
    assert candidates.level_with("best", scores) == ["just behind"]


def test_the_figures_of_the_lessons_are_written(tmp_path):
    ends = torch.eye(2)
    words = {"infrared": ends[0], "visible": ends[1], "fused": ends.sum(0)}
    image = torch.rand(1, 1, 20, 30)
    figures.show_probabilities(
        {"Set": torch.rand(5, 2)}, "probability", path=tmp_path / "p.png", **TEXTS
    )
    figures.show_triangles(words, words, path=tmp_path / "t.png", **TEXTS)
    figures.show_pull(image, image - 0.5, ("a", "b"), path=tmp_path / "q.png", **TEXTS)
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in "ptq")
    with pytest.raises(ValueError, match="no set"):
        figures.show_probabilities({}, "probability", **TEXTS)
    with pytest.raises(ValueError, match="pull must have shape"):
        figures.show_pull(image, image[0], ("a", "b"), **TEXTS)


def test_each_of_many_points_is_drawn_in_a_look_of_its_own(monkeypatch):
    drawn = []
    monkeypatch.setattr(output, "present", lambda fig, **texts: drawn.append(fig))
    points = {f"method {k}": torch.tensor([k / 20, k % 3]) for k in range(20)}
    figures.show_triangles(points, points, **TEXTS)
    marks = drawn[0].axes[0].collections
    looks = {
        (mark.get_facecolor().tobytes(), mark.get_paths()[0].vertices.tobytes()) for mark in marks
    }
    assert len(marks) == len(looks) == len(points)
    plt.close(drawn[0])
