"""Steadiness: a fused clip that does not flicker where nothing happens, and does not lag."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

SHARE = 0.3
"""Share of a new frame where both sources are still; the rest is what was held."""

CHANGE = (3 / 255, 8 / 255)
"""Mean change of a block up to which it counts as still, at little noise and at much."""

_BLOCK = 4  # pixels of a side; motion is looked for in blocks and their neighbors
_RISE = 5 / 255  # change beyond the bound from which a new frame counts in full
_NOISE = 1.5  # times the median change is noise
_MEMORY = 0.1  # share of a new frame in the running median


class SteadyOutput:
    """Hold range, gain and tone of fused frames over time where both sources are still.

    A network fuses every frame by itself; noise and the blocks of compression make its weights
    and gains, and with them the gray levels, tremble. Here each fused frame is averaged
    exponentially with what was held, ``held += k (new - held)``, and both sources with the same
    ``k``. In a block of 4 x 4 pixels with ``d`` the larger of the mean absolute changes of both
    sources from their held averages (and its neighbors: the maximum over 3 x 3 blocks),

        k = SHARE + (1 - SHARE) * clamp((d - bound) / (5 / 255), 0, 1).

    ``bound`` is 1.5 times the running median of the changes, between the two of `CHANGE`. What
    moves changes by more and is shown as the network fused it: no lag. What a held pixel can lag
    behind is bounded by ``bound``, since changes are taken from the held sources, not from the
    frame before.

    Example:
        >>> steady = SteadyOutput()
        >>> still = torch.full((1, 32, 32), 0.5)
        >>> steady(still, still, still).mean(), steady(still, still, still + 0.1).mean()
        (tensor(0.5000), tensor(0.5300))
    """

    def __init__(self) -> None:
        self._held: torch.Tensor | None = None  # (3, H, W): infrared, visible, fused
        self._noise = 0.0
        self._frames = 0
        self._shares = 0.0

    @torch.no_grad()
    def __call__(
        self, infrared: torch.Tensor, visible: torch.Tensor, fused: torch.Tensor
    ) -> torch.Tensor:
        """Take the next frame and return the fused one to show.

        Args:
            infrared: ``(1, H, W)`` in [0, 1].
            visible: luminance of the same shape.
            fused: what the network made of both, of the same shape.

        Returns:
            ``(1, H, W)``.

        Raises:
            ValueError: if the shapes differ, among each other or from the frame before.
        """
        if not infrared.shape == visible.shape == fused.shape:
            raise ValueError(
                "expected three frames (1, H, W) of one size, got "
                f"{tuple(infrared.shape)}, {tuple(visible.shape)} and {tuple(fused.shape)}"
            )
        new = torch.cat([infrared, visible, fused]).float()
        self._frames += 1
        if self._held is None:
            self._held = new
            self._shares += 1.0
            return fused
        if self._held.shape != new.shape:
            raise ValueError(
                f"expected frames of {tuple(self._held.shape[1:])} pixels as before, "
                f"got {tuple(new.shape[1:])}"
            )
        change = new - self._held
        blocks = F.avg_pool2d(change[:2].abs(), _BLOCK, ceil_mode=True).amax(0, keepdim=True)
        median = blocks.median().item()
        self._noise = (
            median if self._frames == 2 else self._noise + _MEMORY * (median - self._noise)
        )
        excess = F.max_pool2d(blocks, 3, stride=1, padding=1).sub_(self.bound).div_(_RISE)
        share = excess.clamp_(0, 1).mul_(1 - SHARE).add_(SHARE)
        self._shares += share.mean().item()
        height, width = new.shape[-2:]
        share = F.interpolate(share[None], scale_factor=_BLOCK, mode="bilinear")[0]
        self._held.addcmul_(change, share[:, :height, :width])
        return self._held[2:].clone()

    @property
    def bound(self) -> float:
        """Change of a block up to which it counts as still."""
        return min(max(_NOISE * self._noise, CHANGE[0]), CHANGE[1])

    @property
    def mean_share(self) -> float:
        """Mean of ``k`` over all pixels and frames so far: `SHARE` if still, 1 if all moves."""
        return self._shares / self._frames if self._frames else math.nan

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that the next frame depends on, for `load`."""
        numbers = torch.tensor([self._noise, self._frames, self._shares], dtype=torch.float64)
        return {"numbers": numbers} | ({} if self._held is None else {"held": self._held.clone()})

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        self._noise, frames, self._shares = state["numbers"].tolist()
        self._frames = int(frames)
        self._held = state["held"].clone() if "held" in state else None
