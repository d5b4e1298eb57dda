"""Patches: torchvision and a histogram written slowly are the references."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms import functional as TF

from ldf_utils.losses.entropy_filter import PatchFilter, normalize_range
from ldf_utils.losses.patches import PatchSampler, extract_patches, patch_matrices
from ldf_utils.metrics import entropy

STILL = {"degrees": 0.0, "translate": (0.0, 0.0), "scale": (1.0, 1.0), "shear": 0.0}


def smooth(batch, height, width, generator):
    """Random images without the finest detail, so that interpolation errors are small."""
    coarse = torch.rand(batch, 1, height // 8 + 2, width // 8 + 2, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def reference(image, left, top, crop, degrees, shift, scale, shear):
    """One view by torchvision: crop, then affine; 1 where no pixel from outside took part."""
    cut = TF.crop(torch.cat([image, torch.ones_like(image)]), top, left, crop, crop)
    moved = TF.affine(
        cut, degrees, list(shift), scale, [shear, 0.0], TF.InterpolationMode.BILINEAR, fill=0
    )
    return moved[:1], moved[1:] > 0.999


@pytest.mark.parametrize("size", [(64, 64), (60, 100), (97, 51)])
@pytest.mark.parametrize(
    ("degrees", "shift", "scale", "shear"),
    [
        (0.0, (0, 0), 1.0, 0.0),
        (5.0, (0, 0), 1.0, 0.0),
        (0.0, (2, -3), 1.0, 0.0),
        (0.0, (0, 0), 1.4, 0.0),
        (0.0, (0, 0), 1.0, 5.0),
        (-4.0, (1, 3), 1.3, 4.0),
        (40.0, (-5, 4), 1.5, -30.0),
    ],
)
def test_the_matrix_does_what_torchvision_does(size, degrees, shift, scale, shear, generator):
    image = smooth(1, *size, generator)
    crop, left, top = 40, 7, 5
    value = lambda x: torch.tensor([x], dtype=torch.float64)  # noqa: E731
    theta = patch_matrices(
        value(crop),
        (value(left), value(top)),
        size,
        value(degrees),
        (value(shift[0]), value(shift[1])),
        value(scale),
        value(shear),
    )
    got = extract_patches(image, theta, crop)[0]
    expected, inside = reference(image[0], left, top, crop, degrees, shift, scale, shear)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(got[inside], expected[inside], atol=2e-5, rtol=0)


def test_draws_are_views_that_torchvision_can_make(generator):
    """Every drawn matrix comes apart into a crop and an affine map in the stated ranges."""
    sampler = PatchSampler(count=200, size=50)
    height, width = 90, 120
    theta = sampler.sample(2, generator, (height, width)).double()
    # From the patch's axes to pixels of the image, both measured from the middle.
    pixels = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    linear, offset = theta[:, :, :2] * pixels[None, :, None], theta[:, :, 2] * pixels
    # linear = crop / 2 * K^-1 R^T / scale, and its determinant is (crop / 2 / scale)^2
    degrees = torch.atan2(-linear[:, 1, 0], linear[:, 1, 1]).rad2deg()
    zoomed = linear[:, 1].norm(dim=1)
    tangent = (linear[:, 0] * linear[:, 1]).sum(1) / zoomed**2
    shear = torch.atan(tangent).rad2deg()
    assert degrees.abs().max() <= 5.001 and degrees.abs().max() > 4
    assert shear.abs().max() <= 5.001 and shear.abs().max() > 4
    assert zoomed.min() >= int(90 * 0.5) / 2 / 1.5 - 1e-3
    assert zoomed.max() <= int(90 * 0.8) / 2 + 1e-3
    reach = torch.tensor([width - 45, height - 45]) / 2
    slack = torch.tensor([1.0, 0.1 * 72])  # of the vertical shift
    assert (offset.abs() <= reach + slack).all()
    assert (offset.std(dim=0) > 5).all()


def test_crop_alone_is_a_slice_of_the_image(generator):
    images = torch.rand(3, 1, 40, 40, generator=generator)
    sampler = PatchSampler(count=5, side=(0.5, 0.5), size=20, **STILL)
    theta = sampler.sample(3, generator, (40, 40))
    patches = extract_patches(images, theta, 20)
    assert patches.shape == (15, 1, 20, 20)
    for row, patch in enumerate(patches):
        windows = images[row % 3, 0].unfold(0, 20, 1).unfold(1, 20, 1)
        distance = (windows - patch[0]).abs().amax(dim=(2, 3))
        assert distance.min() < 1e-4, f"row {row} is no window of image {row % 3}"


def test_crop_and_resize_equal_torch_inside(generator):
    image = smooth(1, 64, 80, generator)
    value = lambda x: torch.tensor([float(x)], dtype=torch.float64)  # noqa: E731
    zero = value(0)
    theta = patch_matrices(
        value(32), (value(20), value(10)), (64, 80), zero, (zero, zero), value(1), zero
    )
    got = extract_patches(image, theta, 48)
    cut = image[:, :, 10:42, 20:52]
    expected = F.interpolate(cut, size=(48, 48), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_crops_reach_every_whole_pixel_place(generator):
    sampler = PatchSampler(count=4000, side=(0.5, 0.5), size=4, **STILL)
    theta = sampler.sample(1, generator, (8, 10)).double()
    left = (theta[:, 0, 2] * 5 + 5 - 2).round().long()
    top = (theta[:, 1, 2] * 4 + 4 - 2).round().long()
    assert set(left.tolist()) == set(range(7)) and set(top.tolist()) == set(range(5))
    torch.testing.assert_close(theta[:, 0, 2] * 5 + 3, left.double(), atol=1e-5, rtol=0)


def test_rows_are_patch_times_batch_plus_image():
    """Images of one constant gray each: the row tells which image it was cut from."""
    images = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1, 1).expand(3, 1, 32, 32)
    theta = PatchSampler(count=4).sample(3, torch.Generator().manual_seed(1), (32, 32))
    means = extract_patches(images, theta, 8).mean(dim=(1, 2, 3))
    torch.testing.assert_close(means, torch.tensor([0.1, 0.5, 0.9]).repeat(4))


def test_views_beyond_the_image_are_mirrored():
    ramp = torch.linspace(0.2, 0.8, 16).expand(1, 1, 16, 16)
    value = lambda x: torch.tensor([float(x)], dtype=torch.float64)  # noqa: E731
    theta = patch_matrices(
        value(16),
        (value(0), value(0)),
        (16, 16),
        value(0),
        (value(8), value(0)),
        value(1),
        value(0),
    )
    patch = extract_patches(ramp, theta, 16)[0, 0]
    torch.testing.assert_close(patch[:, 8:], ramp[0, 0, :, :8])
    torch.testing.assert_close(patch[:, :8], ramp[0, 0, :, :8].flip(1))


def test_same_matrices_give_the_same_place_in_every_image(generator):
    infrared = torch.rand(2, 1, 48, 48, generator=generator)
    theta = PatchSampler(count=3).sample(2, generator, (48, 48))
    both = extract_patches(torch.cat([infrared, 1 - infrared], 1), theta, 24)
    torch.testing.assert_close(both[:, 0] + both[:, 1], torch.ones(6, 24, 24))
    torch.testing.assert_close(both[:, :1], extract_patches(infrared, theta, 24))


def test_seed_decides_and_generators_differ():
    draw = lambda seed: PatchSampler(count=2).sample(  # noqa: E731
        2, torch.Generator().manual_seed(seed), (50, 60)
    )
    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_gradient_reaches_the_pixels(generator):
    images = torch.rand(1, 1, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    theta = PatchSampler(count=2).sample(1, generator, (6, 7))
    torch.autograd.gradcheck(lambda x: extract_patches(x, theta, 4), images)


def test_wrong_counts_and_values_are_refused():
    with pytest.raises(ValueError, match="3 draws for 2 images"):
        extract_patches(torch.rand(2, 1, 8, 8), torch.zeros(3, 2, 3), 4)
    with pytest.raises(ValueError, match="no pixel"):
        PatchSampler(side=(0.1, 0.2)).sample(1, None, (6, 9))
    for name, bad in [
        ("count", 0),
        ("side", (0.8, 0.5)),
        ("side", (0.5, 1.2)),
        ("scale", (0, 1)),
        ("shear", 90),
        ("degrees", -1),
        ("translate", (0, 2)),
        ("size", 0),
    ]:
        with pytest.raises(ValueError, match=name):
            PatchSampler(**{name: bad})


def test_entropy_of_known_distributions():
    flat = torch.full((1, 16, 16), 0.3)
    two = torch.cat([torch.zeros(128), torch.ones(128)]).view(1, 16, 16)
    every = (torch.arange(256) / 255).view(1, 16, 16)
    torch.testing.assert_close(
        entropy(torch.stack([flat, two, every]), rounded=False), torch.tensor([0.0, 1.0, 8.0])
    )


def test_entropy_equals_a_histogram_written_slowly(generator):
    patches = torch.rand(7, 1, 20, 30, generator=generator) ** torch.arange(1, 8).view(7, 1, 1, 1)
    for got, patch in zip(entropy(patches, rounded=False), patches.double().numpy(), strict=True):
        share = np.histogram(patch, bins=256, range=(0, 1))[0] / patch.size
        expected = -sum(p * np.log2(p) for p in share if p > 0)
        assert got.item() == pytest.approx(expected, abs=1e-5)


def test_entropy_does_not_depend_on_order_or_company(generator):
    patches = torch.rand(4, 1, 12, 12, generator=generator)
    shuffled = patches.flatten(1)[:, torch.randperm(144, generator=generator)].view_as(patches)
    torch.testing.assert_close(entropy(shuffled, rounded=False), entropy(patches, rounded=False))
    torch.testing.assert_close(
        entropy(patches[2:3], rounded=False), entropy(patches, rounded=False)[2:3]
    )


def test_entropy_counts_values_outside_in_the_nearest_bin():
    values = torch.tensor([-1e30, -0.1, 0.0, 1.0, 1.5, 1e30]).view(1, 1, 2, 3)
    torch.testing.assert_close(entropy(values, rounded=False), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="NaN"):
        entropy(torch.full((1, 1, 2, 2), float("nan")), rounded=False)


def test_entropy_agrees_with_the_authors_function(authors_dir):
    reference = np.load(authors_dir / "ldfusion_losses.npz")
    got = entropy(torch.from_numpy(reference["entropy_images"]), rounded=False)
    expected = torch.from_numpy(reference["entropy_bits"])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_a_patch_is_kept_only_if_both_sources_have_something_to_show(generator):
    rich = torch.rand(1, 1, 64, 64, generator=generator)
    flat = torch.full_like(rich, 0.5)
    infrared, visible = torch.cat([rich, rich, flat, flat]), torch.cat([rich, flat, rich, flat])
    patches = torch.cat([infrared, visible], dim=1)
    kept = lambda **of: PatchFilter(**of).keep(patches, patches).tolist()  # noqa: E731
    assert kept() == [True, False, False, False]
    assert kept(sources="infrared") == [True, True, False, False]
    assert kept(sources="visible") == [True, False, True, False]
    assert kept(rule="none") == kept(threshold=-1) == [True] * 4
    assert kept(threshold=8) == [False] * 4


def _levels(count, low=0.0, high=1.0):
    """A patch (64 x 64) in which so many gray levels are equally frequent: log2(count) bits."""
    levels = torch.linspace(low, high, count).repeat(4096 // count)
    return levels.view(1, 1, 64, 64)


def test_bits_after_the_range_is_normalized_are_those_of_the_stretched_patch():
    """128 levels within an eighth of the range fall into 32 of 256 bins: 5 bits, stretched 7."""
    narrow = _levels(128, 0.25, 0.375 - 1e-4)
    image = torch.cat([narrow, narrow], dim=1)
    assert PatchFilter().bits(image).item() == pytest.approx(5.0, abs=0.05)
    assert not PatchFilter().keep(image, image).any()
    assert PatchFilter("normalized", 6.0).keep(image, image).all()
    stretched = normalize_range(image, image)
    assert PatchFilter().bits(stretched).item() == pytest.approx(7.0, abs=0.1)
    expected = (0.3 - narrow.quantile(0.01)) / (narrow.quantile(0.99) - narrow.quantile(0.01))
    got = normalize_range(torch.full((3, 2, 4, 4), 0.3), image)
    torch.testing.assert_close(got, expected.expand(3, 2, 4, 4), atol=0.02, rtol=0)


def test_a_flat_image_has_no_range_and_keeps_nothing():
    flat = torch.full((1, 2, 16, 16), 0.4)
    assert not normalize_range(flat, flat).any()
    assert not PatchFilter("normalized", 0.0).keep(flat, flat).any()


def test_the_upper_half_is_chosen_within_each_image():
    """Image 0 has patches of 1 to 5 bits, image 1 of 3 bits at most: three of five are kept."""
    bits = [[2, 0], [5, 3], [1, 1], [4, 2], [3, 3]]  # rows p, columns b
    rows = torch.cat([_levels(2**n) for pair in bits for n in pair])
    patches = torch.cat([rows, _levels(256).expand(10, -1, -1, -1)], dim=1)
    kept = PatchFilter("upper_half").keep(patches, patches[:2]).view(5, 2)
    assert kept[:, 0].tolist() == [False, True, False, True, True]
    assert kept[:, 1].tolist() == [False, True, False, True, True]
    tied = PatchFilter("upper_half", sources="visible").keep(patches, patches[:2]).view(5, 2)
    assert tied.sum(0).tolist() == [3, 3], "all alike: still one half"


def test_wrong_words_of_the_filter_are_refused():
    with pytest.raises(ValueError, match="rule of the patch filter must be one of bits"):
        PatchFilter("median")
    with pytest.raises(ValueError, match="sources of the patch filter"):
        PatchFilter(sources="one")
    with pytest.raises(ValueError, match="NaN"):
        PatchFilter(threshold=float("nan"))
    with pytest.raises(ValueError, match="5 patches of 2 images"):
        PatchFilter().keep(torch.rand(5, 2, 4, 4), torch.rand(2, 2, 8, 8))


# --- properties of the matrices ---

ANGLES = st.floats(-45, 45)
SHEARS = st.floats(-30, 30)
SCALES = st.floats(0.5, 2)
SIZES = st.tuples(st.integers(16, 400), st.integers(16, 400))


def _matrix(size, crop, corner, degrees=0.0, shift=(0.0, 0.0), scale=1.0, shear=0.0):
    def value(number):
        return torch.tensor([float(number)], dtype=torch.float64)

    return patch_matrices(
        value(crop),
        (value(corner[0]), value(corner[1])),
        size,
        value(degrees),
        (value(shift[0]), value(shift[1])),
        value(scale),
        value(shear),
    )[0].double()


@given(SIZES, st.data())
def test_without_a_transform_the_corners_of_the_patch_are_those_of_the_crop(size, data):
    height, width = size
    crop = data.draw(st.integers(1, min(size)))
    left = data.draw(st.integers(0, width - crop))
    top = data.draw(st.integers(0, height - crop))
    theta = _matrix(size, crop, (left, top))
    for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        x, y = theta @ torch.tensor([u, v, 1.0], dtype=torch.float64)
        expected = (left + crop * (u + 1) / 2, top + crop * (v + 1) / 2)
        found = ((x + 1) / 2 * width, (y + 1) / 2 * height)
        assert found == pytest.approx(expected, abs=1e-3)


@given(SIZES, ANGLES, SHEARS, SCALES, st.floats(-5, 5), st.floats(-5, 5))
def test_the_matrix_undoes_the_affine_map(size, degrees, shear, scale, across, down):
    """The place that the map sends to the middle of the patch is the one sampled there."""
    crop = min(size)
    middle = (size[1] / 2, size[0] / 2)
    corner = (middle[0] - crop / 2, middle[1] - crop / 2)
    theta = _matrix(size, crop, corner, degrees, (across, down), scale, shear)
    x, y = theta @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    point = torch.stack([x * size[1] / 2, y * size[0] / 2])  # pixels from the middle of the crop
    angle, tangent = math.radians(degrees), math.tan(math.radians(shear))
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slant = torch.tensor([[1.0, -tangent], [0.0, 1.0]])
    sent = scale * (turn @ slant).double() @ point + torch.tensor([across, down])
    assert sent.abs().max() < 1e-2


@given(SIZES, ANGLES, SHEARS, SCALES)
def test_the_area_of_a_patch_is_that_of_the_crop_by_the_square_of_the_scale(
    size, degrees, shear, scale
):
    crop = min(size) // 2
    theta = _matrix(size, crop, (0, 0), degrees, scale=scale, shear=shear)
    area = torch.det(theta[:, :2]).item() * size[0] * size[1]
    assert area == pytest.approx(crop**2 / scale**2, rel=1e-3)
