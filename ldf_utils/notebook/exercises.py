"""Checks: friendly verdicts on the exercises, and what a notebook says of itself.

An exercise check is a generator of hints under the decorator `exercise`: the first hint is shown,
nothing else; without a hint the exercise is solved. No check stops a notebook, so that a notebook
whose exercises are still open runs to its end.

    @exercise("Cosine of two embeddings")
    def check_cosine(answer, first, second):
        yield expect_shape("the answer", answer, ())
        yield expect_close("the answer", answer, (first * second).sum())
"""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ldf_utils.data.images import luminance, replace_luminance
from ldf_utils.data.scenes import render
from ldf_utils.fusion.rules import RULES
from ldf_utils.metrics import measure

# ------------------------------------------------------------------ verdicts


@dataclass(frozen=True)
class Verdict:
    """What a check found; true if the exercise is solved.

    Attributes:
        exercise: the name of the exercise.
        hint: what to look at next, or None if all is well.
    """

    exercise: str
    hint: str | None = None

    def __bool__(self) -> bool:
        return self.hint is None

    def __str__(self) -> str:
        if self.hint is None:
            return f"Well done: {self.exercise}."
        return f"Not yet: {self.exercise}.\n" + textwrap.indent(self.hint, "  ")

    def _ipython_display_(self) -> None:
        """Nothing: the check has printed the verdict, also where it is not a cell's last line."""


def exercise(name: str) -> Callable[[Callable[..., Iterator[str | None]]], Callable[..., Verdict]]:
    """Make a check of an exercise out of a generator of hints.

    The check prints its verdict and returns it. It asks the generator for hints until one is not
    None. A first argument that is still ``...`` or None means that the exercise is open. An
    exception (most often from the learner's function) becomes a hint as well.

    Args:
        name: the exercise, as a noun phrase without a full stop.

    Returns:
        A decorator for a generator function that yields a hint, or None, per requirement.
    """

    def decorate(hints: Callable[..., Iterator[str | None]]) -> Callable[..., Verdict]:
        @functools.wraps(hints)
        def checked(answer: Any, *args: Any, **kwargs: Any) -> Verdict:
            if answer is ... or answer is None:
                hint = "put your answer in place of the three dots and run the cell again"
            else:
                hint = _first_hint(hints, answer, *args, **kwargs)
            verdict = Verdict(name, hint)
            print(verdict)
            return verdict

        return checked

    return decorate


def _first_hint(hints: Callable[..., Iterator[str | None]], *args: Any, **kwargs: Any):
    try:
        return next((hint for hint in hints(*args, **kwargs) if hint), None)
    except Exception as error:
        return (
            f"running it raised {type(error).__name__}: {error}\n"
            "call it yourself in a cell of its own to see where"
        )


def expect(condition: bool, hint: str) -> str | None:
    """The hint, unless the condition holds."""
    return None if bool(condition) else hint


def expect_shape(what: str, found: Any, shape: tuple[int, ...]) -> str | None:
    """A hint, unless `found` is a tensor (or number, for ``()``) of this shape."""
    if found is ... or found is None:
        return f"{what} is still missing: put your code in place of the three dots"
    if not isinstance(found, (torch.Tensor, int, float)):
        return f"{what} is a {type(found).__name__}; expected a tensor of shape {shape}"
    if tuple(torch.as_tensor(found).shape) != tuple(shape):
        return f"{what} has shape {tuple(torch.as_tensor(found).shape)}; expected {tuple(shape)}"
    return None


def expect_close(
    what: str, found: Any, expected: Any, tolerance: float = 1e-4, hint: str = ""
) -> str | None:
    """A hint, unless all numbers agree.

    Args:
        what: how to call the value in the hint.
        found: a number or a tensor.
        expected: a number or a tensor.
        tolerance: the largest absolute difference that passes.
        hint: what to think about when the numbers differ.
    """
    expected = torch.as_tensor(expected).detach().double()
    wrong_shape = expect_shape(what, found, tuple(expected.shape))
    if wrong_shape:
        return wrong_shape
    found = torch.as_tensor(found).detach().double()
    difference = (found - expected).abs()
    if not difference.isfinite().all():
        return f"{what} holds a number that is not finite" + (f"; {hint}" if hint else "")
    if difference.numel() and difference.max() > tolerance:
        at = int(difference.argmax())
        return (
            f"{what}: found {found.flatten()[at]:.5g}, expected {expected.flatten()[at]:.5g}"
            + (f" (at the largest difference, element {at})" if found.ndim else "")
            + (f"; {hint}" if hint else "")
        )
    return None


