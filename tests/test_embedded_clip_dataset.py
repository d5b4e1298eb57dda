"""Images for the training of the embedded CLIP, their augmentation, and the truth about each."""

import pytest
import torch

from experiments.embedded_clip import augmentation, dataset, truth
from ldf_utils.clip.attributes import ATTRIBUTES, INDEX


def test_truth_follows_the_degradations(training_batch):
    images, signs = training_batch.images, training_batch.truth
    assert images.shape == (52, len(dataset.VIEWS), 1, 96, 96)
    assert images.min() >= 0 and images.max() <= 1
    assert set(signs.unique().tolist()) <= {-1.0, 0.0, 1.0}
    fact = {a.name: signs[..., i] for a, i in zip(ATTRIBUTES, INDEX.values(), strict=True)}
    assert (fact["visible"][:, 0] == 1).all() and (fact["infrared"][:, 0] == -1).all()
    assert (fact["infrared"][:, 1] == 1).all() and (fact["visible"][:, 1] == -1).all()
    damaged = fact["artifacts"] > 0
    assert damaged.any() and not damaged[:, :4].any()
    assert not (damaged & (fact["clear"] > 0)).any()
    mean = images.mean((2, 3, 4))
    assert mean[fact["dark"] > 0].max() < mean[fact["dark"] < 0].min()
    for name, row in fact.items():
        assert (row > 0).any() and (row < 0).any(), f"{name} is never true, or never false"


def test_degraded_views_name_their_origin_and_what_changed(training_batch):
    images, origin, change = (
        training_batch.images[:, :, 0],
        training_batch.origin,
        training_batch.change,
    )
    assert (origin[:, :4] == torch.arange(4)).all() and (change[:, :4] == 0).all()
    assert (origin[:, 4:] < 4).all() and (change != 0).sum(-1).max() == 1
    before = images[torch.arange(len(images))[:, None], origin]
    brighter = images.mean((2, 3)) - before.mean((2, 3))
    found = {
        "dark": -brighter,
        "overexposed": brighter,
        "contrast": images.std((2, 3)) - before.std((2, 3)),
    }
    for name, moved in found.items():
        sign = change[..., INDEX[name]]
        changed = sign != 0
        assert changed.any() and (changed == (sign == (-1 if name == "contrast" else 1))).all()
        assert ((sign * moved)[changed] > 0).all(), name


def test_objects_count_only_where_they_cover_enough(training_scenes):
    index = torch.arange(52)
    generator = torch.Generator().manual_seed(3)
    signs = dataset.make_batch(training_scenes, index, generator).truth
    none = (training_scenes["labels"] != 1).flatten(1).all(1)
    people = signs[..., INDEX["people"]]
    assert none.any() and (people[none] <= 0).all() and (people[none][:, 1] == -1).all()
    assert (people[:, 1] > 0).any()


def test_the_share_of_augmented_scenes_is_kept(training_scenes):
    def sources(share):
        state = torch.Generator().manual_seed(3)
        index = torch.arange(52)
        return dataset.make_batch(training_scenes, index, state, augmented=share).images[:, :2]

    plain, half, all_of_them = sources(0.0), sources(0.5), sources(1.0)
    changed = (half != plain).flatten(1).any(1)
    assert 13 < changed.sum() < 39  # 52 draws of one half
    assert torch.equal(half[changed], all_of_them[changed])
    assert (all_of_them != plain).flatten(1).any(1).all()


def test_optimized_pictures_count_as_artifacts_and_nothing_else(training_scenes):
    negatives = torch.randint(0, 256, (5, 128, 128), dtype=torch.uint8)
    images, signs, origin, change = dataset.make_batch(
        training_scenes, torch.arange(24), torch.Generator().manual_seed(0), negatives=negatives
    )
    plain = negatives[:, None].float() / 255
    small = torch.nn.functional.interpolate(plain, (96, 96), mode="bilinear", antialias=True)
    taken = (images[:, 6, None] - small[None]).abs().amax((2, 3, 4)).amin(1) < 1e-6
    assert 1 <= taken.sum() < 24
    assert (origin[:, 6][taken] == 4).all() and (change[:, 6][taken] == 0).all()
    facts = signs[:, 6][taken]
    assert (facts[:, INDEX["artifacts"]] == 1).all() and (facts[:, INDEX["clear"]] == -1).all()
    for name in ("infrared", "visible", "fused", "people", "street", "sharp", "salient"):
        assert (facts[:, INDEX[name]] == 0).all(), name


