"""TODO experiments.embedded_clip.card."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.embedded_clip.truth import EFFECTS
from ldf_utils.clip.loading import MINI_FOLDER
from ldf_utils.clip.tokenizer import VOCABULARY
from ldf_utils.data.files import write_text


def _percent(row: dict) -> str:
    """A share with its interval, for a table."""
    return f"{row['mean']:.0%} ({row['low']:.0%} to {row['high']:.0%})"


def _table(head: list[str], rows: list[list]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


def _scene_lines(scenes: dict, disguised: dict) -> list[str]:
    def shown(row):
        accuracy = row.get("balanced_accuracy")
        return "no words of denial" if accuracy is None else f"{accuracy:.3f}"

    rows = [
        [name, f"{row['true']} / {row['false']}", shown(row), f"{row['auc']:.3f}",
         shown(disguised["attributes"][name]), f"{disguised['attributes'][name]['auc']:.3f}"]
        for name, row in scenes["attributes"].items()
    ]  # fmt: skip
    target = scenes["target_sentence"]
    order = ", ".join(f"{m} {r['mean']:.2f}" for m, r in scenes["direction_loss"].items())
    head = ["attribute", "true / false", "balanced accuracy", "area under curve",
            "disguised: accuracy", "area"]  # fmt: skip
    return [
        "## Held-out scenes",
        "",
        f"{scenes['pictures']} pictures of scenes that the training never saw, nearly half of them "
        "spoiled on purpose. Zero-shot: mean cosine to the sentences that assert an attribute, "
        "minus mean cosine to those that deny it; threshold 0. The last two columns: with the "
        "sources disguised as in training (random tone curves, spectra, noise, blur, and structure "
        "of one source in the other), which hides which camera it was on purpose.",
        "",
        *_table(head, rows),
        f'Target sentence, "{target["sentence"]}": area under curve {target["auc"]:.3f} '
        f"({target['true']} pictures of which all of it is true, {target['false']} of which some "
        f"of it is false); disguised {disguised['target_sentence']['auc']:.3f}.",
        "",
        f"Infrared or visible on {scenes['whole']['pairs']} whole scenes that are not spoiled: "
        f"balanced accuracy {_percent(scenes['whole']['infrared_or_visible'])}, with the paper's "
        f"two sentences {_percent(scenes['whole']['paper_sentences'])}.",
        "",
        f"Mean L_dir (0: just where the words point): {order}.",
        "",
    ]


def _real_lines(real: dict) -> list[str]:
    lines = [
        "## Real pairs, never trained on",
        "",
        "With 95 % bootstrap intervals over the pairs of a set. Infrared or visible: balanced "
        "accuracy at threshold 0, whole pictures; first with the mean over all sentences, then "
        "with the two of the paper alone; then the share of pairs where the infrared picture "
        "scores higher.",
        "",
    ]
    rows = [
        [name, row["pairs"], _percent(row["infrared_or_visible"]), _percent(row["paper_sentences"]),
         _percent(row["infrared_or_visible"]["infrared_scores_higher"])]
        for name, row in real.items()
    ]  # fmt: skip
    lines += _table(["set", "pairs", "all sentences", "paper's two", "infrared higher"], rows)
    turned = [name for name, row in real.items()
              if row["infrared_or_visible"]["infrared_scores_higher"]["high"] < 0.5]  # fmt: skip
    if turned:
        lines += [f"It has the two cameras the wrong way round on {', '.join(turned)}: do not "
                  "train on such pictures under it.", ""]  # fmt: skip
    lines += [
        "A real picture and its spoiled copy (both sources, the middle of the picture at 128 "
        "pixels): share where the true sentence fits the copy better than the original, and, in "
        "brackets, where on the copy alone it beats its denial.",
        "",
    ]
    rows = [
        [name, *(f"{r['to_the_original']['mean']:.0%} ({r['to_its_denial']['mean']:.0%})"
                 for r in row["true_sentence_preferred"].values())]
        for name, row in real.items()
    ]  # fmt: skip
    lines += _table(["set", *EFFECTS], rows)
    rows = [
        [name, method, found["pairs"], _percent(found)]
        for name, row in real.items()
        for method, found in row["nearer_to_target_than_average"].items()
    ]
    lines += ["Published results nearer to the target sentence than the average of the sources:"]
    lines += ["", *_table(["set", "method", "pairs", "share"], rows)]
    rows = [
        [name, ", ".join(f"{m} {r['mean']:.2f}" for m, r in row["direction_loss"].items())]
        for name, row in real.items()
    ]
    lines += ["Mean L_dir on native crops of 128 pixels, best first:", ""]
    return lines + _table(["set", "mean L_dir"], rows)


def write_card(folder: Path = MINI_FOLDER) -> Path:
    """Write the model card, ``README.md`` beside the weights, from what was recorded.

    Args:
        folder: holds ``training.json`` and ``evaluation.json``.

    Returns:
        The path of the card.

    Raises:
        FileNotFoundError: if one of the two records is missing.
    """
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    words = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))["words"]
    size = (folder / "open_clip_model.safetensors").stat().st_size / 1e6
    config = training["config"]
    lines = [
        "# The embedded mini CLIP",
        "",
        "A small open_clip model that stands in for OpenAI's ViT-B/32 where there is no network.",
        "It is an attribute critic for infrared, visible and fused pictures, not a general model.",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {training['parameters']:,} ({size:.1f} MB in float16) |",
        "| image tower | ModifiedResNet, 96 x 96 pixels |",
        f"| text tower | 2 layers, {len(words)} words |",
        f"| data | {config['scenes']} pictures of `ldf_utils.scenes`, no real picture |",
        f"| training | {sum(config[k] for k in ('steps', 'more_steps', 'rough_steps'))} steps of "
        f"{7 * config['groups']} pictures, {training['minutes']} minutes on "
        f"{training['threads']} CPU cores, {training['precision']} |",
        f"| adversaries | {len(config['attacks'])} rounds of {config['attack_scenes']} pictures "
        "that were optimized to please it, fed back as artifacts |",
        f"| seed | {config['seed']} |",
        f"| made by | `{training['command']}` (torch {training['torch']}, "
        f"open_clip {training['open_clip']}) |",
        "",
        *_scene_lines(evaluation["scenes"], evaluation["disguised_scenes"]),
    ]
    if "attack" in evaluation:
        found = evaluation["attack"]
        rows = [
            [name, f"{found['artifacts_score'][name]:.3f}", f"{share:.0%}"]
            for name, share in found["called_artifacts"].items()
        ]
        lines += [
            "## When it is optimized against",
            "",
            f"Pictures after {found['steps']} steps of free pixels or of a free decoder, without "
            "any term that holds them to their sources: the score of *artifacts*, and the share "
            "that the model itself calls artifacts.",
            "",
            *_table(["pictures", "score", "called artifacts"], rows),
        ]
    if "real" in evaluation:
        lines += _real_lines(evaluation["real"])
    lines += [
        "## Limits",
        "",
        "It has seen rendered scenes only, and knows the words listed in `vocabulary.json` and no "
        "others: any other word is refused. It judges pictures at 96 pixels, so it must be shown "
        "native crops where sharpness matters. It is small enough to be fooled: a free network "
        "optimized against it finds patterns that it likes and people don't. The generator was "
        "written, and this recipe chosen among several, with the real sets in view; so the figures "
        "on them are no blind test, although no weight was fitted to them. Use it to learn the "
        "mechanism of language-driven fusion; use OpenAI's weights to reproduce the paper.",
        "",
        "Figures: `python -m ldf_utils.mini_clip evaluate [--data DIR] [--lite FILE]`, then "
        "`... card`.",
        "",
    ]
    return write_text(folder / "README.md", "\n".join(lines))
