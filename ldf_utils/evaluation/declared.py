"""What the ablation study trains and expects: measures, and hypotheses declared beforehand.

Lists of hypotheses, each a measure and a sign:

- `HYPOTHESES`: terms from none to all, and other sentences (notebooks 02 to 04 show them);
- `PARTS`: why each part of the loss is there, one question of a reader each;
- `EFFECTS`: what each of twelve words should change, against a training without words. Measured on
  rendered and on real pairs they are 24 effects; `OBJECT_EFFECTS` splits the last two by people and
  vehicles;
- `LANGUAGE`: both small networks with words against themselves without.
"""

from __future__ import annotations

from dataclasses import dataclass

from ldf_utils.training.config import TrainConfig

BASE = TrainConfig(
    steps=300,
    batch=4,
    crop=128,
    patches=8,
    learning_rate=3e-3,
    noise=0.08,
    clip="mini",
)
"""What all variants share: the paper's weights, and noise in the sources that is worth a word."""

FULL = "filter"
"""The variant with all terms and the paper's sentence."""


@dataclass(frozen=True)
class Hypothesis:
    """What a change is expected to do, said before it is measured.

    Attributes:
        variant: name of the variant.
        baseline: the variant it is compared with.
        measure: name in `MEASURES`.
        sign: +1 if it should rise, -1 if it should fall.
        reason: the reason, in the words of the sentence or the purpose of the term.
    """

    variant: str
    baseline: str
    measure: str
    sign: int
    reason: str


HYPOTHESES = (
    Hypothesis("dark blurry", FULL, "brightness", -1, "dark"),
    Hypothesis("dark blurry", FULL, "sharpness", -1, "blurry"),
    Hypothesis("noisy", FULL, "noise_passed", +1, "noisy"),
    Hypothesis("bright", FULL, "brightness", +1, "bright"),
    Hypothesis("flat", FULL, "detail", -1, "flat background"),
    Hypothesis("hidden", FULL, "gap", -1, "hidden objects"),
    Hypothesis(FULL, "perceptual", "detail", +1, "detailed background"),
    Hypothesis(FULL, "perceptual", "gap", +1, "salient objects"),
    Hypothesis("direction", "perceptual", "contrast", +1, "the direction asks for a clear picture"),
    Hypothesis("angle", "direction", "near_sources", +1, "the angle holds the picture back"),
    Hypothesis("patches", "angle", "sharpness", +1, "patches ask in every part"),
    Hypothesis("filter", "patches", "noise", -1, "the filter asks nothing of empty parts"),
)

PARTS = (
    Hypothesis("target alone", FULL, "near_sources", -1, "without a start, only the goal counts"),
    Hypothesis("target alone", FULL, "direction", +1, "the difference says from where to go"),
    Hypothesis("plain cosine", FULL, "near_sources", -1, "where the sources are is left out"),
    Hypothesis("plain cosine", FULL, "direction", +1, "a position is met without a step"),
    Hypothesis("clip score", FULL, "near_sources", -1, "neither side knows the sources"),
    Hypothesis("angle", FULL, "sharpness", -1, "without patches, not every part is asked"),
    Hypothesis("own patches", FULL, "sharpness", -1, "a patch of the source sets a nearer start"),
    Hypothesis("filter infrared", FULL, "noise", +1, "flat visible patches are asked for detail"),
    Hypothesis("filter visible", FULL, "noise", +1, "flat infrared patches are asked for detail"),
    Hypothesis("patches", FULL, "noise", +1, "without a filter, flat patches are asked for detail"),
    Hypothesis("angle 0", FULL, "near_sources", -1, "nothing holds the picture back"),
    Hypothesis("angle 0", FULL, "artifacts", +1, "texture is invented"),
    Hypothesis("angle 30", FULL, "direction", +1, "held back, the words move less"),
    Hypothesis("perceptual 0", FULL, "ssim_sources", -1, "nothing keeps what the sources show"),
    Hypothesis("perceptual 100", FULL, "ssim_sources", +1, "it keeps what the sources show"),
    Hypothesis("perceptual 100", FULL, "direction", +1, "the words have less to say"),
    Hypothesis("swapped", FULL, "direction", +1, "each source gets the other's way to go"),
)
"""Why each part is there: `FULL` with one part changed, and what that should change."""

