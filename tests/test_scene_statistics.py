"""Statistics of rendered against real pictures, and the classifier that tells them apart."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.scene_statistics import __main__ as command
from experiments.scene_statistics import classifier, figure, measures, pictures


def textures(name, count, smoothness, size=(140, 160)):
    """Pictures of noise, the smoother the larger ``smoothness``."""
    rng = np.random.default_rng(3)
    made = []
    for n in range(count):
        f = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
        f[0, 0] = 1
        x = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(size)) / f**smoothness, size)
        gray = np.clip(0.5 + 0.15 * (x - x.mean()) / x.std(), 0, 1).astype(np.float32)
        made.append(pictures.Picture(f"{name}{n}", f"{name}{n}", gray))
    return made


@pytest.fixture(scope="module")
def groups():
    made = {"rendered": textures("a", 6, 1.6)}
    real = {"one": textures("b", 6, 0.6), "two": textures("c", 3, 0.7)}
    return made, real


def test_slope_is_the_exponent_of_the_amplitude_spectrum():
    for exponent in (0.7, 1.4):
        values = [measures.slope(p.gray) for p in textures("x", 4, exponent, (192, 192))]
        assert np.mean(values) == pytest.approx(-exponent, abs=0.12)


def test_entropy_and_gradient_of_known_pictures():
    flat = np.full((32, 32), 0.4, np.float32)
    assert measures.entropy(flat).tolist() == [0.0] * 4
    halves = flat.copy()
    halves[:, ::2] = 0.9
    np.testing.assert_allclose(measures.entropy(halves), 1.0, atol=1e-6)
    ramp = np.tile(np.arange(32, dtype=np.float32) / 32, (32, 1))
    np.testing.assert_allclose(measures.gradient(ramp), 1 / 32, atol=1e-6)


def test_correlation_of_a_negative_is_minus_one_and_of_a_flat_picture_zero():
    x = textures("x", 1, 1.0)[0].gray
    assert measures.correlation(x, 1 - x) == pytest.approx(-1, abs=1e-5)
    assert measures.correlation(x, np.zeros_like(x)) == 0.0


def test_a_set_is_at_no_distance_from_itself_and_far_from_a_smoother_one():
    near, far = (measures.samples(textures("x", 4, s, (192, 200))) for s in (0.7, 1.7))
    other = measures.samples(textures("y", 4, 0.75, (192, 200)))
    found = measures.distances(near, {"same": near, "other": other})
    assert found["spectrum"]["same"] == found["gradient"]["same"] == 0.0
    assert found["spectrum"]["real"] == found["spectrum"]["other"]
    worse = measures.distances(far, {"same": near, "other": other})
    assert worse["spectrum"]["mean"] > 3 * found["spectrum"]["other"]
    assert worse["gradient"]["mean"] > 3 * found["gradient"]["other"]


def test_no_group_is_on_both_sides_and_each_is_tested_once(groups):
    _, real = groups
    dealt = classifier.folds(real, 3)
    for name, found in real.items():
        assert sorted(g for fold in dealt for g in fold[name]) == sorted(p.group for p in found)
    assert pictures.group_of("M3SVD", "0111_1716_0024") == "0111_1716"
    assert pictures.group_of("LLVIP", "190003") == "19"
    assert pictures.group_of("TNO", "0111_1716_0024") == "0111_1716_0024"


def test_every_set_and_both_classes_count_the_same():
    rows = [("a", True, 1.0)] * 10 + [("b", True, 0.0)] + [("c", False, 0.5)] * 3
    assert classifier.balanced(rows) == 0.5
    low, high = classifier.interval(rows)
    assert low <= 0.5 <= high


def test_the_classifier_tells_smooth_from_rough_and_guesses_on_the_same(groups):
    made, real = groups
    found = classifier.classify(made, real, steps=40, pool=200)
    assert found.right > 0.9
    assert found.low <= found.right <= found.high
    same = classifier.classify({"rendered": textures("d", 6, 0.65)}, real, steps=40, pool=200)
    assert same.right < 0.8


def test_pictures_are_read_gray_at_one_height(tmp_path):
    folder = tmp_path / "Set" / "ir"
    folder.mkdir(parents=True)
    Image.new("RGB", (400, 300), (40, 90, 40)).save(folder / "a.png")
    found = pictures.read_set(tmp_path / "Set", "ir", 192)
    assert found[0].gray.shape == (192, 256)
    assert found[0].gray.max() <= 1
    assert pictures.read_set(tmp_path / "Set", "ir")[0].gray.shape == (300, 400)
    with pytest.raises(FileNotFoundError, match=r"no picture in .*vi"):
        pictures.read_set(tmp_path / "Set", "vi")


def test_the_command_writes_the_figure_with_its_finding(tmp_path, monkeypatch, capsys):
    for name in ("One", "Two"):
        for kind in pictures.KINDS:
            folder = tmp_path / name / kind
            folder.mkdir(parents=True)
            for p in textures(name, 2, 0.8 if kind == "ir" else 1.1, (192, 256)):
                Image.fromarray((p.gray * 255).astype(np.uint8)).save(folder / f"{p.name}.png")
    out = tmp_path / "figure"
    real = ["--real", str(tmp_path / "One"), str(tmp_path / "Two")]
    monkeypatch.setattr(command, "RENDERED", tmp_path / "made")
    for split in ("train", "test"):
        (tmp_path / "made").mkdir(exist_ok=True)
        (tmp_path / "made" / split).symlink_to(tmp_path / "One")
    assert command.main(["distances", *real, "--out", str(out)]) == 0
    record = json.loads(out.with_suffix(".json").read_text())
    assert set(record["distances"]) == {"ir", "vi", "correlation"}
    assert record["distances"]["ir"]["spectrum"]["rendered"]["One"] < 0.05
    assert record["exponent_of_the_amplitude_spectrum"]["ir"]["One"] == pytest.approx(-0.8, abs=0.2)
    assert record["finding"] in " ".join(capsys.readouterr().out.split())
    with Image.open(out.with_suffix(".png")) as image:
        assert image.mode == "L", "readable in gray"


def test_the_finding_counts_what_is_near():
    rows = [
        ("gray", {"rendered": {"mean": 0.3, "real": 0.5}}),
        ("spectrum", {"rendered": {"mean": 0.9, "real": 0.5}}),
    ]
    assert figure.finding(rows).startswith("In 1 of 2 statistics")
    assert figure.finding(rows).endswith("not in spectrum")
