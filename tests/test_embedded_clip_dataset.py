"""Images for the training of the embedded CLIP, their augmentation, and the truth about each."""

from pathlib import Path

import clip_helpers
import numpy as np
import pytest
import torch

from experiments.embedded_clip import (
    augmentation,
    cameras,
    dataset,
    packing,
    salience,
    transport,
    truth,
)
from experiments.embedded_clip.pieces import Pieces, decode_light, decode_warmth
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
    assert (origin[:, 4:7] < 4).all() and (change[:, :7] != 0).sum(-1).max() == 1
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


def test_objects_count_only_where_they_cover_enough(training_pieces):
    squares = training_pieces.read(training_pieces.where(recorded=False)[:60])
    signs = dataset.make_batch(squares, torch.Generator().manual_seed(3)).truth
    people = signs[..., INDEX["people"]]
    none = (squares["labels"] != truth.LABELS.index("person")).flatten(1).all(1)
    assert none.any() and (people[none] <= 0).all() and (people[none][:, 1] == -1).all()
    assert (people[:, 1] > 0).any()


def test_of_recorded_images_only_the_camera_and_the_damage_are_known(training_pieces):
    squares = training_pieces.read(training_pieces.where(recorded=True))
    signs = dataset.make_batch(squares, torch.Generator().manual_seed(3)).truth
    fact = {name: signs[..., index] for name, index in INDEX.items()}
    assert (fact["visible"][:, 0] == 1).all() and (fact["infrared"][:, 1] == 1).all()
    for name in ("people", "vehicles", "trees", "buildings", "night", "street", "salient"):
        assert (fact[name] == 0).all(), name
    for name in ("sharp", "noisy", "hazy"):
        assert (fact[name][:, :4] == 0).all(), name
    assert (fact["artifacts"] > 0).any() and (fact["noisy"] > 0).any()


def test_hidden_objects_have_the_level_of_their_surroundings(generator):
    squares = clip_helpers.tiny_squares(32)
    batch = dataset.make_batch(squares, generator, augmented=0.0)
    mask = (squares["salient"] > 0)[:, None].float()
    assert (batch.origin[:, dataset.HIDDEN] == dataset.SALIENT).all()
    salient = batch.truth[..., INDEX["salient"]]
    assert (salient[:, dataset.SALIENT] > 0).float().mean() > 0.9
    assert not (salient[:, dataset.HIDDEN] > 0).float().mean() > 0.4  # those with grain alone
    assert (salient[:, dataset.HIDDEN] < 0).any()
    change = batch.change[:, dataset.HIDDEN]
    assert (change[:, INDEX["salient"]] == -1).all()
    assert (change[:, INDEX["salient_people"]] == -1).all()
    assert (change[:, INDEX["salient_vehicles"]] == 0).all() and mask.any()


def test_salience_is_edited_in_both_polarities_and_nothing_else_changes(generator):
    images = torch.full((40, 1, 96, 96), 0.4) + 0.02 * torch.randn(40, 1, 96, 96)
    mask = torch.zeros(40, 1, 96, 96)
    mask[..., 30:70, 40:60] = 1
    shown = salience.emphasize(images, mask, generator)
    gap, prominence = salience.contrast(shown, mask)
    assert (gap > 0).any() and (gap < 0).any() and (gap.abs() > salience.OBVIOUS_GAP).all()
    assert (prominence > salience.OBVIOUS).all()
    hidden = salience.hide(shown, mask, generator)
    assert (salience.contrast(hidden, mask)[0].abs() < salience.HIDDEN_GAP).all()
    far = torch.nn.functional.max_pool2d(mask, 15, 1, 7) == 0
    for edited in (shown, hidden):
        torch.testing.assert_close(edited[far], images[far], atol=1e-4, rtol=0)


