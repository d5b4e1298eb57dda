"""Faults that people met with their own pictures: each is made here, tried as a user would, right.

Rules of reading are tested in test_decoding.py, suspicions in test_suspicion.py, names in
test_names.py; here is what comes out at the end of the commands.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldf_utils.clip.loading import load_clip
from ldf_utils.data.images import ImageError, check_values, read_image, write_image
from ldf_utils.fusion import inference
from ldf_utils.fusion.__main__ import main
from ldf_utils.fusion.inference import fuse_folder, fuse_tensors
from ldf_utils.fusion.rules import average
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import save_network

ROOT = Path(__file__).resolve().parent.parent
HEIGHT, WIDTH = 96, 128
PERSON = np.s_[40:72, 60:70]


def _scene():
    """Infrared with a warm person, and a visible picture that does not show it; in [0, 1]."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    infrared = 0.25 + 0.15 * np.sin(columns / 17) * np.cos(rows / 11)
    infrared[PERSON] = 0.9
    texture = 0.5 + 0.15 * np.sin(columns / 3) + 0.1 * np.cos(rows / 5)
    return infrared, np.stack([texture, 0.9 * texture, 0.8 * texture], -1)


def _save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def _fill(folder, infrared=None, name="a.png"):
    """A set of one pair; ``infrared`` in place of the 8-bit picture of the scene."""
    own, visible = _scene()
    own = (255 * own).round().astype(np.uint8) if infrared is None else infrared
    _save(folder / "ir" / name, own)
    _save(folder / "vi" / "a.png", (255 * visible).round().astype(np.uint8))
    return folder


def _command(folder, *more):
    return [
        *("--infrared", str(folder / "ir"), "--visible", str(folder / "vi")),
        *("--output", str(folder / "out"), *more),
    ]


def _standing_out(path):
    """Gray levels by which the person is brighter than what is around."""
    gray = 255 * read_image(path).mean(0).numpy()
    return gray[PERSON].mean() - np.median(gray[30:82, 50:80])


@pytest.fixture(scope="module")
def in_8_bits(tmp_path_factory):
    folder = _fill(tmp_path_factory.mktemp("eight"))
    assert main(_command(folder)) == 0
    return _standing_out(folder / "out" / "a.png")


# --- 1: depth and range


@pytest.mark.parametrize(
    ("name", "low", "high", "says"),
    [
        ("a.tiff", 7400, 8600, "stretched"),
        ("a.png", 51241, 52181, "stretched"),
        ("a.png", 0, 4095, "read as 12 bits"),
        ("a.tif", 0, 65535, ""),
    ],
)
def test_a_person_stands_out_as_in_8_bits(tmp_path, in_8_bits, caplog, name, low, high, says):
    infrared = (low + (high - low) * _scene()[0]).round().astype(np.uint16)
    folder = _fill(tmp_path, infrared, name)
    assert main(_command(folder)) == 0
    assert in_8_bits > 40
    assert _standing_out(folder / "out" / "a.png") > 0.95 * in_8_bits
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == bool(says)
    assert all(says in text and str(folder / "ir" / name) in text for text in warnings)


def test_the_range_can_be_given_and_a_wrong_one_is_explained(tmp_path, in_8_bits, capsys):
    folder = _fill(tmp_path, (7400 + 1200 * _scene()[0]).round().astype(np.uint16))
    assert main(_command(folder, "--infrared-range", "7400:8600")) == 0
    assert abs(_standing_out(folder / "out" / "a.png") - in_8_bits) < 3
    assert main(_command(folder, "--infrared-range", "full")) == 0
    assert _standing_out(folder / "out" / "a.png") < 0.15 * in_8_bits
    assert main(_command(folder, "--infrared-range", "9:3")) == 2
    assert "must be auto, full, or LOW:HIGH with LOW < HIGH" in capsys.readouterr().err


# --- 2: orientation


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_picture_is_fused_upright(tmp_path, orientation):
    for kind in ("plain", "turned"):
        _fill(tmp_path / kind)
    stored = Image.open(tmp_path / "turned" / "vi" / "a.png")
    method = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    stored.transpose(method).save(tmp_path / "turned" / "vi" / "a.png", exif=exif)
    for kind in ("plain", "turned"):
        assert main(_command(tmp_path / kind)) == 0
    plain, turned = (read_image(tmp_path / kind / "out" / "a.png") for kind in ("plain", "turned"))
    torch.testing.assert_close(plain, turned)


