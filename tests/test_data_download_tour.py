"""Tests of the tour: a few real pairs where there is a network, else one line and no harm."""

import os
import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest
from download_server import COMMIT, clip, picture, sha256

from data_download import load_registry, tour, transfer
from data_download.__main__ import main
from data_download.store import human
from ldf_utils.data.pairs import find_sets
from tools import notebooks

pytest_plugins = ["download_server"]

STREETS = ("a", "b")


class Tour:
    """A made-up tour, `Streets` with two pairs and `Film` with two frames, and its server."""

    def __init__(self, server, folder: Path):
        self.server, self.to, self.home = server, folder / "sets", folder / "sets" / "tour"
        self.path = folder / "registry" / "sets.toml"
        self.path.parent.mkdir()
        self.contents = {"LICENSE": b"as you like"}
        for index, stem in enumerate(STREETS):
            self.contents[f"thermal/{stem}.png"] = picture(index)
            self.contents[f"rgb/{stem}.png"] = picture(10 + index)
        for direction in ("infrared", "visible"):
            content = clip(folder / "clip.mp4", 0) + bytes(200_000)  # worth resuming
            self.contents[f"{direction}/c_1.mp4"] = content
        rows = ["path,bytes,hash"]
        for path, content in self.contents.items():
            server.files[self.remote(path)] = content
            rows.append(f"{path},{len(content)},{sha256(content)}")
        (self.path.parent / "table.csv").write_text("\n".join(rows) + "\n")
        common = f"""
source = "some/body"
commit = "{COMMIT}"
table = "table.csv"
cite = "Nobody: Nothing, 2000."
homepage = "about:blank"
"""
        self.path.write_text(
            f"""base = "{server.url}"
[sets.tour-streets]
kind = "files"
title = "made-up streets"
license = "as the streets like"
folder = "tour/Streets"
rules = [['thermal/(.+)', 'ir/\\1'], ['rgb/(.+)', 'vi/\\1']]
{common}
[sets.tour-film]
kind = "video"
title = "a made-up film"
license = "CC0"
folder = "tour/Film"
rules = [
    ['infrared/(.+)', 'clips/ir/\\1'],
    ['visible/(.+)', 'clips/vi/\\1'],
    ['LICENSE', 'LICENSE'],
]
frames = {{ c_1 = [0, 4] }}
{common}
[sets.other]
kind = "files"
title = "no part of the tour"
license = "CC0"
rules = [['thermal/(.+)', 'ir/\\1']]
{common}
"""
        )

    @staticmethod
    def remote(path: str) -> str:
        return f"some/body/{COMMIT}/{path}"

    def fault(self, path: str, *faults) -> None:
        self.server.faults[self.remote(path)] = list(faults)

    def fetch(self, **options) -> tuple[Path | None, str]:
        """Fetch it; return the folder and the one line."""
        said: list[str] = []
        options = {"wait": 5.0, "registry": load_registry(self.path)} | options
        folder = tour.fetch(self.to, say=said.append, **options)
        (line,) = said
        assert "\n" not in line
        return folder, line


@pytest.fixture
def made(server, tmp_path):
    return Tour(server, tmp_path)


@pytest.fixture
def silent():
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_the_whole_tour_is_read_as_sets_and_says_where_it_is_from(made):
    folder, line = made.fetch()
    assert folder == made.home
    sets = find_sets(folder)
    assert {name: pairs.names for name, pairs in sets.items()} == {
        "Film": ["c_1_0000", "c_1_0004"],
        "Streets": ["a", "b"],
    }
    assert all(pair.size for pairs in sets.values() for pair in pairs)
    files = [path for name in sets for path in (folder / name).rglob("*") if path.is_file()]
    size = human(sum(path.stat().st_size for path in files))
    assert line == f"real pairs of Streets (2) and Film (2), {size} in {folder}"
    card = (folder / "SOURCE.md").read_text()
    for part in ("made-up streets", "as the streets like", "a made-up film", "CC0", COMMIT):
        assert part in card
    assert "no part" not in card


def test_a_second_run_asks_for_nothing_and_changes_nothing(made):
    _, first = made.fetch()
    before = {path: path.stat().st_mtime_ns for path in made.home.rglob("*")}
    made.server.log.clear()
    folder, second = made.fetch()
    assert (folder, second) == (made.home, first)
    assert made.server.log == []
    assert {path: path.stat().st_mtime_ns for path in made.home.rglob("*")} == before


