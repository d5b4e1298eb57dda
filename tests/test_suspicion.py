"""Pairs that are most likely not what was meant are named once, and the job goes on."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from ldf_utils.data import suspicion
from ldf_utils.data.images import write_image
from ldf_utils.data.pairs import Pair, PairFiles, PairFolder
from ldf_utils.data.sets import RENDERED


def _scene(seed, height=120, width=160):
    """Boxes that both cameras see with contrasts of their own, and texture that is visible only."""
    random = np.random.default_rng(seed)
    infrared, visible = np.full((2, height, width), 0.4)
    for _ in range(14):
        top, left = random.integers(0, height - 8), random.integers(0, width - 8)
        part = np.s_[top : top + random.integers(8, 50), left : left + random.integers(8, 50)]
        infrared[part], visible[part] = random.uniform(0.1, 0.6), random.uniform(0.1, 0.9)
    infrared[40:60, 70:78] = 0.95
    visible = visible + random.normal(0, 0.03, visible.shape)
    tint = np.array([1.0, 0.8, 0.6])[:, None, None]
    return Pair(
        f"{seed:03d}",
        torch.tensor(infrared[None], dtype=torch.float32),
        torch.tensor((visible * tint).clip(0, 1), dtype=torch.float32),
    )


PAIRS = [_scene(seed) for seed in range(6)]


def _moved(pair, down, right):
    infrared = torch.roll(pair.infrared, (down, right), (1, 2))
    return Pair(pair.name, infrared[:, 12:-12, 12:-12], pair.visible[:, 12:-12, 12:-12])


def _write(folder, pairs):
    for pair in pairs:
        write_image(pair.infrared, folder / "ir" / f"{pair.name}.png")
        write_image(pair.visible, folder / "vi" / f"{pair.name}.png")
    return folder


@pytest.mark.parametrize("count", [1, 6])
def test_pairs_as_they_should_be_raise_none(count, tmp_path, caplog):
    assert suspicion.of_folder(PAIRS[:count]) == []
    pairs = PairFolder(_write(tmp_path, PAIRS[:count]))
    suspicion.warn(pairs, tmp_path)
    assert len(list(pairs)) == count and not caplog.records


@pytest.mark.parametrize("shift", [(8, 0), (0, -8), (-6, 5)])
@pytest.mark.parametrize("count", [1, 6])
def test_a_shift_is_measured(shift, count):
    (text,) = suspicion.of_folder([_moved(pair, *shift) for pair in PAIRS[:count]])
    down, right = shift
    assert f"moved by {-right} pixels to the right and {-down} down" in text
    assert "register them first" in text


def test_a_shift_of_few_pixels_is_not_worth_a_word():
    assert suspicion.of_folder([_moved(pair, 2, -2) for pair in PAIRS]) == []


@pytest.mark.parametrize(("step", "says"), [(1, "after"), (-1, "before")])
def test_numbers_one_off(step, says):
    pairs = [
        Pair(pair.name, pair.infrared, PAIRS[(k + step) % len(PAIRS)].visible)
        for k, pair in enumerate(PAIRS)
    ]
    (text,) = suspicion.of_folder(pairs)
    other = {"after": "before", "before": "after"}[says]
    assert f"agree with the visible ones {other} them" in text and "off by one" in text


def test_black_hot():
    warm = [torch.where(pair.infrared > 0.9, 0.95, 0.3 * pair.infrared) for pair in PAIRS]
    pairs = [Pair(p.name, 1 - hot, p.visible) for p, hot in zip(PAIRS, warm, strict=True)]
    (text,) = suspicion.of_folder(pairs)
    assert "far darker than the rest" in text and "--polarity black-hot" in text


def _jet(gray):
    """The palette that thermal programs call jet or rainbow."""
    shades = torch.tensor([-0.25, 0.0, 0.25]).view(3, 1, 1) + 0.5
    return (1.5 - 4 * (gray - shades.flip(0)).abs()).clamp(0, 1)


def test_what_a_pair_shows_is_told_once_a_folder(tmp_path, caplog):
    kinds = {
        "swapped": [(p.visible, p.infrared) for p in PAIRS[:3]],
        "colored": [(_jet(p.infrared), p.visible) for p in PAIRS[:3]],
        "same": [(p.luminance, p.luminance) for p in PAIRS[:3]],
        "constant": [(torch.full_like(p.infrared, 0.3), p.visible) for p in PAIRS[:3]],
    }
    says = {
        "swapped": "most likely swapped; exchange the folders",
        "colored": "false colors",
        "same": "are the same; was one folder given for both?",
        "constant": "is constant",
    }
    for kind, pictures in kinds.items():
        caplog.clear()
        for number, (infrared, visible) in enumerate(pictures):
            write_image(infrared, tmp_path / kind / "ir" / f"{number}.png")
            write_image(visible, tmp_path / kind / "vi" / f"{number}.png")
        assert len(list(PairFolder(tmp_path / kind))) == 3
        (record,) = caplog.records
        assert says[kind] in record.getMessage() and "0.png" in record.getMessage()
        assert record.levelno == logging.WARNING


def test_a_palette_in_the_file_is_named(tmp_path, caplog):
    """As `pal_jet`: a picture with a palette, which is not gray."""
    pair = PAIRS[0]
    palette = (_jet(torch.linspace(0, 1, 256).view(1, 1, 256))[:, 0].T * 255).byte().numpy()
    picture = Image.fromarray((pair.infrared[0] * 255).byte().numpy())
    picture.putpalette(palette.tobytes())
    (tmp_path / "ir").mkdir()
    picture.save(tmp_path / "ir" / "a.png")
    write_image(pair.visible, tmp_path / "vi" / "a.png")
    assert PairFolder(tmp_path)[0].infrared.shape == (1, 120, 160)
    assert "false colors (a palette such as jet" in caplog.text


@pytest.mark.parametrize("split", ["train", "test"])
def test_rendered_pairs_raise_none(split, caplog):
    pairs = PairFolder(RENDERED / split)
    suspicion.warn(pairs, pairs.folder)
    assert not caplog.records


def test_pairs_that_cannot_be_read_are_left_to_the_job(tmp_path):
    pairs = PairFolder(_write(tmp_path, PAIRS[:2]))
    (tmp_path / "ir" / "000.png").write_bytes(b"broken")
    assert suspicion.of_folder(pairs) == []
    (tmp_path / "ir" / "001.png").write_bytes(b"broken")
    assert suspicion.of_folder(pairs) == []


@pytest.mark.slow
def test_real_sets_raise_none_and_are_known_when_swapped(real_data_dir, shared_dir, caplog):
    found = {}
    for folder in sorted([*real_data_dir.iterdir(), *(shared_dir / "train").iterdir()]):
        if not (folder / "ir").is_dir():
            continue
        pairs = PairFolder(folder)
        suspicion.warn(pairs, folder)
        pairs[0], pairs[-1]
        assert not caplog.records, caplog.text
        swapped = PairFiles([(stem, visible, infrared) for stem, infrared, visible in pairs.files])
        if pairs[0].visible.shape[0] == 3:
            for index in range(min(3, len(swapped))):
                swapped[index]
            found[folder.name] = "most likely swapped" in caplog.text
            caplog.clear()
    assert found and all(found.values())
