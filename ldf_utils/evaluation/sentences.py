"""What held-out sentences do to one network: reading the record of `experiments.sentence`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldf_utils.networks.checkpoint import SENTENCE_WEIGHTS

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
    except OSError as error:
        raise ValueError(f"{path}: no record of the sentences there; {advice}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: this is no record of the sentences ({error}); {advice}") from (
            error
        )
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
    every = [row for run in record["runs"] for row in run["effects"]]

    def in_all(one: Mapping[str, Any]) -> bool:
        same = [r for r in every if (r["word"], r["place"]) == (one["word"], one["place"])]
        return all(row["moved"] for row in same)

    return {
        "effects": len(first),
        "moved": sum(row["moved"] for row in first),
        "moved from opposite": sum(row["moved from opposite"] for row in first),
        "moved in all seeds": sum(map(in_all, first)),
        "ways": len(record["ways"]),
        "monotone": sum(way["steps_back"] == 0 for way in record["ways"]),
    }
