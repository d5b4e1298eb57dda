"""``--align``: pairs that are not registered are registered before they are fused."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.names import ImageError, find_pairs
from ldf_utils.data.pairs import Align as AlignPair
from ldf_utils.data.pairs import PairFiles
from ldf_utils.fusion.video import Align as AlignFrames
from ldf_utils.registration.align import Alignment, align, align_rig, detect
from ldf_utils.registration.geometry import median_distance, pixel_scale
from ldf_utils.registration.placing import Placement
from ldf_utils.registration.store import load, save
from ldf_utils.video.matching import ClipPair, FramePair

SAMPLE = 7
"""Pairs, evenly spaced, from which the transform of a rig is found."""

FILE_NAME = "alignment.json"
"""The transform that ``--align auto`` found, in the folder of the results."""

_ONE_RIG = 0.012  # transforms of a fixed rig differ by less than this part of the longer side
_log = logging.getLogger(__name__)
Pictures = tuple[torch.Tensor, torch.Tensor]


def add_align_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what registers pairs."""
    parser.add_argument(
        "--align",
        default="off",
        metavar="auto|off|FILE",
        help="off (the default): pairs are registered. auto: find the transform of the two cameras "
        f"from {SAMPLE} pairs, save it as {FILE_NAME} beside the results and use it for all; "
        "registered pairs are left alone. FILE: a transform that was saved. Needs OpenCV",
    )
    parser.add_argument(
        "--view",
        choices=("visible", "common"),
        default="visible",
        help="with --align: show the whole visible picture, of which the infrared camera may see a "
        "part (the default), or cut out what both see",
    )


def align_folder(arguments: argparse.Namespace, save: bool = True) -> AlignPair | None:
    """Plan how the pairs of a folder are registered; None leaves them as they are.

    Args:
        arguments: of ``python -m ldf_utils.fusion``.
        save: whether a transform that is found is saved.

    Raises:
        ImageError: if the folders hold no pairs, or views that differ cannot be aligned.
        ValueError: if the file is no transform.
        ImportError: if OpenCV is not installed.
    """
    if arguments.align == "off":
        return None
    infrared, visible, output = map(Path, (arguments.infrared, arguments.visible, arguments.output))
    if arguments.align != "auto":
        return _one_transform(load(arguments.align), arguments.view == "common")
    files, _ = find_pairs(infrared, visible, output)
    single = not infrared.is_dir() and bool(output.suffix)
    target = output.with_suffix(".alignment.json") if single else output / FILE_NAME
    ranges = PairFiles(files, infrared_range=arguments.infrared_range).ranges

    def pictures(index: int) -> Pictures:
        _, first, second = files[index]
        return luminance(read_image(first, ranges[0])), read_image(second, ranges[1])

    plan = _plan(pictures, len(files), target if save else None, infrared, visible)
    if plan is None:
        return None
    if isinstance(plan, Alignment):
        return _one_transform(plan, arguments.view == "common")
    return _each_pair(arguments.view == "common")


def align_clips(arguments: argparse.Namespace) -> Callable[[ClipPair], AlignFrames | None]:
    """Return what plans how the frames of two clips are registered, as `align_folder` for pairs.

    A clip has one transform: that of its rig.
    """

    def plan_alignment(clips: ClipPair) -> AlignFrames | None:
        if arguments.align == "off":
            return None
        if arguments.align != "auto":
            found: Alignment | None = load(arguments.align)
        else:

            def pictures(index: int) -> Pictures:
                pair = next(clips.frames(index))
                return pair.infrared.luminance, pair.visible.luminance

            output = Path(arguments.output)
            target = output.with_suffix(".alignment.json") if output.suffix else output / FILE_NAME
            sources = Path(arguments.infrared), Path(arguments.visible)
            plan = _plan(pictures, len(clips), target, *sources, fixed=True)
            found = plan if isinstance(plan, Alignment) else None
        if found is None:
            return None
        placement = Placement(found)

        def place(pair: FramePair) -> FramePair:
            laid = placement.lay(pair.infrared.luminance, pair.visible.luminance)
            return replace(pair, infrared=replace(pair.infrared, luminance=laid, color=None))

        return place

    return plan_alignment


