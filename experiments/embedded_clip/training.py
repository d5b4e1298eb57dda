"""The embedded CLIP: a small open_clip model, trained on generated scenes with attribute captions.

It exists so that every notebook runs without a network. It is an *attribute critic*: it knows
which of a few dozen things are true of a picture (infrared or visible, sharp or blurry, noisy,
dark, hazy, detailed, salient objects, artifacts, people, ...), and the words for them
(`ldf_utils.attributes`). It knows nothing else.

How it learns: every training picture comes from `ldf_utils.data.scenes`, sometimes degraded on
purpose,
so the truth of each attribute is known (`experiments.embedded_clip.dataset`). A caption asserts a
few attributes.
So for each picture and caption it is known whether the caption is true, false or undecided, and
the losses use exactly that:

* a contrastive loss with several positives and no false negatives;
* for each attribute, a sentence that asserts it against one that denies it;
* of the two pictures of a scene, the infrared one is nearer to the sentence for infrared images;
* of a picture and its spoiled copy, the copy is nearer to the sentence for what spoiled it;
* each attribute as plain yes or no, answered by one linear layer on the embedding, in training
  only: at first all sentences sound alike to the text tower, and this does not wait for it;
* the geometry that language-driven fusion needs: seen from the two sources, the oracle fusion lies
  farther along the direction of the target sentence than averages, maxima and degraded pictures;
  at the end, maxima farther than averages.

Several times during the training, pictures are optimized to please the model as it is then
(`experiments.embedded_clip.adversarial`). They go on as examples of artifacts.

    python -m experiments.embedded_clip train      # renders, trains, writes the weights
    python -m experiments.embedded_clip evaluate   # accuracies on held-out scenes, and on real
    pairs
    python -m experiments.embedded_clip card       # the model card from the latest evaluation
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip.adversarial import optimize_negatives
from experiments.embedded_clip.card import write_card
from experiments.embedded_clip.dataset import load_scenes, make_batch
from experiments.embedded_clip.evaluation import evaluate_attack, evaluate_real, evaluate_scenes
from experiments.embedded_clip.orthogonal import OrthogonalMomentum
from ldf_utils.clip.attributes import INDEX, draw_captions, draw_denials, match, vocabulary
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.clip.model import ClipSpace, bfloat16_pays
from ldf_utils.clip.tokenizer import VOCABULARY, CompactTokenizer
from ldf_utils.data.files import atomic_path, write_json

# --- training -----------------------------------------------------------------------------------

MODEL_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 0, "width": 96, "heads": 4, "layers": 2},
}
PREPROCESSING = {
    "mean": [0.4, 0.4, 0.4], "std": [0.25, 0.25, 0.25],
    "interpolation": "bilinear", "resize_mode": "squash",
}  # fmt: skip


HARD = ("people", "vehicles", "trees", "buildings", "night", "salient", "artifacts", "hazy")
"""Attributes that take longest to learn: what is shown, and what few pictures show."""


@dataclass
class MiniClipConfig:
    """Settings of the training; the defaults made the shipped weights."""

    scenes: int = 14000
    steps: int = 1700
    more_steps: int = 400  # a second, lower cycle of the learning rate (arXiv:1608.03983)
    more_rate: float = 0.5  # where it begins, as a share of the learning rate
    order_weight: float = 1.0  # of maxima before averages, from that cycle on
    rough_steps: int = 200  # at last, with sources that hold as much texture as real ones may
    groups: int = 24  # scenes a step; each gives seven pictures
    captions: int = 160
    learning_rate: float = 1.6e-3
    hidden_rate: float = 4.8e-3  # of the parameters in `_hidden`, by `OrthogonalMomentum`
    warm_up: int = 60
    weight_decay: float = 0.05
    direction_weight: float = 0.5
    denial_weight: float = 1.5
    modality_weight: float = 4.0  # of infrared and visible among the attributes, the hardest pair
    hard_weight: float = 2.0  # of those in `HARD` among the attributes
    pair_weight: float = 1.0  # of the infrared picture of a scene against its visible one
    copy_weight: float = 1.0  # of a spoiled copy against its original
    answer_weight: float = 1.5  # of the attributes as plain yes or no, without sentences
    disguised: tuple[float, float, float] = (0.25, 0.5, 1.0)
    """Share of disguised scenes: it grows from the first to the second for half of the steps; then
    it is the third."""
    attacks: tuple[float, ...] = (0.3, 0.5, 0.7, 0.85)  # when, as shares of the steps
    attack_steps: int = 80
    attack_scenes: int = 96
    margin: float = 0.4
    average_decay: float = 0.995
    seed: int = 0
    threads: int = 2
    save_every: int = 100


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """InfoNCE with several positives: each competes with all that is false, not with its peers.

    Args:
        logits: ``(N, M)`` scaled cosines.
        true, false: ``(N, M)`` from `match`.

    Returns:
        A scalar: the mean over both directions.
    """
    total = logits.new_zeros(())
    for scores, yes, no in ((logits, true, false), (logits.T, true.T, false.T)):
        rest = scores.masked_fill(~no, -1e4).logsumexp(dim=1, keepdim=True)
        each = F.softplus(rest - scores) * yes
        rows = yes.sum(1)
        total = total + (each.sum(1) / rows.clamp_min(1)).sum() / (rows > 0).sum().clamp_min(1)
    return total / 2


def denial_loss(
    pictures: torch.Tensor,
    truth: torch.Tensor,
    asserting: torch.Tensor,
    denying: torch.Tensor,
    places: Sequence[int],
    scale: float = 20.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Is a picture nearer to the sentence that asserts an attribute, or to the one that denies it?

    Args:
        pictures: ``(N, D)`` embeddings of length 1.
        truth: ``(N, K)`` with +1, 0, -1.
        asserting, denying: ``(A, D)`` embeddings of sentences, one of each for every attribute.
        places: the A attributes, as columns of ``truth``.
        scale: of the difference of cosines in the logistic function.
        weights: ``(A,)`` of the attributes, 1 if None.

    Returns:
        A scalar: the weighted mean over attributes of the mean over true and over false pictures.
    """
    margin = scale * pictures @ (asserting - denying).T
    return attribute_loss(margin, truth[:, list(places)], weights)


