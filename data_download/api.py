"""What each command does, for every kind of set; the command line is a thin layer over it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import requests

from data_download import hub, manual, store, video
from data_download.errors import DownloadError, explain
from data_download.registry import DataSet, Roots, load_registry, weights_dir
from data_download.store import Options, SetError
from data_download.transfer import Fetcher, Job, Policy, is_address

_KINDS: dict[str, ModuleType] = {
    "files": store,
    "video": video,
    "hub": hub,
    "manual": manual,
}
_REFUSALS = (401, 403, 429)  # of pages that refuse programs, and so do answer


def roots_for(dataset: DataSet, to: str | os.PathLike | None = None) -> Roots:
    """Name the folders that a set is laid out in.

    Args:
        dataset: the set.
        to: the folder of sets; None for ``data`` in the current folder. A set of weights alone
            goes there as well; otherwise weights go to `weights_dir`.
    """
    weights_only = bool(dataset.files) and all(file.place == "weights" for file in dataset.files)
    weights = Path(to) if to is not None and weights_only else weights_dir()
    return Roots(Path(to) if to is not None else Path("data"), weights, hub.cache_dir())


def with_required(names: list[str], registry: Mapping[str, DataSet]) -> list[DataSet]:
    """List the named sets and those they require, each once, required ones first.

    Raises:
        SetError: if a name is not in the registry.
    """
    chosen: dict[str, DataSet] = {}
    for name in names:
        if name not in registry:
            raise SetError(f"{name!r} is no set; there are {', '.join(registry)}")
        for other in registry[name].requires:
            chosen.setdefault(other, registry[other])
        chosen.setdefault(name, registry[name])
    return list(chosen.values())


def module_of(dataset: DataSet) -> ModuleType:
    """Name the module that knows this kind of set."""
    return _KINDS[dataset.kind]


def get(
    name: str,
    to: str | os.PathLike | None = None,
    options: Options | None = None,
    registry: Mapping[str, DataSet] | None = None,
) -> Path:
    """Complete a set and say where it is.

    Args:
        name: a set of the registry.
        to: the folder of sets; None for ``data`` in the current folder.
        options: how to fetch; None for the defaults.
        registry: the sets; None for those that ship.

    Returns:
        The folder of its images where it has some, else that of its weights.

    Raises:
        SetError: if the set is not known or files of it are still missing.

    Example:
        >>> folder = get("roadscene")  # doctest: +SKIP
    """
    registry = load_registry() if registry is None else registry
    for dataset in with_required([name], registry):
        roots = roots_for(dataset, to)
        print(module_of(dataset).get(dataset, roots, options or Options(), registry))
    places: list[Path] = module_of(dataset).folders(dataset, roots)
    return next((place for place in places if place.parent == roots.data), places[0])


def verify(
    name: str,
    to: str | os.PathLike | None = None,
    registry: Mapping[str, DataSet] | None = None,
) -> str:
    """Compare every file of a set with its hash.

    Returns:
        One line that says that all is well.

    Raises:
        SetError: if the set is not known, or a file is missing or differs.
    """
    registry = load_registry() if registry is None else registry
    [*_, dataset] = with_required([name], registry)
    text: str = module_of(dataset).verify(dataset, roots_for(dataset, to))
    return text


def check_links(
    registry: Mapping[str, DataSet], policy: Policy | None = None
) -> Iterator[tuple[str, str | None]]:
    """Check that the real addresses of the registry still answer.

    Of each repository at its commit the smallest file is fetched and verified; a file of a model
    hub is asked for its size; weights, pages and drives have to answer.

    Args:
        registry: the sets.
        policy: how patient to be.

    Yields:
        An address, and None or what is wrong with it.
    """
    policy = policy or Policy()
    sources: dict[tuple[str, str, str], DataSet] = {}
    pages: dict[str, None] = {}
    for dataset in registry.values():
        pages[dataset.homepage] = None
        if dataset.kind in ("files", "video"):
            for file in dataset.files:
                if file.place == "weights":  # large: whether they are there is enough
                    pages[store.url(dataset, file, None)] = None
            sources.setdefault((dataset.base, dataset.source, dataset.commit), dataset)
        elif dataset.kind == "hub":
            [file] = dataset.files
            address = store.url(dataset, file, None)
            yield address, _problem("HEAD", address, policy, file.bytes)
        else:
            pages.update((text.split()[0], None) for text in dataset.spec["urls"])
    for dataset in sources.values():
        yield _smallest(dataset, policy)
    for page in filter(is_address, pages):
        yield page, _problem("GET", page, policy)


def _smallest(dataset: DataSet, policy: Policy) -> tuple[str, str | None]:
    known = [file for file in dataset.files if file.bytes is not None]
    file = min(known or dataset.files, key=lambda file: file.bytes or 0)
    address = store.url(dataset, file, None)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(address, Path(folder) / "file", file.bytes, file.hash)
        try:
            Fetcher(policy, 1).fetch(job, Path(folder), dataset.name)
        except DownloadError as error:
            return address, str(error)
    return address, None


def _problem(method: str, address: str, policy: Policy, expected: int | None = None) -> str | None:
    try:
        with requests.request(
            method, address, timeout=policy.timeout, stream=True, allow_redirects=True
        ) as answer:
            if answer.status_code not in _REFUSALS or expected is not None:
                answer.raise_for_status()
            found = int(answer.headers.get("Content-Length", -1))
    except (requests.RequestException, ValueError) as error:
        return str(explain(error, address))
    if expected is not None and found != expected:
        return f"{address}\n  expected {expected} bytes, found {found}"
    return None
