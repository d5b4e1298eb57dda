"""Tests of data_download for sets of videos, with clips that are made here."""

import shutil
import sys

import numpy as np
import pytest
from download_server import COMMIT, LENGTH, SIZE, Server, brightness, clip, hurry, sha256
from PIL import Image

from data_download import load_registry, video
from data_download.__main__ import main
from data_download.registry import RegistryError
from ldf_utils.data.pairs import find_sets

pytest_plugins = ["download_server"]


class Film:
    """A made-up set of two pairs of clips, its server and its registry."""

    def __init__(self, server: Server, folder):
        self.server, self.scratch = server, folder
        self.to = folder / "sets"
        self.home = self.to / "film"
        self.registry = folder / "registry" / "sets.toml"
        self.registry.parent.mkdir()
        self.contents = {"LICENSE": b"as you like"}
        for seed, name in enumerate(("a_1", "b_2")):
            for offset, folder_name in ((0, "infrared"), (30, "visible")):
                content = clip(folder / "clip.mp4", seed + offset)
                self.contents[f"Video/{folder_name}/{name}.mp4"] = content
        self.write()

    def write(self, rules: str = "", extra: str = "") -> None:
        rows = ["path,bytes,hash"]
        for path, content in self.contents.items():
            self.server.files[self.remote(path)] = content
            rows.append(f"{path},{len(content)},{sha256(content)}")
        (self.registry.parent / "film.csv").write_text("\n".join(rows) + "\n")
        rules = rules or (
            r"[['Video/infrared/(\w+)\.mp4', 'clips/ir/\1.mp4'], "
            r"['Video/visible/(\w+)\.mp4', 'clips/vi/\1.mp4'], ['LICENSE', 'LICENSE']]"
        )
        self.registry.write_text(
            f"""base = "{self.server.url}"
[sets.film]
kind = "video"
title = "made-up clips"
source = "some/body"
commit = "{COMMIT}"
table = "film.csv"
license = "CC0"
cite = "Nobody: Nothing, 2000."
homepage = "about:blank"
rules = {rules}
{extra}
"""
        )

    @staticmethod
    def remote(path: str) -> str:
        return f"some/body/{COMMIT}/{path}"

    def replace(self, name: str, *content: bytes) -> None:
        self.contents[name] = content[0]
        self.write()

    def run(self, *arguments: str) -> int:
        command, *rest = arguments
        return main([command, "--registry", str(self.registry), "--to", str(self.to), *rest])

    def frames(self) -> list[str]:
        return sorted(
            path.relative_to(self.home).as_posix()
            for direction in ("ir", "vi")
            for path in (self.home / direction).glob("*")
        )


@pytest.fixture
def film(server, tmp_path, monkeypatch):
    hurry(monkeypatch)
    return Film(server, tmp_path)


def names(*stems: str) -> list[str]:
    return sorted(f"{place}/{stem}.png" for place in ("ir", "vi") for stem in stems)


def test_every_nth_frame_of_the_chosen_clips_is_a_registered_pair(film, capsys):
    assert film.run("get", "film", "--clips", "b_2", "--every", "5") == 0
    assert film.frames() == names("b_2_0000", "b_2_0005", "b_2_0010")
    assert not (film.home / "clips" / "ir" / "a_1.mp4").exists()
    assert "3 pairs of frames" in capsys.readouterr().out
    pairs = find_sets(film.to)["film"]
    assert pairs.names == ["b_2_0000", "b_2_0005", "b_2_0010"]
    for pair, index in zip(pairs, (0, 5, 10), strict=True):
        assert pair.size == SIZE
        infrared, visible = brightness(1, index) / 255, brightness(31, index) / 255
        assert pair.infrared.mean().item() == pytest.approx(infrared, abs=0.02)
        assert pair.visible.mean().item() == pytest.approx(visible, abs=0.02)
    with Image.open(film.home / "ir" / "b_2_0005.png") as image:
        assert image.mode == "L"
    with Image.open(film.home / "vi" / "b_2_0005.png") as image:
        assert image.mode == "RGB"


def test_clips_alone_are_fetched_and_it_is_said_how_to_get_frames(film, capsys):
    assert film.run("get", "film") == 0
    assert "--every" in capsys.readouterr().out
    assert film.frames() == []
    assert film.run("verify", "film") == 0
    assert film.run("info", "film") == 0
    assert "complete" in capsys.readouterr().out


