"""Metrics: published values, bounds and symmetries, and slow independent witnesses."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_ssim

from ldf_utils import metrics
from ldf_utils.images import luminance, read_image
from ldf_utils.metrics import METRICS, gray_levels, measure, select

# Average fusion, round((ir + vi) / 2), as published beside the definitions (four decimals).
AVERAGE_FUSION = {
    ("TNO", "01"): {
        "EN": 6.2484,
        "SD": 23.3161,
        "SF": 6.6722,
        "AG": 2.6036,
        "MI": 1.4550,
        "SCD": 1.7660,
        "SSIM": 1.5245,
    },
    ("RoadScene", "FLIR_00211"): {
        "EN": 6.1902,
        "SD": 22.6895,
        "SF": 6.9014,
        "AG": 2.5876,
        "MI": 2.0201,
        "SCD": 1.8289,
        "SSIM": 1.3809,
    },
    ("MSRS", "00537D"): {
        "EN": 6.1232,
        "SD": 27.2760,
        "SF": 6.2477,
        "AG": 2.1370,
        "MI": 2.0699,
        "SCD": 1.5260,
        "SSIM": 1.2595,
    },
}
OF_THE_FUSED_ALONE = ("EN", "SD", "SF", "AG")
DIFFERENTIABLE = {
    "SD": metrics.standard_deviation,
    "SF": metrics.spatial_frequency,
    "AG": metrics.average_gradient,
    "SCD": metrics.sum_of_correlations_of_differences,
    "SSIM": metrics.structural_similarity,
}


def pictures(generator, batch=3, size=(37, 53)):
    """A batch of fused, infrared and visible uint8 pictures with structure and noise."""
    height, width = size
    rows = torch.linspace(0, 3, height).view(1, 1, -1, 1)
    columns = torch.linspace(0, 4, width).view(1, 1, 1, -1)
    phase = torch.rand(batch, 1, 1, 1, generator=generator) * 6
    infrared = 120 + 80 * torch.sin(rows * 2 + phase) * torch.cos(columns + phase)
    visible = 110 + 70 * torch.sin(columns * 3 + 2 * phase)
    infrared, visible = (
        image + 8 * torch.randn(batch, 1, height, width, generator=generator)
        for image in (infrared, visible.expand_as(infrared))
    )
    fused = 0.6 * infrared + 0.4 * visible
    fused = fused + 4 * torch.randn(fused.shape, generator=generator)
    return tuple(
        image.round().clamp(0, 255).to(torch.uint8) for image in (fused, infrared, visible)
    )


def find(folder, stem):
    (path,) = folder.glob(f"{stem}.*")
    return path


def average_fusion(folder, stem):
    infrared, visible = (
        (luminance(read_image(find(folder / side, stem)))[None] * 255).round()
        for side in ("ir", "vi")
    )
    fused = ((infrared + visible) / 2).round()
    return tuple(image.to(torch.uint8) for image in (fused, infrared, visible))


@pytest.mark.parametrize(("name", "stem"), AVERAGE_FUSION)
def test_published_values_of_average_fusion(shared_dir, name, stem):
    expected = AVERAGE_FUSION[name, stem]
    triple = average_fusion(shared_dir / "data" / name, stem)
    found = measure(*triple, metrics=expected)
    assert {key: round(value.item(), 4) for key, value in found.items()} == expected


# --- slow witnesses, one picture at a time, in plain numpy -------------------------------------


def numpy_entropy(fused, infrared, visible):
    _, counts = np.unique(fused, return_counts=True)
    shares = counts / fused.size
    return -sum(p * math.log2(p) for p in shares)


def numpy_spatial_frequency(fused, infrared, visible):
    height, width = fused.shape
    along_rows = [
        (fused[i, j] - fused[i, j - 1]) ** 2 for i in range(height) for j in range(1, width)
    ]
    along_columns = [
        (fused[i, j] - fused[i - 1, j]) ** 2 for i in range(1, height) for j in range(width)
    ]
    return math.sqrt(np.mean(along_rows) + np.mean(along_columns))


def numpy_average_gradient(fused, infrared, visible):
    down, right = np.gradient(fused)
    return np.sqrt((down**2 + right**2) / 2).mean()


def numpy_mutual_information(fused, infrared, visible):
    def shared(first, second):
        joint, _, _ = np.histogram2d(
            first.ravel(), second.ravel(), bins=256, range=[[0, 256], [0, 256]]
        )
        joint /= joint.sum()
        independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        there = joint > 0
        return (joint[there] * np.log(joint[there] / independent[there])).sum()

    return shared(fused, infrared) + shared(fused, visible)


def numpy_correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def numpy_scd(fused, infrared, visible):
    return numpy_correlation(fused - visible, infrared) + numpy_correlation(
        fused - infrared, visible
    )


def skimage_ssim_sum(fused, infrared, visible):
    return sum(skimage_ssim(fused, source, data_range=255) for source in (infrared, visible))


WITNESSES = {
    "EN": numpy_entropy,
    "SD": lambda fused, infrared, visible: np.std(fused),
    "SF": numpy_spatial_frequency,
    "AG": numpy_average_gradient,
    "MI": numpy_mutual_information,
    "SCD": numpy_scd,
    "SSIM": skimage_ssim_sum,
}


def test_every_metric_has_a_witness():
    assert set(WITNESSES) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_agrees_with_a_slow_witness(name, generator):
    triple = pictures(generator)
    found = METRICS[name].function(*triple)
    expected = [
        WITNESSES[name](*(image[b, 0].double().numpy() for image in triple))
        for b in range(len(found))
    ]
    assert found.dtype == torch.float64
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10
    )


# --- what follows from the definitions ---------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_batch_is_the_same_as_one_by_one(name, generator):
    triple = pictures(generator, batch=4)
    together = METRICS[name].function(*triple)
    alone = torch.cat(
        [METRICS[name].function(*(image[b : b + 1] for image in triple)) for b in range(4)]
    )
    assert together.shape == (4,)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_float_pictures_mean_the_same_as_8_bit_ones(name, generator):
    triple = pictures(generator)
    floats = [image.float() / 255 for image in triple]
    assert torch.equal(METRICS[name].function(*floats), METRICS[name].function(*triple))


@pytest.mark.parametrize("name", METRICS)
def test_the_sources_are_interchangeable(name, generator):
    fused, infrared, visible = pictures(generator)
    function = METRICS[name].function
    torch.testing.assert_close(
        function(fused, infrared, visible), function(fused, visible, infrared)
    )


@pytest.mark.parametrize("name", METRICS)
def test_unchanged_by_a_mirror(name, generator):
    triple = pictures(generator)
    mirrored = [image.flip(-1) for image in triple]
    function = METRICS[name].function
    torch.testing.assert_close(function(*mirrored), function(*triple), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OF_THE_FUSED_ALONE)
def test_the_sources_are_not_needed(name, generator):
    fused, infrared, visible = pictures(generator)
    function = METRICS[name].function
    assert torch.equal(function(fused), function(fused, infrared, visible))


@pytest.mark.parametrize("name", OF_THE_FUSED_ALONE)
def test_flat_picture_has_no_activity(name):
    flat = torch.full((2, 1, 16, 16), 77, dtype=torch.uint8)
    assert METRICS[name].function(flat).tolist() == [0.0, 0.0]


def test_entropy_bounds():
    all_levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert metrics.entropy(all_levels).item() == pytest.approx(8.0, abs=1e-12)
    two = (all_levels > 127).to(torch.uint8)
    assert metrics.entropy(two).item() == pytest.approx(1.0, abs=1e-12)


def test_entropy_is_blind_to_place_and_to_inversion(generator):
    fused, _, _ = pictures(generator, batch=1)
    order = torch.randperm(fused.numel(), generator=generator)
    shuffled = fused.flatten()[order].view_as(fused)
    assert metrics.entropy(shuffled).item() == pytest.approx(metrics.entropy(fused).item())
    assert metrics.entropy(255 - fused).item() == pytest.approx(metrics.entropy(fused).item())


def test_standard_deviation_bound():
    halves = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    halves[..., 4:] = 255
    assert metrics.standard_deviation(halves).item() == pytest.approx(127.5)


def test_gradient_of_a_ramp():
    ramp = (3 * torch.arange(32, dtype=torch.uint8)).expand(1, 1, 32, 32)
    assert metrics.average_gradient(ramp).item() == pytest.approx(3 / math.sqrt(2))
    assert metrics.spatial_frequency(ramp).item() == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["SD", "SF", "AG"])
def test_twice_the_contrast_is_twice_the_activity(name, generator):
    fused, _, _ = pictures(generator)
    half = fused // 2
    function = METRICS[name].function
    torch.testing.assert_close(function(half * 2), 2 * function(half))
    torch.testing.assert_close(function(half + 100), function(half))


def test_mutual_information_of_a_copy_is_its_entropy(generator):
    _, infrared, visible = pictures(generator)
    flat = torch.full_like(visible, 9)
    expected = metrics.entropy(infrared) * math.log(2)
    torch.testing.assert_close(metrics.mutual_information(infrared, infrared, flat), expected)
    inverted = metrics.mutual_information(255 - infrared, infrared, flat)
    torch.testing.assert_close(inverted, expected)
    bound = 2 * expected
    assert (metrics.mutual_information(infrared, infrared, visible) <= bound).all()


def test_scd_of_a_sum_is_two(generator):
    _, infrared, visible = pictures(generator)
    infrared, visible = infrared // 2, visible // 2
    scd = metrics.sum_of_correlations_of_differences(infrared + visible, infrared, visible)
    torch.testing.assert_close(scd, torch.full_like(scd, 2.0))
    against = metrics.sum_of_correlations_of_differences(
        127 - infrared // 2 + (127 - visible // 2), infrared, visible
    )
    assert (against < 0).all()


def test_scd_of_a_copy_is_defined(generator):
    _, infrared, visible = pictures(generator)
    copy = metrics.sum_of_correlations_of_differences(visible, infrared, visible)
    assert copy.isfinite().all()


def test_ssim_of_one_picture_three_times_is_two(generator):
    fused, _, _ = pictures(generator)
    ssim = metrics.structural_similarity(fused, fused, fused)
    torch.testing.assert_close(ssim, torch.full_like(ssim, 2.0))
    other = metrics.structural_similarity(fused, 255 - fused, fused)
    assert (other < 1.5).all()


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_in_float64(name, generator):
    fused, infrared, visible = (
        0.2 + 0.6 * torch.rand(2, 1, 9, 8, generator=generator, dtype=torch.float64)
        for _ in range(3)
    )
    fused.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda image: DIFFERENTIABLE[name](image, infrared, visible, rounded=False), fused
    )


@pytest.mark.parametrize("name", METRICS)
def test_a_picture_off_the_scale_is_refused(name):
    good = torch.rand(1, 1, 16, 16)
    with pytest.raises(ValueError, match="values in"):
        METRICS[name].function(good * 255, good, good)
    with pytest.raises(ValueError, match="values in"):
        METRICS[name].function(good * float("nan"), good, good)


def test_wrong_shapes_say_what_to_do():
    good = torch.rand(1, 1, 16, 16)
    with pytest.raises(ValueError, match="luminance first"):
        gray_levels(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="one shape"):
        metrics.mutual_information(good, good, good[..., :8])
    with pytest.raises(ValueError, match="at least 7 x 7"):
        metrics.structural_similarity(*(image[..., :5] for image in (good, good, good)))
    with pytest.raises(ValueError, match=r"torch\.int64"):
        metrics.entropy(torch.zeros(1, 1, 8, 8, dtype=torch.int64))


def test_select_names_what_is_known():
    assert [metric.name for metric in select(["MI", "EN"])] == ["MI", "EN"]
    assert [metric.name for metric in select()] == list(METRICS)
    with pytest.raises(ValueError, match=r"unknown metric XX; known are EN, SD"):
        select(["EN", "XX"])


def test_registry_says_what_it_measures():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.function.__doc__.startswith(f"{name}, ") or name in metric.function.__doc__
        assert "Source:" in metric.function.__doc__
        assert "better" in metric.function.__doc__
        assert metric.source in metric.function.__doc__
        assert metric.arrow in metric.header
