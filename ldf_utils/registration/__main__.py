"""Align folders of pictures from the command line.

``python -m ldf_utils.registration --infrared DIR --visible DIR --output DIR [--rig]``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ldf_utils.data import radiometry
from ldf_utils.data.cli import run_command
from ldf_utils.data.decoding import decode
from ldf_utils.data.files import atomic_path, check_writable, explain
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import find_pairs
from ldf_utils.registration.align import TOLERANCE, Alignment, align, align_rig
from ldf_utils.registration.placing import common_box, warp_infrared, warp_visible
from ldf_utils.registration.store import load, save

RIG_FILE = "rig.json"
SAMPLE = 12
Files = list[tuple[str, Path, Path]]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.registration",
        description="Align infrared pictures with visible ones that another camera took beside "
        "them. Partners are found by stem. STEM.png is the infrared picture laid on the visible "
        "one, in its bit depth; STEM.json says how: the 3 x 3 matrix from visible to infrared "
        "pixels, whether a deformation was added, the confidence, and whether it was accepted. A "
        "transform that is not trusted is not applied.",
        epilog="Exit code: 0 if every pair was aligned or needed no alignment, 1 if any was not "
        "accepted or could not be read (the others are written), 2 if nothing could be done.",
    )
    parser.add_argument("--infrared", required=True, metavar="DIR", help="folder, or one picture")
    parser.add_argument("--visible", required=True, metavar="DIR", help="folder, or one picture")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--rig",
        action="store_true",
        help=f"both cameras are fixed to each other: one transform from up to {SAMPLE} pairs, also "
        f"written as {RIG_FILE}",
    )
    parser.add_argument(
        "--use", metavar="FILE", help="apply a transform that was found before to all pairs"
    )
    parser.add_argument(
        "--deformation",
        action="store_true",
        help="add a smooth displacement where it makes the pictures agree better (parallax)",
    )
    parser.add_argument(
        "--onto",
        choices=("visible", "infrared"),
        default="visible",
        help="which picture stays; infrared writes the visible picture laid on the infrared one",
    )
    parser.add_argument(
        "--view",
        choices=("whole", "common"),
        default="whole",
        help="common: also write both pictures cut to the part that both cameras see, in the "
        "folders common_ir and common_vi",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="PART",
        help="a pair that is off by less than this part of its longer side is left alone "
        f"(default {TOLERANCE})",
    )
    return parser.parse_args(argv)


def _read(files: Files, index: int, ranges: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return both pictures as gray in [0, 1]."""
    first, second = (read_image(p, r) for p, r in zip(files[index][1:], ranges, strict=True))
    return luminance(first)[0].numpy(), luminance(second)[0].numpy()


def _write_picture(picture: np.ndarray, path: Path) -> None:
    if picture.dtype.kind == "f" and picture.max(initial=0) <= 1:
        picture = (picture * 65535).round()
    if picture.dtype != np.uint8:
        if picture.ndim == 3:  # Pillow writes color in 8 bits only
            picture = (picture / np.iinfo(picture.dtype).max * 255).round().astype(np.uint8)
        else:
            picture = picture.clip(0, 65535).astype(np.uint16)
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture)).save(temporary)


def _write(found: Alignment, entry: tuple[str, Path, Path], arguments: argparse.Namespace) -> None:
    """Write the aligned picture, its JSON, and the common part."""
    stem, infrared_path, visible_path = entry
    output = Path(arguments.output)
    infrared, visible = decode(infrared_path).values, decode(visible_path).values
    if arguments.onto == "infrared":
        laid = warp_visible(visible, found)
    elif found.aligned:
        laid = infrared
    else:
        laid = warp_infrared(infrared, found)
    _write_picture(laid, output / f"{stem}.png")
    box = common_box(found)
    more = None if box is None else [box.left, box.top, box.right, box.bottom]
    names = {"infrared": infrared_path.name, "visible": visible_path.name}
    save(found, output / f"{stem}.json", common_box=more, onto=arguments.onto, **names)
    if arguments.view == "common" and box is not None:
        _write_picture(warp_infrared(infrared, found)[box.part], output / f"common_ir/{stem}.png")
        _write_picture(visible[box.part], output / f"common_vi/{stem}.png")


def _one_for_all(arguments: argparse.Namespace, files: Files, ranges: tuple) -> Alignment | None:
    if arguments.use:
        return load(arguments.use)
    if not arguments.rig:
        return None
    chosen = sorted({round(i) for i in np.linspace(0, len(files) - 1, min(SAMPLE, len(files)))})
    pairs = [_read(files, index, ranges) for index in chosen]
    found = align_rig(pairs, tolerance=arguments.tolerance)
    save(found, Path(arguments.output) / RIG_FILE, pairs=len(pairs))
    print(f"rig, from {len(pairs)} pairs: {_describe(found)}")
    return found


def _describe(found: Alignment) -> str:
    state = "accepted" if found.accepted else "left alone" if found.aligned else "REFUSED"
    added = ", with a deformation" if found.deformation is not None else ""
    return f"{state}, {found.reason}, confidence {found.confidence:.2f}{added}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = _arguments(argv)
    refused = 0
    try:
        paths = [Path(arguments.infrared), Path(arguments.visible), Path(arguments.output)]
        files, problems = find_pairs(*paths)
        check_writable(paths[2], folder=True)
        ranges = (
            radiometry.infrared_range([path for _, path, _ in files]),
            radiometry.visible_range([path for _, _, path in files]),
        )
        rig = _one_for_all(arguments, files, ranges)
        for index, entry in enumerate(tqdm(files, desc="aligning", unit="pair", disable=None)):
            try:
                if rig is not None:
                    found = rig
                else:
                    found = align(
                        *_read(files, index, ranges),
                        deformation=arguments.deformation,
                        tolerance=arguments.tolerance,
                    )
                _write(found, entry, arguments)
            except (ValueError, MemoryError) as error:
                text = str(error) or type(error).__name__
                known = any(str(path) in text for path in entry[1:])
                problems.append(text if known else f"{entry[2]}: {text}")
                continue
            refused += not (found.accepted or found.aligned)
            if rig is None:
                tqdm.write(f"{entry[0]}: {_describe(found)}")
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    print(f"{len(files) - len(problems)} pairs written into {arguments.output}, {refused} refused")
    for problem in problems:
        print(f"- {problem}", file=sys.stderr)
    return 1 if problems or refused else 0


if __name__ == "__main__":
    run_command(main, "stopped from the keyboard; the pictures that are written are whole")
