"""The record of what sentences do, and its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from experiments.ablation.samples import real_samples, rendered_samples
from experiments.sentence import proof
from experiments.sentence.training import alone_path, paths
from ldf_utils.clip.loading import load_clip
from ldf_utils.evaluation.declared import EFFECTS, MEASURES
from ldf_utils.evaluation.sentences import summary
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.networks.sentence import SentenceFusionNetwork


def measure_all(
    work: Path,
    seeds: int,
    data: str | None,
    sizes: tuple[int, int, int],
    clip_name: str = "mini",
) -> dict[str, Any]:
    """Measure the networks that are there.

    Args:
        work: folder of the other networks, see `experiments.sentence.training.paths`.
        seeds: how many trainings are measured.
        data: folder of real sets, or None.
        sizes: rendered pairs, pairs of each real set, side of a pair in pixels.
        clip_name: as in `load_clip`.

    Returns:
        The record.

    Raises:
        WeightsError: if a network is missing.
    """
    count, of_each, side = sizes
    clip, samples = load_clip(clip_name), {"rendered": rendered_samples(count, side)}
    if data:
        samples["pairs"] = real_samples(data, of_each, side)
    runs: list[dict[str, Any]] = []
    for seed in tqdm(range(seeds), "seeds"):
        files = paths(work, seed)
        network, plain = _load(files["sentence"]), load_network(files["no words"])
        runs.append({"seed": seed, "effects": proof.effects(network, plain, samples, clip)})
    network = _load(paths(work, 0)["sentence"])
    by_set: dict[str, list[Any]] = {}
    for sample in samples.get("pairs", []):
        by_set.setdefault(sample.name.partition("/")[0], []).append(sample)
    everything = [sample for group in samples.values() for sample in group]
    shipped = load_network("shipped")
    return {
        "command": f"python -m experiments.sentence measure --seeds {seeds} --rendered {count} "
        f"--real {of_each} --side {side}" + (" --data DIR" if data else ""),
        "training": getattr(network, "metadata", {}),
        "samples": {name: len(group) for name, group in samples.items()},
        "side": side,
        "runs": runs,
        "alone": _alone(work, samples, clip, runs[0]["effects"]),
        "ways": proof.ways(network, samples["rendered"], clip),
        "objects": proof.objects(network, samples, clip),
        "nothing_new": proof.nothing_new(network, everything, clip),
        "ranks": proof.ranks(network, shipped, by_set, clip),
        "seconds": {"sentence": proof.seconds(network), "shipped": proof.seconds(shipped)},
    }


def _load(path: Path) -> SentenceFusionNetwork:
    network = load_network(path)
    if not isinstance(network, SentenceFusionNetwork):
        raise ValueError(
            f"{path}: found a {type(network).__name__}, expected a network that takes sentences; "
            "train one with `python -m experiments.sentence train`"
        )
    return network


def _alone(
    work: Path, samples: proof.Samples, clip: Any, effects: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Measure networks that were trained with one sentence alone, against the same baseline."""
    rows = []
    plain = load_network(paths(work, 0)["no words"])
    for effect in EFFECTS:
        word = effect.variant.removeprefix("word ")
        path = alone_path(work, word)
        if not path.is_file():
            continue
        network = load_network(path)
        for place, group in samples.items():
            one, without = (
                proof.values(n, group, [effect.measure])[effect.measure] for n in (network, plain)
            )
            alone = proof.compare(one, without)["mean"]
            (row,) = (r for r in effects if (r["word"], r["place"]) == (word, place))
            rows.append(
                {
                    "word": word,
                    "place": place,
                    "steps": network.metadata["config"]["steps"],  # type: ignore[index]
                    "alone": alone,
                    "any sentence": row["against no words"]["mean"],
                    "share": row["against no words"]["mean"] / alone if alone else math.nan,
                }
            )
    return rows


