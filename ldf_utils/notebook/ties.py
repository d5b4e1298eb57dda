"""Winners in words: what is nearly as good as the best is named with it, as a tie."""

from __future__ import annotations

from collections.abc import Mapping


def leaders(scores: Mapping[str, float], margin: float, highest: bool = False) -> list[str]:
    """List the names with the best score and those at most a margin behind it, best first.

    Args:
        scores: name to score.
        margin: the distance from the best score that still counts as a tie.
        highest: whether the highest score is the best; the lowest is by default.

    Raises:
        ValueError: if there is no score.

    Example:
        >>> leaders({"a": 0.52, "b": 0.5, "c": 0.9}, margin=0.05)
        ['b', 'a']
    """
    if not scores:
        raise ValueError("scores must hold at least one name, got none")
    order = sorted(scores, key=scores.__getitem__, reverse=highest)
    return [name for name in order if abs(scores[name] - scores[order[0]]) <= margin]


def best(scores: Mapping[str, float], margin: float, highest: bool = False) -> str:
    """Write the leaders for a title: ``b``, or ``b and a (a tie)``; arguments as `leaders`.

    Example:
        >>> best({"a": 0.52, "b": 0.5, "c": 0.9}, margin=0.05)
        'b and a (a tie)'
    """
    names = leaders(scores, margin, highest)
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]} (a tie)"
