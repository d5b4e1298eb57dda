"""Orthogonal steps: their size, their direction, and that they learn."""

import pytest
import torch

from experiments.embedded_clip.orthogonal import OrthogonalMomentum, orthogonalize


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_singular_values_come_near_one_and_vectors_stay(shape, generator):
    matrix = torch.randn(shape, generator=generator)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonalize(matrix)
    found = left.T @ made @ right.T  # diagonal, if the singular vectors stayed
    assert (found - torch.diag(found.diag())).abs().max() < 1e-4
    inner = found.diag()[values > 0.05 * values.max()]
    assert inner.min() > 0.6 and inner.max() < 1.3
    assert values.max() / values.min() > 1.5


def test_a_step_is_as_large_as_promised_and_goes_down(generator):
    kernel = torch.nn.Parameter(torch.randn(16, 8, 3, 3, generator=generator))
    kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    before = kernel.detach().clone()
    optimizer = OrthogonalMomentum([kernel], lr=0.01)
    loss = kernel.square().sum()
    loss.backward()
    optimizer.step()
    moved = kernel.detach() - before
    assert moved.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)
    assert kernel.square().sum() < loss
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_steps_are_those_of_timm(generator):
    """timm's computes the directions in bfloat16, ours in float32: two or three digits agree."""
    muon = pytest.importorskip("timm.optim.muon").Muon
    shapes = [(16, 8, 3, 3), (24, 60), (60, 24)]
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    optimizers = (
        OrthogonalMomentum(ours, lr=0.1, weight_decay=0.5),
        muon(theirs, lr=0.1, weight_decay=0.5, nesterov=True, ns_coefficients="original"),
    )
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        apart = (mine - other).detach().norm() / (other - other.mean()).detach().norm()
        assert apart < 0.03


def test_it_solves_what_is_badly_scaled(generator):
    """A least-squares problem whose directions differ by 10 in scale, so gradients by 100."""
    scales = torch.logspace(0, -1, 12)
    wanted = torch.randn(12, 12, generator=generator)
    matrix = torch.nn.Parameter(torch.zeros(12, 12))
    optimizer = OrthogonalMomentum([matrix], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 300)
    for _ in range(300):
        optimizer.zero_grad()
        ((matrix - wanted) * scales).square().sum().backward()
        optimizer.step()
        schedule.step()
    assert (matrix - wanted).abs().max() < 0.15


def test_weights_without_gradient_stay_and_decay_shrinks():
    still, shrunk = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(3, 4))
    optimizer = OrthogonalMomentum([still, shrunk], lr=0.1, weight_decay=0.5)
    shrunk.grad = torch.zeros(3, 4)
    optimizer.step()
    assert torch.equal(still, torch.ones(3, 4))
    torch.testing.assert_close(shrunk.detach(), torch.full((3, 4), 0.95))


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"got a shape of \(5,\); leave it to AdamW"):
        OrthogonalMomentum([torch.nn.Parameter(torch.ones(5))], lr=0.1)
    with pytest.raises(ValueError, match="must have two axes"):
        orthogonalize(torch.ones(2, 3, 4))
