"""Speed of fusing clips: what runs the network, how frames share the cores, and the other stages.

``python -m experiments.fusion_speed [--size 640x480] [--rounds 9] [--compile] [--output FILE]``

Variants are measured in turn, round after round, and compared by the ratio of their medians, so
that what else the machine does hits all alike. Beside the time that passes, the time of all cores
is given; that of a busy machine is nearly that of a quiet one.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_text
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.fusion.inference import Network
from ldf_utils.fusion.runtime import onnx_network
from ldf_utils.fusion.steady import SteadyOutput
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.video.frames import Frame
from ldf_utils.video.matching import open_clips
from ldf_utils.video.writing import ClipWriter

Variant = Callable[[], int]
"""Does the work for some frames and returns how many."""


def scene(size: tuple[int, int], count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Make pairs with structure of several scales and noise, ``(1, 1, H, W)`` each."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 1, size[0] // 16, size[1] // 16, generator=generator)
    still = nn.functional.interpolate(small, size, mode="bilinear")
    pairs = []
    for k in range(count):
        noisy = still + 0.02 * torch.randn(still.shape, generator=generator)
        noisy[0, :, size[0] // 3 : size[0] // 2, 5 * k : 5 * k + 40] = 0.9
        infrared, visible = noisy.clamp(0, 1)[:, None].unbind()
        pairs.append((infrared, visible))
    return pairs


def by_all_cores(
    network: Network, pairs: list[tuple[torch.Tensor, torch.Tensor]], cores: int
) -> Variant:
    """Fuse one frame after another, each by all cores."""

    def run() -> int:
        torch.set_num_threads(cores)
        with torch.no_grad():
            for pair in pairs:
                network(*pair)
        return len(pairs)

    return run


def by_one_core_each(
    network: Network, pairs: list[tuple[torch.Tensor, torch.Tensor]], cores: int
) -> Variant:
    """Fuse as many frames at a time as there are cores, as `fuse_clip` does."""

    def one(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
        with torch.no_grad():
            network(*pair)

    def run() -> int:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(cores, initializer=lambda: torch.set_num_threads(1)) as pool:
            list(pool.map(one, pairs))
        return len(pairs)

    return run


def as_trained(network: Network) -> Network:
    """Run a network by the operators that it is trained with."""

    def run(infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return network(infrared, visible)

    return run


def network_variants(size: tuple[int, int], cores: int, compiled: bool) -> dict[str, Variant]:
    """Return what can run the network, and how, by name; the first is what others are over."""
    pairs = scene(size, 2 * cores)
    shipped = load_network("shipped").requires_grad_(False)
    found: dict[str, Variant] = {
        "torch, operators of training, a frame by all cores": by_all_cores(
            as_trained(shipped), pairs, cores
        ),
        "torch, a frame by all cores": by_all_cores(shipped, pairs, cores),
        "torch, a frame for each core": by_one_core_each(shipped, pairs, cores),
    }
    if compiled:
        fast = torch.compile(shipped)
        found["torch.compile, a frame by all cores"] = by_all_cores(fast, pairs, cores)
    found["ONNX Runtime, a frame by all cores"] = by_all_cores(
        onnx_network(shipped, cores), pairs, cores
    )
    found["ONNX Runtime, a frame for each core"] = by_one_core_each(
        onnx_network(shipped, 1), pairs, cores
    )
    student = load_network("student").requires_grad_(False)
    found["student, torch, a frame for each core"] = by_one_core_each(student, pairs, cores)
    found["student, ONNX Runtime, a frame for each core"] = by_one_core_each(
        onnx_network(student, 1), pairs, cores
    )
    try:
        lite = load_network("ld-lite").requires_grad_(False)
        found["LD-Lite, torch, a frame by all cores"] = by_all_cores(lite, pairs[:1], cores)
    except WeightsError:
        print("LD-Lite is left out: its weights are not here", file=sys.stderr)
    return found


def stage_variants(size: tuple[int, int], folder: Path) -> dict[str, Variant]:
    """Return what a clip needs beside the network, by name, on one core."""
    pairs = scene(size, 12)
    gray = torch.full((2, (size[0] + 1) // 2, (size[1] + 1) // 2), 120, dtype=torch.uint8)
    frames = [
        (
            Frame(k, Fraction(k, 25), infrared[0]),
            Frame(k, Fraction(k, 25), visible[0], gray),
        )
        for k, (infrared, visible) in enumerate(pairs)
    ]

    def write(path: Path, which: int) -> int:
        with ClipWriter(path, size, 25) as writer:
            for frame in frames:
                writer.write(frame[which])
        return len(frames)

    write(folder / "ir.mp4", 0)
    write(folder / "vi.mp4", 1)

    def hold() -> int:
        steady = SteadyOutput()
        for infrared, visible in frames:
            steady(infrared.luminance, visible.luminance, visible.luminance)
        return len(frames)

    def by_one_core(work: Variant) -> Variant:
        def run() -> int:
            torch.set_num_threads(1)
            return work()

        return run

    stages: dict[str, Variant] = {
        "decoding both clips": lambda: sum(
            1 for _ in open_clips(folder / "ir.mp4", folder / "vi.mp4")
        ),
        "holding range, gain and tone": hold,
        "encoding the result": lambda: write(folder / "fused.mp4", 1),
    }
    return {name: by_one_core(work) for name, work in stages.items()}


def measure(variants: dict[str, Variant], rounds: int) -> dict[str, tuple[float, float]]:
    """Measure in turn: the median of the milliseconds a frame, of the clock and of all cores."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    steps = list(itertools.product(range(rounds + 1), variants))
    for number, name in tqdm(steps, disable=None, unit="run"):
        clock, cores = time.perf_counter(), time.process_time()
        frames = variants[name]()
        if number:  # the first round warms up
            taken = (time.perf_counter() - clock, time.process_time() - cores)
            times[name].append((1000 * taken[0] / frames, 1000 * taken[1] / frames))
    return {
        name: (statistics.median(t[0] for t in found), statistics.median(t[1] for t in found))
        for name, found in times.items()
    }


