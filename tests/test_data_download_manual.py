"""Tests of data_download for sets that are fetched by hand, with made-up archives of known form."""

import dataclasses
import io
import os
import random
import tarfile
import zipfile

import pytest
from PIL import Image

from data_download import archives, load_registry, manual, unpack
from data_download.__main__ import main
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection.boxes import CLASSES
from ldf_utils.detection.labels import read_labels


def picture(seed, size=(8, 10), mode="L", form="PNG"):
    pixels = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    file = io.BytesIO()
    Image.frombytes(mode, size[::-1], pixels).save(file, format=form)
    return file.getvalue()


def voc(*boxes):
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d, name in boxes
    )
    return f"<annotation><size><width>10</width></size>{objects}</annotation>".encode()


def llvip():
    """The known form of LLVIP.zip, with two pairs to train on and one to test on."""
    files = {"LLVIP/README.md": b"read me"}
    for index, (split, stem) in enumerate(
        [("train", "010001"), ("train", "010002"), ("test", "190001")]
    ):
        files[f"LLVIP/infrared/{split}/{stem}.jpg"] = picture(index, form="JPEG")
        files[f"LLVIP/visible/{split}/{stem}.jpg"] = picture(9 + index, mode="RGB", form="JPEG")
        files[f"LLVIP/Annotations/{stem}.xml"] = voc((1, 2, 5, 6, "person"))
    files["LLVIP/Annotations/010002.xml"] = voc()  # labeled, and nobody is there
    files["LLVIP/Annotations/190001.xml"] = voc((0, 0, 3, 3, "person"), (4, 4, 4, 7, "person"))
    files["__MACOSX/LLVIP/infrared/train/010001.jpg"] = b"not a picture"
    return files


def m3fd():
    files = {}
    for index in range(2):
        size = (8, 10) if index else (6, 7)  # a few pictures have sizes of their own
        files[f"Ir/{index:05d}.png"] = picture(index, size)
        files[f"Vis/{index:05d}.png"] = picture(9 + index, size, "RGB")
        files[f"Annotation/{index:05d}.xml"] = voc((1, 1, 4, 5, "People"), (0, 2, 6, 6, "Bus"))
    return files


def msrs():
    root = "MSRS-0123"
    files = {}
    for index, (split, stem) in enumerate([("train", "00001D"), ("test", "00004N")]):
        files[f"{root}/{split}/ir/{stem}.png"] = picture(index)
        files[f"{root}/{split}/vi/{stem}.png"] = picture(9 + index, mode="RGB")
        files[f"{root}/{split}/Segmentation_labels/{stem}.png"] = picture(20 + index)
    files[f"{root}/detection/ir/1042.png"] = picture(30)
    files[f"{root}/detection/vi/1042.png"] = picture(31, mode="RGB")
    files[f"{root}/detection/labels/1042.txt"] = b"0 0.5 0.5 0.2 0.5\n2 0.25 0.75 0.5 0.5\n"
    return files


MADE_UP = {
    "llvip": (llvip, [dict(pairs=3, splits=dict(train=2, test=1), size=[8, 10])]),
    "m3fd": (m3fd, [dict(pairs=2, labeled=2)]),
    "msrs": (
        msrs,
        [
            dict(pairs=2, splits=dict(train=1, test=1), size=[8, 10]),
            dict(pairs=1, labeled=1),
        ],
    ),
}


