"""The tour: a few real pairs of three public sets, at most 15 MB, or one line that says why not.

Scenes are chosen as a teacher would: people by night, glare, smoke, a person behind branches,
streets by day. The registry's sets ``tour-...`` name them; source and license of each go into
``SOURCE.md`` beside the pairs.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from data_download import api, store, video
from data_download.errors import DownloadError
from data_download.registry import DataSet, Roots, load_registry
from data_download.store import Options, SetError, human
from data_download.transfer import Fetcher, Job, Policy
from ldf_utils.data import files

FOLDER = "tour"
WAIT = 5.0
"""Seconds within which the network has to answer."""


def fetch(
    to: str | os.PathLike | None = None,
    *,
    wait: float = WAIT,
    mirror: str | None = None,
    registry: Mapping[str, DataSet] | None = None,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Complete the tour, and say in one line which pairs there are.

    Without a network, with a full disk, or if a file differs from its hash, nothing is raised: the
    line says so, and the caller goes on with the rendered pairs.

    Args:
        to: the folder of sets, in which the tour is the folder ``tour``; None for ``data`` in the
            current folder.
        wait: seconds after which a network that has not answered is given up; later the seconds
            after which a file is given up that makes no progress.
        mirror: as in `data_download.store.Options`.
        registry: the sets; None for those that ship.
        say: receives the line.

    Returns:
        A folder that `ldf_utils.data.pairs.find_sets` reads, or None if no set is complete.

    Example:
        >>> folder = fetch()  # doctest: +SKIP
    """
    policy = Policy(retries=1, backoff=min(wait, 0.5), timeout=wait)
    options = Options(mirror=mirror, quiet=True, policy=policy)
    registry = load_registry() if registry is None else registry
    done: list[DataSet] = []
    reasons: list[str] = []
    answered = False
    for dataset in registry.values():
        if not dataset.name.startswith(f"{FOLDER}-"):
            continue
        module, roots = api.module_of(dataset), api.roots_for(dataset, to)
        try:
            if not _is_complete(dataset, roots):
                if dataset.kind == "video":
                    video.require_pyav()
                _probe(dataset, roots, options, wait)
                answered = True
                module.get(dataset, roots, options, registry)
            done.append(dataset)
        except video.PyAVMissing:
            reasons.append("video clips need PyAV: python -m pip install av")
        except (SetError, DownloadError, OSError) as error:
            if _reason(error) not in reasons:
                reasons.append(_reason(error))
            if not answered and getattr(error, "retry", False):
                break  # no network: each further set would wait as long
    folder = (Path(to) if to is not None else Path("data")) / FOLDER
    return _report(folder, done, reasons, say)


def use(to: str | os.PathLike | None = None, *, say: Callable[[str], None] = print) -> None:
    """Let the notebooks of this process read the tour, unless ``LDF_DATA_DIR`` names other pairs.

    Args:
        to: as in `fetch`.
        say: receives one line that says which pairs are used.
    """
    if not os.environ.get("LDF_DATA_DIR"):
        folder = fetch(to, say=say)
        if folder is not None:
            os.environ["LDF_DATA_DIR"] = str(folder.resolve())


def _is_complete(dataset: DataSet, roots: Roots) -> bool:
    try:
        api.module_of(dataset).verify(dataset, roots)
    except SetError:
        return False
    return True


def _probe(dataset: DataSet, roots: Roots, options: Options, wait: float) -> None:
    """Fetch the smallest missing file once, to see whether its server answers."""
    missing = [file for file, wrong in store.status(dataset, roots).items() if wrong]
    if missing:
        file = min(missing, key=lambda file: file.bytes or 0)
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary)
            url = store.url(dataset, file, options.mirror)
            job = Job(url, place / "file", file.bytes, file.hash)
            Fetcher(Policy(retries=0, timeout=wait), 1).fetch(job, place, FOLDER)


def _reason(error: Exception) -> str:
    """Shorten an error to one line without what to do about it."""
    text = files.explain(error) if isinstance(error, OSError) else str(error)
    lines = text.strip().splitlines()
    if isinstance(error, DownloadError) and len(lines) > 1:  # an address, then what is wrong
        host = urlsplit(lines[0]).netloc or Path(lines[0]).name
        what = re.split("[;:] ", lines[1].strip())[0]
        if what.startswith("0 bytes in"):
            what = what.replace("0 bytes", "no answer").split(",")[0]
        return f"{host}: {what}"
    return lines[0].split("; ")[0].rstrip(":")


def _report(
    folder: Path, done: list[DataSet], reasons: list[str], say: Callable[[str], None]
) -> Path | None:
    again = f"`python -m data_download {FOLDER}`"
    homes = [folder.parent / dataset.spec["folder"] for dataset in done]
    present = {path.parent for path in folder.glob("*/ir")} & {
        path.parent for path in folder.glob("*/vi")
    }
    if not done or present != set(homes):  # half a set cannot be read
        why = f" ({'; '.join(reasons)})" if reasons else ""
        say(f"no real pairs{why}: going on with the rendered ones; {again} fetches real ones later")
        return None
    named = [f"{home.name} ({sum(1 for _ in (home / 'ir').iterdir())})" for home in homes]
    size = sum(path.stat().st_size for home in homes for path in home.rglob("*") if path.is_file())
    listed = ", ".join(named[:-1]) + (" and " if named[1:] else "") + named[-1]
    more = f"; not complete ({'; '.join(reasons)}): {again} adds the rest later" if reasons else ""
    say(f"real pairs of {listed}, {human(size)} in {folder}{more}")
    return folder
