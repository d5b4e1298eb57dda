"""Packed squares in little space, to take them to another machine.

A part is a zip file of at most some megabytes with a few thousand squares: light, warmth and oracle
as one JPEG picture each, labels, salience and veil as one PNG, and the facts. `expand` makes shards
of the parts that `experiments.embedded_clip.pieces.Pieces` reads; JPEG changes levels by about 1.
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

SMOOTH, SHARP = ("visible", "infrared", "oracle"), ("salient", "veil", "labels")
QUALITY = 92

Bytes = npt.NDArray[np.uint8]


def _encode(maps: dict[str, Bytes], names: tuple[str, ...], kind: str) -> bytes:
    buffer = io.BytesIO()
    strip = Image.fromarray(np.hstack([maps[name] for name in names]))
    strip.save(buffer, kind, **({"quality": QUALITY} if kind == "JPEG" else {"optimize": True}))
    return buffer.getvalue()


def _decode(content: bytes) -> list[Bytes]:
    return np.split(np.asarray(Image.open(io.BytesIO(content))), len(SMOOTH), axis=1)


def _write_part(path: Path, blobs: list[tuple[bytes, bytes]], facts: dict[str, Any]) -> None:
    columns = io.BytesIO()
    np.savez_compressed(columns, **facts)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, (smooth, sharp) in enumerate(blobs):
            archive.writestr(f"{number:06d}.jpg", smooth)
            archive.writestr(f"{number:06d}.png", sharp)
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
        both = _encode(maps, SMOOTH, "JPEG"), _encode(maps, SHARP, "PNG")
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
        shard = pack / path.stem
        if (shard / "facts.npz").exists():
            continue
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
            maps = np.empty((len(names), len(MAPS), SIDE, SIDE), np.uint8)
            for row, name in enumerate(names):
                smooth = _decode(archive.read(name))
                sharp = _decode(archive.read(name.replace(".jpg", ".png")))
                known = dict(zip(SMOOTH + SHARP, smooth + sharp, strict=True))
                maps[row] = np.stack([known[n] for n in MAPS])
            facts = archive.read("facts.npz")
        with atomic_path(shard / "maps.npy") as temporary:
            np.save(temporary, maps)
        with atomic_path(shard / "facts.npz") as temporary:
            temporary.write_bytes(facts)
    return len(Pieces(pack))
