"""Clips: read, matched in time, fused steadily, written with their time stamps and sound."""

import math
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from ldf_utils.data.images import write_image
from ldf_utils.fusion import video
from ldf_utils.fusion.__main__ import main as fuse
from ldf_utils.fusion.rules import average
from ldf_utils.fusion.steady import SteadyOutput
from ldf_utils.fusion.video import fuse_clip, fuse_frames
from ldf_utils.video.__main__ import main as measure
from ldf_utils.video.flicker import Flicker, measure_flicker
from ldf_utils.video.frames import ClipError, Frame
from ldf_utils.video.matching import ClipPair, find_offset, open_clips
from ldf_utils.video.reading import open_infrared, open_visible
from ldf_utils.video.writing import ClipWriter

av = pytest.importorskip("av")

SIZE = (48, 64)


def scene(t: float, warm: bool, size: tuple[int, int] = SIZE, person: bool = True) -> torch.Tensor:
    """A person who walks past: bright in the infrared, dim in the visible picture."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    ground = 0.35 + 0.15 * torch.sin(x / (5 if warm else 3)) * torch.cos(y / 7)
    center = 12 + 1.5 * t + 6 * math.sin(t / 3)
    shape = torch.exp(-(((x - center) / 4) ** 2 + ((y - 24) / 9) ** 2)) * person
    return (ground + (0.5 if warm else -0.2) * shape)[None].clamp(0, 1).float()


def write_clip(path: Path, count: int = 20, warm: bool = True, first: float = 0, **options) -> Path:
    rate = options.pop("rate", 25)
    size = options.pop("size", SIZE)
    with ClipWriter(path, size, rate, **options) as writer:
        for k in range(count):
            color = None
            if not warm:
                color = torch.full((2, (size[0] + 1) // 2, (size[1] + 1) // 2), 140).byte()
            picture = scene(first + k, warm, size)
            writer.write(Frame(k, Fraction(k) / Fraction(rate), picture, color))
    return path


@pytest.fixture
def clips(tmp_path) -> tuple[Path, Path]:
    return write_clip(tmp_path / "a.mp4"), write_clip(tmp_path / "b.mp4", warm=False)


def stamps(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def test_a_clip_comes_back_as_it_was_written(clips):
    infrared, visible = (open_infrared(clips[0]), open_visible(clips[1]))
    assert (len(infrared), infrared.size, infrared.rate) == (20, SIZE, 25)
    for k, frame in enumerate(infrared):
        assert frame.index == k and frame.color is None
        assert float(frame.time) == pytest.approx(k / 25, abs=1e-3)
        assert (frame.luminance - scene(k, True)).abs().mean() < 0.01
    frame = next(visible.frames(7))
    assert frame.index == 7 and frame.picture.shape == (3, *SIZE)
    assert (frame.luminance - scene(7, False)).abs().mean() < 0.01
    red, green, blue = frame.picture.mean((1, 2))
    assert red > green and blue > green  # Cb and Cr of 140


def test_the_picture_of_a_frame_is_that_of_ffmpeg(clips):
    with av.open(str(clips[1])) as container:
        expected = next(container.decode(video=0)).to_ndarray(format="rgb24") / 255
    found = next(open_visible(clips[1]).frames()).picture.permute(1, 2, 0).numpy()
    assert np.abs(found - expected).mean() < 2 / 255


@pytest.mark.parametrize("space", [dict(color_range=2), dict(colorspace=1)])
def test_full_range_and_bt709_are_brought_to_one_form(tmp_path, space):
    """The same picture in another form of YUV has the same luminance."""
    rgb = (np.random.default_rng(0).random((6, 8, 3)).repeat(8, 0).repeat(8, 1) * 255).astype("u1")
    path = tmp_path / "c.mkv"
    kinds = av.video.reformatter
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for name, value in space.items():
            setattr(stream.codec_context, name, value)
        options = {}
        if "color_range" in space:
            options = dict(
                src_color_range=kinds.ColorRange.JPEG, dst_color_range=kinds.ColorRange.JPEG
            )
        if "colorspace" in space:
            options = dict(dst_colorspace=kinds.Colorspace.ITU709)
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format="yuv420p", **options
        )
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    expected = rgb @ np.array([0.299, 0.587, 0.114]) / 255
    found = next(open_visible(path).frames()).luminance[0].numpy()
    assert np.abs(found - expected).mean() < 0.015


def test_counts_of_fourteen_bits_are_read_with_one_range_for_the_clip(tmp_path, caplog):
    path = tmp_path / "deep.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=9)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray16le"
        for k in range(5):
            counts = (7000 + 900 * scene(k, True)[0].numpy() + 100 * k).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(counts, format="gray16le")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    clip = open_infrared(path)
    assert "stretched" in caplog.text
    means = [frame.luminance.mean().item() for frame in clip]
    assert means == sorted(means) and means[-1] - means[0] > 0.2  # a range for each would level it
    assert next(clip.frames()).bits == 16
    given = next(open_infrared(path, infrared_range="7000:7900").frames()).luminance
    assert (given - scene(0, True)).abs().max() < 0.002
    cold = next(open_infrared(path, infrared_range="7000:7900", black_hot=True).frames()).luminance
    torch.testing.assert_close(cold, 1 - given)


def test_two_clips_become_a_third_with_time_stamps_color_and_sound(tmp_path, clips):
    loud = tmp_path / "loud.mp4"
    with av.open(str(clips[1])) as source, av.open(str(loud), "w") as container:
        pictures = container.add_stream_from_template(source.streams.video[0])
        sound = container.add_stream("aac", rate=16000)
        sound.layout = "mono"
        tone = av.AudioFrame.from_ndarray(
            np.sin(np.arange(16000)[None] / 9).astype("f4"), format="fltp", layout="mono"
        )
        tone.rate, tone.pts = 16000, 0
        for packet in [*sound.encode(tone), *sound.encode(None)]:
            container.mux(packet)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
    output = tmp_path / "fused" / "c.mp4"
    report = fuse_clip(average, open_clips(clips[0], loud), output, steady=False)
    assert report.frames == 20 and not output.with_name("c.mp4.parts").exists()
    assert stamps(output) == pytest.approx(stamps(clips[1]), abs=1e-3)
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(audio=0)) > 8
    for k, frame in enumerate(open_visible(output)):
        wanted = (scene(k, True) + scene(k, False)) / 2
        assert (frame.luminance - wanted).abs().mean() < 0.02
        assert frame.color.float().mean() == pytest.approx(140, abs=1.5)


def test_folders_of_frames_are_a_sequence_too(tmp_path):
    for side, warm in (("ir", True), ("vi", False)):
        for k in (1, 2, 10, 11):
            write_image(scene(k, warm), tmp_path / side / f"f_{k}.png")
    folder = tmp_path / "out"
    named = [f"--{n}={tmp_path / d}" for n, d in (("infrared", "ir"), ("visible", "vi"))]
    assert fuse([*named, "--sequence", f"--output={folder}", "--rate=10"]) == 0
    assert sorted(p.name for p in folder.iterdir()) == [f"f_{k}.png" for k in (1, 10, 11, 2)]
    clip = tmp_path / "c.mkv"
    assert fuse([*named, f"--output={clip}", "--rate=10"]) == 0
    assert stamps(clip) == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-3)
    names = [frame.name for frame in open_visible(tmp_path / "vi")]
    assert names == ["f_1", "f_2", "f_10", "f_11"]  # by their numbers, not by their letters


def test_one_clip_may_hold_both_pictures(tmp_path, clips):
    both = tmp_path / "both.mp4"
    with ClipWriter(both, (48, 128), 25) as writer:
        for k in range(6):
            wide = torch.cat([scene(k, False), scene(k, True)], 2)
            writer.write(Frame(k, Fraction(k, 25), wide))
    pairs = list(open_clips(both, both, layout="infrared-right"))
    assert len(pairs) == 6
    for k, pair in enumerate(pairs):
        assert (pair.infrared.luminance - scene(k, True)).abs().mean() < 0.02
        assert (pair.visible.luminance - scene(k, False)).abs().mean() < 0.02


def test_clips_of_two_rates_are_matched_in_time(tmp_path):
    infrared = write_clip(tmp_path / "a.mp4", count=9, rate=9)
    visible = write_clip(tmp_path / "b.mp4", count=30, rate=30, warm=False)
    with pytest.raises(ClipError, match="9 frames a second.*30.*--nearest"):
        open_clips(infrared, visible)
    pairs = list(open_clips(infrared, visible, nearest=True, overlap=True))
    assert len(pairs) >= 27
    for pair in pairs:
        assert abs(pair.infrared.time - pair.visible.time) <= 0.75 / 9 + 1e-3


def test_the_offset_in_time_is_found_by_the_motion(tmp_path):
    infrared = write_clip(tmp_path / "a.mp4", count=60, first=-7)  # 7 frames ahead
    visible = write_clip(tmp_path / "b.mp4", count=60, warm=False)
    clips = open_clips(infrared, visible, offset="auto", overlap=True)
    assert clips.offset == pytest.approx(7 / 25)
    pair = next(iter(clips))
    assert (pair.infrared.index, pair.visible.index) == (7, 0) and len(clips) == 53
    with pytest.raises(ClipError, match="--overlap"):
        ClipPair(open_infrared(infrared), open_visible(visible), 7 / 25)


def test_no_offset_is_made_up(tmp_path):
    still = tmp_path / "a.mp4"
    with ClipWriter(still, SIZE, 25) as writer:
        for k in range(40):
            writer.write(Frame(k, Fraction(k, 25), scene(0, True)))
    visible = write_clip(tmp_path / "b.mp4", count=40, warm=False)
    with pytest.raises(ClipError, match="no offset.*--offset"):
        find_offset(open_infrared(still), open_visible(visible))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("name", ["c.mp4", "frames"])
def test_a_run_that_stopped_goes_on_and_gives_the_same(tmp_path, clips, name, monkeypatch):
    monkeypatch.setattr(video, "SEGMENT", 8)
    pairs = open_clips(*clips)

    def read(path: Path) -> list[torch.Tensor]:
        return [frame.picture for frame in open_visible(path)]

    whole = fuse_clip(average, pairs, tmp_path / "whole" / name)
    calls = []

    def stops(infrared, visible):
        calls.append(1)
        if len(calls) > 13:
            raise Interrupted
        return average(infrared, visible)

    output = tmp_path / name
    with pytest.raises(Interrupted):
        fuse_clip(stops, pairs, output, workers=1)
    assert not (output.is_file() and name.endswith("mp4"))
    report = fuse_clip(average, pairs, output)
    assert report.resumed == 8 and report.frames == whole.frames == 20
    for first, second in zip(read(output), read(tmp_path / "whole" / name), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not output.with_name(name + ".parts").exists()


def test_work_of_other_settings_is_not_gone_on_with(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(video, "SEGMENT", 8)
    pairs, output = open_clips(*clips), tmp_path / "c.mp4"

    def stops(infrared, visible, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) > 13:
            raise Interrupted
        return average(infrared, visible)

    with pytest.raises(Interrupted):
        fuse_clip(stops, pairs, output, workers=1, settings={"weights": "one"})
    assert fuse_clip(average, pairs, output, settings={"weights": "two"}).resumed == 0


def test_frames_come_in_order_and_few_are_in_memory(clips):
    read = []

    class Counted(ClipPair):
        def frames(self, start=0):
            for pair in super().frames(start):
                read.append(pair.visible.index)
                yield pair

    pairs = Counted(open_infrared(clips[0]), open_visible(clips[1]))
    for k, (pair, fused) in enumerate(fuse_frames(average, pairs, workers=2)):
        assert fused.index == pair.visible.index == k
        assert len(read) <= k + 4


# --- steadiness


def noisy(count: int, level: float = 0.02, seed: int = 0) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    frames = []
    for k in range(count):
        pair = [scene(k, warm) for warm in (True, False)]
        pair = [(x + level * torch.randn(x.shape, generator=generator)).clamp(0, 1) for x in pair]
        frames.append((*pair, 1.6 * (pair[0] + pair[1]) / 2 - 0.2))  # amplifies noise
    return frames


def held(frames):
    steady = SteadyOutput()
    return [(a, b, steady(a, b, c)) for a, b, c in frames]


def test_what_is_still_flickers_less_than_its_sources():
    frames = noisy(30, level=0.008)
    assert measure_flicker(frames).ratio > 1.1
    assert measure_flicker(held(frames)).ratio < 0.8


def test_who_walks_is_shown_where_he_is():
    """The person's position in the held clip is that in the infrared frame of the same time."""
    x = torch.arange(SIZE[1]).float()
    empty = [scene(0, warm, person=False) for warm in (True, False)]
    grounds = (empty[0], 1.6 * (empty[0] + empty[1]) / 2 - 0.2)
    for k, (infrared, _, fused) in enumerate(held(noisy(24, level=0.008))):
        found = []
        for picture, ground in zip((infrared, fused), grounds, strict=True):
            above = ((picture - ground)[0, 16:32] - 0.1).clamp(min=0).sum(0)
            found.append(float((above * x).sum() / above.sum()))
        assert abs(found[0] - found[1]) < 0.5, f"frame {k}"


