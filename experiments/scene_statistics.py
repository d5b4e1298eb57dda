"""Are generated pairs like real ones? Histograms, spectra and gradients of both, and sheets to see.

    python -m experiments.scene_statistics --data DIR   # DIR: a folder of sets with ir/ and vi/

writes ``docs/scene_statistics.png`` (curves) and ``.json`` (numbers), and, for the
eye, ``runs/scene_statistics/real.png`` and ``generated.png``. The sheets hold real pictures, whose
terms are those of their sets, so they stay out of the repository.
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

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import write_json
from ldf_utils.data.images import ImageError, luminance, write_image
from ldf_utils.data.pairs import find_sets
from ldf_utils.data.scenes import render
from ldf_utils.notebook.figures import COLORS, LINES, WIDTH, present, use_style

ROOT = Path(__file__).resolve().parent.parent
SIZE = (128, 160)
BINS = 32
KINDS = ("infrared", "visible")


def small(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures of any size at the size of the comparison, ``(B, 1, 128, 160)``."""
    return F.interpolate(pictures, SIZE, mode="bilinear", antialias=True)


def curves(pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """Three distributions of each picture.

    Args:
        pictures: ``(B, 1, 128, 160)`` in [0, 1].

    Returns:
        ``histogram`` (share of pixels a bin), ``spectrum`` (log10 of the mean power a ring of
        frequencies, relative to the lowest) and ``gradient`` (log10 of the share of pixels whose
        gradient exceeds the threshold), each ``(B, BINS)`` or shorter.
    """
    flat = pictures.flatten(1)
    bins = (flat * BINS).long().clamp(max=BINS - 1)
    histogram = F.one_hot(bins, BINS).float().mean(1)
    window = torch.hann_window(SIZE[0])[:, None] * torch.hann_window(SIZE[1])
    centered = (pictures - pictures.mean((-2, -1), keepdim=True))[:, 0]
    power = torch.fft.rfft2(centered * window).abs() ** 2
    frequency = torch.hypot(torch.fft.fftfreq(SIZE[0])[:, None], torch.fft.rfftfreq(SIZE[1])[None])
    edges = torch.logspace(-1.7, -0.31, 17)
    rings = [(frequency >= a) & (frequency < b) for a, b in itertools.pairwise(edges)]
    spectrum = torch.stack([power[:, ring].mean(1) for ring in rings], 1).clamp_min(1e-9).log10()
    dx = pictures.diff(dim=-1)[..., :-1, :]
    dy = pictures.diff(dim=-2)[..., :, :-1]
    slope = torch.hypot(dx, dy).flatten(1)
    limits = torch.logspace(-2.5, -0.3, 16)
    gradient = (slope[:, None] > limits[:, None]).float().mean(-1).clamp_min(1e-4).log10()
    return {"histogram": histogram, "spectrum": spectrum - spectrum[:, :1], "gradient": gradient}


def numbers(pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """One number each: mean, contrast, sharpness, slope of the spectrum, skewness; ``(B,)``."""
    made = curves(pictures)
    flat = pictures.flatten(1)
    mean, std = flat.mean(1), flat.std(1)
    gradient = pictures.diff(dim=-1).abs().mean((1, 2, 3)) + pictures.diff(dim=-2).abs().mean(
        (1, 2, 3)
    )
    skew = ((flat - mean[:, None]) ** 3).mean(1) / std.clamp_min(1e-4) ** 3
    return {
        "mean": mean, "standard deviation": std, "mean gradient": gradient / 2,
        "fall of the spectrum": -made["spectrum"][:, -4:].mean(1), "skewness": skew,
    }  # fmt: skip


def compare(real: dict[str, torch.Tensor], generated: torch.Tensor) -> dict[str, dict[str, float]]:
    """Share of real pictures that lie within the middle 90 % of the generated ones, per number."""
    rows = numbers(generated)
    limits = {k: torch.quantile(v, torch.tensor([0.05, 0.95])) for k, v in rows.items()}
    return {
        name: {
            key: round(float(((v >= limits[key][0]) & (v <= limits[key][1])).float().mean()), 3)
            for key, v in numbers(pictures).items()
        }
        for name, pictures in real.items()
    }


def _draw(real: dict, generated: dict, title: str, alt: str, path: Path) -> None:
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.6), layout="constrained", sharex="col")
    labels = {"histogram": "luminance", "spectrum": "frequency (log scale)",
              "gradient": "threshold (log scale)"}  # fmt: skip
    heights = {"histogram": "share of pixels", "spectrum": "power, log10",
               "gradient": "share above it, log10"}  # fmt: skip
    for row, kind in zip(axes, KINDS, strict=True):
        made = curves(generated[kind])
        for ax, key in zip(row, labels, strict=True):
            low, high = torch.quantile(made[key], torch.tensor([0.1, 0.9]), dim=0)
            x = torch.linspace(0, 1, made[key].shape[1])
            ax.fill_between(x, low, high, color="#cfcfcf", label="generated, 10 to 90 %")
            styles = zip(COLORS, LINES, strict=True)
            for (name, pictures), (color, line) in zip(real[kind].items(), styles, strict=False):
                ax.plot(x, curves(pictures)[key].median(0).values, color=color, linestyle=line,
                        label=name)  # fmt: skip
            ax.set_title(f"{kind}: {key}", loc="left")
            ax.set_ylabel(heights[key])
            if kind == KINDS[-1]:
                ax.set_xlabel(labels[key])
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncol=3)
    present(
        fig,
        title=title,
        caption="Median of each real set against the middle 80 % of generated pictures, all at "
        f"{SIZE[1]} x {SIZE[0]} pixels (`python -m experiments.scene_statistics`).",
        alt=alt,
        path=path,
    )


