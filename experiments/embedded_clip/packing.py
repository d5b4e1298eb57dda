"""Packing: views of the pool and real frames, cut into squares in 8 bits for the training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip.pieces import KELVIN, MAPS, QUANTILES, SIDE, SPAN, Pieces
from experiments.embedded_clip.truth import LABELS, SETTINGS, UNKNOWN
from ldf_utils.clip.model import resize_square
from ldf_utils.data.files import atomic_path
from ldf_utils.data.pairs import PairFolder, find_sets

_SHARD = 256  # views
_REAL = {"M3SVD": (16, UNKNOWN), "WRD": (4, LABELS.index("nothing"))}
"""Real sets that may be trained on: squares of a pair, and what is seen everywhere; WRD shows bare
road surfaces only."""
HELD_OUT_EVERY = 13
"""Every 13th world is for evaluation; prime to the number of layouts."""

_WARM = 1.5  # kelvin above the surroundings from which a vehicle counts as warm

_CLASSES = {
    "person": "person", "vegetation": "tree", "building": "building", "bicycle": "cycle",
    "car": "vehicle", "van": "vehicle", "truck": "vehicle", "bus": "vehicle",
    "motorcycle": "vehicle",
}  # fmt: skip
_SETTING = {
    "street": "street", "crossing": "street", "field": "field", "waterfront": "harbor",
    "indoor": "room",
}  # fmt: skip
_OPEN = {"parking": ("street",), "park": ("field",), "courtyard": ("street",)}  # undecided

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Maps = dict[str, npt.NDArray]


def trainable_sets(real: str | os.PathLike[str]) -> dict[str, PairFolder]:
    """Open the sets of a folder, all of which weights that ship may be trained on.

    Raises:
        ValueError: if there is another set.
    """
    sets = find_sets(real)
    for name in sets:
        if name not in _REAL:
            raise ValueError(
                f"{real}: found a set named {name}; the weights that ship may be trained on "
                f"{', '.join(_REAL)} only"
            )
    return sets


def view_paths(folder: Path) -> list[Path]:
    """Return the views of all worlds that are complete, in order.

    Raises:
        FileNotFoundError: if there are none.
    """
    worlds = sorted((folder / "worlds").glob("*.json"))
    names = [n for path in worlds for n in json.loads(path.read_text(encoding="utf-8"))["views"]]
    if not names:
        raise FileNotFoundError(
            f"{folder}: found no complete world (worlds/*.json); render some first, "
            "python -m experiments.embedded_clip pool"
        )
    return [folder / f"{name}.npz" for name in names]


def encode_light(luminance: npt.ArrayLike, gain: float) -> Bytes:
    """Store exposed luminance: ``255 (x / (1 + x))^(1/2.2)`` with x the gain times it."""
    x = np.asarray(luminance, np.float32) * gain
    return np.round(255 * (x / (1 + x)) ** (1 / 2.2)).astype(np.uint8)


def encode_warmth(kelvin: npt.ArrayLike) -> Bytes:
    """Store differences to the median temperature, from -67 to 67 kelvin, finest near 0."""
    scaled = np.arcsinh(np.asarray(kelvin, np.float32) / KELVIN) / SPAN
    return np.round(127.5 + 127.5 * np.clip(scaled, -1, 1)).astype(np.uint8)


def neutral_gain(luminance: Array) -> float:
    """Return the exposure under which the mean is a middle gray, as of an automatic camera."""
    clipped = np.clip(luminance, 1e-5, np.quantile(luminance, 0.98))
    level = 0.5 * np.exp(np.log(clipped).mean()) + 0.5 * clipped.mean()
    return float(0.16 / max(level, 1e-6))


def surroundings(values: Array, mask: npt.NDArray[np.bool_], width: float) -> Array:
    """Average what lies around a mask, not in it, by a Gaussian window."""
    weight = (~mask).astype(np.float32)
    total = ndimage.gaussian_filter(weight, width) + 1e-3
    mean = float(values[~mask].mean()) if (~mask).any() else float(values.mean())
    around = ndimage.gaussian_filter((values - mean) * weight, width) / total + mean
    return around.astype(np.float32)


def _translate(labels: Bytes, names: Sequence[str]) -> Bytes:
    table = [LABELS.index(_CLASSES.get(name, "nothing")) for name in names]
    return np.asarray(table, np.uint8)[labels]


def read_view(
    path: str | os.PathLike[str], held_out_every: int = HELD_OUT_EVERY
) -> tuple[Maps, dict[str, float | Array]]:
    """Read a view of the pool as maps in 8 bits, and its facts.

    Args:
        path: of the view.
        held_out_every: every how many-th world is for evaluation.

    Returns:
        Every map of `MAPS`, ``(H, W)`` uint8, and the facts: night and each setting with +1,
        0 or -1; ``has_oracle`` and ``recorded`` with 0 or 1; ``gain``, log2 of the exposure;
        ``held_out`` and ``held_out_every``, and ``quantiles`` in kelvin.
    """
    from experiments.world.truth import LABELS as NAMES

    with np.load(path) as file:
        view = {name: file[name] for name in file.files}
    known = json.loads(str(view["facts"]))
    light = view["radiance"].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    celsius = view["celsius"].astype(np.float32) / 100 - 100
    kelvin = celsius - np.median(celsius)
    gain = neutral_gain(light)
    labels = _translate(view["labels"], NAMES)
    person, vehicle = (labels == LABELS.index(name) for name in ("person", "vehicle"))
    solid = view["labels"] != NAMES.index("sky")  # behind which the haze has no end
    veil = np.where(solid, view["veil"], np.median(view["veil"][solid]) if solid.any() else 0)
    rest = surroundings(kelvin, person | vehicle, kelvin.shape[0] / 16)
    maps = {
        "visible": encode_light(light, gain),
        "infrared": encode_warmth(kelvin),
        "oracle": view.get("oracle", np.zeros_like(labels)),
        "salient": np.where(person | (vehicle & (kelvin - rest > _WARM)), 255, 0).astype(np.uint8),
        "veil": veil.astype(np.uint8),
        "labels": labels,
    }
    layout, kind = known["layout"], known["light"]
    setting, unsure = _SETTING.get(layout), _OPEN.get(layout, ())
    facts: dict[str, float | Array] = {
        name: 0.0 if name in unsure else 1.0 if name == setting else -1.0 for name in SETTINGS
    }
    facts["night"] = {"night": 1.0, "clear": -1.0, "overcast": -1.0}.get(kind, 0.0)
    facts["has_oracle"], facts["recorded"] = float("oracle" in view), 0.0
    facts["gain"] = float(np.log2(gain))
    world = int(Path(path).stem.split("_")[0])
    facts["held_out"] = float(world % held_out_every == held_out_every - 1)
    facts["held_out_every"] = float(held_out_every)
    facts["quantiles"] = np.quantile(kelvin, np.linspace(0, 1, QUANTILES)).astype(np.float32)
    return maps, facts


def recorded_maps(
    infrared: torch.Tensor,
    visible: torch.Tensor,
    labels: Bytes | int = UNKNOWN,
    oracle: torch.Tensor | None = None,
) -> Maps:
    """Return the maps of two images of cameras, each ``(1, H, W)`` in [0, 1].

    Args:
        infrared: the infrared image.
        visible: luminance of the visible one.
        labels: ``(H, W)`` with numbers of `LABELS`, or one for the whole.
        oracle: luminance of the oracle, where there is one.
    """
    oracle = torch.zeros_like(visible) if oracle is None else oracle
    levels = {"visible": visible, "infrared": infrared, "oracle": oracle}
    maps: Maps = {k: (v[0] * 255).round().to(torch.uint8).numpy() for k, v in levels.items()}
    empty = np.zeros_like(maps["visible"])
    labels = np.broadcast_to(np.asarray(labels, np.uint8), empty.shape).copy()
    salient = 255 * (labels == LABELS.index("person")).astype(np.uint8)
    return maps | {"salient": salient, "veil": empty, "labels": labels}


def recorded_facts(has_oracle: bool = False) -> dict[str, float | Array]:
    """Return the facts of images of cameras: nothing is known."""
    facts: dict[str, float | Array] = dict.fromkeys((*SETTINGS, "night", "gain"), 0.0)
    facts |= {"has_oracle": float(has_oracle), "recorded": 1.0}
    facts |= {"held_out": 0.0, "held_out_every": 0.0}
    facts["quantiles"] = np.zeros(QUANTILES, np.float32)
    return facts


def resize(maps: Maps, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Cut a box (top, left, height, width) out of all maps and bring it to ``(6, 128, 128)``."""
    top, left, height, width = box
    rows, columns = slice(top, top + height), slice(left, left + width)
    parts = np.stack([maps[name][rows, columns] for name in MAPS[:-1]])
    smooth = torch.from_numpy(parts)[None].float()
    smooth = resize_square(smooth, SIDE).round().clamp(0, 255)
    labels = torch.from_numpy(maps["labels"][rows, columns].copy())[None, None].float()
    labels = F.interpolate(labels, (SIDE, SIDE), mode="nearest-exact")
    return torch.cat([smooth, labels], 1)[0].to(torch.uint8).numpy()


