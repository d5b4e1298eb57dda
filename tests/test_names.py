"""Which pictures belong together: one rule for every folder."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldf_utils.data import names
from ldf_utils.data.names import IMAGE_SUFFIXES, ImageError
from ldf_utils.data.pairs import PairFolder

# Stems as people and cameras write them: accents, dots, spaces, words that programs use as signs.
STEMS = st.one_of(
    st.sampled_from(["mean", "None", "nan", "-1", "é", "Å", "ñandú", "a.b", "a b", "0001"]),
    st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=12),
).filter(lambda stem: stem.strip() and not stem.startswith(".") and not stem.endswith("."))
SUFFIXES = st.sampled_from(
    [*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES), ".Png"]
)


@pytest.fixture
def sides(tmp_path):
    def make(infrared, visible):
        for side, found in (("ir", infrared), ("vi", visible)):
            (tmp_path / side).mkdir(exist_ok=True)
            for name in found:
                (tmp_path / side / name).touch()
        return tmp_path / "ir", tmp_path / "vi"

    return make


@given(STEMS, SUFFIXES, SUFFIXES)
def test_partners_have_one_stem_in_any_form_and_ending(stem, first, second):
    composed = unicodedata.normalize("NFC", stem)
    apart = unicodedata.normalize("NFD", stem)
    assert names.is_picture(composed + first)
    assert names.stem_of(composed + first) == names.stem_of(apart + second) == composed


@given(STEMS, STEMS, SUFFIXES)
def test_other_stems_are_no_partners(one, other, suffix):
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    assert (names.stem_of(one + suffix) == names.stem_of(other + suffix)) == same


def test_folders_match_by_one_rule(sides):
    folders = sides(
        ["b.TIF", unicodedata.normalize("NFD", "é.png"), "mean.png", "a.b.Png", "._b.png"],
        ["b.jpg", unicodedata.normalize("NFC", "é.png"), "mean.JPEG", "a.b.png", ".hidden.png"],
    )
    pairs, problems = names.match_folders(*folders)
    assert [stem for stem, _, _ in pairs] == ["a.b", "b", "mean", "é"] and not problems
    assert all(infrared.exists() and visible.exists() for _, infrared, visible in pairs)
    assert names.match_files(*folders) == pairs


def test_every_picture_in_no_pair_is_named(sides):
    infrared, visible = sides(
        ["good.png", "Big.png", "kind.png", "twice.png", "Twice.png", "twice.bmp"],
        ["good.png", "big.png", "kind.heic", "twice.png", "lonely.png"],
    )
    pairs, problems = names.match_folders(infrared, visible)
    assert [stem for stem, _, _ in pairs] == ["good"]
    for part, says in (
        (f"{infrared / 'Big.png'}: no partner Big.*", "big.png differs in upper and lower case"),
        (f"{infrared / 'kind.png'}: no partner", "kind.heic is there, but pictures that end in"),
        (f"{infrared / 'twice.bmp'} and {infrared / 'twice.png'}", "share the stem 'twice'"),
        (f"{visible / 'lonely.png'}: no partner lonely.* in {infrared}", "move this picture out"),
    ):
        assert len([p for p in problems if p.startswith(part) and says in p]) == 1, problems
    with pytest.raises(ImageError, match=r"(?s)6 problem\(s\).*Big\.png.*lonely\.png"):
        names.match_files(infrared, visible)
    heard: list[str] = []
    found = PairFolder(infrared.parent, on_problem=heard.append)
    assert found.names == ["good"] and heard == problems


def test_folders_without_pairs_say_what_was_found(sides, tmp_path):
    infrared, visible = sides(["a.heic", "b.npy"], ["b.png"])
    with pytest.raises(
        ImageError, match=r"no picture in it.*found only files ending in .heic, .npy"
    ):
        names.match_folders(infrared, visible)
    with pytest.raises(ImageError, match="there is no such folder"):
        names.match_folders(tmp_path / "gone", visible)
    with pytest.raises(ImageError, match="there is no such folder"):
        names.match_folders(visible / "b.png", visible)
    (infrared / "c.png").touch()
    with pytest.raises(ImageError, match="no pair of equal stem"):
        PairFolder(tmp_path, on_problem=lambda problem: None)


def test_a_folder_that_must_not_be_read_is_said_as_such(sides, monkeypatch):
    infrared, visible = sides(["a.png"], ["a.png"])

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(infrared), "iterdir", refuse)
    with pytest.raises(ImageError, match=r"ir: permission denied; allow reading it"):
        names.match_files(infrared, visible)


def test_a_picture_is_found_by_its_stem(sides):
    infrared, _ = sides([unicodedata.normalize("NFD", "é.PNG"), "a.b.tif"], [])
    assert names.find_picture(infrared, "é") is not None
    assert names.find_picture(infrared, "a.b") == infrared / "a.b.tif"
    assert names.find_picture(infrared, "a") is None
    assert names.find_picture(infrared / "gone", "a") is None
    (infrared / "a.png").touch()
    assert names.find_picture(infrared, "a") == infrared / "a.png"
    (infrared / "a.bmp").touch()
    os.utime(infrared, ns=(1, 1))  # the clock of a file system may be slower than this test
    with pytest.raises(ImageError, match=r"a\.bmp and .*a\.png share the stem 'a'"):
        names.find_picture(infrared, "a")
