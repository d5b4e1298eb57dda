"""Sets of single files: fetched from a pinned commit, laid out, verified, removed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from data_download.registry import DataSet, RemoteFile, Roots
from data_download.transfer import DownloadError, Fetcher, Job, Policy, address, difference, tidy
from ldf_utils.data.files import write_text

STAGING = ".partial"


@dataclass(frozen=True)
class Options:
    """What the command line chooses.

    Attributes:
        jobs: how many files are fetched at once.
        mirror: an address or a folder that holds ``OWNER/REPO/COMMIT/PATH``, or None.
        offline: use no network.
        dry_run: say what would be done, do nothing.
        source: an archive or a folder to unpack, for sets that are fetched by hand.
        policy: how patient a download is.
    """

    jobs: int = 8
    mirror: str | None = None
    offline: bool = False
    dry_run: bool = False
    source: Path | None = None
    policy: Policy = field(default_factory=Policy)

    @property
    def no_network(self) -> bool:
        """Whether nothing can be fetched: offline, and the mirror is no folder on this machine."""
        return self.offline and not (self.mirror and "://" not in self.mirror)


class SetError(RuntimeError):
    """A set could not be made complete, or is not what it has to be; the text says what to do."""


def human(count: int) -> str:
    """A number of bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder of sets, so that two runs do not work on one set at the same time.

    The lock goes with the process, also if it is killed.

    Raises:
        SetError: if another run holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SetError(
            f"{folder}: another run is at work on this folder; wait until it has ended"
        ) from error
    try:
        yield
    finally:
        lock.release()


def url(dataset: DataSet, file: RemoteFile, mirror: str | None) -> str:
    """Where a file of a set comes from."""
    return address(mirror or dataset.base, dataset.source, dataset.commit, file.path)


def status(dataset: DataSet, roots: Roots) -> dict[RemoteFile, str | None]:
    """What is wrong with each file: None, "missing", or "expected ..., found ..."."""
    found: dict[RemoteFile, str | None] = {}
    for file in dataset.files:
        path = roots.path(file)
        found[file] = difference(path, file.bytes, file.hash) if path.is_file() else "missing"
    return found


def summary(dataset: DataSet, roots: Roots) -> str:
    """How much of the set is here, by names and sizes alone."""
    here = sum(_plausible(roots.path(file), file) for file in dataset.files)
    return "complete" if here == len(dataset.files) else f"{here} of {len(dataset.files)} files"


