"""The checks of the exercises of notebook 08, on sentences at inference."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from ldf_utils.notebook.answers import Hints, exercise, expect_close, expect_no_mistake


@exercise("Adjusted features")
def check_adjust(answer: Any) -> Hints:
    """Check ``function(features, scale, offset)``: ``(B, C, h, w)`` and twice ``(B, C)``."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 3, 4, 5, generator=generator)
    scale, offset = torch.randn(2, 3, 3, generator=generator)
    wide = scale[..., None, None], offset[..., None, None]
    right = (1 + wide[0]) * features + wide[1]
    found = answer(features, scale, offset)
    yield expect_no_mistake(
        found,
        {
            "a scale of 0 has to leave the features as they are: multiply by 1 + scale": (
                wide[0] * features + wide[1]
            ),
            "the offset is not scaled: add it last": (1 + wide[0]) * (features + wide[1]),
        },
    )
    yield expect_close("the features", found, right)


@exercise("Between two sentences")
def check_between(answer: Any) -> Hints:
    """Check ``function(first, second, share)``: unit vectors ``(2, D)`` to unit vectors."""
    generator = torch.Generator().manual_seed(0)
    first, second = F.normalize(torch.randn(2, 2, 6, generator=generator), dim=-1)
    mixed = 0.7 * first + 0.3 * second
    found = answer(first, second, 0.3)
    yield expect_no_mistake(
        found,
        {
            "the result has to have length 1 again": mixed,
            "share 0 is the first sentence, share 1 the second": F.normalize(
                0.3 * first + 0.7 * second, dim=-1
            ),
            "each of the two directions has a length of its own: normalize along the last axis": (
                mixed / mixed.norm()
            ),
        },
    )
    yield expect_close("the directions", found, F.normalize(mixed, dim=-1))