def table(size: tuple[int, int], cores: int, rounds: int, compiled: bool) -> list[str]:
    """Measure all of one size, as lines of Markdown."""
    height, width = size
    lines = [
        f"| {width} x {height}, {cores} core(s) | ms a frame | ratio | ms of all cores | ratio |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for variants in (
            network_variants(size, cores, compiled),
            stage_variants(size, Path(folder)),
        ):
            found = measure(variants, rounds)
            first = next(iter(found.values()))
            for name, (clock, used) in found.items():
                lines.append(
                    f"| {name} | {clock:.1f} | {clock / first[0]:.2f} | {used:.1f} | "
                    f"{used / first[1]:.2f} |"
                )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fusion_speed",
        description="Measure the speed of fusing clips, variants in turn, by ratios of medians.",
    )
    parser.add_argument("--size", default="640x480", metavar="WxH", help="default 640x480")
    parser.add_argument("--rounds", type=int, default=9, help="of all variants (default 9)")
    parser.add_argument("--cores", type=int, default=2, help="to use (default 2)")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile too: needs a C++ compiler and minutes"
    )
    parser.add_argument("--output", metavar="FILE", help="write the table there, as Markdown")
    arguments = parser.parse_args(argv)
    try:
        width, _, height = arguments.size.partition("x")
        if not (width.isdigit() and height.isdigit()):
            raise ValueError(f"--size must be WIDTHxHEIGHT, got {arguments.size!r}")
        if arguments.rounds < 1 or arguments.cores < 1:
            raise ValueError("--rounds and --cores must be >= 1")
        size = (int(height), int(width))
        lines = table(size, arguments.cores, arguments.rounds, arguments.compile)
        if arguments.output:
            write_text(arguments.output, "\n".join(lines) + "\n")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    run_command(main)