def test_tones_of_both_of_a_pair_vary_so_that_global_contrast_tells_nothing(generator):
    images = torch.rand(400, 1, 24, 24, generator=generator) * 0.4 + 0.3
    varied = salience.vary_tones(images, generator)
    same = (varied == images).flatten(1).all(1)
    assert 0.4 < same.float().mean() < 0.6
    ratio = (varied.std((-2, -1)) / images.std((-2, -1)))[~same]
    assert (ratio < 0.8).any() and (ratio > 1.2).any() and 0.55 < ratio.min() and ratio.max() < 1.4
    squares = clip_helpers.tiny_squares(200)
    batch = dataset.make_batch(squares, generator, augmented=0.0)
    hidden = batch.truth[:, dataset.HIDDEN, INDEX["noisy"]] == -1  # nothing was added
    corners = batch.images[hidden][..., :6, :6].mean((-2, -1))
    change = corners[:, dataset.HIDDEN] - corners[:, dataset.SALIENT]
    assert (change > 0.05).any() and (change < -0.05).any()


def test_prominence_is_not_raised_by_contrast_and_lowered_by_noise(generator):
    images = torch.full((1, 1, 64, 64), 0.5)
    images[..., 20:40, 20:40] = 0.7
    mask = (images > 0.6).float()
    images = images + 0.02 * torch.randn(images.shape, generator=generator)
    gap, prominence = salience.contrast(images, mask)
    assert gap.item() == pytest.approx(0.2, abs=0.01)
    stretched = 0.5 + 2 * (images - 0.5)
    assert salience.contrast(stretched, mask)[1] < 1.35 * prominence
    noisy = images + 0.1 * torch.randn(images.shape, generator=generator)
    assert salience.contrast(noisy, mask)[1] < 0.75 * prominence
    nothing = torch.zeros_like(mask)
    assert salience.contrast(images, nothing)[0] == 0


def test_the_share_of_augmented_squares_is_kept(training_pieces):
    squares = training_pieces.read(training_pieces.where(recorded=False)[:52])

    def sources(share):
        state = torch.Generator().manual_seed(3)
        return dataset.make_batch(squares, state, augmented=share).images[:, :2]

    plain, half, all_of_them = sources(0.0), sources(0.5), sources(1.0)
    changed = (half != plain).flatten(1).any(1)
    assert 13 < changed.sum() < 39  # 52 draws of one half
    assert torch.equal(half[changed], all_of_them[changed])
    assert (all_of_them != plain).flatten(1).any(1).all()