def _plausible(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and file.bytes in (None, path.stat().st_size)


def folders(dataset: DataSet, roots: Roots) -> list[Path]:
    """The folders that the set is laid out in."""
    found = {
        (roots.weights if file.place == "weights" else roots.data) / Path(file.target).parts[0]
        for file in dataset.files
    }
    return sorted(found)


def get(dataset: DataSet, roots: Roots, options: Options, registry: Mapping[str, DataSet]) -> str:
    """Make a set complete: fetch what is missing or differs, keep what is right.

    Args:
        dataset: the set.
        roots: where sets are laid out.
        options: how to fetch.
        registry: every set, for the SOURCE.md of folders that several sets share.

    Returns:
        One line that says what was done.

    Raises:
        SetError: if files are still missing at the end; every one of them is named.
    """
    if options.dry_run:
        return _plan(dataset, roots, options)
    places = folders(dataset, roots)
    where = ", ".join(str(folder) for folder in places)
    if all((folder / "SOURCE.md").is_file() for folder in places):  # also where one cannot write
        found = status(dataset, roots)
        if not any(found.values()):
            return f"{dataset.name}: complete in {where}; all {len(found)} files were there"
    with contextlib.ExitStack() as stack:
        for folder in places:
            stack.enter_context(locked(folder))
        found = status(dataset, roots)
        wanted = [file for file, wrong in found.items() if wrong]
        try:
            if wanted:
                _fetch(dataset, wanted, roots, options)
        except BaseException:
            for folder in places:
                tidy(folder / STAGING)
            write_sources(dataset, roots, registry)
            raise
        for folder in places:
            shutil.rmtree(folder / STAGING, ignore_errors=True)
        write_sources(dataset, roots, registry)
    size = sum(roots.path(file).stat().st_size for file in wanted)
    changed = sum(found[file] != "missing" for file in wanted)
    again = f" ({changed} of them differed from the source)" if changed else ""
    return (
        f"{dataset.name}: complete in {where}; {len(wanted)} files ({human(size)}) fetched{again}, "
        f"{len(found) - len(wanted)} were there"
    )


def _plan(dataset: DataSet, roots: Roots, options: Options) -> str:
    wanted = [file for file, wrong in status(dataset, roots).items() if wrong]
    lines = [
        f"{url(dataset, file, options.mirror)} -> {roots.path(file)}"
        f" ({'size not known' if file.bytes is None else f'{file.bytes} bytes'})"
        for file in wanted
    ]
    size = sum(file.bytes or 0 for file in wanted)
    unknown = sum(file.bytes is None for file in wanted)
    more = f" and {unknown} of unknown size" if unknown else ""
    lines.append(
        f"{dataset.name}: would fetch {len(wanted)} files, {size} bytes ({human(size)}){more}, "
        f"from {options.mirror or dataset.base}; {len(dataset.files) - len(wanted)} are there"
    )
    return "\n".join(lines)


def _fetch(dataset: DataSet, wanted: list[RemoteFile], roots: Roots, options: Options) -> None:
    if options.no_network:
        raise SetError(
            f"{dataset.name}: {len(wanted)} of {len(dataset.files)} files are missing or differ, "
            f"and --offline forbids to fetch them:\n{listing(str(roots.path(f)) for f in wanted)}"
            "\nrun it once without --offline"
        )
    needed = sum(file.bytes or 0 for file in wanted)
    for folder in folders(dataset, roots):
        free = shutil.disk_usage(folder.parent).free
        if needed > free:
            raise SetError(
                f"{folder}: {human(needed)} are needed and {human(free)} are free; make room, or "
                "choose another folder with --to"
            )
    print(
        f"{dataset.name}: fetching {len(wanted)} files, {human(needed)}, from "
        f"{options.mirror or dataset.base}",
        flush=True,
    )
    jobs = {
        Job(
            url(dataset, file, options.mirror), roots.path(file), file.bytes, file.hash
        ): _folder_of(file, roots)
        for file in wanted
    }
    fetcher = Fetcher(options.policy, options.jobs)
    results = fetcher.fetch_all(list(jobs), lambda job: jobs[job] / STAGING, dataset.name)
    errors = [error for _, error in results if error is not None]
    if errors:
        raise SetError(_report(dataset, len(results), errors))


def _folder_of(file: RemoteFile, roots: Roots) -> Path:
    root = roots.weights if file.place == "weights" else roots.data
    return root / Path(file.target).parts[0]


def _report(dataset: DataSet, tried: int, errors: list[DownloadError]) -> str:
    telling = sorted(
        str(error) for error in errors if "an earlier error ended the run" not in str(error)
    )
    left = len(errors) - len(telling)
    more = f"\nand {left} files not tried after that" if left else ""
    return (
        f"{dataset.name}: {len(errors)} of {tried} files could not be fetched; the others are in "
        f"place and verified:\n{listing(telling)}{more}\n`verify {dataset.name}` names every one"
    )


def listing(lines: Iterable[str], most: int = 10) -> str:
    """Lines as a list, the first ten of them and how many more there are."""
    lines = list(lines)
    shown = [f"- {line}" for line in lines[:most]]
    if len(lines) > most:
        shown.append(f"- and {len(lines) - most} more")
    return "\n".join(shown)


def verify(dataset: DataSet, roots: Roots) -> str:
    """Compare every file with its hash.

    Returns:
        One line that says that all is well.

    Raises:
        SetError: if a file is missing or differs; every one is named.
    """
    found = status(dataset, roots)
    bad = [f"{roots.path(file)}: {wrong}" for file, wrong in found.items() if wrong]
    if bad:
        raise SetError(
            f"{dataset.name}: {len(bad)} of {len(found)} files are missing or differ:\n"
            f"{listing(bad, most=len(bad))}\n`get {dataset.name}` fetches them"
        )
    return f"{dataset.name}: {len(found)} files, all as at the source"


def remove(dataset: DataSet, roots: Roots, options: Options, registry) -> str:
    """Remove the files of a set, and no others.

    Returns:
        One line that says what was removed and what was left.
    """
    present = [file for file in dataset.files if roots.path(file).is_file()]
    size = sum(roots.path(file).stat().st_size for file in present)
    if options.dry_run:
        lines = [str(roots.path(file)) for file in present]
        return "\n".join(
            [*lines, f"{dataset.name}: would remove {len(present)} files ({human(size)})"]
        )
    left = 0
    for folder in folders(dataset, roots):
        if not folder.is_dir():
            continue
        with locked(folder):
            for file in present:
                if _folder_of(file, roots) == folder:
                    roots.path(file).unlink()
            shutil.rmtree(folder / STAGING, ignore_errors=True)
            write_sources(dataset, roots, registry)
            left += prune(folder)
        if not folder.exists():
            (folder.parent / f".{folder.name}.lock").unlink(missing_ok=True)
    kept = f"; {left} other files were left where they are" if left else ""
    return f"{dataset.name}: removed {len(present)} files ({human(size)}){kept}"


def prune(folder: Path) -> int:
    """Remove empty folders below and with ``folder``; return how many files are left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    left = sum(path.is_file() for path in folder.rglob("*"))
    if not any(folder.iterdir()):
        folder.rmdir()
    return left


def write_sources(dataset: DataSet, roots: Roots, registry: Mapping[str, DataSet]) -> None:
    """Write SOURCE.md in each folder of the set: origin, commit, license, how to cite.

    A folder may be shared by several sets; each that has a file there gets its section.
    """
    for folder in folders(dataset, roots):
        sections = [
            _section(other)
            for other in registry.values()
            if other.kind == "files"
            and any(
                _folder_of(file, roots) == folder and _plausible(roots.path(file), file)
                for file in other.files
            )
        ]
        if sections:
            write_text(folder / "SOURCE.md", "# Where these files come from\n" + "".join(sections))
        else:
            (folder / "SOURCE.md").unlink(missing_ok=True)


def _section(dataset: DataSet) -> str:
    lines = [
        f"\n## {dataset.title}",
        "",
        f"- Origin: {dataset.source} at commit {dataset.commit}, fetched file by file from",
        f"  {dataset.base}/{dataset.source}/{dataset.commit}/",
        f"- Page: {dataset.homepage}",
        f"- License: {dataset.license}",
        f"- Cite: {dataset.cite}",
    ]
    if dataset.note:
        lines.append(f"- Note: {dataset.note}")
    lines.append(f"- Check: `python -m data_download verify {dataset.name}`")
    return "\n".join(lines) + "\n"
