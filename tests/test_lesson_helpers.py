"""What only the lessons use: winners in words, squares of scenes, patches beside their image."""

from dataclasses import replace

import matplotlib
import pytest
import torch

from ldf_utils.data.pairs import Pair
from ldf_utils.data.sets import rendered_sets
from ldf_utils.data.truth import truth_of
from ldf_utils.notebook import figures
from ldf_utils.notebook.scenes import telling_square, warm_square
from ldf_utils.notebook.ties import best, leaders

matplotlib.use("agg")
SCORES = {"a": 0.52, "b": 0.5, "c": 0.9}


def test_leaders_are_those_within_the_margin_best_first():
    assert leaders(SCORES, 0.05) == ["b", "a"]
    assert leaders(SCORES, 0.01) == ["b"]
    assert leaders(SCORES, 0.5, highest=True) == ["c", "a", "b"]
    with pytest.raises(ValueError, match="got none"):
        leaders({}, 0.1)


def test_a_near_tie_is_called_a_tie():
    assert best(SCORES, 0.01) == "b"
    assert best(SCORES, 0.05) == "b and a (a tie)"
    assert best(SCORES, 0.5, highest=True) == "c, a and b (a tie)"


def test_a_square_is_cut_around_the_warmest_place():
    infrared = 0.3 * torch.ones(1, 100, 140)
    infrared[0, 60:70, 90:96] = 1
    visible = torch.rand(3, 100, 140, generator=torch.Generator().manual_seed(0))
    square = warm_square(Pair("a", infrared, visible), side=40)
    assert square.shape == (2, 40, 40)
    rows, columns = (square[0] == 1).nonzero(as_tuple=True)
    assert abs(rows.float().mean() - 20) < 6 and abs(columns.float().mean() - 20) < 6


def test_where_people_are_known_the_square_shows_one():
    pairs = rendered_sets("train")["RenderedNight"]
    pair, squares, chosen = telling_square(pairs, candidates=3, side=96)
    assert len(squares) == 3 and pair.name == pairs[chosen].name
    assert squares[chosen].shape == (2, 96, 96)
    truth = truth_of(pair)
    people = replace(pair, visible=(truth.people & truth.warm).float())
    assert warm_square(people, side=96)[1].any()


def test_patches_are_shown_beside_their_image(capsys):
    image = torch.rand(1, 30, 40, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[2.0, 12, 12, 2, 2], [3, 3, 13, 13, 3]])
    texts = {
        "title": "One patch has the lowest loss",
        "caption": "Four patches of an image.",
        "alt": "An image with four squares, and the four cuts.",
    }
    cuts = {f"{k}: 1.0": image[:, 3:13, 2:12] for k in range(4)}
    figures.show_patches(image, corners.expand(4, 2, 5), cuts, **texts)
    assert "One patch has the lowest loss" in capsys.readouterr().out
    with pytest.raises(ValueError, match="4 patches must have as many outlines, got 1"):
        figures.show_patches(image, corners[None], cuts, **texts)
