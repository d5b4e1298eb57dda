"""Steps of equal size in every direction of a weight matrix, for the training of the embedded CLIP.

Momentum as usual, but what a matrix moves by is the nearest matrix with orthogonal rows or
columns: directions in which the gradient is small learn as fast as the others. `torch.optim.Muon`
(matrices) and `timm.optim.Muon` (kernels of convolutions, too) do the same, but in bfloat16 only;
here it is float32, since a processor without bfloat16 instructions takes many times as long with
theirs. A test holds this one against timm's.

Jordan et al., *Muon: an optimizer for hidden layers in neural networks* (2024); the size of a step:
Liu et al., arXiv:2502.16982.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch


def orthogonalize(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """Bring all singular values of a matrix near 1, by a polynomial of it (Newton and Schulz).

    Args:
        matrix: ``(A, B)``, float32.
        rounds: of the polynomial ``3.4445 x - 4.7750 x^3 + 2.0315 x^5`` on the singular values.

    Returns:
        ``(A, B)`` with singular values about between 0.7 and 1.2; those near 0 stay below.

    Raises:
        ValueError: if it is not a matrix.
    """
    if matrix.ndim != 2:
        raise ValueError(f"matrix must have two axes, got a shape of {tuple(matrix.shape)}")
    tall = matrix.shape[0] > matrix.shape[1]
    result = matrix.T if tall else matrix
    result = result / result.norm().clamp_min(1e-7)
    for _ in range(rounds):
        square = result @ result.T
        square = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        result = torch.addmm(result, square, result, beta=3.4445)
    return result.T if tall else result


class OrthogonalMomentum(torch.optim.Optimizer):
    """Descend the gradient with Nesterov momentum and steps that are orthogonal matrices.

    A convolution kernel ``(out, in, height, width)`` counts as a matrix ``(out, in*height*width)``.
    The root mean square of a step is 0.2 times the learning rate, about that of Adam's.

    Args:
        params: matrices and convolution kernels.
        lr: learning rate.
        momentum: share of the old momentum that stays, in [0, 1).
        weight_decay: decoupled, as in AdamW.

    Raises:
        ValueError: for a parameter with fewer than two axes.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ValueError(
                        "parameters must be matrices or convolution kernels, got a shape of "
                        f"{tuple(parameter.shape)}; leave it to AdamW"
                    )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # the training needs no closure
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(state["momentum"], group["momentum"])
                move = orthogonalize(nesterov.flatten(1))
                size = 0.2 * math.sqrt(max(move.shape))  # its own root mean square is 1 / root
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(move.reshape(parameter.shape), alpha=-group["lr"] * size)
