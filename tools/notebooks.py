"""Run the notebooks, each in a kernel of its own, and leave pages and metrics behind.

    python -m tools.notebooks tutorial   # all notebooks into runs/tutorial, with HTML pages
    python -m tools.notebooks refresh    # execute the committed notebooks in place

A cell that fails, a kernel that dies and a cell that takes too long all end the notebook, not the
run: what was executed is kept with the error at its place, the other notebooks follow, and the
exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
import psutil
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.execute import remove_error_markers

from ldf_utils.data.files import atomic_path
from ldf_utils.notebook.run_record import METRICS_FILE, update_metrics

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
CELL_SECONDS = 1200
"""How long one cell may take; the longest is the training of notebook 04."""

# The runner says itself what fails; papermill and nbclient would say it once more.
logging.getLogger("papermill").setLevel(logging.CRITICAL)

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


STAMP = "executed_sources_sha256"
"""Where the metadata of a committed notebook say which code its outputs are from."""


class NotebookError(ValueError):
    """A notebook is not as the runner needs it; the text says what to do."""


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook.

    Attributes:
        name: the stem, "04_training".
        status: "done", "failed" or "interrupted".
        cells: the number of code cells.
        cells_run: how many of them ran to their end.
        seconds: wall-clock time with the start of the kernel.
        peak_memory_mb: largest resident memory of the kernel and its children, in 10**6 bytes.
        error: where and why it stopped, or None.
    """

    name: str
    status: str
    cells: int
    cells_run: int
    seconds: float
    peak_memory_mb: float
    error: str | None = None


# ------------------------------------------------------------------ looking into a notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code cells that hold code, in order."""
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    """The cells with this tag, in order."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def declared_parameters(notebook: nbformat.NotebookNode, name: str = "notebook") -> list[str]:
    """The names assigned in the cell tagged ``parameters``.

    Raises:
        NotebookError: unless there is exactly one such cell.
    """
    cells = tagged(notebook, "parameters")
    if len(cells) != 1:
        raise NotebookError(
            f"{name}: found {len(cells)} cells tagged 'parameters', expected one; tag the cell "
            "that assigns the defaults (papermill passes nothing without it, and says nothing)"
        )
    names = []
    for statement in ast.parse(cells[0].source).body:
        if isinstance(statement, ast.Assign):
            names += [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.append(statement.target.id)
    return names


def place(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> str:
    """The nearest heading above a cell, or the cell's first line where there is none."""
    heading = ""
    for other in notebook.cells:
        if other is cell:
            break
        if other.cell_type == "markdown":
            found = re.findall(r"^#{1,4} +(.+?) *#*$", other.source, flags=re.MULTILINE)
            heading = found[-1] if found else heading
    return heading or cell.source.strip().splitlines()[0][:60]


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what a viewer trips over and what changes from run to run; in place.

    Widget views and state go (GitHub refuses to show them), the records of papermill and of cell
    timing go, the kernel is named plainly.
    """
    notebook = remove_error_markers(notebook)
    for key in ("widgets", "papermill"):
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET_VIEW not in o.get("data", {})]
    return notebook


def sources_hash(notebook: nbformat.NotebookNode) -> str:
    """A fingerprint of the code of a notebook, which its outputs belong to."""
    sources = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(sources.encode()).hexdigest()


def write_notebook(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook, atomically."""
    with atomic_path(path) as temporary:
        nbformat.write(notebook, temporary)


# ------------------------------------------------------------------ progress and memory


