"""Tests of data_download with bad input: servers, archives, manifests, names, terminals, rights."""

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest
from download_server import ONE, PAIRS, Toy, heed_interrupts, picture, sha256

from data_download import load_registry, transfer
from data_download.__main__ import main
from ldf_utils.data.pairs import PairFolder

pytest_plugins = ["download_server"]
ROOT = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals, links and rights")


# --- downloads that do not stop ---------------------------------------------------------------


@pytest.fixture
def big(toy):
    """The made-up weights, 8 MB of them, with a known size."""
    content = random.Random(2).randbytes(8 << 20)
    toy.contents["net/final.pt"] = content
    toy.server.files[toy.remote("net/final.pt")] = content
    table = toy.registry.parent / "toy.csv"
    rows = [row for row in table.read_text().splitlines() if not row.startswith("net/")]
    table.write_text("\n".join([*rows, f"net/final.pt,{len(content)},{sha256(content)}", ""]))
    return toy


def interrupt(toy, *command):
    """Press Ctrl-C while half of a file has arrived; return the exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "data_download", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        assert toy.server.reached.wait(60)
        for _ in range(600):
            if any(path.stat().st_size >= 1 << 22 for path in toy.home.rglob("*.part")):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)  # the server would hold the line for a minute
    finally:
        process.kill()
    return process.returncode, said


@posix
def test_an_interrupt_ends_a_large_download_at_once_and_keeps_what_is_there(big):
    big.fault("net/final.pt", "stall")
    place = ["--registry", str(big.registry), "--to", str(big.to)]
    code, said = interrupt(big, "get", "toy-weights", *place, "--timeout", "600")
    assert code == 130
    assert said == "stopped; complete files are kept: run the command again to resume\n"
    [partial] = big.home.rglob("*.part")
    kept = partial.stat().st_size
    assert kept == 1 << 22
    assert big.run("get", "toy-weights") == 0
    assert big.server.ranges == [f"bytes={kept}-"]
    assert big.local() == {"sets/Toy/final.pt": big.contents["net/final.pt"]}


def test_a_complete_partial_file_is_verified_and_not_fetched_again(big, monkeypatch):
    """A run may be ended between the last byte and the verification."""

    def ended(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "difference", ended)
        with pytest.raises(KeyboardInterrupt):
            big.run("get", "toy-weights")
    big.server.log.clear()
    assert big.run("get", "toy-weights") == 0
    assert big.server.log == []


@pytest.mark.parametrize("fault", ["drip", "drip headers"])
def test_a_server_that_drips_is_given_up(toy, fault, capsys):
    toy.fault(ONE, *[fault] * 9)
    assert toy.run("get", "toy", "--timeout", "0.5", "--retries", "1") == 1
    said = capsys.readouterr().err
    assert "less than 100 bytes/s" in said
    assert "--timeout" in said
    assert toy.asked().count(ONE) == 2


@pytest.mark.parametrize("fault", ["endless", "no-length", None], ids=str)
def test_a_file_of_unknown_size_has_a_cap(toy, fault, monkeypatch, capsys):
    """Whether the server announces the size or not; the made-up weights have 3000 bytes."""
    real = transfer.Policy
    monkeypatch.setattr(
        "data_download.__main__.Policy", lambda **chosen: real(most_bytes=2999, **chosen)
    )
    toy.fault("net/final.pt", fault)
    assert toy.run("get", "toy-weights") == 1
    assert "at most 2999 bytes are accepted" in capsys.readouterr().err
    assert toy.local() == {}
    assert toy.asked() == ["net/final.pt"]
    if fault != "endless":
        monkeypatch.setattr(
            "data_download.__main__.Policy", lambda **chosen: real(most_bytes=3000, **chosen)
        )
        assert toy.run("get", "toy-weights") == 0


def test_every_file_of_unknown_size_that_ships_fits_below_the_cap():
    """The authors' networks have 5.8 million float32 parameters; clips at hand have up to 5 MB."""
    assert transfer.Policy().most_bytes > 4 * (1_742_736 + 4_034_241)


def test_a_server_that_announces_too_much_is_not_read(toy, capsys):
    toy.fault(ONE, "longer", "longer")
    assert toy.run("get", "toy") == 1
    assert "found more" in capsys.readouterr().err


def test_an_empty_file_is_a_file(toy):
    table = toy.registry.parent / "toy.csv"
    path = "in/rgb/empty.png"
    toy.contents[path] = toy.server.files[toy.remote(path)] = b""
    table.write_text(table.read_text() + f"{path},0,{sha256(b'')}\n")
    assert toy.run("get", "toy") == 0
    assert (toy.to / "toy" / "vi" / "empty.png").read_bytes() == b""


