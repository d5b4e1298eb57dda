"""Truth: what is known of a rendered pair, read from the folders beside ``ir/`` and ``vi/``.

Real pairs have none of it. ``ldf_utils/data/rendered/README.md`` says how each folder is coded,
``docs/rendered_world.md`` how the oracle is made and where it is a choice.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import ImageError, find_picture
from ldf_utils.data.pairs import Pair, PairFolder

LABELS = (
    "sky", "person", "car", "van", "truck", "bus", "bicycle", "motorcycle", "building", "road",
    "ground", "vegetation", "water", "pole", "bench", "fence", "furniture", "wall", "floor",
    "other",
)  # fmt: skip
"""Names of the classes in ``labels/``, by number."""

NEEDED = ("oracle", "instances", "temperature")
"""The folders that an evaluation against the truth reads."""

WARM_KELVIN = 2.0  # a person or vehicle is warm if it exceeds its surroundings by this on average
_RING = 6  # width of the surroundings of a person or vehicle in pixels


def read_facts(folder: Path) -> dict[str, dict[str, Any]]:
    """Read ``facts.json`` of a rendered set.

    Args:
        folder: the folder of the set.

    Returns:
        Stem of a pair to its facts: ``light``, ``air``, ``layout``, ``people``, ``caption``, ...

    Raises:
        ImageError: if the file is missing or not as expected.
    """
    path = folder / "facts.json"
    try:
        return {facts["name"]: facts for facts in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"{path}: expected a JSON list of facts with the name of each pair, found "
            f"{type(error).__name__}: {error}. Only rendered sets have it"
        ) from error


class Truth:
    """What is known of one rendered pair; each part is read when it is asked for.

    Args:
        folder: the folder of the set.
        name: the stem of the pair.

    Raises:
        ImageError: by any part whose file is missing or cannot be read.

    Example:
        >>> truth = Truth(RENDERED / "test", "0014")  # doctest: +SKIP
        >>> truth.facts["light"], truth.people.sum()  # doctest: +SKIP
        ('night', tensor(2711))
    """

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = Path(folder), name

    def _read(self, kind: str) -> torch.Tensor:
        path = find_picture(self.folder / kind, self.name)
        if path is None:
            raise ImageError(
                f"{self.folder / kind}: no picture for the pair {self.name!r}; expected "
                f"{self.name}.png or {self.name}.jpg. Only rendered sets have it"
            )
        return read_image(path)

    def _codes(self, kind: str) -> torch.Tensor:
        return (self._read(kind)[:1] * 255).round().to(torch.uint8)

    @functools.cached_property
    def oracle(self) -> torch.Tensor:
        """The answer of a perfect fusion, luminance ``(1, H, W)`` in [0, 1]."""
        return luminance(self._read("oracle"))

    @functools.cached_property
    def labels(self) -> torch.Tensor:
        """The class of every pixel, ``(1, H, W)`` uint8, numbers of `LABELS`."""
        return self._codes("labels")

    @functools.cached_property
    def instances(self) -> torch.Tensor:
        """The number of the person or vehicle, ``(1, H, W)`` uint8, 0 for none."""
        return self._codes("instances")

    @functools.cached_property
    def temperature(self) -> torch.Tensor:
        """Degrees Celsius, ``(1, H, W)``, -30 to 46.5."""
        return -30 + 0.3 * self._codes("temperature").float()

    @functools.cached_property
    def facts(self) -> Mapping[str, Any]:
        """Place, light, air, counts and caption, as in ``facts.json``."""
        return read_facts(self.folder)[self.name]

    @functools.cached_property
    def people(self) -> torch.Tensor:
        """Where people are seen, ``(1, H, W)`` bool."""
        return self.labels == LABELS.index("person")

    @functools.cached_property
    def warm(self) -> torch.Tensor:
        """The people and vehicles that are warm, ``(1, H, W)`` bool.

        One is warm if its mean temperature is at least 2 kelvin above the mean of the ring of 6
        pixels around it, other people and vehicles left out.
        """
        instances, warm = self.instances, torch.zeros_like(self.instances, dtype=torch.bool)
        free = instances == 0
        for number in instances.unique().tolist():
            if not number:
                continue
            window = _with_ring(instances == number)
            mask, temperature = instances[window] == number, self.temperature[window]
            near = F.max_pool2d(mask.float(), 2 * _RING + 1, 1, _RING) > 0
            ring = near & free[window]
            if ring.any():
                excess = temperature[mask].mean() - temperature[ring].mean()
                warm[window] |= mask & (excess >= WARM_KELVIN)
        return warm


def _with_ring(mask: torch.Tensor) -> tuple[slice, ...]:
    """Return the part of ``(1, H, W)`` that a mask and its ring lie in."""
    rows, columns = mask[0].nonzero(as_tuple=True)
    return (
        slice(None),
        *(slice(max(0, int(x.min()) - _RING), int(x.max()) + _RING + 1) for x in (rows, columns)),
    )


def truth_of(pair: Pair) -> Truth | None:
    """Return what is known of a pair, or None where it is not of a rendered set."""
    path = pair.visible_path
    if path is None or not (path.parents[1] / "facts.json").is_file():
        return None
    return Truth(path.parents[1], pair.name)


def warm_people(pair: Pair) -> int:
    """Count the pixels of people that are warmer than their surroundings; 0 without the truth.

    The notebooks show the pair in which there are most of them.
    """
    return _warm_people(truth_of(pair))


def _warm_people(truth: Truth | None) -> int:
    return int((truth.people & truth.warm).sum()) if truth else 0


def by_people(pairs: PairFolder) -> list[int]:
    """List the numbers of the pairs of a rendered set, the one with most warm people first.

    The pictures of the pairs are not read.

    Returns:
        The numbers, or an empty list for a set of which nothing is known.
    """
    if not (pairs.folder / "facts.json").is_file():
        return []
    people = [_warm_people(Truth(pairs.folder, name)) for name in pairs.names]
    return sorted(range(len(pairs)), key=lambda number: -people[number])
