"""Tell made pictures from real ones: a small network, crops at native scale, three folds.

Pictures are split by groups (see ``pictures.group_of``): no world, clip or place is on both sides.
Every set counts the same, whatever its size, so the answer does not depend on how many pictures
each has. The network also gets what a picture has finer than two pixels, four times amplified,
since noise and compression betray a camera sooner than content does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from experiments.scene_statistics.pictures import CROP, Picture

Sets = Mapping[str, Sequence[Picture]]


@dataclass(frozen=True)
class Answer:
    """How often the network is right on crops that it has not seen.

    Attributes:
        right: share of right answers, the mean over both classes, every set counting the same.
        low: lower end of the 95 % interval (bootstrap over groups).
        high: upper end.
        sets: the share for every set.
        seen: the share on the crops of the pictures it was trained on.
    """

    right: float
    low: float
    high: float
    sets: dict[str, float]
    seen: float


def network() -> nn.Sequential:
    """Make the classifier: five convolutions, mean and maximum, one number (117,000 weights)."""
    layers: list[nn.Module] = []
    for a, b, size, step in (
        (2, 24, 7, 4), (24, 48, 3, 2), (48, 64, 3, 1), (64, 64, 3, 2), (64, 64, 3, 1),
    ):  # fmt: skip
        layers += [nn.Conv2d(a, b, size, step, size // 2), nn.GroupNorm(4, b), nn.ReLU()]
    return nn.Sequential(*layers, Pool(), nn.Dropout(0.2), nn.Linear(128, 1))


class Pool(nn.Module):
    """Join the mean and the maximum over a picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, 2 C)`` from ``(B, C, H, W)``."""
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


def channels(x: torch.Tensor) -> torch.Tensor:
    """Return gray and amplified fine detail, ``(B, 2, H, W)``, of ``(B, 1, H, W)``."""
    fine = x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return torch.cat([x - 0.5, (8 * fine).clamp(-1, 1)], 1)


def cut(pictures: Sequence[Picture], count: int, rng: np.random.Generator) -> torch.Tensor:
    """Cut random crops, ``(count, 1, 128, 128)``; groups and then pictures are equally likely."""
    groups: dict[str, list[Picture]] = {}
    for p in pictures:
        groups.setdefault(p.group, []).append(p)
    names = sorted(groups)
    crops = []
    for _ in range(count):
        members = groups[names[rng.integers(len(names))]]
        gray = members[rng.integers(len(members))].gray
        top, left = (rng.integers(n - CROP + 1) for n in gray.shape)
        crop = gray[top : top + CROP, left : left + CROP]
        crops.append(crop[:, ::-1].copy() if rng.random() < 0.5 else crop)
    return torch.from_numpy(np.stack(crops))[:, None]


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change gain and offset, so that brightness alone does not decide."""
    size = (len(x), 1, 1, 1)
    gain = 1 + 0.4 * (torch.rand(size, generator=generator) - 0.5)
    offset = 0.2 * (torch.rand(size, generator=generator) - 0.5)
    return (x * gain + offset).clamp(0, 1)


def folds(sets: Sets, count: int, seed: int = 0) -> list[dict[str, set[str]]]:
    """Deal every set's groups to ``count`` folds; return each fold's groups to test on."""
    rng = np.random.default_rng(seed)
    dealt: list[dict[str, set[str]]] = [{} for _ in range(count)]
    for name in sorted(sets):
        groups = sorted({p.group for p in sets[name]})
        order = rng.permutation(len(groups))
        for fold in range(count):
            dealt[fold][name] = {groups[k] for k in order[fold::count]}
    return dealt


def _pool(
    sets: Sets, out: Mapping[str, set[str]], count: int, rng: np.random.Generator
) -> torch.Tensor:
    """Cut ``count`` training crops, as many of every set."""
    kept = {n: [p for p in ps if p.group not in out[n]] for n, ps in sets.items()}
    kept = {n: ps for n, ps in kept.items() if ps}
    return torch.cat([cut(ps, -(-count // len(kept)), rng) for ps in kept.values()])[:count]


def train(made: torch.Tensor, real: torch.Tensor, steps: int, seed: int) -> nn.Sequential:
    """Train the network on two pools of crops."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model, half = network(), 16
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    target = torch.cat([torch.ones(half), torch.zeros(half)])
    for _ in range(steps):
        batch = [
            pool[torch.randint(len(pool), (half,), generator=generator)] for pool in (made, real)
        ]
        x = channels(augment(torch.cat(batch), generator))
        loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _share(model: nn.Module, crops: torch.Tensor, answer: bool) -> float:
    """Return the share of crops on which the network gives ``answer``."""
    with torch.no_grad():
        logits = torch.cat([model(channels(part))[:, 0] for part in crops.split(64)])
    return float(((logits > 0) == answer).float().mean())


def classify(made: Sets, real: Sets, steps: int = 500, pool: int = 2400, count: int = 3) -> Answer:
    """Train in ``count`` folds and return the answers on the groups left out.

    Args:
        made: rendered sets.
        real: real sets.
        steps: of training in each fold, of 32 crops.
        pool: crops of each class to train on.
        count: folds.
    """
    rows: list[tuple[str, bool, float]] = []
    seen = []
    for fold, (out_made, out_real) in enumerate(
        zip(folds(made, count), folds(real, count), strict=True)
    ):
        rng = np.random.default_rng(fold)
        pools = [_pool(made, out_made, pool, rng), _pool(real, out_real, pool, rng)]
        model = train(pools[0], pools[1], steps, fold)
        seen.append(
            sum(_share(model, p[::8], a) for p, a in zip(pools, (True, False), strict=True)) / 2
        )
        for sets, out, answer in ((made, out_made, True), (real, out_real, False)):
            for name, pictures in sets.items():
                for group in sorted(out[name]):
                    crops = cut([p for p in pictures if p.group == group], 12, rng)
                    rows.append((name, answer, _share(model, crops, answer)))
    low, high = interval(rows)
    shares = {
        n: round(float(np.mean([r for m, _, r in rows if m == n])), 3) for n in (*made, *real)
    }
    return Answer(round(balanced(rows), 3), low, high, shares, round(float(np.mean(seen)), 3))


def balanced(rows: Sequence[tuple[str, bool, float]]) -> float:
    """Average over the groups of a set, then over sets, then over the two classes."""
    classes: dict[bool, dict[str, list[float]]] = {}
    for name, answer, share in rows:
        classes.setdefault(answer, {}).setdefault(name, []).append(share)
    return float(
        np.mean([np.mean([np.mean(s) for s in sets.values()]) for sets in classes.values()])
    )


def interval(rows: Sequence[tuple[str, bool, float]], draws: int = 1000) -> tuple[float, float]:
    """Return the 95 % interval of ``balanced`` when groups are drawn anew within each set."""
    rng = np.random.default_rng(0)
    keys = sorted({(name, answer) for name, answer, _ in rows})
    shares: list[npt.NDArray[np.float64]] = [
        np.array([r for n, a, r in rows if (n, a) == key]) for key in keys
    ]
    values = []
    for _ in range(draws):
        drawn = [float(rng.choice(s, len(s)).mean()) for s in shares]
        values.append(balanced([(n, a, v) for (n, a), v in zip(keys, drawn, strict=True)]))
    low, high = np.quantile(values, [0.025, 0.975])
    return round(float(low), 3), round(float(high), 3)
