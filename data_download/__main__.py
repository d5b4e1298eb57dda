"""The command line: ``python -m data_download list | info | get | verify | remove | tour``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from data_download import api, tour, video
from data_download.errors import DownloadError
from data_download.registry import DataSet, RegistryError, load_registry
from data_download.store import Options, SetError, human
from data_download.transfer import Policy, is_address
from ldf_utils.data import files
from ldf_utils.data.cli import run_command


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_download",
        description="Public infrared/visible sets and weights: every file verified, every run "
        "resumable.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--registry", metavar="FILE", help="another registry file (TOML)")
    every.add_argument(
        "--to", metavar="DIR", help="the folder of sets (default: data in the current folder)"
    )

    def command(name: str, action: Callable[..., int], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[every], help=help)
        added.set_defaults(action=action)
        return added

    command("list", _list, "name every set")
    info = command("info", _info, "say all that is known of a set")
    info.add_argument("names", nargs=1, metavar="NAME")
    get = command("get", _get, "fetch sets, or complete them")
    verify = command("verify", _verify, "compare every file with its hash")
    remove = command("remove", _remove, "remove the files of sets")
    tour_ = command("tour", _tour, "fetch a few real pairs, at most 15 MB, for the notebooks")
    links = command("links", _links, "check every real address with one small file per source")
    for several in (get, verify, remove):
        several.add_argument("names", nargs="+", metavar="NAME")
    get.add_argument(
        "--from",
        dest="source",
        metavar="FILE_OR_FOLDER",
        help="the archive, or the folder it was unpacked to, of a set that is fetched by hand",
    )
    get.add_argument(
        "--every",
        type=_count(1),
        metavar="N",
        help="take every N-th frame out of the clips of a set of videos, as registered pairs",
    )
    for chosen in (get, verify):
        chosen.add_argument(
            "--clips",
            type=lambda text: tuple(filter(None, text.split(","))),
            default=(),
            metavar="NAME,NAME",
            help="only these clips of a set of videos",
        )
    get.add_argument("--jobs", type=_count(1), default=8, help="files at once (default: 8)")
    for mirrored in (get, tour_):
        mirrored.add_argument(
            "--mirror",
            metavar="URL",
            help="an address or a folder that holds OWNER/REPO/COMMIT/PATH",
        )
    tour_.add_argument(
        "--wait",
        type=_seconds,
        default=tour.WAIT,
        metavar="SECONDS",
        help="go on with the rendered pairs if no network answers in this time (default: 5)",
    )
    get.add_argument("--offline", action="store_true", help="use no network; say what is missing")
    for patient in (get, links):
        patient.add_argument(
            "--retries", type=_count(0), default=4, help="tries after the first (default: 4)"
        )
        patient.add_argument(
            "--timeout",
            type=_seconds,
            default=30,
            help="seconds after which a connection that delivers less than 100 bytes per second "
            "is given up (default: 30)",
        )
    for careful in (get, remove):
        careful.add_argument("--dry-run", action="store_true", help="say what would be done")
    return parser


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a number >= {least}, got {text!r}")
        return int(text)

    return count


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"must be seconds > 0, got {text!r}")
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 if all is well, 1 if a set is not complete or differs, 2 for a wrong call.
    """
    arguments = build_parser().parse_args(argv)
    try:
        registry = load_registry(arguments.registry)
    except RegistryError as error:
        return _wrong_call(str(error))
    unknown = [name for name in getattr(arguments, "names", []) if name not in registry]
    if unknown:
        return _wrong_call(f"{', '.join(unknown)}: no such set; there are {', '.join(registry)}")
    try:
        code: int = arguments.action(arguments, registry)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _report(error)
    return code


def _report(error: Exception) -> int:
    print(f"error: {files.explain(error)}", file=sys.stderr, flush=True)
    return 1