def test_spectra_and_tones_are_what_they_are_named(generator):
    noise = torch.rand(6, 1, 96, 96, generator=generator)
    natural = augmentation.naturalize_spectrum(noise, generator)
    torch.testing.assert_close(natural.mean((1, 2, 3)), noise.mean((1, 2, 3)))
    torch.testing.assert_close(natural.std((1, 2, 3)), noise.std((1, 2, 3)))
    power = torch.fft.fft2(natural[:, 0] - natural.mean((1, 2, 3))[:, None, None]).abs() ** 2
    radius = torch.hypot(torch.fft.fftfreq(96)[:, None], torch.fft.fftfreq(96)[None]) * 96
    rings = torch.stack([power[:, (radius > r - 1) & (radius < r + 1)].mean(1) for r in (6, 24)])
    slope = (rings[0] / rings[1]).log() / torch.tensor(4.0).log()  # of the power: 2 to 3.8
    assert (slope > 1.6).all() and (slope < 4.2).all()
    toned = augmentation.randomize_tones(noise, generator)
    order = noise.flatten(1).argsort(1)
    sorted_tones = toned.flatten(1).gather(1, order)
    assert (sorted_tones.diff(dim=1) > -1e-5).all()
    assert (toned - noise).abs().mean() > 0.02


def test_a_simulated_camera_keeps_the_range_and_returns_what_it_did(generator):
    images = torch.rand(40, 1, 96, 96, generator=generator).mul(0.5)
    made, blurred, noisy = augmentation.simulate_camera(images, generator)
    assert made.shape == images.shape and made.min() >= 0 and made.max() <= 1
    assert blurred.any() and not blurred.all() and noisy.any() and not noisy.all()


def test_added_texture_shows_in_the_infrared(training_scenes, generator):
    pictures = {k: training_scenes[k][:40, None].float() / 255 for k in ("infrared", "visible")}
    infrared, visible = augmentation.add_texture(
        pictures["infrared"], pictures["visible"], generator
    )
    assert infrared.shape == pictures["infrared"].shape == visible.shape
    assert min(infrared.min(), visible.min()) >= 0 and max(infrared.max(), visible.max()) <= 1

    def texture(images):
        return (images - augmentation.gaussian_blur(images, 1.5)).std((1, 2, 3))

    before = (texture(pictures["infrared"]) / texture(pictures["visible"]).clamp_min(1e-3)).median()
    after = (texture(infrared) / texture(visible).clamp_min(1e-3)).median()
    assert after > before

    def sources(textured):
        state = torch.Generator().manual_seed(3)
        batch = dataset.make_batch(training_scenes, torch.arange(9), state, textured=textured)
        return batch.images[:, :2]

    assert not torch.equal(sources(True), sources(False))


def test_structure_of_one_source_shows_in_the_other(generator):
    flat = torch.full((16, 1, 64, 64), 0.5)
    stripes = flat + 0.2 * (torch.arange(64) % 8 < 4)
    infrared, visible = augmentation.exchange_structure(flat, stripes, generator)
    gained = infrared.std((1, 2, 3))
    assert (gained > 0.01).any() and (gained < 1e-6).any()
    assert (visible.std((1, 2, 3)) <= stripes.std((1, 2, 3)) + 1e-6).all()


def test_load_scenes_gives_pictures_and_facts():
    scenes = dataset.load_scenes(60, seed=5, processes=1)
    shapes = {name: tuple(value.shape[1:]) for name, value in scenes.items() if value.ndim == 3}
    assert set(shapes) == {"visible", "infrared", "oracle", "salient", "veil", "labels"}
    assert set(shapes.values()) == {(128, 128)} and scenes["labels"].max() <= 4
    assert len(scenes["night"]) == len(scenes["visible"]) >= 60


def test_measure_against_an_image_with_known_numbers():
    image = torch.full((1, 1, 64, 64), 0.25)
    hot = torch.zeros(1, 1, 64, 64)
    image[..., 24:40, 24:40], hot[..., 24:40, 24:40] = 0.75, 1.0
    seen = truth.measure(image, hot)
    assert seen["gap"].item() == pytest.approx(0.5)
    assert seen["area"].item() == pytest.approx(16 * 16 / 64**2)
    assert seen["mean"].item() == pytest.approx(0.25 + 0.5 / 16)
    assert seen["white"].item() == 0 and seen["detail"].item() == pytest.approx(0, abs=1e-6)