def expect_between(what: str, found: Any, low: float, high: float, hint: str = "") -> str | None:
    """A hint, unless the number lies in [low, high]."""
    number = float(found)
    if not low <= number <= high:
        return f"{what} is {number:.4g}; expected {low:g} to {high:g}" + (
            f"; {hint}" if hint else ""
        )
    return None


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_written(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ------------------------------------------------- the exercises of the notebooks
#
# Each takes the learner's answer first, mostly a function, and tries it on numbers of its own.


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _mistaken(found: Any, mistakes: Mapping[str, torch.Tensor]) -> str | None:
    """The hint of the mistake whose result was found, if one is recognized."""
    if not isinstance(found, (torch.Tensor, int, float)):
        return None
    found = torch.as_tensor(found).detach().double()
    for hint, result in mistakes.items():
        result = torch.as_tensor(result).double()
        if found.shape == result.shape and torch.allclose(found, result, atol=1e-5):
            return hint
    return None


@exercise("A weighted average")
def check_weighted_average(answer):
    """The answer: ``function(infrared, visible, weight)``, `weight` being the infrared's share."""
    infrared, visible = _random(1, 1, 4, 5), _random(1, 1, 4, 5, seed=1)
    found = answer(infrared, visible, 0.3)
    yield _mistaken(
        found,
        {
            "the weight went to the visible picture; it is the share of the infrared": (
                0.7 * infrared + 0.3 * visible
            ),
            "the weights do not add up to 1; the visible picture gets 1 - weight": (
                0.3 * infrared + visible
            ),
        },
    )
    yield expect_close("with weight 0.3 the result", found, 0.3 * infrared + 0.7 * visible)
    yield expect_close("with weight 1 the result", answer(infrared, visible, 1.0), infrared)


@exercise("A new luminance in the old color")
def check_recolor(answer):
    """The answer: ``function(visible, fused)``, ``(3, H, W)``, ``(1, H, W)`` to ``(3, H, W)``."""
    visible = 0.4 + 0.2 * _random(3, 4, 5)
    fused = 0.3 + 0.4 * _random(1, 4, 5, seed=1)
    found = answer(visible, fused)
    yield _mistaken(
        found,
        {
            "the old luminance is still in it; take it out before the new one goes in": (
                visible + fused
            ),
            "a common factor scales the chroma as well; the differences to Y are to stay": (
                visible * fused / luminance(visible)
            ),
            "that is gray: the chroma of the visible picture is gone": fused.expand(3, -1, -1),
            "luminance is no plain mean of the channels; luminance(visible) gives it": (
                visible + fused - visible.mean(0, keepdim=True)
            ),
        },
    )
    yield expect_close("the picture", found, replace_luminance(visible, fused))
    white = answer(visible, torch.ones_like(fused))
    yield expect(
        0 <= white.min() and white.max() <= 1,
        f"for a white luminance values lie between {white.min():.2f} and {white.max():.2f}; clamp "
        "them to [0, 1], a screen shows no more",
    )


@exercise("Zero-shot: the nearest sentence")
def check_zero_shot(answer):
    """The answer: ``function(image, sentences)``, ``(D,)`` and ``(N, D)`` to an index."""
    image = torch.tensor([1.0, 0.0, 0.0])
    sentences = torch.tensor([[3.0, 9.0, 0.0], [0.9, 0.1, 0.0], [-5.0, 0.0, 0.0]])
    found = answer(image, sentences)
    yield expect(
        isinstance(found, int) or (isinstance(found, torch.Tensor) and found.numel() == 1),
        f"expected one index, found {type(found).__name__}; argmax gives it",
    )
    found = int(found)
    yield expect(
        found != 0,
        "the longest vector won; compare directions: normalize the sentences first",
    )
    yield expect(found != 2, "that is the farthest one; the cosine of the nearest is the largest")
    yield expect(found == 1, f"found index {found}, expected 1")


@exercise("The gap between pictures and sentences")
def check_modality_gap(answer):
    """The answer: ``function(pictures, sentences)``, ``(N, D)`` and ``(M, D)`` to a number."""
    unit = torch.nn.functional.normalize
    pictures = unit(_random(5, 8) - 0.2, dim=1)
    sentences = unit(_random(7, 8, seed=1) - 0.8, dim=1)
    step = pictures.mean(0) - sentences.mean(0)
    found = answer(pictures, sentences)
    yield _mistaken(
        found,
        {
            "that is the step from one center to the other; its length is asked for": step,
            "that is the square of the distance; take the root": step.square().sum(),
            "that is the mean distance of all pairs; take the means first, then the distance": (
                torch.cdist(pictures, sentences).mean()
            ),
            "that is one minus the mean cosine; the distance of the two centers is asked for": (
                1 - (pictures @ sentences.T).mean()
            ),
        },
    )
    yield expect_close("the gap", found, step.norm())
    yield expect_close("the gap of a group to itself", answer(pictures, pictures), 0.0)


@exercise("The direction loss")
def check_direction_loss(answer):
    """The answer: ``function(image_infrared, image_visible, text_infrared, text_visible)``.

    Four directions ``(D,)``; the result is a scalar, half of each ``1 - cosine``.
    """
    directions = [_random(8, seed=seed) - 0.5 for seed in range(4)]
    cosine = torch.nn.functional.cosine_similarity
    infrared = cosine(directions[0], directions[2], dim=0)
    visible = cosine(directions[1], directions[3], dim=0)
    expected = 0.5 * (1 - infrared) + 0.5 * (1 - visible)
    found = answer(*directions)
    yield _mistaken(
        found,
        {
            "that is the mean cosine; a loss falls when the cosine rises: 1 - cosine": (
                0.5 * (infrared + visible)
            ),
            "each of the two parts counts one half": 2 * expected,
            "compare each image direction with the text direction of the same source": (
                1
                - 0.5 * cosine(directions[0], directions[3], dim=0)
                - 0.5 * cosine(directions[1], directions[2], dim=0)
            ),
        },
    )
    yield expect_close("the loss", found, expected)
    yield expect_close("for equal directions the loss", answer(*directions[:2] * 2), 0.0)


@exercise("Which rule the words prefer")
def check_preferred_rule(answer, cosines: Mapping[str, float]):
    """The answer: the name of the fusion rule that was expected to go farthest along the words.

    Args:
        answer: a name.
        cosines: rule to measured cosine with the text directions.
    """
    yield expect(
        isinstance(answer, str) and answer in cosines,
        f"expected one of {', '.join(cosines)}, found {answer!r}",
    )
    order = sorted(cosines, key=cosines.get, reverse=True)
    yield expect(
        answer == order[0],
        f"{answer!r} came {order.index(answer) + 1} of {len(order)}, with {cosines[answer]:+.3f}; "
        f"{order[0]!r} had {cosines[order[0]]:+.3f}. A wrong prediction is a finding: which of "
        "the words did CLIP hear, and in which source?",
    )


@exercise("The angle term")
def check_angle_loss(answer):
    """The answer: ``function(fused, infrared, visible)``, embeddings ``(D,)`` to a scalar."""
    fused, infrared, visible = (_random(8, seed=seed) - 0.5 for seed in range(3))
    cosine = torch.nn.functional.cosine_similarity
    parts = 1 - cosine(fused, infrared, dim=0), 1 - cosine(fused, visible, dim=0)
    found = answer(fused, infrared, visible)
    yield _mistaken(
        found,
        {
            "each of the two parts counts one half": parts[0] + parts[1],
            "that is the mean cosine; the term is 0 where all three agree": (
                1 - 0.5 * (parts[0] + parts[1])
            ),
        },
    )
    yield expect_close("the term", found, 0.5 * (parts[0] + parts[1]))


@exercise("A threshold that keeps a given share")
def check_entropy_threshold(answer, infrared_bits, visible_bits, share: float = 0.5):
    """The answer: bits, such that `share` of the patches have more in both sources.

    Args:
        answer: a number.
        infrared_bits: ``(N,)`` entropies of the infrared patches.
        visible_bits: ``(N,)`` entropies of the visible patches.
        share: what is to be kept, met to one patch.
    """
    threshold = float(answer)
    yield expect_between("the threshold in bits", threshold, 0.0, 8.0)
    tolerance = 1.0 / len(infrared_bits) + 1e-6
    both = ((infrared_bits > threshold) & (visible_bits > threshold)).float().mean().item()
    for name, bits in (("infrared", infrared_bits), ("visible", visible_bits)):
        alone = (bits > threshold).float().mean().item()
        yield expect(
            abs(both - share) <= tolerance or abs(alone - share) > tolerance,
            f"{alone:.0%} of the {name} patches pass, but only {both:.0%} in both sources: the "
            "emptier patch of the two decides",
        )
    yield expect_between(
        "the share that passes in both sources",
        both,
        share - tolerance,
        share + tolerance,
        "lower the threshold to keep more",
    )


@exercise("What other words will change")
def check_prediction(answer, before: Mapping[str, float], after: Mapping[str, float]):
    """The answer: measure to ``"up"`` or ``"down"``, said before it was measured.

    Args:
        answer: one word for each measure.
        before: measure to value with the usual words.
        after: the same with other words.
    """
    yield expect(
        isinstance(answer, Mapping) and set(answer) == set(before),
        f"expected a dict with the keys {list(before)}, found {answer!r}",
    )
    for name, word in answer.items():
        yield expect(word in ("up", "down"), f"{name}: expected 'up' or 'down', found {word!r}")
    for name, word in answer.items():
        went = "up" if after[name] > before[name] else "down"
        yield expect(
            word == went,
            f"{name} went {went}, from {before[name]:.4g} to {after[name]:.4g}. A wrong prediction "
            "is a finding: look at the pictures, and at which of the words the critic heard",
        )


@exercise("A learning rate that decays")
def check_schedule(answer):
    """The answer: ``function(step, steps, warmup)`` to a factor in [0, 1].

    It rises to 1 at the end of the warm-up and falls to a tenth or less at the last step.
    """
    steps, warmup = 100, 10
    factors = [float(answer(step, steps, warmup)) for step in range(steps)]
    for step, factor in enumerate(factors):
        yield expect_between(f"the factor of step {step}", factor, 0.0, 1.0)
    rising, falling = factors[:warmup], factors[warmup:]
    yield expect(
        all(a < b for a, b in itertools.pairwise(rising)),
        f"it does not rise in every step of the warm-up: {rising[:3]} ...",
    )
    yield expect_between("the largest factor", max(factors[: warmup + 1]), 0.99, 1.0)
    yield expect(
        all(a >= b for a, b in itertools.pairwise(falling)),
        "it rises again after the warm-up",
    )
    yield expect_between(
        "the factor of the last step",
        factors[-1],
        0.0,
        0.1,
        "a rate that stays high keeps the network moving about",
    )


@exercise("The share of a process")
def check_share(answer):
    """The answer: ``function(pairs, rank, count)`` to the numbers of the pairs of one process.

    All shares together hold every pair from 0 to ``pairs - 1``, and they are of equal length.
    """
    for pairs, count in ((8, 2), (12, 4), (5, 1), (7, 3)):
        shares = [[int(k) for k in answer(pairs, rank, count)] for rank in range(count)]
        where = f"for {pairs} pairs and {count} processes"
        lengths = sorted({len(share) for share in shares})
        held = set().union(*shares)
        yield expect(
            held <= set(range(pairs)),
            f"{where} there is no pair {min(held - set(range(pairs)), default=None)}; pairs are "
            f"numbered from 0 to {pairs - 1}",
        )
        yield expect(
            held == set(range(pairs)),
            f"{where} nobody has pair {min(set(range(pairs)) - held, default=None)}; a pair that "
            "nobody has is never learned from",
        )
        if pairs % count == 0:
            yield expect(
                sum(map(len, shares)) == pairs,
                f"{where} some pair comes twice, although they can be dealt out evenly",
            )
        yield expect(
            len(lengths) == 1,
            f"{where} the shares have the lengths {lengths}; a process that has done its share "
            "would wait for the others for ever. Let some pairs come twice",
        )


@exercise("What an exchange sends")
def check_ring(answer):
    """The answer: ``function(parameters, processes)`` to bytes that each process sends.

    A ring: each process sends ``2 (N - 1)`` messages of one N-th of all gradients in float32.
    """
    found = answer(1_000_000, 4)
    yield _mistaken(
        torch.tensor(float(found)),
        {
            "a number in float32 has 4 bytes": torch.tensor(1.5e6),
            "that is one way only: partial sums go round, then the results": torch.tensor(3e6),
            "each process sends 2 (N - 1) messages, not 2 N": torch.tensor(8e6),
            "that is what all processes send together": torch.tensor(24e6),
        },
    )
    yield expect_close("the bytes for 1,000,000 parameters and 4 processes", float(found), 6e6)
    yield expect_close("the bytes for 10 parameters and 2 processes", float(answer(10, 2)), 40.0)
    yield expect_close("the bytes of a process alone", float(answer(1000, 1)), 0.0)


@exercise("Standard deviation, a measure of contrast")
def check_standard_deviation(answer):
    """The answer: ``function(picture)``, ``(H, W)`` in grey levels 0..255, to a number."""
    picture = (255 * _random(6, 7)).round()
    found = answer(picture)
    yield _mistaken(
        found,
        {
            "that is the variance; take the root": picture.var(correction=0),
            "divide by the number of pixels, not by one less (correction=0)": picture.std(),
        },
    )
    yield expect_close("the standard deviation", found, picture.std(correction=0), 1e-3)


@exercise("A rule that fools a metric")
def check_cheating_rule(answer):
    """The answer: ``rule(infrared, visible)``, both ``(B, 1, H, W)`` in [0, 1], to the same shape.

    It is to have the highest mean of all rules of `ldf_utils.fusion.rules` in one metric or
    more, on
    generated scenes whose right fusion is known, and to be farther from that than averaging.
    """
    scenes = render(3, (96, 128), seed=1, time="night")
    sources = scenes.infrared, luminance(scenes.visible)
    fused = answer(*sources)
    yield expect_shape("the result", fused, tuple(scenes.infrared.shape))
    yield expect(
        bool(fused.isfinite().all()) and 0 <= fused.min() and fused.max() <= 1,
        "the result leaves [0, 1] or is not finite; a picture file would cut it: clamp it",
    )

    def means(picture: torch.Tensor) -> dict[str, float]:
        values = measure(picture, *sources, ("EN", "SD", "SF", "AG", "MI", "SCD", "SSIM"))
        return {name: value.mean().item() for name, value in values.items()}

    rules = [means(rule(*sources)) for rule in RULES.values()]
    best = {name: max(row[name] for row in rules) for name in rules[0]}
    mine = means(fused)
    nearest = max(best, key=lambda name: mine[name] / max(abs(best[name]), 1e-9))
    won = [name for name in best if mine[name] > best[name] + 1e-9]
    yield expect(
        bool(won),
        f"it wins no metric yet; it is nearest in {nearest}, {mine[nearest]:.3f} against "
        f"{best[nearest]:.3f} of the best rule. What does that metric not look at?",
    )
    mine_off, average_off = (
        (picture - scenes.oracle).square().mean().sqrt().item()
        for picture in (fused, RULES["average"](*sources))
    )
    yield expect(
        mine_off > average_off,
        f"it wins {', '.join(won)}, but it is nearer to the right fusion than averaging "
        f"({mine_off:.3f} against {average_off:.3f}): a better rule, not a cheat. Make a bad one",
    )
