"""Sets that are one file of a model hub: kept in the hub's own cache, where open_clip looks.

The file is fetched as every other one is, at a pinned revision and by its hash, also the rest of
it after a broken run, which the hub's own client starts over. Then it is laid out as that client
does: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from data_download.registry import DataSet, Roots
from data_download.store import STAGING, Options, SetError, human, locked
from data_download.transfer import DownloadError, Fetcher, Job, address, difference, tidy


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _endpoint(dataset: DataSet) -> str:
    return (os.environ.get("HF_ENDPOINT") or dataset.base).rstrip("/")


def _offline(options: Options) -> bool:
    from huggingface_hub import constants

    return options.no_network or (constants.HF_HUB_OFFLINE and not options.mirror)


def folders(dataset: DataSet, roots: Roots) -> list[Path]:
    """The folder of the hub's cache that holds the file."""
    return [_cache() / ("models--" + dataset.source.replace("/", "--"))]


def _local(dataset: DataSet) -> Path | None:
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(
        dataset.source, dataset.spec["file"], cache_dir=_cache(), revision=dataset.commit
    )
    return Path(found) if isinstance(found, str) else None


def _wrong(dataset: DataSet) -> str | None:
    path = _local(dataset)
    if path is None:
        return "missing"
    return difference(path, dataset.spec["bytes"], dataset.spec["hash"])


def summary(dataset: DataSet, roots: Roots) -> str:
    """Whether the file is in the cache, by its size alone."""
    path = _local(dataset)
    there = path is not None and path.stat().st_size == dataset.spec["bytes"]
    return "complete" if there else "0 of 1 files"


def url(dataset: DataSet, mirror: str | None = None) -> str:
    """Where the file comes from."""
    if mirror:
        return address(mirror, dataset.source, dataset.commit, dataset.spec["file"])
    return f"{_endpoint(dataset)}/{dataset.source}/resolve/{dataset.commit}/{dataset.spec['file']}"


def get(dataset: DataSet, roots: Roots, options: Options, registry=None) -> str:
    """Bring the file of the pinned revision into the hub's cache.

    Args:
        dataset: the set.
        roots: only for the lock; the hub's cache is where HF_HOME or HF_HUB_CACHE says.
        options: how to fetch.
        registry: not used.

    Returns:
        One line that says what was done.

    Raises:
        SetError: if the file could not be fetched or is not the expected one.
    """
    [folder] = folders(dataset, roots)
    wrong, size = _wrong(dataset), dataset.spec["bytes"]
    if options.dry_run:
        if wrong is None:
            return f"{dataset.name}: would fetch nothing; {_local(dataset)} is there"
        return (
            f"{url(dataset, options.mirror)} -> {folder} ({size} bytes)\n"
            f"{dataset.name}: would fetch 1 files, {size} bytes ({human(size)})"
        )
    with locked(roots.weights / dataset.name):
        if wrong is not None:
            if _offline(options):
                raise SetError(
                    f"{dataset.name}: {dataset.spec['file']} is not in {folder} ({wrong}), and "
                    "--offline or HF_HUB_OFFLINE forbids to fetch it; run it once without"
                )
            if wrong != "missing":
                _discard(dataset)
            _cache().mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(_cache()).free
            if size > free:
                raise SetError(
                    f"{folder}: {human(size)} are needed and {human(free)} are free; make room, "
                    "or let HF_HOME name another folder"
                )
            _fetch(dataset, folder, options)
        other = _pin(dataset, folder)
    done = "was there" if wrong is None else f"{human(size)} fetched"
    return f"{dataset.name}: complete in {folder}; {done}{other}"


def _pin(dataset: DataSet, folder: Path) -> str:
    """Let the reference ``main``, which open_clip asks for, name the pinned revision.

    Without it the client does not find the file where there is no network. A reference that is
    there is left alone.
    """
    reference = folder / "refs" / "main"
    if not reference.is_file():
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(dataset.commit)
        return ""
    named = reference.read_text().strip()
    if named == dataset.commit:
        return ""
    return (
        f". Note: {reference} names {named}, so open_clip loads that revision and not "
        f"{dataset.commit}; remove this file and run the command again to pin it"
    )


def _fetch(dataset: DataSet, folder: Path, options: Options) -> None:
    blob = folder / "blobs" / dataset.spec["hash"].split(":")[1]
    pointer = folder / "snapshots" / dataset.commit / dataset.spec["file"]
    job = Job(url(dataset, options.mirror), blob, dataset.spec["bytes"], dataset.spec["hash"])
    if not blob.is_file() or difference(blob, job.bytes, job.hash):
        print(f"{dataset.name}: fetching {human(job.bytes)} from {job.url}", flush=True)
        try:
            Fetcher(options.policy, 1).fetch(job, folder / STAGING, dataset.name)
        except BaseException as error:
            tidy(folder / STAGING)
            if isinstance(error, DownloadError):
                raise SetError(f"{dataset.name}: {error}") from error
            raise
        shutil.rmtree(folder / STAGING, ignore_errors=True)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:  # a system that allows no links: the client then keeps the file itself
        os.replace(blob, pointer)


def _discard(dataset: DataSet) -> None:
    path = _local(dataset)
    if path is not None:
        blob = path.resolve()
        path.unlink()
        blob.unlink(missing_ok=True)


def verify(dataset: DataSet, roots: Roots) -> str:
    """Compare the file with its hash.

    Raises:
        SetError: if it is missing or differs.
    """
    wrong = _wrong(dataset)
    if wrong is not None:
        raise SetError(
            f"{dataset.name}: {_local(dataset) or folders(dataset, roots)[0]}: {wrong}\n"
            f"`get {dataset.name}` fetches it"
        )
    return f"{dataset.name}: {_local(dataset)} is as at the source"


def remove(dataset: DataSet, roots: Roots, options: Options, registry=None) -> str:
    """Remove the pinned revision from the hub's cache."""
    import huggingface_hub

    path = _local(dataset)
    if path is None:
        return f"{dataset.name}: removed 0 files (0 B)"
    size = path.stat().st_size
    if options.dry_run:
        return f"{path}\n{dataset.name}: would remove 1 files ({human(size)})"
    huggingface_hub.scan_cache_dir(_cache()).delete_revisions(dataset.commit).execute()
    return f"{dataset.name}: removed 1 files ({human(size)})"
