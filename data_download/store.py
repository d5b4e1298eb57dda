"""Sets of single files: fetched from a pinned commit, laid out, verified, removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from data_download.errors import DownloadError
from data_download.hashes import difference
from data_download.registry import DataSet, RemoteFile, Roots
from data_download.transfer import Fetcher, Job, Policy, address, is_address, tidy
from ldf_utils.data.files import check_writable, explain, write_text

STAGING = ".partial"
_MISSING = "missing"


@dataclass(frozen=True)
class Options:
    """What the command line chooses.

    Attributes:
        jobs: how many files are fetched at once.
        mirror: an address or a folder that holds ``OWNER/REPO/COMMIT/PATH``, or None.
        offline: use no network.
        dry_run: say what would be done, do nothing.
        source: an archive or a folder to unpack, for sets that are fetched by hand.
        every: the distance of the frames to take out of clips; None for clips alone.
        quiet: print nothing but progress bars.
        policy: how patient a download is.
    """

    jobs: int = 8
    mirror: str | None = None
    offline: bool = False
    dry_run: bool = False
    source: Path | None = None
    every: int | None = None
    quiet: bool = False
    policy: Policy = field(default_factory=Policy)

    @property
    def no_network(self) -> bool:
        """Say whether nothing can be fetched: offline, and the mirror is not a local folder."""
        return self.offline and (self.mirror is None or is_address(self.mirror))


class SetError(RuntimeError):
    """A set could not be completed, or is not what is expected; the text says what to do."""


def human(count: int) -> str:
    """Write a number of bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder of sets, so that two runs do not work on one set at the same time.

    The lock goes with the process, also if it is killed. If the folder does not exist in the end,
    no trace of the lock remains.

    Raises:
        SetError: if another run holds it, or the folder cannot be written.
    """
    place = folder.parent / ".locks"
    require_writable(place)
    require_writable(folder)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{folder.name}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SetError(
            f"{folder}: another run is using this folder; wait until it has ended"
        ) from error
    try:
        yield
    finally:
        lock.release()
        if not folder.exists():
            with contextlib.suppress(OSError):  # another run has come, or other locks are there
                path.unlink(missing_ok=True)
                place.rmdir()


def require_writable(folder: Path) -> None:
    """Check that files can be written to a folder, ahead of the work.

    Raises:
        SetError: with what is in the way.
    """
    try:
        check_writable(folder, folder=True)
    except OSError as error:
        raise SetError(f"{explain(error)} (--to names another folder of sets)") from error


def require_space(folder: Path, needed: int) -> None:
    """Check that the disk of a folder has room.

    Raises:
        SetError: with how much is needed and how much is free.
    """
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise SetError(
            f"{folder}: {human(needed)} are needed and {human(free)} are free; free some space, or "
            "choose another folder with --to"
        )


def url(dataset: DataSet, file: RemoteFile, mirror: str | None) -> str:
    """Name the address of a file of a set, or its path in a mirror on this machine."""
    if dataset.kind == "hub" and not mirror:
        endpoint = (os.environ.get("HF_ENDPOINT") or dataset.base).rstrip("/")
        return f"{endpoint}/{dataset.source}/resolve/{dataset.commit}/{file.path}"
    return address(mirror or dataset.base, dataset.source, dataset.commit, file.path)


def status(dataset: DataSet, roots: Roots) -> dict[RemoteFile, str | None]:
    """Compare each file with its hash: None, "missing", or "expected ..., found ..."."""
    found: dict[RemoteFile, str | None] = {}
    for file in dataset.files:
        path = roots.path(file)
        found[file] = difference(path, file.bytes, file.hash) if path.is_file() else _MISSING
    return found


def summary(dataset: DataSet, roots: Roots) -> str:
    """Say how much of the set is here, by names and sizes alone."""
    here = sum(_plausible(roots.path(file), file) for file in dataset.files)
    return "complete" if here == len(dataset.files) else f"{here} of {len(dataset.files)} files"


def _plausible(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and file.bytes in (None, path.stat().st_size)


def _folder_of(file: RemoteFile, roots: Roots) -> Path:
    return roots.of(file) / Path(file.target).parts[0]


def folders(dataset: DataSet, roots: Roots) -> list[Path]:
    """Name the folders that the set is laid out in."""
    return sorted({_folder_of(file, roots) for file in dataset.files})


def get(dataset: DataSet, roots: Roots, options: Options, registry: Mapping[str, DataSet]) -> str:
    """Complete a set: fetch what is missing or differs, keep what is right.

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
    if dataset.kind == "hub" or all((folder / "SOURCE.md").is_file() for folder in places):
        found = status(dataset, roots)  # nothing needs to be written if all is well
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
            for folder in filter(Path.is_dir, places):
                prune(folder)
            raise
        for folder in places:
            shutil.rmtree(folder / STAGING, ignore_errors=True)
        write_sources(dataset, roots, registry)
    size = sum(roots.path(file).stat().st_size for file in wanted)
    changed = sum(found[file] != _MISSING for file in wanted)
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
            "and --offline or HF_HUB_OFFLINE forbids fetching them:\n"
            f"{listing(str(roots.path(f)) for f in wanted)}\nrun it once without"
        )
    for parent in sorted({roots.path(file).parent for file in wanted}):
        require_writable(parent)
    needed = sum(file.bytes or 0 for file in wanted)
    for folder in folders(dataset, roots):
        require_space(folder, needed)
    if not options.quiet:
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