def _plan(
    pictures: Callable[[int], Pictures],
    count: int,
    target: Path | None,
    infrared: Path,
    visible: Path,
    fixed: bool = False,
) -> Alignment | str | None:
    """Choose: a transform for all, "each" for one per pair, or None to leave all alone."""
    sources = {"infrared": infrared.name, "visible": visible.name}
    known = _known(target, sources)
    if known is not None:
        return known
    chosen = sorted({round(i) for i in np.linspace(0, count - 1, min(SAMPLE, count))})
    sample = [_gray(*pictures(index)) for index in chosen]
    one_size = all(first.shape == second.shape for first, second in sample)
    if one_size:
        looks = [detect(*pair) for pair in sample]
        still = [look.aligned for look in looks]
        sure = [look.aligned or look.accepted for look in looks]
        if sum(still) > sum(sure) / 2:
            worst = np.median([look.offset for look in looks if look.aligned])
            _log.warning(
                "align: %d of %d pairs looked at are aligned (off by %.1f pixels, median) and the "
                "folder is left alone",
                *(sum(still), len(looks), worst),
            )
            return None
    found = _rig(sample) if len({(a.shape, b.shape) for a, b in sample}) == 1 else None
    if found is not None:
        if target is not None:
            save(found, target, **sources, pairs=len(sample))
        _log.warning(
            "align: one transform for all, found from %d pairs: off by %.1f pixels, confidence "
            "%.2f%s",
            *(len(sample), found.offset, found.confidence),
            f", saved as {target}" if target else "",
        )
        return found
    if not fixed:
        _log.warning("align: the transforms of the pairs differ, so each is aligned by itself")
        return "each"
    if not one_size:
        raise ImageError(
            f"{infrared} and {visible}: the views differ and could not be aligned from "
            f"{len(sample)} frames; give a transform with --align FILE"
        )
    _log.warning("align: no transform is trusted, so the frames are fused as they are")
    return None


def _known(target: Path | None, sources: dict[str, str]) -> Alignment | None:
    """Return the transform of an earlier run on the same folders."""
    import json

    if target is None or not target.is_file():
        return None
    found = load(target)
    values = json.loads(target.read_text(encoding="utf-8"))
    if {key: values.get(key) for key in sources} != sources:
        return None
    _log.warning("align: the transform of %s is used; remove the file to find it anew", target)
    return found


def _rig(sample: Sequence[tuple[np.ndarray, np.ndarray]]) -> Alignment | None:
    """Find the transform of a rig; None if it is not trusted or most pairs say otherwise."""
    if len(sample) == 1:
        found = align(*sample[0])
        return found if found.accepted else None
    found = align_rig(sample)
    if not found.accepted:
        return None
    size = found.visible_size
    singles = [one for one in (align(*pair, start=found.matrix) for pair in sample) if one.accepted]
    scale = pixel_scale(found.matrix, size)
    distances = [median_distance(one.matrix, found.matrix, size) / scale for one in singles]
    if distances and np.median(distances) > _ONE_RIG * max(size):
        return None
    return found


def _gray(infrared: torch.Tensor, visible: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return infrared[0].numpy(), luminance(visible)[0].numpy()


def _one_transform(alignment: Alignment, common: bool) -> AlignPair:
    placement = Placement(alignment, common)

    def place(infrared: torch.Tensor, visible: torch.Tensor, stem: str) -> Pictures:
        try:
            laid = placement.lay(infrared, luminance(visible))
        except ValueError as error:
            raise ImageError(f"{stem}: {error}") from error
        return placement.cut(laid), placement.cut(visible)

    return place


def _each_pair(common: bool) -> AlignPair:
    def place(infrared: torch.Tensor, visible: torch.Tensor, stem: str) -> Pictures:
        found = align(*_gray(infrared, visible))
        _log.info("align %s: %s, confidence %.2f", stem, found.reason, found.confidence)
        if found.accepted:
            placement = Placement(found, common)
            laid = placement.lay(infrared, luminance(visible))
            return placement.cut(laid), placement.cut(visible)
        if infrared.shape[-2:] != visible.shape[-2:]:
            raise ImageError(f"{stem}: the views differ, and {found.reason}")
        if not found.aligned:
            _log.warning("align %s: %s; fused as it is", stem, found.reason)
        return infrared, visible

    return place