class Desk:
    """A folder to work in and the registry, with the counts of the made-up archives."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.to = folder, folder / "sets"
        self.registry = load_registry()
        for name, (_, changes) in MADE_UP.items():
            dataset = self.registry[name]
            parts = [
                part | change for part, change in zip(dataset.spec["parts"], changes, strict=True)
            ]
            spec = dict(dataset.spec) | {"parts": parts}
            self.registry[name] = dataclasses.replace(dataset, spec=spec)
        monkeypatch.setattr("data_download.__main__.load_registry", lambda path: self.registry)

    def zip(self, files, name="archive.zip"):
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        return self.folder / name

    def run(self, command, name, source=None, *rest):
        source = ["--from", str(source)] if source else []
        return main([command, name, "--to", str(self.to), *source, *rest])

    def written(self):
        return sorted(
            path.relative_to(self.to).as_posix()
            for path in self.to.rglob("*")
            if path.is_file() and path.suffix != ".lock"
        )


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


def boxes(folder):
    """What detection reads of a set: stem to class and corners of its boxes, and the problems."""
    labels = read_labels(folder, PairFolder(folder))
    found = {
        stem: [
            (CLASSES[place], *map(float, corners))
            for place, corners in zip(read.classes, read.corners, strict=True)
        ]
        for stem, read in labels.boxes.items()
    }
    return found, labels.problems


@pytest.mark.parametrize("name", MADE_UP)
def test_without_a_file_it_says_what_to_fetch_from_where(desk, name, capsys):
    assert desk.run("get", name) == 1
    said = capsys.readouterr().err
    spec = desk.registry[name].spec
    for words in (spec["archive"], f"get {name} --from", *spec["urls"]):
        assert words in said
    assert desk.run("info", name) == 0
    assert spec["urls"][0] in capsys.readouterr().out
    assert desk.run("get", name, None, "--dry-run") == 0


def test_llvip_is_laid_out_with_boxes_and_splits(desk, capsys):
    archive = desk.zip(llvip())
    assert desk.run("get", "llvip", archive) == 0
    said = capsys.readouterr().out
    assert "3 pairs" in said
    assert "3 boxes in 3 images" in said
    pairs = PairFolder(desk.to / "llvip")
    assert pairs.names == ["010001", "010002", "190001"]
    assert pairs[0].visible.shape == (3, 8, 10)
    found, (empty,) = boxes(desk.to / "llvip")
    assert found == {
        "010001": [("person", 1, 2, 5, 6)],
        "010002": [],
        "190001": [("person", 0, 0, 3, 3)],
    }
    assert "190001.xml" in empty and "the box is empty" in empty
    files = llvip()
    for written, original in {
        "ir/190001.jpg": "LLVIP/infrared/test/190001.jpg",
        "vi/190001.jpg": "LLVIP/visible/test/190001.jpg",
        "labels/190001.xml": "LLVIP/Annotations/190001.xml",
    }.items():
        assert (desk.to / "llvip" / written).read_bytes() == files[original]
    assert (desk.to / "llvip" / "splits.csv").read_text().splitlines() == [
        "name,split",
        "010001,train",
        "010002,train",
        "190001,test",
    ]
    source = (desk.to / "llvip" / "SOURCE.md").read_text()
    for words in ("archive.zip", "sha256:", "is not the archive", "non-commercial", "2108.10831"):
        assert words in source
    assert desk.run("verify", "llvip") == 0
    assert desk.run("get", "llvip") == 0  # it is there


def test_m3fd_keeps_the_names_of_the_classes(desk):
    assert desk.run("get", "m3fd", desk.zip(m3fd())) == 0
    assert "People" in (desk.to / "m3fd" / "labels" / "00000.xml").read_text()
    found, problems = boxes(desk.to / "m3fd")
    assert found["00000"] == [("person", 1, 1, 4, 5), ("vehicle", 0, 2, 6, 6)]
    assert problems == []
    assert PairFolder(desk.to / "m3fd")[0].size == (6, 7)


def test_msrs_becomes_two_sets(desk):
    assert desk.run("get", "msrs", desk.zip(msrs())) == 0
    assert PairFolder(desk.to / "msrs").names == ["00001D", "00004N"]
    assert PairFolder(desk.to / "msrs-detection").names == ["1042"]
    folder = desk.to / "msrs-detection" / "labels"
    assert (folder / "1042.txt").read_bytes() == msrs()["MSRS-0123/detection/labels/1042.txt"]
    assert (folder / "classes.txt").read_text() == "person\nbicycle\ncar\n"
    found, problems = boxes(desk.to / "msrs-detection")
    assert found == {"1042": [("person", 4, 2, 6, 6), ("vehicle", 0, 4, 5, 8)]}  # of 10 x 8 pixels
    assert problems == []
    assert desk.run("verify", "msrs") == 0
    assert not (desk.to / "msrs" / "labels").exists()


@pytest.mark.parametrize("form", ["folder", "folder inside", "tar", "tar.gz"])
def test_other_forms_of_the_same_files(desk, form):
    files, source = llvip(), desk.folder / f"source.{form}"
    if form.startswith("folder"):
        for path, content in files.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(content)
        source = source / "LLVIP" if form == "folder inside" else source
    else:
        with tarfile.open(source, "w:gz" if form == "tar.gz" else "w") as archive:
            for path, content in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert desk.run("get", "llvip", source) == 0
    assert PairFolder(desk.to / "llvip").names == ["010001", "010002", "190001"]
    assert len(boxes(desk.to / "llvip")[0]) == 3


@pytest.mark.parametrize(
    ("gone", "come", "words"),
    [
        ("visible/train/010001.jpg", {}, ["expected 3 visible images", "010001.jpg: no partner"]),
        ("Annotations/", {}, ["no file of boxes"]),
        ("infrared/", {}, ["expected 3 infrared images", "found 0"]),
        ("-", {"LLVIP/Annotations/555555.xml": voc()}, ["555555.xml: boxes without an image"]),
        (
            "-",
            {f"LLVIP/{kind}/test/010001.jpg": b"" for kind in ("infrared", "visible")},
            ["share one name", "in two splits"],
        ),
        (
            "train/010001.jpg",
            {f"LLVIP/{kind}/test/110001.jpg": picture(0) for kind in ("infrared", "visible")},
            ["expected 2 pairs in train, found 1", "expected 1 pairs in test, found 2"],
        ),
    ],
)
def test_an_archive_of_another_structure_is_not_unpacked(desk, gone, come, words, capsys):
    files = {path: data for path, data in llvip().items() if gone not in path} | come
    assert desk.run("get", "llvip", desk.zip(files)) == 1
    said = capsys.readouterr().err
    for word in [*words, "nothing was unpacked", "LLVIP.zip"]:
        assert word in said
    assert not desk.to.exists()


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("infrared/train/010002.jpg", picture(1, (8, 9), form="JPEG"), "9 x 8 pixels, expected 10"),
        ("visible/train/010002.jpg", b"no picture at all", "damaged"),
        ("Annotations/010002.xml", b"<annotation><object>", "no annotation in VOC form"),
        ("Annotations/010002.xml", b"<annotation><object/></annotation>", "no annotation in VOC"),
        (
            "Annotations/010002.xml",
            b'<!DOCTYPE a [<!ENTITY b "c">]><annotation/>',
            "declares entities",
        ),
    ],
)
def test_a_bad_file_is_named_and_the_others_are_unpacked(desk, path, content, words, capsys):
    files = llvip() | {f"LLVIP/{path}": content}
    assert desk.run("get", "llvip", desk.zip(files)) == 1
    said = capsys.readouterr().err
    assert path in said
    assert words in said
    assert "1 files are not what is expected" in said
    assert (desk.to / "llvip/ir/010001.jpg").is_file()
    assert desk.run("verify", "llvip") == 1  # not complete
    assert desk.run("get", "llvip", desk.zip(llvip())) == 0
    assert desk.run("verify", "llvip") == 0


def test_a_pair_of_two_sizes_is_refused(desk, capsys):
    files = m3fd() | {"Vis/00001.png": picture(1, (8, 9), "RGB")}
    assert desk.run("get", "m3fd", desk.zip(files)) == 1
    assert "Vis/00001.png: 9 x 8 pixels, expected 10 x 8" in capsys.readouterr().err


def test_a_class_without_a_name_is_refused(desk, capsys):
    files = msrs() | {"MSRS-0123/detection/labels/1042.txt": b"7 0.5 0.5 0.2 0.5\n"}
    assert desk.run("get", "msrs", desk.zip(files)) == 1
    assert "expected a class below 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "LLVIP/../../evil.jpg", "/evil.jpg", "C:/evil.jpg", "..\\evil.jpg"]
)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_cannot_write_outside_its_folder(desk, name, form, capsys):
    files = llvip() | {name: b"evil"}
    source = desk.folder / "deep" / "evil.archive"
    source.parent.mkdir()
    if form == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for path, content in files.items():
                archive.writestr(zipfile.ZipInfo(path), content)
    else:
        with tarfile.open(source, "w") as archive:
            for path, content in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert desk.run("get", "llvip", source) == 1
    assert "would be written outside" in capsys.readouterr().err
    assert [path.name for path in desk.folder.rglob("*") if path.is_file()] == ["evil.archive"]


def test_links_in_an_archive_are_not_followed(desk, capsys):
    """A link that takes the place of a picture counts as a missing picture."""
    secret = desk.folder / "secret.jpg"
    secret.write_bytes(picture(0, form="JPEG"))
    files = llvip()
    del files["LLVIP/infrared/train/010001.jpg"]
    source = desk.folder / "links.tar"
    with tarfile.open(source, "w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("LLVIP/infrared/train/010001.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    assert desk.run("get", "llvip", source) == 1
    assert "expected 3 infrared images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><title>Quota exceeded</title>", "a web page, not an archive"),
        (b"anything", "neither a zip nor a tar"),
        (None, "there is no such file"),
    ],
)
def test_what_is_no_archive_is_refused(desk, content, words, capsys):
    source = desk.folder / "LLVIP.zip"
    if content is not None:
        source.write_bytes(content)
    assert desk.run("get", "llvip", source) == 1
    assert words in capsys.readouterr().err


def test_a_cut_off_archive_is_refused(desk, capsys):
    source = desk.zip(llvip())
    source.write_bytes(source.read_bytes()[:-200])
    assert desk.run("get", "llvip", source) == 1
    assert "fetch it again" in capsys.readouterr().err.lower()


def test_a_damaged_member_is_named(desk, capsys):
    """The archive's own checksums are looked at."""
    source = desk.zip(llvip())
    content = bytearray(source.read_bytes())
    place = content.index(llvip()["LLVIP/visible/test/190001.jpg"])
    content[place + 30] ^= 255
    source.write_bytes(content)
    assert desk.run("get", "llvip", source) == 1
    said = capsys.readouterr().err
    assert "visible/test/190001.jpg: damaged" in said


