"""Run all notebooks, and leave pages and metrics behind.

    python -m tools.notebooks tutorial   # all notebooks into runs/tutorial, with HTML pages
    python -m tools.notebooks refresh    # execute the committed notebooks in place

A notebook that fails does not end the run: what it executed is kept with the error in its place,
the other notebooks follow, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_download import tour
from ldf_utils.notebook.run_record import METRICS_FILE
from tools.figure_size import fit_figures
from tools.notebook_files import (
    NOTEBOOKS,
    ROOT,
    STAMP,
    NotebookError,
    find_notebooks,
    read_notebook,
    sources_hash,
    write_notebook,
)
from tools.pages import write_page
from tools.parallel import run_side_by_side
from tools.progress import Progress
from tools.run_index import write_index
from tools.runner import CELL_SECONDS, Outcome, run_notebook, thread_count

RUNS = ROOT / "runs"


def fresh_folder(folder: Path) -> None:
    """Make the folder of a run; what an earlier run left there moves to ``NAME-previous``.

    Raises:
        NotebookError: if the folder holds something that no run has left.
    """
    if folder.is_dir() and any(folder.iterdir()):
        default = folder.resolve() in {RUNS / "tutorial", RUNS / "refresh"}
        if not default and not (folder / METRICS_FILE).is_file():
            raise NotebookError(
                f"{folder}: not empty, and without {METRICS_FILE}, so it is not from an earlier "
                "run; name another folder"
            )
        previous = folder.with_name(f"{folder.name}-previous")
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    folder.mkdir(parents=True, exist_ok=True)


def _run_all(
    sources: Sequence[Path],
    outputs: Path,
    folder: Path,
    *,
    jobs: int,
    **options: Any,
) -> Iterator[tuple[Path, Outcome]]:
    """Run notebooks, one after the other or side by side, until one is interrupted."""
    if jobs > 1 and len(sources) > 1:
        yield from run_side_by_side(sources, outputs, folder, jobs=jobs, **options)
        return
    for i, source in enumerate(sources, start=1):
        outcome = run_notebook(
            source,
            outputs / source.name,
            folder,
            label=f"[{i}/{len(sources)}]",
            **options,
        )
        yield source, outcome
        if outcome.status == "interrupted":
            return


def tutorial(
    sources: Sequence[Path],
    folder: Path,
    *,
    jobs: int = 1,
    cell_seconds: float = CELL_SECONDS,
    resume: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Run notebooks into a folder, and write the pages.

    Args:
        sources: the notebooks.
        folder: gets ``NAME.ipynb``, ``NAME.html``, ``index.html``, ``metrics.json`` and what the
            notebooks write.
        jobs: how many run at a time, see `tools.parallel`.
        cell_seconds: how long a cell may take.
        resume: use the folder as it is; by default it starts empty, see `fresh_folder`.
        progress: where to report.

    Returns:
        One outcome per notebook that was begun.
    """
    if not resume:
        fresh_folder(folder)
    outcomes: list[Outcome] = []
    names = [path.stem for path in sources]
    for source, outcome in _run_all(
        sources,
        folder,
        folder,
        jobs=jobs,
        cell_seconds=cell_seconds,
        progress=progress or Progress(),
    ):
        outcomes = sorted([*outcomes, outcome], key=lambda one: names.index(one.name))
        if (folder / source.name).is_file():
            write_page(folder / source.name, names)
        write_index(folder, outcomes)
    done = [outcome.name for outcome in outcomes]
    if done != names:  # interrupted: no page links to one that was not reached
        for name in done:
            if (folder / f"{name}.ipynb").is_file():
                write_page(folder / f"{name}.ipynb", done)
    return outcomes