def test_optimized_pictures_count_as_artifacts_and_nothing_else(training_pieces):
    negatives = torch.randint(0, 256, (5, 128, 128), dtype=torch.uint8)
    squares = training_pieces.read(training_pieces.where(recorded=False)[:24])
    images, signs, origin, change, *_ = dataset.make_batch(
        squares, torch.Generator().manual_seed(0), negatives=negatives
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


def test_a_batch_has_the_share_of_recorded_squares_and_none_that_are_held_out(training_pieces):
    index = dataset.draw_index(training_pieces, 40, 0.25, torch.Generator().manual_seed(0))
    assert len(index) == 40 and training_pieces["recorded"][index].sum() == 10
    assert training_pieces["held_out"][index].sum() == 0
    assert training_pieces["held_out"].sum() > 0


def test_cameras_differ_and_keep_the_order_of_temperatures_or_turn_it_round(generator):
    squares = clip_helpers.tiny_squares(200)
    quantiles = squares["quantiles"]
    kelvin = torch.linspace(-4, 20, 16 * 16).view(1, 1, 16, 16).expand(200, -1, -1, -1)
    seen = cameras.automatic_gain(kelvin, quantiles, generator).flatten(1)
    assert (seen.diff(dim=1) > -1e-4).all()
    assert seen[:, -1].min() > 0.3 and seen.std(0).max() > 0.1
    image = cameras.infrared_camera(squares["infrared"][:, None], quantiles, generator).image
    block = image[:, 0, 50:80, 55:75].mean((1, 2)) - image[:, 0, :30].mean((1, 2))
    black_hot = (block < 0).float().mean().item()
    assert black_hot == pytest.approx(cameras.BLACK_HOT, abs=0.1)


def test_the_longest_exposure_leaves_a_dark_night_dark(generator):
    stored = torch.full((60, 1, 64, 64), 110, dtype=torch.uint8)
    day, night = (
        cameras.visible_camera(stored, torch.full((60,), gain), generator).image.mean((1, 2, 3))
        for gain in (0.0, 10.0)
    )
    assert night.mean() < 0.6 * day.mean() and day.mean() > 0.3


def test_what_is_stored_in_8_bits_comes_back(generator):
    light = torch.rand(64, 64, generator=generator) * 3 + 0.01
    stored = torch.from_numpy(packing.encode_light(light.numpy(), 1.0))
    torch.testing.assert_close(decode_light(stored), light, rtol=0.06, atol=0.004)
    kelvin = torch.linspace(-30, 40, 500)
    stored = torch.from_numpy(packing.encode_warmth(kelvin.numpy()))
    found = decode_warmth(stored)
    assert (found - kelvin).abs().max() < 0.9 and (found - kelvin)[200:230].abs().max() < 0.2


def test_packing_goes_on_where_it_was(tmp_path):
    pool = clip_helpers.write_pool(tmp_path / "pool", 5)
    assert packing.pack(pool, tmp_path / "pack", count=3) == 15
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pack/*/maps.npy")}
    assert packing.pack(pool, tmp_path / "pack", count=3) == 15
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("pack/*/maps.npy")}
    clip_helpers.write_pool(tmp_path / "more", 8)
    assert packing.pack(tmp_path / "more", tmp_path / "pack", count=3) == 24
    assert len(list((tmp_path / "pack").iterdir())) == 1
    with pytest.raises(FileNotFoundError, match="no complete shard"):
        Pieces(tmp_path / "nowhere")


def test_a_pack_says_which_worlds_it_holds_out(tmp_path):
    pool, folder = clip_helpers.write_pool(tmp_path / "pool", 6), tmp_path / "pack"
    packing.pack(pool, folder, count=2)
    assert Pieces(folder).held_out_every == packing.HELD_OUT_EVERY
    packing.pack(pool, folder, count=2, held_out_every=3)  # written again
    pieces = Pieces(folder)
    assert len(pieces) == 12 and pieces.held_out_every == 3
    assert pieces["held_out"].tolist() == [0, 0, 0, 0, 1, 1] * 2
    packing.write_shard(
        folder / "more", (packing.read_view(path, 4) for path in [pool / "00000_0.npz"]), 1, seed=0
    )
    with pytest.raises(ValueError, match=r"found n of \[3, 4\]"):
        _ = Pieces(folder).held_out_every
    facts = dict(np.load(folder / "more" / "facts.npz"))
    del facts["held_out_every"]
    np.savez(folder / "more" / "facts.npz", **facts)
    with pytest.raises(ValueError, match="not recorded"):
        _ = Pieces(folder).held_out_every


def test_squares_travel_in_parts_of_a_given_size(tmp_path, training_pieces):
    folder = Path(training_pieces.maps[0].filename).parent.parent
    parts = transport.compress(folder, tmp_path / "parts", megabytes=0.4)
    assert len(parts) > 1 and all(path.stat().st_size < 0.4e6 for path in parts)
    assert transport.expand(tmp_path / "parts", tmp_path / "pack") == len(training_pieces)
    again = Pieces(tmp_path / "pack")
    order = torch.randperm(len(again), generator=torch.Generator().manual_seed(0))
    before, after = training_pieces.read(order[:20]), again.read(torch.arange(20))
    for name in before:
        if name in transport.SMOOTH:
            assert (before[name].float() - after[name].float()).abs().mean() < 3, name
        else:
            assert torch.equal(before[name], after[name]), name
    with pytest.raises(FileNotFoundError, match="no part"):
        transport.expand(tmp_path / "nowhere", tmp_path / "pack")


def test_squares_show_people_where_there_are_some(training_pieces):
    index = training_pieces.where(recorded=False)
    squares = training_pieces.read(index)
    assert squares["visible"].shape == (len(index), 128, 128)
    person = squares["labels"] == truth.LABELS.index("person")
    assert 0.1 < person.flatten(1).any(1).float().mean() < 0.95
    assert (squares["salient"][person] > 0).float().mean() > 0.9
    rendered, recorded = training_pieces["recorded"] == 0, training_pieces["recorded"] > 0
    assert training_pieces["has_oracle"][recorded].sum() == 0
    assert 0.6 < training_pieces["has_oracle"][rendered].mean() < 0.9


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


def test_added_texture_shows_in_the_infrared(training_pieces, generator):
    squares = training_pieces.read(training_pieces.where(recorded=False)[:40])
    visible, infrared = (shot.image for shot in cameras.see(squares, generator))
    textured = augmentation.add_texture(infrared, visible, generator)
    for image in textured:
        assert image.shape == visible.shape and 0 <= image.min() and image.max() <= 1

    def texture(images):
        return (images - augmentation.gaussian_blur(images, 1.5)).std((1, 2, 3))

    before = (texture(infrared) / texture(visible).clamp_min(1e-3)).median()
    after = (texture(textured[0]) / texture(textured[1]).clamp_min(1e-3)).median()
    assert after > before

    def sources(on):
        state = torch.Generator().manual_seed(3)
        return dataset.make_batch(squares, state, textured=on).images[:, :2]

    assert not torch.equal(sources(True), sources(False))


def test_structure_of_one_source_shows_in_the_other(generator):
    flat = torch.full((16, 1, 64, 64), 0.5)
    stripes = flat + 0.2 * (torch.arange(64) % 8 < 4)
    infrared, visible = augmentation.exchange_structure(flat, stripes, generator)
    gained = infrared.std((1, 2, 3))
    assert (gained > 0.01).any() and (gained < 1e-6).any()
    assert (visible.std((1, 2, 3)) <= stripes.std((1, 2, 3)) + 1e-6).all()


def test_measure_against_an_image_with_known_numbers():
    image = torch.full((1, 1, 64, 64), 0.25)
    hot = torch.zeros(1, 1, 64, 64)
    image[..., 24:40, 24:40], hot[..., 24:40, 24:40] = 0.75, 1.0
    seen = truth.measure(image, hot)
    assert seen["mean"].item() == pytest.approx(0.25 + 0.5 / 16)
    assert seen["white"].item() == 0 and seen["detail"].item() == pytest.approx(0, abs=1e-6)


def test_cells_say_where_people_are_only_where_the_image_shows_them():
    labels = torch.zeros(1, 1, 96, 96)
    labels[..., 32:48, 16:32] = truth.LABELS.index("person")  # one cell of 6 x 6
    labels[..., 48:50, 16:20] = truth.LABELS.index("person")  # 3 % of the next
    signs = torch.zeros(1, 3, len(INDEX))
    signs[0, :, INDEX["people"]] = torch.tensor([1.0, 0.0, -1.0])
    cells = truth.cell_signs(labels, signs, 6)
    assert cells.shape == (1, 3, len(truth.OBJECTS), 6, 6)
    people = cells[0, :, list(truth.OBJECTS).index("people")]
    expected = -torch.ones(6, 6)
    expected[2, 1], expected[3, 1] = 1.0, 0.0
    assert torch.equal(people[0], expected)
    assert (people[1] == 0).all() and (people[2] == -1).all()
    unknown = torch.full_like(labels, truth.UNKNOWN)
    assert (truth.cell_signs(unknown, torch.zeros_like(signs), 6) == 0).all()


def test_tones_distract_in_both_ways(generator):
    """Else a network that is to show salient objects would change the tones of all that is seen."""
    ramp = torch.linspace(0.4, 0.6, 32).expand(600, 1, 32, 32)
    changed = salience.distract(ramp, generator)
    off = changed - ramp
    grainy = off.diff(dim=-2).abs().mean((-3, -2, -1)) > 0.01
    assert 0.25 < grainy.float().mean() < 0.42
    smooth = off[~grainy]
    shift = smooth.mean((-3, -2, -1))
    gain = (changed[~grainy].std((-3, -2, -1)) / ramp[0].std()).log()
    kinds = (shift > 0.05, shift < -0.05, (gain > 0.1) & (shift.abs() < 0.05), gain < -0.1)
    assert sum(kind.float() for kind in kinds).eq(1).all(), "one of these four, and no other"
    assert all(0.15 < kind.float().mean() < 0.35 for kind in kinds)
