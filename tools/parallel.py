"""Run notebooks side by side, each in a process of its own and as soon as it can begin."""

from __future__ import annotations

import io
import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tools.notebook_files import NotebookError
from tools.progress import Progress
from tools.runner import Outcome, report, run_notebook, thread_count

NEEDS = {"05_evaluation": {"04_training"}, "06_detection": {"04_training"}}
"""Notebook to those whose results it takes from the folder of the run."""

ALONE = {"09_scaling_out"}
"""Notebooks that start processes themselves and take up to 4 GB: nothing runs beside them."""


def next_notebook(waiting: Sequence[str], running: Sequence[str]) -> str | None:
    """Return the name of the notebook to begin now, or None if all have to wait.

    Those that others wait for come first, those that run alone last.

    Args:
        waiting: names of the notebooks that were not begun, in their order.
        running: names of those that run.
    """
    unfinished = {*waiting, *running}
    free = [name for name in waiting if not NEEDS.get(name, set()) & unfinished]
    beside = [name for name in free if name not in ALONE]
    needed = set().union(*(NEEDS.get(name, set()) for name in waiting))
    first = [name for name in beside if name in needed]
    if first or beside:
        return (first or beside)[0] if not set(running) & ALONE else None
    return free[0] if free and not running else None


def run_side_by_side(
    sources: Sequence[Path],
    outputs: Path,
    folder: Path,
    *,
    jobs: int,
    environment: Mapping[str, str | None] | None = None,
    cell_seconds: float,
    progress: Progress,
) -> Iterator[tuple[Path, Outcome]]:
    """Run notebooks, several at a time, and yield each with how it ended.

    After an interrupt no further notebook begins; those that were running are yielded.

    Args:
        sources: the notebooks.
        outputs: folder of the executed notebooks.
        folder: the folder of the run.
        jobs: how many run at a time.
        environment: variables for the kernels, see `tools.runner.run_notebook`.
        cell_seconds: how long a cell may take.
        progress: where to report.

    Raises:
        NotebookError: if a notebook has no parameters cell, or a process was killed.
    """
    by_name = {source.stem: source for source in sources}
    waiting, running = list(by_name), dict[Future[Outcome], str]()
    options: dict[str, Any] = {
        "environment": environment,
        "cell_seconds": cell_seconds,
        "threads": max(1, thread_count() // jobs),
    }
    with ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
    ) as pool:
        while waiting or running:
            try:
                while len(running) < jobs and (
                    name := next_notebook(waiting, list(running.values()))
                ):
                    waiting.remove(name)
                    source, place = by_name[name], list(by_name).index(name) + 1
                    progress.line(f"[{place}/{len(by_name)}] {name}")
                    task = pool.submit(_run, source, outputs / source.name, folder, options)
                    running[task] = name
                finished = wait(running, timeout=progress.every, return_when=FIRST_COMPLETED).done
                if not finished:
                    progress.line(f"         still running: {', '.join(running.values())}")
            except KeyboardInterrupt:  # the processes get it as well, and end their notebooks
                waiting.clear()
                finished = set()
            for task in finished:
                name = running.pop(task)
                outcome = _result(task, name)
                progress.line(name)
                report(outcome, progress)
                if outcome.status == "interrupted":
                    waiting.clear()
                yield by_name[name], outcome


def _result(task: Future[Outcome], name: str) -> Outcome:
    try:
        return task.result()
    except BrokenProcessPool as error:
        raise NotebookError(
            f"{name}: a process that runs notebooks was killed, most often for want of memory; "
            "use --jobs 1"
        ) from error


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(source: Path, output: Path, folder: Path, options: Mapping[str, Any]) -> Outcome:
    """Run one notebook in silence; an interrupt ends the notebook, not the idle process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run_notebook(source, output, folder, progress=Progress(io.StringIO()), **options)
    finally:
        _ignore_interrupts()
