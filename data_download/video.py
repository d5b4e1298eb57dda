"""Sets of video clips: fetched as other files are, and frames taken out as registered pairs.

A frame becomes ``ir/CLIP_FRAME.png`` and ``vi/CLIP_FRAME.png``, counted from 0 in the order shown.
What was written is recorded in ``frames.csv`` in the folder of the set.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from data_download import store
from data_download.hashes import difference, file_hash
from data_download.registry import DataSet, RemoteFile, Roots, clip_of
from data_download.store import STAGING, Options, SetError, human, listing, locked, remove_files
from data_download.unpack import read_manifest
from ldf_utils.data.files import write_rows

FRAMES = "frames.csv"
folders = store.folders

Row = dict[str, Any]


class PyAVMissing(SetError):
    """PyAV, which decodes the clips, is not installed."""


def select(dataset: DataSet, clips: Sequence[str]) -> DataSet:
    """Keep some clips of a set.

    Args:
        dataset: the set.
        clips: names of clips, ``0111_1716`` for one; an empty sequence keeps all.

    Raises:
        SetError: if the set has no such clip.
    """
    known = sorted(_remote(dataset))
    unknown = [name for name in clips if name not in known]
    if unknown:
        raise SetError(
            f"{dataset.name}: no clip {', '.join(unknown)}; there are {', '.join(known) or 'none'}"
        )
    kept = [
        file
        for file in dataset.files
        if not clips or (clip := clip_of(file)) is None or clip[1] in clips
    ]
    return dataclasses.replace(dataset, files=tuple(kept))


def summary(dataset: DataSet, roots: Roots) -> str:
    """Say how much of the set is here, by names and sizes alone."""
    rows = _rows(_home(dataset, roots))
    frames = f", {len(rows) // 2} frames" if rows else ""
    return store.summary(dataset, roots) + frames


def get(dataset: DataSet, roots: Roots, options: Options, registry: Mapping[str, DataSet]) -> str:
    """Complete the clips of a set, and take out the frames that are asked for.

    Args:
        dataset: the set, as `select` returns it for some clips.
        roots: where sets are laid out.
        options: how to fetch; ``every`` is the distance of the frames, None for no frames unless
            the registry names some.
        registry: every set, for the SOURCE.md of folders that several sets share.

    Returns:
        What was done.

    Raises:
        PyAVMissing: before anything is fetched, if frames are asked for.
        SetError: if clips are still missing at the end, or cannot be decoded.
    """
    named: Mapping[str, list[int]] | None = dataset.spec.get("frames")
    wanted = named is not None or options.every is not None
    if wanted and not options.dry_run:
        require_pyav()
    done = store.get(dataset, roots, options, registry)
    if not wanted:
        return f"{done}; `get {dataset.name} --every 30` takes out every 30th frame as a pair"
    if options.dry_run:
        which = "named frames" if options.every is None else f"one frame in {options.every}"
        return f"{done}\n{dataset.name}: would take {which} out of {len(_remote(dataset))} clips"
    [folder] = folders(dataset, roots)
    home = _home(dataset, roots)
    with locked(folder):
        fresh, there = _take_out(dataset, roots, options.every)
    size = sum(path.stat().st_size for path in fresh)
    return (
        f"{done}\n{dataset.name}: {(len(fresh) + there) // 2} pairs of frames in {home}; "
        f"{len(fresh)} images ({human(size)}) written, {there} were there"
    )


def verify(dataset: DataSet, roots: Roots) -> str:
    """Compare every clip with its hash, and every frame with what was written.

    Returns:
        One line that says that all is well.

    Raises:
        SetError: if a clip or a frame is missing or differs; every one is named.
    """
    problems, lines = [], []
    try:
        lines.append(store.verify(dataset, roots))
    except SetError as error:
        problems.append(str(error))
    home = _home(dataset, roots)
    rows = {
        path: row for path, row in _rows(home).items() if _clip_of_frame(path) in _remote(dataset)
    }
    wanted = {
        path
        for clip, indices in dataset.spec.get("frames", {}).items()
        for index in indices
        for path in _targets(clip, index)
    }
    bad = [
        f"{home / path}: {wrong}"
        for path in sorted(rows.keys() | wanted)
        if (wrong := _wrong(home, rows.get(path), path))
    ]
    if bad:
        problems.append(
            f"{dataset.name}: {len(bad)} frames are missing or differ:\n"
            f"{listing(bad, most=len(bad))}\n`get {dataset.name}` takes them out again"
        )
    if problems:
        raise SetError("\n".join(problems))
    return lines[0] + (f"; {len(rows)} images of frames, all as written" if rows else "")


def remove(
    dataset: DataSet, roots: Roots, options: Options, registry: Mapping[str, DataSet]
) -> str:
    """Remove the clips and the frames of a set, and no other files.

    Raises:
        SetError: if a link or a line of ``frames.csv`` leads out of the folder of the set; then
            nothing is removed.
    """
    [folder] = folders(dataset, roots)
    home = _home(dataset, roots)
    frames = [path for name in _rows(home) if (path := home / name).is_file()]
    size = sum(path.stat().st_size for path in frames)
    what = f"{len(frames)} images of frames ({human(size)})"
    if options.dry_run:
        done = store.remove(dataset, roots, options, registry)
        return f"{done}\n{dataset.name}: would remove {what}"
    if home.is_dir():
        with locked(folder):
            remove_files(home, frames)
            (home / FRAMES).unlink(missing_ok=True)
    return f"{store.remove(dataset, roots, options, registry)}; and {what}"


def require_pyav() -> None:
    """Check that clips can be decoded.

    Raises:
        PyAVMissing: with what to install.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise PyAVMissing(
            f"frames are taken out of clips by PyAV, which cannot be imported ({error}); install "
            "it with: python -m pip install av"
        ) from error