def test_a_broken_run_goes_on_where_it_was(desk, monkeypatch):
    source = desk.zip(llvip())
    real, count = os.replace, 0

    def broken(*arguments):
        nonlocal count
        count += 1
        if count > 4:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(unpack.os, "replace", broken)
        with pytest.raises(KeyboardInterrupt):
            desk.run("get", "llvip", source)
    before = {
        name: (desk.to / name).stat().st_mtime_ns
        for name in desk.written()
        if not name.endswith(".csv")
    }
    assert len(before) == 3  # and manifest.partial.csv
    assert desk.run("verify", "llvip") == 1
    assert desk.run("get", "llvip", source) == 0
    assert desk.run("verify", "llvip") == 0
    after = {name: (desk.to / name).stat().st_mtime_ns for name in before}
    assert after == before  # what was there was not written again


def test_verify_and_remove(desk, capsys):
    desk.run("get", "llvip", desk.zip(llvip()))
    changed, missing = desk.to / "llvip/vi/190001.jpg", desk.to / "llvip/labels/190001.xml"
    changed.write_bytes(changed.read_bytes()[:-1])
    missing.unlink()
    (desk.to / "llvip" / "notes.txt").write_text("mine")
    assert desk.run("verify", "llvip") == 1
    said = capsys.readouterr().err
    assert f"{changed}: expected" in said
    assert f"{missing}: missing" in said
    assert desk.run("remove", "llvip", None, "--dry-run") == 0
    assert changed.is_file()
    assert desk.run("remove", "llvip") == 0
    assert desk.written() == ["llvip/notes.txt"]
    assert "1 other files were left" in capsys.readouterr().out


