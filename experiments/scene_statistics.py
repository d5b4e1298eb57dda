"""Are generated pairs like real ones? Histograms, spectra and gradients of both, and sheets.

    python -m experiments.scene_statistics --data DIR   # DIR: a folder of sets with ir/ and vi/

It writes ``docs/scene_statistics.png`` (curves) and ``.json`` (numbers), and sheets to look at,
``runs/scene_statistics/real.png`` and ``generated.png``. The sheets contain real images, which
are subject to the terms of their sets, so they stay out of the repository.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from experiments.painted.scenes import render
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_json
from ldf_utils.data.images import ImageError, luminance, write_image
from ldf_utils.data.pairs import find_sets
from ldf_utils.notebook.figures import COLORS, LINES, WIDTH, present, use_style

ROOT = Path(__file__).resolve().parent.parent
SIZE = (128, 160)
BINS = 32
KINDS = ("infrared", "visible")
Shown = tuple[torch.Tensor, torch.Tensor]


def resize(images: torch.Tensor) -> torch.Tensor:
    """Resize images to the size of the comparison, ``(B, 1, 128, 160)``."""
    return F.interpolate(images, SIZE, mode="bilinear", antialias=True)


def curves(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Compute three distributions of each image.

    Args:
        images: ``(B, 1, 128, 160)`` in [0, 1].

    Returns:
        ``histogram`` (share of pixels a bin), ``spectrum`` (log10 of the mean power a ring of
        frequencies, relative to the lowest) and ``gradient`` (log10 of the share of pixels whose
        gradient exceeds the threshold), each ``(B, BINS)`` or shorter.
    """
    flat = images.flatten(1)
    bins = (flat * BINS).long().clamp(max=BINS - 1)
    histogram = F.one_hot(bins, BINS).float().mean(1)
    window = torch.hann_window(SIZE[0])[:, None] * torch.hann_window(SIZE[1])
    centered = (images - images.mean((-2, -1), keepdim=True))[:, 0]
    power = torch.fft.rfft2(centered * window).abs() ** 2
    frequency = torch.hypot(torch.fft.fftfreq(SIZE[0])[:, None], torch.fft.rfftfreq(SIZE[1])[None])
    edges = torch.logspace(-1.7, -0.31, 17)
    rings = [(frequency >= a) & (frequency < b) for a, b in itertools.pairwise(edges)]
    spectrum = torch.stack([power[:, ring].mean(1) for ring in rings], 1).clamp_min(1e-9).log10()
    dx = images.diff(dim=-1)[..., :-1, :]
    dy = images.diff(dim=-2)[..., :, :-1]
    slope = torch.hypot(dx, dy).flatten(1)
    limits = torch.logspace(-2.5, -0.3, 16)
    gradient = (slope[:, None] > limits[:, None]).float().mean(-1).clamp_min(1e-4).log10()
    return {"histogram": histogram, "spectrum": spectrum - spectrum[:, :1], "gradient": gradient}


