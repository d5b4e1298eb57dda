"""Does language matter? Reading what the ablation study found: `experiments.ablation` makes it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ldf_utils.evaluation.declared import (
    BASE,
    COSTS,
    DECLARED,
    EFFECTS,
    FULL,
    HYPOTHESES,
    LANGUAGE,
    MEASURES,
    OBJECT_EFFECTS,
    PARTS,
    Hypothesis,
    Measure,
)

__all__ = [
    "BASE",
    "COSTS",
    "DECLARED",
    "EFFECTS",
    "FULL",
    "HYPOTHESES",
    "LANGUAGE",
    "MEASURES",
    "MOVED",
    "NOTE",
    "OBJECT_EFFECTS",
    "ONE_SEED",
    "OTHER_WAY",
    "PARTS",
    "SHIPPED_STUDY",
    "STAYED",
    "Difference",
    "Finding",
    "Hypothesis",
    "Measure",
    "Study",
    "cost_table",
    "load_study",
    "verdict_table",
]

SHIPPED_STUDY = Path(__file__).parent.parent / "weights" / "ablation.json"
"""The results that ship with the package."""

# --- what came of it


@dataclass(frozen=True)
class Difference:
    """A variant against another, seed by seed.

    Attributes:
        values: the differences, one a seed that both have.
        baseline: mean of the other variant over these seeds.
    """

    values: tuple[float, ...]
    baseline: float

    @property
    def mean(self) -> float:
        """Mean difference."""
        return math.fsum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation of the differences over the seeds; NaN for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def verdict(self, sign: int) -> str:
        """Return ``moved``, ``did not move`` or ``moved the other way``; ``one seed`` for one seed.

        Moved means that the mean is larger than twice the spread, so with three seeds that it is
        3.5 standard errors from zero.

        Args:
            sign: the direction that was expected, +1 or -1.
        """
        if math.isnan(self.spread):
            return ONE_SEED
        if abs(self.mean) <= 2 * self.spread:
            return STAYED
        return MOVED if self.mean * sign > 0 else OTHER_WAY


MOVED, STAYED, OTHER_WAY = "moved", "did not move", "moved the other way"
ONE_SEED = "one seed, no spread"


@dataclass(frozen=True)
class Finding:
    """A hypothesis, where it was measured, and what came of it."""

    hypothesis: Hypothesis
    place: str
    difference: Difference

    @property
    def verdict(self) -> str:
        """As `Difference.verdict`, for the sign that was declared."""
        return self.difference.verdict(self.hypothesis.sign)


@dataclass(frozen=True)
class Study:
    """The results of `run_study`.

    Attributes:
        settings: of the study, plain.
        clip: ``name`` and ``weights_sha256`` of CLIP.
        samples: place (scenes, pairs) to how many pairs were measured there.
        variants: name to ``label``, ``sentence`` (None without language) and ``changes``.
        runs: one row a training, see `run_variant`.
    """

    settings: dict[str, Any]
    clip: dict[str, str]
    samples: dict[str, int]
    variants: dict[str, dict[str, Any]]
    runs: list[dict[str, Any]]

    @property
    def places(self) -> list[str]:
        """Where it was measured: scenes, and pairs if real ones were given."""
        return list(self.samples)

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return sorted({run["seed"] for run in self.runs})

    def by_seed(self, variant: str, measure: str, place: str = "scenes") -> dict[int, float]:
        """Seed to value.

        Args:
            variant: its name.
            measure: name in `MEASURES`, or ``seconds_per_step``.
            place: scenes or pairs.

        Raises:
            ValueError: for a variant that was not run, or what was not measured there.
        """
        mine = self.runs_of(variant)
        if not mine:
            raise ValueError(f"no run of {variant!r}; there are {', '.join(self.variants)}")
        if measure == "seconds_per_step":
            return {run["seed"]: run[measure] for run in mine}
        found = {
            run["seed"]: run["measures"][place][measure]
            for run in mine
            if measure in run["measures"].get(place, {})
        }
        if not found:
            raise ValueError(f"{measure!r} was not measured on {place!r} for {variant!r}")
        return found

    def mean(self, variant: str, measure: str, place: str = "scenes") -> float:
        """Mean over the seeds; arguments and errors as `by_seed`."""
        values = self.by_seed(variant, measure, place).values()
        return math.fsum(values) / len(values)

    def runs_of(self, variant: str) -> list[dict[str, Any]]:
        """Return the rows of a variant, one a seed."""
        return [run for run in self.runs if run["variant"] == variant]

    def was_measured(self, variant: str, measure: str, place: str) -> bool:
        """Say whether a measure was taken for a variant in a place."""
        return any(measure in run["measures"].get(place, {}) for run in self.runs_of(variant))

    def compare(
        self, variant: str, baseline: str, measure: str, place: str = "scenes"
    ) -> Difference:
        """Compute the difference of two variants; arguments and errors as `by_seed`."""
        one, other = (self.by_seed(name, measure, place) for name in (variant, baseline))
        shared = sorted(set(one) & set(other))
        if not shared:
            raise ValueError(f"{variant!r} and {baseline!r} have no seed in common")
        return Difference(
            tuple(one[seed] - other[seed] for seed in shared),
            math.fsum(other[seed] for seed in shared) / len(shared),
        )

    def findings(self, hypotheses: Iterable[Hypothesis] = HYPOTHESES) -> list[Finding]:
        """Every hypothesis whose variants were run, in every place where its measure was taken."""
        found = []
        for hypothesis in hypotheses:
            if hypothesis.variant not in self.variants or hypothesis.baseline not in self.variants:
                continue
            for place in self.places:
                both = (hypothesis.variant, hypothesis.baseline)
                if not all(self.was_measured(v, hypothesis.measure, place) for v in both):
                    continue
                difference = self.compare(
                    hypothesis.variant, hypothesis.baseline, hypothesis.measure, place
                )
                found.append(Finding(hypothesis, place, difference))
        return found

    def costs(
        self, variant: str = "patches", baseline: str = "angle"
    ) -> list[tuple[str, str, Difference]]:
        """List what a part costs: measure, place, variant with the part minus that without."""
        if variant not in self.variants or baseline not in self.variants:
            return []
        rows = [
            (measure, place, self.compare(variant, baseline, measure, place))
            for place in self.places
            for measure in COSTS
            if self.was_measured(variant, measure, place)
        ]
        return [
            *rows,
            ("seconds_per_step", "", self.compare(variant, baseline, "seconds_per_step")),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the findings written out."""
        findings = [
            {
                **asdict(f.hypothesis),
                "place": f.place,
                "baseline_mean": f.difference.baseline,
                "differences": list(f.difference.values),
                "mean": f.difference.mean,
                "spread": None if math.isnan(f.difference.spread) else f.difference.spread,
                "verdict": f.verdict,
            }
            for f in self.findings()
        ]
        costs = [
            {
                "measure": measure,
                "place": place or None,
                "without": d.baseline,
                "mean": d.mean,
                "spread": None if math.isnan(d.spread) else d.spread,
            }
            for measure, place, d in self.costs()
        ]
        return {
            "format": _FORMAT,
            "torch": torch.__version__,
            **asdict(self),
            "findings": findings,
            "costs": costs,
        }


