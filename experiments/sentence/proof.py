"""What sentences do that the network was never trained with: effects, interpolation, people."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from experiments.ablation.measures import Sample, measure_network
from experiments.ablation.variants import WORDS
from ldf_utils import evaluation
from ldf_utils.clip.grammar import is_held_out
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.evaluation.declared import EFFECTS
from ldf_utils.evaluation.sentences import OPPOSITE, OPPOSITES
from ldf_utils.fusion.inference import Network, fuse_tensors
from ldf_utils.fusion.rules import RULES
from ldf_utils.fusion.sentence import between, sentence_directions, speak
from ldf_utils.metrics import measure
from ldf_utils.networks.sentence import SentenceFusionNetwork

Samples = Mapping[str, Sequence[Sample]]

OBJECTS = {
    "salient people": "an image with salient people",
    "hidden people": "an image with hidden people",
    "salient vehicles": "an image with salient vehicles",
    "hidden vehicles": "an image with hidden vehicles",
    "salient people, hidden vehicles": "an image with salient people and hidden vehicles",
    "hidden people, salient vehicles": "an image with hidden people and salient vehicles",
}
"""Sentences about one kind of object, and the two combinations that were held out."""

PARAPHRASES = {
    "a dark image": "this is a dark picture",
    "a sharp image": "a sharp photo",
    "a hazy image": "we see a hazy scene",
    "an image with salient objects": "a photograph with salient objects",
}
"""Sentences and others that say nothing new."""

STEPS = 10  # from one sentence to the other


def values(network: nn.Module, samples: Sequence[Sample], names: Iterable[str]) -> dict[str, list]:
    """Measure each sample: measure to one value a sample, NaN where it has none."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for sample in samples:
        row = measure_network(network, [sample], names=found)
        for name, column in found.items():
            column.append(row.get(name, math.nan))
    return found


def compare(with_it: Sequence[float], without: Sequence[float]) -> dict[str, float]:
    """Return mean, standard error over the samples, and count of paired differences."""
    off = [a - b for a, b in zip(with_it, without, strict=True) if not math.isnan(a - b)]
    if not off:
        return {"mean": math.nan, "error": math.nan, "samples": 0}
    error = statistics.stdev(off) / math.sqrt(len(off)) if len(off) > 1 else math.nan
    return {"mean": math.fsum(off) / len(off), "error": error, "samples": len(off)}


def moved(sign: int, found: Mapping[str, float]) -> bool:
    """Say whether a measure went the declared way by more than two standard errors."""
    return sign * found["mean"] > 2 * found["error"]


def effects(
    network: SentenceFusionNetwork, plain: nn.Module, samples: Samples, clip: ClipSpace
) -> list[dict[str, Any]]:
    """Measure the declared effect of each held-out word on each kind of pairs.

    Args:
        network: takes sentences.
        plain: the same training without words.
        samples: by kind of pairs.
        clip: that the network was trained with.

    Returns:
        One row for each effect and kind: against the training without words, and against the
        opposite sentence.
    """
    rows = []
    for place, group in samples.items():
        measures = {effect.measure for effect in EFFECTS}
        said = {
            word: values(speak(network, sentence, clip), group, measures)
            for word, sentence in WORDS.items()
        }
        without = values(plain, group, measures)
        for effect in EFFECTS:
            word = effect.variant.removeprefix("word ")
            one, name = said[word][effect.measure], effect.measure
            against = compare(one, without[name])
            opposite = compare(one, said[OPPOSITE[word]][name])
            rows.append(
                {
                    "word": word,
                    "sentence": WORDS[word],
                    "held_out": is_held_out(WORDS[word]),
                    "place": place,
                    "measure": name,
                    "sign": effect.sign,
                    "without": compare(without[name], [0.0] * len(one))["mean"],
                    "against no words": against,
                    "against opposite": opposite,
                    "moved": moved(effect.sign, against),
                    "moved from opposite": moved(effect.sign, opposite),
                }
            )
    return rows


