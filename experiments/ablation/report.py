"""The study as Markdown, JSON and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldf_utils.data.files import write_json, write_rows, write_text
from ldf_utils.evaluation.ablation import (
    _WHERE,
    EFFECTS,
    HYPOTHESES,
    LANGUAGE,
    MEASURES,
    MOVED,
    NOTE,
    OBJECT_EFFECTS,
    ONE_SEED,
    OTHER_WAY,
    PARTS,
    STAYED,
    Finding,
    Study,
    cost_table,
    verdict_table,
)


def _summary(findings: Sequence[Finding]) -> list[str]:
    """Return a line for each verdict: how many effects, and which."""
    lines = []
    for verdict in (MOVED, STAYED, OTHER_WAY, ONE_SEED):
        found: dict[str, list[str]] = {}
        for finding in findings:
            if finding.verdict == verdict:
                found.setdefault(finding.hypothesis.reason, []).append(_WHERE[finding.place])
        if found:
            listed = "; ".join(f"{reason} ({', '.join(where)})" for reason, where in found.items())
            count = sum(map(len, found.values()))
            lines.append(f"- {count} of {len(findings)} {verdict}: {listed}.")
    return lines


_HEADS = (
    (HYPOTHESES, "## What was said, and what moved"),
    (PARTS, "## Why each part is there"),
    (EFFECTS, "## What each word moves"),
    (LANGUAGE, "## Does language lead, and does it help?"),
    (OBJECT_EFFECTS, "## Salient and hidden, by kind of object"),
)


def _tables(study: Study) -> list[str]:
    """Return a summary and a table of the verdicts for each list of hypotheses."""
    lines = []
    for hypotheses, head in _HEADS:
        findings = study.findings(hypotheses)
        if findings:
            lines += [head, "", *_summary(findings), "", verdict_table(findings), ""]
    return lines


def _trained_on(study: Study) -> str:
    """Name the sets; a study of an earlier version trained on painted scenes."""
    sets = study.settings.get("train")
    return ", ".join(sets) if sets else f"{study.settings['scenes']} painted scenes"


def report(study: Study) -> str:
    """Write the results as Markdown: verdicts, what patches cost, and all means."""
    config = study.settings["config"]
    lines = [
        "# Does language matter?",
        "",
        f"{len(study.variants)} trainings of the bounded network, {config['steps']} steps each of "
        f"{config['batch']} crops of {config['crop']} pixels, with {len(study.seeds)} seed(s); "
        f"perceptual weight {config['weight_perceptual']:g}, learning rate "
        f"{config['learning_rate']:g}; CLIP `{study.clip['name']}`, weights "
        f"{study.clip['weights_sha256'][:12]}. Trained on {_trained_on(study)}; measured on "
        + " and ".join(f"{count} {_WHERE[place]}" for place, count in study.samples.items())
        + (f" ({', '.join(study.settings['data'])})" if study.settings["data"] else "")
        + ".",
        "",
        "Two variants are compared seed by seed. *Moved*: the mean difference is larger than "
        "twice its standard deviation over the seeds (the spread), in the direction that was "
        "declared beforehand.",
        "",
        *_tables(study),
        NOTE,
        "",
    ]
    if study.costs():
        lines += [
            "## What patches cost",
            "",
            "The variant with patches minus that without (direction and angle only), same seeds. A "
            "step is counted in seconds of one core.",
            "",
            cost_table(study),
            "",
        ]
    for place in study.places:
        measures = [
            name for name in MEASURES if all(name in r["measures"][place] for r in study.runs)
        ]
        lines += [
            f"## All means on {_WHERE[place]}",
            "",
            "| measure | " + " | ".join(study.variants) + " |",
            "|---" * (1 + len(study.variants)) + "|",
        ]
        for name in measures:
            cells = [f"{study.mean(variant, name, place):.3f}" for variant in study.variants]
            lines.append(f"| {MEASURES[name].label} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["| core seconds a step | share of patches kept, last step |", "|---|---|---|"]
    lines[-2] = "| variant " + lines[-2]
    for name in study.variants:
        kept = [run["last"]["kept"] for run in study.runs_of(name) if "kept" in run["last"]]
        share = f"{sum(kept) / len(kept):.2f}" if kept else "–"
        lines.append(f"| {name} | {study.mean(name, 'seconds_per_step'):.2f} | {share} |")
    lines.append("")
    lines += ["## The variants", ""]
    for name, variant in study.variants.items():
        said = f" Sentence: “{variant['sentence']}”." if variant["sentence"] else ""
        lines.append(f"- **{name}**: {variant['label']}.{said}")
    lines += ["", "Made by `python -m experiments.ablation`.", ""]
    return "\n".join(lines)


def write_study(study: Study, folder: Path) -> list[Path]:
    """Write ``study.json``, ``study.csv`` (one row a training and place) and ``study.md``.

    Args:
        study: the results.
        folder: where to.

    Returns:
        The three paths.
    """
    rows = [
        {
            "variant": run["variant"],
            "seed": run["seed"],
            "place": place,
            "seconds_per_step": run["seconds_per_step"],
            **{name: run["measures"][place].get(name) for name in MEASURES},
        }
        for place in study.places
        for run in study.runs
    ]
    return [
        write_json(folder / "study.json", study.to_dict()),
        write_rows(folder / "study.csv", rows),
        write_text(folder / "study.md", report(study)),
    ]
