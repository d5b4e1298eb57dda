"""Fusing: any size, tiles, color; folders that finish what is good and name what is not."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from ldf_utils.data.images import ImageError, luminance, read_image, write_image
from ldf_utils.data.pairs import Pair
from ldf_utils.fusion.__main__ import main
from ldf_utils.fusion.inference import _fuse_tiles, _tiles, fuse_folder, fuse_pair, fuse_tensors
from ldf_utils.fusion.rules import RULES, average
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import save_network
from ldf_utils.networks.ldfusion import LDLite
from ldf_utils.training.distributed import Team


def _network(width=4, heads=0.3, seed=0):
    torch.manual_seed(seed)
    network = BoundedFusionNetwork(width=width)
    for head in (network.tone_head, network.weight_head, *network.band_heads):
        nn.init.normal_(head.weight, std=heads)
    return network.eval()


def _pair(generator, height, width, channels=3, batch=1):
    infrared = torch.rand(batch, 1, height, width, generator=generator)
    return infrared, torch.rand(batch, channels, height, width, generator=generator)


def _chroma(image):
    return torch.stack([image[..., 0, :, :], image[..., 2, :, :]], -3) - luminance(image)


# --- tensors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (33, 57), (101, 64)])
def test_any_size_and_color(size, channels, generator):
    infrared, visible = _pair(generator, *size, channels=channels, batch=2)
    network = _network()
    fused = fuse_tensors(network, infrared, visible)
    assert fused.shape == visible.shape and not fused.requires_grad
    assert fused.min() >= 0 and fused.max() <= 1
    if channels == 1:
        with torch.no_grad():
            torch.testing.assert_close(fused, network(infrared, visible))


def test_color_is_that_of_the_visible_image(generator):
    infrared, visible = _pair(generator, 40, 44)
    infrared, visible = 0.4 + 0.2 * infrared, 0.45 + 0.1 * visible  # stays inside the color cube
    network = _network(heads=0.01)
    fused = fuse_tensors(network, infrared, visible)
    with torch.no_grad():
        expected = network(infrared, luminance(visible))
    torch.testing.assert_close(luminance(fused), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(_chroma(fused), _chroma(visible), atol=1e-5, rtol=0)
    assert (luminance(fused) - luminance(visible)).abs().mean() > 0.01


@pytest.mark.parametrize("name", RULES)
def test_rules_fuse_like_networks(name, generator):
    infrared, visible = _pair(generator, 48, 40)
    fused = fuse_tensors(RULES[name], infrared, visible)
    gray = RULES[name](infrared, luminance(visible))
    assert fused.shape == visible.shape
    assert (luminance(fused) - gray).abs().mean() < (luminance(visible) - gray).abs().mean()


def test_wrong_tensors_are_named():
    good = torch.zeros(1, 1, 40, 40)
    for infrared, visible in (
        (good, torch.zeros(1, 3, 40, 41)),
        (good, torch.zeros(2, 3, 40, 40)),
        (good, torch.zeros(1, 2, 40, 40)),
        (torch.zeros(1, 3, 40, 40), good),
        (good[0], good[0]),
    ):
        with pytest.raises(ValueError, match="expected infrared"):
            fuse_tensors(average, infrared, visible)
    with pytest.raises(ValueError, match="40 x 31 pixels; fusing needs at least 32 x 32"):
        fuse_tensors(average, good[..., :31, :], good[..., :31, :])
    for tile in (0, 32, 100):
        with pytest.raises(ValueError, match="multiple of 64"):
            fuse_tensors(average, good, good, tile=tile)


def test_the_network_is_left_as_it_was(generator):
    network = _network().train()
    fuse_tensors(network, *_pair(generator, 32, 32))
    assert network.training and all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("size", [(65, 64), (70, 333), (257, 129), (191, 192)])
def test_tiles_cover_every_pixel_once(size, tile, generator):
    """A rule that works pixel by pixel cannot tell tiles from the whole."""
    infrared, visible = _pair(generator, *size, batch=2)
    seen = []

    def rule(infrared, visible):
        seen.append(infrared.shape[-2:])
        return 0.3 * infrared + 0.7 * visible

    whole = fuse_tensors(rule, infrared, visible, tile=None)
    assert seen == [size]
    seen.clear()
    tiled = fuse_tensors(rule, infrared, visible, tile=tile)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)
    if size[0] * size[1] > tile**2:
        assert len(seen) > 1
    assert all((32 <= h <= tile and 32 <= w <= tile) or (h, w) == size for h, w in seen)


@given(st.integers(1, 32), st.integers(33, 9000))
def test_weights_of_tiles_sum_to_one(tile, size):
    """At every pixel of an axis, whatever its length and the side of the tiles."""
    tile *= 64
    total, count = torch.zeros(size, dtype=torch.float64), 0
    for part, weight in _tiles(size, tile):
        assert 0 < part.stop - part.start <= tile and part.stop <= size
        assert weight.min() >= 0 and len(weight) == part.stop - part.start
        total[part] += weight.double()
        count += 1
    assert (total - 1).abs().max() < 1e-6
    assert count == 1 or size > tile


def test_small_images_are_fused_whole(generator):
    infrared, visible = _pair(generator, 100, 41)
    calls = []
    fuse_tensors(lambda i, v: calls.append(i) or average(i, v), infrared, visible, tile=128)
    assert len(calls) == 1


def test_tiles_give_what_the_whole_gives(generator):
    """The bounded network sees less than the margin of the default overlap."""
    height, width = 64, 2080
    texture = torch.rand(2, 1, 1, height, width, generator=generator)
    coarse = torch.rand(2, 1, 1, 3, 40, generator=generator).flatten(0, 1)
    coarse = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    infrared, visible = 0.3 * texture + 0.7 * coarse.view_as(texture)
    network = _network()
    with torch.no_grad():
        maps = network.maps(infrared, visible)
    assert maps["weight"].std() > 0.02 and maps["contrast"].std() > 0.005

    with torch.no_grad():
        whole = network(infrared, visible)
        tiled = _fuse_tiles(network, infrared, visible, 1024, torch.device("cpu"))
    assert (whole - tiled).abs().max() < 1e-5


def test_small_tiles_are_close_and_have_no_seams(generator):
    infrared, visible = _pair(generator, 160, 200, channels=1)
    infrared, visible = (nn.functional.avg_pool2d(x, 5, 1, 2) for x in (infrared, visible))
    network = _network(heads=0.1)
    whole = fuse_tensors(network, infrared, visible)
    tiled = fuse_tensors(network, infrared, visible, tile=128)
    difference = tiled - whole
    assert 0 < difference.abs().mean() < 0.01
    assert (difference[..., 1:] - difference[..., :-1]).abs().max() < 0.01


def test_tiles_of_a_network_with_global_norms_are_announced(generator, caplog):
    torch.manual_seed(0)
    infrared, visible = _pair(generator, 64, 128, channels=1)
    with caplog.at_level(logging.WARNING):
        fuse_tensors(LDLite(), infrared, visible)
        assert not caplog.records
        fused = fuse_tensors(LDLite(), infrared, visible, tile=64)
    assert "LDLite depends on the whole image" in caplog.text
    assert fused.shape == visible.shape and fused.isfinite().all()


# --- pictures -----------------------------------------------------------------------------------


def test_fuse_pair(generator):
    infrared, visible = _pair(generator, 37, 45)
    network = _network()
    fused = fuse_pair(network, Pair("a", infrared[0], visible[0]))
    torch.testing.assert_close(fused, fuse_tensors(network, infrared, visible)[0])
    small = Pair("tiny", infrared[0, :, :20], visible[0, :, :20])
    with pytest.raises(ImageError, match="tiny: the pair is 45 x 20"):
        fuse_pair(network, small)


@pytest.fixture
def folders(tmp_path, generator):
    """Two good pairs (color as JPEG and PNG), in ``ir`` and ``vi``."""
    for name, suffix, size in (("a", ".png", (40, 50)), ("b", ".jpg", (33, 64))):
        infrared, visible = _pair(generator, *size)
        write_image(infrared[0], tmp_path / "ir" / f"{name}.png")
        write_image(visible[0], tmp_path / "vi" / f"{name}{suffix}")
    return tmp_path


def _fuse(folder, **options):
    return fuse_folder(average, folder / "ir", folder / "vi", folder / "out", **options)


def test_folder_of_good_pairs(folders):
    report = _fuse(folders)
    assert report.problems == []
    assert report.written == [folders / "out" / "a.png", folders / "out" / "b.png"]
    assert sorted(p.name for p in (folders / "out").iterdir()) == ["a.png", "b.png"]
    visible, infrared = read_image(folders / "vi" / "a.png"), read_image(folders / "ir" / "a.png")
    fused = read_image(folders / "out" / "a.png")
    expected = fuse_tensors(average, infrared[None], visible[None])[0]
    assert (fused - expected).abs().max() <= 0.51 / 255


def test_folder_finishes_the_good_and_names_the_bad(folders, generator):
    ir, vi = folders / "ir", folders / "vi"
    for name in ("size", "broken", "tiny", "twice"):
        infrared, visible = _pair(generator, 40, 44)
        write_image(infrared[0], ir / f"{name}.png")
        write_image(visible[0], vi / f"{name}.png")
    write_image(torch.zeros(3, 40, 45), vi / "size.png")
    (vi / "broken.png").write_bytes((vi / "broken.png").read_bytes()[:200])
    for folder, channels in ((ir, 1), (vi, 3)):
        write_image(torch.zeros(channels, 16, 50), folder / "tiny.png")
    shutil.copy(vi / "twice.png", vi / "twice.bmp")
    write_image(torch.zeros(1, 40, 40), ir / "alone.png")
    write_image(torch.zeros(3, 40, 40), vi / "lonely.png")
    (vi / "notes.txt").write_text("no picture")

    report = _fuse(folders)
    assert [path.name for path in report.written] == ["a.png", "b.png"]
    assert len(report.problems) == 6
    for file, says in (
        ("vi/size.png", "one size"),
        ("vi/broken.png", "damaged or cut off"),
        ("vi/tiny.png", "50 x 16 pixels; fusing needs at least 32 x 32"),
        ("vi/twice.bmp", "share the stem 'twice'"),
        ("ir/alone.png", "no partner alone.* in"),
        ("vi/lonely.png", "no partner lonely.* in"),
    ):
        matching = [p for p in report.problems if str(folders / file) in p]
        assert len(matching) == 1 and says in matching[0], (file, report.problems)
    assert sorted(p.name for p in (folders / "out").iterdir()) == ["a.png", "b.png"]


def test_results_are_replaced_whole_or_not_at_all(folders):
    old = write_image(torch.zeros(1, 8, 8), folders / "out" / "a.png").read_bytes()
    (folders / "ir" / "a.png").write_bytes(b"")
    report = _fuse(folders)
    assert len(report.problems) == 1 and (folders / "out" / "a.png").read_bytes() == old
    write_image(torch.rand(1, 40, 50), folders / "ir" / "a.png")
    assert not _fuse(folders).problems
    assert read_image(folders / "out" / "a.png").shape == (3, 40, 50)


def test_a_rule_that_fails_is_reported(folders):
    def out_of_memory(infrared, visible):
        if infrared.shape[-1] == 50:
            raise RuntimeError("out of memory")
        return average(infrared, visible)

    report = fuse_folder(out_of_memory, folders / "ir", folders / "vi", folders / "out")
    assert [p.name for p in report.written] == ["b.png"]
    assert report.problems == [f"{folders / 'vi' / 'a.png'}: out of memory"]


def _ramp(low, high):
    return torch.linspace(low, high, 40 * 40).view(1, 40, 40)


@pytest.mark.parametrize("deep", ["ir", "vi", "both"])
def test_16_bits_stay_16_bits_in_gray(tmp_path, deep):
    write_image(_ramp(0.2, 0.3), tmp_path / "ir" / "x.png", bits=8 if deep == "vi" else 16)
    write_image(_ramp(0.3, 0.9), tmp_path / "vi" / "x.tif", bits=8 if deep == "ir" else 16)
    sources = read_image(tmp_path / "ir" / "x.png"), read_image(tmp_path / "vi" / "x.tif")
    assert not _fuse(tmp_path, infrared_range="full").problems
    result = tmp_path / "out" / "x.png"
    with Image.open(result) as image:
        assert np.asarray(image).dtype == np.uint16
    assert (read_image(result) - average(*(s[None] for s in sources))[0]).abs().max() < 1e-5
    assert not _fuse(tmp_path, bits=8).problems
    with Image.open(result) as image:
        assert image.mode == "L"


def test_16_bit_infrared_with_8_bit_color(folders):
    write_image(_ramp(0.1, 0.9)[..., :33, :], folders / "ir" / "c.png", bits=16)
    write_image(torch.rand(3, 33, 40), folders / "vi" / "c.png")
    assert not _fuse(folders).problems
    with Image.open(folders / "out" / "c.png") as image:
        assert image.mode == "RGB"
    problems = _fuse(folders, bits=16).problems
    assert len(problems) == 3 and all("use bits=8" in problem for problem in problems)


def test_folders_that_cannot_work_are_named(folders):
    ir, vi = folders / "ir", folders / "vi"
    (folders / "empty").mkdir()
    for infrared, visible, output, says in (
        (folders / "nowhere", vi, folders / "out", "there is no such folder or picture"),
        (ir, vi / "a.png", folders / "out", "two folders or two pictures"),
        (folders / "empty", vi, folders / "out", "no picture in it"),
        (ir, vi, vi, "would mix with their sources"),
    ):
        with pytest.raises(ImageError, match=says):
            fuse_folder(average, infrared, visible, output)
    with pytest.raises(ValueError, match="multiple of 64"):
        _fuse(folders, tile=7)
    assert not (folders / "out").exists()


def test_single_pictures(folders):
    infrared, visible = folders / "ir" / "a.png", folders / "vi" / "b.jpg"
    write_image(torch.rand(1, 33, 64), infrared)
    report = fuse_folder(average, infrared, visible, folders / "out")
    assert report.written == [folders / "out" / "b.png"]  # named after the visible picture
    report = fuse_folder(average, infrared, visible, folders / "one" / "result.tif")
    assert report.written == [folders / "one" / "result.tif"]
    assert read_image(report.written[0]).shape == (3, 33, 64)
    before = visible.read_bytes()
    report = fuse_folder(average, infrared, visible, visible)
    assert "replace its own source" in report.problems[0] and visible.read_bytes() == before


# --- the command line ---------------------------------------------------------------------------


def test_processes_divide_a_folder_and_the_first_reports_for_all(folders, monkeypatch):
    """Two processes, one after the other, whose exchange is played by a list."""
    (folders / "ir" / "alone.png").write_bytes((folders / "ir" / "a.png").read_bytes())
    found = []

    class Played(Team):
        def gather(self, value):
            found.append(value)
            return found

    for rank in (0, 1):
        team = Played(rank, 2, torch.device("cpu"))
        report = _fuse(folders, team=team)
        assert [path.name for path in found[rank].written] == ["ab"[rank] + ".png"]
    assert [path.name for path in report.written] == ["a.png", "b.png"]
    assert len(report.problems) == 1 and "alone" in report.problems[0]


def _command(folder, *more):
    return [
        *("--infrared", str(folder / "ir"), "--visible", str(folder / "vi")),
        *("--output", str(folder / "out"), "--weights", str(folder / "net.pt"), *more),
    ]


def test_command_fuses_a_folder(folders, capsys):
    network = _network()
    save_network(network, folders / "net.pt")
    assert main(_command(folders)) == 0
    assert "2 fused into" in capsys.readouterr().out
    infrared, visible = read_image(folders / "ir" / "a.png"), read_image(folders / "vi" / "a.png")
    expected = fuse_tensors(network, infrared[None], visible[None])[0]
    assert (read_image(folders / "out" / "a.png") - expected).abs().max() <= 0.51 / 255


def test_command_reports_and_fails(folders, capsys):
    save_network(_network(), folders / "net.pt")
    (folders / "vi" / "a.png").write_text("<html>not a picture</html>")
    assert main(_command(folders, "--bits", "8", "--tile", "0")) == 1
    printed = capsys.readouterr()
    assert "1 fused into" in printed.out
    assert "1 not fused" in printed.err and str(folders / "vi" / "a.png") in printed.err
    assert (folders / "out" / "b.png").is_file()


def test_command_explains_what_it_cannot_start(folders, capsys):
    assert main(_command(folders)) == 2
    assert "net.pt: there is no such weights file" in capsys.readouterr().err
    save_network(_network(), folders / "net.pt")
    assert main([*_command(folders), "--infrared", str(folders / "no")]) == 2
    assert "no: there is no such folder or picture" in capsys.readouterr().err
    assert main(_command(folders, "--tile", "100")) == 2
    assert "multiple of 64" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["--infrared", "x"])
    assert stopped.value.code == 2


def test_command_runs_as_a_module(folders):
    save_network(_network(), folders / "net.pt")
    (folders / "ir" / "b.png").unlink()
    command = [sys.executable, "-m", "ldf_utils.fusion", *_command(folders)]
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert result.returncode == 1
    assert "fused a.png (1 of 1)" in result.stderr  # a line per picture where there is no terminal
    assert f"{folders / 'vi' / 'b.jpg'}: no partner" in result.stderr
    assert "Traceback" not in result.stderr