def ways(
    network: SentenceFusionNetwork, samples: Sequence[Sample], clip: ClipSpace
) -> list[dict[str, Any]]:
    """Go from each word to its opposite in ten steps, and measure on the way."""
    measure_of = {effect.variant.removeprefix("word "): effect.measure for effect in EFFECTS}
    rows = []
    for first, last in OPPOSITES:
        ends = [sentence_directions(clip, WORDS[word]) for word in (first, last)]
        name, means = measure_of[last], []
        for k in range(STEPS + 1):
            network.say(*between(ends[0], ends[1], k / STEPS))
            found = values(network, samples, [name])[name]
            means.append(compare(found, [0.0] * len(found))["mean"])
        sign = 1 if means[-1] >= means[0] else -1
        back = sum(sign * (b - a) < 0 for a, b in pairwise(means))
        rows.append(
            {"from": first, "to": last, "measure": name, "values": means, "steps_back": back}
        )
    return rows


def objects(
    network: SentenceFusionNetwork, samples: Samples, clip: ClipSpace
) -> list[dict[str, Any]]:
    """Measure people and vehicles against their surroundings, for sentences about them."""
    names = ("people_contrast", "vehicles_contrast", "people_area", "vehicles_area")
    rows = []
    for place, group in samples.items():
        for label, sentence in OBJECTS.items():
            found = values(speak(network, sentence, clip), group, names)
            rows.append({"sentence": label, "place": place} | _means(found))
    return rows


def _means(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: compare(v, [0.0] * len(v))["mean"] for name, v in found.items()}


@torch.no_grad()
def nothing_new(
    network: SentenceFusionNetwork, samples: Sequence[Sample], clip: ClipSpace
) -> list[dict[str, Any]]:
    """Compare how far a paraphrase moves the picture, and how far the opposite does, in levels."""
    word_of = {sentence: word for word, sentence in WORDS.items()}
    rows = []
    for sentence, paraphrase in PARAPHRASES.items():
        opposite = WORDS[OPPOSITE[word_of[sentence]]]
        shown = [
            [_fuse(speak(network, said, clip), sample) for sample in samples]
            for said in (sentence, paraphrase, opposite)
        ]
        far = [
            statistics.fmean(
                255 * (a - b).abs().mean().item() for a, b in zip(shown[0], more, strict=True)
            )
            for more in shown[1:]
        ]
        rows.append({"sentence": sentence, "paraphrase": paraphrase, "changes": far[0],
                     "opposite": opposite, "opposite_changes": far[1]})  # fmt: skip
    return rows


def _fuse(network: Network, sample: Sample) -> torch.Tensor:
    return fuse_tensors(network, sample.infrared[None], sample.visible[None])[0]


def ranks(
    network: SentenceFusionNetwork, shipped: nn.Module, samples: Samples, clip: ClipSpace
) -> dict[str, dict[str, float]]:
    """Rank the network with the paper's sentence among the rules and the shipped network.

    Returns:
        Set of real pairs to method to mean rank over nine metrics.
    """
    speak(network, PROMPTS.fused, clip)
    fusers: dict[str, Any] = {**RULES, "shipped": shipped, "sentence": network}
    found = {}
    for name, group in samples.items():
        rows = []
        for method, fuser in fusers.items():
            for sample in group:
                fused = _fuse(fuser, sample)[None]
                pair = sample.infrared[None], sample.visible[None]
                row = {name: value.item() for name, value in measure(fused, *pair).items()}
                rows.append({"method": method, "image": sample.name, **row})
        found[name] = evaluation.mean_ranks(rows)
    return found


def seconds(network: nn.Module, width: int = 320, height: int = 240, repeats: int = 5) -> float:
    """Measure the processor time of one picture, the median of some."""
    infrared, visible = torch.rand(2, 1, 1, height, width)
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        fuse_tensors(network, infrared, visible)
        times.append(time.process_time() - begin)
    return statistics.median(times)