def _wrong_call(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 2


def _list(arguments: argparse.Namespace, registry: Mapping[str, DataSet]) -> int:
    width = max(map(len, registry))
    for dataset in registry.values():
        module = api.module_of(dataset)
        state = module.summary(dataset, api.roots_for(dataset, arguments.to))
        more = "> " if any(file.bytes is None for file in dataset.files) else ""
        size = more + human(dataset.bytes) if dataset.bytes else "by hand"
        print(f"{dataset.name:{width}}  {size:>9}  {state:18}  {dataset.title}")
    return 0


def _info(arguments: argparse.Namespace, registry: Mapping[str, DataSet]) -> int:
    dataset = registry[arguments.names[0]]
    roots = api.roots_for(dataset, arguments.to)
    module = api.module_of(dataset)
    rows = {
        "name": dataset.name,
        "what": dataset.title,
        "page": dataset.homepage,
        "origin": f"{dataset.source} at {dataset.commit}" if dataset.source else "",
        "address": f"{dataset.base}/{dataset.source}/{dataset.commit}/" if dataset.files else "",
        "files": _size(dataset) if dataset.files else "",
        "license": dataset.license,
        "cite": dataset.cite,
        "note": dataset.note,
        "requires": ", ".join(dataset.requires),
        "folder": ", ".join(map(str, module.folders(dataset, roots))),
        "here": module.summary(dataset, roots),
    }
    for key, value in rows.items():
        if value:
            print(f"{key + ':':9} {value}")
    if dataset.kind == "manual":
        print(module.instructions(dataset))
    return 0


def _size(dataset: DataSet) -> str:
    unknown = sum(file.bytes is None for file in dataset.files)
    more = f", and {unknown} of unknown size" if unknown else ""
    known = len(dataset.files) - unknown
    return f"{known} of {dataset.bytes} bytes ({human(dataset.bytes)}) in all{more}"


def _get(arguments: argparse.Namespace, registry: Mapping[str, DataSet]) -> int:
    if arguments.source and [registry[name].kind for name in arguments.names] != ["manual"]:
        return _wrong_call("--from goes with one set that is fetched by hand")
    videos = [name for name in arguments.names if registry[name].kind == "video"]
    if (arguments.clips or arguments.every) and videos != arguments.names:
        return _wrong_call("--clips and --every go with sets of videos")
    mirror, problem = _mirror(arguments)
    if problem:
        return _wrong_call(problem)
    options = Options(
        jobs=arguments.jobs,
        mirror=mirror,
        offline=arguments.offline,
        dry_run=arguments.dry_run,
        source=Path(arguments.source) if arguments.source else None,
        every=arguments.every,
        policy=Policy(retries=arguments.retries, timeout=arguments.timeout),
    )
    return _each(
        api.with_required(arguments.names, registry),
        lambda dataset: api.module_of(dataset).get(
            _chosen(dataset, arguments), api.roots_for(dataset, arguments.to), options, registry
        ),
    )


def _chosen(dataset: DataSet, arguments: argparse.Namespace) -> DataSet:
    return video.select(dataset, arguments.clips) if arguments.clips else dataset


def _mirror(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return the mirror, and what is wrong with it."""
    mirror = (arguments.mirror or "").removeprefix("file://") or None
    if mirror and not is_address(mirror) and not Path(mirror).is_dir():
        return None, f"--mirror {mirror}: neither an address (https://...) nor a folder that exists"
    return mirror, None


def _tour(arguments: argparse.Namespace, registry: Mapping[str, DataSet]) -> int:
    mirror, problem = _mirror(arguments)
    if problem:
        return _wrong_call(problem)
    tour.fetch(arguments.to, wait=arguments.wait, mirror=mirror, registry=registry)
    return 0  # also without a network: whoever asked goes on with the rendered pairs


def _links(arguments: argparse.Namespace, registry: Mapping[str, DataSet]) -> int:
    code = 0
    policy = Policy(retries=arguments.retries, timeout=arguments.timeout)
    for address, problem in api.check_links(registry, policy):
        print(f"{'ok ' if problem is None else 'BAD'} {problem or address}", flush=True)
        code = code if problem is None else 1
    return code


def _verify(arguments: argparse.Namespace, registry: Mapping[str, DataSet]) -> int:
    videos = [name for name in arguments.names if registry[name].kind == "video"]
    if arguments.clips and videos != arguments.names:
        return _wrong_call("--clips goes with sets of videos")
    return _each(
        [registry[name] for name in arguments.names],
        lambda dataset: api.module_of(dataset).verify(
            _chosen(dataset, arguments), api.roots_for(dataset, arguments.to)
        ),
    )


def _remove(arguments: argparse.Namespace, registry: Mapping[str, DataSet]) -> int:
    options = Options(dry_run=arguments.dry_run)
    return _each(
        [registry[name] for name in arguments.names],
        lambda dataset: api.module_of(dataset).remove(
            dataset, api.roots_for(dataset, arguments.to), options, registry
        ),
    )


def _each(datasets: Iterable[DataSet], action: Callable[[DataSet], str]) -> int:
    """Do something with every set; a bad one does not keep the others from their turn."""
    code = 0
    for dataset in datasets:
        try:
            text = action(dataset)
        except BrokenPipeError:
            raise
        except (SetError, DownloadError, OSError) as error:
            code = _report(error)
        else:
            print(text, flush=True)
    return code


if __name__ == "__main__":
    run_command(main, "stopped; complete files are kept: run the command again to resume")
