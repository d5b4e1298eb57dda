"""The command line: ``python -m ldf_utils.evaluation SET_DIR``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ldf_utils.data import suspicion
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import check_writable, explain, write_rows
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.truth import NEEDED
from ldf_utils.evaluation.evaluate import Row, evaluate_set
from ldf_utils.evaluation.ranking import compare_ranks, metric_agreement, truth_names, with_means
from ldf_utils.evaluation.report import format_agreement, format_table, write_report
from ldf_utils.metrics import METRICS, USUAL
from ldf_utils.training.distributed import ProcessError, Team, join_team


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.evaluation",
        description="Measure fused pictures against their sources: a table of every method.",
        epilog="Exit code 0: all was measured; 1: some results were not, they are named; 2: none, "
        "or a file cannot be written.",
    )
    parser.add_argument(
        "set_dir", type=Path, help="folder with ir/, vi/ and any number of fused_METHOD/"
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help="these only (default: all there are)"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(METRICS)}, or all (default: {' '.join(USUAL)})",
    )
    parser.add_argument(
        "--truth",
        action="store_true",
        help=f"measure against {', '.join(f'{x}/' for x in NEEDED)} too, which rendered sets have, "
        "and say which metrics agree with the truth",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write a row per method and image, and one with image=mean",
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with table, ranks and pictures"
    )
    parser.add_argument(
        "--jobs", type=int, default=_cores(), help="pairs at the same time (default: %(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs") / "evaluation_cache",
        metavar="DIR",
        help="keeps measured values by the content of the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--infrared-range",
        default="auto",
        metavar="RANGE",
        help="which counts of deep infrared pictures are black and white: as for ldf_utils.fusion, "
        "auto, full, or LOW:HIGH (default: %(default)s; what was chosen is told)",
    )
    parser.add_argument(
        "--polarity",
        choices=("white-hot", "black-hot"),
        default="white-hot",
        help="how the infrared pictures show what is hot (default: %(default)s)",
    )
    parser.add_argument("--no-cache", action="store_true", help="measure all again, keep nothing")
    return parser.parse_args(argv)


def _say(kind: str, text: str) -> None:
    print(f"{kind}: {text}", file=sys.stderr)


class _Notes(logging.Handler):
    """Tell what reading the pictures logs (which range was taken, what is suspected); keep it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        _say("warning", self.texts[-1])


def _of_all(
    team: Team, rows: list[Row], problems: list[str], pairs: PairFolder
) -> tuple[list[Row], list[str]]:
    """Gather what all processes measured, in the order of a single one, and what went wrong."""
    parts = team.gather((rows, problems))
    methods = list(dict.fromkeys(row["method"] for mine, _ in parts for row in mine))
    order = {name: place for place, name in enumerate(pairs.names)}
    together = [row for mine, _ in parts for row in mine]
    together.sort(key=lambda row: (methods.index(row["method"]), order[row["image"]]))
    return together, list(dict.fromkeys(problem for _, theirs in parts for problem in theirs))


def _measure(arguments: argparse.Namespace, team: Team) -> tuple[PairFolder, list[Row], list[str]]:
    """Try the outputs, then measure this process's pairs and gather those of all."""
    for path in filter(None, (arguments.csv, arguments.html)):
        check_writable(path)
    cache = None if arguments.no_cache else arguments.cache
    if cache is not None:
        try:
            check_writable(cache, folder=True)
        except OSError as error:
            _say("warning", f"no values are kept: {explain(error)}")
            cache = None
    problems: list[str] = []
    pairs = PairFolder(
        arguments.set_dir,
        problems.append,
        infrared_range=arguments.infrared_range,
        black_hot=arguments.polarity == "black-hot",
    )
    whole, pairs.ranges = pairs.files, pairs.ranges  # chosen over the whole set
    if team.rank == 0:
        suspicion.warn(pairs, pairs.folder)
    pairs.files = team.shard(whole)
    progress = team.rank == 0 and sys.stderr.isatty()  # no bar in a log
    rows = evaluate_set(
        pairs,
        arguments.methods,
        METRICS if arguments.metrics == ["all"] else arguments.metrics,
        truth=arguments.truth,
        jobs=arguments.jobs,
        cache=cache,
        on_problem=problems.append,
        on_warning=lambda text: _say("warning", text),
        progress=progress,
    )
    pairs.files = whole
    return pairs, *_of_all(team, rows, problems, pairs)


def _print_tables(rows: Sequence[Row], truth: bool) -> None:
    print(format_table(rows))
    for line in compare_ranks(rows).warnings():
        print(f"warning: {line} (95 % bootstrap interval of the rank difference)")
    if truth:
        print("\nAgainst the truth:")
        print(format_table(rows, truth_names(rows)))
        print("\n" + format_agreement(metric_agreement(rows)))


def _report(
    arguments: argparse.Namespace,
    pairs: PairFolder,
    rows: list[Row],
    problems: list[str],
    notes: Sequence[str],
) -> int:
    """Write the files, print the tables, and return the exit code."""
    for problem in problems:
        _say("error", problem)
    if not rows:
        _say("error", "not one result could be measured")
        return 2

    # Files first, then the terminal; one that fails does not take the others with it.
    def write(step: Callable[[], Path | None]) -> None:
        try:
            if path := step():
                print(f"Wrote {path}")
        except (OSError, ValueError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            problems.append(explain(error))
            _say("error", problems[-1])

    missing = tuple(problems)
    if arguments.csv:
        write(lambda: write_rows(arguments.csv, with_means(rows)))
    if arguments.html:
        write(lambda: write_report(arguments.html, pairs, rows, problems=missing, notes=notes))
    write(lambda: _print_tables(rows, arguments.truth))
    if problems:
        print(f"{len(problems)} problem(s), {len(rows)} result(s) measured", file=sys.stderr)
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 if all results were measured, 1 if some were not, 2 if none could be."""
    arguments, notes, log = _arguments(argv), _Notes(), logging.getLogger("ldf_utils.data")
    log.addHandler(notes)
    try:
        team = join_team("cpu")
        if team.rank > 0:  # the first process speaks for all
            log.removeHandler(notes)
        pairs, rows, problems = _measure(arguments, team)
        if team.rank > 0:
            return 2 if not rows else 1 if problems else 0
        return _report(arguments, pairs, rows, problems, notes.texts)
    except (OSError, ValueError, ProcessError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        _say("error", explain(error))
        return 2
    finally:
        log.removeHandler(notes)


if __name__ == "__main__":
    run_command(main, "stopped; what was measured is kept in the cache, the same command goes on")