def test_a_second_run_fetches_and_decodes_nothing(film, monkeypatch, capsys):
    assert film.run("get", "film", "--every", "4") == 0
    before = {name: (film.home / name).stat().st_mtime_ns for name in film.frames()}
    assert len(before) == 12
    film.server.log.clear()
    monkeypatch.setattr(video, "_write", None)
    assert film.run("get", "film", "--every", "4") == 0
    assert "0 images (0 B) written, 12 were there" in capsys.readouterr().out
    assert film.server.log == []
    assert {name: (film.home / name).stat().st_mtime_ns for name in film.frames()} == before


def test_other_distances_add_frames_and_keep_those_that_are_there(film, capsys):
    assert film.run("get", "film", "--clips", "a_1", "--every", "6") == 0
    capsys.readouterr()
    assert film.run("get", "film", "--clips", "a_1", "--every", "3") == 0
    assert "4 images" in capsys.readouterr().out
    assert film.frames() == names("a_1_0000", "a_1_0003", "a_1_0006", "a_1_0009")
    assert film.run("verify", "film", "--clips", "a_1") == 0
    assert film.run("verify", "film") == 1, "the other clip is not here"


def test_a_run_that_is_stopped_keeps_whole_clips_and_the_next_one_goes_on(film, monkeypatch):
    real = video._write

    def stop(clip, *rest):
        if clip == "b_2":
            raise KeyboardInterrupt
        return real(clip, *rest)

    monkeypatch.setattr(video, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        film.run("get", "film", "--every", "6")
    assert film.frames() == names("a_1_0000", "a_1_0006")
    assert not (film.home / ".partial").exists()
    written = []
    monkeypatch.setattr(video, "_write", lambda *given: written.append(given[0]) or real(*given))
    assert film.run("get", "film", "--every", "6") == 0
    assert written == ["b_2"]
    assert film.run("verify", "film") == 0


def test_what_a_run_that_was_killed_while_it_moved_frames_has_left_is_known(film, monkeypatch):
    real, moved = video.os.replace, []

    def kill(source, target):
        if len(moved) == 3 and str(target).endswith(".png"):
            raise KeyboardInterrupt
        moved.append(target) if str(target).endswith(".png") else None
        real(source, target)

    monkeypatch.setattr(video.os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        film.run("get", "film", "--clips", "a_1", "--every", "6")
    monkeypatch.setattr(video.os, "replace", real)
    assert len(film.frames()) == 3
    assert film.run("verify", "film", "--clips", "a_1") == 1
    assert film.run("get", "film", "--clips", "a_1", "--every", "6") == 0
    assert film.run("verify", "film", "--clips", "a_1") == 0


def test_a_frame_that_was_changed_is_found_and_written_again(film, capsys):
    assert film.run("get", "film", "--every", "6") == 0
    place = film.home / "vi" / "a_1_0006.png"
    good = place.read_bytes()
    place.write_bytes(b"x" * len(good))
    (film.home / "ir" / "b_2_0000.png").unlink()
    assert film.run("verify", "film") == 1
    said = capsys.readouterr().err
    assert "2 frames are missing or differ" in said
    assert "a_1_0006.png: expected sha256" in said and "b_2_0000.png: missing" in said
    assert film.run("get", "film", "--every", "6") == 0
    assert place.read_bytes() == good
    assert film.run("verify", "film") == 0


def test_a_damaged_table_of_frames_is_named_and_replaced(film, capsys):
    assert film.run("get", "film", "--every", "6") == 0
    (film.home / "frames.csv").write_bytes(b"\xff\xfe nonsense")
    assert film.run("verify", "film") == 1
    assert "frames.csv: not a CSV file" in capsys.readouterr().err
    assert film.run("get", "film", "--every", "6") == 0
    assert film.run("verify", "film") == 0


def test_clips_that_are_no_pair_are_named(film, capsys):
    film.replace("Video/visible/a_1.mp4", clip(film.scratch / "clip.mp4", 30, length=LENGTH - 2))
    assert film.run("get", "film", "--every", "6") == 1
    said = capsys.readouterr().err
    assert f"a_1.mp4 has {LENGTH} frames" in said and f"has {LENGTH - 2}; expected" in said
    film.replace("Video/visible/a_1.mp4", clip(film.scratch / "clip.mp4", 30, size=(48, 48)))
    assert film.run("get", "film", "--every", "6") == 1
    assert "64 x 48 pixels and" in capsys.readouterr().err
    assert film.frames() == []


def test_a_clip_that_cannot_be_decoded_is_named(film, capsys):
    film.replace("Video/visible/a_1.mp4", b"no video" * 100)
    assert film.run("get", "film", "--every", "6") == 1
    said = capsys.readouterr().err
    assert "a_1.mp4: not a clip that PyAV can decode" in said
    assert len(said.strip().splitlines()) == 1


def test_without_pyav_it_is_said_before_anything_is_fetched(film, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert film.run("get", "film", "--every", "6") == 1
    assert "pip install av" in capsys.readouterr().err
    assert film.server.log == []
    assert film.run("get", "film") == 0, "clips need no PyAV"


def test_wrong_calls(film, capsys):
    assert film.run("get", "film", "--clips", "c_3") == 1
    assert "no clip c_3; there are a_1, b_2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        film.run("get", "film", "--every", "0")
    assert main(["get", "roadscene", "--every", "5", "--to", str(film.to)]) == 2
    assert main(["verify", "tno", "--clips", "a_1", "--to", str(film.to)]) == 2
    assert capsys.readouterr().err.count("of videos") == 2
    assert film.server.log == []


def test_a_dry_run_says_what_would_be_done(film, capsys):
    assert film.run("get", "film", "--every", "6", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "would fetch 5 files" in said and "one frame in 6 out of 2 clips" in said
    assert not film.to.exists()


def test_remove_takes_clips_and_frames_and_no_other_files(film, capsys):
    assert film.run("get", "film", "--every", "6") == 0
    mine = film.home / "vi" / "mine.png"
    mine.write_bytes(b"mine")
    assert film.run("remove", "film", "--dry-run") == 0
    assert "8 images of frames" in capsys.readouterr().out
    assert film.run("remove", "film") == 0
    assert [path for path in film.home.rglob("*") if path.is_file()] == [mine]
    mine.unlink()


def test_a_line_of_frames_csv_that_leads_outside_removes_nothing(film, capsys):
    assert film.run("get", "film", "--every", "6") == 0
    with open(film.home / "frames.csv", "a") as file:
        file.write(f"../../other.txt,1,{sha256(b'x')}\n")
    (film.scratch / "other.txt").write_text("x")
    assert film.run("remove", "film") == 1
    assert "does not stay inside" in capsys.readouterr().err
    assert (film.scratch / "other.txt").exists() and len(film.frames()) == 8


def test_the_registry_refuses_clips_without_a_partner_and_unknown_frames(film):
    film.write(rules=r"[['Video/infrared/(\w+)\.mp4', 'clips/ir/\1.mp4']]")
    with pytest.raises(RegistryError, match="clips must be pairs"):
        load_registry(film.registry)
    film.write(extra="frames = { c_3 = [1] }")
    with pytest.raises(RegistryError, match="c_3, which is no clip"):
        load_registry(film.registry)


def test_frames_that_the_registry_names_are_taken_out_and_too_late_ones_are_an_error(film, capsys):
    film.write(extra="frames = { a_1 = [1, 7] }")
    assert film.run("get", "film") == 0
    assert film.frames() == names("a_1_0001", "a_1_0007")
    film.write(extra="frames = { a_1 = [1, 99] }")
    assert film.run("verify", "film") == 1
    assert "a_1_0099.png: missing" in capsys.readouterr().err
    assert film.run("get", "film") == 1
    assert f"{LENGTH} frames, expected frame 99" in capsys.readouterr().err


def test_frames_of_real_clips_are_those_that_were_published(shared_dir, tmp_path, capsys):
    """The clips are those of the registry, and their frames the pairs that were made of them."""
    if not (shared_dir / "video" / "M3SVD").is_dir():
        pytest.skip("no real clips among the reference files")
    chosen = "0117_1605"
    for direction in ("ir", "vi"):
        place = tmp_path / "m3svd" / "clips" / direction
        place.mkdir(parents=True)
        shutil.copy(shared_dir / "video" / "M3SVD" / direction / f"{chosen}.mp4", place)
    shutil.copy(shared_dir / "video" / "M3SVD" / "LICENSE", tmp_path / "m3svd")
    arguments = ["m3svd", "--to", str(tmp_path), "--clips", chosen]
    assert main(["get", *arguments, "--every", "204", "--offline"]) == 0
    assert find_sets(tmp_path)["m3svd"].names == [f"{chosen}_0000", f"{chosen}_0204"]
    for direction in ("ir", "vi"):
        with Image.open(tmp_path / "m3svd" / direction / f"{chosen}_0204.png") as image:
            ours = np.asarray(image, dtype=float)
            mode = image.mode
        published = shared_dir / "train" / "M3SVD" / direction / f"{chosen}_0204.jpg"
        with Image.open(published) as image:  # JPEG, so not the same to the last bit
            assert np.abs(ours - np.asarray(image.convert(mode), dtype=float)).mean() < 0.7
