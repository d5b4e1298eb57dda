"""Search: detections in the sources, in fused pictures, and in both sources merged."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from ldf_utils.data.files import write_json
from ldf_utils.data.images import to_8bit
from ldf_utils.data.pairs import Pair, PairFolder
from ldf_utils.detection.boxes import Boxes, merge
from ldf_utils.detection.detector import Detector
from ldf_utils.detection.labels import Labels
from ldf_utils.evaluation.evaluate import Fuser, fuse, read_fused

SOURCES = ("visible", "infrared")
MERGED = "merged"
NIGHT = 0.27
"""Mean luminance of the visible picture, from 0 to 1, below which a pair counts as night."""


@dataclass
class Findings:
    """What a detector found in a set.

    Attributes:
        truth: labels of each picture that was searched.
        found: method to picture to detections. A method may lack pictures.
        night: whether each picture was taken at night.
        problems: one sentence for each picture that could not be searched.
        unkept: why detections could not be kept, if so.
    """

    truth: dict[str, Boxes]
    found: dict[str, dict[str, Boxes]]
    night: dict[str, bool] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unkept: str = ""


class _Kept:
    """Detections by the content of the picture and the weights, one small file each."""

    def __init__(self, detector: Detector, folder: Path | None):
        self.detector, self.folder, self.failure = detector, folder, ""

    def __call__(self, gray: torch.Tensor) -> Boxes:
        """Detect in a picture rounded to 8 bits, or read what was found in it."""
        gray = to_8bit(gray) / 255  # as if it had been saved
        if self.folder is None:
            return self.detector(gray)
        digest = hashlib.sha256(_code() + self.detector.fingerprint.encode())
        digest.update(repr(tuple(gray.shape)).encode() + gray.contiguous().numpy().tobytes())
        path = self.folder / digest.hexdigest()[:2] / f"{digest.hexdigest()}.json"
        try:
            rows = np.array(json.loads(path.read_text(encoding="utf-8")), float).reshape(-1, 6)
            return Boxes(rows[:, :4], rows[:, 5].astype(np.int64), rows[:, 4])
        except (OSError, ValueError):  # absent or damaged: search again
            found = self.detector(gray)
        rows = np.column_stack([found.corners, found.scores, found.classes])
        try:
            write_json(path, rows.tolist())
        except OSError as error:
            self.failure = f"{self.folder}: detections cannot be kept here ({error.strerror})"
        return found


@functools.cache
def _code() -> bytes:
    """Hash the code of the detectors: a changed one makes old detections void."""
    folder = Path(__file__).parent
    return b"".join((folder / name).read_bytes() for name in ("detector.py", "network.py"))


def choose_methods(pairs: PairFolder, methods: Iterable[str] | None = None) -> list[str]:
    """List the methods to measure: those named, or the sources, their merger and all there are.

    Raises:
        ValueError: for a method without results.
    """
    known = [*SOURCES, MERGED, *pairs.fused_methods()]
    if methods is None:
        return list(dict.fromkeys(known))
    chosen = list(dict.fromkeys(methods))
    if unknown := [method for method in chosen if method not in known]:
        raise ValueError(
            f"{pairs.folder}: no folder fused_{unknown[0]}; methods here are {', '.join(known)}"
        )
    return chosen


def search_set(
    pairs: PairFolder,
    labels: Labels,
    detector: Detector,
    methods: Iterable[str] | None = None,
    extra: Mapping[str, Fuser] | None = None,
    *,
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> Findings:
    """Run a detector on the luminance of each labeled pair, source by source and fused.

    Args:
        pairs: the set.
        labels: of `ldf_utils.detection.labels.read_labels`; pairs without labels are not searched.
        detector: one detector for all methods.
        methods: ``visible``, ``infrared``, ``merged`` (the detections of both, suppressed where
            they overlap) and METHODs of ``fused_METHOD/``; all there are for None.
        extra: name to a function of a pair that gives fused luminance ``(1, H, W)``.
        cache: a folder of detections by content: what is there is not searched again.
        progress: whether to show a progress bar.

    Returns:
        The detections; what could not be read is reported in it.

    Raises:
        ValueError: for an unknown method, or a name both in ``methods`` and in ``extra``.
    """
    chosen, extra = choose_methods(pairs, methods), dict(extra or {})
    if twice := [method for method in extra if method in (*chosen, *SOURCES, MERGED)]:
        raise ValueError(f"{', '.join(twice)}: name in both methods and extra; rename one")
    found: dict[str, dict[str, Boxes]] = {method: {} for method in (*chosen, *extra)}
    result = Findings({}, found)
    search, lights = _Kept(detector, None if cache is None else Path(cache)), _lights(pairs)
    places = [place for place, name in enumerate(pairs.names) if name in labels.boxes]
    for place in tqdm(places, f"Searching {pairs.name}", disable=not progress):
        name = pairs.names[place]
        try:
            pair = pairs[place]
        except ValueError as error:
            result.problems.append(f"the pair {name!r} is left out for every method: {error}")
            continue
        result.truth[name] = labels.boxes[name]
        result.night[name] = lights.get(name, float(pair.luminance.mean()) < NIGHT)
        for method, read in _pictures(pairs, pair, chosen, extra):
            try:
                result.found[method][name] = search(read())
            except ValueError as error:
                result.problems.append(f"{method}, pair {name!r}: {error}")
        if MERGED in chosen:
            sources = [found[s][name] if s in found else search(_source(pair, s)) for s in SOURCES]
            result.found[MERGED][name] = merge(sources)
    result.unkept = search.failure
    return result


def _source(pair: Pair, name: str) -> torch.Tensor:
    return pair.luminance if name == "visible" else pair.infrared


def _pictures(
    pairs: PairFolder, pair: Pair, methods: Sequence[str], extra: Mapping[str, Fuser]
) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Name the pictures of a pair, each with the function that reads or makes it."""
    for method in methods:
        if method in SOURCES:
            yield method, functools.partial(_source, pair, method)
        elif method != MERGED:
            yield method, functools.partial(read_fused, pairs, method, pair.name, pair.size)
    for method, function in extra.items():
        yield method, functools.partial(fuse, method, function, pair)


def _lights(pairs: PairFolder) -> dict[str, bool]:
    """Read which pictures are of the night, where a rendered set says so."""
    try:
        facts = json.loads((pairs.folder / "facts.json").read_text(encoding="utf-8"))
        return {str(f["name"]): f["light"] == "night" for f in facts}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def join(findings: Mapping[str, Findings]) -> Findings:
    """Put what was found in several sets together; pictures are called ``SET/NAME``.

    Methods that were not run on every set are left out.

    Raises:
        ValueError: if there is no set.
    """
    if not findings:
        raise ValueError("there is no set to join")
    first, *others = findings.values()
    methods = [m for m in first.found if all(m in other.found for other in others)]
    result = Findings({}, {method: {} for method in methods})
    for place, one in findings.items():
        result.truth |= {f"{place}/{name}": boxes for name, boxes in one.truth.items()}
        result.night |= {f"{place}/{name}": night for name, night in one.night.items()}
        result.problems += one.problems
        for method in methods:
            result.found[method] |= {f"{place}/{n}": b for n, b in one.found[method].items()}
    return result
