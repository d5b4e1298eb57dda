"""Do the real addresses still answer? One small file per source, and every page."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

from data_download import hub, store
from data_download.registry import DataSet
from data_download.transfer import DownloadError, Fetcher, Job, Policy, explain

_REFUSALS = (401, 403, 429)


def check_links(
    registry: Mapping[str, DataSet], policy: Policy | None = None
) -> Iterator[tuple[str, str | None]]:
    """Check every address of the registry.

    Of each repository at its commit the smallest file is fetched and verified; a file of a model
    hub is asked for its size; weights, pages and drives have to answer. A page that refuses
    programs (401, 403, 429) does answer.

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
        if dataset.kind == "files":
            for file in dataset.files:
                if file.place == "weights":  # large: whether they are there is enough
                    pages[store.url(dataset, file, None)] = None
            sources.setdefault((dataset.base, dataset.source, dataset.commit), dataset)
        elif dataset.kind == "hub":
            yield hub.url(dataset), _hub_problem(dataset, policy)
        else:
            pages.update((text.split()[0], None) for text in dataset.spec["urls"])
    for dataset in sources.values():
        yield _smallest(dataset, policy)
    for page in pages:
        if "://" in page:
            yield page, _page_problem(page, policy)


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


def _hub_problem(dataset: DataSet, policy: Policy) -> str | None:
    address = hub.url(dataset)
    job = Job(address, Path(dataset.spec["file"]), dataset.spec["bytes"], dataset.spec["hash"])
    try:
        answer = requests.head(address, timeout=policy.timeout, allow_redirects=True)
        answer.raise_for_status()
    except requests.RequestException as error:
        return str(explain(error, job, policy))
    found = int(answer.headers.get("Content-Length", -1))
    expected = dataset.spec["bytes"]
    return None if found == expected else f"{address}\n  expected {expected} bytes, found {found}"


def _page_problem(page: str, policy: Policy) -> str | None:
    try:
        with requests.get(page, timeout=policy.timeout, stream=True) as answer:
            if answer.status_code not in _REFUSALS:
                answer.raise_for_status()
    except requests.RequestException as error:
        return str(explain(error, Job(page, Path("page"), None, ""), policy))
    return None
