"""Video: fuse two clips into a third, frame by frame, steadily, and go on where it stopped."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from ldf_utils.data.files import check_writable
from ldf_utils.data.images import write_image
from ldf_utils.data.names import ImageError
from ldf_utils.fusion.inference import TILE, Network, fuse_tensors
from ldf_utils.fusion.parts import Parts
from ldf_utils.fusion.steady import SHARE, SteadyOutput
from ldf_utils.video.flicker import Flicker
from ldf_utils.video.frames import Frame, is_clip
from ldf_utils.video.matching import ClipPair, FramePair
from ldf_utils.video.writing import CODEC, QUALITY, ClipWriter, check_codec, has_sound, join_parts

Align = Callable[[FramePair], FramePair]
"""Brings a pair of frames to one pixel grid; it is called from several threads."""

SEGMENT = 256
"""Frames between two places that work can go on from."""

_log = logging.getLogger(__name__)


@dataclass
class ClipReport:
    """What came of a clip.

    Attributes:
        output: the clip or the folder that was written.
        frames: how many frames it has.
        resumed: how many of them were there from a run before.
        flicker: of the frames that this run fused, ahead of the encoder.
        share: mean share of a new frame, see `SteadyOutput`; None if nothing was held.
    """

    output: Path
    frames: int
    resumed: int = 0
    flicker: Flicker = field(default_factory=Flicker)
    share: float | None = None


def fuse_frames(
    network: Network,
    clips: ClipPair,
    *,
    start: int = 0,
    steady: SteadyOutput | None = None,
    align: Align | None = None,
    tile: int | None = TILE,
    workers: int | None = None,
) -> Generator[tuple[FramePair, Frame], None, None]:
    """Fuse the frames of two clips one after another.

    Several frames are fused at the same time, each by one thread: on few cores that is faster than
    one frame by all. Not more than twice so many are in memory.

    Args:
        network: as in `ldf_utils.fusion.inference.fuse_tensors`.
        clips: what to fuse.
        start: number of the first pair.
        steady: holds the result over time; None shows every frame as the network fused it.
        align: brings each pair to one pixel grid first.
        tile: as in `fuse_tensors`.
        workers: frames at a time; by default one for each core, and one if the network is on a GPU.

    Yields:
        The pair (aligned) and the fused frame with the color of the visible one, in order.

    Raises:
        ImageError: if a frame is damaged, or the pictures of a pair differ in size.

    Example:
        >>> for pair, fused in fuse_frames(network, clips):  # doctest: +SKIP
        ...     writer.write(fused)
    """
    workers = workers or _workers(network)

    def work(pair: FramePair) -> tuple[FramePair, torch.Tensor]:
        pair = align(pair) if align else pair
        _check_sizes(pair, clips)
        gray = pair.visible.luminance
        return pair, fuse_tensors(network, pair.infrared.luminance[None], gray[None], tile)[0]

    waiting: collections.deque[Future[tuple[FramePair, torch.Tensor]]] = collections.deque()
    with _one_thread_each(workers) as pool:
        pairs = clips.frames(start)
        while True:
            for pair in itertools.islice(pairs, 2 * workers - len(waiting)):
                waiting.append(pool.submit(work, pair))
            if not waiting:
                return
            pair, fused = waiting.popleft().result()
            if steady is not None:
                fused = steady(pair.infrared.luminance, pair.visible.luminance, fused)
            yield pair, pair.visible.with_luminance(fused)


def _workers(network: Network) -> int:
    if isinstance(network, nn.Module):
        parameter = next(network.parameters(), None)
        if parameter is not None and parameter.device.type != "cpu":
            return 1
    if hasattr(os, "sched_getaffinity"):  # not everywhere: the cores that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads whose tensor operations use one core each, if there are several."""
    threads = torch.get_num_threads()
    each = 1 if workers > 1 else threads
    torch.set_num_threads(each)  # of this thread, and of those to come
    pool = ThreadPoolExecutor(workers, "fuse", initializer=lambda: torch.set_num_threads(each))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _check_sizes(pair: FramePair, clips: ClipPair) -> None:
    infrared, visible = pair.infrared.luminance.shape, pair.visible.luminance.shape
    if infrared != visible:
        raise ImageError(
            f"{clips.infrared.path} has frames of {infrared[-1]} x {infrared[-2]} pixels and "
            f"{clips.visible.path} of {visible[-1]} x {visible[-2]}; a pair must be registered, so "
            "both need one size. Align the clips, or crop and resize one onto the other, first"
        )


