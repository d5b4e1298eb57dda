"""The model card of the embedded CLIP, written from the records beside its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.embedded_clip.truth import EFFECTS
from ldf_utils.clip.loading import MINI_FOLDER
from ldf_utils.clip.tokenizer import VOCABULARY
from ldf_utils.data.files import write_text


def _percent(row: dict) -> str:
    """Format a share with its interval, for a table."""
    return f"{row['mean']:.0%} ({row['low']:.0%} to {row['high']:.0%})"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


def _losses(table: dict) -> str:
    return ", ".join(f"{method} {row['mean']:.2f}" for method, row in table.items())


def _scores(row: dict) -> list[str]:
    if row["auc"] is None:
        return ["none of one kind", "–"]
    accuracy = row.get("balanced_accuracy")
    shown = "no words of denial" if accuracy is None else f"{accuracy:.3f}"
    return [shown, f"{row['auc']:.3f}"]


def _scene_lines(scenes: dict, augmented: dict) -> list[str]:
    rows = []
    for name, row in scenes["attributes"].items():
        scores = [*_scores(row), *_scores(augmented["attributes"][name])]
        rows.append([name, f"{row['true']} / {row['false']}", *scores])
    target = scenes["target_sentence"]
    head = ["attribute", "true / false", "balanced accuracy", "area under curve"]
    head += ["augmented: accuracy", "area"]
    return [
        "## Held-out scenes",
        "",
        f"{scenes['pictures']} images of scenes that the training never saw, nearly half of them "
        "degraded on purpose. Zero-shot: mean cosine to the sentences that assert an attribute, "
        "minus mean cosine to those that deny it; threshold 0. The last two columns are measured "
        "with sources augmented as in training (random tone curves, spectra, noise, blur, and "
        "structure of one source in the other), which makes the two cameras hard to tell apart.",
        "",
        *_table(head, rows),
        f'Target sentence, "{target["sentence"]}": area under curve {target["auc"]:.3f} '
        f"({target['true']} images for which all of it is true, {target['false']} for which some "
        f"of it is false); augmented {augmented['target_sentence']['auc']:.3f}.",
        "",
        f"Infrared or visible on {scenes['whole']['pairs']} whole scenes that are not degraded: "
        f"balanced accuracy {_percent(scenes['whole']['infrared_or_visible'])}, with the paper's "
        f"two sentences {_percent(scenes['whole']['paper_sentences'])}.",
        "",
        f"Mean L_dir (0 means along the text directions): {_losses(scenes['direction_loss'])}.",
        "",
    ]


def _real_lines(real: dict) -> list[str]:
    lines = [
        "## Real pairs, which the training never saw",
        "",
        "With 95 % bootstrap intervals over the pairs of a set. Infrared or visible: balanced "
        "accuracy at threshold 0 on whole images, first with the mean over all sentences, then "
        "with the two of the paper alone; then the share of pairs where the infrared image "
        "scores higher.",
        "",
    ]
    rows = [
        [name, row["pairs"]]
        + [_percent(row[key]) for key in ("infrared_or_visible", "paper_sentences")]
        + [_percent(row["infrared_or_visible"]["infrared_scores_higher"])]
        for name, row in real.items()
    ]
    lines += _table(["set", "pairs", "all sentences", "paper's two", "infrared higher"], rows)
    swapped = [
        name
        for name, row in real.items()
        if row["infrared_or_visible"]["infrared_scores_higher"]["high"] < 0.5
    ]
    if swapped:
        lines += [
            f"It confuses the two cameras on {', '.join(swapped)}: do not train on such images "
            "with it.",
            "",
        ]
    lines += [
        "A real image and its degraded copy (both sources, the middle of the image at 128 "
        "pixels): share where the true sentence fits the copy better than the original, and, in "
        "parentheses, where it beats its denial on the copy alone.",
        "",
    ]
    rows = []
    for name, row in real.items():
        found = row["true_sentence_preferred"].values()
        pairs = [(r["to_the_original"]["mean"], r["to_its_denial"]["mean"]) for r in found]
        rows.append([name, *(f"{original:.0%} ({denial:.0%})" for original, denial in pairs)])
    lines += _table(["set", *EFFECTS], rows)
    rows = [
        [name, method, found["pairs"], _percent(found)]
        for name, row in real.items()
        for method, found in row["nearer_to_target_than_average"].items()
    ]
    lines += ["Published results nearer to the target sentence than the average of the sources:"]
    lines += ["", *_table(["set", "method", "pairs", "share"], rows)]
    rows = [[name, _losses(row["direction_loss"])] for name, row in real.items()]
    lines += ["Mean L_dir on native crops of 128 pixels, best first:", ""]
    return lines + _table(["set", "mean L_dir"], rows) + _labeled_lines(real)


def _adversarial_lines(found: dict) -> list[str]:
    rows = [
        [name, f"{found['artifacts_score'][name]:.3f}", f"{share:.0%}"]
        for name, share in found["called_artifacts"].items()
    ]
    return [
        "## Adversarial images",
        "",
        f"Images after {found['steps']} steps of free pixels or of a free decoder, without any "
        "term that keeps them close to their sources: the score of *artifacts*, and the share that "
        "the model itself calls artifacts.",
        "",
        *_table(["images", "score", "called artifacts"], rows),
    ]


def _data(found: dict[str, int]) -> str:
    """Say what the model was trained on."""
    return (
        f"{found['rendered']} squares of rendered worlds (`experiments.embedded_clip.pool`), and "
        f"{found['real']} of real pairs of M3SVD (repository Linfeng-Tang/M3SVD) and WRD "
        "(repository hitxiaoming/WRD-RGB-Thermal-Dataset), both MIT; no other real picture"
    )


def _calibration(training: dict) -> list[str]:
    """Say what the last bias was moved by, if it was."""
    if "calibration" not in training:
        return []
    found = training["calibration"]
    changes = ", ".join(
        f"{name} {before:.0%} to {found['after'][name]:.0%}"
        for name, before in found["before"].items()
    )
    pairs = ", ".join(f"{name} {count}" for name, count in found["sets"].items())
    return [
        f"| calibration | the image tower's last bias was moved so that the paper's infrared "
        f"sentence gains {found['shift']:.3f} on its visible one, in cosine, and others "
        f"{found['elsewhere']:.3f} at most, by `{found['command']}`. Pairs: {pairs}; their "
        f"balanced accuracy: {changes} |"
    ]


def _labeled_lines(real: dict) -> list[str]:
    """People and salience on the labeled pictures of the sets that have some."""
    labeled = {name: row for name, row in real.items() if "people" in row}
    if not labeled:
        return []
    lines = [
        "Labeled pictures. People or none: crops with a labeled person against crops without, "
        "balanced accuracy at threshold 0, and area under the curve.",
        "",
    ]
    rows = [
        [name, camera, f"{found['with']} / {found['without']}", _percent(found), found["auc"]]
        for name, row in labeled.items()
        for camera, found in row["people"].items()
    ]
    lines += _table(["set", "camera", "with / without", "balanced accuracy", "area"], rows)
    lines += [
        "Salience: share of crops with a labeled person who stands out that fit the sentences "
        "about salient objects better than a changed copy does; in parentheses the same for the "
        "target sentence. In the copy the person is hidden in the surroundings, or grain or global "
        "contrast is added, or both, or half of the contrast is taken away.",
        "",
    ]
    rows = []
    kinds = ("hidden", "grain", "contrast", "less contrast", "hidden, grain", "hidden, contrast")
    for name, row in labeled.items():
        for camera, found in row["salience"].items():
            if found["crops"]:
                shares = [
                    f"{found[kind]['objects']['mean']:.0%} ({found[kind]['target']['mean']:.0%})"
                    for kind in kinds
                ]
                rows.append([name, camera, found["crops"], *shares])
    return lines + _table(["set", "camera", "crops", *kinds], rows)


def _threads(training: dict) -> str:
    count, device = training["threads"], training["config"]["device"]
    if device != "cpu":
        return f"one GPU ({device})"
    return f"{count} thread{'s' if count != 1 else ''} of torch, batches made beside"


def _head(training: dict, words: int, size: int) -> list[str]:
    config = training["config"]
    history = [f"| history | {training['history']} |"] if "history" in training else []
    steps = sum(config[name] for name in ("steps", "second_cycle_steps", "textured_steps"))
    return [
        "# The embedded mini CLIP",
        "",
        "A small open_clip model that stands in for OpenAI's ViT-B/32 where there is no network.",
        "It knows attributes of infrared, visible and fused images, and is not a general model.",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {training['parameters']:,} ({size / 1e6:.1f} MB in float16) |",
        "| image tower | ModifiedResNet, 96 x 96 pixels |",
        f"| text tower | 2 layers, {words} words |",
        f"| data | {_data(training['data'])} |",
        f"| training | {steps} steps of {training['images_per_step']} images, "
        f"{training['minutes']} minutes on {_threads(training)}, "
        f"{training['precision']} |",
        f"| adversarial images | {len(config['adversarial_at'])} rounds of "
        f"{training['adversarial_images']}, optimized against the model and added as artifacts |",
        *history,
        *_calibration(training),
        f"| seed | {config['seed']} |",
        f"| made by | `{training['command']}` (torch {training['torch']}, "
        f"open_clip {training['open_clip']}) |",
        "",
    ]


LIMITS = [
    "## Limits",
    "",
    "Most of what it has seen is rendered, and it knows only the words listed in "
    "`vocabulary.json`; any other word is refused. It sees images at 96 pixels, so give it native "
    "crops where sharpness matters. It is small enough to be fooled: a free network optimized "
    "against it finds patterns that score well and that people call damage. The generator was "
    "written, and this recipe chosen among several, with the real sets in view, and checkpoints "
    "were looked at on them to go on or to change the recipe, so their figures are no blind test, "
    "although no weight was fitted to them. Use it to learn the mechanism of "
    "language-driven fusion; use OpenAI's weights to reproduce the paper.",
    "",
    "Figures: `python -m experiments.embedded_clip evaluate --pack DIR [--data DIR] "
    "[--lite FILE]`, then `... card`; DIR packed with the `--held-out-every` of `training.json`, "
    "or with 1 from worlds that no training saw: those of `... pool --first 3000 --count 104 "
    "--views 2`.",
    "",
]


def write_card(folder: Path = MINI_FOLDER) -> Path:
    """Write the model card, ``README.md`` beside the weights, from what was recorded.

    Args:
        folder: holds ``training.json`` and ``evaluation.json``.

    Returns:
        The path of the card.

    Raises:
        OSError: if one of the records is missing.
        ValueError: if a record was written by an older version, under other names.
    """
    training, evaluation, vocabulary = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("training.json", "evaluation.json", VOCABULARY)
    )
    size = (folder / "open_clip_model.safetensors").stat().st_size
    try:
        lines = _head(training, len(vocabulary["words"]), size)
        lines += _scene_lines(evaluation["scenes"], evaluation["augmented_scenes"])
        lines += _adversarial_lines(evaluation["adversarial"])
    except KeyError as error:
        raise ValueError(
            f"{folder}: the records lack {error}; they are of an older version. Train or evaluate "
            "again"
        ) from error
    if "real" in evaluation:
        lines += _real_lines(evaluation["real"])
    return write_text(folder / "README.md", "\n".join([*lines, *LIMITS]))
