"""What is trained: terms from none to all, and other sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ldf_utils.clip.model import PROMPTS

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

PART_VARIANTS = (
    Variant(
        "target alone", "text: the target in place of a difference", {"direction_text": "target"}
    ),
    Variant(
        "plain cosine", "images: the fused one in place of a step", {"direction_image": "position"}
    ),
    Variant(
        "clip score",
        "both: the cosine of picture and sentence",
        {"direction_text": "target", "direction_image": "position"},
    ),
    Variant(
        "own patches", "patches against their own view of the sources", {"patch_sources": "patch"}
    ),
    Variant("filter infrared", "filter on the infrared only", {"filter_sources": "infrared"}),
    Variant("filter visible", "filter on the visible only", {"filter_sources": "visible"}),
    Variant("angle 0", "no angle term", {"weight_angle": 0.0}),
    Variant("angle 30", "five times the angle term", {"weight_angle": 30.0}),
    Variant("perceptual 0", "no perceptual term", {"weight_perceptual": 0.0}),
    Variant("perceptual 100", "ten times the perceptual term", {"weight_perceptual": 100.0}),
    Variant(
        "swapped",
        "the sentences of the two sources exchanged",
        {"prompt_infrared": PROMPTS.visible, "prompt_visible": PROMPTS.infrared},
    ),
)
"""Each changes one part of the full loss."""

FILTER_VARIANTS = tuple(
    Variant(
        f"{rule} / {mean}",
        f"filter {rule.replace('_', ' ')}, mean over {mean} patches",
        {"patch_filter": rule, "mean_over": mean},
    )
    for rule in ("bits", "normalized", "upper_half", "none")
    for mean in ("all", "kept")
    if (rule, mean) != ("none", "kept")  # nothing is dropped: both are one
)
"""The four rules of the patch filter with both means; ``bits / all`` is the released one."""

WORDS = {
    "clear": "a clear image",
    "hazy": "a hazy image",
    "sharp": "a sharp image",
    "blurry": "a blurry image",
    "bright": "a bright image",
    "dark": "a dark image",
    "noisy": "a noisy image",
    "smooth": "a smooth image",
    "detailed": "an image with detailed background",
    "flat": "an image with flat background",
    "salient": "an image with salient objects",
    "hidden": "an image with hidden objects",
}
"""Six words and their opposites, each in a sentence for the fused picture."""

WORD_VARIANTS = tuple(
    Variant(f"word {word}", f"full loss, “{sentence}”", {"prompt_fused": sentence})
    for word, sentence in WORDS.items()
)

NETWORK_VARIANTS = tuple(
    Variant(
        f"{network} {weight:g}{'' if words else ', no words'}",
        f"network {network}, perceptual weight {weight:g}, {'with' if words else 'without'} words",
        {"network": network, "weight_perceptual": weight} | ({} if words else _OFF),
    )
    for network in ("bounded", "salient")
    for weight in (10.0, 100.0)
    for words in (True, False)
)
"""Both small networks, at two perceptual weights, with and without words."""

_NAMED = {variant.name: variant for variant in VARIANTS}

GROUPS = {
    "terms": VARIANTS,
    # What the package ships and the notebooks read.
    "shipped": (*VARIANTS, *WORD_VARIANTS, *PART_VARIANTS),
    "parts": (*(_NAMED[name] for name in ("filter", "angle", "patches")), *PART_VARIANTS),
    "filter": (_NAMED["perceptual"], *FILTER_VARIANTS),
    "words": (_NAMED["perceptual"], *WORD_VARIANTS),
    "network": NETWORK_VARIANTS,
}
"""What ``--group`` chooses from."""
