"""Judging a critic: what does a CLIP know of generated scenes, and of real pairs?

Everything here is zero-shot: a picture is compared with sentences, nothing is fitted. The results
go into the model card of the embedded CLIP, see `experiments.embedded_clip.training`.
"""

from __future__ import annotations

import os

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip.adversarial import optimize_negatives
from experiments.embedded_clip.dataset import load_scenes, make_batch
from experiments.embedded_clip.degradations import degrade
from experiments.embedded_clip.truth import EFFECTS
from ldf_utils.clip.attributes import ATTRIBUTES, INDEX, attribute_scores, prompts_for
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.pairs import Pair, find_sets
from ldf_utils.data.scenes import render
from ldf_utils.losses.direction import TextDirections, direction_cosines, text_directions
from ldf_utils.networks.checkpoint import load_network


def area_under_curve(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Probability that a positive scores above a negative; a tie counts half."""
    higher = (positive[:, None] > negative[None]).float()
    return float((higher + 0.5 * (positive[:, None] == negative[None])).mean())


def _scene_losses(clip: ClipSpace, scenes: dict[str, torch.Tensor]) -> list[dict[str, float]]:
    directions = text_directions(clip)
    views = {k: scenes[k][:, None].float() / 255 for k in ("infrared", "visible", "oracle")}
    views["average"] = (views["infrared"] + views["visible"]) / 2
    views["maximum"] = torch.maximum(views["infrared"], views["visible"])
    seen = {k: torch.cat([clip.encode_image(p) for p in v.split(64)]) for k, v in views.items()}
    infrared, visible = seen.pop("infrared"), seen.pop("visible")
    rows = {
        k: 1 - torch.stack(direction_cosines(e, infrared, visible, directions)).mean(0)
        for k, e in seen.items()
    }
    return [{k: float(v[i]) for k, v in rows.items()} for i in range(len(infrared))]


@torch.no_grad()
def evaluate_scenes(
    clip: ClipSpace, count: int = 400, seed: int = 90_000, disguised: bool = False
) -> dict:
    """Accuracies on scenes that the training never saw.

    Args:
        clip: the model.
        count: scenes; each gives seven pictures.
        seed: of the worlds; training uses other seeds.
        disguised: change the sources as in training, see
        `experiments.embedded_clip.dataset.disguise`; without,
            they are as rendered.

    Returns:
        For each attribute the numbers of true and false pictures, the area under the curve, and
        where it can be denied the balanced accuracy at threshold 0; the area under the curve of
        the target sentence; infrared or visible on ``whole`` scenes that are not spoiled; and the
        mean L_dir of oracle, maximum and average.
    """
    scenes = load_scenes(count, seed)
    generator = torch.Generator().manual_seed(seed)
    images, truths = [], []
    for index in torch.arange(len(scenes["night"])).split(25):
        made, truth, *_ = make_batch(scenes, index, generator, augmented=disguised)
        images.append(clip.encode_image(made.flatten(0, 1)))
        truths.append(truth.flatten(0, 1))
    images, truth = torch.cat(images), torch.cat(truths)
    table = {}
    for attribute in ATTRIBUTES:
        score = attribute_scores(clip, images, attribute.name)
        fact = truth[:, INDEX[attribute.name]]
        positive, negative = score[fact > 0], score[fact < 0]
        row = {"true": len(positive), "false": len(negative)}
        row["auc"] = round(area_under_curve(positive, negative), 4)
        if prompts_for(attribute.name)[1]:
            hits = (positive > 0).float().mean() + (negative < 0).float().mean()
            row["balanced_accuracy"] = round(float(hits / 2), 4)
        table[attribute.name] = row
    wanted = truth[:, [INDEX["clear"], INDEX["detailed"], INDEX["salient"]]]
    cosine = images @ clip.encode_text(PROMPTS.fused)[0]
    good, bad = cosine[(wanted > 0).all(1)], cosine[(wanted < 0).any(1)]
    return {
        "pictures": len(images),
        "disguised": disguised,
        "whole": _whole_scenes(clip, min(count, 200), seed + 10),
        "direction_loss": _order(_scene_losses(clip, scenes)),
        "attributes": table,
        "target_sentence": {
            "sentence": PROMPTS.fused, "true": len(good), "false": len(bad),
            "auc": round(area_under_curve(good, bad), 4),
        },
    }  # fmt: skip


def bootstrap(values: torch.Tensor, rounds: int = 2000, seed: int = 0) -> dict[str, float]:
    """Mean over pairs with a 95 % confidence interval (Efron, doi:10.1214/aos/1176344552).

    Args:
        values: ``(N,)`` or ``(N, K)``, one row a pair; the K values of a pair stay together.
        rounds: resamples.
        seed: of the resamples.

    Returns:
        ``mean``, ``low``, ``high``, rounded to four digits.
    """
    rows = values.float().view(len(values), -1).mean(1)
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(rows), (rounds, len(rows)), generator=generator)
    low, high = torch.quantile(rows[index].mean(1), torch.tensor([0.025, 0.975])).tolist()
    return {"mean": round(float(rows.mean()), 4), "low": round(low, 4), "high": round(high, 4)}


def _modality(scores: torch.Tensor) -> dict:
    """Infrared or visible: scores ``(N, 2)`` of infrared and visible pictures of N pairs."""
    right = bootstrap(torch.stack([scores[:, 0] > 0, scores[:, 1] < 0], 1))
    higher = bootstrap(scores[:, 0] > scores[:, 1])
    return {"balanced_accuracy": right["mean"], **right, "infrared_scores_higher": higher}


def _whole_scenes(clip: ClipSpace, count: int, seed: int) -> dict:
    """Infrared or visible on whole scenes that are not spoiled, as on the real pairs."""
    batch = render(count, (128, 128), seed)
    pairs = torch.stack([batch.infrared, luminance(batch.visible)], 1)
    seen = clip.encode_image(pairs.flatten(0, 1))
    visible, infrared, _ = clip.encode_text(list(PROMPTS))
    return {
        "pairs": count,
        "infrared_or_visible": _modality(attribute_scores(clip, seen, "infrared").view(-1, 2)),
        "paper_sentences": _modality((seen @ (infrared - visible)).view(-1, 2)),
    }


def _close_up(picture: torch.Tensor, side: int = 256, small: int = 128) -> torch.Tensor:
    """The middle of a picture, at most 256 pixels wide, at 128 pixels: ``(1, 1, 128, 128)``."""
    height, width = picture.shape[-2:]
    side = min(side, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = picture[None, :, top : top + side, left : left + side]
    return F.interpolate(middle, (small, small), mode="area")


def _judge_copies(clip: ClipSpace, pair: Pair, generator: torch.Generator) -> dict:
    """For each degradation: does the true sentence fit the spoiled copy better than the original?

    The second number is stricter: on the copy alone, the true sentence beats its denial.
    """
    originals = torch.cat([_close_up(pair.infrared), _close_up(pair.luminance)])
    before = clip.encode_image(originals)
    found = {}
    for kind, (name, sign) in EFFECTS.items():
        copies = degrade(originals, kind, generator)
        old = sign * attribute_scores(clip, before, name)
        new = sign * attribute_scores(clip, clip.encode_image(copies), name)
        found[kind] = ((new > old).float().mean(), (new > 0).float().mean())
    return found


def _crops(pictures: dict[str, torch.Tensor], generator: torch.Generator, count=4, side=128):
    """The same native crops of several pictures of one size, each ``(count, 1, side, side)``."""
    height, width = next(iter(pictures.values())).shape[-2:]
    side = min(side, height, width)
    top = torch.randint(height - side + 1, (count,), generator=generator).tolist()
    left = torch.randint(width - side + 1, (count,), generator=generator).tolist()
    places = list(zip(top, left, strict=True))
    return {
        name: torch.stack([p[:, y : y + side, x : x + side] for y, x in places])
        for name, p in pictures.items()
    }


def direction_loss_of(
    clip: ClipSpace,
    pictures: dict[str, torch.Tensor],
    directions: TextDirections,
    generator: torch.Generator,
) -> dict[str, float]:
    """Mean L_dir of fused pictures, on native crops of 128 pixels (arXiv:2402.16267, global term).

    Args:
        clip: the judge.
        pictures: ``infrared``, ``visible`` and fused ones by method, each ``(1, H, W)`` in [0, 1].
        directions: from `ldf_utils.losses.direction.text_directions`.
        generator: draws the crops.

    Returns:
        Method to its mean loss in [0, 2]; 0 means: just where the words point.
    """
    seen = {name: clip.encode_image(c) for name, c in _crops(pictures, generator).items()}
    infrared, visible = seen.pop("infrared"), seen.pop("visible")
    return {
        name: float(1 - torch.stack(direction_cosines(e, infrared, visible, directions)).mean())
        for name, e in seen.items()
    }


def _order(losses: list[dict[str, float]]) -> dict:
    """Mean loss of each method over the pairs that have it, best first."""
    names = {name for row in losses for name in row}
    table = {n: bootstrap(torch.tensor([row[n] for row in losses if n in row])) for n in names}
    return dict(sorted(table.items(), key=lambda item: item[1]["mean"]))


@torch.no_grad()
def evaluate_real(
    clip: ClipSpace, data_dir: str | os.PathLike, lite: str | os.PathLike | None = None
) -> dict:
    """Accuracies on real pairs, none of which was trained on; 95 % intervals over the pairs.

    Args:
        clip: the model.
        data_dir: a folder of sets as in `ldf_utils.data.pairs.find_sets`.
        lite: weights of LD-Lite, the authors' small network; it then takes part in the order of
            L_dir.

    Returns:
        Per set: ``infrared_or_visible``, balanced accuracy at threshold 0, of the mean over all
        sentences and (``paper_sentences``) of the two of the paper alone; the share of pairs where
        the infrared picture scores higher; per degradation the share of pictures where the true
        sentence fits the spoiled copy better than the original, and where it beats its denial on
        the copy; per published method the share of results that are nearer to the target sentence
        than the average of the sources; and the mean L_dir of each method on native crops.
    """
    prompts = clip.encode_text(list(PROMPTS))  # visible, infrared, fused
    directions = text_directions(clip)
    network = load_network(lite) if lite else None
    report = {}
    for name, pairs in find_sets(data_dir).items():
        generator = torch.Generator().manual_seed(len(pairs))
        ensemble, paper, copies, losses, methods = [], [], [], [], {}
        for pair in tqdm(pairs, desc=f"evaluating {name}", leave=False):
            infrared, visible = pair.infrared, pair.luminance
            both = clip.encode_image(torch.stack([infrared, visible]))
            ensemble.append(attribute_scores(clip, both, "infrared"))
            paper.append(both @ (prompts[1] - prompts[0]))
            copies.append(_judge_copies(clip, pair, generator))
            fused = {"average": (infrared + visible) / 2,
                     "maximum": torch.maximum(infrared, visible)}  # fmt: skip
            if network is not None:
                fused["LD-Lite network"] = network(infrared[None], visible[None])[0]
            near = clip.encode_image(fused["average"][None])[0] @ prompts[2]
            for method in pairs.fused_methods():
                path = pairs.fused_path(method, pair.name)
                if path is not None:
                    fused[method] = luminance(read_image(path))
                    cosine = clip.encode_image(fused[method][None])[0] @ prompts[2]
                    methods.setdefault(method, []).append(float(cosine > near))
            sources = {"infrared": infrared, "visible": visible}
            losses.append(direction_loss_of(clip, sources | fused, directions, generator))
        report[name] = {"pairs": len(pairs)}
        report[name]["infrared_or_visible"] = _modality(torch.stack(ensemble))
        report[name]["paper_sentences"] = _modality(torch.stack(paper))
        report[name]["true_sentence_preferred"] = {
            kind: {
                "to_the_original": bootstrap(torch.stack([c[kind][0] for c in copies])),
                "to_its_denial": bootstrap(torch.stack([c[kind][1] for c in copies])),
            }
            for kind in EFFECTS
        }
        report[name]["nearer_to_target_than_average"] = {
            method: {"pairs": len(rows), **bootstrap(torch.tensor(rows))}
            for method, rows in methods.items()
        }
        report[name]["direction_loss"] = _order(losses)
    return report


@torch.no_grad()
def evaluate_attack(clip: ClipSpace, count: int = 16, steps: int = 300, seed: int = 90_500) -> dict:
    """What is left of a picture after it was optimized to please the model.

    Args:
        clip: the model.
        count: pairs; half of them by free pixels, half by a free decoder.
        steps: of the optimization.
        seed: of the pairs.

    Returns:
        Mean score of *artifacts* (`attribute_scores`) of averages, oracles and optimized pictures,
        and the share of optimized pictures that count as artifacts (score above 0).
    """
    scenes = load_scenes(count, seed)
    scenes = {name: value[:count] for name, value in scenes.items()}
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        made = optimize_negatives(clip, scenes, steps, generator)
    infrared, visible = scenes["infrared"] / 255, scenes["visible"] / 255
    pictures = {"average": (infrared + visible) / 2, "oracle": scenes["oracle"] / 255,
                "optimized": made / 255}  # fmt: skip
    scores = {
        name: attribute_scores(clip, clip.encode_image(p[:, None]), "artifacts")
        for name, p in pictures.items()
    }
    return {
        "steps": steps,
        "artifacts_score": {name: round(float(s.mean()), 4) for name, s in scores.items()},
        "called_artifacts": {name: round(float((s > 0).float().mean()), 4)
                             for name, s in scores.items()},
    }  # fmt: skip