def clock(seconds: float) -> str:
    """Minutes and seconds, "3:07"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Says which cell is running: a line that renews itself on a terminal, plain lines in a log.

    Args:
        stream: where to; by default standard output.
        every: seconds between two signs of life in a log while one cell runs.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 60.0):
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.every = every
        self._text, self._start, self._said = "", time.monotonic(), 0.0

    def start(self) -> None:
        """A notebook starts: its clock is at zero."""
        self._start, self._text = time.monotonic(), ""

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.live and self._text:
            self.stream.write("\r\033[K")
        self.stream.write(text + "\n")
        self.stream.flush()
        self._said = time.monotonic()

    def cell(self, text: str) -> None:
        """A cell starts."""
        self._text = text
        if self.live:
            self.tick()
        else:
            self.say(f"  {clock(time.monotonic() - self._start):>5}  {text}")

    def tick(self) -> None:
        """A moment has passed; called about twice a second."""
        now = time.monotonic()
        if not self._text:
            return
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            line = f"  {clock(now - self._start):>5}  {self._text}"
            self.stream.write("\r\033[K" + line[:width])
            self.stream.flush()
        elif now - self._said > self.every:
            self.say(f"  {clock(now - self._start):>5}  still at {self._text}")

    def end(self) -> None:
        """The notebook is over: the line that renews itself goes away."""
        if self.live and self._text:
            self.stream.write("\r\033[K")
            self.stream.flush()
        self._text = ""


class _Watch(threading.Thread):
    """Follows the memory of the kernel and keeps the progress line alive."""

    def __init__(self, progress: Progress):
        super().__init__(daemon=True)
        self.progress = progress
        self.peak = 0
        self._over = threading.Event()
        self._before = {child.pid for child in psutil.Process().children()}

    def run(self) -> None:
        while not self._over.wait(0.5):
            self.sample()
            self.progress.tick()

    def sample(self) -> None:
        """Largest sum of resident memory so far; on Linux also the kernel's own high-water mark.

        A notebook's memory is that of its kernel and of the processes that the kernel started.
        """
        for kernel in psutil.Process().children():
            if kernel.pid in self._before:
                continue
            with contextlib.suppress(psutil.Error, OSError):
                if not any("ipykernel" in part for part in kernel.cmdline()):
                    continue
                tree = [kernel, *kernel.children(recursive=True)]
                total = 0
                for process in tree:
                    with contextlib.suppress(psutil.Error):
                        total += process.memory_info().rss
                self.peak = max(self.peak, total, _high_water(kernel.pid))

    def stop(self) -> None:
        self._over.set()
        self.join()


def _high_water(pid: int) -> int:
    """Peak resident bytes of a process as Linux keeps it; 0 elsewhere."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


# ------------------------------------------------------------------ running


def thread_count() -> int:
    """How many threads a kernel may use: those of the machine that are ours, at most 8."""
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(ours or 1, 8))