def test_the_command_prints_one_line_and_exits_with_0(made, capsys):
    arguments = ["tour", "--registry", str(made.path), "--to", str(made.to)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 and said.out.startswith("real pairs of Streets")
    assert said.err == ""
    shutil.rmtree(made.home)
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert main([*arguments, "--mirror", nowhere]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 and said.out.startswith("no real pairs")
    assert said.err == "" and not made.home.exists()
    assert main([*arguments, "--mirror", "no such folder"]) == 2


def test_a_refused_connection_is_one_line_at_once(made):
    folder, line = made.fetch(mirror=f"http://127.0.0.1:{free_port()}", wait=1e5)
    assert folder is None
    assert "the server cannot be reached" in line and "rendered" in line
    assert "`python -m data_download tour`" in line
    assert not made.home.exists()


def test_a_server_that_never_answers_is_given_up(made, silent):
    folder, line = made.fetch(mirror=silent, wait=0.3)
    assert folder is None
    assert "no answer in" in line and "rendered" in line
    assert not made.home.exists()


def test_a_name_that_is_looked_up_for_ever_is_given_up(made, monkeypatch):
    """The system's look-up of names has no timeout, and cannot be interrupted."""
    done = threading.Event()
    monkeypatch.setattr(transfer.requests, "get", lambda *_, **__: done.wait(60))
    try:
        folder, line = made.fetch(wait=0.3)
        assert not done.is_set()
    finally:
        done.set()
    assert folder is None and "no answer in" in line


@pytest.mark.parametrize("fault", ["drip headers", "stall"])
def test_a_server_that_dribbles_is_given_up_after_one_file(made, fault):
    for path in made.contents:
        made.fault(path, *[fault] * 9)
    folder, line = made.fetch(wait=0.3)
    assert folder is None and "rendered" in line
    assert len(made.server.log) == 1, "the other files and sets are not waited for"


def test_an_interrupted_file_is_resumed_by_the_next_run(made):
    made.fault("visible/c_1.mp4", "truncated", "reset")
    folder, line = made.fetch()
    assert folder == made.home and list(find_sets(folder)) == ["Streets"]
    assert line.startswith("real pairs of Streets (2), ")
    assert "not complete (tour-film: 1 of 3 files could not be fetched)" in line
    made.server.log.clear()
    made.server.ranges.clear()
    folder, line = made.fetch()
    assert made.server.log[-1] == made.remote("visible/c_1.mp4")
    assert made.server.ranges[-1] != "bytes=0-", "resumed, not fetched anew"
    assert sorted(find_sets(folder)) == ["Film", "Streets"] and "not complete" not in line


def test_a_run_that_was_killed_is_completed(made, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    made.fault("rgb/b.png", "stall")
    monkeypatch.setattr(transfer._Transfer, "_check_rate", stop)
    with pytest.raises(KeyboardInterrupt):
        made.fetch()
    monkeypatch.undo()
    made.server.release.set()
    folder, line = made.fetch()
    assert sorted(find_sets(folder)) == ["Film", "Streets"] and "not complete" not in line


def test_a_wrong_hash_is_not_kept_and_the_other_sets_are_used(made):
    made.fault("LICENSE", *["wrong"] * 9)
    folder, line = made.fetch()
    assert list(find_sets(folder)) == ["Streets"]
    assert "not complete (127.0.0.1" in line and "expected sha256:" in line
    assert not (made.home / "Film").exists()


def test_half_a_set_is_not_read(made):
    """With half of the streets here and the network gone, the rendered pairs are used."""
    made.fault("rgb/b.png", 404)
    folder, line = made.fetch()
    assert (made.home / "Streets" / "ir" / "b.png").exists()
    assert not (made.home / "Streets" / "vi" / "b.png").exists()
    assert folder is None and "tour-streets: 1 of 4 files could not be fetched" in line
    folder, line = made.fetch(mirror=f"http://127.0.0.1:{free_port()}")
    assert folder is None and "rendered" in line
    folder, _ = made.fetch()
    assert sorted(find_sets(folder)) == ["Film", "Streets"]


def test_what_is_complete_is_used_without_a_network(made):
    made.fetch()
    shutil.rmtree(made.home / "Film")
    folder, line = made.fetch(mirror=f"http://127.0.0.1:{free_port()}")
    assert list(find_sets(folder)) == ["Streets"]
    assert "not complete (127.0.0.1" in line and "cannot be reached" in line


def test_without_pyav_the_pictures_come_alone(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    folder, line = made.fetch()
    assert list(find_sets(folder)) == ["Streets"]
    assert "pip install av" in line
    assert not any("mp4" in path for path in made.server.log)


def test_a_folder_that_cannot_be_written_is_one_line(made):
    made.to.write_text("a file, where the folder of sets should be")
    folder, line = made.fetch()
    assert folder is None and str(made.to) in line and "rendered" in line


def test_the_environment_names_the_tour_unless_the_user_has_named_pairs(made, monkeypatch):
    real = tour.fetch
    monkeypatch.setattr(
        tour, "fetch", lambda to, say: real(to, say=say, registry=load_registry(made.path))
    )
    monkeypatch.setenv("LDF_DATA_DIR", "my own")
    tour.use(made.to)
    assert os.environ["LDF_DATA_DIR"] == "my own" and made.server.log == []
    monkeypatch.delenv("LDF_DATA_DIR")
    tour.use(made.to)
    assert os.environ["LDF_DATA_DIR"] == str(made.home.resolve())
    monkeypatch.delenv("LDF_DATA_DIR")
    monkeypatch.setattr(tour, "fetch", lambda to, say: None)
    tour.use(made.to)
    assert "LDF_DATA_DIR" not in os.environ


# --- the tour that ships ----------------------------------------------------------------------


def test_the_tour_that_ships_is_small_in_pairs_and_a_part_of_the_whole_sets():
    registry = load_registry()
    sets = {name: dataset for name, dataset in registry.items() if name.startswith("tour-")}
    assert list(sets) == ["tour-roadscene", "tour-tno", "tour-m3svd"]
    size = 0
    for name, dataset in sets.items():
        whole = registry[name.removeprefix("tour-")]
        assert (dataset.source, dataset.commit) == (whole.source, whole.commit)
        assert dataset.license == whole.license and dataset.cite == whole.cite
        known = {(file.path, file.bytes, file.hash) for file in whole.files}
        assert {(file.path, file.bytes, file.hash) for file in dataset.files} <= known
        assert all(file.hash.startswith("sha256:") for file in dataset.files)
        size += sum(file.bytes for file in dataset.files)
        stems = {
            place: {Path(f.target).stem for f in dataset.files if f"/{place}/" in f.target}
            for place in ("ir", "vi")
        }
        assert stems["ir"] == stems["vi"]
    assert size < 13_000_000, "15 MB with the frames of the clips, about 1.5 MB"


def test_the_tour_that_ships_is_fetched_from_the_real_files(shared_dir, tmp_path):
    """All but TNO, whose reference copies are compressed anew."""
    registry = {
        name: dataset
        for name, dataset in load_registry().items()
        if name in ("tour-roadscene", "tour-m3svd")
    }
    places = {"cropinfrared": "ir", "crop_LR_visible": "vi", "infrared": "ir", "visible": "vi"}
    for name, dataset in registry.items():
        home = shared_dir / ("video/M3SVD" if name == "tour-m3svd" else "data/RoadScene")
        for file in dataset.files:
            original = home / places.get(Path(file.path).parent.name, "") / Path(file.path).name
            if not original.is_file():
                pytest.skip(f"no {original}")
            copy = tmp_path / "mirror" / dataset.source / dataset.commit / file.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(original)
    said: list[str] = []
    mirror = str(tmp_path / "mirror")
    folder = tour.fetch(tmp_path / "sets", mirror=mirror, registry=registry, say=said.append)
    assert said[0].startswith("real pairs of RoadScene (12) and M3SVD (6), 9.4 MB"), said
    assert {name: len(pairs) for name, pairs in find_sets(folder).items()} == {
        "M3SVD": 6,
        "RoadScene": 12,
    }


# --- make tutorial ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "toured"),
    [
        (["tutorial"], False),
        (["tutorial", "--data", "rendered"], False),
        (["tutorial", "--data", "tour"], True),
        (["refresh"], False),
    ],
)
def test_only_the_tutorial_that_is_asked_to_begins_with_the_tour(
    tmp_path, monkeypatch, capsys, arguments, toured
):
    asked = []
    monkeypatch.setattr(tour, "use", lambda to, say: asked.append(to))
    (tmp_path / "empty").mkdir()
    code = notebooks.main([*arguments, "--notebooks", str(tmp_path / "empty")])
    assert code == 2 and "found no notebook" in capsys.readouterr().err
    assert asked == ([notebooks.ROOT / "data"] if toured else [])