def _sheet(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], path: Path, columns: int = 6
) -> Path:
    """Infrared above visible, ``columns`` pairs a row."""
    blocks = [torch.cat([small(i[None])[0], small(v[None])[0]], 1) for i, v in pairs]
    blocks = [F.pad(block, (0, 4, 0, 6), value=1.0) for block in blocks]
    blocks = blocks[: len(blocks) // columns * columns]
    rows = [torch.cat(blocks[k : k + columns], 2) for k in range(0, len(blocks), columns)]
    return write_image(torch.cat(rows, 1), path)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.scene_statistics")
    parser.add_argument("--data", required=True, help="folder of real sets, each with ir/ and vi/")
    parser.add_argument("--count", type=int, default=240, help="generated pairs")
    parser.add_argument("--seed", type=int, default=90_700)
    args = parser.parse_args(argv)
    try:
        sets = {name: pairs for name, pairs in find_sets(args.data).items() if len(pairs) >= 5}
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    real: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in KINDS}
    shown = []
    for name, pairs in sets.items():
        both = [(small(p.infrared[None]), small(p.luminance[None])) for p in pairs]
        real["infrared"][name] = torch.cat([infrared for infrared, _ in both])
        real["visible"][name] = torch.cat([visible for _, visible in both])
        shown += [(i[0], v[0]) for i, v in both[:: max(len(both) // 6, 1)][:6]]
    size = (2 * SIZE[0], 2 * SIZE[1])
    parts = [render(24, size, args.seed, start=k) for k in range(0, args.count, 24)]
    generated = {
        "infrared": small(torch.cat([part.infrared for part in parts])),
        "visible": small(torch.cat([luminance(part.visible) for part in parts])),
    }
    shares = {kind: compare(real[kind], generated[kind]) for kind in KINDS}
    values = [v for kind in KINDS for row in shares[kind].values() for v in row.values()]
    inside = sum(values) / len(values)
    worst = min(
        ((v, kind, name, key) for kind in KINDS for name, row in shares[kind].items()
         for key, v in row.items()),
    )  # fmt: skip
    write_json(
        ROOT / "docs" / "scene_statistics.json",
        {"command": "python -m experiments.scene_statistics --data DIR", "generated": args.count,
         "pairs": {name: len(pairs) for name, pairs in sets.items()},
         "share_of_real_pictures_within_the_middle_90_percent": shares,
         "mean_share": round(inside, 3)},
    )  # fmt: skip
    finding = (
        f"{inside:.0%} of real values lie within the middle 90 % of generated ones; farthest off: "
        f"{worst[3]} of {worst[2]} {worst[1]} ({worst[0]:.0%})"
    )
    alt = (
        "Six plots, infrared above visible: histogram, spectrum and gradients. Lines of the real "
        f"sets run mostly inside a grey band of generated pictures. {finding}."
    )
    _draw(real, generated, finding, alt, ROOT / "docs" / "scene_statistics.png")
    folder = ROOT / "runs" / "scene_statistics"
    _sheet(shown, folder / "real.png")
    count = min(len(shown), args.count)
    _sheet([(generated["infrared"][k], generated["visible"][k]) for k in range(count)],
           folder / "generated.png")  # fmt: skip
    print(f"docs/scene_statistics.png, .json; sheets in {folder.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    run_command(main)
