"""Calibration: one number that decides where visible ends and infrared begins on real frames.

Training balances the two cameras on rendered worlds. Real infrared pictures then score lower than
rendered ones, so that many fall on the wrong side of zero although they score above their visible
partner. This moves the image tower's last bias along one direction, by an amount that is found on
real frames that may be trained on and on the rendered set. The direction is at right angles to all
other attributes, which therefore hardly change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip.model import write_model
from experiments.embedded_clip.packing import trainable_sets
from experiments.embedded_clip.scores import modality
from ldf_utils.clip.attributes import ATTRIBUTES, attribute_scores, prompts_for
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipSpace
from ldf_utils.data.files import write_json
from ldf_utils.data.pairs import Pair, PairFolder
from ldf_utils.data.sets import RENDERED

Array = npt.NDArray[np.float64]
_CROPS = 6  # of each pair, besides the whole
_SHARES = (0.35, 0.95)  # of the side of a picture that a crop has


def modality_direction(clip: ClipSpace) -> tuple[Array, Array]:
    """Find what to add to an embedding so that only infrared against visible changes.

    Args:
        clip: the model.

    Returns:
        The difference of the paper's two sentences d, infrared minus visible, ``(D,)``; and the
        shortest u ``(D,)`` with ``u . d = 1``, the same for the mean over all sentences about the
        two cameras, and ``u . a = 0`` for the sentences of every other attribute a and for the
        target sentence, counted from the middle of the two cameras.
    """
    visible, infrared, target = (row.double().numpy() for row in clip.encode_text(list(PROMPTS)))
    rows, wanted = [infrared - visible, target - (infrared + visible) / 2], [1.0, 0.0]
    for attribute in ATTRIBUTES:
        if attribute.name == "visible":  # the denial of infrared
            continue
        yes, no = prompts_for(attribute.name)
        row = clip.encode_text(yes).double().mean(0)
        rows.append((row - clip.encode_text(no).double().mean(0) if no else row).numpy())
        wanted.append(float(attribute.name == "infrared"))
    shortest, *_ = np.linalg.lstsq(np.stack(rows), np.asarray(wanted), rcond=None)
    return infrared - visible, shortest


@torch.no_grad()
def raw_embeddings(clip: ClipSpace, pairs: PairFolder, seed: int = 0) -> Array:
    """Embed both images of all pairs, whole and in random crops, before normalization.

    Args:
        clip: the model.
        pairs: N pairs.
        seed: of the crops.

    Returns:
        ``(N, 7, 2, D)``: the whole and six crops; infrared, visible.
    """
    rng, found = np.random.default_rng(seed), []
    for pair in tqdm(pairs, desc=f"embedding {pairs.name}", leave=False):
        found.append([_embed(clip, pair, box) for box in _boxes(pair, rng)])
    return np.asarray(found)


def _boxes(pair: Pair, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    height, width = pair.infrared.shape[-2:]
    boxes = [(0, 0, height, width)]
    for share in rng.uniform(*_SHARES, _CROPS):
        rows, columns = int(share * height), int(share * width)
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        boxes.append((int(top), int(left), rows, columns))
    return boxes


def _embed(clip: ClipSpace, pair: Pair, box: tuple[int, int, int, int]) -> Array:
    top, left, rows, columns = box
    both = torch.stack([pair.infrared, pair.luminance])
    cut = both[..., top : top + rows, left : left + columns]
    return clip.model.encode_image(clip.prepare(cut)).double().numpy()


def _scores(raw: Array, shift: Array, direction: Array) -> Array:
    moved = torch.from_numpy(raw + shift)
    return F.normalize(moved, dim=-1).numpy() @ direction


def best_shift(sets: Mapping[str, Array], direction: Array, way: Array, scale: float) -> float:
    """Find how far to move all embeddings along ``way`` so that the two cameras part at zero.

    It is the minimum over t of the mean over sets, pictures and cameras of
    ``log(1 + exp(-c k s(t)))``, with ``s(t) = normalize(f + t way) . direction`` the score of an
    embedding f, k the model's own scale, and c = 1 for infrared and -1 for visible images.

    Args:
        sets: name to embeddings as `raw_embeddings` returns; every set counts alike.
        direction: infrared minus visible, ``(D,)``.
        way: along which embeddings move, ``(D,)``.
        scale: k.

    Returns:
        t.
    """

    def loss(amount: float) -> float:
        signed = (_scores(raw, amount * way, direction) * [-scale, scale] for raw in sets.values())
        return float(np.mean([np.logaddexp(0, s).mean() for s in signed]))

    reach = 0.3 * max(float(np.linalg.norm(raw, axis=-1).mean()) for raw in sets.values())
    return float(minimize_scalar(loss, bounds=(-reach, reach), method="bounded").x)


def _accuracies(sets: Mapping[str, Array], shift: Array, direction: Array) -> dict[str, float]:
    """Return the balanced accuracy of the paper's two sentences on whole images at zero."""
    return {
        name: modality(torch.from_numpy(_scores(raw[:, 0], shift, direction)))["balanced_accuracy"]
        for name, raw in sets.items()
    }


def _change_elsewhere(clip: ClipSpace, sets: Mapping[str, Array], shift: Array) -> float:
    """Return the largest mean change, up or down, of the score of any other attribute."""
    raw = torch.from_numpy(np.concatenate([r.reshape(-1, r.shape[-1]) for r in sets.values()]))
    before, after = F.normalize(raw, dim=-1), F.normalize(raw + torch.from_numpy(shift), dim=-1)
    names = [a.name for a in ATTRIBUTES if a.name not in ("infrared", "visible")]
    step = (after - before).float()  # a score is linear in the embedding
    return max(float(attribute_scores(clip, step, name).mean().abs()) for name in names)


def calibrate(folder: Path, real: str | os.PathLike[str]) -> dict[str, Any]:
    """Move the last bias of an embedded CLIP, and write its weights and ``training.json`` again.

    Args:
        folder: of the model.
        real: folder of the real sets that may be trained on.

    Returns:
        What ``training.json`` gets as ``calibration``: the sets with their numbers of pairs, the
        mean change of the score, the balanced accuracies before and after, and the largest mean
        change of another attribute's score.

    Raises:
        ValueError: if ``real`` has a set that weights that ship may not see.
        OSError: if a picture or the model cannot be read.
    """
    clip = load_clip(folder)
    opened = {"rendered": PairFolder(RENDERED / "train")} | trainable_sets(real)
    sets = {name: raw_embeddings(clip, pairs) for name, pairs in opened.items()}
    direction, way = modality_direction(clip)
    scale = float(clip.model.logit_scale.detach().exp())
    shift = best_shift(sets, direction, way, scale) * way
    nothing = np.zeros_like(way)
    changes = [
        _scores(raw, shift, direction) - _scores(raw, nothing, direction) for raw in sets.values()
    ]
    found = {
        "command": "python -m experiments.embedded_clip calibrate --real DIR",
        "sets": {name: len(pairs) for name, pairs in opened.items()},
        "shift": round(float(np.mean([c.mean() for c in changes])), 4),
        "before": _accuracies(sets, nothing, direction),
        "after": _accuracies(sets, shift, direction),
        "elsewhere": round(_change_elsewhere(clip, sets, shift), 4),
    }
    with torch.no_grad():
        clip.model.visual.attnpool.c_proj.bias += torch.from_numpy(shift).float()
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    write_model(clip.model, folder)
    write_json(folder / "training.json", record | {"calibration": found})
    return found
