"""Which sentence helps to find people? Equal trainings of the bounded network, and a detector.

The words of the fused picture are exchanged, all else is the same: steps, seeds, crops, weights.
Then we look at the pictures where the people and vehicles are, and let the embedded detector, which
knows none of these pictures, search them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from experiments.detector.pictures import RENDERED, by_network, labeled_sets, measured_with
from experiments.detector.protocol import ap50
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.data.files import write_json
from ldf_utils.data.images import to_8bit
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection.boxes import CLASSES, Boxes
from ldf_utils.detection.detector import load_detector
from ldf_utils.detection.visibility import stands_out
from ldf_utils.evaluation.ablation import BASE
from ldf_utils.networks.checkpoint import load_network, save_network
from ldf_utils.training.trainer import fit

SENTENCES: Mapping[str, tuple[str, ...]] = {
    "paper": (PROMPTS.fused,),
    "people": ("people that stand out", "salient people"),
    "vehicles": ("salient vehicles",),
    "flat": ("a flat background",),
}
"""Name to sentences with one meaning; the first whose words the CLIP model knows is taken."""
NO_WORDS = "no words"
"""The variant without language: the perceptual term alone."""


def choose(clip: ClipSpace, sentences: Sequence[str]) -> str:
    """Return the first sentence of which a model knows all words, or the last."""
    for sentence in sentences:
        if clip.words is None or all(word in clip.words for word in sentence.split()):
            return sentence
    return sentences[-1]


def change(first: np.ndarray, second: np.ndarray, boxes: Boxes) -> tuple[float, float]:
    """Return the mean absolute difference of two pictures within boxes and outside of all."""
    mask = np.zeros(first.shape, bool)
    for x0, y0, x1, y1 in boxes.corners.round().astype(int):
        mask[y0:y1, x0:x1] = True
    off = np.abs(first.astype(float) - second.astype(float))
    return (float(off[mask].mean()) if mask.any() else float("nan")), float(off[~mask].mean())


def _levels(network: nn.Module, pairs: PairFolder, place: int) -> np.ndarray:
    pair = pairs[place]
    fused = by_network(network)(pair.infrared[None], pair.luminance[None])[0]
    return to_8bit(fused)[0].numpy().astype(np.uint8)


def measure(
    networks: Mapping[str, nn.Module], data_dir: str | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure networks on labeled sets.

    Args:
        networks: by name, one of them ``paper``.
        data_dir: folder of real labeled sets, besides the rendered test set.

    Returns:
        Set to name to: AP at 0.5 by class (``ap50``), how well boxes stand out by class
        (``stands_out``), and the mean change against ``paper`` in gray levels, within the boxes of
        a class and outside of all (``change``).
    """
    detector = load_detector("embedded")
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, (pairs, labels) in labeled_sets(data_dir).items():
        places = [k for k, stem in enumerate(pairs.names) if stem in labels.boxes]
        shown = {n: {k: _levels(net, pairs, k) for k in places} for n, net in networks.items()}
        truth = {pairs.names[k]: labels.boxes[pairs.names[k]] for k in places}
        result[name] = {}
        for network, pictures in shown.items():
            tensors = {k: torch.from_numpy(p)[None].float() / 255 for k, p in pictures.items()}
            found = {pairs.names[k]: detector(gray) for k, gray in tensors.items()}
            row: dict[str, Any] = {"ap50": ap50(truth, found, labels.classes)}
            row["stands_out"], row["change"] = {}, {}
            for place, c in enumerate(CLASSES):
                if c not in labels.classes:
                    continue
                of = {
                    k: truth[pairs.names[k]].pick(truth[pairs.names[k]].classes == place)
                    for k in places
                }
                areas = np.concatenate([stands_out(tensors[k], of[k]) for k in places])
                row["stands_out"][c] = round(float(np.nanmean(areas)), 4)
                row["change"][c] = _mean(
                    change(pictures[k], shown["paper"][k], of[k])[0] for k in places if len(of[k])
                )
            row["change"]["elsewhere"] = _mean(
                change(pictures[k], shown["paper"][k], truth[pairs.names[k]])[1] for k in places
            )
            result[name][network] = row
    return result


def _mean(values: Any) -> float:
    return round(float(np.mean(list(values))), 4)


def run_sentences(
    work: Path,
    steps: int = 50,
    seeds: int = 2,
    data_dir: str | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Train with each sentence and measure; trained networks are kept in ``work``.

    Args:
        work: where the networks are kept.
        steps: of each training.
        seeds: trainings with each sentence.
        data_dir: folder of real labeled sets, besides the rendered test set.
        output: where the record goes.

    Returns:
        The record: settings, sentences, and for each set, sentence and seed what `measure` gives.
    """
    clip = load_clip("mini")
    sentences = {name: choose(clip, choices) for name, choices in SENTENCES.items()}
    base = replace(BASE, steps=steps, patches=4, crop=96)
    off = replace(base, weight_direction=0.0, weight_patch=0.0, weight_angle=0.0)
    configs = {name: replace(base, prompt_fused=text) for name, text in sentences.items()}
    configs[NO_WORDS] = off
    pairs, measured = PairFolder(RENDERED / "train"), []
    for seed in tqdm(range(seeds), "seeds"):
        networks = {}
        for name, config in configs.items():
            path = work / f"sentence-{name.replace(' ', '-')}-{seed}-{steps}.pt"
            if not path.is_file():
                begin = time.process_time()
                made = fit(
                    replace(config, seed=seed), pairs, clip, folder=work / "fit", progress=False
                ).network
                seconds = round(time.process_time() - begin)
                save_network(made, path, {"sentence": config.prompt_fused, "seconds": seconds})
            networks[name] = load_network(path)
        measured.append(measure(networks, data_dir))
    record = {
        "command": f"python -m experiments.detector sentences --steps {steps} --seeds {seeds}"
        + (" --data DIR" if data_dir else ""),
        "weights": measured_with("detector", "CLIP"),
        "steps": steps,
        "seeds": seeds,
        "batch": base.batch,
        "crop": base.crop,
        "sentences": sentences,
        "measured": {
            place: {name: [one[place][name] for one in measured] for name in configs}
            for place in measured[0]
        },
    }
    if output is not None:
        write_json(output, record)
    return record
