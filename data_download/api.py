"""What each command does, for every kind of set; the command line is a thin layer over it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from data_download import hub, manual, store
from data_download.registry import DataSet, Roots, load_registry, weights_dir
from data_download.store import Options, SetError

_KINDS: dict[str, ModuleType] = {"files": store, "hub": hub, "manual": manual}


def roots_for(dataset: DataSet, to: str | os.PathLike | None = None) -> Roots:
    """Where a set is laid out.

    Args:
        dataset: the set.
        to: the folder of sets; None for ``data`` in the current folder. A set of weights alone
            goes there as well; otherwise weights go to `weights_dir`.
    """
    weights_only = bool(dataset.files) and all(file.place == "weights" for file in dataset.files)
    weights = Path(to) if to is not None and weights_only else weights_dir()
    return Roots(Path(to) if to is not None else Path("data"), weights)


def with_required(names: list[str], registry: Mapping[str, DataSet]) -> list[DataSet]:
    """The named sets and those they require, each once, required ones first.

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
    """The module that knows this kind of set."""
    return _KINDS[dataset.kind]


def home(dataset: DataSet, roots: Roots) -> Path:
    """The folder of a set: that of its pictures where it has some, else that of its weights."""
    places = module_of(dataset).folders(dataset, roots)
    return next((place for place in places if place.parent == roots.data), places[0])


def get(
    name: str,
    to: str | os.PathLike | None = None,
    options: Options | None = None,
    registry: Mapping[str, DataSet] | None = None,
) -> Path:
    """Make a set complete and say where it is.

    Args:
        name: a set of the registry.
        to: the folder of sets; None for ``data`` in the current folder.
        options: how to fetch; None for the defaults.
        registry: the sets; None for those that ship.

    Returns:
        The folder of the set.

    Raises:
        SetError: if the set is not known or files of it are still missing.
    """
    registry = load_registry() if registry is None else registry
    for dataset in with_required([name], registry):
        roots = roots_for(dataset, to)
        print(module_of(dataset).get(dataset, roots, options or Options(), registry))
    return home(dataset, roots)


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
    return module_of(dataset).verify(dataset, roots_for(dataset, to))
