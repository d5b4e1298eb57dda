"""Command line: ``python -m experiments.world render --set NAME --count N --seed S --size WxH``."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.world import jobs
from experiments.world.worlds import KINDS, LAYOUTS, Wish
from ldf_utils.data.cli import run_command


def size(text: str) -> tuple[int, int]:
    """Read ``WxH``."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"size must be like 320x240, got {text!r}") from error
    if width % 2 or height % 2 or min(width, height) < 32:
        raise argparse.ArgumentTypeError(f"size must be even and at least 32, got {text!r}")
    return width, height


def indices_of(text: str) -> list[int]:
    """Read a list of numbers and ranges.

    Example:
        >>> indices_of("0-2,5")
        [0, 1, 2, 5]
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise argparse.ArgumentTypeError(f"indices must be like 0-12,14, got {text!r}")
        found += range(int(first), int(last or first) + 1)
    return found


def _folder(args: argparse.Namespace) -> Path:
    return Path(args.out or Path("runs") / "world" / args.set)


def render(args: argparse.Namespace) -> int:
    """Render the pairs that are not there yet."""
    rest = (args.size, args.samples, Wish(args.layout, args.light, args.air, args.black_hot))
    indices = args.indices or range(args.start, args.start + args.count)
    return min(1, jobs.run(jobs.render_one, _folder(args), args.seed, indices, rest, args.jobs))


def sequence(args: argparse.Namespace) -> int:
    """Render a sequence of frames."""
    rest = (args.size, args.samples, args.light)
    frames = range(args.count)
    return min(1, jobs.run(jobs.render_frame, _folder(args), args.seed, frames, rest, args.jobs))


def parallax(args: argparse.Namespace) -> int:
    """Render pairs of two cameras side by side."""
    rest, what = (args.size, args.samples, args.baseline), jobs.render_side_by_side
    return min(1, jobs.run(what, _folder(args), args.seed, range(args.count), rest, args.jobs))


def pack(args: argparse.Namespace) -> int:
    """Pack the set that ships."""
    from experiments.world.pack import pack as pack_sets

    total = pack_sets(args.train, args.test, args.out, args.sequence, args.parallax)
    print(f"{args.out}: {total:,} bytes")
    return 0


def sheet(args: argparse.Namespace) -> int:
    """Write one picture of some packed pairs."""
    from experiments.world.pack import sheet as write_sheet

    write_sheet(args.folder, args.pick.split(","), args.out)
    return 0


def _common(p: argparse.ArgumentParser, count: int) -> None:
    """Add what all commands that render have."""
    p.add_argument("--set", required=True, help="name of the set")
    p.add_argument("--out", help="folder (default runs/world/NAME)")
    p.add_argument("--count", type=int, default=count)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--size", type=size, default=(320, 240), metavar="WxH")
    p.add_argument("--samples", type=int, default=3, help="paths per subpixel")
    p.add_argument("--jobs", type=int, default=1, help="processes")


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.world", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("render", help="render a set; pairs that are there are kept")
    _common(p, 16)
    p.add_argument("--start", type=int, default=0, help="first index")
    p.add_argument(
        "--indices", type=indices_of, metavar="LIST",
        help="which pairs, like 0-12,14; in place of --start and --count",
    )  # fmt: skip
    p.add_argument("--layout", choices=sorted(LAYOUTS))
    p.add_argument("--light", choices=[*(k for k, _ in KINDS), "indoor"])
    p.add_argument("--air", choices=["clear", "fog", "smoke", "rain"])
    p.add_argument(
        "--black-hot", type=float, default=0.0, metavar="SHARE",
        help="share of pairs, 0 to 1, whose infrared picture shows warm as black (default 0)",
    )  # fmt: skip
    p.set_defaults(run=render)
    p = commands.add_parser("sequence", help="render frames with walking people and a passing car")
    _common(p, 40)
    p.add_argument("--light", choices=[k for k, _ in KINDS], default="night")
    p.set_defaults(run=sequence)
    p = commands.add_parser("parallax", help="render pairs of two cameras side by side")
    _common(p, 8)
    p.add_argument("--baseline", type=float, default=0.15, help="meters between the cameras")
    p.set_defaults(run=parallax)
    p = commands.add_parser("pack", help="pack rendered sets into the one that ships")
    p.add_argument("--train", required=True, help="folder of the training pairs")
    p.add_argument("--test", required=True, help="folder of the test pairs")
    p.add_argument("--sequence", help="folder of the sequence")
    p.add_argument("--parallax", help="folder of the pairs side by side")
    p.add_argument("--out", default="ldf_utils/data/rendered")
    p.set_defaults(run=pack)
    p = commands.add_parser("sheet", help="one picture of some packed pairs, with their oracle")
    p.add_argument("--folder", default="ldf_utils/data/rendered/test")
    p.add_argument("--pick", required=True, help="names, separated by commas")
    p.add_argument("--out", required=True)
    p.set_defaults(run=sheet)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    run_command(main)
