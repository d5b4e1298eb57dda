"""The small public sets, fetched before a run of the tutorial that is to use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import data_download
from data_download.store import Options, SetError
from data_download.transfer import DownloadError, Policy
from ldf_utils.data.images import ImageError
from ldf_utils.data.pairs import find_sets

SMALL = ("roadscene", "tno", "vifb", "ldfusion-examples", "ld-lite")
"""Sets of pinned commits, about 43 MB together: pairs, published results, LD-Lite's weights."""


def fetch(
    folder: Path,
    options: Options | None = None,
    names: Sequence[str] = SMALL,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Make the small sets complete.

    Args:
        folder: the folder of sets.
        options: how to fetch; the default tries an unreachable address once more and gives up.
        names: the sets.
        say: gets what is to be said; one line if the sets can't be had.

    Returns:
        The folder, or None where the sets can't be had and generated pairs take their place.
    """
    options = options or Options(policy=Policy(retries=1, timeout=10))
    try:
        for name in names:
            data_download.get(name, to=folder, options=options)
        find_sets(folder)
    except (SetError, DownloadError, ImageError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(":")
        say(f"real pairs can't be had ({reason}); going on with generated pairs")
        return None
    return folder