def test_a_failed_run_leaves_no_trace(toy):
    toy.server.files.clear()
    assert toy.run("get", "toy") == 1
    assert list(toy.home.rglob("*")) == [toy.to]


# --- paths that leave the folder --------------------------------------------------------------


def sets_by_hand(folder: Path, pairs: int = 2, size: str = "") -> Path:
    registry = folder / "hand.toml"
    registry.write_text(
        f"""
[sets.hand]
title = "made-up, by hand"
kind = "manual"
homepage = "about:blank"
archive = "hand.zip"
urls = ["about:blank"]
license = "CC0"
[[sets.hand.parts]]
folder = "hand"
infrared = 'ir/(?P<stem>[^/]+)\\.png'
visible = 'vi/(?P<stem>[^/]+)\\.png'
pairs = {pairs}
{size}
""",
        encoding="utf-8",
    )
    return registry


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


class Hand:
    """A set that is fetched by hand, and its folder."""

    def __init__(self, folder: Path):
        self.folder, self.to = folder, folder / "sets"
        self.home, self.manifest = self.to / "hand", self.to / "hand" / "manifest.csv"
        self.registry = sets_by_hand(folder)
        self.files = {f"{kind}/{name}.png": picture(1) for kind in ("ir", "vi") for name in "ab"}
        self.zip = archive(folder / "hand.zip", self.files)

    def run(self, command: str, *rest: str) -> int:
        return main(
            [command, "hand", "--registry", str(self.registry), "--to", str(self.to), *rest]
        )

    def list(self) -> int:
        return main(["list", "--registry", str(self.registry), "--to", str(self.to)])

    def get(self, source: Path | None = None) -> int:
        return self.run("get", "--from", str(source or self.zip))

    def written(self):
        return sorted(
            path.relative_to(self.home).as_posix()
            for path in self.home.rglob("*")
            if path.is_file()
        )


@pytest.fixture
def hand(tmp_path):
    return Hand(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "../../precious.txt",
        "ir/../../../precious.txt",
        "{folder}/precious.txt",
        "..\\..\\precious.txt",
        "C:/precious.txt",
        "",
    ],
)
@pytest.mark.parametrize("name", ["manifest.csv", "manifest.partial.csv"])
def test_remove_never_leaves_the_folder_of_the_set(hand, path, name, capsys):
    precious = hand.folder / "precious.txt"
    precious.write_text("precious")
    assert hand.get() == 0
    rest = ",2,sha256:" + "0" * 64
    if name == "manifest.csv":
        lines = hand.manifest.read_text() + path.format(folder=hand.folder) + rest
    else:
        hand.manifest.unlink()
        lines = f'path\nir/a.png\n"{path.format(folder=hand.folder)}"'
    (hand.home / name).write_text(lines + "\n")
    before = hand.written()
    capsys.readouterr()
    assert hand.run("remove") == 1
    said = capsys.readouterr().err
    assert "does not stay inside" in said
    assert name in said
    assert precious.read_text() == "precious"
    assert hand.written() == before  # nothing at all was removed
    assert hand.run("verify") == 1


@posix
@pytest.mark.parametrize("kind", ["manual", "files"])
def test_remove_does_not_follow_a_link_out_of_the_folder(kind, hand, toy, capsys):
    made = hand if kind == "manual" else toy
    home = made.to / ("hand" if kind == "manual" else "toy")
    assert (hand.get() if kind == "manual" else toy.run("get", "toy")) == 0
    elsewhere = made.to.parent / "elsewhere"
    shutil.move(home / "ir", elsewhere)
    (home / "ir").symlink_to(elsewhere, target_is_directory=True)
    before = sorted(elsewhere.iterdir())
    assert (hand.run("remove") if kind == "manual" else toy.run("remove", "toy")) == 1
    assert "leads outside" in capsys.readouterr().err
    assert sorted(elsewhere.iterdir()) == before
    assert len(list((home / "vi").iterdir())) == len(before)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected 2 infrared images, found 0"),
        ("path,bytes,hash\n", "expected 2 visible images, found 0"),
        ("path;bytes;hash\nir/a.png;1;2\n", "expected the columns path, bytes, hash"),
        ("path,bytes,hash\nir/a.png,many,sha256:00\n", "line 2: expected a path, its bytes"),
        ("path,bytes,hash\nir/a.png\n", "line 2: expected a path, its bytes"),
        ("path,bytes,hash\n\x00\n", "manifest.csv"),
        ("\xff\xfe", "not a CSV file in UTF-8"),
    ],
)
def test_a_manifest_that_is_damaged_does_not_verify(hand, text, words, capsys):
    assert hand.get() == 0
    assert hand.run("verify") == 0
    hand.manifest.write_bytes(text.encode("latin-1"))
    assert hand.list() == 0
    assert "0 of 1 parts" in capsys.readouterr().out
    assert hand.run("verify") == 1
    assert words in capsys.readouterr().err
    assert hand.get() == 0
    assert hand.run("verify") == 0


