"""Pictures spoiled on purpose."""

import pytest

from experiments.embedded_clip import degradations


@pytest.fixture(scope="module")
def scenes(lesson_scenes):
    return lesson_scenes


@pytest.mark.parametrize("kind", degradations.DEGRADATIONS)
def test_degradations_change_what_they_say(kind, scenes, generator):
    clean = scenes["oracle"][:6, None].float() / 255
    spoiled = degradations.degrade(clean, kind, generator)
    assert spoiled.shape == clean.shape and spoiled.min() >= 0 and spoiled.max() <= 1
    assert (spoiled - clean).abs().mean() > 0.005
    edges = lambda x: x.diff(dim=-1).abs().mean()  # noqa: E731
    if kind in ("blurry", "hazy", "pale"):
        assert edges(spoiled) < edges(clean)
    if kind in ("noisy", "embossed", "halos", "ringing", "checkerboard"):
        assert edges(spoiled) > edges(clean)
    if kind == "dark":
        assert spoiled.mean() < 0.6 * clean.mean()
    with pytest.raises(ValueError, match="unknown degradation"):
        degradations.degrade(clean, "melted", generator)
