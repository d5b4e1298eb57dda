import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import robustness
from experiments.robustness import ADVERSARIAL, RobustnessSettings
from ldf_utils.data.images import write_image

TINY = RobustnessSettings(steps=3, crops=2, side=64, patches=2)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report on scenes and on two pairs of a set, and its folder."""
    folder, generator = tmp_path_factory.mktemp("robustness"), torch.Generator().manual_seed(3)
    for k in range(2):
        for kind in ("ir", "vi"):
            soft = torch.rand(1, 1, 9, 12, generator=generator)
            image = torch.nn.functional.interpolate(soft, (72, 96), mode="bicubic").clamp(0, 1)
            write_image(image[0], folder / "data" / "Some" / kind / f"{k}.png")
    settings = replace(TINY, data=str(folder / "data"))
    return robustness.run_robustness(settings, folder / "out"), folder / "out"


def test_the_report_has_images_numbers_and_outcomes(report):
    content, folder = report
    assert json.loads((folder / "robustness.json").read_text()) == content
    assert content["settings"]["data"] == ["Some"]
    assert list(content["places"]) == ["scenes", "pairs"]
    for place, found in content["places"].items():
        rated = found["rated"]
        assert set(ADVERSARIAL) < set(rated) and found["pictures"] == 2
        assert ("true fusion" in rated) == (place == "scenes")
        assert rated["free pixels"]["direction"] < rated["average"]["direction"]
        assert 0 <= rated["free decoder"]["damaged"] <= 1
        assert set(found["outcomes"]) == set(ADVERSARIAL)
        with Image.open(folder / f"images_{place}.png") as sheet:
            assert sheet.format == "PNG" and min(sheet.size) > 200


def test_negatives_are_kept_as_bytes(report):
    _, folder = report
    with np.load(folder / "negatives.npz") as kept:
        assert kept["pictures"].shape == (8, 64, 64) and kept["pictures"].dtype == np.uint8
        assert len(set(kept["names"].tolist())) == 8
        assert kept["names"][0].startswith("scenes/rendered/")
    assert not list(folder.glob(".*")), "a temporary file is left"


@pytest.mark.parametrize(
    ("loss", "damaged", "outcome"),
    [
        (0.1, 0.2, robustness.FOOLED),
        (0.1, 0.8, robustness.RECOGNIZED),
        (0.3, 0.0, robustness.RESISTED),
        (0.3, 1.0, robustness.RESISTED),
    ],
)
def test_the_outcome_follows_from_loss_and_damage(loss, damaged, outcome):
    assert robustness._outcome(loss, 0.3, damaged) == outcome


def test_command_line(tmp_path, capsys):
    small = ["--steps", "1", "--crops", "2", "--side", "64", "--patches", "1"]
    assert robustness.main([*small, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("L_dir") == 2 and "scenes, free decoder" in printed
    for wrong, words in (
        (["--side", "65"], "side must be even"),
        (["--data", "nowhere"], "nowhere"),
    ):
        assert robustness.main([*small, *wrong, "--output", str(tmp_path)]) == 1
        assert words in capsys.readouterr().err
