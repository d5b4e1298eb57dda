"""Measure how much a fused clip flickers where nothing happens.

``python -m ldf_utils.video --infrared A.mp4 --visible B.mp4 --fused C.mp4``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain
from ldf_utils.video.flicker import measure_flicker
from ldf_utils.video.frames import ClipError
from ldf_utils.video.matching import open_clips
from ldf_utils.video.reading import open_visible


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.video",
        description="Measure the flicker of a fused clip: its mean change from frame to frame in "
        "places where both sources are still, over that of the less steady source.",
    )
    parser.add_argument("--infrared", required=True, metavar="CLIP", help="or a folder of frames")
    parser.add_argument("--visible", required=True, metavar="CLIP", help="or a folder of frames")
    parser.add_argument("--fused", required=True, metavar="CLIP", help="or a folder of frames")
    parser.add_argument(
        "--offset", type=float, default=0.0, metavar="SECONDS", help="as for fusing (default 0)"
    )
    arguments = parser.parse_args(argv)
    try:
        clips = open_clips(
            arguments.infrared, arguments.visible, offset=arguments.offset, overlap=True
        )
        fused = open_visible(arguments.fused)
        if len(fused) != len(clips):
            raise ClipError(
                f"{arguments.fused}: expected {len(clips)} frames, as many as both sources have "
                f"in common, found {len(fused)}"
            )
        flicker = measure_flicker(
            (pair.infrared.luminance, pair.visible.luminance, frame.luminance)
            for pair, frame in zip(clips, fused, strict=True)
        )
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    print(flicker)
    return 0


if __name__ == "__main__":
    run_command(main)
