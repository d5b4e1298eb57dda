"""The calibration of the embedded CLIP between infrared and visible."""

import json
import shutil

import numpy as np
import pytest
import torch
from rendered_helpers import write_crops

from experiments.embedded_clip import calibration
from experiments.embedded_clip.__main__ import main
from experiments.embedded_clip.card import write_card
from ldf_utils.clip.attributes import attribute_scores
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.clip.model import PROMPTS


def test_the_direction_moves_infrared_against_visible_and_nothing_else():
    clip = load_clip("mini")
    direction, way = calibration.modality_direction(clip)
    step = torch.from_numpy(way)[None].float()
    visible, infrared, target = clip.encode_text(list(PROMPTS))
    assert direction @ way == pytest.approx(1, abs=1e-6)
    assert (step @ (infrared - visible)).item() == pytest.approx(1, abs=1e-4)
    assert (step @ (target - (infrared + visible) / 2)).item() == pytest.approx(0, abs=1e-4)
    assert attribute_scores(clip, step, "infrared").item() == pytest.approx(1, abs=1e-4)
    for name in ("salient", "people", "dark", "noisy", "fused", "room"):
        assert attribute_scores(clip, step, name).item() == pytest.approx(0, abs=1e-4), name
    assert np.linalg.norm(way) < 10, "it moves pictures far aside for a small change"


def test_the_shift_is_found_where_it_was_put():
    """Two clouds that part at -0.2 along the first axis; the rest is noise."""
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 0.02, (200, 7, 2, 16))
    raw[..., 1] += 1.0
    raw[:, :, 0, 0] += -0.2 + rng.normal(0.3, 0.05, (200, 7))
    raw[:, :, 1, 0] += -0.2 - rng.normal(0.3, 0.05, (200, 7))
    axis = np.eye(16)[0]
    found = calibration.best_shift({"one": raw, "same": raw}, axis, axis, 30.0)
    assert found == pytest.approx(0.2, abs=0.02)
    again = calibration.best_shift({"one": raw + found * axis}, axis, axis, 30.0)
    assert again == pytest.approx(0, abs=0.01), "a second time changes nothing"


def test_the_command_moves_one_bias_and_says_what_it_did(tmp_path, capsys):
    folder = shutil.copytree(MINI_FOLDER, tmp_path / "clip")
    record = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps(record | {"calibration": None}))
    (write_crops(tmp_path / "real" / "crops", 3, (96, 128)).folder).rename(
        tmp_path / "real" / "M3SVD"
    )
    before = load_clip(folder).model.state_dict()
    assert main(["calibrate", "--folder", str(folder), "--real", str(tmp_path / "real")]) == 0
    after = load_clip(folder).model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"visual.attnpool.c_proj.bias"}
    found = json.loads((folder / "training.json").read_text())["calibration"]
    assert found["sets"]["M3SVD"] == 3 and set(found["before"]) == {"rendered", "M3SVD"}
    assert abs(found["elsewhere"]) < 0.02
    assert f"gains {found['shift']:.3f}" in write_card(folder).read_text()


def test_a_set_that_shipped_weights_may_not_see_is_refused(tmp_path, capsys):
    folder = shutil.copytree(MINI_FOLDER, tmp_path / "clip")
    write_crops(tmp_path / "real" / "TNO", 2, (96, 128))
    before = (folder / "open_clip_model.safetensors").read_bytes()
    assert main(["calibrate", "--folder", str(folder), "--real", str(tmp_path / "real")]) == 1
    assert "found a set named TNO" in capsys.readouterr().err
    assert (folder / "open_clip_model.safetensors").read_bytes() == before