def _report(dataset: DataSet, count: int, errors: list[DownloadError]) -> str:
    tried = sorted(str(error) for error in errors if error.tried)
    untried = len(errors) - len(tried)
    more = f"\nand {untried} files not tried after that" if untried else ""
    return (
        f"{dataset.name}: {len(errors)} of {count} files could not be fetched; the others are in "
        f"place and verified:\n{listing(tried)}{more}\n`verify {dataset.name}` names every one"
    )


def listing(lines: Iterable[str], most: int = 10) -> str:
    """Format lines as a list: the first ten, and how many more there are."""
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


def remove(
    dataset: DataSet, roots: Roots, options: Options, registry: Mapping[str, DataSet]
) -> str:
    """Remove the files of a set, and no others.

    Returns:
        One line that says what was removed and what was left.

    Raises:
        SetError: if a link leads out of the folder of the set; then nothing is removed.
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
            mine = [roots.path(file) for file in present if _folder_of(file, roots) == folder]
            remove_files(folder, mine)
            write_sources(dataset, roots, registry)
            left += prune(folder)
    kept = f"; {left} other files were left where they are" if left else ""
    return f"{dataset.name}: removed {len(present)} files ({human(size)}){kept}"


def remove_files(folder: Path, paths: Iterable[Path]) -> None:
    """Remove files of a set, and its partial files.

    Raises:
        SetError: if a path leads out of the folder, by a link for one; then nothing is removed.
    """
    paths, home = list(paths), folder.resolve()
    for path in paths:
        if not path.parent.resolve().is_relative_to(home):
            raise SetError(
                f"{path}: this leads outside {folder}; nothing was removed. Remove the link, or "
                "what else leads outside, and run the command again"
            )
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    for path in paths:
        path.unlink(missing_ok=True)


def prune(folder: Path) -> int:
    """Remove empty folders below and with ``folder``; return how many files are left."""
    for place, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(place) and not os.path.islink(place):
            os.rmdir(place)
    return sum(path.is_file() for path in folder.rglob("*"))


def write_sources(dataset: DataSet, roots: Roots, registry: Mapping[str, DataSet]) -> None:
    """Write SOURCE.md in each folder of the set: origin, commit, license, how to cite.

    A folder may be shared by several sets; each that has a file there gets its section.
    """
    for folder in () if dataset.kind == "hub" else folders(dataset, roots):
        sections = [
            _section(other)
            for other in registry.values()
            if other.kind in ("files", "video")
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