def test_dry_run_unpacks_nothing(desk, capsys):
    assert desk.run("get", "llvip", desk.zip(llvip()), "--dry-run") == 0
    assert "would unpack 9 files" in capsys.readouterr().out
    assert not desk.to.exists()


def test_from_goes_with_one_set_that_is_fetched_by_hand(desk):
    source = desk.zip(llvip())
    assert desk.run("get", "tno", source) == 2
    assert main(["get", "llvip", "m3fd", "--from", str(source), "--to", str(desk.to)]) == 2


def test_shipped_patterns_fit_names_at_hand(shared_dir):
    """Real file names of each set are found by the patterns that ship."""
    registry = load_registry()
    for name, folder in [("llvip", "LLVIP"), ("msrs", "MSRS")]:
        part = registry[name].spec["parts"][0]
        split = {"llvip": "infrared/train/{}", "msrs": "train/ir/{}"}[name]
        files = sorted((shared_dir / "data" / folder / "ir").iterdir())
        members = [archives.Member(f"x/{split.format(path.name)}", 1, bytes) for path in files]
        assert members
        pattern = manual.compiled(part["infrared"])
        assert all(pattern.fullmatch(member.name) for member in members)
        with Image.open(files[0]) as image:
            assert image.size[::-1] == tuple(part["size"])
