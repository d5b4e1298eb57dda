"""Degradations do what their names say."""

import pytest

from experiments.embedded_clip import degradations


@pytest.fixture(scope="module")
def scenes(training_pieces):
    return training_pieces.read(training_pieces["has_oracle"].nonzero()[:6, 0])


@pytest.mark.parametrize("kind", degradations.DEGRADATIONS)
def test_degradations_change_what_they_say(kind, scenes, generator):
    clean = scenes["oracle"][:6, None].float() / 255
    degraded = degradations.degrade(clean, kind, generator)
    assert degraded.shape == clean.shape and degraded.min() >= 0 and degraded.max() <= 1
    assert (degraded - clean).abs().mean() > 0.005
    edges = lambda x: x.diff(dim=-1).abs().mean()  # noqa: E731
    if kind in ("blurry", "hazy", "pale"):
        assert edges(degraded) < edges(clean)
    if kind in ("noisy", "embossed", "halos", "ringing", "checkerboard"):
        assert edges(degraded) > edges(clean)
    if kind == "dark":
        assert degraded.mean() < 0.6 * clean.mean()
    with pytest.raises(ValueError, match="must be one of .* got 'melted'"):
        degradations.degrade(clean, "melted", generator)