# --- 3: polarity (false colors are in test_suspicion.py); 4: pages


def test_black_hot_pictures_can_be_turned(tmp_path, in_8_bits):
    folder = _fill(tmp_path, 255 - (255 * _scene()[0]).round().astype(np.uint8))
    assert main(_command(folder)) == 0
    assert _standing_out(folder / "out" / "a.png") < 0
    assert main(_command(folder, "--polarity", "black-hot")) == 0
    assert abs(_standing_out(folder / "out" / "a.png") - in_8_bits) < 1


def test_several_pages_are_named(tmp_path, caplog):
    folder = _fill(tmp_path, name="a.tif")
    pages = [Image.fromarray(np.full((HEIGHT, WIDTH), 50 * k, np.uint8)) for k in (1, 2)]
    own = Image.open(folder / "ir" / "a.tif").copy()
    own.save(folder / "ir" / "a.tif", save_all=True, append_images=pages)
    assert main(_command(folder)) == 0
    assert "a.tif: holds 3 pages or frames, and only the first is read" in caplog.text


# --- 5: what is not finite


def test_weights_that_are_not_finite_are_named_and_nothing_is_written(tmp_path, capsys):
    folder, network = _fill(tmp_path), BoundedFusionNetwork(width=4)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    save_network(network, folder / "net.pt")
    assert main(_command(folder, "--weights", str(folder / "net.pt"))) == 2
    error = capsys.readouterr().err
    assert "net.pt" in error and "NaN" in error and error.count("\n") == 1
    assert not (folder / "out").exists()
    report = fuse_folder(network, folder / "ir", folder / "vi", folder / "out")
    assert not report.written and "not finite" in report.problems[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_result_that_is_not_finite_is_named_and_not_written(tmp_path, value):
    folder = _fill(tmp_path)

    def rule(infrared, visible):
        fused = average(infrared, visible)
        fused[..., 3, 4] = value
        return fused

    report = fuse_folder(rule, folder / "ir", folder / "vi", folder / "out")
    assert not report.written and not (folder / "out" / "a.png").exists()
    (problem,) = report.problems
    assert "not finite (1 of " in problem and "a.png" in problem


# --- 12: permissions and disks


def test_a_picture_without_permission_is_named_and_the_others_are_fused(tmp_path, monkeypatch):
    folder = _fill(tmp_path)
    for side in ("ir", "vi"):
        Image.open(folder / side / "a.png").save(folder / side / "b.png")
    secret, there = folder / "ir" / "b.png", open

    def refuse(path, *more, **options):
        if str(path) == str(secret):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return there(path, *more, **options)

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything, chmod or not
    report = fuse_folder(average, folder / "ir", folder / "vi", folder / "out")
    assert [path.name for path in report.written] == ["a.png"]
    assert report.problems[0].startswith(f"{secret}: permission denied; allow reading it")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(tmp_path, capsys):
    folder = _fill(tmp_path)
    (folder / "ir").chmod(0)
    assert main(_command(folder)) == 2
    assert "permission denied" in capsys.readouterr().err
    (folder / "ir").chmod(0o700)


def test_an_output_that_cannot_be_written_is_named_before_the_work(tmp_path, capsys, monkeypatch):
    folder = _fill(tmp_path)
    (folder / "out").write_text("a file")

    def work(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr(inference, "fuse_pair", work)
    assert main(_command(folder)) == 2
    error = capsys.readouterr().err
    assert "out: expected a folder, found a file" in error and error.count("\n") == 1


def test_a_full_disk_ends_with_one_sentence(tmp_path, capsys, monkeypatch):
    folder = _fill(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "out" / "a.png"))

    monkeypatch.setattr(inference, "write_image", full)
    assert main(_command(folder)) == 2
    error = capsys.readouterr().err
    assert "a.png: no space left on device; free some" in error and error.count("error") == 1


# --- 15: types and ranges


def test_one_check_of_type_and_range(tmp_path, generator):
    levels = torch.randint(0, 256, (1, 3, 40, 48), dtype=torch.uint8, generator=generator)
    unit, wrong = levels.float() / 255, levels.float()
    gray = unit[:, :1]
    write_image(torch.full((1, 8, 8), 128, dtype=torch.uint8), tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").unique().tolist() == [pytest.approx(128 / 255)]
    expected = fuse_tensors(average, gray, unit)
    torch.testing.assert_close(fuse_tensors(average, levels[:, :1], levels), expected)
    for function in (
        lambda: write_image(wrong[0], tmp_path / "b.png"),
        lambda: fuse_tensors(average, wrong[:, :1], unit),
        lambda: fuse_tensors(average, gray, wrong),
        lambda: check_values(wrong),
    ):
        with pytest.raises(ImageError, match=r"must have values in \[0, 1\], got 0 to 255"):
            function()
    with pytest.raises(ImageError, match="must be uint8 or floating point in"):
        write_image(torch.zeros(1, 8, 8, dtype=torch.int64), tmp_path / "b.png")
    with pytest.raises(ImageError, match="must be finite, got 64 of 64 values"):
        write_image(torch.full((1, 8, 8), float("nan")), tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_clip_sees_a_picture_the_same_in_any_type(generator):
    clip = load_clip("mini")
    levels = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=generator)
    expected = clip.encode_image(levels.float() / 255)
    torch.testing.assert_close(clip.encode_image(levels), expected)
    with pytest.raises(ImageError, match="divide by its full scale"):
        clip.encode_image(levels.float())


# --- 16: the keyboard


@pytest.mark.skipif(os.name == "nt", reason="signals as on Unix")
def test_a_folder_that_is_stopped_ends_with_one_line(tmp_path):
    folder = _fill(tmp_path)
    for k in range(400):
        for side in ("ir", "vi"):
            (folder / side / f"{k}.png").write_bytes((folder / side / "a.png").read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "ldf_utils.fusion", *_command(folder)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not list((folder / "out").glob("[!.]*.png")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert "stopped from the keyboard" in error and "Traceback" not in error
    assert not [path for path in (folder / "out").iterdir() if path.name.startswith(".")]


# --- bad input of 28 kinds


def _bad(folder, kind):
    """Make one thing wrong in a set of two pairs, and return further arguments."""
    ir, vi, more = folder / "ir", folder / "vi", []
    picture = Image.open(ir / "b.png").copy()

    def only(path, text=None, suffix=None):
        for old in path.iterdir():
            old.unlink()
        if text is not None:
            (path / f"a{suffix}").write_text(text)

    match kind:
        case "no folder":
            more = ["--infrared", str(folder / "gone")]
        case "a picture in place of a folder":
            more = ["--infrared", str(ir / "a.png")]
        case "empty folder":
            only(ir)
        case "other files":
            only(ir, "text", ".heic")
        case "no partners":
            only(ir)
            picture.save(ir / "z.png")
        case "output is a file":
            (folder / "out").touch()
        case "output below a file":
            (folder / "out").touch()
            more = ["--output", str(folder / "out" / "deep")]
        case "output among the sources":
            more = ["--output", str(ir)]
        case "tile":
            more = ["--tile", "100"]
        case "range":
            more = ["--infrared-range", "high"]
        case "device":
            more = ["--device", "toaster"]
        case "no weights":
            more = ["--weights", str(folder / "net.pt")]
        case "a folder as weights":
            more = ["--weights", str(ir)]
        case "a picture as weights":
            more = ["--weights", str(ir / "a.png")]
        case "web page":
            (ir / "b.png").write_text("<!doctype html>")
        case "pointer":
            (ir / "b.png").write_text("version https://git-lfs.github.com/spec/v1")
        case "empty file":
            (vi / "b.png").write_bytes(b"")
        case "cut off":
            (vi / "b.png").write_bytes((vi / "b.png").read_bytes()[:-300])
        case "head only":
            (vi / "b.png").write_bytes((vi / "b.png").read_bytes()[:30])
        case "two sizes":
            picture.crop((0, 0, 50, 60)).save(ir / "b.png")
        case "tiny":
            for side in (ir, vi):
                picture.crop((0, 0, 5, 60)).save(side / "b.png")
        case "two of a stem":
            picture.save(ir / "b.bmp")
        case "no partner":
            (vi / "b.png").unlink()
        case "upper and lower case":
            (vi / "b.png").rename(vi / "B.png")
        case "folder as picture":
            (vi / "b.png").unlink()
            (vi / "b.png").mkdir()
        case "link to nothing":
            (vi / "b.png").unlink()
            (vi / "b.png").symlink_to(folder / "gone.png")
        case "not finite":
            (ir / "b.png").unlink()
            Image.fromarray(np.full((HEIGHT, WIDTH), np.nan, np.float32)).save(ir / "b.tif")
        case "no known scale":
            (vi / "b.png").unlink()
            Image.fromarray(np.full((HEIGHT, WIDTH), -9, np.int32)).save(vi / "b.tif")
        case "16 bits of color":
            more = ["--bits", "16"]
    return more


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("no folder", 2, "gone: there is no such folder or picture"),
        ("a picture in place of a folder", 2, "expected two folders or two pictures"),
        ("empty folder", 2, "ir: no picture in it"),
        ("other files", 2, "found only files ending in .heic"),
        ("no partners", 1, "ir/z.png: no partner z.* in"),
        ("output is a file", 2, "out: expected a folder, found a file"),
        ("output below a file", 2, "out: expected a folder, found a file"),
        ("output among the sources", 2, "would mix with their sources"),
        ("tile", 2, "must be a multiple of 64, got 100"),
        ("range", 2, "the range must be auto, full, or LOW:HIGH"),
        ("device", 2, "toaster"),
        ("no weights", 2, "net.pt: there is no such weights file"),
        ("a folder as weights", 2, "ir"),
        ("a picture as weights", 2, "a.png"),
        ("web page", 1, "ir/b.png: found a web page (15 bytes); expected a picture"),
        ("pointer", 1, "ir/b.png: found a Git LFS pointer"),
        ("empty file", 1, "vi/b.png: the file is empty"),
        ("cut off", 1, "vi/b.png: the picture is damaged or cut off"),
        ("head only", 1, "vi/b.png: "),
        ("two sizes", 1, "ir/b.png is 50 x 60 pixels and"),
        ("tiny", 1, "the pair is 5 x 60 pixels; fusing needs at least 32 x 32"),
        ("two of a stem", 1, "share the stem 'b'"),
        ("no partner", 1, "ir/b.png: no partner b.* in"),
        ("upper and lower case", 1, "B.png differs in upper and lower case"),
        ("folder as picture", 1, "ir/b.png: no partner b.* in"),
        ("link to nothing", 1, "vi/b.png: there is no such file"),
        ("not finite", 1, "b.tif: 12288 of 12288 pixels are not finite"),
        ("no known scale", 1, "b.tif: numbers from -9 to -9 have no known full scale"),
        ("16 bits of color", 1, "use bits=8"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_good_pairs_are_finished(
    tmp_path, capsys, kind, code, says
):
    if os.name == "nt" and kind in ("link to nothing", "upper and lower case"):
        pytest.skip("names and links as on Unix")
    folder = _fill(tmp_path)
    for side in ("ir", "vi"):
        (folder / side / "b.png").write_bytes((folder / side / "a.png").read_bytes())
    assert main(_command(folder, *_bad(folder, kind))) == code
    error = capsys.readouterr().err
    assert says in error.replace(os.sep, "/") and "Traceback" not in error and "Errno" not in error
    if code == 2:
        assert error.startswith("error: ") and error.count("\n") == 1
        assert not (folder / "out").is_dir()
    elif kind not in ("no partners", "16 bits of color"):
        assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]


# --- 17: suspicions


def test_swapped_folders_are_named_and_the_job_goes_on(tmp_path, caplog):
    folder = _fill(tmp_path)
    command = ["--infrared", str(folder / "vi"), "--visible", str(folder / "ir")]
    assert main([*command, "--output", str(folder / "out")]) == 0
    assert (folder / "out" / "a.png").exists()
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and "most likely swapped" in warnings[0].getMessage()
