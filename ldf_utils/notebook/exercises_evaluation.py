"""The checks of notebook 05; `ldf_utils.notebook.exercises` offers them with the others."""

from __future__ import annotations

from typing import Any

import torch

from ldf_utils.data.sets import rendered_sets
from ldf_utils.data.truth import Truth
from ldf_utils.fusion.rules import RULES
from ldf_utils.metrics import measure
from ldf_utils.notebook.answers import (
    Hints,
    exercise,
    expect,
    expect_close,
    expect_no_mistake,
    expect_shape,
    random_numbers,
)


@exercise("Standard deviation, a measure of contrast")
def check_standard_deviation(answer: Any) -> Hints:
    """Check ``function(image)``, ``(H, W)`` in gray levels 0..255, to a number."""
    image = (255 * random_numbers(6, 7)).round()
    found = answer(image)
    mistakes = {
        "that is the variance; take its square root": image.var(correction=0),
        "divide by the number of pixels, not by one less (correction=0)": image.std(),
    }
    yield expect_no_mistake(found, mistakes)
    yield expect_close("the standard deviation", found, image.std(correction=0), 1e-3)


@exercise("Mean ranks of a table")
def check_mean_ranks(answer: Any) -> Hints:
    """Check ``function(table)``, ``(methods, metrics)``, higher is better, to ``(methods,)``.

    The best method of a column has rank 1; there are no ties.
    """
    table = torch.tensor([[7.1, 50.0, 0.4], [6.5, 20.0, 0.9], [7.4, 30.0, 0.6], [6.0, 10.0, 0.7]])
    order = table.argsort(dim=0, descending=True)
    ranks = order.argsort(dim=0) + 1.0
    found = answer(table)
    yield expect_shape("the mean ranks", found, (len(table),))
    yield expect_no_mistake(
        found,
        {
            "rank 1 is for the highest value, not for the lowest": (5 - ranks).mean(1),
            "ranks begin at 1, not at 0": (ranks - 1).mean(1),
            "argsort says which method is first, second, ...; sort again to get the rank of each "
            "method": (order + 1.0).mean(1),
            "that is the mean of the values; rank each column first": table.mean(1),
        },
    )
    yield expect_close("the mean rank", found, ranks.mean(1))
    flipped = answer(table.flip(0))
    yield expect_close("for reversed rows the mean rank", flipped, ranks.mean(1).flip(0))


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