def attribute_loss(
    margin: torch.Tensor, sign: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """A logistic loss for each attribute, in which true and false pictures weigh the same.

    Args:
        margin: ``(N, A)``, above 0 for "true".
        sign: ``(N, A)`` with +1, 0 (undecided) and -1.
        weights: ``(A,)`` of the attributes, 1 if None.

    Returns:
        A scalar: the weighted mean over attributes of the mean over true and over false pictures.
    """
    each = F.softplus(-sign * margin)
    weights = margin.new_ones(margin.shape[1]) if weights is None else weights
    total, count = margin.new_zeros(()), 0.0
    for side in (sign > 0, sign < 0):
        known = side.sum(0)
        total = total + (weights * (each * side).sum(0) / known.clamp_min(1)).sum()
        count += float((weights * (known > 0)).sum())
    return total / max(count, 1e-9)


def direction_score(images: torch.Tensor, sources, texts: torch.Tensor) -> torch.Tensor:
    """Mean cosine of the two image directions with the two text directions, ``(G, V)``."""
    score = 0.0
    for source, place in zip(sources, (0, 1), strict=True):
        moved = images - source[:, None]
        score = score + F.cosine_similarity(moved, texts[2] - texts[place], dim=-1) / 2
    return score


def pair_loss(
    infrared: torch.Tensor, visible: torch.Tensor, texts: torch.Tensor, scale: float = 20.0
) -> torch.Tensor:
    """Of the two pictures of a scene, the infrared one is nearer to the sentence for infrared.

    Args:
        infrared, visible: ``(G, D)`` embeddings of length 1, one of each for every scene.
        texts: ``(2, D)`` or more: the sentences for infrared and for visible images come first.
        scale: of the difference of cosines in the logistic function.

    Returns:
        A scalar: the mean over scenes.
    """
    nearer = (infrared - visible) @ (texts[0] - texts[1])
    return F.softplus(-scale * nearer).mean()


def copy_loss(
    pictures: torch.Tensor,
    origin: torch.Tensor,
    change: torch.Tensor,
    asserting: torch.Tensor,
    denying: torch.Tensor,
    places: Sequence[int],
    scale: float = 20.0,
) -> torch.Tensor:
    """A spoiled copy is nearer than its original to the sentence that says how it was spoiled.

    Args:
        pictures: ``(G, V, D)`` embeddings of length 1.
        origin, change: as in `experiments.embedded_clip.dataset.Lessons`.
        asserting, denying: ``(A, D)`` embeddings of sentences, one of each for every attribute.
        places: the A attributes, as places in the last axis of ``change``.
        scale: of the difference of cosines in the logistic function.

    Returns:
        A scalar: the mean over the copies, 0 where there is none.
    """
    margin = pictures @ (asserting - denying).T
    sign = change[..., list(places)]
    moved = margin - margin.gather(1, origin[..., None].expand_as(margin))
    changed = sign != 0
    return (F.softplus(-scale * sign * moved) * changed).sum() / changed.sum().clamp_min(1)


def order_loss(images: torch.Tensor, scores: torch.Tensor, margin: float = 0.15) -> torch.Tensor:
    """Maxima keep what stands out, averages halve it: they should lie farther along the words.

    Args:
        images: ``(G, V, 1, H, W)`` as `experiments.embedded_clip.dataset.make_batch` gives
        them; the fourth view
            is the average or the maximum of the first two.
        scores: ``(G,)`` `direction_score` of that view.
        margin: by which the mean over maxima should exceed the mean over averages.

    Returns:
        A scalar, 0 where it does, or where one of the two kinds is not there.
    """
    largest = torch.maximum(images[:, 0], images[:, 1])
    maximum = (images[:, 3] == largest).flatten(1).all(1)
    if maximum.all() or not maximum.any():
        return scores.new_zeros(())
    return F.relu(margin - scores[maximum].mean() + scores[~maximum].mean())


def _attack(average, tokenize, scenes, negatives, config, generator) -> torch.Tensor:
    """Pictures that please the model as it is now, added to those that pleased it before."""
    index = torch.randint(len(scenes["night"]), (config.attack_scenes,), generator=generator)
    chosen = {name: scenes[name][index] for name in ("infrared", "visible")}
    draft = deepcopy(average).to(memory_format=torch.channels_last)
    size = MODEL_CONFIG["vision_cfg"]["image_size"]
    open_clip.model.set_model_preprocess_cfg(draft, {**PREPROCESSING, "size": size})
    clip = ClipSpace(draft, tokenize, "draft")
    made = optimize_negatives(clip, chosen, config.attack_steps, generator)
    return made if negatives is None else torch.cat([negatives, made])


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """``(G, V, 1, H, W)`` in [0, 1] to ``(G * V, 3, H, W)`` as the image tower wants them."""
    pixels = (images.flatten(0, 1).expand(-1, 3, -1, -1) - 0.4) / 0.25
    return pixels.contiguous(memory_format=torch.channels_last)


def _hidden(model: open_clip.model.CLIP) -> list[nn.Parameter]:
    """Convolutions of the image tower and matrices of the text tower's blocks.

    The attention that pools the image tower holds most of its numbers, and would take most of the
    time of `OrthogonalMomentum`; it stays with the embeddings and biases.
    """
    kernels = [p for p in model.visual.parameters() if p.ndim == 4]
    return kernels + [p for p in model.transformer.parameters() if p.ndim == 2]


def _count_statistics(
    average, scenes, negatives, config: MiniClipConfig, batches: int = 60
) -> None:
    """Means and variances of the batch norms, counted anew for the averaged weights.

    Those of the training belong to other weights, and hold the last few batches only; they moved
    the border between infrared and visible from one run to the next (arXiv:1803.05407, section 3).
    """

    def lessons():
        for batch in range(batches):
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 900_000 + batch)
            index = torch.randint(len(scenes["night"]), (config.groups,), generator=generator)
            lesson = make_batch(
                scenes, index, generator, negatives=negatives, textured=config.rough_steps > 0
            )
            yield _pixels(lesson.images)

    torch.optim.swa_utils.update_bn(lessons(), average.visual)


