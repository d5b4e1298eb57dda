"""The checks of notebooks 03 and 04; `ldf_utils.notebook.exercises` offers them with the others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from ldf_utils.losses.direction import TextDirections, angle_loss, direction_loss
from ldf_utils.notebook.answers import (
    Hints,
    exercise,
    expect,
    expect_between,
    expect_close,
    expect_no_mistake,
    random_numbers,
)


@exercise("Keep the stronger response")
def check_perceptual_term(answer: Any) -> Hints:
    """Check ``function(fused, infrared, visible)``, feature maps of one shape to a scalar.

    The mean of the squared difference to the larger of both sources, element by element.
    """
    fused, infrared, visible = (random_numbers(3, 4, 5, seed=seed) for seed in range(3))
    goal = torch.maximum(infrared, visible)
    found = answer(fused, infrared, visible)
    whole = torch.maximum(infrared.mean(), visible.mean())
    yield expect_no_mistake(
        found,
        {
            "take the mean over all elements, not the sum": (fused - goal).square().sum(),
            "the difference is squared, not taken as it is": (fused - goal).abs().mean(),
            "the goal is the larger of both sources, not their mean": (
                (fused - (infrared + visible) / 2).square().mean()
            ),
            "the larger one is taken element by element, not of the two means": (
                (fused - whole).square().mean()
            ),
            "the differences do not cancel if each is squared before the mean": (
                (fused - goal).mean().square()
            ),
        },
    )
    yield expect_close("the term", found, (fused - goal).square().mean())


@exercise("The patch term")
def check_patch_loss(answer: Any) -> Hints:
    """Check ``function(patches, infrared, visible, text_infrared, text_visible)`` to a scalar.

    Patches are ``(N, D)``, all others ``(D,)``; the text directions do not have length 1.
    """
    patches = random_numbers(5, 8) - 0.5
    infrared, visible, text_infrared, text_visible = (
        random_numbers(8, seed=seed) - 0.5 for seed in range(1, 5)
    )

    words = TextDirections(text_infrared, text_visible)
    swapped = TextDirections(text_visible, text_infrared)
    each = direction_loss(patches, infrared, visible, words)
    found = answer(patches, infrared, visible, text_infrared, text_visible)
    yield expect_no_mistake(
        found,
        {
            "take the mean over the patches": each.sum(),
            "each of the two parts has the weight one half": 2 * each.mean(),
            "that is the mean cosine; a loss falls when it rises": 1 - each.mean(),
            "compare each image direction with the text of the same source": (
                direction_loss(patches, infrared, visible, swapped).mean()
            ),
            "compute the loss of each patch, then the mean; not the loss of the mean patch": (
                direction_loss(patches.mean(0), infrared, visible, words)
            ),
        },
    )
    yield expect_close("the term", found, each.mean())


@exercise("The angle term")
def check_angle_loss(answer: Any) -> Hints:
    """Check ``function(fused, infrared, visible)``, embeddings ``(D,)`` to a scalar.

    The embeddings do not have length 1, so the cosines need their denominators.
    """
    fused, infrared, visible = (random_numbers(8, seed=seed) - 0.5 for seed in range(3))
    term = angle_loss(fused, infrared, visible)
    products = fused @ infrared + fused @ visible
    found = answer(fused, infrared, visible)
    yield expect_no_mistake(
        found,
        {
            "each of the two parts has the weight one half": 2 * term,
            "that is the mean cosine; the term is 0 where all three agree": 1 - term,
            "this is right for vectors of length 1, and these have other lengths: divide each "
            "product by both lengths": 1 - 0.5 * products,
        },
    )
    yield expect_close("the term", found, term)


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
