"""Studies: the recorded results that notebook 06 reads.

``python -m experiments.detector protocol``, ``... sentences`` and ``... evaluate`` make them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldf_utils.detection.detector import fingerprint, load_detector
from ldf_utils.networks.checkpoint import load_network

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


def weights_now() -> dict[str, str]:
    """Compute a short hash of each model that ships, to record beside what it measured."""
    clip = _WEIGHTS / "mini_clip" / "open_clip_model.safetensors"
    digests = {
        "detector": load_detector("embedded").fingerprint,
        "fusion network": fingerprint(load_network("shipped").state_dict()),
        "CLIP": hashlib.sha256(clip.read_bytes()).hexdigest(),
    }
    return {name: digest[:12] for name, digest in digests.items()}


def age(study: Mapping[str, Any]) -> str:
    """Say which models of a study are not those that ship now.

    Args:
        study: with ``weights``, a part of what `weights_now` gave when it was measured.

    Returns:
        One sentence; nothing if all are the same.
    """
    now = weights_now()
    old = [name for name, digest in study.get("weights", {}).items() if digest != now.get(name)]
    return f"Measured with an earlier {' and '.join(old)} than ships now." if old else ""