_FORMAT = "ldf_utils.ablation/2"


def load_study(path: str | Path | None = None) -> Study:
    """Read results.

    Args:
        path: a ``study.json`` of this module; the one that ships if None.

    Returns:
        The results; findings are computed from the runs.

    Raises:
        ValueError: if the file is not there, or is no such file.
    """
    path = SHIPPED_STUDY if path is None else Path(path)
    advice = "make it with `python -m experiments.ablation --output DIR`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise KeyError(f"format {content['format']!r}")
        names = ("settings", "clip", "samples", "variants", "runs")
        return Study(**{name: content[name] for name in names})
    except OSError as error:
        raise ValueError(f"{path}: no results of the study there; {advice}") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: this holds no results of the study ({error}); {advice}") from (
            error
        )


_WHERE = {
    "scenes": "held-out scenes",
    "pairs": "real pairs",
}


_TITLES = {
    "perceptual": "perceptual only",
    "direction": "+ direction",
    "angle": "+ angle",
    "patches": "+ patches",
    "filter": "+ filter (all terms, paper's sentence)",
}


def verdict_table(findings: Sequence[Finding]) -> str:
    """Write findings as a Markdown table, one row a hypothesis and place.

    *Without* is the mean of the training compared with, *spread* that of the difference over the
    seeds.
    """
    lines = [
        "| trained with | compared with | expected because | measure | on | should | without | "
        "difference | spread | verdict |",
        "|---" * 10 + "|",
    ]
    for finding in findings:
        hypothesis, difference = finding.hypothesis, finding.difference
        lines.append(
            f"| {_TITLES.get(hypothesis.variant, hypothesis.variant)} | "
            f"{_TITLES.get(hypothesis.baseline, hypothesis.baseline)} | {hypothesis.reason} | "
            f"{MEASURES[hypothesis.measure].label} | {_WHERE[finding.place]} | "
            f"{'rise' if hypothesis.sign > 0 else 'fall'} | {difference.baseline:.3g} | "
            f"{difference.mean:+.3g} | {_number(difference.spread)} | {finding.verdict} |"
        )
    return "\n".join(lines)


