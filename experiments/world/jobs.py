"""Run what a set still lacks, in one process or in several, and say how it goes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

from experiments.world.worlds import Wish
from ldf_utils.data.cli import ignore_interrupts

ATTEMPTS = 6
Size = tuple[int, int]


def missing(folder: Path, indices: Sequence[int]) -> list[int]:
    """Return the indices whose truth is not there yet; it is written last."""
    return [i for i in indices if not (folder / "truth" / "facts" / f"{i:04d}.json").exists()]


def _facts(seed: int, index: int, size: Size, samples: int, used: float) -> dict[str, Any]:
    seconds = round(time.process_time() - used, 1)
    return {
        "seed": seed,
        "index": index,
        "size": list(size),
        "samples": samples,
        "variant": _variant(),
        "seconds": seconds,
    }


def _variant() -> str:
    from experiments.world.renderer import mitsuba

    return str(mitsuba().variant())


def render_one(folder: Path, seed: int, index: int, size: Size, samples: int, wish: Wish) -> float:
    """Render and write pair ``index``; return the seconds that it took."""
    from experiments.world.pair import BlockedView, render_pair, write_pair
    from experiments.world.worlds import draw

    start, used = time.perf_counter(), time.process_time()
    for attempt in range(ATTEMPTS):
        try:
            scene = draw(seed, index, wish, attempt)
            pair = render_pair(scene, *size, samples=samples, black_hot=wish.black_hot)
            break
        except BlockedView:
            if attempt + 1 == ATTEMPTS:
                raise
    pair.facts.update(_facts(seed, index, size, samples, used))
    write_pair(pair, folder, f"{index:04d}")
    return time.perf_counter() - start


@lru_cache(maxsize=1)
def _sequence(seed: int, kind: str) -> Any:
    from experiments.world.sequence import Sequence as Frames

    return Frames(seed, kind)


def render_frame(folder: Path, seed: int, index: int, size: Size, samples: int, kind: str) -> float:
    """Render and write frame ``index`` of a sequence; return the seconds that it took."""
    from experiments.world.pair import render_pair, write_pair

    start, used = time.perf_counter(), time.process_time()
    pair = render_pair(_sequence(seed, kind).frame(index), *size, samples=samples)
    pair.facts.update(_facts(seed, index, size, samples, used))
    write_pair(pair, folder, f"{index:04d}")
    return time.perf_counter() - start


def render_side_by_side(
    folder: Path, seed: int, index: int, size: Size, samples: int, baseline: float
) -> float:
    """Render and write pair ``index`` of two cameras side by side; return the seconds."""
    from experiments.world import parallax
    from experiments.world.pair import BlockedView
    from experiments.world.worlds import draw

    start, used = time.perf_counter(), time.process_time()
    for attempt in range(ATTEMPTS):
        try:
            scene = draw(seed, index, Wish(air="clear"), attempt)
            made = parallax.render_side_by_side(scene, *size, baseline, samples)
            break
        except BlockedView:
            if attempt + 1 == ATTEMPTS:
                raise
    made[0].facts.update(_facts(seed, index, size, samples, used), baseline_m=baseline)
    parallax.write_side_by_side(*made, folder, f"{index:04d}")
    return time.perf_counter() - start


def run(
    what: Callable[..., float],
    folder: Path,
    seed: int,
    indices: Sequence[int],
    rest: tuple[Any, ...],
    jobs: int,
) -> int:
    """Call ``what(folder, seed, index, *rest)`` for what is missing; return how many failed."""
    todo = missing(folder, indices)
    there = len(indices) - len(todo)
    print(f"{folder}: {there} of {len(indices)} are there, {len(todo)} to render", flush=True)
    failed = 0
    if jobs <= 1:
        for n, index in enumerate(todo, 1):
            try:
                failed += _report(n, len(todo), index, what(folder, seed, index, *rest))
            except (ValueError, RuntimeError, LookupError) as error:
                failed += _report(n, len(todo), index, error)
        return failed
    # Each process takes its part of the cores; without this, each would use all of them.
    os.environ.setdefault("WORLD_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with ProcessPoolExecutor(jobs, initializer=ignore_interrupts) as pool:
        waiting = {pool.submit(what, folder, seed, i, *rest): i for i in todo}
        for n, future in enumerate(as_completed(waiting), 1):
            outcome = future.exception() or future.result()
            failed += _report(n, len(todo), waiting[future], outcome)
    return failed


def _report(n: int, total: int, index: int, outcome: BaseException | float) -> int:
    """Print one line of progress; return 1 if the task failed."""
    if isinstance(outcome, BaseException):
        text = f"failed: {type(outcome).__name__}: {outcome}"
        print(f"[{n}/{total}] {index:04d} {text}", file=sys.stderr, flush=True)
        return 1
    print(f"[{n}/{total}] {index:04d} {outcome:.1f} s", flush=True)
    return 0
