"""The part of ``python -m ldf_utils.fusion`` that is about clips and sequences of frames."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ldf_utils.fusion.inference import Network
from ldf_utils.fusion.video import Align, fuse_clip
from ldf_utils.training.distributed import Team
from ldf_utils.video.frames import is_clip
from ldf_utils.video.matching import ClipPair, open_clips
from ldf_utils.video.reading import LAYOUTS
from ldf_utils.video.writing import CODEC, QUALITY


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what clips have beyond pictures."""
    group = parser.add_argument_group(
        "clips",
        "Used if one of the three is a clip (.mp4, .mkv, ...), or with --sequence. They need PyAV. "
        "The result has the time stamps and the sound of the visible clip; a run that was "
        "interrupted goes on when it is called again.",
    )
    group.add_argument(
        "--sequence",
        action="store_true",
        help="the folders hold the frames of one clip: hold the result steady over time",
    )
    group.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="one clip holds both pictures side by side (give it as --infrared and --visible)",
    )
    group.add_argument(
        "--offset",
        default="0",
        metavar="SECONDS",
        help="what is at t in the visible clip is at t + SECONDS in the infrared one (default 0); "
        "auto finds it by the motion in both",
    )
    group.add_argument(
        "--overlap", action="store_true", help="fuse what both clips cover, and leave out the rest"
    )
    group.add_argument(
        "--nearest",
        action="store_true",
        help="frame rates may differ: take the infrared frame that is nearest in time",
    )
    group.add_argument(
        "--rate",
        type=float,
        metavar="FPS",
        help="frames a second of a folder (default: those of the other clip, or 25)",
    )
    group.add_argument(
        "--flickering",
        action="store_true",
        help="show each frame as it is fused; by default range, gain and tone are held over time",
    )
    group.add_argument("--codec", default=CODEC, help=f"encoder of FFmpeg (default {CODEC})")
    group.add_argument(
        "--quality",
        type=int,
        default=QUALITY,
        metavar="CRF",
        help=f"constant rate factor of the encoder, lower is better (default {QUALITY})",
    )


def is_sequence(arguments: argparse.Namespace) -> bool:
    """Return whether clips are to be fused, not pictures."""
    named = (arguments.infrared, arguments.visible, arguments.output)
    return arguments.sequence or arguments.layout is not None or any(map(is_clip, named))


def fuse_sequence(
    network: Network,
    arguments: argparse.Namespace,
    team: Team,
    plan_alignment: Callable[[ClipPair], Align | None],
) -> int:
    """Fuse two clips as the command line says, and return the exit code."""
    if team.count > 1:
        raise ValueError(
            f"a clip is fused by one process, found {team.count}; its frames are divided among "
            "the cores as it is. Run the command without torchrun"
        )
    try:
        offset = arguments.offset if arguments.offset == "auto" else float(arguments.offset)
    except ValueError:
        raise ValueError(
            f"--offset must be auto or a number of seconds, got {arguments.offset!r}"
        ) from None
    clips = open_clips(
        arguments.infrared,
        arguments.visible,
        layout=arguments.layout,
        infrared_range=arguments.infrared_range,
        black_hot=arguments.polarity == "black-hot",
        rate=arguments.rate,
        offset=offset,
        overlap=arguments.overlap,
        nearest=arguments.nearest,
    )
    report = fuse_clip(
        network,
        clips,
        arguments.output,
        steady=not arguments.flickering,
        align=plan_alignment(clips),
        tile=arguments.tile or None,
        bits=None if arguments.bits == "auto" else int(arguments.bits),
        codec=arguments.codec,
        quality=arguments.quality,
        settings={
            "weights": arguments.weights,
            "sentence": arguments.sentence,
            "runtime": arguments.runtime,
            "range": arguments.infrared_range,
            "polarity": arguments.polarity,
            "layout": arguments.layout,
            "align": arguments.align,
        },
    )
    print(f"{report.frames} frames fused into {report.output}, {report.flicker}")
    return 0
