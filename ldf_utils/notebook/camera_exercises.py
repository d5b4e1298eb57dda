"""The checks of the exercises of notebook 07, on two cameras."""

from __future__ import annotations

from typing import Any

import torch

from ldf_utils.notebook.answers import Hints, exercise, expect, expect_close, expect_no_mistake


@exercise("Where a pixel lies in the other camera")
def check_transform(answer: Any) -> Hints:
    """Check ``function(matrix, points)``: 3 x 3 and ``(N, 2)`` to ``(N, 2)``."""
    matrix = torch.tensor([[0.5, 0.1, 3.0], [-0.05, 0.45, 8.0], [1e-3, -5e-4, 1.0]]).double()
    points = torch.tensor([[0.0, 0.0], [100.0, 20.0], [40.0, 200.0]]).double()
    homogeneous = torch.cat([points, torch.ones(3, 1).double()], 1) @ matrix.T
    right = homogeneous[:, :2] / homogeneous[:, 2:]
    found = answer(matrix, points)
    yield expect_no_mistake(
        found,
        {
            "divide x and y by the third number": homogeneous[:, :2],
            "the points are rows: multiply by the transposed matrix": (
                torch.cat([points, torch.ones(3, 1).double()], 1) @ matrix
            )[:, :2],
        },
    )
    yield expect_close("the places", found, right)


@exercise("A range for people")
def check_range(answer: Any, counts_of: Any) -> Hints:
    """Check ``(low, high)`` in counts, for a display from 5 to 40 degrees Celsius."""
    yield expect(
        isinstance(answer, tuple) and len(answer) == 2, "give two numbers, (low, high), in counts"
    )
    low, high = (float(value) for value in answer)
    yield expect(low < high, "the first number is the count of black, so it is the lower one")
    kelvin = 273.15
    yield expect(
        abs(high - low) < 3000, "a count is 0.04 kelvin, so 35 kelvin are fewer than 1000 counts"
    )
    yield expect(
        abs(low - 5 / 0.04) > 1, "counts begin at absolute zero: add 273.15 to degrees Celsius"
    )
    expected = torch.tensor([(5 + kelvin) / 0.04, (40 + kelvin) / 0.04])
    yield expect_close(
        "the range",
        torch.tensor([low, high]),
        expected,
    )
    yield expect(
        abs(float(counts_of(40.0)) - high) <= 1, "the range and the camera's formula disagree"
    )
