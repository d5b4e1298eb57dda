"""The checks of the notebooks' exercises.

Each takes the learner's answer first, mostly a function, and tries it on numbers of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import cosine_similarity, normalize

from ldf_utils.data.images import luminance, replace_luminance
from ldf_utils.data.sets import rendered_sets
from ldf_utils.data.truth import Truth
from ldf_utils.fusion.rules import RULES
from ldf_utils.metrics import measure
from ldf_utils.notebook.answers import (
    Hints,
    as_tensor,
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


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@exercise("A weighted average")
def check_weighted_average(answer: Any) -> Hints:
    """Check ``function(infrared, visible, weight)``, where `weight` is that of the infrared."""
    infrared, visible = _random(1, 1, 4, 5), _random(1, 1, 4, 5, seed=1)
    found = answer(infrared, visible, 0.3)
    yield expect_no_mistake(
        found,
        {
            "it is the weight of the infrared, not of the visible": 0.7 * infrared + 0.3 * visible,
            "the weights do not add up to 1; the visible gets 1 - weight": 0.3 * infrared + visible,
        },
    )
    yield expect_close("with weight 0.3 the result", found, 0.3 * infrared + 0.7 * visible)
    yield expect_close("with weight 1 the result", answer(infrared, visible, 1.0), infrared)


@exercise("A new luminance in the old color")
def check_recolor(answer: Any) -> Hints:
    """Check ``function(visible, fused)``, ``(3, H, W)`` and ``(1, H, W)`` to ``(3, H, W)``."""
    visible = 0.4 + 0.2 * _random(3, 4, 5)
    fused = 0.3 + 0.4 * _random(1, 4, 5, seed=1)
    scaled = visible * fused / luminance(visible)
    found = answer(visible, fused)
    yield expect_no_mistake(
        found,
        {
            "the old luminance is still in it; subtract it first": visible + fused,
            "a common factor scales the chroma as well; the differences to Y must stay": scaled,
            "the result is gray: the chroma of the visible image is gone": fused.expand(3, -1, -1),
            "luminance is not the plain mean of the channels; luminance(visible) computes it": (
                visible + fused - visible.mean(0, keepdim=True)
            ),
        },
    )
    yield expect_close("the image", found, replace_luminance(visible, fused))
    white = answer(visible, torch.ones_like(fused))
    yield expect(
        0 <= white.min() and white.max() <= 1,
        f"for a white luminance values lie between {white.min():.2f} and {white.max():.2f}; clamp "
        "them to [0, 1], the range that a screen can show",
    )


@exercise("Zero-shot: the nearest sentence")
def check_zero_shot(answer: Any) -> Hints:
    """Check ``function(image, sentences)``, ``(D,)`` and ``(N, D)`` to an index.

    The largest product, the smallest distance, the smallest and the largest cosine are all at
    different places.
    """
    image = torch.tensor([2.0, 0.0])
    sentences = torch.tensor([[3.0, 9.0], [0.45, 0.05], [-12.0, 0.0], [1.5, 0.8]])
    returned = answer(image, sentences)
    found = as_tensor(returned)
    if found is None or found.numel() != 1:
        kind = type(returned).__name__ if found is None else f"{found.numel()} numbers"
        yield f"the answer must be one index, got {kind}; argmax returns it"
        return
    index = found.item()
    yield expect(
        index == int(index),
        f"the answer must be an index, got {index:.3f}; argmax returns the index, max the cosine",
    )
    hints = {
        0: "the longest vector won; normalize the sentences first",
        2: "that is the farthest one; the nearest has the largest cosine",
        3: "the smallest distance depends on the lengths as well; normalize the sentences first",
    }
    yield expect(index == 1, hints.get(int(index), f"the index must be 1, got {index:g}"))
    flipped = torch.as_tensor(answer(image, sentences.flip(0)))
    yield expect_close("for reversed sentences the index", flipped.squeeze(), 2)


@exercise("The gap between images and sentences")
def check_modality_gap(answer: Any) -> Hints:
    """Check ``function(images, sentences)``, ``(N, D)`` and ``(M, D)`` to a number."""
    images = normalize(_random(5, 8) - 0.2, dim=1)
    sentences = normalize(_random(7, 8, seed=1) - 0.8, dim=1)
    pairwise = torch.cdist(images, sentences)
    step = images.mean(0) - sentences.mean(0)
    found = answer(images, sentences)
    yield expect_no_mistake(
        found,
        {
            "that is the vector between the centers; its length is asked for": step,
            "that is the square of the distance; take the square root": step.square().sum(),
            "that is the mean distance of all pairs; compute the means first": pairwise.mean(),
            "that is one minus the mean cosine; the distance of the two centers is asked for": (
                1 - (images @ sentences.T).mean()
            ),
        },
    )
    yield expect_close("the gap", found, step.norm())
    yield expect_close("the gap of a group to itself", answer(images, images), 0.0)


@exercise("The direction loss")
def check_direction_loss(answer: Any) -> Hints:
    """Check ``function(image_infrared, image_visible, text_infrared, text_visible)``.

    Four directions ``(D,)``; the result is a scalar, half of each ``1 - cosine``.
    """
    directions = [_random(8, seed=seed) - 0.5 for seed in range(4)]
    image_infrared, image_visible, text_infrared, text_visible = directions
    infrared = cosine_similarity(image_infrared, text_infrared, dim=0)
    visible = cosine_similarity(image_visible, text_visible, dim=0)
    crossed = cosine_similarity(image_infrared, text_visible, dim=0)
    crossed += cosine_similarity(image_visible, text_infrared, dim=0)
    products = image_infrared @ text_infrared + image_visible @ text_visible
    expected = 0.5 * (1 - infrared) + 0.5 * (1 - visible)
    found = answer(*directions)
    yield expect_no_mistake(
        found,
        {
            "that is the mean cosine; a loss falls when it rises": 0.5 * (infrared + visible),
            "each of the two parts has the weight one half": 2 * expected,
            "compare each image direction with the text of the same source": 1 - 0.5 * crossed,
            "directions do not have length 1; divide each product by both lengths": (
                1 - 0.5 * products
            ),
        },
    )
    yield expect_close("the loss", found, expected)
    yield expect_close("for equal directions the loss", answer(*directions[:2] * 2), 0.0)


@exercise("Which rule the words prefer")
def check_preferred_rule(answer: Any, cosines: Mapping[str, float] | None = None) -> Hints:
    """Check the name of the fusion rule that was predicted to go farthest along the words.

    Args:
        answer: a name.
        cosines: rule to measured cosine with the text directions.
    """
    cosines = cosines or {}
    yield expect(
        isinstance(answer, str) and answer in cosines,
        f"the prediction must be one of {', '.join(cosines)}, got {answer!r}",
    )
    order = sorted(cosines, key=cosines.__getitem__, reverse=True)
    yield expect(
        answer == order[0],
        f"{answer!r} is number {order.index(answer) + 1} of {len(order)} with "
        f"{cosines[answer]:+.3f}; {order[0]!r} has {cosines[order[0]]:+.3f}. A wrong prediction is "
        "a finding: which of the words did CLIP respond to, and for which source?",
    )


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
