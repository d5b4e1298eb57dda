"""The rendered world: temperatures, cameras, air, truth and packing; a tiny render with Mitsuba."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.world import __main__ as command
from experiments.world import (
    air,
    cameras,
    jobs,
    lamplight,
    light,
    mesh,
    noise,
    pack,
    pair,
    parallax,
    thermal,
    truth,
)
from experiments.world.part import Part
from experiments.world.renderer import Seen, vertex_normals
from experiments.world.scene import Camera
from experiments.world.sequence import Sequence
from experiments.world.worlds import Wish, draw

NIGHT = thermal.Weather(air=8.0)


def surface(kind: str, weather: thermal.Weather, sun: float = 0.0, sky: float = 0.0) -> float:
    """Temperature of one point of a kind of surface."""
    one = np.ones(1, np.float32)
    index = np.zeros(1, np.int64)
    return float(
        thermal.surface_temperature([kind], index, weather, sun * one, sky * one, 0 * one)[0][0]
    )


def test_radiance_and_apparent_temperature_are_inverse():
    celsius = np.linspace(-40, 100, 29)
    np.testing.assert_allclose(thermal.apparent(thermal.radiance(celsius)), celsius, atol=1e-3)
    assert thermal.radiance(26.85) == pytest.approx(1.0, abs=1e-5)


def test_by_night_skin_is_warmest_then_clothes_then_walls_then_a_cold_car():
    order = [surface(k, NIGHT, sky=0.5) for k in ("skin", "clothed_torso", "wall", "hood_cold")]
    assert order == sorted(order, reverse=True)
    assert surface("hood_warm", NIGHT) > surface("hood_cold", NIGHT) + 10


def test_the_sun_warms_and_a_clear_sky_cools_but_not_under_cloud():
    day = replace(NIGHT, sun=1.0)
    assert surface("road", day, sun=1.0) > surface("road", day, sun=0.0) + 10
    assert surface("grass", NIGHT, sky=1.0) < surface("grass", NIGHT, sky=0.0) - 2
    cloudy = replace(NIGHT, cloud=1.0)
    assert surface("grass", cloudy, sky=1.0) == pytest.approx(surface("grass", cloudy, sky=0.0))


def test_the_sky_is_colder_overhead_and_a_shiny_surface_looks_colder_than_it_is():
    low, high = thermal.sky_temperature(NIGHT, [0.05, 1.5])
    assert high < low - 20
    warm, full = np.full(2, 20.0, np.float32), np.ones(2, np.float32)
    seen = thermal.leaving_radiance(warm, np.array([1.0, 0.8], np.float32), full, NIGHT)
    assert thermal.apparent(seen)[0] == pytest.approx(20.0, abs=1e-3)
    assert thermal.apparent(seen)[1] < 15


def test_an_unknown_source_of_heat_is_named():
    with pytest.raises(KeyError, match=r"lava.*skin"):
        thermal.heat_of("lava")


def test_optical_depth_of_even_fog_is_extinction_times_distance(monkeypatch):
    monkeypatch.setattr(air, "fractal", lambda points, *a, **k: np.zeros(points.shape[:-1]))
    ahead = np.zeros((1, 2, 3), np.float32)
    ahead[..., 1] = 1
    depth = np.array([[10.0, 40.0]], np.float32)
    tau = air.fog_depth(air.Air(fog=0.05), (0, 0, 2), ahead, depth)
    np.testing.assert_allclose(tau / tau[0, 0], [[1, 4]], rtol=1e-6)
    assert tau[0, 0] == pytest.approx(0.05 * 10 * 1.15, rel=1e-5)
    np.testing.assert_allclose(air.transmittance(tau), np.exp(-tau))


def test_smoke_hides_what_light_shows_and_lets_the_infrared_through():
    overcast = light.random_light("overcast", np.random.default_rng(0))
    size = (12, 16)
    camera = Camera((0, 0, 1.5), (0, 10, 1.5), 40)
    rays = camera.directions(size[1], size[0])
    cloud = air.Plume((0.0, 8.0, 1.5), (4.0, 3.0, 3.0), 3.0)
    depth = np.full(size, 20.0, np.float32)
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (12, 8))
    seen, felt = air.through_air(
        air.Air(plumes=(cloud,)),
        overcast,
        camera.origin,
        rays,
        depth,
        np.repeat(stripes[..., None], 3, 2),
        stripes,
        0.5,
    )
    center = (slice(4, 8), slice(4, 12))
    assert np.ptp(seen[center][..., 1]) < 0.5
    assert np.ptp(felt[center]) > 0.7


def test_nothing_behind_the_smoke_is_changed_in_front_of_it():
    far = np.array([[5.0]], np.float32)
    ahead = np.array([[[0.0, 1.0, 0.0]]], np.float32)
    cloud = air.Plume((0.0, 30.0, 1.5), (4.0, 3.0, 3.0), 3.0)
    assert air.smoke_depth(cloud, (0, 0, 1.5), ahead, far, 1)[0, 0] == 0


def test_glow_around_a_lamp_is_the_integral_along_the_ray():
    lamp = light.Lamp((3.0, 10.0, 4.0), (1.0, 1.0, 1.0), 50.0)
    ray = np.array([[[0.0, 1.0, 0.0]]], np.float32)
    fog = 1e-6
    glow = air.lamp_glow((lamp,), (0, 0, 2), ray, np.array([[40.0]], np.float32), fog)[0, 0, 0]
    t = np.linspace(0, 40, 200001)
    squared = 3.0**2 + (t - 10) ** 2 + 2.0**2
    expected = 0.5 * fog * 50 / (4 * np.pi) * np.trapezoid(1 / squared, t)
    assert glow == pytest.approx(expected, rel=1e-3)


def test_automatic_gain_keeps_the_order_of_temperatures():
    celsius = np.sort(np.random.default_rng(0).normal(10, 4, 4000)).reshape(40, 100)
    celsius = celsius.astype(np.float32)
    for gain in ("percentile", "plateau"):
        y = cameras.automatic_gain(celsius, cameras.ThermalCamera(gain=gain)).ravel()
        assert (np.diff(y) >= -1e-6).all()
        assert y.max() - y.min() > 0.8


def test_a_scene_without_contrast_is_not_stretched_to_noise():
    flat = np.random.default_rng(0).normal(10, 0.05, (60, 80)).astype(np.float32)
    for gain in ("percentile", "plateau"):
        out = cameras.automatic_gain(flat, cameras.ThermalCamera(gain=gain, min_span=8.0))
        assert out.std() < 0.05


def test_fixed_pattern_belongs_to_the_camera_and_other_noise_to_the_frame():
    celsius = np.full((48, 64), 10.0, np.float32)
    celsius[20:30, 20:30] = 30
    still = cameras.ThermalCamera(noise=0.0, fixed=0.5)
    first, second = (cameras.sense(celsius, still, np.random.default_rng(s), 7) for s in (1, 2))
    np.testing.assert_array_equal(first, second)
    other = cameras.sense(celsius, still, np.random.default_rng(1), 8)
    assert (first != other).mean() > 0.2
    moving = replace(still, noise=0.5)
    frames = [cameras.sense(celsius, moving, np.random.default_rng(s), 7) for s in (1, 2)]
    assert (frames[0] != frames[1]).mean() > 0.2


def test_black_hot_is_the_negative():
    celsius = np.linspace(0, 30, 48 * 64, dtype=np.float32).reshape(48, 64)
    white = cameras.sense(celsius, cameras.ThermalCamera(), np.random.default_rng(1), 3)
    negative = cameras.ThermalCamera(black_hot=True)
    black = cameras.sense(celsius, negative, np.random.default_rng(1), 3)
    assert np.abs(white.astype(int) + black - 255).max() <= 1


def test_exposure_reaches_its_target_by_day_and_its_limit_by_night():
    camera = cameras.VisibleCamera(target=0.4, max_gain=20, darkest=0.0)
    day = np.full((20, 20, 3), 0.3, np.float32)
    assert cameras.exposure_gain(day, camera) * 0.3 == pytest.approx(0.4**2.2, rel=0.01)
    assert cameras.exposure_gain(day * 1e-4, camera) == 20


def test_no_night_is_so_dark_that_its_picture_is_black():
    camera = cameras.VisibleCamera(target=0.4, max_gain=20, darkest=0.12, noise=0, shot=0)
    night = np.full((20, 20, 3), 0.0003, np.float32)
    assert cameras.exposure_gain(night, camera) > 20
    assert 18 < cameras.develop(night, camera, np.random.default_rng(0)).mean() < 60


def test_hot_things_leave_the_rest_to_be_seen():
    celsius = np.full((40, 40), 10.0, np.float32)
    celsius[:4] = 90
    camera = cameras.ThermalCamera(high=99.9, middle=0.25)
    assert cameras.automatic_gain(celsius, camera)[20, 20] == pytest.approx(0.25, abs=0.01)


def test_the_camera_smooths_noise_and_keeps_edges():
    step = np.zeros((40, 40, 3), np.float32)
    step[:, 20:] = 0.8
    noisy = step + np.random.default_rng(0).normal(0, 0.05, step.shape).astype(np.float32)
    clean = cameras.denoise(noisy, 0.05 / 3**0.5, 1.0)
    assert clean[:, :15].std() < 0.6 * noisy[:, :15].std()
    assert (clean[:, 21:].mean() - clean[:, :19].mean()) > 0.75


def test_compression_changes_little_and_zero_nothing():
    picture = np.random.default_rng(0).integers(90, 120, (32, 32, 3)).astype(np.uint8)
    assert cameras.compress(picture, 0) is picture
    lossy = cameras.compress(picture, 80)
    assert 0 < np.abs(lossy.astype(int) - picture).mean() < 12


def test_black_hot_is_rare_unless_asked_for():
    rng = np.random.default_rng(0)
    assert not any(cameras.random_thermal(rng).black_hot for _ in range(50))
    assert 10 < sum(cameras.random_thermal(rng, 0.5).black_hot for _ in range(50)) < 40


def test_the_darker_the_scene_the_stronger_its_noise():
    camera = cameras.VisibleCamera(glare=0.0, vignette=0.0, sharpen=0.0)
    spread = [
        cameras.develop(
            np.full((40, 40, 3), level, np.float32), camera, np.random.default_rng(0), g
        )
        for level, g in ((0.15, 1.0), (0.0025, 60.0))
    ]
    assert spread[1].std() > 1.5 * spread[0].std()


def test_boxes_are_those_of_people_and_vehicles_with_enough_pixels():
    labels = np.zeros((30, 40), np.uint8)
    instances = np.zeros((30, 40), np.uint16)
    things = [
        ("person", slice(5, 25), slice(3, 9)),
        ("car", slice(10, 20), slice(15, 35)),
        ("person", slice(0, 2), slice(0, 3)),
    ]
    for n, (name, y, x) in enumerate(things, start=1):
        labels[y, x] = truth.label_number(name)
        instances[y, x] = n
    found = truth.boxes(labels, instances)
    assert [(b.name, b.xmin, b.ymin, b.xmax, b.ymax, b.pixels) for b in found] == [
        ("person", 3, 5, 9, 25, 120),
        ("car", 15, 10, 35, 20, 200),
    ]


def test_a_pixel_takes_the_label_of_most_of_its_subpixels():
    def part(label: str, instance: int) -> Part:
        v, f = mesh.box([1, 1, 1], [0, 0, 0])
        return Part(label, v, f, "cloth", (0, 0, 0), "skin", label, instance)

    index = np.array([[0, 0, 1, -1], [0, 1, 1, 1]], np.int32)
    zero = np.zeros((2, 4, 3), np.float32)
    seen = Seen(zero, zero, np.ones((2, 4), np.float32), index, index)
    labels, instances = truth.masks([part("person", 4), part("road", 0)], seen, 2)
    assert labels.tolist() == [[truth.label_number("person"), truth.label_number("road")]]
    assert instances.tolist() == [[4, 0]]


def oracle_example(warm: float) -> tuple[np.ndarray, np.ndarray]:
    """A gray picture and its oracle with one square thing that is ``warm`` kelvin warmer."""
    rng = np.random.default_rng(0)
    good = rng.normal(90, 6, (120, 160, 1)).clip(0, 255).repeat(3, 2).astype(np.uint8)
    celsius = rng.normal(10, 0.3, (120, 160)).astype(np.float32)
    celsius[50:75, 70:85] += warm
    camera = cameras.ThermalCamera(low=1, high=99.9)
    return good, truth.oracle(good, celsius, camera, np.ones((120, 160), bool))


def test_the_oracle_raises_warm_things_with_their_detail_and_leaves_the_rest():
    good, out = oracle_example(12.0)
    inside, outside = (slice(56, 69), slice(74, 81)), (slice(0, 30), slice(0, 160))
    assert out[inside].mean() > good[outside].mean() + 100
    assert out[inside][..., 0].std() > 1.0
    np.testing.assert_array_equal(out[outside], good[outside])


def test_the_oracle_leaves_a_picture_alone_where_nothing_is_warm():
    for warm in (0.0, -15.0):
        good, out = oracle_example(warm)
        assert (good != out).mean() < 0.001


def test_captions_say_what_a_pair_shows():
    facts = {"place": "a street", "light": "night", "air": "fog", "people": 2, "vehicles": 1}
    assert truth.caption(facts) == "a street at night in fog with two people and one vehicle"
    empty = {"place": "a park", "light": "clear", "air": "clear", "people": 0, "vehicles": 0}
    assert truth.caption(empty) == "a park in daylight, empty"


def test_boxes_and_spheres_look_outwards():
    for v, f in (mesh.box([1, 2, 3], [0, 0, 0], 0.4), mesh.sphere([0, 0, 0], 1.0)):
        n = vertex_normals(v, f)
        assert ((n * v).sum(1) > 0).mean() > 0.97
    v, f = mesh.tube([[0, 0, 0], [0, 0, 2]], 0.5, 12, caps=False)
    assert (vertex_normals(v, f)[:, :2] * v[:, :2]).sum(1).min() > 0.4


def test_a_part_with_a_wrong_mesh_or_name_is_refused():
    v, f = mesh.box([1, 1, 1], [0, 0, 0])
    with pytest.raises(ValueError, match="dot"):
        Part("a.b", v, f, "cloth", (0, 0, 0), "skin", "person")
    with pytest.raises(ValueError, match=r"\(V, 3\)"):
        Part("a", v[:, :2], f, "cloth", (0, 0, 0), "skin", "person")


def test_solid_noise_is_repeatable_and_fades_where_pixels_are_coarse():
    points = np.random.default_rng(0).uniform(0, 50, (500, 3))
    a, b = (noise.fractal(points, 0.1, seed=s) for s in (3, 4))
    np.testing.assert_array_equal(a, noise.fractal(points, 0.1, seed=3))
    assert np.abs(np.corrcoef(a, b)[0, 1]) < 0.2
    coarse = noise.fractal(points, 0.1, seed=3, footprint=np.full(500, 1.0))
    assert np.abs(coarse).max() < 1e-6


def test_a_street_lamp_shines_down_and_not_sideways():
    lamp = light.Lamp((0, 0, 6), (1, 1, 1), 10.0, cutoff=70)
    down, aside = lamplight.beam(lamp, np.array([[0, 0, -1], [1, 0, 0]], np.float32))
    assert (down, aside) == (1.0, 0.0)


def test_coded_depth_and_temperature_come_back_within_their_step():
    meters = np.geomspace(0.6, 500, 300)
    back = pack.decode_depth(pack.code_depth((meters * 100).round().astype(np.int64)))
    np.testing.assert_allclose(back, meters, rtol=0.025)
    assert np.isinf(pack.decode_depth(pack.code_depth(np.array([pair.SKY])))).all()
    celsius = np.linspace(-29, 46, 200).astype(np.float32)
    stored = pair.encode_temperature(celsius)
    decoded = pack.decode_temperature(pack.code_temperature(stored))
    np.testing.assert_allclose(decoded, celsius, atol=0.17)


def made_up_pair() -> pair.Pair:
    """A pair of noise with one person in it, as the renderer would give it."""
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 255, (48, 64)).astype(np.uint8)
    color = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
    labels, instances = np.zeros((48, 64), np.uint8), np.zeros((48, 64), np.uint16)
    labels[10:30, 20:30], instances[10:30, 20:30] = truth.label_number("person"), 1
    boxes = [{"name": "person", "instance": 1, "xmin": 20, "ymin": 10, "xmax": 30, "ymax": 30}]
    facts = {
        "layout": "street",
        "light": "night",
        "air": "clear",
        "people": 1,
        "vehicles": 0,
        "height": 2.0,
        "size": [64, 48],
        "seed": 1,
        "index": 0,
        "boxes": boxes,
        "caption": "a street at night with one person",
        "cameras": {},
        "seconds": 3.0,
    }
    depth = np.full((48, 64), 12.0, np.float32)
    return pair.Pair(gray, color, color, labels, instances, depth, depth, facts)


def test_packing_writes_pictures_boxes_facts_and_a_card(tmp_path):
    for name in ("train", "test"):
        pair.write_pair(made_up_pair(), tmp_path / name, "0000")
    total = pack.pack(tmp_path / "train", tmp_path / "test", tmp_path / "out")
    out = tmp_path / "out"
    assert total == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    for kind, ending in (
        ("ir", "jpg"),
        ("vi", "jpg"),
        ("oracle", "jpg"),
        ("labels", "png"),
        ("instances", "png"),
        ("depth", "png"),
        ("temperature", "png"),
    ):
        assert (out / "train" / kind / f"0000.{ending}").exists()
    with open(out / "test" / "boxes.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["image", "xmin", "ymin", "xmax", "ymax", "name"],
            ["0000.jpg", "20", "10", "30", "30", "person"],
        ]
    assert json.loads((out / "card.json").read_text())["sets"]["train"]["people"] == 1
    assert "--seed 1 --size 64x48" in (out / "README.md").read_text()


def test_sequences_and_pairs_side_by_side_are_packed_without_what_they_do_not_need(tmp_path):
    for name in ("train", "test", "sequence"):
        pair.write_pair(made_up_pair(), tmp_path / name, "0000")
    made, flow = made_up_pair(), np.full((48, 64, 2), -3.5, np.float32)
    parallax.write_side_by_side(made, made.infrared, flow, tmp_path / "parallax", "0000")
    folders = [tmp_path / name for name in ("train", "test", "out", "sequence", "parallax")]
    pack.pack(*folders)
    out = tmp_path / "out"
    assert {p.name for p in (out / "sequence").iterdir()} == {
        "vi",
        "ir",
        "instances",
        "boxes.csv",
        "facts.json",
    }
    assert (out / "parallax" / "ir_warp" / "0000.jpg").exists()
    with np.load(out / "parallax" / "flow" / "0000.npz") as file:
        np.testing.assert_array_equal(file["flow"], flow)
    assert "parallax --set parallax --count 1" in (out / "README.md").read_text()


def test_packing_nothing_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="render the set first"):
        pack.pack(tmp_path, tmp_path, tmp_path / "out")


def test_packing_refuses_more_than_may_ship(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LIMIT", 1000)
    for name in ("train", "test"):
        pair.write_pair(made_up_pair(), tmp_path / name, "0000")
    with pytest.raises(ValueError, match="fewer pairs"):
        pack.pack(tmp_path / "train", tmp_path / "test", tmp_path / "out")


def test_pairs_that_are_there_are_not_rendered_again(tmp_path, monkeypatch, capsys):
    pair.write_pair(made_up_pair(), tmp_path, "0001")
    done = []

    def fake(folder, seed, index, *rest):
        done.append(index)
        return 0.1

    monkeypatch.setattr(jobs, "render_one", fake)
    arguments = ["render", "--set", "x", "--out", str(tmp_path), "--count", "3", "--size", "64x48"]
    assert command.main(arguments) == 0
    assert done == [0, 2]
    assert "1 of 3 are there" in capsys.readouterr().out


def test_a_failed_pair_is_named_and_gives_a_non_zero_exit(tmp_path, monkeypatch, capsys):
    def fake(folder, seed, index, *rest):
        if index == 1:
            raise ValueError("something broke")
        return 0.1

    monkeypatch.setattr(jobs, "render_one", fake)
    arguments = ["render", "--set", "x", "--out", str(tmp_path), "--count", "3"]
    assert command.main(arguments) == 1
    assert "0001 failed: ValueError: something broke" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["320", "320x241", "16x16", "axb"])
def test_a_wrong_size_is_refused(text):
    with pytest.raises(SystemExit):
        command.main(["render", "--set", "x", "--size", text])


def test_the_same_seed_gives_the_same_scene_and_another_another():
    first, second, other = (draw(5, i, Wish("street", "night", "clear")) for i in (0, 0, 1))
    assert len(first.parts) == len(second.parts)
    for a, b in zip(first.parts, second.parts, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)
        assert (a.material, a.color, a.heat, a.label) == (b.material, b.color, b.heat, b.label)
    assert (first.camera, first.light, first.weather) == (
        second.camera,
        second.light,
        second.weather,
    )
    assert first.camera != other.camera


@pytest.mark.slow
def test_a_tiny_render_has_people_warmer_than_the_road_and_a_truth_that_fits():
    pytest.importorskip("mitsuba", reason="Mitsuba is not installed: pip install -e '.[world]'")
    from experiments.world.pair import BlockedView, render_pair

    for attempt in range(8):
        scene = draw(4, 0, Wish("crossing", "night", "clear"), attempt)
        try:
            made = render_pair(scene, 128, 96, samples=1)
        except BlockedView:
            continue
        person = made.labels == truth.label_number("person")
        if person.sum() > 25:
            break
    else:
        pytest.fail("no scene of eight shows a person")
    road = made.labels == truth.label_number("road")
    assert made.visible.shape == (96, 128, 3) and made.infrared.shape == (96, 128)
    assert made.temperature[person].mean() > made.temperature[road].mean() + 3
    assert made.infrared[person].mean() > made.infrared[road].mean()
    assert np.isinf(made.depth).any()  # depth is that of the nearest subpixel
    assert (made.labels[np.isinf(made.depth)] == truth.label_number("sky")).all()
    assert (made.labels[made.instances > 0] != truth.label_number("sky")).all()
    assert {b["name"] for b in made.facts["boxes"]} <= set(truth.BOXED)
    again = render_pair(scene, 128, 96, samples=1)
    np.testing.assert_array_equal(made.infrared, again.infrared)
    assert np.abs(made.visible.astype(int) - again.visible).mean() < 1


def test_displacement_between_two_cameras_is_that_of_the_projected_point():
    camera = Camera((1.0, -2.0, 1.7), (0.0, 8.0, 1.2), 50.0)
    point = np.array([0.4, 6.0, 1.0])
    width, height = 200, 150

    def project(c: Camera) -> tuple[np.ndarray, float]:
        x, y, z = c.axes() @ (point - np.array(c.origin))
        focal = (width / 2) / np.tan(np.radians(c.fov) / 2)
        return np.array([focal * x / z, -focal * y / z]), float(np.hypot(np.hypot(x, y), z))

    (here, far), (there, _) = project(camera), project(camera.moved(0.3))
    middle = np.array([width / 2, height / 2])
    column, row = (here + middle).astype(int)
    flow = parallax.displacement(camera, np.full((height, width), far, np.float32), 0.3)
    np.testing.assert_allclose(flow[row, column], there - here, atol=0.05)
    sky = parallax.displacement(camera, np.full((height, width), np.inf, np.float32), 0.3)
    assert not sky.any()


def test_in_a_sequence_people_and_the_car_move_and_nothing_else():
    frames = Sequence(2, "night", walkers=2)
    first, later = frames.frame(0), frames.frame(10)
    assert first.fixed == later.fixed == len(frames.still)
    assert first.parts[: first.fixed] == later.parts[: later.fixed]
    assert first.camera == later.camera and first.seed == later.seed
    for scene in (first, later):
        assert {p.label for p in scene.parts[scene.fixed :]} == {"person", "car"}
    walker = frames.walkers[0]
    start, end = walker.at(0.0)[0], walker.at(1.0)[0]
    assert np.hypot(end[0] - start[0], end[1] - start[1]) == pytest.approx(walker.speed)
    cars = [[p for p in s.parts[s.fixed :] if p.label == "car"] for s in (first, later)]
    moved = cars[1][0].vertices.mean(0) - cars[0][0].vertices.mean(0)
    assert np.linalg.norm(moved) == pytest.approx(frames.speed, rel=0.01)


SHIPPED = Path(pack.__file__).parents[2] / "ldf_utils" / "data" / "rendered"


@pytest.mark.parametrize(
    ("name", "count", "size"), [("train", 64, (320, 240)), ("test", 24, (640, 480))]
)
def test_the_set_that_ships_is_whole(name, count, size):
    folder = SHIPPED / name
    facts = json.loads((folder / "facts.json").read_text())
    names = {f["name"] for f in facts}
    assert len(names) == count
    for kind in ("ir", "vi", "oracle", "labels", "instances", "depth", "temperature"):
        files = list((folder / kind).iterdir())
        assert {p.stem for p in files} == names, kind
        with Image.open(files[0]) as image:
            assert image.size == size
    dark = sum(f["light"] in ("night", "dusk", "indoor") for f in facts)
    assert 0.4 < dark / count < 0.75
    assert sum(p.stat().st_size for p in SHIPPED.rglob("*") if p.is_file()) <= pack.LIMIT


def test_boxes_of_the_set_that_ships_hold_what_they_name():
    folder = SHIPPED / "test"
    with open(folder / "boxes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 100
    for row in rows:
        with Image.open(folder / "labels" / row["image"].replace(".jpg", ".png")) as image:
            labels = np.asarray(image)
        box = [int(row[k]) for k in ("xmin", "ymin", "xmax", "ymax")]
        inside = labels[box[1] : box[3], box[0] : box[2]]
        assert inside.size and 0 <= box[0] < box[2] <= 640 and 0 <= box[1] < box[3] <= 480
        assert (inside == truth.label_number(row["name"])).sum() >= 20


def test_people_of_the_set_that_ships_are_warm():
    folder = SHIPPED / "test"
    person, excess = truth.label_number("person"), []
    for path in sorted((folder / "labels").iterdir()):
        with Image.open(path) as image, Image.open(folder / "temperature" / path.name) as heat:
            labels, celsius = np.asarray(image), pack.decode_temperature(np.asarray(heat))
        if (labels == person).sum() > 200:
            road = np.isin(labels, [truth.label_number(k) for k in ("road", "floor", "ground")])
            excess.append(celsius[labels == person].mean() - celsius[road].mean())
    assert len(excess) > 8
    assert np.median(excess) > 5
