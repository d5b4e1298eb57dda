"""A smaller network taught by a larger one: it comes nearer to its teacher, and is measured."""

from __future__ import annotations

import csv

import pytest
import torch

from experiments import student
from ldf_utils.data.images import write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.sets import RENDERED
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.fusion import rules
from ldf_utils.metrics import USUAL
from ldf_utils.networks import checkpoint
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import load_network


@pytest.fixture
def teacher():
    """A network whose pictures are brighter and flatter than those of an untrained one."""
    torch.manual_seed(5)
    network = BoundedFusionNetwork(2).eval().requires_grad_(False)
    network.tone_head.bias.copy_(torch.tensor([-0.8, 0.6]))
    return network


def test_the_distance_against_a_loop(generator):
    first, second = torch.rand(2, 2, 1, 5, 6, generator=generator)
    error = (first - second).double()
    rows = [(error[..., i + 1, :] - error[..., i, :]).abs() for i in range(4)]
    columns = [(error[..., i + 1] - error[..., i]).abs() for i in range(5)]
    expected = error.abs().mean() + 3 * (torch.stack(rows).mean() + torch.stack(columns).mean())
    found = student.distance(first, second, 3.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_student_comes_nearer_to_its_teacher(teacher):
    pairs = PairFolder(RENDERED / "train")[:2]
    examples = student.taught(teacher, pairs)
    assert examples[0].shape == (3, *pairs[0].size)
    infrared, visible, fused = examples[1][None].split(1, dim=1)
    torch.testing.assert_close(teacher(infrared, visible), fused)
    config = student.StudentConfig(width=2, steps=15, batch=2, crop=64, learning_rate=0.05)
    made, losses = student.distill(examples, config)
    assert not made.training and made.arguments["width"] == 2 and len(losses) == 15
    again, same = student.distill(examples, config)
    assert losses == same
    with torch.no_grad():
        torch.testing.assert_close(again(infrared, visible), made(infrared, visible))
        torch.manual_seed(config.seed)
        before = student.distance(BoundedFusionNetwork(2)(infrared, visible), fused, 2.0)
        assert student.distance(made(infrared, visible), fused, 2.0) < 0.5 * before


def test_the_command_writes_a_network_and_how_it_was_made(tmp_path, capsys):
    output = tmp_path / "student.pt"
    sizes = ["--width", "2", "--steps", "2", "--batch", "1"]
    assert student.main(["train", *sizes, "--output", str(output)]) == 0
    found = load_network(output)
    assert isinstance(found, BoundedFusionNetwork) and found.arguments["width"] == 2
    assert found.metadata["teacher"] == "shipped" and found.metadata["sets"] == {"rendered": 64}
    assert student.main(["train", "--teacher", "gone.pt", "--output", str(output)]) == 1
    assert "gone.pt" in capsys.readouterr().err


def test_networks_are_ranked_each_by_itself_and_timed(tmp_path, monkeypatch):
    for pair in PairFolder(RENDERED / "test")[:2]:
        for part, picture in (("ir", pair.infrared), ("vi", pair.visible)):
            write_image(picture, tmp_path / "sets" / "TNO" / part / f"{pair.name}.png")
    rivals = tmp_path / "rivals.csv"
    with open(rivals, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["method", *USUAL])
        writer.writeheader()
        writer.writerow({"method": "best", **dict.fromkeys(USUAL, 1e6)})
    networks = {"shipped": load_network("shipped"), "small": BoundedFusionNetwork(2).eval()}
    found = student.ranks(networks, str(tmp_path / "sets"), str(rivals), jobs=1)
    assert found.keys() == networks.keys()
    for places in found.values():
        assert 1 <= places["TNO"] <= 1 + len(rules.RULES)
        assert places["TNO, published"] == pytest.approx(places["TNO"] + 1, abs=0.01)
    alone = student.ranks({"shipped": networks["shipped"]}, str(tmp_path / "sets"), None, jobs=1)
    assert alone["shipped"]["TNO"] == found["shipped"]["TNO"]
    monkeypatch.setattr(student, "onnx_network", lambda network, threads: network)  # slow to make
    taken = student.times(networks, (64, 96), 1)
    assert taken.keys() == networks.keys()
    assert all(value > 0 for one in taken.values() for value in one.values())


def test_the_student_that_ships_fuses_as_its_teacher_does():
    networks = {name: load_network(name) for name in ("shipped", "student")}
    sizes = {
        name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
    }
    assert sizes["student"] < 0.3 * sizes["shipped"]
    for pair in PairFolder(RENDERED / "test")[::8]:
        infrared, visible = pair.infrared[None], pair.luminance[None]
        with torch.no_grad():
            teacher, student_ = (network(infrared, visible) for network in networks.values())
        distance = (student_ - teacher).abs().mean()
        assert distance < 0.3 * (teacher - (infrared + visible) / 2).abs().mean()


def test_a_missing_student_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "STUDENT_WEIGHTS", tmp_path / "fusion_student.pt")
    with pytest.raises(WeightsError, match="experiments.student train"):
        load_network("student")


def test_the_command_compares_networks_with_the_one_that_ships(tmp_path, monkeypatch, capsys):
    taken = {"shipped": 10.0, "student": 4.0}
    monkeypatch.setattr(student, "ranks", lambda networks, *_: {n: {"TNO": 2} for n in networks})
    monkeypatch.setattr(
        student,
        "times",
        lambda networks, *_: {
            n: dict.fromkeys(("torch", "ONNX Runtime"), taken[n]) for n in networks
        },
    )
    assert student.main(["measure", "student", "--output", str(tmp_path / "table.md")]) == 0
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line.count("|") for line in lines] == [8] * 4
    assert lines[2].startswith("| shipped | 230,025 | 2.00 | 10.0 (1.00) |")
    assert lines[3].startswith("| student | 57,993 | 2.00 | 4.0 (0.40) |")
    assert lines[3] in capsys.readouterr().out
