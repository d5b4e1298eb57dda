"""The network that lifts what stands out: no halo beside a step, a person before any wall."""

import pytest
import torch
from torch import nn

from ldf_utils.fusion.inference import fuse_tensors
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import load_network, save_network
from ldf_utils.networks.salient import (
    SalientFusionNetwork,
    deviations,
    follow_edges,
    smooth_keep_edges,
)
from ldf_utils.training.config import NETWORKS, TrainConfig

UP, DOWN = (5.0, 5.0, -5.0), (-5.0, -5.0, 5.0)
"""Biases of the lifts (warm, cold, ground): objects brighter and the ground darker, or not so."""


def _heads(network):
    return [network.tone_head, network.weight_head, *network.band_heads, network.lift_head]


def _rule(*lifts):
    """The rule that the network starts from, with these lifts."""
    network = SalientFusionNetwork()
    for head in _heads(network):
        nn.init.zeros_(head.weight)
    with torch.no_grad():
        network.lift_head.bias.copy_(torch.tensor(lifts or (0.0, 0.0, 0.0)))
    return network.eval()


def _wild(seed=0):
    torch.manual_seed(seed)
    network = SalientFusionNetwork()
    for head in _heads(network):
        nn.init.normal_(head.weight, std=1.0)
        nn.init.normal_(head.bias, std=1.0)
    return network.eval()


