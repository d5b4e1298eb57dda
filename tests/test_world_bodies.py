"""Meshes of people and vehicles: measures, ground contact, validity and determinism."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from experiments.world.part import Part
from experiments.world.people.look import Look, sample_look
from experiments.world.people.person import build_person, named_pose
from experiments.world.people.skeleton import Build, solve
from experiments.world.surface import Field, Loft, ball, rod
from experiments.world.vehicles.cycles import contacts
from experiments.world.vehicles.vehicle import KINDS, build_vehicle

POSES = (
    "walking",
    "walking:umbrella",
    "walking:child",
    "standing:phone",
    "standing:crossed",
    "sitting",
    "riding:bicycle",
    "riding:motorcycle",
)
DETAIL = 0.45
SIZES = {  # length, width, height in meters: least and most
    "hatchback": ((3.8, 4.4), (1.9, 2.2), (1.4, 1.6)),
    "sedan": ((4.4, 4.9), (1.9, 2.2), (1.35, 1.55)),
    "suv": ((4.3, 4.9), (1.9, 2.3), (1.6, 1.8)),
    "wagon": ((4.4, 4.9), (1.9, 2.2), (1.4, 1.6)),
    "van": ((4.8, 5.6), (2.0, 2.4), (1.9, 2.3)),
    "minibus": ((4.7, 5.4), (2.0, 2.4), (1.8, 2.1)),
    "truck": ((6.5, 8.0), (2.3, 2.9), (3.0, 3.6)),
    "bus": ((11.0, 12.2), (2.5, 3.1), (2.9, 3.4)),
    "bicycle": ((1.6, 1.9), (0.5, 0.7), (0.95, 1.15)),
    "motorcycle": ((1.6, 2.1), (0.6, 0.9), (1.0, 1.4)),
}


def bounds(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest corner of all vertices."""
    points = np.concatenate([part.vertices for part in parts])
    return points.min(0), points.max(0)


def check_parts(parts: list[Part], label: str) -> None:
    """Check that every mesh is finite, its faces valid, and its attributes fit."""
    names = [part.name for part in parts]
    assert len(set(names)) == len(names), "names must be unique"
    for part in parts:
        assert part.label == label and part.instance == 7
        assert part.vertices.dtype == np.float32 and part.faces.dtype == np.int32
        assert len(part.faces) > 0, part.name
        assert np.isfinite(part.vertices).all(), part.name
        assert part.faces.min() >= 0 and part.faces.max() < len(part.vertices), part.name
        assert all(0 <= value <= 1 for value in part.color), part.name
        if part.vertex_color is not None:
            assert part.vertex_color.shape == part.vertices.shape
            assert part.vertex_color.min() >= 0 and part.vertex_color.max() <= 1
        if part.vertex_heat is not None:
            assert part.vertex_heat.shape == (len(part.vertices),)
            assert np.abs(part.vertex_heat).max() < 40


@pytest.mark.parametrize("pose", POSES)
def test_person_is_a_valid_mesh_of_human_size(pose: str) -> None:
    look = sample_look(np.random.default_rng(3), child=False)
    rng = np.random.default_rng(0)
    parts = build_person(rng, pose, look=look, instance=7, detail=DETAIL)
    check_parts(parts, "person")
    low, high = bounds([part for part in parts if "umbrella" not in part.name])
    assert (high - low)[:2].max() < 1.6
    assert 1.0 < high[2] < 2.2
    heats = {part.heat for part in parts}
    assert {"skin", "clothed_torso", "shoe"} <= heats


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pose", ["walking", "standing", "sitting"])
def test_feet_stand_on_the_ground(pose: str, seed: int) -> None:
    parts = build_person(np.random.default_rng(seed), pose, detail=DETAIL)
    shoes, _ = bounds([part for part in parts if "shoe" in part.name])
    assert abs(shoes[2]) < 0.025
    assert bounds(parts)[0][2] > -0.03


@pytest.mark.parametrize("height", [1.1, 1.5, 1.75, 1.95])
def test_height_is_that_of_the_build(height: float) -> None:
    look = sample_look(np.random.default_rng(5), child=False)
    look = dataclasses.replace(
        look, build=Build(height), hair_style="crop", headwear="none", carried="none"
    )
    parts = build_person(np.random.default_rng(0), "standing:relaxed", look=look, detail=0.7)
    low, high = bounds(parts)
    assert high[2] - low[2] == pytest.approx(height, abs=0.045)


def test_sampled_heights_cover_children_and_adults() -> None:
    rng = np.random.default_rng(0)
    children = [sample_look(rng, child=True).build.height for _ in range(60)]
    adults = [sample_look(rng, child=False).build.height for _ in range(200)]
    assert 1.1 <= min(children) and max(children) <= 1.5
    assert 1.5 <= min(adults) < 1.6 and 1.85 < max(adults) <= 1.95


def test_same_seed_gives_the_same_person_and_another_seed_another() -> None:
    first, again, other = (
        build_person(np.random.default_rng(seed), "walking", detail=DETAIL) for seed in (4, 4, 5)
    )
    assert [part.name for part in first] == [part.name for part in again]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)
        np.testing.assert_array_equal(a.faces, b.faces)
        assert a.color == b.color
    assert len(np.concatenate([p.vertices for p in first])) != len(
        np.concatenate([p.vertices for p in other])
    )


def test_step_cycle_moves_opposite_legs_and_closes() -> None:
    look = Look(Build(1.75))
    feet = []
    for phase in (0.0, 0.5, 1.0):
        rng = np.random.default_rng(0)
        bones = solve(look.build, named_pose(rng, "walking", look, phase))
        feet.append([bones[f"foot/{side}"].origin[0] for side in ("left", "right")])
    assert feet[0][0] > 0.2 and feet[0][1] < -0.1
    assert feet[1][1] > 0.2 and feet[1][0] < -0.1
    np.testing.assert_allclose(feet[0], feet[2], atol=1e-5)