def test_a_manifest_with_a_line_less_does_not_verify(hand, capsys):
    assert hand.get() == 0
    lines = hand.manifest.read_text().splitlines()
    hand.manifest.write_text("\n".join(line for line in lines if "vi/b" not in line) + "\n")
    assert hand.run("verify") == 1
    assert "expected 2 visible images, found 1" in capsys.readouterr().err


def test_remove_leaves_no_folder_behind(hand):
    assert hand.get() == 0
    assert hand.run("remove") == 0
    assert list(hand.to.iterdir()) == []


def test_remove_cleans_up_after_a_run_that_was_ended(hand, monkeypatch):
    from data_download import unpack

    real, count = unpack._place, 0

    def ended(*arguments):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_place", ended)
        with pytest.raises(KeyboardInterrupt):
            hand.get()
    assert hand.written() == ["ir/a.png", "ir/b.png", "manifest.partial.csv"]
    (hand.home / "mine.txt").touch()
    assert hand.run("remove") == 0
    assert hand.written() == ["mine.txt"]


def test_another_archive_takes_the_place_of_the_old_one(hand):
    """No image of the old archive stays among the new."""
    assert hand.get() == 0
    other = {f"{kind}/{name}.png": picture(2) for kind in ("ir", "vi") for name in "bc"}
    assert hand.get(archive(hand.folder / "other.zip", other)) == 0
    assert PairFolder(hand.home).names == ["b", "c"]
    assert hand.run("verify") == 0


# --- archives that are too large --------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "claimed"), [("", 2_000_000), ("size = [32, 40]", 2_000_000)], ids=str
)
def test_a_zip_bomb_is_refused_before_it_is_read(hand, size, claimed, monkeypatch, capsys):
    monkeypatch.setattr("data_download.manual.MOST_PIXELS", 100_000)
    sets_by_hand(hand.folder, size=size)
    bomb = archive(hand.folder / "bomb.zip", hand.files | {"vi/b.png": bytes(claimed)})
    assert bomb.stat().st_size < 10_000
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("the bomb was read"))
    assert hand.get(bomb) == 1
    said = capsys.readouterr().err
    assert f"vi/b.png: {claimed} bytes after unpacking, expected at most" in said
    assert not hand.to.exists()


def test_the_total_size_has_a_cap(hand, monkeypatch, capsys):
    monkeypatch.setattr("data_download.manual._MOST_TOTAL", 100)
    assert hand.get() == 1
    assert "bytes after unpacking, expected at most 100" in capsys.readouterr().err
    assert not hand.to.exists()


def test_an_image_of_too_many_pixels_is_not_decoded(hand, capsys):
    """A PNG of 100 bytes that claims to have 10 gigapixels, and one that Pillow would decode."""

    def png(width, height):
        def chunk(name, data):
            checksum = zlib.crc32(name + data)
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

        head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body

    source = hand.folder / "folder"
    for name, content in (hand.files | {"vi/a.png": png(100_000, 100_000)}).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    for name in ("ir/b.png", "vi/b.png"):
        (source / name).write_bytes(png(7000, 6000))
    assert hand.get(source) == 1
    said = capsys.readouterr().err
    assert "vi/a.png" in said
    assert "vi/b.png: 7000 x 6000 pixels, expected at most" in said


# --- names ------------------------------------------------------------------------------------


def test_names_match_in_every_unicode_form_and_case_of_the_suffix(hand):
    name = "Münster"
    files = {
        f"x/ir/{unicodedata.normalize('NFD', name)}.PNG": picture(1),
        f"x/vi/{unicodedata.normalize('NFC', name)}.png": picture(2),
        "x/ir/-.png": picture(3),
        "x/vi/-.Png": picture(4),
        "x/ir/._-.png": b"of macOS",
        "__MACOSX/x/ir/b.png": b"of macOS",
    }
    assert hand.get(archive(hand.folder / "names.zip", files)) == 0
    assert PairFolder(hand.home).names == ["-", unicodedata.normalize("NFC", name)]
    assert hand.run("verify") == 0
    assert hand.run("remove") == 0
    assert list(hand.to.iterdir()) == []