def test_what_comes_slowly_is_not_held_back():
    """A change below the bound, added up over frames, is followed: what is held stays near."""
    steady, plain = SteadyOutput(), torch.full((1, 32, 32), 0.2)
    for k in range(60):
        now = plain + 0.005 * k
        assert (steady(now, now, now) - now).abs().max() < 0.03


def test_the_flicker_of_a_clip_is_the_mean_change_over_the_sources():
    frames = [
        tuple(torch.full((1, 16, 16), 0.5 + change * (k % 2)) for change in (0.004, 0.01, 0.012))
        for k in range(5)
    ]
    flicker = measure_flicker(frames)
    assert flicker.ratio == pytest.approx(1.2, rel=1e-3) and flicker.still == 1
    moving = [tuple(torch.full((1, 16, 16), 0.1 * k) for _ in range(3)) for k in range(3)]
    assert math.isnan(measure_flicker(moving).ratio) and measure_flicker(moving).still == 0
    assert math.isnan(Flicker().ratio)


# --- bad input


def truncated(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), "f4"), format="fltp", layout="mono")
        frame.rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


BAD = {
    "a missing clip": (lambda f: (f / "a.mp4").unlink(), "no such"),
    "an empty clip": (lambda f: (f / "a.mp4").write_bytes(b""), "damaged, cut off"),
    "a text": (lambda f: (f / "a.mp4").write_text("no clip\n" * 9), "damaged, cut off"),
    "a clip cut off": (lambda f: truncated(f / "a.mp4", 0.5), "damaged, cut off"),
    "no pictures": (lambda f: only_sound(f / "a.mp4"), "expected a clip with pictures"),
    "other lengths": (lambda f: write_clip(f / "a.mp4", count=13), "13 frames.*20 frames"),
    "other rates": (lambda f: write_clip(f / "a.mp4", rate=9), "9 frames a second"),
    "other sizes": (lambda f: write_clip(f / "a.mp4", size=(64, 64)), "one size"),
    "a folder without frames": (
        lambda f: ((f / "a.mp4").unlink(), (f / "a.mp4").mkdir()),
        "no picture in it",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_clips_end_with_a_sentence(kind, tmp_path, clips, capsys):
    spoil, sentence = BAD[kind]
    spoil(tmp_path)
    output = tmp_path / "c.mp4"
    code = fuse(["--infrared", str(clips[0]), "--visible", str(clips[1]), "--output", str(output)])
    said = capsys.readouterr().err
    assert code == 2 and not output.exists()
    assert re.search(sentence, said), said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--codec", "nothing"], "no encoder 'nothing'"),
        (["--offset", "soon"], "auto or a number"),
        (["--offset", "99"], "no moment in common"),
        (["--layout", "infrared-left"], "found two"),
    ],
)
def test_bad_settings_end_with_a_sentence(extra, sentence, tmp_path, clips, capsys):
    named = ["--infrared", str(clips[0]), "--visible", str(clips[1])]
    assert fuse([*named, "--output", str(tmp_path / "c.mp4"), *extra]) == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_without_pyav_it_says_what_to_install(monkeypatch, clips):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ClipError, match="pip install 'av"):
        open_infrared(clips[0])


