"""How fast the metrics are: ``python -m experiments.metrics_speed``."""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import piq
import torch
import torch.nn.functional as F

from ldf_utils.data.cli import run_command
from ldf_utils.evaluation.workers import run_in_order
from ldf_utils.metrics import METRICS, USUAL, measure

HEIGHT, WIDTH = 576, 768


def example(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Fused, infrared and visible ``(1, 1, H, W)`` uint8 pictures: smooth shapes and noise."""
    generator = torch.Generator().manual_seed(seed)

    def picture() -> torch.Tensor:
        coarse = torch.rand(1, 1, 9, 12, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
        return 255 * smooth + 6 * torch.randn(1, 1, height, width, generator=generator)

    infrared, visible = picture(), picture()
    pictures = ((infrared + visible) / 2, infrared, visible)
    return tuple(x.clamp(0, 255).round().to(torch.uint8) for x in pictures)


# --- direct implementations, as popular evaluators write them -------------------------------------


def _direct_mutual_information(fused: torch.Tensor, *sources: torch.Tensor) -> float:
    total = 0.0
    for source in sources:
        joint, _, _ = np.histogram2d(
            fused.numpy().ravel(), source.numpy().ravel(), bins=256, range=[[0, 256]] * 2
        )
        joint /= joint.sum()
        apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        there = joint > 0
        total += (joint[there] * np.log(joint[there] / apart[there])).sum()
    return total


def _direct_ssim(fused: torch.Tensor, *sources: torch.Tensor) -> float:
    """Each window by a dense convolution, each moment by its own."""
    kernel = torch.full((1, 1, 7, 7), 1 / 49, dtype=torch.float64)
    total = 0.0
    for source in sources:
        x, y = fused.double(), source.double()
        means = [F.conv2d(image, kernel) for image in (x, y, x * x, y * y, x * y)]
        mx, my, xx, yy, xy = means
        vx, vy, cov = ((a - b) * 49 / 48 for a, b in ((xx, mx * mx), (yy, my * my), (xy, mx * my)))
        c1, c2 = 2.55**2, 7.65**2
        total += (
            ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
            .mean()
            .item()
        )
    return total


def _direct_vif(fused: torch.Tensor, *sources: torch.Tensor) -> float:
    """piq's, with dense windows of up to 17 x 17."""
    return sum(
        piq.vif_p(fused.double(), source.double(), data_range=255.0).item() for source in sources
    )


def _direct_ms_ssim(fused: torch.Tensor, *sources: torch.Tensor) -> float:
    """piq's, with dense windows of 11 x 11."""
    return sum(
        piq.multi_scale_ssim(fused.double(), source.double(), data_range=255.0).item()
        for source in sources
    )


def _direct_qabf(fused: torch.Tensor, *sources: torch.Tensor) -> float:
    """One picture after the other in numpy, on whole arrays."""
    kernel = torch.tensor([[[[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]]], dtype=torch.float64)
    kernel = torch.cat([kernel, -kernel.mT])

    def edges(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        x, y = F.conv2d(image.double(), kernel, padding=1)[0].numpy()
        angle = np.full(x.shape, math.pi / 2)
        angle[x != 0] = np.arctan(y[x != 0] / x[x != 0])
        return np.sqrt(x**2 + y**2), angle

    strength, angle = edges(fused)
    above = below = 0.0
    for source in sources:
        own, orientation = edges(source)
        ratio = strength.copy()
        weaker, stronger = own < strength, own > strength
        ratio[weaker] = own[weaker] / strength[weaker]
        ratio[stronger] = strength[stronger] / own[stronger]
        agreement = 1 - np.abs(orientation - angle) / (math.pi / 2)
        quality = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
        quality *= 0.9879 / (1 + np.exp(-22 * (agreement - 0.8)))
        above += (quality * own).sum()
        below += own.sum()
    return above / below


DIRECT: dict[str, Callable[..., float]] = {
    "MI": _direct_mutual_information,
    "SSIM": _direct_ssim,
    "MS-SSIM": _direct_ms_ssim,
    "VIF": _direct_vif,
    "Qabf": _direct_qabf,
}


def _seconds(function: Callable[[], object], repeats: int) -> float:
    """Processor time of the shortest of some runs after one to warm up.

    With one thread that is the time on the clock, without what other programs take meanwhile.
    """
    function()
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def _peak_memory() -> str:
    """Largest resident memory of this process so far."""
    if sys.platform == "win32":  # which has no such module
        return "unknown"
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20:.0f} MiB"


def _usual(arrays: Sequence[np.ndarray]) -> None:
    fused, infrared, visible = map(torch.from_numpy, arrays)
    measure(fused, infrared, visible)


def _folder_rates(triple: tuple[torch.Tensor, ...], pairs: int, repeats: int) -> list[float]:
    """Seconds on the clock a pair, the usual nine, by one process and by two.

    Both are measured in turn, so that what else the computer does meets them alike; medians.
    """
    found: dict[int, list[float]] = {1: [], 2: []}
    arrays = [[image.numpy() for image in triple]] * pairs
    for _ in range(repeats):
        for workers, seconds in found.items():
            start = time.perf_counter()
            list(run_in_order(_usual, iter(arrays), workers, print))
            seconds.append((time.perf_counter() - start) / pairs)
    return [statistics.median(seconds) for seconds in found.values()]


def benchmark(height: int = HEIGHT, width: int = WIDTH, repeats: int = 5) -> None:
    """Print the time of each metric on one core, and of direct implementations in the same run.

    Args:
        height: of the pictures.
        width: of the pictures.
        repeats: runs of each, of which the shortest counts; direct ones take a third of them.
    """
    torch.set_num_threads(1)
    triple = example(height, width)
    print(f"One pair of {height} x {width} pixels, one core, the best of {repeats} run(s).\n")
    print(f"{'metric':<17}{'ms':>9}{'direct, ms':>13}{'ratio':>8}{'difference':>13}")
    ours = theirs = 0.0
    for name, metric in METRICS.items():
        needed = _seconds(functools.partial(metric.function, *triple), repeats)
        line = f"{name:<17}{needed * 1e3:>9.1f}"
        if name in DIRECT:
            direct = DIRECT[name]
            slow = _seconds(functools.partial(direct, *triple), max(1, repeats // 3))
            difference = abs(direct(*triple) - metric.function(*triple).item())
            line += f"{slow * 1e3:>13.1f}{slow / needed:>8.1f}{difference:>13.1e}"
            ours, theirs = ours + needed, theirs + slow
        print(line, flush=True)
    usual = _seconds(lambda: measure(*triple), repeats)
    print(f"\nThe usual nine ({', '.join(USUAL)}) together: {usual * 1e3:.1f} ms a pair")
    print(f"{', '.join(DIRECT)}: direct implementations take {theirs / ours:.1f} times as long")
    pairs = 4 * repeats
    alone, both = _folder_rates(triple, pairs, repeats)
    print(
        f"{pairs} pairs, the usual nine: {alone * 1e3:.0f} ms a pair by one worker, "
        f"{both * 1e3:.0f} ms by two ({alone / both:.2f} times as fast; medians of {repeats})"
    )
    print(f"Peak memory of the process: {_peak_memory()}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: the benchmark, or with ``--list`` the metrics with their definitions."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.metrics_speed",
        description="Measures the time of each metric, and of direct implementations beside it.",
    )
    parser.add_argument("--list", action="store_true", help="only list the metrics, defined")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="pictures of a ninth of the pixels: the ratios hold, in about a tenth of the time",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help=f"of the pictures (default: {HEIGHT} {WIDTH})",
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (default: 5)")
    arguments = parser.parse_args(argv)
    if arguments.list:
        for metric in METRICS.values():
            print(f"{metric.header:<20} {metric.definition} ({metric.source})")
        return 0
    quick = (HEIGHT // 3, WIDTH // 3)
    height, width = arguments.size or (quick if arguments.quick else (HEIGHT, WIDTH))
    smallest = max(metric.smallest for metric in METRICS.values())
    if min(height, width) < smallest or arguments.repeats < 1:
        parser.error(f"a size from {smallest} x {smallest} and at least one run are needed")
    benchmark(height, width, arguments.repeats)
    return 0


if __name__ == "__main__":
    run_command(main)
