"""The learning rate and the seed of a step."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldf_utils.training.config import TrainConfig
from ldf_utils.training.schedule import learning_rate, step_seed


def test_learning_rate_rises_in_a_line_then_really_decays():
    config = TrainConfig(steps=100, warmup=0.1, learning_rate=1.0, min_lr_ratio=0.02)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.02)
    assert rates[54] == pytest.approx((1 + 0.02) / 2)  # half way down


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 1.0), (3, 0.0), (3, 1.0)])
def test_learning_rate_of_short_runs(steps, warmup):
    config = TrainConfig(steps=steps, warmup=warmup, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[-1] == pytest.approx(1.0 if warmup else config.min_lr_ratio)


def test_seeds_of_neighbors_differ():
    seeds = {step_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125


@given(
    st.integers(1, 400),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["cosine", "halving", "released"]),
)
def test_rates_keep_within_their_bounds(steps, warmup, min_lr_ratio, schedule):
    config = TrainConfig(
        steps=steps,
        warmup=warmup,
        min_lr_ratio=min_lr_ratio,
        schedule=schedule,
        learning_rate=1.0,
    )
    rising = round(warmup * steps)
    rates = [learning_rate(step, config) for step in range(steps)]
    highest = 1 + 1 / rising if schedule == "released" and rising else 1.0
    assert all(0 <= rate <= highest + 1e-12 for rate in rates)
    if schedule == "released":
        return
    assert all(later > earlier for earlier, later in itertools.pairwise(rates[:rising]))
    falling = rates[max(rising - 1, 0) :]
    assert all(later <= earlier for earlier, later in itertools.pairwise(falling))
    lowest = min_lr_ratio if schedule == "cosine" else 1 / 32
    assert all(rate >= lowest - 1e-12 for rate in rates[rising:])
    if schedule == "cosine" and rising < steps:
        assert rates[-1] == pytest.approx(min_lr_ratio, abs=1e-12)


@given(st.integers(0, 2**40), st.integers(0, 2**20), st.integers(0, 64), st.integers(0, 16))
def test_seeds_suit_a_generator_and_differ_from_the_next(seed, step, rank, part):
    own = step_seed(seed, step, rank, part)
    assert 0 <= own < 2**63
    torch.Generator().manual_seed(own)
    others = [
        (seed + 1, step, rank, part),
        (seed, step + 1, rank, part),
        (seed, step, rank + 1, part),
    ]
    assert own not in [step_seed(*other) for other in others]
