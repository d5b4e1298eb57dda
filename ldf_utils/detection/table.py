"""Tables: average precision by method and class, by light and size, and what is beyond chance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldf_utils.detection.average_precision import (
    SIZES,
    Difference,
    Floats,
    Matches,
    average_precision,
    difference,
    draw_weights,
    match,
    precision,
    samples,
)
from ldf_utils.detection.boxes import Boxes
from ldf_utils.detection.search import Findings
from ldf_utils.evaluation.report import text_table

Row = dict[str, Any]


def precision_rows(
    findings: Findings, classes: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> list[Row]:
    """Measure every method and class.

    Args:
        findings: of `ldf_utils.detection.search.search_set`.
        classes: those to measure; of which the labels have boxes.
        draws: of the bootstrap over pictures.
        seed: of the draws.

    Returns:
        Rows ``method, class, ap50, ap, low, high, ...``: ``low`` and ``high`` are the bounds of
        ``ap`` (95 %), ``ap50_low`` and ``ap50_high`` those of ``ap50``. Then ``ap50`` by light and
        by size (``small`` to 32 x 32 pixels, ``large`` from 96 x 96), NaN where there is no box,
        the number of ``boxes`` and of ``images``.
    """
    rows = []
    for method, found in findings.found.items():
        truth = {name: findings.truth[name] for name in found}
        if not truth:
            continue
        matches = match(truth, found, list(SIZES))
        for c in classes:
            whole = precision(matches[c, "all"], draws=draws, seed=seed)
            row: Row = {"method": method, "class": c, "ap50": whole.ap50, "ap": whole.ap}
            row["low"], row["high"] = whole.interval
            row["ap50_low"], row["ap50_high"] = whole.ap50_interval
            for light in ("day", "night"):
                row[f"ap50_{light}"] = _ap50(truth, found, _pictures(findings, method, light), c)
            for size in list(SIZES)[1:]:
                row[f"ap50_{size}"] = float(average_precision(matches[c, size])[0])
            rows.append(row | {"boxes": whole.boxes, "images": len(truth)})
    return rows


def _pictures(findings: Findings, method: str, part: str) -> list[str]:
    """List the pictures of a method that belong to a part: ``day``, ``night``, or any other."""
    found = findings.found[method]
    if part not in ("day", "night"):
        return list(found)
    return [name for name in found if findings.night.get(name, False) == (part == "night")]


def _ap50(
    truth: Mapping[str, Boxes], found: Mapping[str, Boxes], names: Sequence[str], c: str
) -> float:
    """Measure AP at 0.5 on some of the pictures."""
    if not names:
        return math.nan
    matches = match({n: truth[n] for n in names}, {n: found[n] for n in names})
    return float(average_precision(matches[c, "all"])[0])


@dataclass(frozen=True)
class Comparison:
    """Two methods on one class.

    Attributes:
        name: the class.
        better: the method with the higher AP at 0.5.
        worse: the other.
        gain: the difference with its bounds.
    """

    name: str
    better: str
    worse: str
    gain: Difference


def compare(
    findings: Findings, name: str, *, part: str = "all", draws: int = 1000, seed: int = 0
) -> list[Comparison]:
    """Compare each two methods on a class, on the pictures that both have.

    Args:
        findings: of `ldf_utils.detection.search.search_set`.
        name: of the class.
        part: ``day`` or ``night``, or boxes of a size: ``small``, ``medium``, ``large``, ``all``.
        draws: of the bootstrap over pictures.
        seed: of the draws.

    Returns:
        Largest difference first; nothing where no box counts.
    """
    size = part if part in SIZES else "all"
    known: dict[tuple[str, tuple[str, ...]], tuple[Matches, Floats]] = {}

    def measured(method: str, images: tuple[str, ...]) -> tuple[Matches, Floats]:
        """Match and draw a method once for each selection of pictures."""
        if (method, images) not in known:
            found = findings.found[method]
            truth = {n: findings.truth[n] for n in images}
            mine = match(truth, {n: found[n] for n in images}, [size])[name, size]
            known[method, images] = mine, samples(mine, draw_weights(len(images), draws, seed))
        return known[method, images]

    result = []
    for first, second in itertools.combinations(findings.found, 2):
        images = tuple(n for n in _pictures(findings, first, part) if n in findings.found[second])
        if not images:
            continue
        (a, a_drawn), (b, b_drawn) = measured(first, images), measured(second, images)
        if not a.truth.sum():
            continue
        gain = difference(a, b, drawn=(a_drawn, b_drawn))
        if gain.value < 0:
            first, second = second, first
            gain = Difference(-gain.value, -gain.high, -gain.low)
        result.append(Comparison(name, first, second, gain))
    return sorted(result, key=lambda c: -c.gain.value)


def against(comparisons: Sequence[Comparison], reference: str) -> dict[str, list[str]]:
    """Sort methods by how they compare with another one, of which none is called the best.

    Args:
        comparisons: of `compare`.
        reference: a method.

    Returns:
        ``better`` and ``worse``: methods whose difference from it is beyond chance; ``level``: all
        others, which these pictures cannot tell from it.
    """
    found: dict[str, list[str]] = {"better": [], "worse": [], "level": []}
    for c in comparisons:
        if reference in (c.better, c.worse):
            other, kind = (c.worse, "worse") if c.better == reference else (c.better, "better")
            found[kind if c.gain.clear else "level"].append(other)
    return found


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """Say of each method which others it cannot be told apart from, best method first."""
    lines = []
    for method in dict.fromkeys(c.better for c in comparisons):
        mine = [c for c in comparisons if c.better == method]
        unclear = [c.worse for c in mine if not c.gain.clear]
        clear = [c.worse for c in mine if c.gain.clear]
        if clear:
            lines.append(f"{mine[0].name}: {method} is clearly better than {', '.join(clear)}")
        if unclear:
            lines.append(f"{mine[0].name}: {method} can't be told apart from {', '.join(unclear)}")
    return lines


def format_rows(rows: Sequence[Row]) -> str:
    """Format the rows as text, best AP at 0.5 of each class first."""
    head = ["class", "method", "AP50", "95 %", "AP", "95 %", "day", "night", "small", "large"]
    body = [
        [
            row["class"],
            row["method"],
            _digits(row["ap50"]),
            f"{_digits(row['ap50_low'])} to {_digits(row['ap50_high'])}",
            _digits(row["ap"]),
            f"{_digits(row['low'])} to {_digits(row['high'])}",
            *(_digits(row[f"ap50_{k}"]) for k in ("day", "night", "small", "large")),
        ]
        for row in ranked(rows)
    ]
    return text_table(head, body)


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Sort rows by class, best AP at 0.5 first."""
    classes = list(dict.fromkeys(row["class"] for row in rows))
    return sorted(rows, key=lambda r: (classes.index(r["class"]), -r["ap50"]))


def _digits(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