_SHORT = {
    "noise_passed": "noise let through",
    "gap": "contrast of warm things",
    "objects_contrast": "their contrast",
    "near_sources": "correlation with sources",
    "ssim_sources": "SSIM to sources",
    "direction": "L_dir",
}


def changes(
    findings: Sequence[Finding], variants: bool = False
) -> tuple[dict[str, list[float]], list[str], list[str]]:
    """Return the changes of findings in percent, for a figure of dots.

    Args:
        findings: of one place.
        variants: call each by its variant, and not by the reason for what was expected.

    Returns:
        Label to the change of each seed, ``100 (with - without) / |mean without|``; the labels of
        those that came as declared; and of those that clearly went the other way. What is declared
        twice comes once.

    Example:
        >>> percent, moved, reversed_ = changes(load_study().findings(EFFECTS)[:1])
        >>> list(percent)
        ['clear: contrast up?']
    """
    percent: dict[str, list[float]] = {}
    verdicts: dict[str, str] = {}
    for finding in findings:
        hypothesis, difference = finding.hypothesis, finding.difference
        measure = MEASURES[hypothesis.measure].label.split(":")[0].split(",")[0]
        measure = _SHORT.get(hypothesis.measure, measure)
        name = hypothesis.variant if variants else hypothesis.reason
        label = f"{name}: {measure} {'up' if hypothesis.sign > 0 else 'down'}?"
        percent[label] = [100 * v / abs(difference.baseline) for v in difference.values]
        verdicts[label] = finding.verdict
    moved, other_way = (
        [label for label, verdict in verdicts.items() if verdict == kind]
        for kind in (MOVED, OTHER_WAY)
    )
    return percent, moved, other_way


def cost_table(study: Study) -> str:
    """Write what patches cost as a Markdown table; a sentence if a variant was not run."""
    costs = study.costs()
    if not costs:
        return "Not known: the variants `patches` and `angle` were not both run."
    lines = ["| measure | on | without | difference | spread | beyond chance |", "|---" * 6 + "|"]
    for measure, place, difference in costs:
        label = MEASURES[measure].label if place else "core seconds a step"
        beyond = {STAYED: "no", ONE_SEED: "–"}.get(difference.verdict(+1), "yes")
        lines.append(
            f"| {label} | {_WHERE.get(place, '')} | {difference.baseline:.3g} | "
            f"{difference.mean:+.3g} | {_number(difference.spread)} | {beyond} |"
        )
    return "\n".join(lines)


NOTE = (
    "The bounded network mixes and amplifies what the sources hold; it cannot invent texture. So "
    "“noisy” cannot add grain where the sources have none. But the trainings add noise to the "
    "sources, as the paper's do, and the network can pass it on, amplify it or smooth it away: "
    "what is measured is the share of added noise that comes through."
)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
