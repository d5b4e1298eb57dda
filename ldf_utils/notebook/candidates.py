"""Fused versions of many pairs at the size that CLIP sees, to be scored against a sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import functional as F

from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.fusion.rules import RULES
from ldf_utils.networks.checkpoint import load_network

LABELS = {"laplacian_pyramid": "pyramid", "guided_filter": "guided"}
"""Short names of rules for figures."""


def to_square(image: torch.Tensor, side: int) -> torch.Tensor:
    """Resize ``(B, 1, H, W)`` to ``(B, 1, side, side)``, as CLIP does."""
    return F.interpolate(image, (side, side), mode="bilinear", antialias=True)


def shrink(image: torch.Tensor, longest: int) -> torch.Tensor:
    """Make luminance ``(1, 1, h, w)`` of ``(C, H, W)``, its longer side at most `longest`."""
    gray = luminance(image)[None]
    factor = min(1.0, longest / max(gray.shape[-2:]))
    return F.interpolate(gray, scale_factor=factor, mode="bilinear", antialias=True)


@dataclass
class Candidates:
    """Hold the sources and the fused images of N pairs as squares ``(n, 1, side, side)``.

    Attributes:
        pairs: set and stem of each pair.
        images: ``infrared``, ``visible`` and each method to its squares.
        which: method to the numbers of the pairs that it has; published results may lack some.
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)
    images: dict[str, torch.Tensor] = field(default_factory=dict)
    which: dict[str, list[int]] = field(default_factory=dict)

    @property
    def complete(self) -> list[str]:
        """The methods that have all pairs."""
        return [label for label, numbers in self.which.items() if len(numbers) == len(self.pairs)]

    def add(self, label: str, images: torch.Tensor, numbers: list[int] | None = None) -> None:
        """Add a method, for all pairs if their numbers are not given."""
        self.images[label] = images
        self.which[label] = numbers or list(range(len(self.pairs)))


def fusers() -> dict[str, Callable[..., torch.Tensor]]:
    """Return the classical rules, the shipped network, and LD-Lite if its weights are there."""
    methods: dict[str, Callable[..., torch.Tensor]] = {
        LABELS.get(n, n): r for n, r in RULES.items()
    }
    methods["network"] = load_network("shipped")
    with contextlib.suppress(WeightsError):
        methods["LD-Lite"] = load_network("ld-lite")
    return methods


def fuse_candidates(
    sets: Mapping[str, PairFolder], count: int, side: int, longest: int = 384
) -> Candidates:
    """Fuse pairs by all of `fusers`.

    Published results and the oracle of rendered pairs are taken from the set where they are.

    Args:
        sets: name to set.
        count: pairs of each set, spread evenly over it.
        side: of the squares in pixels.
        longest: larger images are shrunk to this longer side before they are fused.
    """
    methods = fusers()
    if "LD-Lite" not in methods:
        print("LD-Lite is left out; `python -m data_download get ld-lite` fetches it (2.6 MB).")
    made = Candidates()
    rows: dict[str, list[torch.Tensor]] = {}
    files: dict[str, dict[int, Path]] = {}
    for name, pairs in sets.items():
        places = torch.linspace(0, len(pairs) - 1, min(count, len(pairs))).long().tolist()
        for place in places:
            pair, number = pairs[place], len(made.pairs)
            made.pairs.append((name, pair.name))
            sources = shrink(pair.infrared, longest), shrink(pair.visible, longest)
            with torch.no_grad():
                fused = {label: fuse(*sources) for label, fuse in methods.items()}
            shown = {"infrared": sources[0], "visible": sources[1], **fused}
            for label, image in shown.items():
                rows.setdefault(label, []).append(to_square(image, side))
            for label, path in _published(pairs, pair.name).items():
                files.setdefault(label, {})[number] = path
    for label, squares in rows.items():
        made.images[label] = torch.cat(squares)
        if label not in ("infrared", "visible"):
            made.which[label] = list(range(len(made.pairs)))
    for label, paths in files.items():
        squares = [to_square(shrink(read_image(p), longest), side) for p in paths.values()]
        made.add(label, torch.cat(squares), list(paths))
    return made


def _published(pairs: PairFolder, stem: str) -> dict[str, Path]:
    """Label to the file of each result that comes with a set."""
    files = {f"{m} (published)": pairs.fused_path(m, stem) for m in pairs.fused_methods()}
    files["oracle"] = pairs.folder / "oracle" / f"{stem}.jpg"
    return {label: path for label, path in files.items() if path and path.is_file()}


def level_with(
    best: str, scores: Mapping[str, torch.Tensor], which: Mapping[str, list[int]]
) -> list[str]:
    """List the methods that the best one does not beat by two standard errors: ties.

    The scores are compared pair by pair, over the pairs that both methods have.

    Args:
        best: the method with the highest mean.
        scores: method to one score a pair, ``(n,)``.
        which: method to the numbers of its pairs.
    """
    level = []
    for label, mine in scores.items():
        common = sorted(set(which[label]) & set(which[best]))
        if label == best or len(common) < 2:
            continue
        theirs = torch.stack([mine[which[label].index(i)] for i in common])
        ahead = torch.stack([scores[best][which[best].index(i)] for i in common]) - theirs
        if ahead.mean() <= 2 * ahead.std() / len(common) ** 0.5:
            level.append(label)
    return level