def _home(dataset: DataSet, roots: Roots) -> Path:
    folder: str = dataset.spec.get("folder", dataset.name)
    return roots.data / folder


def _remote(dataset: DataSet) -> dict[str, dict[str, RemoteFile]]:
    """Map each clip of a set to its files: name to "ir" and "vi" to file."""
    clips: dict[str, dict[str, RemoteFile]] = {}
    for file in dataset.files:
        if (clip := clip_of(file)) is not None:
            clips.setdefault(clip[1], {})[clip[0]] = file
    return clips


def _rows(home: Path) -> dict[str, dict[str, str]]:
    """Read what was recorded of the frames: path to row."""
    if not (home / FRAMES).is_file():
        return {}
    return {row["path"]: row for row in read_manifest(home, FRAMES)}


def _targets(clip: str, index: int) -> tuple[str, str]:
    return f"ir/{clip}_{index:04d}.png", f"vi/{clip}_{index:04d}.png"


def _clip_of_frame(path: str) -> str:
    return path.split("/")[-1].rpartition("_")[0]


def _wrong(home: Path, row: Mapping[str, str] | None, path: str) -> str | None:
    if row is None or not (home / path).is_file():
        return "missing"
    return difference(home / path, int(row["bytes"]), row["hash"])


def _take_out(dataset: DataSet, roots: Roots, every: int | None) -> tuple[list[Path], int]:
    """Write the frames that are missing or differ; return them, and how many were there.

    ``frames.csv`` is written before the frames of a clip take their places: what a run that was
    ended has left is known to `remove`, and written again by the next `get`.
    """
    home, fresh, there = _home(dataset, roots), [], 0
    try:
        rows: dict[str, Any] = dict(_rows(home))
    except SetError:  # a damaged table, which is now replaced
        rows = {}
    for clip, files in tqdm(
        sorted(_remote(dataset).items()), desc=f"{dataset.name}: frames", disable=None
    ):
        paths = {direction: roots.path(file) for direction, file in files.items()}
        if every is not None:
            indices = list(range(0, _length(paths), every))
        else:
            indices = dataset.spec["frames"].get(clip, [])
        bad = [
            index
            for index in indices
            if any(_wrong(home, rows.get(path), path) for path in _targets(clip, index))
        ]
        there += 2 * (len(indices) - len(bad))
        if not bad:
            continue
        try:
            made = _write(clip, paths, bad, home / STAGING)
            rows |= {row["path"]: row for row in made}
            write_rows(home / FRAMES, [rows[path] for path in sorted(rows)])
            for row in made:
                target = home / row["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(home / STAGING / row["path"], target)
                fresh.append(target)
        finally:
            shutil.rmtree(home / STAGING, ignore_errors=True)
    return fresh, there


def _write(clip: str, paths: Mapping[str, Path], indices: list[int], staging: Path) -> list[Row]:
    """Write frames of both clips of a pair to a folder; return their rows of ``frames.csv``."""
    rows: list[Row] = []
    sizes: dict[str, tuple[int, int]] = {}
    for direction, path in sorted(paths.items()):
        for index, image in _decoded(path, indices):
            image = image.convert("L") if direction == "ir" else image
            sizes[direction] = image.size
            name = f"{direction}/{clip}_{index:04d}.png"
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(staging / name, optimize=True)
            size, digest = (staging / name).stat().st_size, file_hash(staging / name, "sha256")
            rows.append({"path": name, "bytes": size, "hash": digest})
    if sizes["ir"] != sizes["vi"]:
        (iw, ih), (vw, vh) = sizes["ir"], sizes["vi"]
        raise SetError(
            f"{paths['ir']} is {iw} x {ih} pixels and {paths['vi']} is {vw} x {vh}; expected one "
            "size, because the frames are registered pairs"
        )
    return rows


def _decoded(path: Path, indices: list[int]) -> Iterator[tuple[int, Image.Image]]:
    """Decode a clip up to the last of the frames that are asked for."""
    import av

    left, count = set(indices), 0
    try:
        with av.open(str(path)) as container:
            for count, frame in enumerate(container.decode(video=0), start=1):
                if count - 1 in left:
                    left.remove(count - 1)
                    yield count - 1, frame.to_image()
                    if not left:
                        return
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise _not_decoded(path, error) from error
    raise SetError(f"{path}: {count} frames, expected frame {max(left)} in it, counted from 0")


def _length(paths: Mapping[str, Path]) -> int:
    """How many frames both clips of a pair have."""
    import av

    found = {}
    for direction, path in paths.items():
        try:
            with av.open(str(path)) as container:
                found[direction] = container.streams.video[0].frames or sum(
                    1 for _ in container.decode(video=0)
                )
        except (av.error.FFmpegError, IndexError, ValueError) as error:
            raise _not_decoded(path, error) from error
    if found["ir"] != found["vi"]:
        raise SetError(
            f"{paths['ir']} has {found['ir']} frames and {paths['vi']} has {found['vi']}; expected "
            "as many, because frames of one number are a pair"
        )
    return found["ir"]


def _not_decoded(path: Path, error: Exception) -> SetError:
    return SetError(
        f"{path}: not a clip that PyAV can decode ({error}), although the file is the expected "
        "one; try another version: python -m pip install --upgrade av"
    )
