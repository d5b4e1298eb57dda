"""Flicker of fused clips, as each frame is fused and with range, gain and tone held over time.

``python -m experiments.flicker DIR``: DIR holds clips of equal name in ``ir/`` and ``vi/``, or
frames of one sequence in ``ir/`` and ``vi/``.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_text
from ldf_utils.fusion.inference import Network
from ldf_utils.fusion.runtime import onnx_network
from ldf_utils.fusion.steady import SteadyOutput
from ldf_utils.fusion.video import fuse_frames
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.video.flicker import Flicker
from ldf_utils.video.frames import ClipError, is_clip
from ldf_utils.video.matching import ClipPair, open_clips


def find_clips(folder: Path) -> Iterator[tuple[str, ClipPair]]:
    """Find the pairs of clips, or the one sequence of frames, of a folder.

    Yields:
        Name and clips.

    Raises:
        ClipError: if there is neither.
    """
    names = sorted(path.name for path in (folder / "ir").glob("*") if is_clip(path))
    if not names:
        if not (folder / "ir").is_dir():
            raise ClipError(f"{folder}: expected ir/ and vi/ with clips or frames in it")
        yield folder.resolve().name, open_clips(folder / "ir", folder / "vi")
    for name in names:
        yield Path(name).stem, open_clips(folder / "ir" / name, folder / "vi" / name)


def measure(network: Network, clips: ClipPair, frames: int | None) -> tuple[Flicker, Flicker]:
    """Measure the first frames of a clip as they are fused, and held over time."""
    plain, held, steady = Flicker(), Flicker(), SteadyOutput()
    total = min(frames or len(clips), len(clips))
    fused = itertools.islice(fuse_frames(network, clips), total)
    for pair, frame in tqdm(fused, total=total, unit="frame", disable=None):
        infrared, visible = pair.infrared.luminance, pair.visible.luminance
        plain.add(infrared, visible, frame.luminance)
        held.add(infrared, visible, steady(infrared, visible, frame.luminance))
    return plain, held


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.flicker", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--weights", default="shipped", help="as for fusing (default: shipped)")
    parser.add_argument("--runtime", choices=("torch", "onnx"), default="torch")
    parser.add_argument("--frames", type=int, metavar="N", help="of each clip (default: all)")
    parser.add_argument("--output", metavar="FILE", help="write the table there, as Markdown")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    try:
        network: Network = load_network(arguments.weights)
        if arguments.runtime == "onnx":
            assert isinstance(network, torch.nn.Module)
            network = onnx_network(network, threads=1)
        rows = ["| clip | frames | still | as fused | held over time |", "|---|---|---|---|---|"]
        for name, clips in find_clips(arguments.folder):
            plain, held = measure(network, clips, arguments.frames)
            count = min(arguments.frames or len(clips), len(clips))
            rows.append(
                f"| {name} | {count} | {plain.still:.0%} | {plain.ratio:.2f} | {held.ratio:.2f} |"
            )
            print(rows[-1], flush=True)
        if arguments.output:
            write_text(arguments.output, "\n".join(rows) + "\n")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    run_command(main)
