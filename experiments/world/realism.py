"""Do rendered pictures look like real ones? Distances of statistics, and a classifier's opinion.

    python -m experiments.world.realism --rendered DIR ... --real DIR ...

Every ``DIR`` has ``ir/`` and ``vi/``. All pictures are scaled to 192 rows. For each camera it
prints, for every real set, the distance of the rendered pictures in five statistics, and how often
a small convolutional network tells rendered from real crops of 128 pixels in pictures that it has
not seen (50 % is guessing).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.stats import wasserstein_distance
from torch import nn
from torch.nn import functional as F

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import write_json

Array = npt.NDArray[np.float32]
ROWS, CROP = 192, 128
KINDS = ("ir", "vi")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


def pictures(folder: Path, kind: str) -> list[Array]:
    """Read the pictures of a camera as gray in [0, 1], scaled to 192 rows.

    Raises:
        FileNotFoundError: if there are none.
    """
    paths = [p for p in sorted((folder / kind).iterdir()) if p.suffix.lower() in PICTURES]
    if not paths:
        raise FileNotFoundError(f"no picture in {folder / kind}: expected {', '.join(PICTURES)}")
    result: list[Array] = []
    for path in paths:
        with Image.open(path) as image:
            width = max(CROP, round(image.width * ROWS / image.height))
            gray = image.convert("L").resize((width, ROWS), Image.Resampling.LANCZOS)
        result.append(np.asarray(gray, np.float32) / np.float32(255))
    return result


def statistics(images: list[Array]) -> dict[str, Array]:
    """Return samples of five statistics: values that `scipy` compares as distributions."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Array]] = {
        k: [] for k in ("gray", "gradient", "entropy", "slope", "mean")
    }
    for x in images:
        gy, gx = np.gradient(x)
        gradient = np.hypot(gx, gy).ravel()
        found["gray"].append(rng.choice(x.ravel(), 500))
        found["gradient"].append(rng.choice(gradient, 500))
        blocks = x[:, : x.shape[1] // 16 * 16].reshape(ROWS // 16, 16, -1, 16).swapaxes(1, 2)
        levels = np.clip((blocks.reshape(-1, 256) * 32).astype(int), 0, 31)
        counts = np.apply_along_axis(np.bincount, 1, levels, minlength=32) / 256
        entropy = -(counts * np.log2(np.maximum(counts, 1e-12))).sum(1)
        found["entropy"].append(entropy.astype(np.float32))
        found["slope"].append(np.array([spectral_slope(x)], np.float32))
        found["mean"].append(np.array([x.mean()], np.float32))
    return {name: np.concatenate(values) for name, values in found.items()}


def spectral_slope(x: Array) -> float:
    """Return the exponent of the amplitude spectrum's fall, between 4 and 64 cycles a picture."""
    side = min(x.shape)
    window = np.hanning(side)[:, None] * np.hanning(side)[None]
    amplitude = np.abs(np.fft.fft2((x[:side, :side] - x.mean()) * window))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.fftfreq(side, 1 / side)))
    inside = (f >= 4) & (f <= 64)
    slope = np.polyfit(np.log(f[inside]), np.log(amplitude[inside] + 1e-6), 1)[0]
    return float(slope)


def distances(images: list[Array], real: list[Array]) -> dict[str, float]:
    """Return Wasserstein distances, divided by the spread of the real pictures."""
    a, b = statistics(images), statistics(real)
    return {k: round(float(wasserstein_distance(a[k], b[k]) / (b[k].std() + 1e-9)), 3) for k in a}


def _crops(images: list[Array], count: int, generator: torch.Generator) -> torch.Tensor:
    """Cut random crops, as many from each picture, some mirrored."""
    cut = []
    for n in range(count):
        x = torch.from_numpy(images[n % len(images)])
        top = int(torch.randint(x.shape[0] - CROP + 1, (1,), generator=generator))
        left = int(torch.randint(x.shape[1] - CROP + 1, (1,), generator=generator))
        crop = x[top : top + CROP, left : left + CROP]
        cut.append(crop.flip(1) if torch.rand(1, generator=generator) < 0.5 else crop)
    return torch.stack(cut)[:, None]


def network() -> nn.Sequential:
    """Make the classifier: four convolutions, mean, one number."""
    layers: list[nn.Module] = []
    for a, b in ((1, 12), (12, 24), (24, 32), (32, 48)):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 1))


def _halves(images: list[Array]) -> Iterator[list[Array]]:
    order = np.random.default_rng(1).permutation(len(images))
    yield [images[k] for k in order[: 2 * len(order) // 3]]
    yield [images[k] for k in order[2 * len(order) // 3 :]]


def classify(images: list[Array], real: list[Array], steps: int = 900) -> float:
    """Train on two thirds of the pictures; return the share of right answers on the others."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    (seen_a, new_a), (seen_b, new_b) = _halves(images), _halves(real)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    pool = [_crops(seen, 900, generator) for seen in (seen_a, seen_b)]
    for _ in range(steps):
        pick = torch.randint(900, (16,), generator=generator)
        x = torch.cat([crops[pick] for crops in pool])
        gain = 1 + 0.3 * (torch.rand(len(x), 1, 1, 1, generator=generator) - 0.5)
        y = torch.cat([torch.ones(16), torch.zeros(16)])
        loss = F.binary_cross_entropy_with_logits(model(x * gain)[:, 0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = [
            ((model(_crops(new, 200, generator))[:, 0] > 0) == answer).float().mean()
            for new, answer in ((new_a, True), (new_b, False))
        ]
    return float(sum(right) / 2)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rendered", type=Path, nargs="+", required=True)
    parser.add_argument("--real", type=Path, nargs="+", required=True)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args()
    numbers = {}
    for kind in KINDS:
        rendered = [x for d in args.rendered for x in pictures(d, kind)]
        sets = {d.name: pictures(d, kind) for d in args.real}
        everything = [x for images in sets.values() for x in images]
        rows = {name: distances(rendered, found) for name, found in sets.items()}
        share = round(classify(rendered, everything), 3)
        numbers[kind] = {"distances": rows, "classifier": share}
        print(f"{kind}: classifier right in {share:.0%}", flush=True)
        for name, values in rows.items():
            print(f"  {name:10s} {json.dumps(values)}", flush=True)
    if args.json:
        write_json(args.json, numbers)
    return 0


if __name__ == "__main__":
    run_command(main)
