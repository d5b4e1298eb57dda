"""Packed squares in little space, to take them to another machine.

A part is a zip file of at most some megabytes with a few thousand squares: light, warmth, oracle
and veil side by side in one WebP picture, labels and salience in another without loss, and the
facts. `expand` makes shards of the parts that `experiments.embedded_clip.pieces.Pieces` reads.
A square takes about 5 kB; WebP changes levels by 1 to 3 on average.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm.auto import tqdm

from experiments.embedded_clip.pieces import MAPS, SIDE, Pieces
from ldf_utils.data.files import atomic_path

SMOOTH, SHARP = ("visible", "infrared", "oracle", "veil"), ("salient", "labels")
QUALITY = 80

Bytes = npt.NDArray[np.uint8]


def _encode(maps: dict[str, Bytes], names: tuple[str, ...], lossless: bool) -> bytes:
    buffer = io.BytesIO()
    strip = Image.fromarray(np.hstack([maps[name] for name in names]))
    strip.save(buffer, "WEBP", lossless=lossless, quality=QUALITY)
    return buffer.getvalue()


def _decode(content: bytes, names: tuple[str, ...]) -> dict[str, Bytes]:
    with Image.open(io.BytesIO(content)) as image:
        strip = np.asarray(image.convert("L"))
    return dict(zip(names, np.split(strip, len(names), axis=1), strict=True))


def _write_part(path: Path, blobs: list[tuple[bytes, bytes]], facts: dict[str, Any]) -> None:
    columns = io.BytesIO()
    np.savez_compressed(columns, **facts)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, (smooth, sharp) in enumerate(blobs):
            archive.writestr(f"{number:06d}_smooth.webp", smooth)
            archive.writestr(f"{number:06d}_sharp.webp", sharp)
        archive.writestr("facts.npz", columns.getvalue())


def compress(pack: Path, out: Path, megabytes: float = 24.0, seed: int = 0) -> list[Path]:
    """Write packed squares as parts; each part alone is a fair sample of all squares.

    Args:
        pack: folder of shards.
        out: folder of the parts, ``part_000.zip`` and on.
        megabytes: size of a part, at most; one of a single square may be larger.
        seed: of the order of the squares.

    Returns:
        The parts.

    Raises:
        FileNotFoundError: if nothing is packed.
    """
    pieces = Pieces(pack)
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed))
    paths: list[Path] = []
    blobs: list[tuple[bytes, bytes]] = []
    size, first = 0, 0

    def flush(end: int) -> None:
        facts = {name: value[order[first:end]].numpy() for name, value in pieces.items()}
        paths.append(out / f"part_{len(paths):03d}.zip")
        _write_part(paths[-1], blobs, facts)

    for place, index in enumerate(tqdm(order.tolist(), desc="compressing squares")):
        read = pieces.read(torch.tensor([index]))
        maps = {name: read[name][0].numpy() for name in MAPS}
        both = _encode(maps, SMOOTH, lossless=False), _encode(maps, SHARP, lossless=True)
        grown = sum(map(len, both)) + 800  # names, directory and facts
        if blobs and size + grown > megabytes * 1e6:
            flush(place)
            blobs, size, first = [], 0, place
        blobs.append(both)
        size += grown
    flush(len(order))
    return paths


def expand(parts: Path, pack: Path) -> int:
    """Make shards of all parts in a folder, those that are not there yet; return all squares.

    Args:
        parts: folder of the parts.
        pack: folder of the shards.

    Raises:
        FileNotFoundError: if there is no part.
    """
    found = sorted(parts.glob("part_*.zip"))
    if not found:
        raise FileNotFoundError(
            f"{parts}: found no part_*.zip; make some first, python -m experiments.embedded_clip "
            "compress"
        )
    for path in found:
        if not (pack / path.stem / "facts.npz").exists():
            _expand_part(path, pack / path.stem)
    return len(Pieces(pack))


def _expand_part(path: Path, shard: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith("_smooth.webp"))
        maps = np.empty((len(names), len(MAPS), SIDE, SIDE), np.uint8)
        for row, name in enumerate(names):
            smooth = _decode(archive.read(name), SMOOTH)
            sharp = _decode(archive.read(name.replace("_smooth", "_sharp")), SHARP)
            maps[row] = np.stack([(smooth | sharp)[n] for n in MAPS])
        facts = archive.read("facts.npz")
    with atomic_path(shard / "maps.npy") as temporary:
        np.save(temporary, maps)
    with atomic_path(shard / "facts.npz") as temporary:
        temporary.write_bytes(facts)
