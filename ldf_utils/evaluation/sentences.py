"""What held-out sentences do to one network: reading the record of `experiments.sentence`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldf_utils.networks.checkpoint import SENTENCE_WEIGHTS

OPPOSITES = (
    ("dark", "bright"),
    ("blurry", "sharp"),
    ("hazy", "clear"),
    ("smooth", "noisy"),
    ("flat", "detailed"),
    ("hidden", "salient"),
)
"""The twelve held-out words, the first of each two with the declared effect *fall*."""

OPPOSITE = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}
"""Each word to its opposite."""

RECORD = SENTENCE_WEIGHTS.with_suffix(".json")
"""The record that ships with the package."""


def load_record(path: Path = RECORD) -> dict[str, Any]:
    """Read the record.

    Args:
        path: written by ``python -m experiments.sentence measure``.

    Returns:
        ``training`` (settings), ``samples`` (kind of pairs to count), ``runs`` (``effects`` of each
        seed), ``alone``, ``ways``, ``objects``, ``nothing_new``, ``ranks``, ``seconds``.

    Raises:
        ValueError: if the file is not there, or is no such record.
    """
    advice = "make it with `python -m experiments.sentence measure --data DIR`"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _ = record["runs"][0]["effects"], record["ways"], record["objects"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: no record of the sentences ({error}); {advice}") from error
    return record


def summary(record: Mapping[str, Any]) -> dict[str, int]:
    """Count what the sentences did.

    Args:
        record: of `load_record`.

    Returns:
        ``effects`` declared, those that ``moved`` the declared way against the training without
        words, and ``moved from opposite`` against the opposite sentence (both by more than two
        standard errors over the pairs, first seed), those that ``moved in all seeds``; ``ways``
        from one sentence to another, and those that are ``monotone``.
    """
    first = record["runs"][0]["effects"]
    moved = [[row["moved"] for row in run["effects"]] for run in record["runs"]]
    return {
        "effects": len(first),
        "moved": sum(row["moved"] for row in first),
        "moved from opposite": sum(row["moved from opposite"] for row in first),
        "moved in all seeds": sum(map(all, zip(*moved, strict=True))),
        "ways": len(record["ways"]),
        "monotone": sum(way["steps_back"] == 0 for way in record["ways"]),
    }
