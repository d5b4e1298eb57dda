"""The checks of the notebooks' exercises.

Each takes the learner's answer first, mostly a function, and tries it on numbers of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from ldf_utils.data.sets import rendered_sets
from ldf_utils.data.truth import Truth
from ldf_utils.fusion.rules import RULES
from ldf_utils.metrics import measure
from ldf_utils.notebook.answers import (
    Hints,
    exercise,
    expect,
    expect_between,
    expect_close,
    expect_no_mistake,
    expect_shape,
)
from ldf_utils.notebook.exercises_detection import (
    check_average_precision as check_average_precision,
)
from ldf_utils.notebook.exercises_detection import check_overlap as check_overlap
from ldf_utils.notebook.exercises_first import check_cosine as check_cosine
from ldf_utils.notebook.exercises_first import check_direction_loss as check_direction_loss
from ldf_utils.notebook.exercises_first import check_modality_gap as check_modality_gap
from ldf_utils.notebook.exercises_first import check_preferred_rule as check_preferred_rule
from ldf_utils.notebook.exercises_first import check_recolor as check_recolor
from ldf_utils.notebook.exercises_first import check_salient_source as check_salient_source
from ldf_utils.notebook.exercises_first import check_step as check_step
from ldf_utils.notebook.exercises_first import check_weighted_average as check_weighted_average
from ldf_utils.notebook.exercises_first import check_zero_shot as check_zero_shot


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@exercise("The angle term")
def check_angle_loss(answer: Any) -> Hints:
    """Check ``function(fused, infrared, visible)``, embeddings ``(D,)`` to a scalar.

    The embeddings do not have length 1, so the cosines need their denominators.
    """
    fused, infrared, visible = (_random(8, seed=seed) - 0.5 for seed in range(3))
    cosines = cosine_similarity(fused, infrared, dim=0) + cosine_similarity(fused, visible, dim=0)
    products = fused @ infrared + fused @ visible
    found = answer(fused, infrared, visible)
    yield expect_no_mistake(
        found,
        {
            "each of the two parts has the weight one half": 2 - cosines,
            "that is the mean cosine; the term is 0 where all three agree": 0.5 * cosines,
            "this is right for vectors of length 1, and these have other lengths: divide each "
            "product by both lengths": 1 - 0.5 * products,
        },
    )
    yield expect_close("the term", found, 1 - 0.5 * cosines)


@exercise("A threshold that keeps a given fraction")
def check_entropy_threshold(
    answer: Any, infrared_bits: Any = (), visible_bits: Any = (), share: float = 0.5
) -> Hints:
    """Check a threshold in bits that a fraction `share` of the patches exceeds in both sources.

    Args:
        answer: a number.
        infrared_bits: ``(N,)`` entropies of the infrared patches.
        visible_bits: ``(N,)`` entropies of the visible patches.
        share: the fraction to keep, met to one patch.
    """
    yield expect_between("the threshold in bits", answer, 0.0, 8.0)
    sources = {"infrared": infrared_bits, "visible": visible_bits}
    passing = {name: torch.as_tensor(bits) > float(answer) for name, bits in sources.items()}
    tolerance = 1.0 / len(infrared_bits) + 1e-6
    both = torch.stack(list(passing.values())).all(dim=0).float().mean().item()
    if abs(both - share) <= tolerance:
        return
    for name, passed in passing.items():
        alone = passed.float().mean().item()
        yield expect(
            abs(alone - share) > tolerance,
            f"{alone:.0%} of the {name} patches pass, but only {both:.0%} in both sources: the "
            "smaller entropy of the two decides",
        )
    change = "raise the threshold" if both > share else "lower the threshold"
    yield f"{both:.0%} of the patches pass in both sources, expected {share:.0%}; {change}"


@exercise("What other words will change")
def check_prediction(
    answer: Any,
    before: Mapping[str, float] | None = None,
    after: Mapping[str, float] | None = None,
) -> Hints:
    """Check a prediction, measure to ``"up"`` or ``"down"``, against what was measured.

    Args:
        answer: one word for each measure.
        before: measure to value with the usual words.
        after: the same with other words.
    """
    before, after = before or {}, after or {}
    yield expect(
        isinstance(answer, Mapping) and set(answer) == set(before),
        f"the prediction must be a dict with the keys {list(before)}, got {answer!r}",
    )
    for name, word in answer.items():
        yield expect(word in ("up", "down"), f"{name} must be 'up' or 'down', got {word!r}")
    for name, word in answer.items():
        went = "up" if after[name] > before[name] else "down"
        yield expect(
            word == went,
            f"{name} went {went}, from {before[name]:.4g} to {after[name]:.4g}. A wrong prediction "
            "is a finding: look at the images, and at which of the words CLIP responds to",
        )


@exercise("A learning rate that decays")
def check_schedule(answer: Any) -> Hints:
    """Check ``function(step, steps, warmup)`` to a factor in [0, 1].

    It rises to 1 at the end of the warm-up and falls to a tenth or less at the last step.
    """
    steps, warmup = 100, 10
    found = [answer(step, steps, warmup) for step in range(steps)]
    for step, factor in enumerate(found):
        yield expect_between(f"the factor of step {step}", factor, 0.0, 1.0)
    factors = [float(factor) for factor in found]
    rising, falling = factors[:warmup], factors[warmup:]
    yield expect(
        all(a < b for a, b in itertools.pairwise(rising)),
        f"it must rise in every step of the warm-up, got {rising[:3]} ...",
    )
    yield expect_between("the largest factor", max(factors[: warmup + 1]), 0.99, 1.0)
    yield expect(
        all(a >= b for a, b in itertools.pairwise(falling)),
        "it must not rise again after the warm-up",
    )
    yield expect_between(
        "the factor of the last step",
        factors[-1],
        0.0,
        0.1,
        "with a high rate the network does not settle",
    )


@exercise("The shard of a process")
def check_share(answer: Any) -> Hints:
    """Check ``function(pairs, rank, count)`` to the numbers of the pairs of one process.

    All shards together hold every pair from 0 to ``pairs - 1``, and they are equally long.
    """
    for pairs, count in ((8, 2), (12, 4), (5, 1), (7, 3)):
        shards = [[int(k) for k in answer(pairs, rank, count)] for rank in range(count)]
        where = f"for {pairs} pairs and {count} processes"
        held, lengths = set(itertools.chain(*shards)), sorted({len(shard) for shard in shards})
        unknown, missing = held - set(range(pairs)), set(range(pairs)) - held
        yield expect(
            not unknown,
            f"{where} there is no pair {min(unknown, default=None)}; pairs are numbered from 0 to "
            f"{pairs - 1}",
        )
        yield expect(
            not missing,
            f"{where} no process has pair {min(missing, default=None)}, so the network never "
            "learns from it",
        )
        yield expect(
            pairs % count or sum(map(len, shards)) == pairs,
            f"{where} some pair occurs twice, although the pairs divide evenly",
        )
        yield expect(
            len(lengths) == 1,
            f"{where} the shards have the lengths {lengths}; a process that has finished its "
            "shard would wait for the others forever. Let some pairs occur twice",
        )


@exercise("What an exchange sends")
def check_ring(answer: Any) -> Hints:
    """Check ``function(parameters, processes)`` to the bytes that each process sends.

    A ring: each process sends ``2 (N - 1)`` messages of one N-th of all gradients in float32.
    """
    found = answer(1_000_000, 4)
    yield expect_no_mistake(
        found,
        {
            "a number in float32 has 4 bytes": 1.5e6,
            "that is one round only: first partial sums go around, then the results": 3e6,
            "each process sends 2 (N - 1) messages, not 2 N": 8e6,
            "that is what all processes send together": 24e6,
        },
    )
    yield expect_close("the bytes for 1,000,000 parameters and 4 processes", found, 6e6)
    yield expect_close("the bytes for 10 parameters and 2 processes", answer(10, 2), 40.0)
    yield expect_close("the bytes of a single process", answer(1000, 1), 0.0)


@exercise("Standard deviation, a measure of contrast")
def check_standard_deviation(answer: Any) -> Hints:
    """Check ``function(image)``, ``(H, W)`` in gray levels 0..255, to a number."""
    image = (255 * _random(6, 7)).round()
    found = answer(image)
    mistakes = {
        "that is the variance; take its square root": image.var(correction=0),
        "divide by the number of pixels, not by one less (correction=0)": image.std(),
    }
    yield expect_no_mistake(found, mistakes)
    yield expect_close("the standard deviation", found, image.std(correction=0), 1e-3)


def known_nights(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return infrared, visible and oracle luminance of rendered nights, ``(count, 1, H, W)``."""
    nights = rendered_sets("train")["RenderedNight"]
    pairs = nights[:count]
    return (
        torch.stack([pair.infrared for pair in pairs]),
        torch.stack([pair.luminance for pair in pairs]),
        torch.stack([Truth(nights.folder, pair.name).oracle for pair in pairs]),
    )


