import numpy as np
import pytest
import torch

from experiments.painted import scenes
from ldf_utils.data.images import luminance


@pytest.fixture(scope="module")
def batch():
    return scenes.render(24, (96, 128), seed=7)


def test_shapes_ranges_and_facts(batch):
    assert batch.visible.shape == (24, 3, 96, 128)
    for image in (batch.infrared, batch.oracle, batch.salient):
        assert image.shape == (24, 1, 96, 128)
    for image in (batch.visible, batch.infrared, batch.oracle, batch.salient):
        assert image.dtype == torch.float32 and image.isfinite().all()
        assert image.min() >= 0 and image.max() <= 1
    assert len(batch) == len(batch.boxes) == len(batch.captions) == len(batch.attributes) == 24
    for boxes in batch.boxes:
        for box in boxes:
            assert box.label in ("person", "vehicle")
            assert 0 <= box.xmin < box.xmax <= 128 and 0 <= box.ymin < box.ymax <= 96


def test_worlds_are_repeatable_and_do_not_depend_on_the_batch(batch):
    again = scenes.render(24, (96, 128), seed=7)
    torch.testing.assert_close(again.visible, batch.visible, rtol=0, atol=0)
    torch.testing.assert_close(again.infrared, batch.infrared, rtol=0, atol=0)
    few = scenes.render(2, (96, 128), seed=7, start=3)
    torch.testing.assert_close(few.salient, batch.salient[3:5], rtol=0, atol=0)
    assert few.captions == batch.captions[3:5] and few.boxes == batch.boxes[3:5]
    other = scenes.render(2, (96, 128), seed=8)
    assert (other.visible - batch.visible[:2]).abs().mean() > 0.01


def test_nights_are_darker_than_days():
    night = scenes.render(24, seed=3, time="night", weather="clear", setting="street")
    day = scenes.render(24, seed=3, time="day", weather="clear", setting="street")
    assert luminance(night.visible).mean() < 0.6 * luminance(day.visible).mean()


def test_a_lamp_lights_the_front_of_what_stands_behind_it_and_the_ground_on_both_sides():
    def brightness(upright: float, lamp_depth: float) -> float:
        world = scenes._World(
            np.random.default_rng(0),
            8,
            8,
            "street",
            "night",
            "clear",
            ambient=10,
            camera=1.6,
            sun=None,
            leafy=1,
            stored=0,
            focal=8,
            horizon=4,
            center=4,
        )
        world.shade = np.zeros((8, 8), np.float32)  # no light but the lamp's
        world.depth = np.full((8, 8), 10, np.float32)
        world.upright = np.full((8, 8), upright, np.float32)
        world.lamps = [(0, lamp_depth, 5, 1, np.ones(3, np.float32))]
        return float(scenes._illuminate(world).mean())

    assert brightness(upright=1, lamp_depth=13) < 0.5 * brightness(upright=1, lamp_depth=7)
    assert brightness(upright=0, lamp_depth=13) == pytest.approx(brightness(0, 7))


def test_a_texture_far_away_shows_its_mean():
    def patch(zoom):
        return scenes._patch("rough", (64, 64), np.random.default_rng(0), zoom)

    # sixteen texels a pixel: their mean, not one of them
    assert patch(16).std() < 0.5 * patch(1).std()
    tile, half = scenes._texture("rough"), scenes._texture("rough", 1)
    assert half[3, 5] == pytest.approx(tile[6:8, 10:12].mean(), abs=1e-6)


def test_visible_and_infrared_tell_different_things():
    night = scenes.render(24, seed=3, time="night", weather="clear", setting="street")
    # warm things stand out in the infrared, not in the visible picture
    hot, cold = night.salient > 0.7, night.salient < 0.05
    gap = night.infrared[hot].mean() - night.infrared[cold].mean()
    assert gap > 0.15
    assert gap > 2 * (luminance(night.visible)[hot].mean() - luminance(night.visible)[cold].mean())


def test_smoke_hides_the_visible_picture_only():
    sharpness = {}
    for weather in ("clear", "smoke"):
        made = scenes.render(24, seed=11, time="day", setting="street", weather=weather)
        for name, image in (("vi", luminance(made.visible)), ("ir", made.infrared)):
            sharpness[weather, name] = image.diff(dim=-1).abs().mean()
    assert sharpness["smoke", "vi"] < 0.8 * sharpness["clear", "vi"]
    assert sharpness["smoke", "ir"] > 0.85 * sharpness["clear", "ir"]


def test_oracle_holds_both_sources(batch):
    hot, cold = batch.salient > 0.7, batch.salient < 0.05
    assert batch.oracle[hot].mean() > batch.oracle[cold].mean() + 0.2
    clear = scenes.render(16, seed=5, time="day", weather="clear")
    wave = [
        image - scenes.gaussian_blur(image, 2.0)
        for image in (clear.oracle, luminance(clear.visible), clear.infrared)
    ]
    toward = [torch.corrcoef(torch.stack([wave[0].flatten(), w.flatten()]))[0, 1] for w in wave[1:]]
    assert toward[0] > 0.5 and toward[0] > toward[1]  # its texture is the visible picture's


def test_boxes_hold_the_warm_pixels():
    made = scenes.render(30, seed=21, setting="street")
    inside, total = 0.0, 0.0
    for salient, boxes in zip(made.salient[:, 0], made.boxes, strict=True):
        cover = torch.zeros_like(salient)
        for box in boxes:
            cover[box.ymin : box.ymax, box.xmin : box.xmax] = 1
        inside += float((salient * cover).sum())
        total += float(salient.sum())
    assert total > 500 and inside > 0.9 * total


@pytest.mark.parametrize(
    "name,values",
    [("setting", scenes.SETTINGS), ("time", scenes.TIMES), ("weather", scenes.WEATHERS)],
)
def test_every_choice_renders_and_is_what_the_caption_says(name, values):
    for value in values:
        made = scenes.render(2, (48, 64), seed=1, **{name: value})
        assert all(facts[name] == value for facts in made.attributes)
        if name == "setting":
            assert all(value in sentence for sentence in made.captions)


def test_display_sizes_and_refusals():
    assert scenes.render(1, (480, 640), seed=2).visible.shape == (1, 3, 480, 640)
    assert scenes.render(1, (33, 47), seed=2).infrared.shape == (1, 1, 33, 47)
    for bad in ({"count": 0}, {"count": 1, "size": (16, 64)}, {"count": 1, "size": (64, 4096)}):
        with pytest.raises(ValueError, match="32 to 1024"):
            scenes.render(**bad)
    with pytest.raises(ValueError, match="weather must be one of .*'rain'"):
        scenes.render(1, weather="rain")