def choose_boxes(
    maps: Maps, count: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Choose squares: the whole, most of it, then crops around a person, a vehicle, or anywhere."""
    height, width = maps["labels"].shape
    boxes = [(0, 0, height, width)]
    if count > 3:
        rows, columns = (int(rng.uniform(0.6, 0.95) * length) for length in (height, width))
        top, left = (
            int(rng.uniform(0, 1) * (a - b)) for a, b in ((height, rows), (width, columns))
        )
        boxes.append((top, left, rows, columns))
    for number in range(count - len(boxes)):
        side = int(np.exp(rng.uniform(np.log(min(72, height)), np.log(min(height, width)))))
        wanted = LABELS.index(("person", "vehicle", "nothing")[number % 3])
        places = np.argwhere(maps["labels"] == wanted) if number % 3 < 2 else np.empty((0, 2))
        if len(places):
            spot = places[rng.integers(len(places))] - rng.uniform(0.15, 0.85, 2) * side
        else:
            spot = rng.uniform(0, 1, 2) * (height - side, width - side)
        top, left = np.clip(spot, 0, (height - side, width - side)).astype(int)
        boxes.append((int(top), int(left), side, side))
    return boxes


Source = tuple[Maps, dict[str, float | Array]]


def write_shard(folder: Path, sources: Iterable[Source], count: int, seed: int) -> int:
    """Write the squares of some views as one shard; return how many.

    Args:
        folder: of the shard; ``facts.npz`` comes last and says that all is there.
        sources: maps and facts of each view.
        count: squares of a view.
        seed: of the choice of squares.
    """
    squares, facts = [], []
    for number, (maps, known) in enumerate(sources):
        rng = np.random.default_rng([seed, number])
        for box in choose_boxes(maps, count, rng):
            squares.append(resize(maps, box))
            facts.append(known)
    if not squares:
        raise ValueError(f"{folder}: there are no views to pack")
    with atomic_path(folder / "maps.npy") as temporary:
        np.save(temporary, np.stack(squares))
    columns: dict[str, Any] = {
        name: np.stack([f[name] for f in facts]).astype(np.float32) for name in facts[0]
    }
    with atomic_path(folder / "facts.npz") as temporary:
        np.savez(temporary, **columns)
    return len(squares)


def pack(
    pool: Path,
    out: Path,
    real: str | os.PathLike[str] | None = None,
    count: int = 5,
    seed: int = 0,
    held_out_every: int = HELD_OUT_EVERY,
) -> int:
    """Pack the views of a pool, and the frames of real sets, that are not packed yet.

    Args:
        pool: as `experiments.embedded_clip.pool.render_pool` fills it. What lacks a full shard goes
            into one that is written again next time.
        out: folder of the shards.
        real: folder of real sets as in `ldf_utils.data.pairs.find_sets`, or None.
        count: squares of a rendered view.
        seed: of the choice of squares.
        held_out_every: every how many-th world is for evaluation, 1 for all; shards with another
            number are written again.

    Returns:
        How many squares there are now.

    Raises:
        FileNotFoundError: if the pool has no complete world.
    """
    paths = view_paths(pool)
    for start in tqdm(range(0, len(paths), _SHARD), desc="packing views"):
        part = paths[start : start + _SHARD]
        name = f"views_{start:06d}_{len(part)}_{part[0].stem}_{part[-1].stem}_{held_out_every}"
        if (out / name / "facts.npz").exists():
            continue
        sources = (read_view(path, held_out_every) for path in part)
        write_shard(out / name, sources, count, seed + start)
        for old in out.glob(f"views_{start:06d}_*"):
            if old.name != name:
                _remove(old)
    for name, pairs in trainable_sets(real).items() if real else ():
        squares, label = _REAL[name]
        if not (out / f"real_{name}" / "facts.npz").exists():
            frames = (
                (recorded_maps(p.infrared, p.luminance, label), recorded_facts()) for p in pairs
            )
            write_shard(out / f"real_{name}", frames, squares, seed)
    return len(Pieces(out))


def _remove(shard: Path) -> None:
    for name in ("facts.npz", "maps.npy"):
        (shard / name).unlink(missing_ok=True)
    shard.rmdir()
