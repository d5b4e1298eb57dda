"""The pool of rendered worlds that the embedded CLIP is trained on."""

import json

import numpy as np
import pytest

pytest.importorskip("mitsuba")

from experiments.embedded_clip import pool
from experiments.embedded_clip.packing import view_paths
from experiments.world.renderer import Renderer
from experiments.world.worlds import LAYOUTS, Wish, draw


def test_all_layouts_come_in_turn_and_about_half_of_the_worlds_at_night():
    wishes = [pool.wish(index) for index in range(320)]
    assert {w.layout for w in wishes} == set(LAYOUTS)
    outdoors = [w.kind for w in wishes if w.layout != "indoor"]
    assert outdoors.count("night") == pytest.approx(len(outdoors) / 2, rel=0.02)
    for layout in set(LAYOUTS) - {"indoor"}:
        kinds = {w.kind for w in wishes if w.layout == layout}
        assert kinds == {"night", "clear", "overcast", "dusk"}, layout


def test_a_camera_in_a_wall_or_behind_one_does_not_stand_well():
    scene = draw(16, 2, Wish(layout="parking", kind="overcast", air="clear"))
    renderer = Renderer(scene.parts, sun=False)
    assert pool.stands_well(scene, renderer, scene.camera)
    building = next(p for p in scene.parts if p.label == "building" and np.ptp(p.vertices) > 5)
    middle = (building.vertices.min(0) + building.vertices.max(0)) / 2
    origin = (float(middle[0]), float(middle[1]), 1.7)
    blocked = pool.Camera(origin, scene.camera.origin, 50.0)
    assert not pool.stands_well(scene, renderer, blocked)


def test_a_world_is_rendered_once_and_its_views_agree(tmp_path, capsys):
    config = pool.PoolConfig(views=2, size=(64, 48), samples=1, oracles=1.0)
    assert pool.missing(tmp_path, 2) == [0, 1]
    with pytest.raises(FileNotFoundError, match="no complete world"):
        view_paths(tmp_path)
    pool.render_world(tmp_path, 1, config)
    paths = view_paths(tmp_path)
    assert pool.missing(tmp_path, 2) == [0] and 1 <= len(paths) <= 2
    assert pool.missing(tmp_path, 3, first=1) == [2, 3]
    for path in paths:
        with np.load(path) as view:
            facts = json.loads(str(view["facts"]))
            assert {view[name].shape[:2] for name in pool.ARRAYS} == {(48, 64)}
            assert view["oracle"].shape == (48, 64) and view["radiance"].dtype == np.float16
            assert np.isfinite(view["radiance"]).all() and view["radiance"].min() >= 0
            seen = {box["instance"] for box in facts["boxes"]}
            assert seen <= set(np.unique(view["instances"]).tolist())
            assert facts["light"] == "night"
    with np.load(paths[0]) as view:
        first = {name: view[name] for name in pool.ARRAYS}
    pool.render_world(tmp_path / "again", 1, config)
    with np.load(view_paths(tmp_path / "again")[0]) as view:
        for name in ("labels", "instances"):
            assert np.array_equal(first[name], view[name]), name
