"""Dataset: images for the training of the embedded CLIP, and which attributes hold for each.

Every image comes from `experiments.painted.scenes`. The sources are changed as cameras change them
(`experiments.embedded_clip.augmentation`), some images are degraded on purpose
(`experiments.embedded_clip.degradations`), and the attributes of each are known
(`experiments.embedded_clip.truth`).
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip import augmentation, truth
from experiments.embedded_clip.augmentation import uniform
from experiments.embedded_clip.degradations import ARTIFACTS, DEGRADATIONS, degrade
from experiments.painted.scenes import SETTINGS, render
from ldf_utils.data.cli import ignore_interrupts
from ldf_utils.data.images import luminance

VIEWS = (
    "visible",
    "infrared",
    "oracle",
    "mixture",
    "degraded oracle",
    "degraded source",
    "degraded",
)
"""What is shown of each scene. A mixture is the average or the maximum of the sources."""

SIDE = 96
"""Height and width of an image in pixels."""


class Batch(NamedTuple):
    """Hold the V views of `VIEWS` of each of G scenes, and the truth of K attributes.

    Attributes:
        images: ``(G, V, 1, H, W)`` in [0, 1].
        truth: ``(G, V, K)`` with +1, 0 (undecided) or -1.
        origin: ``(G, V)``: of which view a view was made; its own index where not degraded.
        change: ``(G, V, K)``: +1 or -1 where degrading raised or lowered an attribute against the
            origin.
    """

    images: torch.Tensor
    truth: torch.Tensor
    origin: torch.Tensor
    change: torch.Tensor


class _View(NamedTuple):
    """One view of each of G scenes: images ``(G, 1, H, W)``, how each was made, and of what."""

    images: torch.Tensor
    kinds: list[str]
    origins: list[int]


class _Sources(NamedTuple):
    """The two sources, ``(G, 1, H, W)``, and flags ``(G, 2)`` of augmentation."""

    visible: torch.Tensor
    infrared: torch.Tensor
    blurred: torch.Tensor
    noisy: torch.Tensor


def make_batch(
    scenes: Mapping[str, torch.Tensor],
    index: torch.Tensor,
    generator: torch.Generator,
    side: int = SIDE,
    negatives: torch.Tensor | None = None,
    augmented: float = 1.0,
    textured: bool = False,
) -> Batch:
    """Make images of some scenes, clean and degraded, and decide the attributes of each.

    Args:
        scenes: as `load_scenes` returns them.
        index: ``(G,)`` which scenes.
        generator: draws crops, tones and degradations.
        side: height and width of an image in pixels.
        negatives: ``(N, H, W)`` uint8, adversarial images; some replace degraded ones and count as
            artifacts.
        augmented: share of the scenes whose sources are augmented, in [0, 1]; the others stay as
            rendered.
        textured: use `augmentation.add_texture` instead of `augmentation.exchange_structure`.

    Returns:
        The images and what is known of them.

    Example:
        >>> scenes = load_scenes(60, seed=1)
        >>> make_batch(scenes, torch.arange(4), torch.Generator()).images.shape
        torch.Size([4, 7, 1, 96, 96])
    """
    maps = _crop(scenes, index, generator, side)
    no_flags = torch.zeros(len(index), 2, dtype=torch.bool)
    sources = _Sources(maps["visible"], maps["infrared"], no_flags, no_flags)
    if augmented > 0:
        sources = _augment(sources, augmented, textured, generator)
    oracle = augmentation.enhance(maps["oracle"], generator)
    clean = [sources.visible, sources.infrared, oracle, _mix(sources, generator)]
    views = [_View(v, [truth.CLEAN] * len(index), [k] * len(index)) for k, v in enumerate(clean)]
    for slot in range(3):  # of the oracle, of a source, of any
        views.append(_degrade(clean, slot, negatives, generator))
    known = truth.Views(
        images=torch.stack([view.images for view in views], 1),
        kinds=[view.kinds for view in views],
        origin=torch.tensor([view.origins for view in views]).T,
        **{name: maps[name] for name in ("salient", "veil", "labels")},
        facts={name: value[index] for name, value in scenes.items() if value.ndim == 1},
        blurred=sources.blurred,
        noisy=sources.noisy,
    )
    return Batch(known.images, truth.label(known), known.origin, truth.changes(known))


def _crop(
    scenes: Mapping[str, torch.Tensor], index: torch.Tensor, generator: torch.Generator, side: int
) -> dict[str, torch.Tensor]:
    """Cut the same random crop from every map of each scene, ``(G, 1, side, side)``."""
    names = ("visible", "infrared", "oracle", "salient", "veil")
    stack = torch.stack([scenes[name][index] for name in names], 1).float() / 255
    theta = augmentation.random_crops(len(index), generator)
    grid = F.affine_grid(theta, [len(index), 5, side, side], align_corners=False)
    stack = F.grid_sample(stack, grid, padding_mode="reflection", align_corners=False)
    labels = scenes["labels"][index][:, None].float()
    labels = F.grid_sample(labels, grid, "nearest", "reflection", align_corners=False)
    return dict(zip(names, stack.split(1, dim=1), strict=True)) | {"labels": labels}


def _augment(
    sources: _Sources, share: float, textured: bool, generator: torch.Generator
) -> _Sources:
    """Augment the sources of a share of the scenes."""
    visible, infrared, *_ = sources
    count, plain = len(visible), torch.cat([visible, infrared])
    structure = augmentation.add_texture if textured else augmentation.exchange_structure
    infrared, visible = structure(infrared, visible, generator)
    infrared = augmentation.darken_some(infrared, 0.18, generator)
    visible = augmentation.darken_some(visible, 0.08, generator)
    both = torch.cat([visible, infrared])
    both, blurred, noisy = augmentation.simulate_camera(both, generator)
    changed = (torch.rand(count, generator=generator) < share).repeat(2)
    visible, infrared = torch.where(changed[:, None, None, None], both, plain).chunk(2)
    blurred, noisy = ((flags & changed).view(2, count).T for flags in (blurred, noisy))
    return _Sources(visible, infrared, blurred, noisy)


def _mix(sources: _Sources, generator: torch.Generator) -> torch.Tensor:
    """Return the average of the sources, with equal weights or not, or their maximum."""
    visible, infrared, *_ = sources
    count = len(visible)
    equal = uniform(count, 0, 1, generator) < 0.5
    weight = torch.where(equal, 0.5, uniform(count, 0.3, 0.7, generator))
    average = visible.lerp(infrared, weight)
    use_average = uniform(count, 0, 1, generator) < 0.5
    return torch.where(use_average, average, torch.maximum(visible, infrared))


def _degrade(
    clean: Sequence[torch.Tensor],
    slot: int,
    negatives: torch.Tensor | None,
    generator: torch.Generator,
) -> _View:
    """Degrade one view of each scene, six scenes at a time in the same way.

    Slot 0 degrades the oracle, slot 1 a source, slot 2 any of the three, mostly with artifacts, or
    takes adversarial images where there are some.
    """
    count = len(clean[0])
    parts = torch.randperm(count, generator=generator).chunk(6)
    images, kinds, origins = torch.empty_like(clean[0]), [""] * count, [0] * count
    for part in parts:
        chance = torch.rand(2, generator=generator)
        bank = ARTIFACTS if slot == 2 and chance[0] < 0.7 else DEGRADATIONS[:6]
        if slot < 2 and chance[0] < 0.3:
            bank = ARTIFACTS
        kind = bank[int(chance[1] * len(bank))]
        origin = 2 if slot == 0 else int(torch.randint(0, 3, (1,), generator=generator))
        if slot == 1:
            origin = int(torch.randint(0, 2, (1,), generator=generator))
        images[part] = degrade(clean[origin][part], kind, generator)
        for i in part.tolist():
            kinds[i], origins[i] = kind, origin
    if slot == 2 and negatives is not None:
        size = (images.shape[-2], images.shape[-1])
        for i in torch.cat(parts[:2]).tolist():
            pick = int(torch.randint(len(negatives), (1,), generator=generator))
            image = negatives[pick][None, None].float() / 255
            images[i] = F.interpolate(image, size, mode="bilinear", antialias=True)[0]
            kinds[i], origins[i] = truth.OPTIMIZED, 4
    return _View(images, kinds, origins)


# --- rendering ------------------------------------------------------------------------------------


def _render_chunk(job: tuple[int, int, int, int]) -> dict[str, torch.Tensor]:
    """Render scenes (seed, first index, count, side) into maps of 128 pixels and facts."""
    seed, start, count, size = job
    torch.set_num_threads(1)
    batch = render(count, (size, size), seed, start=start)
    maps = {
        "visible": luminance(batch.visible),
        "infrared": batch.infrared,
        "oracle": batch.oracle,
        "salient": batch.salient,
        "veil": batch.veil,
    }
    maps = {name: (image * 255).round() for name, image in maps.items()}
    maps["labels"] = batch.labels.float()
    facts = {"night": [fact["time"] == "night" for fact in batch.attributes]}
    facts |= {name: [fact["setting"] == name for fact in batch.attributes] for name in SETTINGS}
    signs = {name: 2.0 * torch.tensor(values) - 1.0 for name, values in facts.items()}
    if size > 128:
        generator = torch.Generator().manual_seed(start)
        corners = torch.randint(0, size - 127, (2, 2), generator=generator).tolist()
        maps = {name: _parts(name, image, corners) for name, image in maps.items()}
        signs = {name: values.repeat(3) for name, values in signs.items()}
    return {name: image.to(torch.uint8)[:, 0] for name, image in maps.items()} | signs


def _parts(name: str, image: torch.Tensor, corners: list[list[int]]) -> torch.Tensor:
    """Two crops of 128 pixels of a large image at full resolution, and the whole one reduced."""
    crops = [image[..., y : y + 128, x : x + 128] for y, x in corners]
    mode = "nearest" if name == "labels" else "area"
    return torch.cat([*crops, F.interpolate(image, (128, 128), mode=mode)])


def load_scenes(count: int, seed: int, processes: int = 2) -> dict[str, torch.Tensor]:
    """Render scenes: crops of large ones, large ones reduced, and some small ones.

    Args:
        count: images of each view; four fifths come from scenes of 256 pixels.
        seed: of the worlds.
        processes: how many render at once.

    Returns:
        ``visible`` (luminance), ``infrared``, ``oracle``, ``salient``, ``veil``, ``labels``:
        ``(N, 128, 128)`` uint8 with N >= count; and the facts: ``(N,)`` with +1 or -1.
    """
    small, large = 50, 24
    small_jobs = math.ceil(count * 0.2 / small)
    large_jobs = math.ceil(count * 0.8 / (3 * large))
    jobs = [(seed, i * small, small, 128) for i in range(small_jobs)]
    jobs += [(seed + 1, i * large, large, 256) for i in range(large_jobs)]
    parts = []
    context = multiprocessing.get_context("spawn")
    # An executor, since a Pool waits forever for a process that was killed.
    with ProcessPoolExecutor(processes, context, ignore_interrupts) as pool:
        for part in tqdm(pool.map(_render_chunk, jobs), total=len(jobs), desc="rendering scenes"):
            parts.append(part)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