def test_a_folder_whose_name_contains_macosx_is_a_folder(hand):
    files = {f"my__MACOSX/{path}": content for path, content in hand.files.items()}
    assert hand.get(archive(hand.folder / "names.zip", files)) == 0


@pytest.mark.parametrize("other", ["ir/a.PNG", "x/ir/a.png"])
def test_two_files_of_one_stem_are_refused(hand, other, capsys):
    files = hand.files | {other: picture(9)}
    assert hand.get(archive(hand.folder / "names.zip", files)) == 1
    assert f"ir/a.png and {other} share one name" in capsys.readouterr().err


def test_a_file_named_like_a_message_is_a_file(toy, capsys):
    """Names and messages are never told apart by their text."""
    table = toy.registry.parent / "toy.csv"
    path = "in/rgb/an earlier error ended the run.png"
    table.write_text(table.read_text() + f"{path},1,{sha256(b'x')}\n")
    assert toy.run("get", "toy") == 1
    said = capsys.readouterr().err
    assert "earlier%20error" in said
    assert f"1 of {2 * PAIRS + 1} files could not be fetched" in said
    assert "not tried" not in said


# --- terminals and permissions ----------------------------------------------------------------


@posix
def test_a_reader_that_has_gone_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "data_download", "list"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141


def test_a_terminal_with_few_characters(hand):
    text = hand.registry.read_text(encoding="utf-8").replace("made-up, by", "made-up \u2192 by")
    hand.registry.write_text(text, encoding="utf-8")
    answer = subprocess.run(
        [sys.executable, "-m", "data_download", "list", "--registry", str(hand.registry)],
        cwd=ROOT,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )
    assert answer.returncode == 0
    assert b"made-up ? by hand" in answer.stdout
    assert answer.stderr == b""


@pytest.fixture
def unprivileged():
    """A folder of somebody who is not root, whom permissions do not stop."""
    if os.name == "nt":
        pytest.skip("Windows has other permissions")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)
        shutil.rmtree(folder)


@pytest.mark.parametrize("where", ["sets", "sets/toy", "sets/toy/ir"])
def test_a_folder_that_cannot_be_written_is_named_before_the_work(
    server,
    unprivileged,
    where,
    capsys,
):
    toy = Toy(server, unprivileged)
    (toy.to / "toy" / "ir").mkdir(parents=True)
    (toy.home / where).chmod(0o555)
    assert toy.run("get", "toy") == 1
    said = capsys.readouterr().err
    assert f"{toy.home / where}: cannot be written, permission denied" in said
    assert "--to" in said
    assert server.log == []


def test_a_folder_that_nothing_can_be_unpacked_to_is_named_before_the_work(unprivileged, capsys):
    hand = Hand(unprivileged)
    (hand.home / "vi").mkdir(parents=True)
    (hand.home / "vi").chmod(0o555)
    assert hand.get() == 1
    assert f"{hand.home / 'vi'}: cannot be written, permission denied" in capsys.readouterr().err
    assert hand.written() == []


def test_files_that_cannot_be_read_are_said_to_be_so(unprivileged, capsys):
    hand = Hand(unprivileged)
    source = unprivileged / "folder"
    for name, content in hand.files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    (source / "vi/b.png").chmod(0)
    assert hand.get(source) == 1
    assert "vi/b.png: cannot be read, permission denied" in capsys.readouterr().err
    (source / "vi").chmod(0)
    assert hand.get(source) == 1
    assert f"{source / 'vi'}: permission denied" in capsys.readouterr().err
    hand.zip.chmod(0)
    assert hand.get() == 1
    said = capsys.readouterr().err
    assert f"{hand.zip}: permission denied" in said
    assert "damaged" not in said
    hand.registry.chmod(0)
    assert hand.get() == 2
    assert f"{hand.registry}: permission denied" in capsys.readouterr().err


# --- registries that are not one --------------------------------------------------------------

GOOD = """
[sets.one]
kind = "files"
title = "t"
license = "l"
source = "a/b"
commit = "c"
table = "one.csv"
rules = [['(.+)', '\\1']]
"""
TABLE = "path,bytes,hash\na.png,1,sha256:" + "0" * 64 + "\n"


