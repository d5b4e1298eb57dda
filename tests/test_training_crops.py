"""Crops: windows of one pair, registered, mirrored, turned, in their turn."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import Subset
from training_helpers import (
    SMALL,
    TinyClip,
    TinyNetwork,
    make_pair,
)

from ldf_utils.data.headers import header_problems, source_files
from ldf_utils.data.images import ImageError, write_image
from ldf_utils.data.pairs import Pair, PairFolder
from ldf_utils.training.crops import Crops, EpochOrder
from ldf_utils.training.step import prepare
from ldf_utils.training.trainer import fit


def test_crops_are_windows_of_one_pair_registered_and_in_8_bits(pairs):
    config = replace(SMALL, flip=False)
    crops = Crops(pairs, config)
    infrared, visible = crops.batch(torch.Generator().manual_seed(0))
    assert infrared.shape == visible.shape == (2, 1, 32, 32)
    for cut in torch.cat([infrared, visible], dim=1):
        found = 0
        for pair in pairs:
            whole = torch.cat([pair.infrared, pair.luminance])
            windows = whole.unfold(1, 32, 1).unfold(2, 32, 1)
            distance = (windows - cut[:, None, None]).abs().amax(dim=(0, 3, 4))
            found += int((distance <= 0.5 / 255 + 1e-6).sum())
        assert found == 1
    torch.testing.assert_close(infrared * 255, (infrared * 255).round(), atol=1e-4, rtol=0)


def test_half_of_the_crops_are_mirrored():
    ramp = torch.linspace(0, 1, 32).expand(1, 32, 32).contiguous()
    crops = Crops([Pair("ramp", ramp, 1 - ramp)], SMALL)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([crops.draw(generator) for _ in range(200)])
    mirrored = drawn[:, 0, 0, 0] > 0.5
    assert 70 < mirrored.sum() < 130
    torch.testing.assert_close(drawn[mirrored][0].flip(-1), drawn[~mirrored][0])
    torch.testing.assert_close(
        drawn[:, 0] + drawn[:, 1], torch.ones(200, 32, 32), atol=5e-3, rtol=0
    )


def test_small_images_are_mirrored_at_the_borders_and_tiny_ones_refused():
    small = make_pair("small", 20, 60)
    crop = Crops([small], replace(SMALL, flip=False)).draw(torch.Generator().manual_seed(0))
    assert crop.shape == (2, 32, 32)
    torch.testing.assert_close(crop[:, 5], crop[:, 7])  # row 6 is the first of the image
    torch.testing.assert_close(crop[:, 24], crop[:, 26])
    assert Crops([make_pair("least", 12, 12)], SMALL).draw(torch.Generator()).shape == (2, 32, 32)
    with pytest.raises(ImageError, match=r"'tiny'.*11 x 40 .*crops of 32.*at least 12"):
        Crops([make_pair("tiny", 40, 11)], SMALL).draw(torch.Generator())


def test_no_pair_and_unregistered_pairs_are_refused():
    for nothing in ([], {}):
        with pytest.raises(ImageError, match="no pair to train on"):
            fit(SMALL, nothing, TinyClip(), TinyNetwork())
    bad = Pair("bad", torch.rand(1, 40, 40), torch.rand(3, 40, 41))
    with pytest.raises(ImageError, match=r"'bad'.*40 x 40.*41 x 40"):
        Crops([bad], SMALL).draw(torch.Generator())


def test_empty_crops_are_drawn_again_but_not_for_ever():
    class Counted(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    flat = Pair("flat", torch.full((1, 40, 40), 0.5), torch.full((1, 40, 40), 0.2))
    config = replace(SMALL, max_resamples=20, cache_mb=0)
    crops = Crops(Counted([flat, make_pair("rich", 40, 40)]), config)
    generator = torch.Generator().manual_seed(0)
    assert all(crops.draw(generator).std() > 0.1 for _ in range(30))
    assert crops.pairs.reads > 30
    only_flat = Crops(Counted([flat]), config)
    assert only_flat.draw(generator).shape == (2, 32, 32)
    assert only_flat.pairs.reads == 20
    half = Pair("half", torch.full((1, 40, 40), 0.5), torch.rand(1, 40, 40))
    one_side = Crops(Counted([half]), config)
    one_side.draw(generator)
    assert one_side.pairs.reads == 1


def test_the_cache_limit_changes_what_is_read_and_nothing_else(pairs):
    class Counted(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    drawn, reads, kept = [], [], []
    for limit in (0, 0.005, 10):
        crops = Crops(Counted(pairs), replace(SMALL, cache_mb=limit))
        generator = torch.Generator().manual_seed(0)
        drawn.append(torch.cat([torch.cat(crops.batch(generator)) for _ in range(20)]))
        reads.append(crops.pairs.reads)
        kept.append(sum(both.numel() for both in crops.cache.values()))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    assert reads[0] >= 40 and reads[2] == 4 and reads[2] < reads[1] < reads[0]
    assert kept[0] == 0 and 0 < kept[1] <= 5000


@pytest.mark.parametrize("augment", ["affine", "released"])
@pytest.mark.parametrize("size", [(60, 70), (40, 30)])
def test_crops_can_be_turned(augment, size):
    """A picture of coordinates shows where each pixel comes from, alike in both sources."""
    y, x = torch.meshgrid(*(torch.linspace(0.1, 0.9, s) for s in size), indexing="ij")
    pair = Pair("p", x[None], y[None])
    config = replace(SMALL, augment=augment, flip=False, min_std=0.0)
    crops, generator = Crops([pair], config), torch.Generator().manual_seed(0)
    drawn = torch.stack([crops.draw(generator) for _ in range(20)])
    assert drawn.shape == (20, 2, 32, 32)
    black = (drawn == 0).all(dim=1)
    assert black.any() if augment == "released" else not black.any()
    inside = drawn[:, :, 12:20, 12:20]
    along = inside[:, 0, 4, 7] - inside[:, 0, 4, 0]
    assert (along.abs() > 0.02).all() and along.std() > 1e-3, "zoom changes the slope"
    tilt = (inside[:, 0, 7, 4] - inside[:, 0, 0, 4]).abs() / along.abs()
    assert 0.01 < tilt.mean() < 0.3, "turned and sheared a little"


def test_in_epochs_every_pair_has_its_turn_and_processes_share_them():
    whole = EpochOrder(10, seed=3)
    first, second = ([whole.pair(e * 10 + k) for k in range(10)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert [whole.pair(k) for k in (3, 14, 5)] == [first[3], second[4], first[5]]
    shares = [EpochOrder(10, rank, 2, seed=3) for rank in (0, 1)]
    assert [len(share) for share in shares] == [5, 5]
    for epoch in (0, 1):
        both = [[s.pair(epoch * 5 + k) for k in range(5)] for s in shares]
        assert sorted(both[0] + both[1]) == list(range(10))
    uneven = [EpochOrder(3, rank, 2) for rank in (0, 1)]
    assert {s.pair(k) for s in uneven for k in range(2)} == {0, 1, 2}


@pytest.mark.parametrize(("rank", "count"), [(0, 1), (0, 2), (1, 2)])
def test_crops_go_through_the_pairs_in_epochs(rank, count):
    shades = [Pair(str(k), torch.full((1, 32, 32), k / 5), torch.rand(1, 32, 32)) for k in range(4)]
    config = replace(SMALL, order="epochs", batch=2, accumulate=2, steps=4)
    crops = Crops(shades, config, rank, count)
    seen = [
        round(5 * shade.item())
        for step in range(2)
        for batch in prepare(crops, step, rank)
        for shade in batch.infrared.mean(dim=(1, 2, 3))
    ]
    length = len(crops.order)
    assert length == 4 // count
    for epoch in range(0, 8, length):
        assert len(set(seen[epoch : epoch + length])) == length


def test_headers_of_all_files_are_checked_before_the_first_step(set_folder, tmp_path):
    """Three of four pairs are bad, each in its own way; a picture is never decoded for it."""
    (set_folder / "ir" / "p0.png").write_bytes(b"no picture")
    write_image(torch.rand(1, 9, 47), set_folder / "ir" / "p1.png")
    write_image(torch.rand(1, 9, 47), set_folder / "vi" / "p1.png")
    write_image(torch.rand(3, 42, 30), set_folder / "vi" / "p2.png")
    other = PairFolder(set_folder)
    for pairs in (other, {"a": other, "b": other}, Subset(other, [0, 1, 2])):
        with pytest.raises(ImageError) as refused:
            fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path / "run", progress=False)
        lines = str(refused.value).splitlines()
        assert len(lines) == 1 + (6 if isinstance(pairs, dict) else 3)
        assert "p0.png" in lines[1]
        assert "p1.png: 47 x 9 pixels are too few for crops of 32" in lines[2]
        assert "p2.png: the infrared image is 48 x 42" in lines[3] and "30 x 42" in lines[3]
    assert not (tmp_path / "run").exists()
    assert not header_problems(source_files(Subset(other, [3])), 32)
    assert source_files([make_pair("in memory", 40, 40)]) == []
