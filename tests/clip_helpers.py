"""Small data for the tests of the embedded CLIP, made of the rendered pairs that ship."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.embedded_clip import packing
from experiments.embedded_clip.pieces import Pieces
from ldf_utils.data.images import luminance, read_image

RENDERED = Path(packing.__file__).parents[2] / "ldf_utils" / "data" / "rendered"


def _levels(folder, name):
    path = next(path for path in (RENDERED / "train" / folder).iterdir() if path.stem == name)
    return np.asarray(Image.open(path))


def write_pool(folder, count):
    """Write views of a pool, one a world, with the light and the temperature of rendered pairs."""
    (folder / "worlds").mkdir(parents=True)
    for number, known in enumerate(json.loads((RENDERED / "train" / "facts.json").read_text())):
        if number == count:
            break
        name = known["name"]
        if number == 3:  # no place by the water among these
            known = {**known, "layout": "waterfront"}
        celsius = 0.3 * _levels("temperature", name).astype(float) - 30
        view = {
            "radiance": ((_levels("vi", name) / 255) ** 2.2).astype(np.float16),
            "celsius": np.round((celsius + 100) * 100).astype(np.uint16),
            "labels": _levels("labels", name),
            "instances": _levels("instances", name).astype(np.uint16),
            "veil": np.full(celsius.shape, 120 * (known["air"] == "fog"), np.uint8),
            "facts": json.dumps(known),
        }
        if number % 4:
            view["oracle"] = np.asarray(Image.fromarray(_levels("oracle", name)).convert("L"))
        np.savez(folder / f"{number:05d}_0.npz", **view)
        record = {"views": [f"{number:05d}_0"]}
        (folder / "worlds" / f"{number:05d}.json").write_text(json.dumps(record))
    return folder


def recorded_source(name):
    """Read a rendered pair as if cameras had recorded it and nobody knew more."""
    images = (
        luminance(read_image(RENDERED / "train" / folder / f"{name}.jpg"))
        for folder in ("ir", "vi")
    )
    return packing.recorded_maps(*images), packing.recorded_facts()


def write_pack(folder, views=44):
    """Pack views and a few recorded pairs."""
    packing.pack(write_pool(folder / "pool", views), folder / "pack", count=2)
    sources = (recorded_source(f"{number:04d}") for number in range(40, 46))
    packing.write_shard(folder / "pack" / "real_few", sources, 2, seed=0)
    return Pieces(folder / "pack")


def tiny_squares(count=4, side=128):
    """Return squares of a flat, dim place with a warm block that is labeled a person."""
    block = torch.zeros(count, side, side, dtype=torch.uint8)
    block[:, 40:90, 50:80] = 1
    return {
        "visible": torch.full_like(block, 110),
        "infrared": 100 + 90 * block,
        "oracle": 90 + 100 * block,
        "salient": 255 * block,
        "veil": torch.zeros_like(block),
        "labels": block,
        "has_oracle": torch.ones(count),
        "recorded": torch.zeros(count),
        "held_out": torch.zeros(count),
        "night": -torch.ones(count),
        "gain": torch.zeros(count),
        "quantiles": torch.linspace(-4, 20, 65).expand(count, -1).contiguous(),
        **dict.fromkeys(("street", "field", "harbor", "room"), torch.zeros(count)),
    }