def train(
    config: MiniClipConfig, folder: Path = MINI_FOLDER, work: Path = Path("runs/mini_clip")
) -> Path:
    """Train the embedded CLIP and write it, atomically, as an open_clip model folder.

    A run that was stopped goes on from its latest checkpoint in ``work``.

    Args:
        config: the settings.
        folder: where the weights, the configuration and the vocabulary go.
        work: where checkpoints and the log go.

    Returns:
        ``folder``.
    """
    started = time.time()
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    words, token_ids = vocabulary()
    model_config = deepcopy(MODEL_CONFIG)
    model_config["text_cfg"]["vocab_size"] = len(token_ids)
    settings = {
        "model_cfg": model_config,
        "preprocess_cfg": PREPROCESSING,
    }
    write_json(work / "open_clip_config.json", settings)
    write_json(work / VOCABULARY, {"words": words, "token_ids": token_ids})
    tokenize = CompactTokenizer.from_folder(work)
    model = open_clip.model.CLIP(
        model_config["embed_dim"], model_config["vision_cfg"], model_config["text_cfg"]
    ).to(memory_format=torch.channels_last)
    average = deepcopy(model).requires_grad_(False)
    answer = nn.Linear(model_config["embed_dim"], len(INDEX))
    learning = [*model.parameters(), *answer.parameters()]
    hidden = _hidden(model)
    rest = [p for p in learning if not any(p is h for h in hidden)]
    optimizers = [
        torch.optim.AdamW(
            [{"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
             {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}],
            lr=config.learning_rate, betas=(0.9, 0.98),
        ),
        OrthogonalMomentum(hidden, config.hidden_rate, weight_decay=config.weight_decay),
    ]  # fmt: skip

    def pace(step):
        if step < config.warm_up:
            return (step + 1) / config.warm_up
        later = step - config.steps
        if later < 0:
            share, top = (step - config.warm_up) / max(config.steps - config.warm_up, 1), 1.0
        elif later < config.more_steps:
            share, top = later / config.more_steps, config.more_rate
        else:  # the end of a cosine that would have begun with the second cycle, at the whole rate
            share, top = later / max(config.more_steps + config.rough_steps, 1), 1.0
        return 0.02 + (top - 0.02) * 0.5 * (1 + math.cos(math.pi * share))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, pace) for optimizer in optimizers]
    first, spent, log, negatives = 0, 0.0, [], None
    heed = torch.ones(len(INDEX))
    heed[[INDEX[name] for name in HARD]] = config.hard_weight
    heed[[INDEX["infrared"], INDEX["visible"]]] = config.modality_weight
    attacks = {int(share * config.steps) for share in config.attacks}
    parts = dict(model=model, average=average, answer=answer)
    for place, (optimizer, schedule) in enumerate(zip(optimizers, schedules, strict=True)):
        parts |= {f"optimizer_{place}": optimizer, f"schedule_{place}": schedule}
    checkpoint = work / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if state["config"] != asdict(config):
            raise ValueError(
                f"{checkpoint}: was made with other settings; remove it to start anew, or use the "
                f"same settings to go on. Found {state['config']}, expected {asdict(config)}"
            )
        for name, part in parts.items():
            part.load_state_dict(state[name])
        first, spent, log = state["step"], state["seconds"], state["log"]
        negatives = state["negatives"]
        print(f"going on at step {first}")
    brief = bfloat16_pays()
    scenes = load_scenes(config.scenes, seed=1000 + config.seed, processes=config.threads)
    smooth = config.steps + config.more_steps
    steps = smooth + config.rough_steps
    bar = tqdm(range(first, steps), initial=first, total=steps, desc="training")
    for step in bar:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        if step in attacks:
            negatives = _attack(average, tokenize, scenes, negatives, config, generator)
        index = torch.randint(len(scenes["night"]), (config.groups,), generator=generator)
        begin, middle, share = config.disguised
        if 2 * step < config.steps:
            share = begin + (middle - begin) * 2 * step / config.steps
        lesson = make_batch(
            scenes, index, generator, negatives=negatives, augmented=share, textured=step >= smooth
        )
        images, truth = lesson.images, lesson.truth
        groups, views = images.shape[:2]
        flat = truth.flatten(0, 1)
        sentences, assertions = draw_captions(flat, config.captions, generator)
        asserting, denying, denied = draw_denials(generator)
        said = len(sentences)
        tokens = tokenize([*sentences, *asserting, *denying])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=brief):
            pictures = model.encode_image(_pixels(images))
            texts = model.encode_text(tokens)
        pictures = F.normalize(pictures.float(), dim=-1)
        texts = F.normalize(texts.float(), dim=-1)
        true, false = match(flat, assertions)
        scale = model.logit_scale.exp()
        contrast = contrastive_loss(scale * pictures @ texts[:said].T, true, false)
        sides = texts[said:].chunk(2)
        denial = denial_loss(pictures, flat, *sides, denied, weights=heed[denied])
        plain_answer = attribute_loss(answer(8.0 * pictures), flat, heed)
        grouped = pictures.view(groups, views, -1)
        copies = copy_loss(grouped, lesson.origin, lesson.change, *sides, denied)
        prompts = texts[[1, 0, 2]]  # infrared, visible, fused
        sources = (grouped[:, 1], grouped[:, 0])
        pair = pair_loss(*sources, prompts)
        scores = direction_score(grouped[:, 2:], sources, prompts)
        shows = (flat.view(groups, views, -1)[:, 2, INDEX["clear"]] > 0).float()
        margin = torch.full((views - 3,), config.margin)
        margin[0] *= 0.5  # averages and maxima are nearer to the answer than what was spoiled
        lag = F.relu(margin - scores[:, :1] + scores[:, 1:]).mean(1)
        direction = (shows * (lag + 0.3 * (1 - scores[:, 0]))).sum() / shows.sum().clamp_min(1)
        loss = contrast + config.denial_weight * denial + config.direction_weight * direction
        loss = loss + config.answer_weight * plain_answer + config.pair_weight * pair
        loss = loss + config.copy_weight * copies
        if step >= config.steps:
            loss = loss + config.order_weight * order_loss(images, scores[:, 1])
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(50))
            decay = min(config.average_decay, (step + 1) / (step + 10))
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
            for slow, fast in zip(average.buffers(), model.buffers(), strict=True):
                slow.copy_(fast)
        if step % 20 == 0 or step == steps - 1:
            losses = dict(contrast=contrast, denial=denial, answer=plain_answer, pair=pair,
                          copies=copies, direction=direction, scale=scale)  # fmt: skip
            log.append({"step": step, **{name: value.item() for name, value in losses.items()}})
            bar.set_postfix({name: f"{value:.3f}" for name, value in log[-1].items()})
        if (step + 1) % config.save_every == 0 or step == steps - 1:
            spent += time.time() - started
            started = time.time()
            with atomic_path(checkpoint) as temporary:
                torch.save(
                    dict(config=asdict(config), step=step + 1, seconds=spent, log=log,
                         negatives=negatives, **{n: p.state_dict() for n, p in parts.items()}),
                    temporary,
                )  # fmt: skip
    _count_statistics(average, scenes, negatives, config)
    weights = {k: v.half().contiguous() for k, v in average.state_dict().items()
               if not k.endswith(("attn_mask", "num_batches_tracked"))}  # fmt: skip
    for key, value in average.state_dict().items():
        if key.endswith("num_batches_tracked"):
            weights[key] = value.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "open_clip_model.safetensors") as temporary:
        save_file(weights, temporary)
    write_json(folder / "open_clip_config.json", settings)
    write_json(folder / VOCABULARY, {"words": words, "token_ids": token_ids})
    write_json(folder / "training.json", dict(
        command="python -m experiments.embedded_clip train", config=asdict(config),
        minutes=round(spent / 60, 1), threads=config.threads,
        parameters=sum(p.numel() for p in average.parameters()), log=log[-1:],
        precision="bfloat16" if brief else "float32",
        torch=torch.__version__, open_clip=open_clip.__version__))  # fmt: skip
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: train, evaluate, card."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.embedded_clip",
        description="Train and judge the embedded CLIP.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="render scenes, train, write the weights")
    training.add_argument("--steps", type=int, default=MiniClipConfig.steps)
    training.add_argument("--more-steps", type=int, default=MiniClipConfig.more_steps)
    training.add_argument("--rough-steps", type=int, default=MiniClipConfig.rough_steps)
    training.add_argument("--scenes", type=int, default=MiniClipConfig.scenes)
    training.add_argument("--seed", type=int, default=MiniClipConfig.seed)
    training.add_argument("--threads", type=int, default=MiniClipConfig.threads)
    training.add_argument("--work", default="runs/mini_clip", help="checkpoints (resumes there)")
    judging = commands.add_parser("evaluate", help="print and write the accuracies")
    judging.add_argument("--data", help="folder of real sets, each with ir/ and vi/")
    judging.add_argument("--lite", help="weights of LD-Lite, to place it in the order of L_dir")
    judging.add_argument("--scenes", type=int, default=600)
    card = commands.add_parser("card", help="write the model card")
    for command in (training, judging, card):
        command.add_argument("--folder", default=str(MINI_FOLDER), help="the model's folder")
    args = parser.parse_args(argv)
    folder = Path(args.folder)
    try:
        if args.command == "train":
            config = MiniClipConfig(
                steps=args.steps, more_steps=args.more_steps, rough_steps=args.rough_steps,
                scenes=args.scenes, seed=args.seed, threads=args.threads,
            )  # fmt: skip
            print(f"weights in {train(config, folder, Path(args.work))}")
        elif args.command == "evaluate":
            clip = load_clip(folder)
            report = {
                "scenes": evaluate_scenes(clip, args.scenes),
                "disguised_scenes": evaluate_scenes(clip, args.scenes, disguised=True),
                "attack": evaluate_attack(clip),
            }
            if args.data:
                report["real"] = evaluate_real(clip, args.data, args.lite)
            write_json(folder / "evaluation.json", report)
            print(json.dumps(report, indent=2))
        else:
            print(f"card in {write_card(folder)}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
