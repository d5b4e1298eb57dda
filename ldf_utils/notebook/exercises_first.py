"""The checks of notebooks 00 to 02; `ldf_utils.notebook.exercises` offers them with the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, cosine_similarity, normalize

from ldf_utils.data.images import luminance, replace_luminance
from ldf_utils.notebook.answers import (
    Hints,
    as_tensor,
    exercise,
    expect,
    expect_close,
    expect_no_mistake,
    expect_shape,
    random_numbers,
)


@exercise("A weighted average")
def check_weighted_average(answer: Any) -> Hints:
    """Check ``function(infrared, visible, weight)``, where `weight` is that of the infrared."""
    infrared, visible = random_numbers(1, 1, 4, 5), random_numbers(1, 1, 4, 5, seed=1)
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
    visible = 0.4 + 0.2 * random_numbers(3, 4, 5)
    fused = 0.3 + 0.4 * random_numbers(1, 4, 5, seed=1)
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


@exercise("The source that stands out")
def check_salient_source(answer: Any) -> Hints:
    """Check ``function(infrared, visible)``, ``(B, 1, H, W)`` each, to the same shape.

    At every pixel the source that differs more from its own mean over 15 x 15 pixels, whichever
    its sign. Pixels near the border are not asked for, so that any padding will do.
    """
    infrared, visible = random_numbers(1, 1, 40, 44), random_numbers(1, 1, 40, 44, seed=1)
    off = [x - avg_pool2d(x, 15, 1, 7, count_include_pad=False) for x in (infrared, visible)]
    expected = torch.where(off[0].abs() > off[1].abs(), infrared, visible)
    found = as_tensor(answer(infrared, visible))
    yield expect_shape("the result", found, tuple(infrared.shape))
    assert found is not None  # else it has no shape
    inner = (..., slice(8, -8), slice(8, -8))
    yield expect_no_mistake(
        found[inner],
        {
            "that is the brighter source; something dark can stand out as well": torch.maximum(
                infrared, visible
            )[inner],
            "take the absolute value: something darker than its surroundings stands out, too": (
                torch.where(off[0] > off[1], infrared, visible)[inner]
            ),
            "the source that stands out less was taken": torch.where(
                off[0].abs() > off[1].abs(), visible, infrared
            )[inner],
            "the differences were taken, not the source itself": torch.where(
                off[0].abs() > off[1].abs(), off[0], off[1]
            )[inner],
        },
    )
    yield expect_close("the result", found[inner], expected[inner])


@exercise("The cosine of two vectors")
def check_cosine(answer: Any) -> Hints:
    """Check ``function(a, b)``, vectors ``(D,)`` of any length, to a number."""
    a, b = random_numbers(6) - 0.3, random_numbers(6, seed=1) - 0.6
    right = cosine_similarity(a, b, dim=0)
    found = answer(a, b)
    yield expect_no_mistake(
        found,
        {
            "that is the dot product; divide it by both lengths": a @ b,
            "divide by the length of the second vector as well": a @ b / a.norm(),
            "divide by the length of the first vector as well": a @ b / b.norm(),
            "divide by the lengths, not by their squares": a @ b / (a @ a) / (b @ b),
            "add the products up: the cosine is one number": a * b / a.norm() / b.norm(),
            "that is the angle; its cosine is asked for": torch.acos(right),
        },
    )
    yield expect_close("the cosine", found, right)
    yield expect_close("the cosine of a vector with itself", answer(b, b), 1.0)


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
    images = normalize(random_numbers(5, 8) - 0.2, dim=1)
    sentences = normalize(random_numbers(7, 8, seed=1) - 0.8, dim=1)
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


@exercise("A step between two embeddings")
def check_step(answer: Any) -> Hints:
    """Check ``function(source, goal)``, features ``(D,)`` of any length, to the step ``(D,)``.

    Both are divided by their length before they are subtracted.
    """
    source, goal = 3 * (random_numbers(6) - 0.4), 0.5 * (random_numbers(6, seed=1) - 0.6)
    first, last = (normalize(x, dim=0) for x in (source, goal))
    found = answer(source, goal)
    yield expect_no_mistake(
        found,
        {
            "divide each by its length before you subtract": goal - source,
            "the other way around: a step leads to the goal, so it is the goal minus the source": (
                first - last
            ),
            "divide first and subtract then; here the difference was divided by its length": (
                normalize(goal - source, dim=0)
            ),
            "the step keeps its own length; only the two embeddings are divided by theirs": (
                normalize(last - first, dim=0)
            ),
        },
    )
    yield expect_close("the step", found, last - first)


@exercise("The direction loss")
def check_direction_loss(answer: Any) -> Hints:
    """Check ``function(image_infrared, image_visible, text_infrared, text_visible)``.

    Four directions ``(D,)``; the result is a scalar, half of each ``1 - cosine``.
    """
    directions = [random_numbers(8, seed=seed) - 0.5 for seed in range(4)]
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