def test_bones_keep_their_lengths_in_every_pose() -> None:
    look = Look(Build(1.7))
    for pose in POSES:
        bones = solve(look.build, named_pose(np.random.default_rng(0), pose, look, 0.3))
        for name, size in look.build.lengths.items():
            for side in ("left", "right"):
                bone = bones.get(f"{name}/{side}")
                if bone is not None:
                    assert bone.length == pytest.approx(size), (pose, name)
        for side in ("left", "right"):
            gap = bones[f"thigh/{side}"].end - bones[f"shin/{side}"].origin
            assert np.linalg.norm(gap) < 1e-4
            for bone in (bones[f"thigh/{side}"], bones[f"forearm/{side}"]):
                np.testing.assert_allclose(bone.frame.T @ bone.frame, np.eye(3), atol=1e-4)


@pytest.mark.parametrize("kind", ["bicycle", "motorcycle"])
def test_rider_sits_on_the_saddle_and_holds_the_grips(kind: str) -> None:
    look = Look(Build(1.72))
    bones = solve(look.build, named_pose(np.random.default_rng(0), f"riding:{kind}", look, 0.0))
    touch = contacts(kind)
    assert np.linalg.norm(bones["pelvis"].origin - touch.saddle) < 0.12
    for i, side in enumerate(("left", "right")):
        assert np.linalg.norm(bones[f"hand/{side}"].origin - touch.grips[i]) < 0.12


def test_heading_turns_and_position_moves() -> None:
    look = sample_look(np.random.default_rng(1), child=False)
    rng = np.random.default_rng(0)
    plain = build_person(rng, "walking", look=look, phase=0.1, detail=DETAIL)
    rng = np.random.default_rng(0)
    turned = build_person(
        rng,
        "walking",
        look=look,
        phase=0.1,
        detail=DETAIL,
        position=(2.0, -1.0, 0.3),
        heading=np.pi / 2,
    )
    for a, b in zip(plain, turned, strict=True):
        expected = np.stack([-a.vertices[:, 1], a.vertices[:, 0], a.vertices[:, 2]], 1)
        np.testing.assert_allclose(b.vertices, expected + np.array([2.0, -1.0, 0.3]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_vehicle_is_a_valid_mesh_of_its_size_on_the_ground(kind: str) -> None:
    parts = build_vehicle(np.random.default_rng(2), kind, instance=7, running=True, detail=0.6)
    label = {"bus": "bus", "truck": "truck"}.get(kind, kind)
    label = "car" if SIZES[kind][0][1] < 6 and kind not in ("bicycle", "motorcycle") else label
    check_parts(parts, label)
    low, high = bounds(parts)
    for axis, (least, most) in enumerate(SIZES[kind]):
        assert least <= (high - low)[axis] <= most, axis
    tires = next(part for part in parts if part.name.endswith("_tires"))
    assert abs(tires.vertices[:, 2].min()) < 0.01
    assert low[2] > -0.01


@pytest.mark.parametrize("kind", ["sedan", "motorcycle", "truck"])
def test_running_engine_warms_hood_tires_and_exhaust(kind: str) -> None:
    cold, warm = (
        {p.heat for p in build_vehicle(np.random.default_rng(2), kind, running=on, detail=0.5)}
        for on in (False, True)
    )
    assert {"tire", "exhaust", "hood_warm"} <= warm
    assert not {"tire", "exhaust", "hood_warm"} & cold


def test_lights_shine_only_when_they_are_on() -> None:
    dark, lit = (
        {p.material for p in build_vehicle(np.random.default_rng(2), "suv", lights=on, detail=0.5)}
        for on in (False, True)
    )
    assert {"headlamp_on", "taillamp_on"} <= lit
    assert not {"headlamp_on", "taillamp_on"} & dark


def test_same_seed_gives_the_same_vehicle() -> None:
    first, again = (build_vehicle(np.random.default_rng(9), "car", detail=0.5) for _ in range(2))
    assert [p.color for p in first] == [p.color for p in again]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)


def test_unknown_names_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="pose must be"):
        build_person(rng, "flying")
    with pytest.raises(ValueError, match="kind must be"):
        build_vehicle(rng, "tram")
    with pytest.raises(ValueError, match="detail must be > 0"):
        build_vehicle(rng, "sedan", detail=0)


def test_meshes_of_solids_look_outward_and_have_the_right_volume() -> None:
    solids: list[tuple[Loft, float]] = [
        (ball((0.1, 0.0, 0.2), (0.2, 0.2, 0.2)), 4 / 3 * np.pi * 0.2**3),
        (
            rod(np.zeros(3, np.float32), np.array([0, 0, 0.5], np.float32), 0.1, 0.1),
            np.pi * 0.1**2 * 0.5 + 4 / 3 * np.pi * 0.1**3,
        ),
    ]
    for solid, expected in solids:
        vertices, faces = Field.around([solid], 0.012).add(solid, 0).mesh()
        a, b, c = (vertices[faces[:, i]].astype(float) for i in range(3))
        volume = np.einsum("fi,fi->", a, np.cross(b, c)) / 6
        assert volume == pytest.approx(expected, rel=0.04)


def test_glasses_thinner_than_a_cell_are_left_out() -> None:
    look = dataclasses.replace(sample_look(np.random.default_rng(0)), glasses=True)
    found = []
    for detail in (1.0, 0.25):
        parts = build_person(
            np.random.default_rng(0), "standing", look=look, instance=7, detail=detail
        )
        check_parts(parts, "person")
        found.append(any("glasses" in part.name for part in parts))
    assert found == [True, False]
