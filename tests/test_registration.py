"""Registration: what is found on pairs whose displacement is known, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ldf_utils
from ldf_utils.data.images import read_image, write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.fusion.__main__ import main as fuse
from ldf_utils.registration.align import align, align_rig, detect
from ldf_utils.registration.geometry import Frame, median_distance, resize_matrix, transform
from ldf_utils.registration.opencv import MissingExtra, opencv
from ldf_utils.registration.placing import Placement, common_box, warp_infrared, warp_visible
from ldf_utils.registration.store import load, save

cv2 = pytest.importorskip("cv2", reason="registration needs OpenCV: the extra cameras")

RENDERED = Path(ldf_utils.__file__).parent / "data" / "rendered"
SHIFT = np.array([[1.01, 0.01, 6.0], [-0.01, 1.01, -5.0], [2e-5, 0, 1]])


def gray(picture: torch.Tensor) -> np.ndarray:
    return picture.mean(0).numpy()


@pytest.fixture(scope="module")
def pair():
    """A rendered pair with edges everywhere, registered."""
    return PairFolder(RENDERED / "test")[12]


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
    pairs = PairFolder(RENDERED / "test")
    found = align(gray(pairs[12].infrared), gray(pairs[3].visible))
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
    pairs = PairFolder(RENDERED / "test")
    others = []
    for index in (0, 12, 18):
        infrared, visible = gray(pairs[index].infrared), gray(pairs[index].visible)
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
    pairs = PairFolder(RENDERED / "test")
    for index in (12, 18):
        one, name = pairs[index], f"{index:02}.png"
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