EFFECTS = (
    Hypothesis("word clear", "perceptual", "contrast", +1, "clear"),
    Hypothesis("word hazy", "perceptual", "contrast", -1, "hazy"),
    Hypothesis("word sharp", "perceptual", "sharpness", +1, "sharp"),
    Hypothesis("word blurry", "perceptual", "sharpness", -1, "blurry"),
    Hypothesis("word bright", "perceptual", "brightness", +1, "bright"),
    Hypothesis("word dark", "perceptual", "brightness", -1, "dark"),
    Hypothesis("word noisy", "perceptual", "noise_passed", +1, "noisy"),
    Hypothesis("word smooth", "perceptual", "noise_passed", -1, "smooth"),
    Hypothesis("word detailed", "perceptual", "detail", +1, "detailed background"),
    Hypothesis("word flat", "perceptual", "detail", -1, "flat background"),
    Hypothesis("word salient", "perceptual", "objects_contrast", +1, "salient objects"),
    Hypothesis("word hidden", "perceptual", "objects_contrast", -1, "hidden objects"),
)
"""What each word changes against a training without words: 24 effects on two kinds of pairs."""

OBJECT_EFFECTS = tuple(
    Hypothesis(f"word {word}", "perceptual", f"{kind}_contrast", sign, f"{word} objects: {kind}")
    for word, sign in (("salient", +1), ("hidden", -1))
    for kind in ("people", "vehicles")
)
"""The last two effects by kind of object."""

LANGUAGE = tuple(
    Hypothesis(f"{network} {weight}", f"{network} {weight}, no words", measure, sign, reason)
    for network in ("bounded", "salient")
    for weight in (10, 100)
    for measure, sign, reason in (
        ("people_area", +1, "salient objects: people are told from their surroundings"),
        ("direction", -1, "the picture goes where the words point"),
    )
)
"""Does language lead and help? Each network at two perceptual weights, with and without words."""

COSTS = ("correlation_infrared", "correlation_visible", "ssim_sources", "psnr", "ssim_oracle")
"""What patches may cost; the seconds of a step come on top."""


@dataclass(frozen=True)
class Measure:
    """Describe something that is measured on a fused image.

    Attributes:
        label: with its unit, for tables and figures.
        needs_truth: whether it can be measured only where the true fusion is known.
    """

    label: str
    needs_truth: bool = False


MEASURES = {
    "brightness": Measure("brightness: mean, levels"),
    "contrast": Measure("contrast: SD, levels"),
    "sharpness": Measure("sharpness: mean gradient AG, levels"),
    "spatial_frequency": Measure("spatial frequency SF, levels"),
    "noise": Measure("noise in flat places, levels"),
    "noise_passed": Measure("share of added noise that comes through"),
    "detail": Measure("background detail, levels"),
    "correlation_infrared": Measure("correlation with the infrared"),
    "correlation_visible": Measure("correlation with the visible"),
    "near_sources": Measure("correlation with the sources, mean"),
    "ssim_sources": Measure("SSIM to both sources, sum"),
    "direction": Measure("L_dir of the paper's sentence"),
    "artifacts": Measure("texture of neither source, Nabf"),
    "people_area": Measure("people told from surroundings, area"),
    "people_contrast": Measure("people against surroundings, levels"),
    "vehicles_area": Measure("vehicles told from surroundings, area"),
    "vehicles_contrast": Measure("vehicles against surroundings, levels"),
    "objects_contrast": Measure("people and vehicles against surroundings, levels"),
    "gap": Measure("warm objects above surroundings, levels", needs_truth=True),
    "standing_out": Measure("share of warm objects that stand out", needs_truth=True),
    "texture": Measure("background detail / true one", needs_truth=True),
    "psnr": Measure("PSNR to the true fusion, dB", needs_truth=True),
    "ssim_oracle": Measure("SSIM to the true fusion", needs_truth=True),
}

DECLARED = (*HYPOTHESES, *PARTS, *EFFECTS, *OBJECT_EFFECTS, *LANGUAGE)
"""All hypotheses."""
