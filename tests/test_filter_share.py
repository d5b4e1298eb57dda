"""The share of patches that each rule keeps: known pictures, and the command."""

import pytest
import torch

from experiments.ablation import filter_share
from experiments.ablation.filter_share import FILTERS, measure_share
from ldf_utils.data.images import write_image
from ldf_utils.data.pairs import PairFolder


@pytest.fixture
def folder(tmp_path, generator):
    """Two pairs: rich in both, and rich in the visible picture only."""
    for name, levels in (("rich", 1.0), ("dim", 0.05)):
        infrared = levels * torch.rand(1, 140, 150, generator=generator)
        write_image(infrared, tmp_path / "Some" / "ir" / f"{name}.png")
        picture = torch.rand(1, 140, 150, generator=generator)
        write_image(picture, tmp_path / "Some" / "vi" / f"{name}.png")
    return tmp_path


def test_the_shares_are_those_of_the_pictures(folder):
    found = measure_share("Some", PairFolder(folder / "Some"), 128, crops=1, patches=4)
    assert (found.pairs, found.crop) == (2, 128) and found.kept.keys() == FILTERS.keys()
    assert found.kept["bits > 6, both"] == found.kept["bits > 6, infrared"] == 0.5
    assert found.kept["bits > 6, visible"] == found.kept["none"] == 1
    assert found.kept["upper half"] == 0.5
    assert found.kept["normalized > 6, both"] == 1.0, "views between 13 levels, stretched"
    assert 3 < found.bits[0] < 8 and found.bits[1] > 6


def test_the_command_writes_a_table_and_names_what_is_wrong(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(filter_share, "RENDERED", folder / "none")
    monkeypatch.setattr(filter_share, "CROPS", {128: 32})
    (folder / "none").mkdir()
    (folder / "Some").rename(folder / "none" / "train")
    out = tmp_path / "shares.csv"
    assert filter_share.main(["--pairs", "1", "--csv", str(out)]) == 0
    text = capsys.readouterr().out
    assert "| rendered | 1 | 128 |" in text and out.read_text().startswith("set,pairs,crop")
    assert filter_share.main(["--pairs", "0"]) == 1
    assert "--pairs must be >= 1, got 0" in capsys.readouterr().err
    assert filter_share.main(["--data", str(folder / "nowhere")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
