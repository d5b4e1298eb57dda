"""The pull of the patch filter: rules that keep alike pull alike, dropped patches do not pull."""

import pytest
import torch

from experiments.ablation import filter_pull
from experiments.ablation.variants import FILTER_VARIANTS
from ldf_utils.clip.loading import load_clip
from ldf_utils.data.pairs import Pair


@pytest.fixture
def pairs(generator):
    """Pictures of few levels: nothing passes the filter of bits, everything the normalized one."""
    images = 0.4 + 0.1 * torch.rand(2, 1, 140, 150, generator=generator)
    return [Pair("dim", images[0], images[1])]


def test_the_strength_follows_from_what_is_kept(pairs, monkeypatch):
    small = dict(batch=1, crop=64, patches=3, min_std=0.0, clip="mini")
    monkeypatch.setattr(filter_pull, "CONFIG", filter_pull.TrainConfig(**small))
    found = filter_pull.measure_pull(pairs, load_clip("mini"), batches=1)
    assert found.keys() == {variant.name for variant in FILTER_VARIANTS}
    assert (
        found["bits / all"].kept == found["bits / all"].strength == found["bits / all"].acting == 0
    )
    one, other = found["none / all"], found["normalized / kept"]
    assert one.kept == other.kept == 1 and one.strength == pytest.approx(other.strength)
    assert one.strength > 0 and -1 <= one.with_words <= 1 and 0 <= one.flat <= 5
    half = found["upper_half / kept"]
    assert half.kept == pytest.approx(2 / 3)
    all_patches = found["upper_half / all"]
    assert half.strength == pytest.approx(all_patches.strength * 3 / 2)
    assert half.flat == pytest.approx(all_patches.flat)
    assert "| bits / all | 0.00 | 1.00 | 0.00 |" in filter_pull.table(found)


def test_wrong_arguments_are_named(capsys):
    assert filter_pull.main(["--batches", "0"]) == 1
    assert "--batches must be >= 1, got 0" in capsys.readouterr().err