def _step(left, right, side=256):
    image = torch.full((1, 1, side, side), left)
    image[..., side // 2 :] = right
    return image


def overshoot(network, infrared, visible):
    """How far the fused levels leave the range of the two flat areas, beside the step."""
    with torch.no_grad():
        row = network(infrared, visible)[0, 0, infrared.shape[-2] // 2]
    ends = row[:8].mean(), row[-8:].mean()
    return max((row.max() - max(ends)).item(), (min(ends) - row.min()).item())


STEPS = {
    "infrared": (_step(0.2, 0.8), _step(0.5, 0.5)),
    "visible": (_step(0.5, 0.5), _step(0.2, 0.8)),
    "both": (_step(0.2, 0.8), _step(0.2, 0.8)),
    "weak": (_step(0.4, 0.6), _step(0.5, 0.5)),
    "against": (_step(0.2, 0.8), _step(0.8, 0.2)),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("lifts", [(0.0, 0.0, 0.0), UP, DOWN])
def test_beside_a_step_between_flat_areas_is_no_halo(name, lifts):
    """At most 0.045 for steps of 0.6, whatever the lifts are."""
    assert overshoot(_rule(*lifts), *STEPS[name]) < 0.045


def test_the_halo_is_far_below_that_of_the_laplacian_pyramid():
    """The bounded network overshoots by 0.18 there."""
    bounded = BoundedFusionNetwork()
    for head in (bounded.tone_head, bounded.weight_head, *bounded.band_heads):
        nn.init.zeros_(head.weight)
    for name in ("infrared", "visible"):
        before = overshoot(bounded, *STEPS[name])
        assert before > 0.15 and overshoot(_rule(*UP), *STEPS[name]) < before / 4


def _person(wall, hot=0.9, cool=0.3):
    """A person whom only the infrared sees, before a wall of this level in the visible."""
    infrared, visible = torch.full((1, 1, 256, 256), cool), torch.full((1, 1, 256, 256), wall)
    infrared[..., 100:160, 120:140] = hot
    return infrared, visible


def _contrast(fused):
    person = fused[..., 105:155, 123:137].mean()
    ring = torch.cat([fused[..., 105:155, 105:118], fused[..., 105:155, 142:155]], -1).mean()
    return (person - ring).item()


@pytest.mark.parametrize("wall", [0.15, 0.5, 0.85])
@pytest.mark.parametrize("black_hot", [False, True])
def test_a_person_can_stand_out_before_any_wall(wall, black_hot):
    """More than in average and maximum, by one of the two signs, in both polarities."""
    infrared, visible = _person(wall)
    infrared = 1 - infrared if black_hot else infrared
    with torch.no_grad():
        found = [abs(_contrast(_rule(*lifts)(infrared, visible))) for lifts in (UP, DOWN)]
    rules = (infrared + visible) / 2, torch.maximum(infrared, visible)
    assert max(found) > 1.05 * max(abs(_contrast(rule)) for rule in rules)


def test_the_gates_hold_the_person_and_not_the_large_area():
    infrared, visible = _person(0.85)
    infrared[..., 232:, :] = 0.9  # a warm ground
    with torch.no_grad():
        maps = _rule().maps(infrared, visible)
        turned = _rule().maps(1 - infrared, visible)
    person, inside = maps["warm"][..., 105:155, 123:137], maps["warm"][..., 240:, :]
    assert person.min() > 0.8 and inside.max() < 0.3 and maps["cold"].max() < 0.1
    torch.testing.assert_close(turned["cold"], maps["warm"], atol=1e-3, rtol=0)


def test_deviations_of_a_small_region_follow_from_its_share():
    """A square of 16 pixels fills (16 / 96)^2 of the middle window: z of about 6 there."""
    infrared = torch.full((1, 1, 256, 256), 0.2)
    infrared[..., 120:136, 120:136] = 0.8
    z = deviations(infrared)[0, 0]
    assert 4 < z[128, 128] < 20 and z[:60].abs().max() < 0.3
    assert deviations(_step(0.1, 0.9)).abs().max() < 1.1
    assert not deviations(torch.full((1, 1, 64, 64), 0.3)).abs().gt(1e-3).any()


def test_smoothing_keeps_edges_and_takes_noise(generator):
    step = _step(0.2, 0.8, 64)
    noisy = step + 0.02 * torch.randn(step.shape, generator=generator)
    for coarse in (1, 2):
        smooth = smooth_keep_edges(noisy, coarse=coarse)
        assert (smooth - step)[..., :24].std() < 0.4 * 0.02
        assert (smooth - step).abs().max() < 0.12
    flat = torch.full((1, 1, 32, 32), 0.7)
    torch.testing.assert_close(smooth_keep_edges(flat, 4), flat)


def test_a_coarse_map_takes_the_edges_of_its_guide():
    guide = _step(0.2, 0.8, 64)
    coarse = torch.nn.functional.avg_pool2d(guide, 8) * 2 - 1
    got = follow_edges(coarse, guide)
    torch.testing.assert_close(got, guide * 2 - 1, atol=0.2, rtol=0)
    assert (got[..., 32] - got[..., 31]).min() > 0.7  # bilinear: an eighth of it


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (130, 71)])
def test_any_size_and_maps_within_their_bounds(size, generator):
    infrared, visible = torch.rand(2, 2, 1, *size, generator=generator).unbind()
    network = _wild()
    with torch.no_grad():
        fused, maps = network(infrared, visible), network.maps(infrared, visible)
    assert fused.shape == infrared.shape and 0 < fused.min() and fused.max() < 1
    limits = {"weight": (0, 1), "contrast": (0.5, 2), "brightness": (-0.25, 0.25)}
    limits |= {"warm": (0, 1), "cold": (0, 1), "lift_warm": (-0.4, 0.4), "lift_cold": (-0.4, 0.4)}
    limits |= {"ground": (-0.2, 0.2)}
    for source in ("infrared", "visible"):
        limits |= {f"{source}_gain_{band}": (0, 3) for band in network.bands}
    assert maps.keys() == limits.keys()
    for name, (low, high) in limits.items():
        assert maps[name].shape == infrared.shape
        assert low <= maps[name].min() and maps[name].max() <= high, name


@pytest.mark.parametrize("seed", range(3))
def test_flat_sources_stay_flat(seed):
    infrared, visible = torch.full((1, 1, 70, 83), 0.8), torch.full((1, 1, 70, 83), 0.3)
    with torch.no_grad():
        assert _wild(seed)(infrared, visible).std() < 1e-4


def test_equal_sources_come_out_as_they_are(generator):
    image = 0.05 + 0.9 * torch.rand(1, 1, 53, 66, generator=generator)
    with torch.no_grad():
        fused = _rule()(image, image)
    torch.testing.assert_close(fused, image.clamp(0.02, 0.98), atol=2e-3, rtol=0)


def test_gradient_reaches_every_parameter(generator):
    torch.manual_seed(0)
    network = SalientFusionNetwork()
    infrared, visible = _person(0.6)
    noise = 0.05 * torch.randn(2, 1, 1, 256, 256, generator=generator)
    network(infrared + noise[0], visible + noise[1]).std().backward()
    gradients = [p.grad for p in network.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_surroundings_of_more_than_a_tiles_margin_do_not_matter(generator):
    """Tiles give what the whole image would: the outer 192 pixels of a tile have no weight."""
    infrared, visible = torch.rand(2, 1, 1, 64, 512, generator=generator).unbind()
    other = infrared.clone()
    other[..., 320:] = torch.rand(64, 192, generator=generator)
    network = _rule(*UP)
    with torch.no_grad():
        change = (network(infrared, visible) - network(other, visible)).abs()
    assert change[..., :128].max() < 2e-3 and change[..., 330:].mean() > 0.01
    tiled = fuse_tensors(network, infrared, visible, tile=448)
    assert tiled.shape == infrared.shape


def test_it_is_small_and_comes_back_from_a_file(tmp_path, generator):
    network = SalientFusionNetwork(width=8, max_lift=0.2)
    path = save_network(network, tmp_path / "network.pt")
    again = load_network(path)
    assert isinstance(again, SalientFusionNetwork) and again.max_lift == 0.2
    pair = torch.rand(2, 1, 1, 64, 64, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(again(*pair), network.eval()(*pair))
    save_network(SalientFusionNetwork(), path)
    assert path.stat().st_size < 1.1e6


def test_it_can_be_chosen_and_wrong_arguments_are_named():
    assert NETWORKS[TrainConfig(network="salient").network] is SalientFusionNetwork
    with pytest.raises(ValueError, match=r"max_lift in \(0, 0.5\], found 0.7"):
        SalientFusionNetwork(max_lift=0.7)
    with pytest.raises(ValueError, match="max_gain"):
        SalientFusionNetwork(max_gain=1.0)
