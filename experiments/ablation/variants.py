"""What is trained: terms from none to all, and other sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_OFF = dict(weight_direction=0.0, weight_patch=0.0, weight_angle=0.0)


@dataclass(frozen=True)
class Variant:
    """One kind of training.

    Attributes:
        name: how the tables and ``--only`` call it.
        label: what it is, in words.
        changes: settings of `ldf_utils.training.config.TrainConfig` that differ from the base.
    """

    name: str
    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("perceptual", "perceptual term only, no language", _OFF),
    Variant(
        "direction", "+ direction of the whole picture", {"weight_patch": 0.0, "weight_angle": 0.0}
    ),
    Variant("angle", "+ angle", {"weight_patch": 0.0}),
    Variant("patches", "+ patches", {"entropy_threshold": 0.0}),
    Variant("filter", "+ filter of empty patches: the full loss"),
    Variant(
        "dark blurry", "full loss, “a dark blurry image”", {"prompt_fused": "a dark blurry image"}
    ),
    Variant("noisy", "full loss, “a noisy image”", {"prompt_fused": "a noisy image"}),
    Variant("bright", "full loss, “a bright image”", {"prompt_fused": "a bright image"}),
    Variant(
        "flat",
        "full loss, “... flat background ...”",
        {"prompt_fused": "a clear image with flat background and salient objects"},
    ),
    Variant(
        "hidden",
        "full loss, “... hidden objects”",
        {"prompt_fused": "a clear image with detailed background and hidden objects"},
    ),
)
"""Terms from none to all with the paper's sentence, then the full loss with other sentences."""
