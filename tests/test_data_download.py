"""Tests of data_download against a local server that misbehaves on purpose."""

import csv
import email.utils
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from download_server import COMMIT, ONE, PAIRS, STEMS, blob, heed_interrupts, sha256

import data_download
from data_download import errors, git_blob_id, hashes, load_registry, transfer
from data_download.__main__ import main
from data_download.registry import REGISTRY, RegistryError
from ldf_utils.data.pairs import PairFolder, find_sets

ROOT = Path(__file__).resolve().parent.parent
pytest_plugins = ["download_server"]


# --- git blob ids -----------------------------------------------------------------------------


def test_git_blob_id_of_known_contents(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert git_blob_id(path) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    path.write_bytes(b"hello\n")
    assert git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_git_blob_id_is_that_of_git(tmp_path):
    """For contents of any length and value, also around the size of the chunks."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    source = random.Random(0)
    sizes = [0, 1, 2, 65535, 65536, 65537, 131072] + [source.randrange(200_000) for _ in range(40)]
    paths = []
    for index, size in enumerate(sizes):
        content = source.randbytes(size)
        if index % 3 == 0:  # text with both ends of line must not be touched
            content = content.replace(b"\x00", b"\r\n")
        paths.append(tmp_path / str(index))
        paths[-1].write_bytes(content)
    # --literally content: no filters, whatever the user's settings are
    answer = subprocess.run(
        ["git", "hash-object", "--no-filters", "--stdin-paths"],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert [git_blob_id(path) for path in paths] == answer.stdout.split()
    assert len(set(answer.stdout.split())) == len({path.read_bytes() for path in paths})


# --- the registry -----------------------------------------------------------------------------


def test_registry_is_small_and_names_every_set():
    size = sum(path.stat().st_size for path in REGISTRY.parent.iterdir())
    assert size <= 1_500_000
    names = set(load_registry())
    assert names >= {
        "roadscene",
        "tno",
        "tno-results",
        "vifb",
        "vifb-results",
        "ldfusion-weights",
        "ldfusion-examples",
        "ld-lite",
        "m3svd",
    }


@pytest.mark.parametrize(
    ("name", "pairs"),
    [("roadscene", 221), ("tno", 42), ("vifb", 21), ("ldfusion-examples", 2), ("ld-lite", 2)],
)
def test_every_infrared_file_has_its_visible_partner(name, pairs):
    folders = stems_by_folder(load_registry()[name])
    assert folders["ir"] == folders["vi"]
    assert len(folders["ir"]) == pairs


@pytest.mark.parametrize(("name", "of", "methods"), [("tno", 42, 9), ("vifb", 21, 25)])
def test_every_method_has_a_result_for_every_pair(name, of, methods):
    registry = load_registry()
    stems = stems_by_folder(registry[name])["ir"]
    fused = {
        folder: found
        for folder, found in stems_by_folder(registry[f"{name}-results"]).items()
        if folder.startswith("fused_")
    }
    assert len(fused) == methods
    assert len(stems) == of
    assert all(found == stems for found in fused.values())


def stems_by_folder(dataset) -> dict[str, set[str]]:
    folders: dict[str, set[str]] = {}
    for file in dataset.files:
        parts = Path(file.target).parts
        if file.place == "data" and len(parts) == 3:
            folders.setdefault(parts[1], set()).add(Path(parts[2]).stem)
    return folders


@pytest.mark.parametrize(("name", "folder"), [("roadscene", "RoadScene"), ("ld-lite", "LD-Lite")])
def test_registry_agrees_with_files_at_hand(shared_dir, name, folder):
    """Files that came another way have the hashes and the places that the registry says."""
    checked = 0
    for file in load_registry()[name].files:
        parts = Path(file.target).parts
        base = shared_dir / ("weights" if file.place == "weights" else "data")
        path = base / folder / Path(*parts[1:])
        if path.is_file():
            assert hashes.difference(path, file.bytes, file.hash) is None, path
            checked += 1
    if not checked:
        pytest.skip(f"no file of {name} in {shared_dir}")


def test_the_clips_of_m3svd_are_pairs_and_those_at_hand_are_the_right_ones(shared_dir):
    clips = {file.target: file for file in load_registry()["m3svd"].files if "clips" in file.target}
    names = {
        place: {Path(target).name for target in clips if f"clips/{place}/" in target}
        for place in ("ir", "vi")
    }
    assert names["ir"] == names["vi"]
    assert len(names["ir"]) == 30
    found = sorted((shared_dir / "video" / "M3SVD").rglob("*.mp4"))
    if not found:
        pytest.skip(f"no clip in {shared_dir}/video/M3SVD")
    for path in found:
        file = clips[f"m3svd/clips/{path.parent.name}/{path.name}"]
        assert hashes.difference(path, file.bytes, file.hash) is None


def test_a_real_set_is_laid_out_from_a_copy_at_hand(shared_dir, tmp_path, monkeypatch):
    """The registry that ships, against the real bytes: every file of ld-lite is taken."""
    monkeypatch.setenv("LDF_WEIGHTS_DIR", str(tmp_path / "weights"))
    dataset = load_registry()["ld-lite"]
    for file in dataset.files:
        kind = "weights" if file.place == "weights" else "data"
        original = shared_dir / kind / "LD-Lite" / Path(*Path(file.target).parts[1:])
        if not original.is_file():
            original = shared_dir / "weights" / "LD-Lite" / original.name
        if not original.is_file():
            pytest.skip(f"there is no {original}")
        copy = tmp_path / "stick" / dataset.source / dataset.commit / file.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)
    folder = data_download.get(
        "ld-lite", to=tmp_path, options=data_download.Options(mirror=str(tmp_path / "stick"))
    )
    assert folder == tmp_path / "ld-lite"
    assert PairFolder(folder).names == ["1", "2"]
    assert PairFolder(folder).fused_methods() == ["LD-Lite"]
    assert (tmp_path / "weights" / "LD-Lite" / "final.pt").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("'ir/\\1.png'", "'../../ir/\\1.png'"), "does not stay inside"),
        (("'vi/\\1.png'", "'ir/\\1.png'"), "both go to"),
        (('kind = "files"', 'kind = "magic"'), "kind must be one of"),
        (('table = "toy.csv"', 'table = "none.csv"'), "none.csv: there is no such file"),
        (("in/rgb/", "in/rgbx/"), "no row of"),
        (('requires = ["toy"]', 'requires = ["you"]'), "'you'"),
        (('license = "CC0"', ""), "license missing"),
    ],
)
def test_a_registry_that_contradicts_itself_is_refused(toy, change, message, capsys):
    toy.registry.write_text(toy.registry.read_text().replace(*change))
    with pytest.raises(RegistryError, match=r"sets\.toml|toy\.csv|none\.csv") as caught:
        load_registry(toy.registry)
    assert message in str(caught.value)
    assert toy.run("list") == 2
    assert message in capsys.readouterr().err


def test_a_table_with_a_damaged_hash_is_refused(toy):
    table = toy.registry.parent / "toy.csv"
    table.write_text(table.read_text().replace("sha256:", "sha256:0", 1))
    with pytest.raises(RegistryError, match=r"toy\.csv, line 2"):
        load_registry(toy.registry)


# --- get, verify, remove ----------------------------------------------------------------------


def test_get_lays_a_set_out(toy, capsys):
    assert toy.run("get", "toy") == 0
    assert toy.local() == toy.expected()
    pairs = PairFolder(toy.to / "toy")
    assert pairs.names == STEMS
    assert pairs[0].infrared.shape == (1, 32, 40)
    assert list(find_sets(toy.to)) == ["toy"]
    source = (toy.to / "toy" / "SOURCE.md").read_text()
    for word in ("some/body", COMMIT, "CC0", "Nobody: Nothing, 2000.", "verify toy"):
        assert word in source
    assert f"{2 * PAIRS} files" in capsys.readouterr().out


def test_get_again_asks_for_nothing(toy):
    assert toy.run("get", "toy") == 0
    toy.server.log.clear()
    assert toy.run("get", "toy") == 0
    assert toy.run("get", "toy", "--offline") == 0
    assert toy.server.log == []


def test_results_lie_beside_the_pairs_they_belong_to(toy):
    assert toy.run("get", "toy-results") == 0
    pairs = PairFolder(toy.to / "toy")
    assert pairs.fused_methods() == ["Mean"]
    assert all(pairs.fused_path("Mean", stem) for stem in pairs.names)
    assert (toy.to / "toy" / "SOURCE.md").read_text().count("## ") == 2


def test_weights_go_to_the_folder_of_weights(toy):
    registry = str(toy.registry)
    assert main(["get", "--registry", registry, "toy-weights"]) == 0
    content = toy.contents["net/final.pt"]
    assert (toy.weights / "Toy" / "final.pt").read_bytes() == content
    assert (toy.weights / "Toy" / "SOURCE.md").is_file()
    assert toy.run("get", "toy-weights") == 0  # with --to: a set of weights alone goes there
    assert (toy.to / "Toy" / "final.pt").read_bytes() == content


def test_a_file_known_by_its_blob_id_alone_is_checked_by_it(toy, capsys):
    toy.fault("net/final.pt", *["wrong"] * 9)
    assert toy.run("get", "toy-weights") == 1
    assert toy.local() == {}
    assert blob(toy.contents["net/final.pt"]) in capsys.readouterr().err


def test_verify_names_what_is_missing_and_what_differs(toy, capsys):
    assert toy.run("verify", "toy") == 1
    assert "missing" in capsys.readouterr().err
    toy.run("get", "toy")
    assert toy.run("verify", "toy") == 0
    missing, changed = toy.to / "toy/ir/scene 1.png", toy.to / "toy/vi/scene 2.png"
    missing.unlink()
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    capsys.readouterr()
    assert toy.run("verify", "toy") == 1
    said = capsys.readouterr().err
    assert f"{missing}: missing" in said
    assert f"{changed}: expected sha256:" in said
    assert sha256(bytes(content)) in said
    assert f"2 of {2 * PAIRS} files" in said
    toy.server.log.clear()
    assert toy.run("get", "toy") == 0
    assert sorted(toy.asked()) == ["in/rgb/scene 2.png", "in/thermal/scene 1.png"]
    assert toy.local() == toy.expected()


def test_remove_takes_its_own_files_and_no_others(toy, capsys):
    toy.run("get", "toy-results")
    own = toy.to / "toy" / "fused_mine" / "scene 1.png"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    assert toy.run("remove", "toy-results", "--dry-run") == 0
    assert (toy.to / "toy" / "fused_Mean").is_dir()
    assert toy.run("remove", "toy-results") == 0
    assert toy.local() == toy.expected() | {"sets/toy/fused_mine/scene 1.png": b"mine"}
    capsys.readouterr()
    assert toy.run("remove", "toy") == 0
    assert toy.local() == {"sets/toy/fused_mine/scene 1.png": b"mine"}
    assert "1 other files were left" in capsys.readouterr().out
    own.unlink()
    assert toy.run("remove", "toy") == 0
    assert list(toy.to.iterdir()) == []


def test_dry_run_says_what_from_where_and_how_much_and_does_nothing(toy, capsys):
    assert toy.run("get", "toy", "--dry-run") == 0
    said = capsys.readouterr().out
    size = sum(map(len, toy.expected().values()))
    assert f"{toy.server.url}/{toy.remote('in/rgb/')}scene%201.png" in said
    assert f"{2 * PAIRS} files, {size} bytes" in said
    assert toy.server.log == []
    assert not toy.home.exists()


def test_mirror_takes_the_place_of_the_address(toy):
    text = toy.registry.read_text().replace(toy.server.url, "http://127.0.0.1:9")
    toy.registry.write_text(text)
    assert toy.run("get", "toy", "--mirror", toy.server.url + "/") == 0
    assert toy.local() == toy.expected()


def test_a_folder_can_be_the_mirror_also_offline(toy, tmp_path):
    for path, content in toy.contents.items():
        copy = tmp_path / "stick" / toy.remote(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    assert toy.run("get", "toy", "--offline", "--mirror", str(tmp_path / "stick")) == 0
    assert toy.local() == toy.expected()
    assert toy.server.log == []


def test_a_mirror_that_is_nothing_is_a_wrong_call(toy, tmp_path, capsys):
    assert toy.run("get", "toy", "--mirror", str(tmp_path / "no folder")) == 2
    assert "neither an address" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--jobs", "0"], ["--retries", "-1"], ["--timeout", "0"]])
def test_numbers_that_make_no_sense_are_a_wrong_call(toy, wrong):
    with pytest.raises(SystemExit) as caught:
        toy.run("get", "toy", *wrong)
    assert caught.value.code == 2
    assert toy.server.log == []


def test_a_folder_mirror_without_the_file_says_so(toy, tmp_path, capsys):
    assert toy.run("get", "toy", "--mirror", str(tmp_path)) == 1
    assert "the mirror has no such file" in capsys.readouterr().err


def test_offline_names_what_is_missing(toy, capsys):
    assert toy.run("get", "toy", "--offline") == 1
    said = capsys.readouterr().err
    assert f"{2 * PAIRS} of {2 * PAIRS} files" in said
    assert "scene 0.png" in said
    assert toy.server.log == []


def test_list_and_info(toy, capsys):
    assert toy.run("list") == 0
    assert "0 of 8 files" in capsys.readouterr().out
    toy.run("get", "toy")
    capsys.readouterr()
    assert toy.run("list") == 0
    assert "complete" in capsys.readouterr().out
    assert toy.run("info", "toy-results") == 0
    said = capsys.readouterr().out
    for word in ("some/body", COMMIT, "CC0", "Nobody", "requires: toy", "0 of 4 files"):
        assert word in said


def test_an_unknown_name_is_a_wrong_call(toy, capsys):
    assert toy.run("get", "toi") == 2
    assert "toy-results" in capsys.readouterr().err


def test_one_bad_set_does_not_keep_the_next_from_its_turn(toy):
    toy.fault("in/rgb/scene 1.png", 404)
    assert toy.run("get", "toy", "toy-weights") == 1
    assert (toy.to / "Toy" / "final.pt").is_file()


def test_the_functions_do_what_the_commands_do(toy):
    registry = load_registry(toy.registry)
    folder = data_download.get("toy-results", to=toy.to, registry=registry)
    assert folder == toy.to / "toy"
    assert PairFolder(folder).fused_methods() == ["Mean"]
    assert "all as at the source" in data_download.verify("toy", to=toy.to, registry=registry)
    (folder / "ir" / "scene 0.png").unlink()
    with pytest.raises(data_download.SetError, match=r"scene 0\.png: missing"):
        data_download.verify("toy", to=toy.to, registry=registry)
    with pytest.raises(data_download.SetError, match="'toi' is no set"):
        data_download.get("toi", registry=registry)


# --- a server that misbehaves -----------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "truncated",
        "reset",
        "wrong",
        "longer",
        "short without length",
        500,
        502,
        503,
        408,
        (429, {"Retry-After": "0"}),
        (429, {}),
        (503, {"Retry-After": "0"}),
    ],
    ids=str,
)
def test_a_passing_fault_is_got_over(toy, fault):
    toy.fault(ONE, fault)
    assert toy.run("get", "toy") == 0
    assert toy.local() == toy.expected()
    assert toy.asked().count(ONE) == 2


@pytest.mark.parametrize("fault", ["no-length", "slow"])
def test_unusual_but_right_answers_are_taken(toy, fault):
    toy.fault(ONE, fault)
    assert toy.run("get", "toy") == 0
    assert toy.local() == toy.expected()
    assert toy.asked().count(ONE) == 1


def test_a_redirect_is_followed(toy):
    toy.server.files["elsewhere"] = toy.contents[ONE]
    toy.fault(ONE, (302, {"Location": "/elsewhere"}))
    assert toy.run("get", "toy") == 0
    assert toy.local() == toy.expected()


def test_a_stalled_connection_is_given_up_and_tried_again(toy):
    toy.fault(ONE, "stall")
    assert toy.run("get", "toy", "--timeout", "1.5") == 0
    assert toy.local() == toy.expected()


@pytest.mark.parametrize(
    ("fault", "tries", "words"),
    [
        ("truncated", 3, ["connection broke", "run the command again"]),
        ("reset", 3, ["connection broke", "run the command again"]),
        ("wrong", 2, ["expected sha256:", "found sha256:", "nothing of it was kept"]),
        ("longer", 2, ["found more", "nothing of it was kept"]),
        ("short without length", 2, ["expected", "bytes, found"]),
        ("html", 2, ["web page", "login"]),
        ("stall", 3, ["less than 100 bytes/s", "--timeout"]),
        (404, 1, ["no such file (404)", "--mirror"]),
        (403, 1, ["refuses access (403)", "--mirror"]),
        (500, 3, ["fails (500)", "try again later"]),
    ],
    ids=str,
)
def test_a_lasting_fault_is_named_and_the_good_files_stay(toy, fault, tries, words, capsys):
    toy.fault(ONE, *[fault] * 9)
    timeout = "0.4" if fault == "stall" else "60"
    assert toy.run("get", "toy", "--retries", "2", "--timeout", timeout) == 1
    said = capsys.readouterr().err
    assert f"1 of {2 * PAIRS} files" in said
    for word in ["scene%201.png", *words]:
        assert word in said
    assert toy.asked().count(ONE) == tries
    expected = toy.expected()
    del expected["sets/toy/vi/scene 1.png"]
    assert toy.local() == expected
    toy.server.faults.clear()
    toy.server.log.clear()
    assert toy.run("get", "toy") == 0
    assert toy.asked() == [ONE]


def test_many_bad_files_are_counted_and_verify_names_every_one(toy, monkeypatch, capsys):
    monkeypatch.setattr("data_download.store.listing.__defaults__", (2,))
    for stem in STEMS:
        toy.fault(f"in/rgb/{stem}.png", 404)
    assert toy.run("get", "toy") == 1
    said = capsys.readouterr().err
    assert f"{PAIRS} of {2 * PAIRS} files could not be fetched" in said
    assert f"and {PAIRS - 2} more" in said
    assert (toy.to / "toy" / "SOURCE.md").is_file()  # for the half that is there
    assert toy.run("verify", "toy") == 1
    said = capsys.readouterr().err
    assert all(f"{toy.to / 'toy' / 'vi' / stem}.png: missing" in said for stem in STEMS)


def test_a_right_file_is_not_given_up_for_a_wrong_one(toy):
    """A changed copy stays until the right one is verified, so that nothing is lost on the way."""
    toy.run("get", "toy")
    changed = toy.to / "toy/vi/scene 1.png"
    changed.write_bytes(b"changed")
    toy.fault(ONE, 404)
    assert toy.run("get", "toy") == 1
    assert changed.read_bytes() == b"changed"


def test_retry_after_is_waited_for_by_all(toy):
    toy.fault(ONE, (429, {"Retry-After": "1"}))
    start = time.monotonic()
    assert toy.run("get", "toy", "--jobs", "1") == 0
    assert time.monotonic() - start >= 1
    assert toy.local() == toy.expected()


def test_a_long_retry_after_ends_the_run_with_the_time_to_wait(toy, capsys):
    toy.fault("in/thermal/scene 0.png", (429, {"Retry-After": "3600"}))
    start = time.monotonic()
    assert toy.run("get", "toy", "--jobs", "1") == 1
    assert time.monotonic() - start < 60
    said = capsys.readouterr().err
    assert "asks to wait 3600 s" in said
    assert f"and {2 * PAIRS - 1} files not tried" in said
    assert toy.asked() == ["in/thermal/scene 0.png"]


def test_retry_after_may_be_a_date():
    soon = email.utils.formatdate(time.time() + 50, usegmt=True)
    assert errors._retry_after(soon) == pytest.approx(50, abs=2)
    assert errors._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert errors._retry_after("7") == 7
    assert errors._retry_after("soon") is None
    assert errors._retry_after(None) is None


def test_no_network_ends_the_run_early_and_says_so(toy, capsys):
    with socket.socket() as free:  # a port that nobody listens on
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert toy.run("get", "toy", "--jobs", "2", "--retries", "1", "--mirror", nobody) == 1
    said = capsys.readouterr().err
    assert "cannot be reached" in said
    assert "files not tried" in said
    assert toy.local() == {}


def test_a_mirror_that_is_no_address_is_refused_at_once(toy, capsys):
    assert toy.run("get", "toy", "--mirror", "ftp://127.0.0.1/") == 1
    assert "check --mirror" in capsys.readouterr().err


def test_too_little_room_is_said_before_anything_is_fetched(toy, monkeypatch, capsys):
    usage = shutil.disk_usage(".")._replace(free=10)
    monkeypatch.setattr("data_download.store.shutil.disk_usage", lambda _: usage)
    assert toy.run("get", "toy") == 1
    assert "10 B are free" in capsys.readouterr().err
    assert toy.server.log == []


def test_a_disk_that_fills_up_ends_the_run(toy, monkeypatch, capsys):
    def full(self, count):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(transfer._Transfer, "_check_size", full)
        assert toy.run("get", "toy", "--jobs", "1") == 1
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert f"and {2 * PAIRS - 1} files not tried" in said
    assert toy.local() == {}
    assert toy.run("get", "toy") == 0


def test_a_folder_that_cannot_be_written_is_named(toy, capsys):
    (toy.to / "toy").mkdir(parents=True)
    (toy.to / "toy" / "ir").write_text("a file where a folder should be")
    assert toy.run("get", "toy") == 1
    assert "toy/ir: expected a folder, found a file" in capsys.readouterr().err
    assert toy.server.log == []  # it was named before the work


def test_a_folder_of_sets_that_is_a_file_is_named(toy, capsys):
    toy.home.mkdir()
    toy.to.write_text("a file where a folder should be")
    assert toy.run("get", "toy") == 1
    assert "sets: expected a folder, found a file" in capsys.readouterr().err
    assert toy.run("get", "toy", "--dry-run") == 0


def test_a_complete_set_needs_no_right_to_write(toy, monkeypatch):
    """For sets in a folder that many share."""
    assert toy.run("get", "toy") == 0
    monkeypatch.setattr("data_download.store.FileLock", None)
    assert toy.run("get", "toy") == 0
    assert toy.run("verify", "toy") == 0


def test_links_fetches_one_small_file_of_each_source_and_asks_every_page(toy, capsys):
    text = toy.registry.read_text()
    toy.registry.write_text(text.replace("about:blank", f"{toy.server.url}/page"))
    toy.server.files["page"] = b"hello"
    assert toy.run("links") == 0
    smallest = min(
        (path for path in toy.contents if path.endswith(".png")),
        key=lambda path: len(toy.contents[path]),
    )
    asked = toy.asked()
    assert len(asked) == 3
    assert len(toy.contents[asked[0]]) == len(toy.contents[smallest])
    assert asked[1:] == ["page", "net/final.pt"]
    assert capsys.readouterr().out.count("ok ") == 3
    toy.fault(asked[0], "wrong", "wrong")
    toy.server.faults["page"] = [403]
    toy.fault("net/final.pt", 404)
    assert toy.run("links") == 1
    said = capsys.readouterr().out
    assert said.count("BAD") == 2
    assert "expected sha256" in said
    assert "final.pt\n  the server has no such file" in said
    assert not toy.home.exists()


def test_two_runs_do_not_work_on_one_set(toy, capsys):
    from data_download.store import locked

    with locked(toy.to / "toy"):
        assert toy.run("get", "toy") == 1
    assert "another run is using this folder" in capsys.readouterr().err
    assert toy.run("get", "toy") == 0


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_in_the_middle_goes_on_where_it_was(toy, kind):
    toy.fault(ONE, "stall")
    command = [sys.executable, "-m", "data_download", "get", "toy", "--jobs", "1"]
    process = subprocess.Popen(
        [*command, "--registry", toy.registry, "--to", toy.to],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        assert toy.server.reached.wait(60)
        process.send_signal(kind)
        toy.server.release.set()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    done = toy.asked()[:-1]
    there = {name: data for name, data in toy.local().items() if ".partial" not in name}
    assert len(there) == len(done) > 0
    assert there.items() <= toy.expected().items()
    if kind == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert len(toy.local()) == len(done) + 1  # the half file lies apart
    else:
        assert process.returncode == 130
        assert "run the command again" in said
    toy.server.log.clear()
    assert toy.run("get", "toy") == 0
    assert set(toy.asked()).isdisjoint(done)
    assert toy.local() == toy.expected()


def test_many_files_are_fetched_at_once(toy):
    """The server answers none of four requests before all four are there."""
    toy.server.barrier = threading.Barrier(4, timeout=60)
    for path in toy.contents:
        toy.fault(path, "together")
    assert toy.run("get", "toy", "--jobs", "4", "--retries", "0", "--timeout", "60") == 0
    assert toy.local() == toy.expected()


# --- the tables that ship ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "manifest"),
    [
        ("roadscene", "roadscene"),
        ("tno", "tno"),
        ("vifb", "vifb"),
        ("m3svd", "m3svd"),
        ("ldfusion", "ldfusion"),
        ("ld-lite", "ld_lite"),
    ],
)
def test_the_tables_agree_with_what_was_recorded_of_the_repositories(shared_dir, table, manifest):
    def rows(path):
        with open(path, newline="", encoding="utf-8") as file:
            return {row["path"]: row for row in csv.DictReader(file)}

    recorded = rows(shared_dir / "manifests" / f"{manifest}.csv")
    ours = rows(REGISTRY.parent / f"{table}.csv")
    assert set(recorded) - set(ours) <= {"README.md", "crop_LR_visible/Thumbs.db"}
    for path, row in ours.items():
        known = recorded[path]
        sha256_, blob = known["sha256"], known["git_blob_sha1"]
        assert row["bytes"] == known["bytes"], path
        assert row["hash"] == (f"sha256:{sha256_}" if sha256_ else f"git-blob:{blob}"), path


def test_the_sets_that_ship_hold_whole_pairs():
    for name, dataset in load_registry().items():
        stems = {
            place: sorted(
                Path(file.target).stem
                for file in dataset.files
                if Path(file.target).parent.name == place
            )
            for place in ("ir", "vi")
        }
        assert stems["ir"] == stems["vi"], name
    counts = {name: len(dataset.files) for name, dataset in load_registry().items()}
    assert (counts["roadscene"], counts["tno"], counts["vifb"]) == (2 * 221, 2 * 42, 2 * 21)
    assert counts["m3svd"] == 2 * 30 + 1, "clips and the license"