@pytest.mark.parametrize(
    ("registry", "table", "words"),
    [
        (None, TABLE, "expected a file, found a folder"),
        (b"\xff\xfe\x00", TABLE, "not a text file in UTF-8"),
        (b"[sets", TABLE, "not a TOML file"),
        (b"", TABLE, "no set in it"),
        (b"sets = 3", TABLE, "no set in it"),
        (b"[sets]\none = 3", TABLE, "[sets.one] is not of the form"),
        (GOOD.replace("[['(.+)', '\\1']]", "3"), TABLE, "[sets.one] is not of the form"),
        (GOOD.replace("(.+)", "(.+"), TABLE, "[sets.one] is not of the form"),
        (GOOD.replace("\\1", "\\2"), TABLE, "[sets.one] is not of the form"),
        (GOOD.replace('"one.csv"', "7"), TABLE, "[sets.one] is not of the form"),
        (GOOD.replace("\\1", "../\\1"), TABLE, "does not stay inside"),
        (GOOD, "", "no row of one.csv"),
        (GOOD, "a,b\n1,2\n", "the columns must be"),
        (GOOD, TABLE.replace(",1,", ",x,"), "bytes must be a number or empty, got 'x'"),
        (GOOD, TABLE + TABLE.splitlines()[1].replace("a.png", "A.PNG"), "both go to"),
    ],
)
def test_a_registry_that_is_none_is_a_wrong_call(registry, table, words, tmp_path, capsys):
    path = tmp_path / "sets.toml"
    if registry is None:
        path.mkdir()
    else:
        path.write_bytes(registry if isinstance(registry, bytes) else registry.encode())
    (tmp_path / "one.csv").write_text(table)
    assert main(["list", "--registry", str(path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert str(tmp_path) in said


def test_a_registry_saved_by_notepad_is_read(tmp_path):
    (tmp_path / "sets.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    (tmp_path / "one.csv").write_bytes(b"\xef\xbb\xbf" + TABLE.encode())
    assert list(load_registry(tmp_path / "sets.toml")) == ["one"]


# --- calls that are wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        pytest.param("list --to {long}", 1, "file name too long", marks=posix),
        pytest.param("info hand --to {long}", 1, "file name too long", marks=posix),
        pytest.param("verify hand --to {long}", 1, "file name too long", marks=posix),
        pytest.param("get hand --from {zip} --to {long}", 1, "file name too long", marks=posix),
        ("get hand --from {zip} --to {zip}", 1, "expected a folder, found a file"),
        ("get hand --from {zip} --to {zip}/deep", 1, "expected a folder, found a file"),
        ("get hand --from {folder}/none.zip", 1, "there is no such file or folder"),
        ("get hand --from {empty}", 1, "neither a zip nor a tar archive (0 bytes)"),
        ("get hand --from {registry}", 1, "neither a zip nor a tar archive"),
        ("get hand --from {folder}", 1, "expected 2 infrared images"),
        ("get hand hand --from {zip}", 2, "--from goes with one set"),
        ("get hand --mirror {empty}", 2, "neither an address"),
        ("get hand --registry {folder}", 2, "expected a file, found a folder"),
        ("get hand --registry {zip}", 2, "not a text file in UTF-8"),
        ("get hand --registry {empty}", 2, "no set in it"),
        ("get hand --registry {folder}/none.toml", 2, "there is no such file"),
        ("get none", 2, "no such set"),
        ("get", 2, "required: NAME"),
        ("get hand --jobs \u00b2", 2, "must be a number >= 1"),
        ("get hand --retries 1.5", 2, "must be a number >= 0"),
        ("get hand --timeout nan", 2, "must be seconds > 0"),
        ("get hand --timeout inf", 2, "must be seconds > 0"),
        ("remove hand --to {zip}", 0, ""),
        ("verify hand", 1, "not unpacked"),
        ("nothing", 2, "invalid choice"),
    ],
)
def test_a_wrong_call_is_answered_by_a_sentence(hand, call, code, words, capsys):
    empty = hand.folder / "empty"
    empty.touch()
    names = {"long": "x" * 5000, "zip": hand.zip, "folder": hand.folder, "empty": empty}
    arguments = [word.format(**names, registry=hand.registry) for word in call.split()]
    for option, value in (("--registry", hand.registry), ("--to", hand.to)):
        if (option not in arguments and len(arguments) > 1) or arguments == ["list"]:
            arguments += [option, str(value)]
    try:
        found = main(arguments)
    except SystemExit as end:  # of argparse
        found = end.code
    assert found == code
    assert words in capsys.readouterr().err
