"""Every command under every kind of bad input: it ends with a sentence, never with a traceback."""

import io
import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_download.__main__ import main as download
from ldf_utils.evaluation.__main__ import main as evaluate
from ldf_utils.fusion.__main__ import main as fuse
from ldf_utils.training.__main__ import main as train

SIDE = 48


def picture(seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A gray image with structure at several scales."""
    y, x = np.mgrid[: size[1], : size[0]]
    noise = np.random.default_rng(seed).normal(0, 12, (size[1], size[0]))
    return Image.fromarray((110 + 60 * np.sin(x / 5 + y / 9) + noise).clip(0, 255).astype(np.uint8))


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def a_set(folder: Path) -> Path:
    """A good set of two pairs with the results of one method."""
    for place, first in (("ir", 1), ("vi", 3), ("fused_mine", 5)):
        (folder / place).mkdir(parents=True)
        for number, name in enumerate("ab"):
            picture(first + number).save(folder / place / f"{name}.png")
    return folder


def huge_header() -> bytes:
    """A PNG of 60,000 x 60,000 pixels as its header says, and of nothing."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


def save(name: str, image: Image.Image, **options) -> Callable[[Path], None]:
    return lambda folder: image.save(folder / name, **options)


def remove(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        for file in [path] if path.is_file() else [*path.iterdir(), path]:
            file.rmdir() if file.is_dir() else file.unlink()

    return spoil


def not_finite(folder: Path) -> None:
    (folder / "ir" / "a.png").unlink()
    Image.fromarray(np.full((SIDE, SIDE), np.nan, np.float32)).save(folder / "ir" / "a.tif")


def a_folder_named_like_a_picture(folder: Path) -> None:
    (folder / "ir" / "c.png").mkdir()


def a_broken_link(folder: Path) -> None:
    os.symlink(folder / "nowhere.png", folder / "ir" / "c.png")


def two_of_one_stem(folder: Path) -> None:
    picture().save(folder / "ir" / "a.jpg")


def unicode_forms(folder: Path) -> None:
    for place, form in (("ir", "NFC"), ("vi", "NFD")):
        name = unicodedata.normalize(form, "Café.png")
        picture().save(folder / place / name)


ANIMATED = [picture(seed) for seed in range(3)]
KINDS: dict[str, Callable[[Path], None]] = {
    "no infrared folder": remove("ir"),
    "no visible folder": remove("vi"),
    "one picture less": remove("vi/b.png"),
    "a file in place of a folder": lambda f: (remove("ir")(f), write("ir", b"text")(f))[0],
    "an empty picture": write("ir/a.png", b""),
    "a text named like a picture": write("ir/a.png", b"three lines\nof prose\n"),
    "a web page": write("ir/a.png", b"<!DOCTYPE html><title>Sign in</title>"),
    "a Git LFS pointer": write("vi/a.png", b"version https://git-lfs.github.com/spec/v1\n"),
    "a picture cut short": write("ir/a.png", png_bytes(picture())[:200]),
    "a header that lies": write("ir/a.png", huge_header()),
    "another size": save("ir/a.png", picture(size=(SIDE + 9, SIDE))),
    "one pixel": save("ir/a.png", picture(size=(1, 1))),
    "a picture larger than its partner by far": save("vi/a.png", picture(size=(900, 700))),
    "values that are not finite": not_finite,
    "a constant picture": save("ir/a.png", Image.new("L", (SIDE, SIDE), 90)),
    "several pages": save("ir/a.png", ANIMATED[0], save_all=True, append_images=ANIMATED[1:]),
    "color in the infrared": save("ir/a.png", Image.merge("RGB", ANIMATED)),
    "CMYK": lambda f: (
        remove("vi/a.png")(f),
        Image.merge("CMYK", [*ANIMATED, ANIMATED[0]]).save(f / "vi" / "a.jpg"),
    )[0],
    "transparency": save("vi/a.png", Image.merge("LA", [ANIMATED[0], ANIMATED[1]])),
    "one bit": save("ir/a.png", picture().convert("1")),
    "two pictures of one stem": two_of_one_stem,
    "names in two Unicode forms": unicode_forms,
    "a folder named like a picture": a_folder_named_like_a_picture,
    "a broken link": a_broken_link,
    "hidden files": write("ir/._a.png", b"\x00\x05\x16\x07"),
    "the same picture twice": lambda f: picture(3).save(f / "ir" / "a.png"),
    "an empty infrared folder": lambda f: [p.unlink() for p in (f / "ir").iterdir()][:0] or None,
}

COMMANDS: dict[str, tuple[Callable[[list[str]], int | None], Callable[[Path, Path], list[str]]]] = {
    "fusion": (
        fuse,
        lambda data, out: [
            "--infrared",
            str(data / "ir"),
            "--visible",
            str(data / "vi"),
            "--output",
            str(out),
        ],
    ),
    "evaluation": (
        evaluate,
        lambda data, out: [str(data), "--metrics", "EN", "SSIM", "--csv", str(out / "t.csv")],
    ),
    "training": (
        train,
        lambda data, out: [
            "--data",
            str(data),
            "--output",
            str(out / "run"),
            "--set",
            "steps=1",
            "--set",
            "batch=2",
            "--set",
            "crop=32",
            "--set",
            "patches=2",
            "--set",
            "clip=mini",
        ],
    ),
    "downloads": (
        download,
        lambda data, out: [
            "get",
            "tno",
            "--to",
            str(out),
            "--registry",
            str(data / "ir" / "a.png"),
        ],
    ),
}

# What a command may still do with such an input; the others must fail, with an exit code above 0.
HARMLESS = {
    "a constant picture",
    "several pages",
    "color in the infrared",
    "CMYK",
    "transparency",
    "one bit",
    "names in two Unicode forms",
    "hidden files",
    "the same picture twice",
    "a folder named like a picture",
}


def call(command: str, data: Path, out: Path) -> int:
    main, arguments = COMMANDS[command]
    try:
        return int(main(arguments(data, out)) or 0)
    except SystemExit as end:  # of argparse
        return end.code if isinstance(end.code, int) else 1


@pytest.mark.parametrize("command", ["fusion", "evaluation", "training"])
def test_good_input_is_accepted(command, tmp_path, monkeypatch):
    monkeypatch.setenv("LDF_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "out").mkdir()
    assert call(command, a_set(tmp_path / "data"), tmp_path / "out") == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_bad_input_ends_with_a_sentence(command, kind, tmp_path, monkeypatch, capsys):
    data = a_set(tmp_path / "data")
    KINDS[kind](data)
    (tmp_path / "out").mkdir()
    code = call(command, data, tmp_path / "out")  # any exception but SystemExit fails the test
    said = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in said.err + said.out
    if code:
        assert said.err.strip(), "a failure without a word"
    elif command != "downloads":
        assert kind in HARMLESS, f"{command} took {kind} without complaint"
