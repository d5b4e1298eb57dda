"""What the tests of the training share: small settings, a small network, pairs, a clip."""

import torch
from test_losses import PROMPTS, TinyClip
from torch import nn

from ldf_utils.data.pairs import Pair
from ldf_utils.training.config import TrainConfig

__all__ = ["PROMPTS", "TinyClip"]

SMALL = TrainConfig(
    steps=6,
    batch=2,
    crop=32,
    patches=4,
    entropy_threshold=4.0,
    checkpoint_every=2,
    device="cpu",
    prompt_infrared=PROMPTS.infrared,
    prompt_visible=PROMPTS.visible,
    prompt_fused=PROMPTS.fused,
)

# What every run leaves, but for the network, which only our own classes are saved as.
LEFT = {
    *("config.json", "environment.json", "history.csv", "checkpoint.pt", "samples"),
    "summary.json",
}

# Settings of a command that trains in a second.
QUICK = [
    *("--set", "weight_direction=0", "--set", "weight_patch=0", "--set", "weight_angle=0"),
    *("--set", "steps=3", "--set", "device=cpu"),
]


class TinyNetwork(nn.Module):
    """Small enough for many steps a second; dropout, so that torch's own random state matters."""

    def __init__(self, dropout: float = 0.2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(8, 1, 1)
        )

    def forward(self, infrared, visible):
        return torch.sigmoid(self.layers(torch.cat([infrared, visible], dim=1)))


def tiny_network(dropout=0.2):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return TinyNetwork(dropout)


def make_pair(name, height, width, seed=0, channels=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1 + channels, height, width, generator=generator)
    return Pair(name, images[:1], images[1:])


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class Stop(Exception):
    """What an impatient callback raises."""
