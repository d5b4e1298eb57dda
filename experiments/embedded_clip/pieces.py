"""Packed squares, as training and evaluation read them; `experiments.embedded_clip.packing` packs.

A shard is a folder with ``maps.npy``, ``(N, 6, 128, 128)`` uint8, which is mapped into memory, and
``facts.npz``, what is known of each square. Light and temperature keep their range: they are
compressed by curves that `decode_light` and `decode_warmth` undo, so that training can draw other
cameras each time (`experiments.embedded_clip.cameras`). Images of cameras are stored as they
are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

SIDE = 128
"""Height and width of a packed square in pixels."""

MAPS = ("visible", "infrared", "oracle", "salient", "veil", "labels")
QUANTILES = 65
"""Of the temperatures of the whole view, evenly spaced: what an automatic gain depends on."""

KELVIN = 2.0  # up to this distance from the median, warmth is stored linearly
SPAN = 4.2  # asinh units to both sides: 67 kelvin


def decode_light(stored: torch.Tensor) -> torch.Tensor:
    """Return exposed luminance, at least 0, of a uint8 tensor; white (255) is 128."""
    share = (stored.float() / 255) ** 2.2
    return share / (1 - share).clamp_min(1 / 129)


def decode_warmth(stored: torch.Tensor) -> torch.Tensor:
    """Return kelvin above the median temperature of the view of a uint8 tensor."""
    return KELVIN * torch.sinh(SPAN * (stored.float() - 127.5) / 127.5)


class Pieces(Mapping[str, torch.Tensor]):
    """Squares of all shards of a folder; the facts are tensors by name, ``(N, ...)``.

    Args:
        folder: of the shards.

    Raises:
        FileNotFoundError: if there is no complete shard.

    Example:
        >>> pieces = Pieces(Path("runs/pack"))
        >>> pieces.read(torch.tensor([0, 1]))["infrared"].shape
        torch.Size([2, 128, 128])
    """

    def __init__(self, folder: Path):
        self.folder = folder
        shards = sorted(path.parent for path in folder.glob("*/facts.npz"))
        if not shards:
            raise FileNotFoundError(
                f"{folder}: found no complete shard (*/facts.npz); pack some views first, "
                "python -m experiments.embedded_clip pack"
            )
        self.maps = [np.load(shard / "maps.npy", mmap_mode="r") for shard in shards]
        self.starts = np.cumsum([0] + [len(maps) for maps in self.maps])
        rows = [dict(np.load(shard / "facts.npz")) for shard in shards]
        for row in rows:  # of an older version: it is not known
            row.setdefault("held_out_every", np.zeros_like(row["held_out"]))
        self.facts = {
            name: torch.from_numpy(np.concatenate([row[name] for row in rows])) for name in rows[0]
        }

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.facts[name]

    def where(self, *, recorded: bool, held_out: bool = False) -> torch.Tensor:
        """Return the indices of recorded or of rendered squares, of training or of evaluation."""
        chosen = (self["recorded"] == float(recorded)) & (self["held_out"] == float(held_out))
        return chosen.nonzero()[:, 0]

    @property
    def held_out_every(self) -> int:
        """Return every how many-th world is held out of training.

        Raises:
            ValueError: if the shards do not say so, or differ.
        """
        found = self["held_out_every"][self["recorded"] == 0].unique().int().tolist()
        if len(found) != 1 or found[0] < 1:
            raise ValueError(
                f"{self.folder}: expected shards that all hold out every n-th world, found n of "
                f"{found} (0: not recorded, of an older version); pack the views again"
            )
        return int(found[0])

    def read(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Read the maps of some squares, ``(G, 128, 128)`` uint8 by name, and their facts."""
        places = index.cpu().numpy()
        shard = np.searchsorted(self.starts, places, side="right") - 1
        found = [
            self.maps[s][p - self.starts[s]] for s, p in zip(shard.tolist(), places, strict=True)
        ]
        maps = torch.from_numpy(np.stack(found)).unbind(1)
        return dict(zip(MAPS, maps, strict=True)) | {k: v[index.cpu()] for k, v in self.items()}

    def summary(self) -> dict[str, int]:
        """Return how many squares there are of each kind."""
        return {
            "rendered": len(self.where(recorded=False)),
            "held_out": len(self.where(recorded=False, held_out=True)),
            "real": len(self.where(recorded=True)),
        }
