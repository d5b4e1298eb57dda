"""Tests of the checks around files; atomic writes are tested by what is written with them."""

import errno
import os

import pytest

from ldf_utils.data import files


def test_a_place_that_can_be_written_is_accepted_and_left_as_it_was(tmp_path):
    there = tmp_path / "there.csv"
    there.write_text("old")
    files.check_writable(there)
    files.check_writable(tmp_path / "new" / "deep" / "file.csv")
    files.check_writable(tmp_path / "new", folder=True)
    files.check_writable(tmp_path, folder=True)
    assert list(tmp_path.iterdir()) == [there]
    assert there.read_text() == "old"


def test_a_relative_name_lies_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.check_writable("file.csv")


def test_a_folder_in_the_place_of_a_file_and_the_reverse(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(IsADirectoryError, match="expected a file, found a folder") as caught:
        files.check_writable(tmp_path)
    assert caught.value.filename == str(tmp_path)
    for path in (tmp_path / "file" / "deep" / "table.csv", tmp_path / "file" / "table.csv"):
        with pytest.raises(NotADirectoryError, match="expected a folder, found a file"):
            files.check_writable(path)
    with pytest.raises(NotADirectoryError):
        files.check_writable(tmp_path / "file", folder=True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_what_the_file_system_says_is_passed_on_with_the_folder(tmp_path, monkeypatch, number):
    def refuse(dir):
        raise OSError(number, os.strerror(number), f"{dir}/tmp123")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="cannot be written, ") as caught:
        files.check_writable(tmp_path / "a" / "b.csv")
    assert caught.value.errno == number
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"<!DOCTYPE html><title>", "a web page"),
        (b"\n  <html>", "a web page"),
        (b"\xef\xbb\xbf<!doctype HTML>", "a web page"),
        (b'<?xml version="1.0"?><Error>', "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"PK\x03\x04", None),
        (b"", None),
    ],
)
def test_pages_and_pointers_are_told_from_data(start, what):
    assert files.web_page_or_pointer(start) == what