@exercise("A rule that fools a metric")
def check_cheating_rule(answer: Any) -> Hints:
    """Check ``rule(infrared, visible)``, both ``(B, 1, H, W)`` in [0, 1], to the same shape.

    It must have the highest mean of all rules of `ldf_utils.fusion.rules` in at least one metric,
    on rendered nights with a known right fusion, and be farther from that than averaging.
    """
    infrared, visible, oracle = known_nights(3)
    sources = infrared, visible
    returned = answer(*sources)
    yield expect_shape("the result", returned, tuple(infrared.shape))
    fused = returned.float()
    yield expect(
        bool(fused.isfinite().all()) and 0 <= fused.min() and fused.max() <= 1,
        "the result leaves [0, 1] or is not finite; clamp it",
    )

    def means(image: torch.Tensor) -> dict[str, float]:
        values = measure(image, *sources, ("EN", "SD", "SF", "AG", "MI", "SCD", "SSIM"))
        return {name: value.mean().item() for name, value in values.items()}

    rules = [means(rule(*sources)) for rule in RULES.values()]
    best = {name: max(row[name] for row in rules) for name in rules[0]}
    mine = means(fused)
    nearest = max(best, key=lambda name: mine[name] / max(abs(best[name]), 1e-9))
    won = [name for name in best if mine[name] > best[name] + 1e-9]
    yield expect(
        won,
        f"it has the best value of no metric yet; it comes closest in {nearest}, "
        f"{mine[nearest]:.3f}, where the best rule has {best[nearest]:.3f}. What does that metric "
        "not look at?",
    )
    mine_off, average_off = (
        (image - oracle).square().mean().sqrt().item()
        for image in (fused, RULES["average"](*sources))
    )
    yield expect(
        mine_off > average_off,
        f"it has the best {', '.join(won)}, but it is closer to the right fusion than averaging "
        f"({mine_off:.3f} against {average_off:.3f}): a better rule, not a cheat. Make a bad one",
    )
