"""Command line: ``python -m experiments.world render --set NAME --count N --seed S --size WxH``."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from experiments.world.worlds import KINDS, LAYOUTS, Wish
from ldf_utils.data.cli import ignore_interrupts, run_command

ATTEMPTS = 6


def size(text: str) -> tuple[int, int]:
    """Read ``WxH``."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"size must be like 320x240, got {text!r}") from error
    if width % 2 or height % 2 or min(width, height) < 32:
        raise argparse.ArgumentTypeError(f"size must be even and at least 32, got {text!r}")
    return width, height


def render_one(
    folder: Path, seed: int, index: int, shape: tuple[int, int], wish: Wish, samples: int
) -> float:
    """Render and write pair ``index``; return the seconds that it took."""
    from experiments.world.pair import BlockedView, render_pair, write_pair
    from experiments.world.worlds import draw

    start = time.perf_counter()
    for attempt in range(ATTEMPTS):
        try:
            pair = render_pair(draw(seed, index, wish, attempt), *shape, samples=samples)
            break
        except BlockedView:
            if attempt + 1 == ATTEMPTS:
                raise
    seconds = time.perf_counter() - start
    own = {"seed": seed, "index": index, "size": list(shape), "samples": samples}
    pair.facts.update(own, seconds=round(seconds, 1))
    write_pair(pair, folder, f"{index:04d}")
    return seconds


def render(args: argparse.Namespace) -> int:
    """Render the pairs that are not there yet."""
    folder = Path(args.out or Path("runs") / "world" / args.set)
    wish = Wish(args.layout, args.light, args.air)
    indices = range(args.start, args.start + args.count)
    todo = [i for i in indices if not (folder / "truth" / "facts" / f"{i:04d}.json").exists()]
    print(
        f"{folder}: {args.count - len(todo)} of {args.count} pairs are there, "
        f"{len(todo)} to render",
        flush=True,
    )
    failed = 0
    tasks = ((folder, args.seed, i, args.size, wish, args.samples) for i in todo)
    if args.jobs > 1:
        with ProcessPoolExecutor(args.jobs, initializer=ignore_interrupts) as pool:
            waiting = {pool.submit(render_one, *task): task[2] for task in tasks}
            for n, future in enumerate(as_completed(waiting), 1):
                failed += _report(
                    n,
                    len(todo),
                    waiting[future],
                    future.exception(),
                    None if future.exception() else future.result(),
                )
    else:
        for n, task in enumerate(tasks, 1):
            try:
                failed += _report(n, len(todo), task[2], None, render_one(*task))
            except (ValueError, RuntimeError, KeyError, IndexError) as error:
                failed += _report(n, len(todo), task[2], error, None)
    return 1 if failed else 0


def _report(
    n: int, total: int, index: int, error: BaseException | None, seconds: float | None
) -> int:
    """Print one line of progress; return 1 if the pair failed."""
    if error is not None:
        print(
            f"[{n}/{total}] {index:04d} failed: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )
        return 1
    print(f"[{n}/{total}] {index:04d} {seconds:.1f} s", flush=True)
    return 0


def pack(args: argparse.Namespace) -> int:
    """Pack the set that ships."""
    from experiments.world.pack import pack as pack_sets

    print(f"{args.out}: {pack_sets(args.train, args.test, args.out):,} bytes")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.world", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("render", help="render a set; pairs that are there are kept")
    p.add_argument("--set", required=True, help="name of the set")
    p.add_argument("--out", help="folder (default runs/world/NAME)")
    p.add_argument("--count", type=int, default=16)
    p.add_argument("--start", type=int, default=0, help="first index")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--size", type=size, default=(320, 240), metavar="WxH")
    p.add_argument("--samples", type=int, default=3, help="paths per subpixel")
    p.add_argument("--jobs", type=int, default=1, help="processes")
    p.add_argument("--layout", choices=sorted(LAYOUTS))
    p.add_argument("--light", choices=[*(k for k, _ in KINDS), "indoor"])
    p.add_argument("--air", choices=["clear", "fog", "smoke", "rain"])
    p.set_defaults(run=render)
    p = commands.add_parser("pack", help="pack rendered sets into the one that ships")
    p.add_argument("--train", required=True, help="folder of the training pairs")
    p.add_argument("--test", required=True, help="folder of the test pairs")
    p.add_argument("--out", default="ldf_utils/data/rendered")
    p.set_defaults(run=pack)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    run_command(main)
