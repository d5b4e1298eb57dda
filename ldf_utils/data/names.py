"""Names: which files are pictures, and which of two folders belong together.

One rule for fusing, evaluation, training and downloads: partners have one *stem*, the name without
its last ending, compared in Unicode's composed form (NFC), because macOS and most archives write
``é`` as two characters where others write one. The ending may be written in any case, hidden files
(``.DS_Store``, ``._a.png``) are no pictures, and two files of one stem in a folder are an error.
"""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"),
    *(".jp2", ".j2k"),  # JPEG 2000
)


class ImageError(ValueError):
    """A picture or a folder of pictures is not what the method needs; the text says what to do."""


class Match(NamedTuple):
    """What two folders hold.

    Attributes:
        pairs: ``(stem, infrared path, visible path)``, sorted by stem.
        problems: one sentence per picture that is in no pair, naming it and what to do.
    """

    pairs: list[tuple[str, Path, Path]]
    problems: list[str]


def stem_of(name: str | os.PathLike) -> str:
    """Return what partners have in common: the name without folder and ending, in NFC.

    Example:
        >>> stem_of("vi/night.01.PNG")
        'night.01'
    """
    return unicodedata.normalize("NFC", PurePath(name).stem)


def is_picture(name: str | os.PathLike) -> bool:
    """Return whether a name is that of a picture: not hidden, with one of `IMAGE_SUFFIXES`."""
    path = PurePath(name)
    return not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES


def group_by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Group pictures by `stem_of`, sorted; what is no picture by its name is left out."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(paths):
        if is_picture(path):
            groups.setdefault(stem_of(path), []).append(path)
    return dict(sorted(groups.items()))


def list_folder(folder: str | os.PathLike) -> list[Path]:
    """List the files of a folder, sorted, without its folders.

    Raises:
        ImageError: if there is no such folder, or it must not be read.
    """
    folder = Path(folder)
    try:
        return sorted(path for path in folder.iterdir() if not path.is_dir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(
            f"{folder}: there is no such folder; expected one with pictures in it"
        ) from error
    except PermissionError as error:
        raise ImageError(
            f"{folder}: permission denied; allow reading it (for example chmod u+rx), or run as "
            "the user whom it belongs to"
        ) from error


def pictures_in(folder: str | os.PathLike) -> dict[str, list[Path]]:
    """Find the pictures of a folder, by stem.

    Raises:
        ImageError: as `list_folder`, and if no file is a picture by its name.
    """
    files = list_folder(folder)
    groups = group_by_stem(files)
    if not groups:
        others = sorted({path.suffix for path in files if not path.name.startswith(".")} - {""})
        found = f", found only files ending in {', '.join(others[:8])}" if others else ""
        raise ImageError(
            f"{folder}: no picture in it; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
            + found
        )
    return groups


def find_picture(folder: str | os.PathLike, stem: str) -> Path | None:
    """Find the picture of a stem in a folder; None where there is none.

    Raises:
        ImageError: if the folder must not be read, or two pictures share the stem.
    """
    folder, stem = Path(folder), unicodedata.normalize("NFC", stem)
    if not folder.is_dir():
        return None
    # Listed once as long as the folder is unchanged: sets have thousands of pictures.
    found = _listed(folder, folder.stat().st_mtime_ns).get(stem, [])
    if not found or not all(path.exists() for path in found):
        found = group_by_stem(list_folder(folder)).get(stem, [])
    if len(found) > 1:
        raise ImageError(_shared(stem, found))
    return found[0] if found else None


@functools.lru_cache(maxsize=64)
def _listed(folder: Path, changed: int) -> dict[str, list[Path]]:
    return group_by_stem(list_folder(folder))


def match_folders(infrared: str | os.PathLike, visible: str | os.PathLike) -> Match:
    """Match the pictures of two folders by stem, and name every one that is in no pair.

    Raises:
        ImageError: if a folder is missing, must not be read, or holds no picture.
    """
    folders = Path(infrared), Path(visible)
    sides, result = [pictures_in(folder) for folder in folders], Match([], [])
    for stem in sorted(sides[0].keys() | sides[1].keys()):
        found = [side.get(stem, []) for side in sides]
        if [len(paths) for paths in found] == [1, 1]:
            result.pairs.append((stem, found[0][0], found[1][0]))
        for paths, others, other in zip(found, found[::-1], folders[::-1], strict=True):
            if len(paths) > 1:
                result.problems.append(_shared(stem, paths))
            elif paths and not others:
                result.problems.append(
                    f"{paths[0]}: no partner {stem}.* in {other}{_near(stem, other)}; add it, or "
                    "move this picture out"
                )
    return result


def find_pairs(
    infrared: Path, visible: Path, output: Path
) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Find the pairs of two folders or of two pictures, and what is in no pair.

    Raises:
        ImageError: if a path is missing, a folder is paired with a picture, or results in
            ``output`` would mix with their sources; and as `match_folders`.
    """
    for path in (infrared, visible):
        if not path.exists():
            raise ImageError(f"{path}: there is no such folder or picture; check the path")
    if infrared.is_dir() != visible.is_dir():
        raise ImageError(
            f"{infrared} and {visible}: expected two folders or two pictures, found one of each"
        )
    if output.is_dir() and any(output.samefile(source) for source in (infrared, visible)):
        raise ImageError(f"{output}: results would mix with their sources; choose another folder")
    if infrared.is_dir():
        return match_folders(infrared, visible)
    return [(stem_of(visible), infrared, visible)], []


def match_files(
    infrared: str | os.PathLike, visible: str | os.PathLike
) -> list[tuple[str, Path, Path]]:
    """Match the pictures of two folders by stem, all of them.

    Returns:
        ``(stem, infrared path, visible path)``, sorted by stem.

    Raises:
        ImageError: as `match_folders`, and if any picture is in no pair; every one is named.
    """
    pairs, problems = match_folders(infrared, visible)
    if problems:
        raise ImageError("\n  ".join([f"{len(problems)} problem(s) with file names:", *problems]))
    return pairs


def _shared(stem: str, paths: Iterable[Path]) -> str:
    return (
        f"{' and '.join(map(str, paths))} share the stem {stem!r}; partners are found by stem, so "
        "rename or remove one of them"
    )


def _near(stem: str, folder: Path) -> str:
    """Say what in a folder has nearly this stem, for the message that nothing has it."""
    for path in list_folder(folder):
        if path.name.startswith("."):
            continue
        if stem_of(path) == stem:
            return f" ({path.name} is there, but pictures that end in {path.suffix!r} are not read)"
        if is_picture(path) and stem_of(path).casefold() == stem.casefold():
            return f" ({path.name} differs in upper and lower case)"
    return ""
