"""Run one notebook in a kernel of its own.

A cell that fails, a kernel that dies and a cell that takes too long end the notebook, and
`run_notebook` returns an `Outcome` that says where; what was executed is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from ldf_utils.notebook.run_record import update_metrics
from tools.notebook_files import (
    ROOT,
    NotebookError,
    clean,
    code_cells,
    declared_parameters,
    heading_above,
    read_notebook,
    write_notebook,
)
from tools.progress import Progress, Watch, clock

CELL_SECONDS = 1200
"""How long one cell may take; the longest is the training of notebook 04."""

# The runner reports failures; papermill and nbclient would report them a second time.
logging.getLogger("papermill").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Outcome:
    """How the run of one notebook ended.

    Attributes:
        name: the stem, "04_training".
        status: "done", "failed" or "interrupted".
        cells: the number of code cells.
        cells_run: how many of them ran to their end.
        seconds: wall-clock time with the start of the kernel.
        peak_memory_mb: largest memory of the kernel and its children, in 10**6 bytes.
        error: where and why it stopped, or None.
    """

    name: str
    status: str
    cells: int
    cells_run: int
    seconds: float
    peak_memory_mb: float
    error: str | None = None


class _Cells:
    """Which cell is running, out of how many."""

    def __init__(self, notebook: NotebookNode, total: int, progress: Progress):
        self.notebook, self.total, self.progress = notebook, total, progress
        self.begun = 0
        self.index = -1
        self.cell: NotebookNode | None = None

    def begin(self, cell: NotebookNode, cell_index: int) -> None:
        self.begun += 1
        self.index, self.cell = cell_index, cell
        self.progress.cell(f"cell {self.begun}/{self.total}  {self._heading(cell)}")

    def _heading(self, cell: NotebookNode) -> str:
        """Return the heading above the cell in the source; papermill executes a copy."""
        same = (c for c in self.notebook.cells if (c.get("id"), c.source) == (cell.id, cell.source))
        return heading_above(self.notebook, next(same, cell))

    def locate(self, error: str) -> str:
        """Return the error with its cell: number, heading, first line of code."""
        if self.cell is None:
            return f"before the first cell: {error}"
        first = self.cell.source.strip().splitlines()[0]
        return (
            f"cell {self.begun} of {self.total} (under {self._heading(self.cell)!r}, "
            f"starting {first!r}): {error}"
        )


def thread_count() -> int:
    """Return how many threads a kernel may use: the cores open to this process, at most 8."""
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(ours or 1, 8))


@contextlib.contextmanager
def kernel_environment(
    run_dir: Path, changes: Mapping[str, str | None], threads: int | None = None
) -> Iterator[None]:
    """Set the environment that kernels inherit, and restore it at the end.

    The number of threads is set (by default `thread_count`) unless the user has, progress bars are
    off (they leave widgets in the notebook; the runner itself reports progress), the package is
    found in this checkout, and relative folders become absolute, because the kernel works in
    another directory.
    """
    number = os.environ.get("OMP_NUM_THREADS", str(threads or thread_count()))
    values: dict[str, str | None] = {
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "OPENBLAS_NUM_THREADS": number,
        "TQDM_DISABLE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONPATH": os.pathsep.join(
            part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part
        ),
        "LDF_RUN_DIR": str(run_dir),
    }
    for name in ("LDF_DATA_DIR", "LDF_WEIGHTS_DIR"):
        if os.environ.get(name):
            values[name] = str(Path(os.environ[name]).expanduser().resolve())
    values.update(changes)
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            _set(name, value)
        yield
    finally:
        for name, value in before.items():
            _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def run_notebook(
    source: Path,
    output: Path,
    run_dir: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    environment: Mapping[str, str | None] | None = None,
    cell_seconds: float = CELL_SECONDS,
    threads: int | None = None,
    progress: Progress | None = None,
    label: str = "",
) -> Outcome:
    """Execute one notebook in a kernel of its own through papermill.

    The working directory of the kernel is `run_dir`, so that whatever a notebook writes lands
    there. Time, peak memory and status are recorded in its ``metrics.json``, where the notebook's
    own numbers of an earlier run are removed first.

    Args:
        source: the notebook.
        output: where the executed notebook goes; after a failure it holds all that was executed.
        run_dir: the folder of the run.
        parameters: values in place of the defaults of the parameters cell.
        environment: variables for the kernel on top of `kernel_environment`; None removes one.
        cell_seconds: how long a cell may take.
        threads: how many threads the kernel may use, unless ``OMP_NUM_THREADS`` says so.
        progress: where to report; standard output by default.
        label: a prefix of the messages, "[2/6]".

    Returns:
        How it ended; a failure is an outcome, not an exception.

    Raises:
        NotebookError: if the notebook has no parameters cell, or does not declare a parameter.
    """
    source, output, run_dir = Path(source), Path(output), Path(run_dir).resolve()
    name, progress = source.stem, progress or Progress()
    notebook = read_notebook(source)
    declared = declared_parameters(notebook, source.name)
    if unknown := sorted(set(parameters or {}) - set(declared)):
        raise NotebookError(
            f"{source.name}: parameters {unknown} are not among those that it declares, "
            f"{declared}; rename them, or assign them in its parameters cell"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    update_metrics(run_dir, name, metrics=None, status="running", error=None)
    total = len(code_cells(notebook)) + bool(parameters)  # papermill adds a cell for them
    cells = _Cells(notebook, total, progress)
    progress.start()
    progress.line(f"{label} {name}".strip())
    watch, begun = Watch(progress), time.monotonic()
    with kernel_environment(run_dir, environment or {}, threads):
        watch.start()
        try:
            status, error = _execute(
                source, output, run_dir, parameters or {}, cell_seconds, cells, watch
            )
        finally:
            watch.stop()
            progress.end()
    seconds = round(time.monotonic() - begun, 1)
    _finish(output, cells, error)
    error = None if error is None else cells.locate(error)
    outcome = Outcome(
        name=name,
        status=status,
        cells=total,
        cells_run=cells.begun - (error is not None and cells.begun > 0),
        seconds=seconds,
        peak_memory_mb=round(watch.peak / 1e6),
        error=error,
    )
    recorded = {k: getattr(outcome, k) for k in ("status", "seconds", "peak_memory_mb", "error")}
    update_metrics(run_dir, name, **recorded)
    report(outcome, progress)
    return outcome


def report(outcome: Outcome, progress: Progress) -> None:
    """Say how a notebook ended."""
    progress.line(
        f"  {clock(outcome.seconds):>5}  {outcome.status}, {outcome.cells_run} of {outcome.cells} "
        f"cells, peak memory {outcome.peak_memory_mb:.0f} MB"
    )
    if outcome.error is not None:
        progress.line(f"  {'':>5}  {outcome.name}: {outcome.error}")


def _execute(
    source: Path,
    output: Path,
    run_dir: Path,
    parameters: Mapping[str, Any],
    cell_seconds: float,
    cells: _Cells,
    watch: Watch,
) -> tuple[str, str | None]:
    """Run papermill; return the status, and the error as "Kind: text" where there was one."""
    try:
        papermill.execute_notebook(
            source,
            output,
            dict(parameters),
            kernel_name="python3",
            language="python",
            cwd=run_dir,
            progress_bar=False,
            execution_timeout=cell_seconds,
            record_timing=False,
            store_widget_state=False,
            on_cell_execute=cells.begin,
            on_cell_executed=lambda **_: watch.sample(),
            extra_arguments=["--log-level=CRITICAL"],
        )
    except PapermillExecutionError as failure:
        return "failed", f"{failure.ename}: {failure.evalue}".strip()
    except CellTimeoutError:
        return "failed", f"CellTimeoutError: it took more than {cell_seconds:g} seconds"
    except DeadKernelError:
        return "failed", "DeadKernelError: the kernel died; most often it ran out of memory"
    except KeyboardInterrupt:
        return "interrupted", "KeyboardInterrupt: stopped by the user"
    return "done", None


def _finish(output: Path, cells: _Cells, error: str | None) -> None:
    """Clean the executed notebook; where no cell shows the error, put it where it happened."""
    if not output.is_file():
        return
    notebook = clean(read_notebook(output))
    shown = any(o.output_type == "error" for cell in code_cells(notebook) for o in cell.outputs)
    if error is not None and not shown and cells.cell is not None:
        kind, _, text = error.partition(": ")
        notebook.cells[cells.index].outputs.append(
            nbformat.v4.new_output("error", ename=kind, evalue=text, traceback=[error])
        )
    write_notebook(notebook, output)
