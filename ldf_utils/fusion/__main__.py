"""Fuse folders of pictures, or clips, from the command line.

``python -m ldf_utils.fusion --infrared DIR --visible DIR --output DIR [--weights FILE]``
``python -m ldf_utils.fusion --infrared A.mp4 --visible B.mp4 --output C.mp4``
``python -m ldf_utils.fusion --sentence "a dark image" --infrared DIR --visible DIR --output DIR``
``python -m ldf_utils.fusion export --to onnx --output FUSION.onnx``

A large folder is divided among the processes of ``torchrun``, each of which takes every n-th pair;
the first one reports for all:
``torchrun --standalone --nproc_per_node=4 -m ldf_utils.fusion ...``
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import check_writable, explain
from ldf_utils.fusion.alignment import add_align_arguments, align_clips, align_folder
from ldf_utils.fusion.clip_command import add_clip_arguments, fuse_sequence, is_sequence
from ldf_utils.fusion.export import export_onnx
from ldf_utils.fusion.inference import TILE, Network, fuse_folder
from ldf_utils.fusion.runtime import onnx_network
from ldf_utils.fusion.sentence import network_for
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.training.distributed import Team, join_team


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.fusion",
        description="Fuse registered infrared and visible pictures, or clips. Partners of a folder "
        "are found by stem; the color of a result is that of the visible picture.",
        epilog="Exit code: 0 if every pair was fused, 1 if any was not (the others are written), "
        "2 if nothing could be done or the disk is full.",
    )
    parser.add_argument(
        "--infrared", required=True, metavar="PATH", help="folder, one picture, or a clip"
    )
    parser.add_argument("--visible", required=True, metavar="PATH", help="likewise")
    parser.add_argument(
        "--output", required=True, metavar="PATH", help="folder of the results (STEM.png), or clip"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="shipped (the default), student (faster), sentence, ld-lite, ldfusion, or a file",
    )
    _add_sentence(parser)
    parser.add_argument(
        "--bits",
        choices=("auto", "8", "16"),
        default="auto",
        help="auto: 16 where the visible picture is gray and one of both is deeper than 8, else 8",
    )
    parser.add_argument(
        "--infrared-range",
        default="auto",
        metavar="RANGE",
        help="which counts of deep infrared pictures are black and white, the same for all: auto "
        "(stretched where they fill little of their depth; it is logged), full, or LOW:HIGH",
    )
    parser.add_argument(
        "--polarity",
        choices=("white-hot", "black-hot"),
        default="white-hot",
        help="how the infrared pictures show what is hot (default: white-hot)",
    )
    parser.add_argument(
        "--tile",
        type=int,
        default=TILE,
        metavar="PIXELS",
        help=f"images of more than PIXELS x PIXELS are fused in tiles (default {TILE}; 0: never)",
    )
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument(
        "--runtime",
        choices=("torch", "onnx"),
        default="torch",
        help="what runs the network: torch (the default), or ONNX Runtime, faster on a CPU; the "
        "network is exported for it once",
    )
    add_align_arguments(parser)
    add_clip_arguments(parser)
    return parser.parse_args(argv)


def _add_sentence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sentence",
        metavar="TEXT",
        help="what the fused picture is to be, such as 'a dark image with salient people'; the "
        "weights are then those of the network that takes sentences",
    )
    parser.add_argument(
        "--clip", default="mini", metavar="NAME", help="that it was trained with (default: mini)"
    )


def _network(arguments: argparse.Namespace, team: Team) -> Network:
    if arguments.weights is None:
        arguments.weights = "shipped" if arguments.sentence is None else "sentence"
    network = network_for(arguments.weights, arguments.sentence, arguments.clip)
    if arguments.runtime == "torch":
        return network.to(team.device)
    if team.device.type != "cpu":
        raise ValueError(
            f"--runtime onnx runs on the CPU, found --device {arguments.device}; leave one out"
        )
    return onnx_network(network, threads=1 if is_sequence(arguments) else None)


def export(argv: Sequence[str]) -> int:
    """Run the command line of ``export`` and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.fusion export",
        description="Write a fusion network for other programs: one file, for pairs of any size.",
    )
    parser.add_argument("--to", choices=("onnx",), default="onnx", help="format (default onnx)")
    parser.add_argument("--output", required=True, metavar="FILE", help="for example fusion.onnx")
    parser.add_argument(
        "--weights",
        default="shipped",
        metavar="FILE",
        help="as for fusing (default: shipped); sentence gives a file that takes text directions "
        "as a third input",
    )
    parser.add_argument(
        "--luminance",
        action="store_true",
        help="without the conversion from and to color: visible and fused have one channel",
    )
    arguments = parser.parse_args(argv)
    try:
        check_writable(arguments.output)
        network = load_network(arguments.weights)
        path = export_onnx(network, arguments.output, color=not arguments.luminance)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    print(f"{path}: {type(network).__name__}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["export"]:
        return export(argv[1:])
    arguments = _arguments(argv)
    if not sys.stderr.isatty():  # no bar there: one line per picture instead
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        team = join_team(arguments.device)
        if team.rank > 0:  # the first process speaks for all
            logging.disable(logging.WARNING)
        network = _network(arguments, team)
        if is_sequence(arguments):
            return fuse_sequence(network, arguments, team, align_clips(arguments))
        report = fuse_folder(
            network,
            arguments.infrared,
            arguments.visible,
            arguments.output,
            bits=None if arguments.bits == "auto" else int(arguments.bits),
            tile=arguments.tile or None,
            team=team,
            infrared_range=arguments.infrared_range,
            black_hot=arguments.polarity == "black-hot",
            align=align_folder(arguments, save=team.rank == 0),
        )
    except (
        ValueError,
        RuntimeError,
        OSError,
        ImportError,
    ) as error:  # weights, folders, device, disk
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    if team.rank > 0:
        return 1 if report.problems else 0
    print(f"{len(report.written)} fused into {arguments.output}")
    if report.problems:
        print(f"{len(report.problems)} not fused:", file=sys.stderr)
        for problem in report.problems:
            print(f"- {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(
        main,
        "stopped from the keyboard; what is written is whole, and a clip goes on where it stopped",
    )