def test_a_clip_cut_off_behind_its_head_is_named(tmp_path):
    """With the index in front, as for streaming, a cut clip opens, and has fewer frames."""
    path = tmp_path / "a.mp4"
    source = write_clip(tmp_path / "b.mp4", count=60)
    with av.open(str(source)) as read:
        options = {"movflags": "faststart"}
        with av.open(str(path), "w", options=options) as written:
            stream = written.add_stream_from_template(read.streams.video[0])
            for packet in read.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    written.mux(packet)
    assert len(open_infrared(path)) == 60
    truncated(path, 0.6)
    with pytest.raises(ClipError, match="cut off|damaged"):
        for _ in open_infrared(path):
            pass


def test_the_flicker_of_files_is_measured_by_a_command(tmp_path, clips, capsys):
    output = tmp_path / "c.mp4"
    fuse_clip(average, open_clips(*clips), output)
    named = ["--infrared", str(clips[0]), "--visible", str(clips[1]), "--fused"]
    assert measure([*named, str(output)]) == 0
    assert re.match(r"flicker \d\.\d\d .*are still\)", capsys.readouterr().out)
    other = write_clip(tmp_path / "d.mp4", count=7)
    assert measure([*named, str(other)]) == 2
    assert "expected 20 frames" in capsys.readouterr().err