@contextlib.contextmanager
def kernel_environment(run_dir: Path, changes: Mapping[str, str | None]) -> Iterator[None]:
    """The environment that kernels inherit; put back at the end.

    The number of threads is set (unless the user has), progress bars are off (they leave widgets
    in the notebook; the runner itself says where it is), the package is found in this checkout,
    and folders named relative to the working directory stay the same folders.
    """
    threads = os.environ.get("OMP_NUM_THREADS", str(thread_count()))
    values: dict[str, str | None] = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
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
    progress: Progress | None = None,
    label: str = "",
) -> Outcome:
    """Execute one notebook in a kernel of its own through papermill.

    The working directory of the kernel is `run_dir`, so that whatever a notebook writes lands
    there. The time, the peak of memory and the state are recorded in its ``metrics.json``, where
    the notebook's own numbers of an earlier run are removed first.

    Args:
        source: the notebook.
        output: where the executed notebook goes; after a failure it holds all that was executed.
        run_dir: the folder of the run.
        parameters: values in place of the defaults of the parameters cell.
        environment: variables for the kernel on top of `kernel_environment`; None removes one.
        cell_seconds: how long a cell may take.
        progress: where to report; by default to standard output.
        label: a prefix of the messages, "[2/6]".

    Returns:
        What became of it; a failure is an outcome and no exception.

    Raises:
        NotebookError: if the notebook has no parameters cell, or does not declare a parameter.
    """
    source, output, run_dir = Path(source), Path(output), Path(run_dir).resolve()
    name, progress = source.stem, progress or Progress()
    notebook = nbformat.read(source, as_version=4)
    declared = declared_parameters(notebook, source.name)
    if unknown := sorted(set(parameters or {}) - set(declared)):
        raise NotebookError(
            f"{source.name}: parameters {unknown} are not among those that it declares, "
            f"{declared}; rename them, or assign them in its parameters cell"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    update_metrics(run_dir, name, metrics=None, status="running", error=None)
    total = len(code_cells(notebook)) + bool(parameters)  # papermill adds a cell for them
    state: dict[str, Any] = {"begun": 0, "at": None}

    def begin(cell: nbformat.NotebookNode, cell_index: int) -> None:
        state["begun"] += 1
        state["at"] = (cell_index, cell)
        progress.cell(f"cell {state['begun']}/{total}  {place(notebook, _same(notebook, cell))}")

    progress.start()
    progress.say(f"{label} {name}".strip())
    watch, begun = _Watch(progress), time.monotonic()
    error: str | None = None
    status = "failed"
    with kernel_environment(run_dir, environment or {}):
        watch.start()
        try:
            papermill.execute_notebook(
                source,
                output,
                dict(parameters or {}),
                kernel_name="python3",
                language="python",
                cwd=run_dir,
                progress_bar=False,
                execution_timeout=cell_seconds,
                record_timing=False,
                store_widget_state=False,
                on_cell_execute=begin,
                on_cell_executed=lambda **_: watch.sample(),
                extra_arguments=["--log-level=CRITICAL"],
            )
            status = "done"
        except PapermillExecutionError as failure:
            error = f"{failure.ename}: {failure.evalue}".strip()
        except CellTimeoutError:
            error = f"CellTimeoutError: it took more than {cell_seconds:g} seconds"
        except DeadKernelError:
            error = "DeadKernelError: the kernel died; most often it ran out of memory"
        except KeyboardInterrupt:
            error, status = "KeyboardInterrupt: stopped by the user", "interrupted"
        finally:
            watch.stop()
            progress.end()
    seconds = time.monotonic() - begun
    if error is not None:
        error = _where(notebook, state, total, error)
    _finish(output, state["at"], error)
    outcome = Outcome(
        name=name,
        status=status,
        cells=total,
        cells_run=state["begun"] - (error is not None and state["begun"] > 0),
        seconds=round(seconds, 1),
        peak_memory_mb=round(watch.peak / 1e6),
        error=error,
    )
    update_metrics(
        run_dir,
        name,
        status=status,
        seconds=outcome.seconds,
        peak_memory_mb=outcome.peak_memory_mb,
        error=error,
    )
    progress.say(
        f"  {clock(seconds):>5}  {status}, {outcome.cells_run} of {total} cells, "
        f"peak memory {outcome.peak_memory_mb:.0f} MB"
    )
    if error is not None:
        progress.say(f"  {'':>5}  {name}: {error}")
    return outcome


def _same(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell of the source that papermill executes (it works on a copy)."""
    for mine in notebook.cells:
        if mine.get("id") == cell.get("id") and mine.source == cell.source:
            return mine
    return cell


def _where(
    notebook: nbformat.NotebookNode, state: Mapping[str, Any], total: int, error: str
) -> str:
    """The error with its cell: number, heading, first line of code."""
    if state["at"] is None:
        return f"before the first cell: {error}"
    cell = state["at"][1]
    first = cell.source.strip().splitlines()[0]
    return (
        f"cell {state['begun']} of {total} (under {place(notebook, _same(notebook, cell))!r}, "
        f"starting {first!r}): {error}"
    )


def _finish(output: Path, at: tuple[int, Any] | None, error: str | None) -> None:
    """Clean the executed notebook; where no cell shows the error, put it where it happened."""
    if not output.is_file():
        return
    notebook = clean(nbformat.read(output, as_version=4))
    shown = any(o.output_type == "error" for cell in code_cells(notebook) for o in cell.outputs)
    if error is not None and not shown and at is not None:
        kind, _, text = error.rpartition("): ")[2].partition(": ")
        notebook.cells[at[0]].outputs.append(
            nbformat.v4.new_output("error", ename=kind, evalue=text, traceback=[f"{kind}: {text}"])
        )
    write_notebook(notebook, output)


def find_notebooks(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The notebooks of a folder in their order, or those whose names start as given.

    Raises:
        NotebookError: if there is none, or none that starts so.
    """
    paths = sorted(path for path in folder.glob("*.ipynb") if path.name[0].isdigit())
    if not paths:
        raise NotebookError(f"{folder}: no notebook in it; expected NN_name.ipynb")
    if not only:
        return paths
    chosen = [path for path in paths if path.name.startswith(tuple(only))]
    missing = [start for start in only if not any(p.name.startswith(start) for p in paths)]
    if missing:
        raise NotebookError(
            f"{folder}: no notebook starts with {missing}; there are {[p.stem for p in paths]}"
        )
    return chosen


def fresh_folder(folder: Path) -> None:
    """Make the folder of a run; what an earlier run left there moves to ``NAME-previous``.

    Raises:
        NotebookError: if the folder holds something that no run has left.
    """
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / METRICS_FILE).is_file():
            raise NotebookError(
                f"{folder}: not empty, and no {METRICS_FILE} in it, so it is not from an earlier "
                "run; name another folder"
            )
        previous = folder.with_name(f"{folder.name}-previous")
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    folder.mkdir(parents=True, exist_ok=True)


def tutorial(
    sources: Sequence[Path],
    folder: Path,
    *,
    cell_seconds: float = CELL_SECONDS,
    go_on: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Run notebooks one after the other into a folder, and write the pages.

    Args:
        sources: the notebooks.
        folder: gets ``NAME.ipynb``, ``NAME.html``, ``index.html``, ``metrics.json`` and what the
            notebooks write.
        cell_seconds: how long a cell may take.
        go_on: use the folder as it is; by default it starts empty, see `fresh_folder`.
        progress: where to report.

    Returns:
        One outcome per notebook that was begun.
    """
    from tools.pages import write_index, write_page

    progress = progress or Progress()
    if not go_on:
        fresh_folder(folder)
    outcomes: list[Outcome] = []
    names = [path.stem for path in sources]
    for i, source in enumerate(sources):
        outcome = run_notebook(
            source,
            folder / source.name,
            folder,
            cell_seconds=cell_seconds,
            progress=progress,
            label=f"[{i + 1}/{len(sources)}]",
        )
        outcomes.append(outcome)
        if (folder / source.name).is_file():
            write_page(folder / source.name, names)
        write_index(folder, outcomes)
        if outcome.status == "interrupted":
            break
    return outcomes


def refresh(
    sources: Sequence[Path],
    folder: Path,
    *,
    cell_seconds: float = CELL_SECONDS,
    go_on: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Execute notebooks and put each in the place of its source, atomically, if it went well.

    The fingerprint of the code goes into the metadata: a test finds outputs of older code. No
    real pictures get into the repository this way: ``LDF_DATA_DIR`` is taken away from the
    kernels, and the notebooks use generated pairs. Nor are downloaded weights used, so that the
    outputs are the same on every machine that has the same CLIP.
    """
    progress = progress or Progress()
    if not go_on:
        fresh_folder(folder)
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        empty = Path(temporary) / "no-weights"
        empty.mkdir()
        for i, source in enumerate(sources):
            executed = Path(temporary) / source.name
            outcome = run_notebook(
                source,
                executed,
                folder,
                environment={"LDF_DATA_DIR": None, "LDF_WEIGHTS_DIR": str(empty)},
                cell_seconds=cell_seconds,
                progress=progress,
                label=f"[{i + 1}/{len(sources)}]",
            )
            outcomes.append(outcome)
            if outcome.status == "done":
                notebook = nbformat.read(executed, as_version=4)
                notebook.metadata[STAMP] = sources_hash(notebook)
                write_notebook(notebook, source)
            else:
                kept = folder / source.name
                shutil.copyfile(executed, kept)
                progress.say(f"         {source.name} is unchanged; the attempt is {kept}")
            if outcome.status == "interrupted":
                break
    return outcomes


def summary(outcomes: Sequence[Outcome], expected: int, progress: Progress) -> int:
    """Say how the run went; return the exit code."""
    failed = [outcome for outcome in outcomes if outcome.status != "done"]
    minutes = sum(outcome.seconds for outcome in outcomes) / 60
    progress.say(
        f"\n{len(outcomes) - len(failed)} of {expected} notebooks done in {minutes:.1f} minutes"
    )
    for outcome in failed:
        progress.say(f"{outcome.status.upper()} {outcome.name}: {outcome.error}")
    if any(outcome.status == "interrupted" for outcome in outcomes):
        return 130
    return 1 if failed or len(outcomes) < expected else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 if all notebooks ran, 1 if one failed, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.notebooks", description="Run the notebooks of the tutorial."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, folder, text in (
        ("tutorial", "runs/tutorial", "run all notebooks into a folder, with pages and metrics"),
        ("refresh", "runs/refresh", "execute the committed notebooks in place"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--folder",
            type=Path,
            default=None,
            help=f"folder of the run (default: LDF_RUN_DIR, else {folder})",
        )
        command.add_argument("--notebooks", type=Path, default=NOTEBOOKS, help="folder of them")
        command.add_argument(
            "--only",
            nargs="+",
            default=[],
            metavar="START",
            help="run those whose names start so, as in 02 03; the folder keeps the rest",
        )
        command.add_argument(
            "--cell-seconds", type=float, default=CELL_SECONDS, help="limit of one cell"
        )
        if name == "tutorial":
            command.add_argument(
                "--real-data",
                action="store_true",
                help="fetch the small public sets into data/ first, and run on them",
            )
    arguments = parser.parse_args(argv)
    progress = Progress()
    if getattr(arguments, "real_data", False):
        from tools.real_data import fetch

        real = fetch(ROOT / "data", say=progress.say)
        if real is not None:
            os.environ["LDF_DATA_DIR"] = str(real)
    default = "runs/tutorial" if arguments.command == "tutorial" else "runs/refresh"
    folder = arguments.folder or Path(os.environ.get("LDF_RUN_DIR") or ROOT / default)
    data = os.environ.get("LDF_DATA_DIR")
    try:
        sources = find_notebooks(arguments.notebooks, arguments.only)
        if data and arguments.command == "tutorial" and not Path(data).expanduser().is_dir():
            raise NotebookError(
                f"LDF_DATA_DIR names {data}, and there is no such folder; name a folder with one "
                "folder per set, or unset it to use generated pairs"
            )
        run = tutorial if arguments.command == "tutorial" else refresh
        outcomes = run(
            sources,
            folder,
            cell_seconds=arguments.cell_seconds,
            go_on=bool(arguments.only),
            progress=progress,
        )
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    code = summary(outcomes, len(sources), progress)
    if arguments.command == "tutorial":
        progress.say(f"pages: {folder / 'index.html'}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
