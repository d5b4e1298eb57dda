"""Studies: the recorded results that notebook 06 reads.

``python -m experiments.detector protocol``, ``... sentences`` and ``... evaluate`` make them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_WEIGHTS = Path(__file__).parent.parent / "weights"
PROTOCOL = _WEIGHTS / "detection_protocol.json"
"""One detector per method: AP at 0.5 by set, method and seed."""
SENTENCES = _WEIGHTS / "detection_sentences.json"
"""One fusion network per sentence: AP at 0.5, and how well people and vehicles stand out."""

DETECTOR = _WEIGHTS / "detector.json"
"""The embedded detector: how it was trained, and its AP on rendered and real labeled sets."""
_COMMANDS = {SENTENCES.name: "sentences", DETECTOR.name: "evaluate"}


def read_study(path: str | os.PathLike) -> dict[str, Any]:
    """Read a recorded study.

    Raises:
        ValueError: if it is missing or damaged, with the command that makes it.
    """
    path = Path(path)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = found["command"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = _COMMANDS.get(path.name, "protocol")
        raise ValueError(
            f"{path}: no recorded study ({error}); make it with `python -m experiments.detector "
            f"{kind}`"
        ) from error
    return found
