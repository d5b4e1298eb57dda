"""Evaluate: folders of fused pictures to rows of metrics, several pairs at the same time."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ldf_utils import metrics as metrics_package
from ldf_utils.data.files import write_json
from ldf_utils.data.images import ImageError, luminance, read_image
from ldf_utils.data.pairs import Pair, PairFolder
from ldf_utils.data.sets import RENDERED
from ldf_utils.data.truth import NEEDED, Truth
from ldf_utils.evaluation.workers import run_in_order
from ldf_utils.metrics import (
    TRUTH,
    Metric,
    as_uint8,
    measure,
    measure_against_oracle,
    select,
)

ORACLE = "oracle"  # the method whose results are the truth

Row = dict[str, Any]
Fuser = Callable[[Pair], torch.Tensor]
Report = Callable[[str], None]


class EvaluationWarning(UserWarning):
    """A result that could not be measured; the others were."""


def _warn(problem: str) -> None:
    warnings.warn(problem, EvaluationWarning, stacklevel=3)


# --- the pictures of one pair ---------------------------------------------------------------------


def _read_sized(path: Path, size: Sequence[int]) -> torch.Tensor:
    """Read the luminance of a picture, ``(1, H, W)``, checked to have the size of its sources."""
    picture = luminance(read_image(path))
    if tuple(picture.shape[-2:]) != tuple(size):
        (height, width), (h, w) = size, picture.shape[-2:]
        raise ImageError(
            f"{path} is {w} x {h} pixels, its sources are {width} x {height}; metrics compare "
            "pixel by pixel. Save the result at the size of the sources"
        )
    return picture


def read_fused(pairs: PairFolder, method: str, name: str, size: Sequence[int]) -> torch.Tensor:
    """Read the result of a method for a pair, ``(1, H, W)`` in [0, 1].

    Args:
        pairs: the set.
        method: its results lie in ``fused_METHOD/``.
        name: of the pair.
        size: height and width of its sources.

    Raises:
        ImageError: if there is none, it cannot be read, or it has another size.
    """
    path = pairs.fused_path(method, name)
    if path is None:
        raise ImageError(
            f"{pairs.folder / f'fused_{method}'}: no result for the pair {name!r}; expected "
            f"{name}.png (or another picture of that stem). Fuse this pair with the method, "
            "or leave the method out"
        )
    return _read_sized(path, size)


def fuse(method: str, function: Fuser, pair: Pair) -> torch.Tensor:
    """Fuse a pair by a function, ``(1, H, W)`` in [0, 1].

    Raises:
        ImageError: if what it returns is not luminance of the size of the pair.
    """
    fused = function(pair)
    if fused.ndim == 4 and fused.shape[0] == 1:
        fused = fused[0]
    if fused.shape != pair.infrared.shape:
        raise ImageError(
            f"{method} made a picture of shape {tuple(fused.shape)} for the pair {pair.name!r}, "
            f"expected {tuple(pair.infrared.shape)}: luminance of the size of the sources"
        )
    return fused.detach().cpu()


def _read_truth(pairs: PairFolder, name: str, size: Sequence[int]) -> list[torch.Tensor]:
    """Read the oracle and the mask of what is warm of a pair, ``(1, 1, H, W)`` uint8 each."""
    truth = Truth(pairs.folder, name)
    for known in (truth.oracle, truth.instances, truth.temperature):
        if tuple(known.shape[-2:]) != tuple(size):
            (height, width), (h, w) = size, known.shape[-2:]
            raise ImageError(
                f"{pairs.folder}: the truth of the pair {name!r} is {w} x {h} pixels, its sources "
                f"are {width} x {height}; copy {', '.join(NEEDED)} and the pictures of one set"
            )
    return [as_uint8(known[None]) for known in (truth.oracle, truth.warm.float())]


def check_truth(pairs: PairFolder) -> None:
    """Check that a set has its truth beside the pairs.

    Raises:
        ValueError: if it has not.
    """
    missing = [x for x in NEEDED if not (pairs.folder / x).is_dir()]
    if missing:
        raise ValueError(
            f"{pairs.folder}: no folder {' and no folder '.join(missing)}; the truth is known of "
            f"rendered sets only. Copy one, such as {RENDERED / 'test'}"
        )


# --- values, kept by content ----------------------------------------------------------------------


@functools.cache
def _definitions() -> bytes:
    """Hash the code of the metrics: a changed definition makes old values void."""
    digest = hashlib.sha256()
    for path in sorted(Path(metrics_package.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


@dataclass
class _Cache:
    """Values of metrics by the content of the three pictures, one small file each."""

    folder: Path | None
    failure: str = ""

    def values(
        self,
        function: Callable[..., dict[str, torch.Tensor]],
        triple: Sequence[torch.Tensor],
        names: Sequence[str],
    ) -> dict[str, float]:
        """Return the values of these names by a function, from the folder if they are there."""
        if self.folder is None:
            return {name: value.item() for name, value in function(*triple, names).items()}
        digest = hashlib.sha256(_definitions())
        for image in triple:
            digest.update(repr(tuple(image.shape)).encode())
            digest.update(image.contiguous().numpy().tobytes())
        path = self.folder / digest.hexdigest()[:2] / f"{digest.hexdigest()}.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            known = {name: float(value) for name, value in known.items()}
        except (OSError, ValueError, AttributeError, TypeError):  # absent or damaged: measure again
            known = {}
        missing = [name for name in names if name not in known]
        if missing:
            known |= {name: value.item() for name, value in function(*triple, missing).items()}
            try:
                write_json(path, {name: repr(value) for name, value in known.items()})
            except OSError as error:
                self.failure = f"{self.folder}: values cannot be kept here ({error.strerror})"
        return {name: known[name] for name in names}


# --- one pair after the other, or several at the same time ----------------------------------------


@dataclass(frozen=True)
class _Task:
    """The work on one pair: everything that a worker process needs to know.

    Attributes:
        pairs: a set that holds this pair alone.
        methods: whose results are files.
        chosen: the metrics.
        cache: the folder of kept values.
        truth: whether to measure against the truth, too.
        sources: infrared and luminance as uint8 arrays, where they have been read already.
        made: by method, a picture as a uint8 array, or what went wrong.
    """

    pairs: PairFolder
    methods: Sequence[str]
    chosen: Sequence[Metric]
    cache: Path | None
    truth: bool
    sources: Sequence[np.ndarray] | None = None
    made: Mapping[str, np.ndarray | str] = field(default_factory=dict)


@dataclass
class _Found:
    """Rows by method of one pair, what went wrong, and why values were not kept."""

    rows: dict[str, Row]
    problems: list[str]
    unkept: str = ""


def _arrays(pair: Pair) -> list[np.ndarray]:
    return [as_uint8(image[None]).numpy() for image in (pair.infrared, pair.luminance)]


def _fuse_all(task: _Task, extra: Mapping[str, Fuser]) -> _Task:
    """Fuse a pair by functions, in this process: they may hold a network, or remember things."""
    try:
        pair = task.pairs[0]
    except ImageError:  # whoever measures it will say so
        return task
    made: dict[str, np.ndarray | str] = {}
    for method, function in extra.items():
        try:
            made[method] = as_uint8(fuse(method, function, pair)[None]).numpy()
        except ValueError as error:  # ImageError is one
            made[method] = str(error)
    return replace(task, sources=_arrays(pair), made=made)


def _run(task: _Task) -> _Found:
    """Measure every method on one pair."""
    name, found, cache = task.pairs.names[0], _Found({}, []), _Cache(task.cache)
    try:
        arrays = _arrays(task.pairs[0]) if task.sources is None else task.sources
    except ImageError as error:
        return _Found({}, [f"the pair {name!r} is left out for every method: {error}"])
    sources = [torch.from_numpy(array) for array in arrays]
    height, width = size = tuple(sources[0].shape[-2:])
    small = [metric for metric in task.chosen if metric.smallest > min(size)]
    if small:
        needs = ", ".join(f"{m.name} (from {m.smallest} x {m.smallest})" for m in small)
        found.problems.append(
            f"the pair {name!r} is {width} x {height} pixels, too small for {needs}"
        )
    fitting = [metric.name for metric in task.chosen if metric not in small]
    columns, known = [metric.name for metric in task.chosen], None
    if task.truth:
        columns += TRUTH
        try:
            known = _read_truth(task.pairs, name, size)
        except ImageError as error:
            found.problems.append(f"the pair {name!r} has no truth to measure against: {error}")
    for method in (*task.methods, *task.made):
        try:
            made = task.made.get(method)
            if isinstance(made, str):
                raise ValueError(made)
            if made is None:
                made = as_uint8(read_fused(task.pairs, method, name, size)[None]).numpy()
            shown = torch.from_numpy(made)
            values = cache.values(measure, [shown, *sources], fitting)
            if known is not None:
                values |= cache.values(measure_against_oracle, [shown, *known], list(TRUTH))
        except ValueError as error:
            found.problems.append(f"{method}, pair {name!r}: {error}")
            continue
        found.rows[method] = {"method": method, "image": name} | {
            column: values.get(column, math.nan) for column in columns
        }
    found.unkept = cache.failure
    return found


def evaluate_set(
    pairs: PairFolder,
    methods: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
    extra: Mapping[str, Fuser] | None = None,
    *,
    truth: bool = False,
    jobs: int = 1,
    cache: str | os.PathLike | None = None,
    on_problem: Report = _warn,
    on_warning: Report = _warn,
    progress: bool = True,
) -> list[Row]:
    """Measure the results of methods on the pairs of a set.

    Args:
        pairs: the set.
        methods: METHODs of ``fused_METHOD/`` folders; all there are for None.
        metrics: names in `ldf_utils.metrics.METRICS`; the usual nine for None.
        extra: method name to a function of a pair that returns fused luminance ``(1, H, W)`` in
            [0, 1], for methods that need no files. Its pictures are rounded to 8 bits first, as
            if they had been saved. They are called in this process, one at a time.
        truth: whether to measure against the truth, too: columns of `ldf_utils.metrics.TRUTH`,
            from the folders that `ldf_utils.data.truth` reads, which rendered sets have.
        jobs: processes that measure, each one pair at a time with one thread. Where processes are
            not copied but started (not on Linux), a script must call this below
            ``if __name__ == "__main__":``.
        cache: a folder of values by the content of the pictures: what is there is not measured
            again, so that a run that was stopped goes on where it was. None keeps nothing.
        on_problem: called with one sentence for each result that is missing, unreadable or of
            the wrong size; the rest is measured. By default an `EvaluationWarning` is issued.
        on_warning: called with one sentence where a row is as it should be, but something else is
            not: values that cannot be kept, a worker process that was ended.
        progress: whether to show a progress bar.

    Returns:
        One row per method and image, ``{"method", "image", *metrics}``, ordered by method (in the
        order of ``methods``, then of ``extra``) and image. A metric that needs a larger picture
        is NaN, and reported. Scores against the truth are NaN where a scene has nothing to measure.

    Raises:
        ValueError: for an unknown metric or method, a name in both ``methods`` and ``extra``,
            ``jobs`` under 1, or a truth that the set has not.

    Example:
        >>> evaluate_set(PairFolder("data/TNO"), metrics=["EN"], jobs=2)  # doctest: +SKIP
        [{'method': 'DenseFuse', 'image': '01', 'EN': 6.8..., ...
    """
    if jobs < 1:
        raise ValueError(f"jobs must be >= 1, got {jobs}")
    chosen = select(metrics)
    known = pairs.fused_methods()
    methods = known if methods is None else list(dict.fromkeys(methods))
    unknown = [method for method in methods if method not in known]
    if unknown:
        raise ValueError(
            f"{pairs.folder}: no folder fused_{unknown[0]}; results are there of "
            f"{', '.join(known) or 'no method'}"
        )
    extra = dict(extra or {})
    twice = [method for method in extra if method in methods]
    if twice:
        raise ValueError(f"{', '.join(twice)}: name in both methods and extra; rename one")
    if not methods and not extra:
        raise ValueError(
            f"{pairs.folder}: nothing to measure; expected folders fused_METHOD/ with results that "
            "have the stems of the pairs"
        )
    if truth:
        check_truth(pairs)
    folder = None if cache is None else Path(cache)
    ranges = pairs.ranges  # of the whole set, the same for each pair

    def tasks() -> Iterator[_Task]:
        for entry in pairs.files:
            single = copy.copy(pairs)
            single.files, single.ranges = [entry], ranges
            task = _Task(single, methods, chosen, folder, truth)
            yield _fuse_all(task, extra) if extra else task

    rows: dict[str, list[Row]] = {method: [] for method in (*methods, *extra)}
    results, unkept = run_in_order(_run, tasks(), jobs, on_warning), ""
    for found in tqdm(results, f"Measuring {pairs.name}", len(pairs), disable=not progress):
        for problem in found.problems:
            on_problem(problem)
        if found.unkept and not unkept:
            on_warning(unkept := found.unkept)
        for method, row in found.rows.items():
            rows[method].append(row)
    return [row for list_of_rows in rows.values() for row in list_of_rows]