def table(record: Mapping[str, Any]) -> str:
    """Write the record as Markdown, with where it fails."""
    counts, training = summary(record), record["training"]["config"]
    names = {"rendered": "rendered pairs", "pairs": "real pairs"}
    samples = " and ".join(f"{n} {names.get(k, k)}" for k, n in record["samples"].items())
    seeds = len(record["runs"])
    lines = [
        "# One network, any sentence: what was measured",
        "",
        f"Trained for {training['steps']} steps of {training['batch']} crops of "
        f"{training['crop']} pixels; measured on {samples} of at most "
        f"{record['side']} pixels, {seeds} seed{'s' * (seeds > 1)}. No sentence of these tables "
        "was trained with. “Moved”: the declared way, by more than two standard errors over the "
        "pairs.",
        "",
        f"`{record['command']}`, after `train` and `train --no-words` for each seed.",
        "",
        f"Effects against the training without words: {counts['moved']} of {counts['effects']} "
        f"moved ({counts['moved in all seeds']} in every seed); against the opposite sentence "
        f"{counts['moved from opposite']}. Ways that never step back: {counts['monotone']} of "
        f"{counts['ways']}.",
        "",
        "| word | on | measure | should | without words | difference | from its opposite | moved |",
        "|---" * 8 + "|",
    ]
    for row in record["runs"][0]["effects"]:
        both = row["against no words"], row["against opposite"]
        cells = [f"{x['mean']:+.3g} ± {x['error'] or math.nan:.2g}" for x in both]
        verdict = " / ".join("yes" if row[k] else "no" for k in ("moved", "moved from opposite"))
        lines.append(
            f"| {row['word']} | {row['place']} | {MEASURES[row['measure']].label} | "
            f"{'rise' if row['sign'] > 0 else 'fall'} | {row['without']:.3g} | "
            f"{cells[0]} | {cells[1]} | {verdict} |"
        )
    lines += ["", "| from | to | measure | first | last | steps back of 10 |", "|---" * 6 + "|"]
    for way in record["ways"]:
        v = way["values"]
        lines.append(
            f"| {way['from']} | {way['to']} | {MEASURES[way['measure']].label} | {v[0]:.3g} | "
            f"{v[-1]:.3g} | {way['steps_back']} |"
        )
    lines += ["", "| sentence | on | people, levels | vehicles, levels |", "|---" * 4 + "|"]
    for row in record["objects"]:
        lines.append(
            f"| {row['sentence']} | {row['place']} | {row['people_contrast']:.1f} | "
            f"{row['vehicles_contrast']:.1f} |"
        )
    lines += ["", "| sentence | says nothing new | changes, levels | opposite changes |",
              "|---" * 4 + "|"]  # fmt: skip
    for row in record["nothing_new"]:
        lines.append(
            f"| {row['sentence']} | {row['paraphrase']} | {row['changes']:.2f} | "
            f"{row['opposite_changes']:.2f} |"
        )
    if record["alone"]:
        lines += ["", "| word | on | trained alone | any sentence | share |", "|---" * 5 + "|"]
    for row in record["alone"]:
        lines.append(
            f"| {row['word']} ({row['steps']} steps) | {row['place']} | {row['alone']:+.3g} | "
            f"{row['any sentence']:+.3g} | {row['share']:.2f} |"
        )
    if record["alone"]:
        words = " ".join(dict.fromkeys(row["word"] for row in record["alone"]))
        lines += ["", f"`python -m experiments.sentence alone --word {words} --set "
                  f"steps={record['alone'][0]['steps']}` trained these."]  # fmt: skip
    if record["ranks"]:
        lines += ["", "| set | shipped | sentence, the paper's |", "|---" * 3 + "|"]
    for name, ranks in record["ranks"].items():
        lines.append(f"| {name} | {ranks['shipped']:.2f} | {ranks['sentence']:.2f} |")
    spent = record["seconds"]
    lines += ["", f"Processor time of a picture of 320 x 240: {spent['sentence']:.3f} s "
              f"(shipped {spent['shipped']:.3f} s).", ""]  # fmt: skip
    return "\n".join(lines)