def refresh(
    sources: Sequence[Path],
    folder: Path,
    *,
    jobs: int = 1,
    cell_seconds: float = CELL_SECONDS,
    resume: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Execute notebooks and replace each source, atomically, if its run went well.

    The fingerprint of the code goes into the metadata: a test finds outputs of older code. No
    real images get into the repository this way: ``LDF_DATA_DIR`` is removed from the kernels'
    environment, and the notebooks use rendered pairs. Downloaded weights are not used either, so
    that the outputs are the same on every machine that has the same CLIP.
    """
    progress = progress or Progress()
    if not resume:
        fresh_folder(folder)
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        executed = Path(temporary)
        (executed / "no-weights").mkdir()
        environment = {"LDF_DATA_DIR": None, "LDF_WEIGHTS_DIR": str(executed / "no-weights")}
        for source, outcome in _run_all(
            sources,
            executed,
            folder,
            jobs=jobs,
            environment=environment,
            cell_seconds=cell_seconds,
            progress=progress,
        ):
            outcomes.append(outcome)
            if outcome.status == "done":
                notebook = read_notebook(executed / source.name)
                notebook.metadata[STAMP] = sources_hash(notebook)
                fit_figures(notebook)
                write_notebook(notebook, source)
            elif (executed / source.name).is_file():
                kept = shutil.copyfile(executed / source.name, folder / source.name)
                progress.line(f"         {source.name} is unchanged; the attempt is {kept}")
    return outcomes


def summary(outcomes: Sequence[Outcome], expected: int, progress: Progress, seconds: float) -> int:
    """Report how the run went; return the exit code."""
    failed = [outcome for outcome in outcomes if outcome.status != "done"]
    done = len(outcomes) - len(failed)
    progress.line(f"\n{done} of {expected} notebooks done in {seconds / 60:.1f} minutes")
    for outcome in failed:
        progress.line(f"{outcome.status.upper()} {outcome.name}: {outcome.error}")
    if any(outcome.status == "interrupted" for outcome in outcomes):
        return 130
    return 1 if failed or len(outcomes) < expected else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.notebooks", description="Run the notebooks of the tutorial."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("tutorial", "run all notebooks into a folder, with pages and metrics"),
        ("refresh", "execute the committed notebooks in place"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--folder",
            type=Path,
            default=os.environ.get("LDF_RUN_DIR") or RUNS / name,
            help=f"folder of the run (default: LDF_RUN_DIR, else runs/{name})",
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
        command.add_argument(
            "--jobs",
            type=int,
            default=min(2, thread_count()),
            help="notebooks that run at a time, up to 2 GB each (default: 2 with 2 cores or more)",
        )
    commands.choices["tutorial"].add_argument(
        "--data",
        choices=("tour", "real", "rendered"),
        default="rendered",
        help="the pairs, unless LDF_DATA_DIR names a folder: tour, a few real ones that are "
        "fetched into data/ first (at most 15 MB; the rendered ones if no network answers within "
        "5 seconds); real, the small public sets whole (43 MB); rendered, those that ship, without "
        "a network (default)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if all notebooks ran, 1 if one failed, 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    folder, pages = arguments.folder, arguments.command == "tutorial"
    progress, begun = Progress(), time.monotonic()
    if pages and arguments.data == "real":
        from tools.real_data import fetch  # loads torch

        real = fetch(ROOT / "data", say=progress.line)
        if real is not None:
            os.environ["LDF_DATA_DIR"] = str(real)
    elif pages and arguments.data == "tour":
        tour.use(ROOT / "data", say=progress.line)
    data = os.environ.get("LDF_DATA_DIR")
    try:
        sources = find_notebooks(arguments.notebooks, arguments.only)
        if pages and data and not Path(data).expanduser().is_dir():
            raise NotebookError(
                f"LDF_DATA_DIR: found no folder {data}, expected a folder with one folder per set; "
                "correct it, or unset it to use rendered pairs"
            )
        outcomes = (tutorial if pages else refresh)(
            sources,
            folder,
            jobs=arguments.jobs,
            cell_seconds=arguments.cell_seconds,
            resume=bool(arguments.only),
            progress=progress,
        )
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    code = summary(outcomes, len(sources), progress, time.monotonic() - begun)
    if pages:
        progress.line(f"pages: {folder / 'index.html'}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
