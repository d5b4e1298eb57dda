"""Sets that are one file of a model hub, kept in the hub's own cache, where open_clip looks.

The file is laid out as the hub's client does on systems without links: it is
``models--OWNER--REPO/snapshots/REVISION/FILE`` itself.
https://huggingface.co/docs/huggingface_hub/guides/manage-cache

It is not fetched by `huggingface_hub.hf_hub_download`: measured against a local server, version
2.4 of that client discards the partial file of an interrupted run, so that 605 MB start over, and
accepts content of a wrong hash. Finding and deleting the file is left to the client.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from data_download import store
from data_download.registry import DataSet, Roots
from data_download.store import Options, human

folders, summary, verify = store.folders, store.summary, store.verify


def get(dataset: DataSet, roots: Roots, options: Options, registry: Mapping[str, DataSet]) -> str:
    """Fetch the file of the pinned revision into the hub's cache.

    The reference ``main``, which open_clip asks for, is set to the pinned revision if there is
    none: without it the client does not find the file offline. One that is there is left alone.

    Args:
        dataset: the set.
        roots: ``hub`` is the hub's cache.
        options: how to fetch; HF_HUB_OFFLINE forbids it unless there is a mirror.
        registry: every set.

    Returns:
        One line that says what was done.

    Raises:
        SetError: if the file could not be fetched or is not the expected one.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not options.mirror:
        options = dataclasses.replace(options, offline=True)
    path = roots.path(dataset.files[0])
    blob = path.resolve() if path.is_symlink() else None  # as the client lays files out
    done = store.get(dataset, roots, options, registry)
    if options.dry_run:
        return done
    if blob is not None and not path.is_symlink():  # it was damaged and is replaced
        blob.unlink(missing_ok=True)
    [folder] = folders(dataset, roots)
    reference = folder / "refs" / "main"
    if not reference.is_file():
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(dataset.commit)
    named = reference.read_text().strip()
    if named == dataset.commit:
        return done
    return (
        f"{done}. Note: {reference} names {named}, so open_clip loads that revision and not "
        f"{dataset.commit}; delete this file and run the command again to pin it"
    )


def remove(
    dataset: DataSet, roots: Roots, options: Options, registry: Mapping[str, DataSet]
) -> str:
    """Remove the pinned revision from the hub's cache."""
    import huggingface_hub

    path = roots.path(dataset.files[0])
    size = path.stat().st_size if path.is_file() else 0
    count = int(path.is_file())
    if options.dry_run:
        return f"{path}\n{dataset.name}: would remove {count} files ({human(size)})"
    if count:
        huggingface_hub.scan_cache_dir(roots.hub).delete_revisions(dataset.commit).execute()
    return f"{dataset.name}: removed {count} files ({human(size)})"


def cache_dir() -> Path:
    """Name the hub's cache: HF_HUB_CACHE, or the folder ``hub`` in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
