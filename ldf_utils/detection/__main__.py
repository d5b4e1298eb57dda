"""The command line: ``python -m ldf_utils.detection SET_DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import check_writable, explain, write_rows
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection.boxes import CLASSES
from ldf_utils.detection.detector import NAMES, load_detector
from ldf_utils.detection.labels import FORMS, Labels, read_labels
from ldf_utils.detection.report import write_report
from ldf_utils.detection.search import Findings, choose_methods, search_set
from ldf_utils.detection.table import compare, format_rows, precision_rows, sentences


def _class(text: str) -> tuple[str, str | None]:
    """Read ``NAME=person``, ``NAME=vehicle`` or ``NAME=none``."""
    name, _, kind = text.partition("=")
    if not name or kind not in (*CLASSES, "none"):
        raise argparse.ArgumentTypeError(
            f"must be like NAME={CLASSES[0]}, NAME={CLASSES[1]} or NAME=none, got {text!r}"
        )
    return name, None if kind == "none" else kind


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.detection",
        description="How well does a detector find people and vehicles in the sources, in fused "
        "pictures, and in both sources merged? Average precision of every method.",
        epilog="Exit code 0: all was measured; 1: some was not, it is named; 2: nothing was, or a "
        "file cannot be written.",
    )
    parser.add_argument(
        "set_dir",
        type=Path,
        help=f"folder with ir/, vi/, any number of fused_METHOD/, and labels/ with {FORMS}",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="these only: visible, infrared, merged (detections of both), or a METHOD (default: "
        "all there are)",
    )
    parser.add_argument(
        "--detector",
        default="embedded",
        metavar="NAME|FILE",
        help=f"{', '.join(NAMES)}, or a file of weights (default: %(default)s)",
    )
    parser.add_argument(
        "--class",
        dest="class_of",
        type=_class,
        nargs="+",
        default=[],
        metavar="NAME=CLASS",
        help="what a name in the labels means: person, vehicle or none",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row per method and class")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with tables and drawn boxes"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs") / "detection_cache",
        metavar="DIR",
        help="keeps detections by the content of the pictures (default: %(default)s)",
    )
    parser.add_argument("--no-cache", action="store_true", help="search all again, keep nothing")
    return parser.parse_args(argv)


def _say(kind: str, text: str) -> None:
    print(f"{kind}: {text}", file=sys.stderr)


def _cache(arguments: argparse.Namespace) -> Path | None:
    """Return the folder of kept detections, checked to be writable."""
    if arguments.no_cache:
        return None
    try:
        check_writable(arguments.cache, folder=True)
    except OSError as error:
        _say("warning", f"no detections are kept: {explain(error)}")
        return None
    return Path(arguments.cache)


def _measure(arguments: argparse.Namespace) -> tuple[PairFolder, Labels, Findings, str]:
    """Try the outputs, read the labels, and search all pictures."""
    for path in filter(None, (arguments.csv, arguments.html)):
        check_writable(path)
    problems: list[str] = []
    pairs = PairFolder(arguments.set_dir, problems.append)
    methods = choose_methods(pairs, arguments.methods)
    labels = read_labels(arguments.set_dir, pairs, dict(arguments.class_of))
    for note in labels.notes:
        _say("note", note)
    findings = search_set(
        pairs,
        labels,
        detector := load_detector(arguments.detector),
        methods,
        cache=_cache(arguments),
        progress=sys.stderr.isatty(),
    )
    if findings.unkept:
        _say("warning", findings.unkept)
    findings.problems[:0] = problems + labels.problems
    return pairs, labels, findings, detector.name


def _report(
    arguments: argparse.Namespace,
    pairs: PairFolder,
    labels: Labels,
    findings: Findings,
    detector: str,
) -> int:
    """Write the files, print the tables, and return the exit code."""
    problems = findings.problems
    for problem in problems:
        _say("error", problem)
    rows = precision_rows(findings, labels.classes)
    if not rows:
        _say("error", "not one method could be measured")
        return 2
    told = [line for c in labels.classes for line in sentences(compare(findings, c))]

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

    shown: dict[str, Any] = {"detector": detector, "told": told, "problems": tuple(problems)}
    if arguments.csv:
        write(lambda: write_rows(arguments.csv, rows))
    if arguments.html:
        write(
            lambda: write_report(arguments.html, pairs, findings, rows, notes=labels.notes, **shown)
        )
    write(lambda: print(format_rows(rows)))
    print("\nAP50, 95 % bootstrap intervals of the differences:")
    for line in told:
        print(f"- {line}")
    if problems:
        print(f"{len(problems)} problem(s), {len(rows)} row(s) measured", file=sys.stderr)
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 if all was measured, 1 if some was not, 2 if nothing could be."""
    arguments = _arguments(argv)
    try:
        return _report(arguments, *_measure(arguments))
    except (OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        _say("error", explain(error))
        return 2


if __name__ == "__main__":
    run_command(main, "stopped; what was searched is kept in the cache, the same command goes on")
