"""The network that ships gives what it gave: its output for a pair made by a formula is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import shipped_network
from ldf_utils.data.files import atomic_path
from ldf_utils.networks import bounded
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.networks.salient import SalientFusionNetwork

STORED = Path(__file__).parent / "data" / "shipped_network.npz"


def made_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A warm disk before stripes and a slope, ``(1, 1, 48, 64)`` each, from sines alone."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 64), indexing="ij")
    disk = torch.sigmoid((0.04 - (x - 0.4) ** 2 - (y - 0.5) ** 2) * 200)
    infrared = 0.2 + 0.1 * torch.sin(5 * x) * torch.cos(3 * y) + 0.6 * disk
    visible = 0.5 + 0.2 * torch.sin(60 * x + 8 * y) * (1 - 0.5 * disk) + 0.2 * (y - 0.5)
    return infrared[None, None].clamp(0, 1), visible[None, None].clamp(0, 1)


@torch.no_grad()
def outputs() -> dict[str, np.ndarray]:
    """The fused image and every map of the shipped network."""
    network, pair = load_network("shipped"), made_pair()
    found = {"fused": network(*pair), **network.maps(*pair)}
    return {name: value[0, 0].numpy() for name, value in found.items()}


def largest_difference() -> float:
    with np.load(STORED) as stored:
        found = outputs()
        assert set(found) == set(stored)
        return max(np.abs(found[name] - stored[name].astype(np.float32)).max() for name in stored)


def test_the_output_is_the_stored_one():
    assert largest_difference() < 2e-3  # float16 keeps gains of 3 to 1e-3


@pytest.mark.parametrize("size", [(48, 64), (101, 99), (160, 224)])
def test_without_a_gradient_it_takes_another_path_to_the_same_output(size):
    generator = torch.Generator().manual_seed(0)
    pair = torch.rand(2, 1, 1, *size, generator=generator).unbind()
    network = load_network("shipped")
    with torch.no_grad():
        fast, maps = network(*pair), network.maps(*pair)
    torch.testing.assert_close(fast, network(*pair).detach(), rtol=0, atol=1e-5)
    for name, exact in network.maps(*pair).items():
        torch.testing.assert_close(maps[name], exact.detach(), rtol=0, atol=1e-4)


def test_the_stored_output_tells_a_changed_constant(monkeypatch):
    stretch = bounded._stretch
    monkeypatch.setattr(bounded, "_stretch", lambda x, gain, scale: stretch(x, gain, 5 * scale))
    assert largest_difference() > 5e-3


@pytest.mark.parametrize("name", ["tone_head", "weight_head"])
def test_the_stored_output_tells_changed_weights(monkeypatch, name):
    load = load_network

    def changed(which):
        network = load(which)
        getattr(network, name).bias.data += 0.1
        return network

    monkeypatch.setitem(globals(), "load_network", changed)
    assert largest_difference() > 5e-3


if __name__ == "__main__":
    with atomic_path(STORED) as temporary:
        np.savez_compressed(
            temporary, **{name: value.astype(np.float16) for name, value in outputs().items()}
        )


def test_the_command_trains_on_named_sets_with_the_papers_weights(
    set_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    small = [f"--set={setting}" for setting in ("steps=1", "batch=1", "crop=32", "patches=1")]
    to = ["--settings", "paper", "--train", str(set_folder), "--output", str(tmp_path)]
    assert shipped_network.main(["train", *to, *small, "--set=network=salient"]) == 0
    record = json.loads((tmp_path / shipped_network.RECORD).read_text(encoding="utf-8"))
    config = record["config"]
    weights = [config[f"weight_{t}"] for t in ("direction", "patch", "angle", "perceptual")]
    assert weights == [2, 10, 6, 10] and record["sets"] == {"Some": 4}
    assert record["command"].endswith("train --settings paper --train Some")
    assert isinstance(load_network(tmp_path / shipped_network.WEIGHTS), SalientFusionNetwork)
    assert "4 pairs of Some" in shipped_network.card(record, {}, 1000)
    assert shipped_network.main(["train", "--set", "steps=0", "--output", str(tmp_path)]) == 1
    assert "steps must be >= 1, got 0" in capsys.readouterr().err
