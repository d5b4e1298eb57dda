"""Which sets are worked on: real ones where a folder of them is named, else the rendered set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ldf_utils.data.pairs import PairFolder, find_sets
from ldf_utils.data.truth import read_facts

RENDERED = Path(__file__).parent / "rendered"
"""The set that ships: ``train/``, ``test/``, ``sequence/``, ``parallax/``."""


class RenderedPairs(PairFolder):
    """Those pairs of a part of the rendered set whose facts are as wanted.

    Args:
        name: of the set.
        split: the part.
        wanted: takes the facts of a pair, see `ldf_utils.data.truth.read_facts`.

    Example:
        >>> RenderedPairs("Smoke", "test", lambda facts: facts["air"] == "smoke")  # doctest: +SKIP
    """

    def __init__(self, name: str, split: str, wanted: Callable[[Mapping[str, Any]], bool]):
        super().__init__(RENDERED / split)
        facts = read_facts(self.folder)
        self.files = [entry for entry in self.files if wanted(facts[entry[0]])]
        self._name = name

    @property
    def name(self) -> str:
        """The name of the set."""
        return self._name


def rendered_sets(split: Literal["train", "test"] = "test") -> dict[str, RenderedPairs]:
    """Open the rendered set, as `open_sets` does where no folder of sets is named."""
    return {
        "RenderedDay": RenderedPairs("RenderedDay", split, lambda facts: facts["light"] != "night"),
        "RenderedNight": RenderedPairs(
            "RenderedNight", split, lambda facts: facts["light"] == "night"
        ),
    }


def open_sets(
    data_dir: str | os.PathLike | None = None, split: Literal["train", "test"] = "test"
) -> dict[str, PairFolder]:
    """Open the sets to work with.

    Args:
        data_dir: a folder of sets as in `ldf_utils.data.pairs.find_sets`; if None or empty, the
            environment variable ``LDF_DATA_DIR``; if that is unset too, the rendered set.
        split: which part of the rendered set: ``train`` has 64 pairs of 320 x 240 pixels,
            ``test`` 24 of 640 x 480 in other worlds. Folders of sets have no parts, so all their
            pairs are returned for either.

    Returns:
        Set name to pairs. The rendered ones are ``RenderedDay`` (by day, at dusk and in lit rooms)
        and ``RenderedNight``.

    Raises:
        ImageError: as `ldf_utils.data.pairs.find_sets`.

    Example:
        >>> {name: len(pairs) for name, pairs in open_sets().items()}  # doctest: +SKIP
        {'RenderedDay': 13, 'RenderedNight': 11}
    """
    data_dir = data_dir or os.environ.get("LDF_DATA_DIR")
    return find_sets(data_dir) if data_dir else dict(rendered_sets(split))
