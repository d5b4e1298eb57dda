"""Scores against the truth: values by hand, bounds, what gives no credit, other referencees."""

import math

import numpy as np
import pytest
import torch
from rendered_helpers import write_crops
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from experiments.embedded_clip.degradations import degrade
from ldf_utils import metrics
from ldf_utils.data.truth import Truth
from ldf_utils.metrics import METRICS, TRUTH, measure_against_oracle


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four rendered nights with warm people, as uint8."""
    pairs = write_crops(tmp_path_factory.mktemp("nights"), 4, (120, 160))
    known = [(Truth(pairs.folder, pair.name), pair) for pair in pairs]
    made = {
        "oracle": [truth.oracle for truth, _ in known],
        "salient": [truth.warm.float() for truth, _ in known],
        "infrared": [pair.infrared for _, pair in known],
    }
    return {name: metrics.as_uint8(torch.stack(found)) for name, found in made.items()}


def half_contrast(picture):
    mean = picture.double().mean(dim=(1, 2, 3), keepdim=True)
    return (mean + 0.4 * (picture - mean)) / 255


def test_the_oracle_is_perfect(world):
    found = measure_against_oracle(world["oracle"], world["oracle"], world["salient"])
    assert list(found) == list(TRUTH)
    assert found["PSNR_oracle"].isinf().all()
    for name in ("SSIM_oracle", "Warm_shown", "Texture_kept"):
        torch.testing.assert_close(found[name], torch.ones(4, dtype=torch.float64))


def test_psnr_and_ssim_agree_with_scikit_image(world):
    fused = world["infrared"]
    found = measure_against_oracle(fused, world["oracle"], world["salient"])
    for b in range(4):
        one, truth = fused[b, 0].numpy(), world["oracle"][b, 0].numpy()
        assert found["PSNR_oracle"][b].item() == pytest.approx(
            peak_signal_noise_ratio(truth, one, data_range=255)
        )
        assert found["SSIM_oracle"][b].item() == pytest.approx(
            structural_similarity(truth, one, data_range=255)
        )


def test_warm_objects_are_those_that_scipy_finds(world):
    for salient in world["salient"]:
        numbered, count = ndimage.label(salient[0].numpy() > 127.5, structure=np.ones((3, 3)))
        sizes = ndimage.sum_labels(np.ones_like(numbered), numbered, range(1, count + 1))
        expected = sorted(size for size in sizes if size >= metrics.oracle.WARM_SMALLEST)
        found = metrics.warm_objects(salient)
        assert sorted(mask.sum().item() for mask in found) == expected
        together = sum(mask.int() for mask in found) if found else torch.zeros(1)
        assert together.max() <= 1


def drawn(gap, size=(40, 60)):
    """Two warm squares on a ground of level 60; they stand out by so many levels."""
    salient = torch.zeros(1, 1, *size, dtype=torch.uint8)
    salient[..., 8:16, 8:16] = salient[..., 8:16, 40:48] = 255
    picture = torch.full_like(salient, 60)
    picture[..., 8:16, 8:16] = 60 + gap[0]
    picture[..., 8:16, 40:48] = 60 + gap[1]
    return picture, salient


def test_share_of_warm_objects_by_hand():
    oracle, salient = drawn((100, 80))
    for gaps, share in (
        ((100, 80), 1.0),
        ((50, 40), 1.0),  # half of it is enough
        ((49, 40), 0.5),
        ((20, 0), 0.0),
        ((140, 10), 0.5),
    ):
        fused, _ = drawn(gaps)
        assert metrics.warm_objects_shown(fused, oracle, salient).item() == share
    faint, _ = drawn((100, 5))  # what the truth hardly shows is not asked for
    fused, _ = drawn((100, 0))
    assert metrics.warm_objects_shown(fused, faint, salient).item() == 1.0
    nothing = torch.zeros_like(salient)
    assert metrics.warm_objects_shown(fused, oracle, nothing).isnan().all()
    small = nothing.clone()
    small[..., 2:7, 2:7] = 255  # 25 pixels
    assert metrics.warm_objects(small[0]) == []


def test_texture_by_hand():
    oracle = torch.full((1, 1, 69, 69), 128, dtype=torch.uint8)
    oracle[..., ::2] = 168
    salient = torch.zeros_like(oracle)
    for share in (0.0, 0.25, 0.5, 1.0):
        fused = torch.full_like(oracle, 128)
        fused[..., ::2] = 128 + round(40 * share)
        assert metrics.texture_kept(fused, oracle, salient).item() == pytest.approx(share)
    stretched = torch.full_like(oracle, 100)
    stretched[..., ::2] = 220
    assert metrics.texture_kept(stretched, oracle, salient).item() == pytest.approx(1.0)
    assert metrics.texture_kept(255 - oracle, oracle, salient).item() == 0.0
    turned = oracle.mT.contiguous()  # as much texture, and none of the right one
    assert metrics.texture_kept(turned, oracle, salient).item() == pytest.approx(0, abs=1e-12)
    flat = torch.full_like(oracle, 90)
    assert metrics.texture_kept(oracle, flat, salient).isnan().all()
    assert metrics.texture_kept(oracle, oracle, torch.full_like(salient, 255)).isnan().all()


def test_texture_inside_of_warm_objects_does_not_count(world, generator):
    noise = torch.randint(0, 256, world["oracle"].shape, generator=generator, dtype=torch.uint8)
    fused = torch.where(world["salient"] > 0, noise, world["oracle"])
    assert not torch.equal(fused, world["oracle"])
    found = metrics.texture_kept(fused, world["oracle"], world["salient"])
    torch.testing.assert_close(found, torch.ones(4, dtype=torch.float64))


def test_what_fools_other_metrics_gets_no_credit(world, generator):
    """Noise on a flat picture: activity, but neither texture nor objects."""
    flat = torch.full(world["oracle"].shape, 0.4)
    noisy = (flat + 0.15 * torch.randn(flat.shape, generator=generator)).clamp(0, 1)
    truth, salient = world["oracle"], world["salient"]
    assert METRICS["AG"].function(noisy).mean() > 2 * METRICS["AG"].function(truth).mean()
    assert metrics.texture_kept(noisy, truth, salient).max() < 0.1
    assert metrics.warm_objects_shown(noisy, truth, salient).nan_to_num(0).max() == 0


@pytest.mark.parametrize("kind", ["blurry", "noisy", "dark", "hazy", "pale"])
def test_a_degraded_oracle_is_worse(kind, world, generator):
    truth, salient = world["oracle"], world["salient"]
    spoiled = degrade(truth.float() / 255, kind, generator)
    found = measure_against_oracle(spoiled, truth, salient)
    slightly = measure_against_oracle(0.9 * truth.float() / 255 + 0.1 * spoiled, truth, salient)
    for name in ("PSNR_oracle", "SSIM_oracle"):
        assert (found[name] < slightly[name]).all()
    assert (found["Texture_kept"] < slightly["Texture_kept"]).all()


def test_range_and_direction(world, generator):
    noise = torch.rand(world["oracle"].shape, generator=generator)
    for fused in (noise, world["infrared"], half_contrast(world["oracle"]).float()):
        found = measure_against_oracle(fused, world["oracle"], world["salient"])
        assert all(value.dtype == torch.float64 and value.shape == (4,) for value in found.values())
        assert (found["PSNR_oracle"] > 0).all()
        assert (found["SSIM_oracle"].abs() <= 1).all()
        for name in ("Warm_shown", "Texture_kept"):
            values = found[name][~found[name].isnan()]
            assert ((values >= 0) & (values <= 1)).all()
    assert all(metric.higher_is_better for metric in TRUTH.values())


def test_batch_is_the_same_as_one_by_one(world):
    together = measure_against_oracle(world["infrared"], world["oracle"], world["salient"])
    for b in range(4):
        one = measure_against_oracle(
            *(world[name][b : b + 1] for name in ("infrared", "oracle", "salient"))
        )
        for name, value in one.items():
            torch.testing.assert_close(value[0], together[name][b], equal_nan=True)


def test_names_and_shapes_are_checked(world):
    truth, salient = world["oracle"], world["salient"]
    assert list(measure_against_oracle(truth, truth, salient, ["Warm_shown"])) == ["Warm_shown"]
    with pytest.raises(ValueError, match="unknown score VIF; known are PSNR_oracle"):
        measure_against_oracle(truth, truth, salient, ["VIF"])
    with pytest.raises(ValueError, match="one shape"):
        measure_against_oracle(truth[..., :-4], truth, salient)
    with pytest.raises(ValueError, match="at least 13 x 13"):
        metrics.texture_kept(*(image[..., :8, :8] for image in (truth, truth, salient)))


def test_the_table_says_what_it_measures():
    assert not set(TRUTH) & set(METRICS)
    for name, metric in TRUTH.items():
        assert metric.name == name and metric.definition.startswith(name)
        assert "better" in metric.function.__doc__ and metric.source in metric.function.__doc__
    assert math.isclose(sum(metric.smallest for metric in TRUTH.values()), 2 + 7 + 2 + 13)