def fuse_clip(
    network: Network,
    clips: ClipPair,
    output: str | os.PathLike,
    *,
    steady: bool = True,
    align: Align | None = None,
    tile: int | None = TILE,
    bits: int | None = None,
    codec: str = CODEC,
    quality: int = QUALITY,
    workers: int | None = None,
    settings: dict[str, Any] | None = None,
) -> ClipReport:
    """Fuse two clips into a clip or a folder of frames.

    Color, time stamps and sound are those of the visible clip (the infrared one's sound, if it
    alone has any). Memory does not grow with the length. The work is kept in segments in the
    folder ``OUTPUT.parts`` until all is there; if it is interrupted, the same call goes on after
    the last whole segment, with the same result as in one run.

    Args:
        network: as in `ldf_utils.fusion.inference.fuse_tensors`.
        clips: what to fuse.
        output: a clip by its ending (.mp4, .mkv, ...), which appears when it is whole, or a folder
            of frames (STEM.png, or the number of the frame).
        steady: whether range, gain and tone are held over time (`SteadyOutput`).
        align: brings each pair to one pixel grid first.
        tile: as in `fuse_tensors`.
        bits: of frames in a folder, as in `ldf_utils.fusion.inference.fuse_folder`.
        codec: encoder of a clip.
        quality: constant rate factor of the encoder, lower is better.
        workers: as in `fuse_frames`.
        settings: what else the result depends on (weights, range); work that was kept is used only
            if these are the same, and the clips too.

    Returns:
        What was written, with the flicker of the result.

    Raises:
        ImageError: for whatever is wrong with the clips.
        OSError: if the result cannot be written.
    """
    output = Path(output)
    to_clip = is_clip(output)
    sources = (clips.infrared.path, clips.visible.path)
    if output.exists() and any(output.samefile(source) for source in sources):
        raise ImageError(f"{output}: the result would replace its own source; choose another name")
    check_writable(output, folder=not to_clip)
    if to_clip:
        check_codec(codec)
    clips.check()
    settings = dict(settings or {}, steady=steady, tile=tile, bits=bits)
    settings |= dict(codec=codec, quality=quality) if to_clip else {}
    parts = Parts(output.with_name(output.name + ".parts"), _identity(clips, settings))
    hold = SteadyOutput() if steady else None
    start = parts.resume(hold, clip=to_clip)
    report = ClipReport(output, len(clips), resumed=start)
    if start:
        _log.warning("%s: going on after %d frames of a run before", output, start)

    frames = fuse_frames(
        network, clips, start=start, steady=hold, align=align, tile=tile, workers=workers
    )
    bar = tqdm(total=len(clips), initial=start, desc="fusing", unit="frame", disable=None)
    with contextlib.closing(frames), bar:
        while start < len(clips):
            segment = itertools.islice(frames, min(SEGMENT, len(clips) - start))
            shown = _shown(segment, report, bar)
            if to_clip:
                _write_part(parts.path(start), shown, clips, codec, quality)
            else:
                for pair, frame in shown:
                    _write_frame(output, pair, frame, bits)
            start += min(SEGMENT, len(clips) - start)
            parts.keep(start, hold)
            _log.info("fused %d of %d frames", start, len(clips))
    if to_clip:
        join_parts(parts.clips(), output, _sound(clips))
    parts.remove()
    if hold is not None:
        report.share = hold.mean_share
        _log.warning(
            "range, gain and tone are held over time where both sources are still: %.0f%% of a "
            "new frame counts there, %.0f%% in the mean",
            *(100 * SHARE, 100 * hold.mean_share),
        )
    _log.warning("%s: %s", output, report.flicker)
    return report


def _shown(
    segment: Iterator[tuple[FramePair, Frame]], report: ClipReport, bar: tqdm
) -> Iterator[tuple[FramePair, Frame]]:
    for pair, frame in segment:
        report.flicker.add(pair.infrared.luminance, pair.visible.luminance, frame.luminance)
        yield pair, frame
        bar.update()


def _write_part(
    path: Path,
    frames: Iterator[tuple[FramePair, Frame]],
    clips: ClipPair,
    codec: str,
    quality: int,
) -> None:
    first = next(frames)
    size = first[1].luminance.shape[-2:]
    with ClipWriter(path, (size[0], size[1]), clips.visible.rate, codec, quality) as writer:
        for _, frame in itertools.chain([first], frames):
            writer.write(frame)


def _write_frame(folder: Path, pair: FramePair, frame: Frame, bits: int | None) -> None:
    if bits is None:
        deep = max(pair.infrared.bits, frame.bits) > 8
        bits = 16 if frame.color is None and deep else 8
    write_image(frame.picture, folder / f"{frame.name or f'{frame.index:06d}'}.png", bits=bits)


def _sound(clips: ClipPair) -> Path | None:
    """Return which of both clips gives the sound: the visible one if it has any."""
    for clip in (clips.visible, clips.infrared):
        if has_sound(clip.path):
            return clip.path
    return None


def _identity(clips: ClipPair, settings: dict[str, Any]) -> dict[str, Any]:
    """Say what the result depends on, as far as it can be told without doing the work."""
    found: dict[str, Any] = {"frames": len(clips), "offset": float(clips.offset), **settings}
    for side, clip in (("infrared", clips.infrared), ("visible", clips.visible)):
        stat = clip.path.stat()
        found[side] = [str(clip.path.resolve()), stat.st_size, stat.st_mtime_ns, len(clip)]
    return json.loads(json.dumps(found, default=str))
