"""Fetch the small public datasets before a run of the tutorial on real pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import data_download
from data_download.errors import DownloadError
from data_download.store import Options, SetError
from data_download.transfer import Policy
from ldf_utils.data.images import ImageError
from ldf_utils.data.pairs import find_sets

SMALL = ("roadscene", "tno", "vifb", "ldfusion-examples", "ld-lite")
"""Datasets of pinned commits, about 43 MB together: pairs, published results, LD-Lite's weights."""


def fetch(
    folder: Path,
    options: Options | None = None,
    names: Sequence[str] = SMALL,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Complete the small datasets in a folder.

    Args:
        folder: the folder of datasets.
        options: how to fetch; by default an unreachable address is tried twice.
        names: the datasets.
        say: receives one line of text if the datasets cannot be fetched.

    Returns:
        The folder, or None where the datasets cannot be fetched and rendered pairs take over.
    """
    options = options or Options(policy=Policy(retries=1, timeout=10))
    try:
        for name in names:
            data_download.get(name, to=folder, options=options)
        find_sets(folder)
    except (SetError, DownloadError, ImageError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(":")
        say(f"real pairs cannot be fetched ({reason}); using rendered pairs instead")
        return None
    return folder
