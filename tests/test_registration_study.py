"""Pairs with a known displacement, as the study of registration makes and reads them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from experiments.registration import candidates, checks
from experiments.registration.pairs import KnownPair, elastic, parallax, published, turned, warped
from ldf_utils.registration.geometry import grid

cv2 = pytest.importorskip("cv2", reason="registration needs OpenCV: the extra cameras")


@pytest.fixture
def pair():
    """A smooth picture, so that a warp can be checked by reading it at the true places."""
    levels = np.random.default_rng(0).random((120, 160)).astype(np.float32)
    smooth = cv2.GaussianBlur(levels, (0, 0), 8)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    points = grid(smooth.shape, 8)
    return KnownPair("smooth", smooth, smooth, points, points.copy())


def _at(picture, points):
    return cv2.remap(picture, *points.astype(np.float32).T[:, None], cv2.INTER_LINEAR)[0]


@pytest.mark.parametrize(
    "displace",
    [
        warped,
        turned,
        elastic,
        lambda pair, seed: warped(pair, seed, (0.7, 1.4)),
        lambda pair, seed: warped(pair, seed, (0.9, 0.6)),
    ],
    ids=["warped", "turned", "elastic", "narrower view", "fewer pixels"],
)
@pytest.mark.parametrize("seed", [1, 4])
def test_a_displaced_picture_has_at_the_true_places_what_was_there(pair, displace, seed):
    made = displace(pair, seed)
    seen = ~np.isnan(made.truth).any(1)
    assert 0.3 < seen.mean()
    height, width = made.infrared.shape
    assert (made.truth[seen] >= 0).all()
    assert (made.truth[seen] <= [width - 1, height - 1]).all()
    levels = _at(made.infrared, made.truth[seen])
    np.testing.assert_allclose(levels, _at(pair.infrared, pair.points[seen]), atol=0.03)
    assert made.before > 0.2 and pair.error(np.eye(3)) == 0


def test_published_pairs_are_read_by_their_flow(tmp_path):
    """A displacement by whole pixels; the registered picture is read only where it is needed."""
    folder = tmp_path / "set"
    rng = np.random.default_rng(0)
    levels = cv2.GaussianBlur(rng.integers(0, 255, (60, 80)).astype(np.float32), (0, 0), 1.5)
    for part, picture in (("ir_warp", np.roll(levels, (2, 3), (0, 1))), ("vi", levels)):
        (folder / part).mkdir(parents=True)
        Image.fromarray(picture.astype(np.uint8)).save(folder / part / "a.png")
    y, x = np.mgrid[:60, :80].astype(np.float64)
    places = np.stack([(x - 3 + 0.5) * 2 / 80 - 1, (y - 2 + 0.5) * 2 / 60 - 1], -1)
    (folder / "flow").mkdir()
    np.savez(folder / "flow" / "a.png.npz", flow=places[None])
    (known,) = published(tmp_path)
    assert known.name == "set/a.png" and known.before == pytest.approx(np.hypot(3, 2), abs=0.03)
    shift = np.array([[1, 0, 3], [0, 1, 2], [0, 0, 1.0]])
    assert known.error(shift) < 0.03  # OpenCV reads at 32nds of a pixel
    with pytest.raises(FileNotFoundError, match="ir"):
        list(published(tmp_path, own=True))


def test_rendered_pairs_of_two_cameras_have_a_parallax():
    for known in parallax():
        assert 0.5 < known.before < 20, known.name


@pytest.fixture(scope="module")
def scene():
    """A picture of blocks and its negative, as two cameras that agree on edges only."""
    levels = np.random.default_rng(1).random((12, 16)).astype(np.float32)
    blocks = cv2.resize(levels, (320, 240), interpolation=cv2.INTER_NEAREST)
    blocks = cv2.GaussianBlur(blocks, (0, 0), 1.0)
    points = grid(blocks.shape, 12)
    return KnownPair("blocks", (1 - blocks) ** 2, blocks, points, points.copy())


def test_checks_agree_on_a_right_match(scene):
    moved = turned(scene, 3)
    found = checks.check(moved)
    assert moved.before > 2 and found["before"] == pytest.approx(moved.before, abs=1e-3)
    assert found["accepted"] and found["after"] < 0.5 and found["both_ways"] < 0.5
    assert min(found["held_out"], found["mutual_information"], found["gradient_correlation"]) > 0.1


def test_checks_speak_against_pictures_of_different_scenes(scene):
    other = np.ascontiguousarray(scene.visible[::-1, ::-1])
    found = checks.check(KnownPair("other", scene.infrared, other, scene.points, scene.truth))
    assert not found["accepted"]
    assert found["both_ways"] > 2 or found["held_out"] < 0.02


def test_information_and_correlation_against_their_definitions(scene):
    same = KnownPair("same", scene.visible, scene.visible, scene.points, scene.truth)
    assert checks.mutual_information(same, np.eye(3)) == pytest.approx(2)
    assert checks.gradient_correlation(same, np.eye(3)) == pytest.approx(1)
    shift = np.array([[1, 0, 10], [0, 1, 10], [0, 0, 1.0]])  # half a block
    assert checks.mutual_information(same, shift) < 1.5
    assert checks.gradient_correlation(same, shift) < 0.5


@pytest.mark.parametrize("name", ["refined by ECC", "mean of both directions", "windows", "ECC on"])
def test_candidates_find_a_small_turn(scene, name):
    moved = turned(scene, 3)
    (candidate,) = (found for text, found in candidates.CANDIDATES.items() if name in text)
    assert moved.error(candidate(moved)) < 0.3 * moved.before
