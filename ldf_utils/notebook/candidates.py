"""Fused versions of many pairs at the size that CLIP sees, to be scored against a sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import functional as F

from ldf_utils.clip.model import resize_square
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import find_picture
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.fusion.rules import RULES
from ldf_utils.networks.checkpoint import load_network

LABELS = {"laplacian_pyramid": "pyramid", "guided_filter": "guided"}
"""Short names of rules for figures."""


def shrink(image: torch.Tensor, longest: int) -> torch.Tensor:
    """Make luminance ``(1, 1, h, w)`` of ``(C, H, W)``, its longer side at most `longest`."""
    gray = luminance(image)[None]
    factor = min(1.0, longest / max(gray.shape[-2:]))
    return F.interpolate(gray, scale_factor=factor, mode="bilinear", antialias=True)


@dataclass
class Candidates:
    """Hold the sources and the fused images of N pairs as squares ``(n, 1, side, side)``.

    Attributes:
        pairs: how many there are.
        images: ``infrared``, ``visible`` and each method to its squares.
        which: method to the numbers of the pairs that it has; published results may lack some.
    """

    pairs: int = 0
    images: dict[str, torch.Tensor] = field(default_factory=dict)
    which: dict[str, list[int]] = field(default_factory=dict)

    @property
    def complete(self) -> list[str]:
        """The methods that have all pairs."""
        return [label for label, numbers in self.which.items() if len(numbers) == self.pairs]

    def add(self, label: str, images: torch.Tensor, numbers: list[int] | None = None) -> None:
        """Add a method, for all pairs if their numbers are not given."""
        self.images[label] = images
        self.which[label] = numbers or list(range(self.pairs))


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
    rows: dict[str, dict[int, torch.Tensor]] = {}
    for pairs in sets.values():
        places = torch.linspace(0, len(pairs) - 1, min(count, len(pairs))).long().tolist()
        for pair in (pairs[place] for place in places):
            sources = shrink(pair.infrared, longest), shrink(pair.visible, longest)
            shown = {"infrared": sources[0], "visible": sources[1]}
            with torch.no_grad():
                shown |= {label: fuse(*sources) for label, fuse in methods.items()}
            files = _published(pairs, pair.name)
            shown |= {label: shrink(read_image(path), longest) for label, path in files.items()}
            for label, image in shown.items():
                rows.setdefault(label, {})[made.pairs] = resize_square(image, side)
            made.pairs += 1
    for label, squares in rows.items():
        made.images[label] = torch.cat(list(squares.values()))
        if label not in ("infrared", "visible"):
            made.which[label] = list(squares)
    return made


def _published(pairs: PairFolder, stem: str) -> dict[str, Path]:
    """Label to the file of each result that comes with a set."""
    files = {f"{m} (published)": pairs.fused_path(m, stem) for m in pairs.fused_methods()}
    files["oracle"] = find_picture(pairs.folder / "oracle", stem)
    return {label: path for label, path in files.items() if path}


def level_with(best: str, scores: Mapping[str, torch.Tensor]) -> list[str]:
    """List the methods that the best one does not beat by two standard errors: ties.

    Args:
        best: the method with the highest mean.
        scores: method to one score a pair, ``(n,)``, the same pairs for all.

    Example:
        >>> scores = {"a": torch.tensor([0.5, 0.6]), "b": torch.tensor([0.4, 0.6])}
        >>> level_with("a", scores)
        ['b']
    """
    ahead = {label: scores[best] - mine for label, mine in scores.items() if label != best}
    return [k for k, d in ahead.items() if d.mean() <= 2 * d.std() / len(d) ** 0.5]