def numbers(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Compute five numbers per image, each ``(B,)``.

    Mean, standard deviation, mean gradient, fall of the spectrum and skewness.

    Args:
        images: ``(B, 1, 128, 160)`` in [0, 1].
    """
    made = curves(images)
    flat = images.flatten(1)
    mean, std = flat.mean(1), flat.std(1)
    across, down = (images.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (-1, -2))
    skew = ((flat - mean[:, None]) ** 3).mean(1) / std.clamp_min(1e-4) ** 3
    return {
        "mean": mean,
        "standard deviation": std,
        "mean gradient": (across + down) / 2,
        "fall of the spectrum": -made["spectrum"][:, -4:].mean(1),
        "skewness": skew,
    }


def compare(real: dict[str, torch.Tensor], generated: torch.Tensor) -> dict[str, dict[str, float]]:
    """Compute the share of real images within the middle 90 % of generated ones, per number."""
    rows = numbers(generated)
    limits = {k: torch.quantile(v, torch.tensor([0.05, 0.95])) for k, v in rows.items()}
    return {
        name: {
            key: round(float(((v >= limits[key][0]) & (v <= limits[key][1])).float().mean()), 3)
            for key, v in numbers(images).items()
        }
        for name, images in real.items()
    }


def _draw(real: dict, generated: dict, title: str, alt: str, path: Path) -> None:
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.6), layout="constrained", sharex="col")
    labels = {
        "histogram": "luminance",
        "spectrum": "frequency (log scale)",
        "gradient": "threshold (log scale)",
    }
    heights = {
        "histogram": "share of pixels",
        "spectrum": "power, log10",
        "gradient": "share above it, log10",
    }
    for row, kind in zip(axes, KINDS, strict=True):
        made = curves(generated[kind])
        for ax, key in zip(row, labels, strict=True):
            low, high = torch.quantile(made[key], torch.tensor([0.1, 0.9]), dim=0)
            x = torch.linspace(0, 1, made[key].shape[1])
            ax.fill_between(x, low, high, color="#cfcfcf", label="generated, 10 to 90 %")
            styles = zip(COLORS, LINES, strict=True)
            for (name, images), (color, line) in zip(real[kind].items(), styles, strict=False):
                median = curves(images)[key].median(0).values
                ax.plot(x, median, color=color, linestyle=line, label=name)
            ax.set_title(f"{kind}: {key}", loc="left")
            ax.set_ylabel(heights[key])
            if kind == KINDS[-1]:
                ax.set_xlabel(labels[key])
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncol=3)
    present(
        fig,
        title=title,
        caption="Median of each real set against the middle 80 % of generated images, all at "
        f"{SIZE[1]} x {SIZE[0]} pixels (`python -m experiments.scene_statistics`).",
        alt=alt,
        path=path,
    )


def _sheet(pairs: Sequence[Shown], path: Path, columns: int = 6) -> None:
    """Infrared above visible, ``columns`` pairs a row."""
    blocks = [torch.cat([resize(i[None])[0], resize(v[None])[0]], 1) for i, v in pairs]
    blocks = [F.pad(block, (0, 4, 0, 6), value=1.0) for block in blocks]
    blocks = blocks[: len(blocks) // columns * columns]
    rows = [torch.cat(blocks[k : k + columns], 2) for k in range(0, len(blocks), columns)]
    write_image(torch.cat(rows, 1), path)


def _read_sets(data: str) -> tuple[dict[str, dict[str, torch.Tensor]], list[Shown]]:
    """Kind to set to its images, for sets of at least 5 pairs, and six pairs of each to show."""
    real: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in KINDS}
    shown: list[Shown] = []
    for name, pairs in find_sets(data).items():
        if len(pairs) < 5:
            print(f"{name}: left out, since it has fewer than 5 pairs", file=sys.stderr)
            continue
        both = [(resize(p.infrared[None]), resize(p.luminance[None])) for p in pairs]
        real["infrared"][name] = torch.cat([infrared for infrared, _ in both])
        real["visible"][name] = torch.cat([visible for _, visible in both])
        shown += [(i[0], v[0]) for i, v in both[:: max(len(both) // 6, 1)][:6]]
    if not shown:
        raise ImageError(f"{data}: no set has >= 5 pairs")
    return real, shown


def _generate(count: int, seed: int) -> dict[str, torch.Tensor]:
    """Kind to generated images, rendered at twice the size of the comparison."""
    size = (2 * SIZE[0], 2 * SIZE[1])
    parts = [render(24, size, seed, start=k) for k in range(0, count, 24)]
    return {
        "infrared": resize(torch.cat([part.infrared for part in parts])),
        "visible": resize(torch.cat([luminance(part.visible) for part in parts])),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m experiments.scene_statistics")
    parser.add_argument("--data", required=True, help="folder of real sets, each with ir/ and vi/")
    parser.add_argument("--count", type=int, default=240, help="generated pairs")
    parser.add_argument("--seed", type=int, default=90_700)
    args = parser.parse_args(argv)
    try:
        real, shown = _read_sets(args.data)
    except (ImageError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    generated = _generate(args.count, args.seed)
    shares = {kind: compare(real[kind], generated[kind]) for kind in KINDS}
    flat = [
        (share, kind, name, key)
        for kind in KINDS
        for name, row in shares[kind].items()
        for key, share in row.items()
    ]
    mean, worst = sum(row[0] for row in flat) / len(flat), min(flat)
    record = {
        "command": "python -m experiments.scene_statistics --data DIR",
        "generated": args.count,
        "pairs": {name: len(images) for name, images in real["infrared"].items()},
        "share_of_real_pictures_within_the_middle_90_percent": shares,
        "mean_share": round(mean, 3),
    }
    write_json(ROOT / "docs" / "scene_statistics.json", record)
    finding = (
        f"{mean:.0%} of real values lie within the middle 90 % of generated ones; farthest off: "
        f"{worst[3]} of {worst[2]} {worst[1]} ({worst[0]:.0%})"
    )
    alt = (
        "Six plots, infrared above visible: histogram, spectrum and gradients. Lines of the real "
        f"sets run mostly inside a gray band of generated images. {finding}."
    )
    _draw(real, generated, finding, alt, ROOT / "docs" / "scene_statistics.png")
    folder = ROOT / "runs" / "scene_statistics"
    _sheet(shown, folder / "real.png")
    pairs = list(zip(generated["infrared"], generated["visible"], strict=True))
    _sheet(pairs[: len(shown)], folder / "generated.png")
    print(f"docs/scene_statistics.png, .json; sheets in {folder.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    run_command(main)
