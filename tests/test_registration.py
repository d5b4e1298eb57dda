"""Registration: what is found on pairs whose displacement is known, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.registration.pairs import published
from ldf_utils.data.images import read_image, write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.sets import RENDERED
from ldf_utils.data.truth import read_facts
from ldf_utils.fusion.__main__ import main as fuse
from ldf_utils.notebook import camera_exercises
from ldf_utils.registration.__main__ import main as register_folder
from ldf_utils.registration.align import align, align_rig, detect
from ldf_utils.registration.geometry import Frame, median_distance, resize_matrix, transform
from ldf_utils.registration.opencv import MissingExtra, opencv
from ldf_utils.registration.placing import Placement, common_box, warp_infrared, warp_visible
from ldf_utils.registration.store import load, save

cv2 = pytest.importorskip("cv2", reason="registration needs OpenCV: the extra cameras")

PUBLISHED = Path(__file__).parents[2] / "shared" / "unregistered"
SHIFT = np.array([[1.01, 0.01, 6.0], [-0.01, 1.01, -5.0], [2e-5, 0, 1]])


def gray(picture: torch.Tensor) -> np.ndarray:
    return picture.mean(0).numpy()


def clear_pairs():
    """Rendered registered pairs by day and in clear air, whose edges both cameras see."""
    pairs, facts = PairFolder(RENDERED / "test"), read_facts(RENDERED / "test")
    return [
        pairs[index]
        for index, name in enumerate(pairs.names)
        if facts[name]["light"] in ("clear", "overcast") and facts[name]["air"] == "clear"
    ]


@pytest.fixture(scope="module")
def pair():
    """A rendered pair with edges everywhere, registered."""
    return clear_pairs()[1]


@pytest.fixture(scope="module")
def moved(pair):
    """Infrared displaced by SHIFT (visible to infrared pixels), and visible."""
    infrared = gray(pair.infrared)
    height, width = infrared.shape
    return cv2.warpPerspective(infrared, SHIFT, (width, height)), gray(pair.visible)


def test_resizing_keeps_the_corners_of_the_picture():
    matrix = resize_matrix((40, 60), (20, 90))
    np.testing.assert_allclose(
        transform(matrix, [[-0.5, -0.5], [59.5, 39.5]]), [[-0.5, -0.5], [89.5, 19.5]]
    )


def test_the_derivative_of_a_homography_is_that_of_its_displacement():
    frame = Frame(120, 160)
    rng = np.random.default_rng(0)
    points, parameters = rng.uniform(0, 120, (5, 2)), rng.normal(0, 3, 8)
    moved, derivative = frame.displacement(parameters, points)
    np.testing.assert_allclose(moved, transform(frame.matrix(parameters), points) - points)
    for k, step in enumerate(1e-4 * np.eye(8)):
        ends = [frame.displacement(parameters + s * step, points)[0] for s in (-1, 1)]
        np.testing.assert_allclose(derivative[..., k], (ends[1] - ends[0]) / 2e-4, atol=1e-6)


def test_a_displaced_pair_is_detected_with_its_offset(moved):
    found = detect(*moved)
    true = np.eye(3)
    expected = median_distance(SHIFT, true, moved[1].shape)
    assert not found.aligned and found.confidence > 0.5
    assert found.offset == pytest.approx(expected, abs=1.5)


def test_a_registered_pair_is_left_alone(pair):
    found = align(gray(pair.infrared), gray(pair.visible))
    assert found.aligned and not found.accepted and found.confidence > 0.5
    np.testing.assert_array_equal(found.matrix, np.eye(3))


def test_a_homography_is_found_to_a_pixel(moved):
    found = align(*moved)
    assert found.accepted and found.deformation is None
    assert median_distance(found.matrix, SHIFT, moved[1].shape) < 1


def test_pictures_of_different_scenes_are_refused():
    pairs = clear_pairs()
    found = align(gray(pairs[1].infrared), gray(pairs[0].visible))
    assert not found.accepted and not found.aligned
    assert found.confidence < 0.5 and "not trusted" in found.reason


def test_noise_is_refused():
    noise = np.random.default_rng(0).random((2, 120, 160), dtype=np.float32)
    assert not align(*noise).accepted
    assert not align(*np.zeros((2, 120, 160), np.float32)).accepted


def test_views_of_another_size_are_aligned(pair):
    infrared, visible = gray(pair.infrared), gray(pair.visible)
    height, width = visible.shape
    smaller = infrared[40 : height - 50, 60 : width - 40]
    smaller = cv2.resize(smaller, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    true = resize_matrix((height - 90, width - 100), smaller.shape) @ np.array(
        [[1, 0, -60], [0, 1, -40], [0, 0, 1.0]]
    )
    found = align(smaller, visible)
    assert found.accepted
    assert median_distance(found.matrix, true, visible.shape) < 2  # also beyond the smaller view


def test_a_rig_has_one_transform(moved):
    others = []
    for one in clear_pairs()[:3]:
        infrared, visible = gray(one.infrared), gray(one.visible)
        others.append((cv2.warpPerspective(infrared, SHIFT, infrared.shape[::-1]), visible))
    found = align_rig(others)
    assert found.accepted and median_distance(found.matrix, SHIFT, others[0][1].shape) < 1
    with pytest.raises(ValueError, match="at least one pair"):
        align_rig([])
    with pytest.raises(ValueError, match="one size for each camera"):
        align_rig([others[0], (others[1][0][:100], others[1][1])])


def test_an_alignment_is_saved_and_read(moved, tmp_path):
    found = align(*moved, deformation=True)
    file = save(found, tmp_path / "one.json", infrared="ir")
    values = json.loads(file.read_text(encoding="utf-8"))
    assert values["infrared"] == "ir" and values["accepted"] is True
    assert values["visible_size"] == [640, 480]
    again = load(file)
    np.testing.assert_allclose(again.matrix, found.matrix)
    assert (again.deformation is None) == (found.deformation is None)
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="one.json: expected a transform"):
        load(file)


def test_pictures_are_laid_on_each_other(pair, moved):
    found = align(*moved)
    infrared = gray(pair.infrared)
    back = warp_infrared(moved[0], found)
    inner = (slice(40, -40), slice(40, -40))
    before = np.abs(moved[0] - infrared)[inner].mean()
    assert np.abs(back - infrared)[inner].mean() < 0.5 * before
    assert warp_visible(moved[1], found).shape == moved[0].shape
    assert warp_infrared((moved[0] * 60000).astype(np.uint16), found).dtype == np.uint16
    with pytest.raises(ValueError, match="640 x 480 pixels, found 100 x 100"):
        warp_infrared(np.zeros((100, 100), np.float32), found)


def test_outside_the_infrared_view_the_visible_picture_stays(pair):
    visible = gray(pair.visible)
    smaller = gray(pair.infrared)[80:400, 120:520]
    found = align(smaller, visible)
    box = common_box(found)
    assert abs(box.left - 120) < 4 and abs(box.bottom - 400) < 4
    luminance = torch.from_numpy(visible)[None]
    laid = Placement(found).lay(torch.from_numpy(smaller)[None], luminance)
    torch.testing.assert_close(laid[:, :70], luminance[:, :70])
    assert (laid[:, 150:300, 200:400] - luminance[:, 150:300, 200:400]).abs().mean() > 0.01
    cut = Placement(found, common=True).cut(luminance)
    assert cut.shape == (1, box.bottom - box.top, box.right - box.left)


@pytest.fixture
def folders(tmp_path):
    """Two displaced pairs of a rig as files."""
    for name, one in zip(("12.png", "18.png"), clear_pairs()[1:], strict=False):
        infrared = cv2.warpPerspective(gray(one.infrared), SHIFT, (640, 480))
        write_image(torch.from_numpy(infrared)[None], tmp_path / "ir" / name)
        write_image(one.visible, tmp_path / "vi" / name)
        write_image(one.infrared, tmp_path / "registered" / name)
    return tmp_path


def run(folder, *more, infrared="ir", output="out"):
    named = ["--infrared", folder / infrared, "--visible", folder / "vi"]
    return fuse([str(x) for x in [*named, "--output", folder / output, *more]])


def test_fusing_aligns_a_folder_and_reuses_the_transform(folders, caplog):
    assert run(folders, "--align", "auto") == 0
    assert "one transform for all, found from 2 pairs" in caplog.text
    file = folders / "out" / "alignment.json"
    assert median_distance(load(file).matrix, SHIFT, (480, 640)) < 1
    caplog.clear()
    assert run(folders, "--align", "auto") == 0
    assert "is used" in caplog.text
    assert run(folders, "--align", file, output="again") == 0
    first, second = (read_image(folders / name / "12.png") for name in ("out", "again"))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert run(folders, infrared="registered", output="right") == 0
    right = read_image(folders / "right" / "12.png")
    assert run(folders, output="wrong") == 0
    wrong = read_image(folders / "wrong" / "12.png")
    inner = (slice(None), slice(40, -40), slice(40, -40))
    assert (first - right)[inner].abs().mean() < 0.5 * (wrong - right)[inner].abs().mean()


def test_registered_pairs_are_fused_as_without(folders, caplog):
    assert run(folders, "--align", "auto", infrared="registered") == 0
    assert "2 of 2 pairs looked at are aligned" in caplog.text
    assert run(folders, infrared="registered", output="plain") == 0
    for picture in (folders / "plain").glob("*.png"):
        assert picture.read_bytes() == (folders / "out" / picture.name).read_bytes()


def test_fusing_cuts_out_the_common_part(folders):
    assert run(folders, "--align", "auto", "--view", "common") == 0
    _, height, width = read_image(folders / "out" / "12.png").shape
    assert 400 < height < 480 and 560 < width < 640


def test_a_bad_transform_is_named(folders, capsys):
    (folders / "bad.json").write_text('{"matrix": 1}', encoding="utf-8")
    assert run(folders, "--align", folders / "bad.json") == 2
    assert "bad.json: expected a transform" in capsys.readouterr().err


def test_without_opencv_the_error_says_what_to_install(folders, monkeypatch, capsys):
    opencv.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match="pip install opencv-python-headless"):
        opencv()
    assert run(folders, "--align", "auto") == 2
    assert "pip install opencv-python-headless" in capsys.readouterr().err
    assert run(folders) == 0  # without registering nothing needs it
    opencv.cache_clear()


def register(folder, *more):
    named = ["--infrared", folder / "ir", "--visible", folder / "vi", "--output", folder / "out"]
    return register_folder([str(x) for x in [*named, *more]])


def test_the_command_writes_each_pair_and_how_it_lies(folders, capsys):
    write_image(torch.rand(1, 480, 640), folders / "ir" / "noise.png")
    write_image(torch.rand(3, 480, 640), folders / "vi" / "noise.png")
    assert register(folders) == 1  # one is refused
    assert "noise: REFUSED, not trusted" in capsys.readouterr().out
    values = json.loads((folders / "out" / "12.json").read_text(encoding="utf-8"))
    assert values["accepted"] and values["confidence"] > 0.5 and values["deformation"] is False
    assert median_distance(np.array(values["matrix"]), SHIFT, (480, 640)) < 1
    laid = read_image(folders / "out" / "12.png")
    right = read_image(folders / "registered" / "12.png")
    inner = (slice(None), slice(40, -40), slice(40, -40))
    assert (laid - right)[inner].abs().mean() < 0.02
    noise = json.loads((folders / "out" / "noise.json").read_text(encoding="utf-8"))
    assert noise["accepted"] is False and noise["matrix"] == np.eye(3).tolist()


def test_the_command_finds_one_transform_for_a_rig_and_cuts_out_what_both_see(folders, capsys):
    assert register(folders, "--rig", "--view", "common") == 0
    assert "rig, from 2 pairs: accepted" in capsys.readouterr().out
    matrices = [
        json.loads((folders / "out" / name).read_text(encoding="utf-8"))["matrix"]
        for name in ("rig.json", "12.json", "18.json")
    ]
    assert matrices[0] == matrices[1] == matrices[2]
    parts = [read_image(folders / "out" / p / "12.png") for p in ("common_ir", "common_vi")]
    assert parts[0].shape[1:] == parts[1].shape[1:] and parts[0].shape[1] < 480
    back = ["--use", folders / "out" / "rig.json", "--onto", "infrared"]
    assert register(folders, *back) == 0
    assert read_image(folders / "out" / "12.png").shape[0] == 3  # the visible picture


def test_the_command_keeps_sixteen_bits(tmp_path, pair):
    write_image(pair.infrared, tmp_path / "ir" / "a.png", bits=16)
    write_image(pair.visible, tmp_path / "vi" / "a.png")
    assert register(tmp_path) == 0
    first, second = (read_image(tmp_path / name / "a.png") for name in ("ir", "out"))
    torch.testing.assert_close(first, second, rtol=0, atol=0)  # aligned: the same counts


def test_the_command_names_what_is_missing(tmp_path, capsys):
    assert register(tmp_path) == 2
    assert "there is no such folder or picture" in capsys.readouterr().err


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs ../shared/unregistered")
@pytest.mark.parametrize("index", [1, 7])
def test_published_pairs_with_known_displacement_get_better(index):
    pair = list(published(PUBLISHED))[index]
    found = align(pair.infrared, pair.visible)
    assert found.accepted
    assert pair.error(found.matrix) < 0.35 * pair.before


def right_range():
    return (5 + 273.15) / 0.04, (40 + 273.15) / 0.04


def test_the_exercises_of_the_notebook_take_right_answers():
    def places(matrix, points):
        found = torch.cat([points, torch.ones_like(points[:, :1])], 1) @ matrix.T
        return found[:, :2] / found[:, 2:]

    assert camera_exercises.check_transform(places)
    assert camera_exercises.check_range(right_range(), lambda celsius: (celsius + 273.15) / 0.04)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m, p: (torch.cat([p, torch.ones_like(p[:, :1])], 1) @ m.T)[:, :2], "divide"),
        (lambda m, p: (torch.cat([p, torch.ones_like(p[:, :1])], 1) @ m)[:, :2], "transposed"),
    ],
)
def test_the_exercise_on_transforms_names_the_mistake(answer, hint):
    result = camera_exercises.check_transform(answer)
    assert not result and hint in result.hint


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (5.0, "two numbers"),
        ((8000, 7000), "lower"),
        ((0, 65535), "fewer than 1000"),
        ((125.0, 1000.0), "273.15"),
        ((7000.0, 7800.0), "must be"),
    ],
)
def test_the_exercise_on_ranges_names_the_mistake(answer, hint):
    result = camera_exercises.check_range(answer, lambda celsius: (celsius + 273.15) / 0.04)
    assert not result and hint in result.hint, result.hint
