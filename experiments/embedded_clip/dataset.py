"""Dataset: images for the training of the embedded CLIP, and which attributes hold for each.

Every image comes from a packed square (`experiments.embedded_clip.pieces`), rendered or of a real
camera. Random cameras see it (`experiments.embedded_clip.cameras`), some images are changed further
(`experiments.embedded_clip.augmentation`), some are degraded on purpose
(`experiments.embedded_clip.degradations`), in some objects are made to stand out or hidden
(`experiments.embedded_clip.salience`), and the attributes of each are known
(`experiments.embedded_clip.truth`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

from experiments.embedded_clip import augmentation, cameras, salience, truth
from experiments.embedded_clip.augmentation import uniform
from experiments.embedded_clip.degradations import ARTIFACTS, DEGRADATIONS, degrade
from experiments.embedded_clip.pieces import Pieces

VIEWS = (
    "visible",
    "infrared",
    "oracle",
    "mixture",
    "degraded oracle",
    "degraded source",
    "degraded",
    "salient",
    "hidden",
)
"""What is shown of each square. A mixture is the average or the maximum of the sources. Where there
is no oracle, the visible source takes its place. In *salient* and *hidden* one image is shown with
its people and warm vehicles standing out and hidden, the latter at times with grain or contrast."""

ORACLE, SALIENT, HIDDEN = 2, 7, 8

SIDE = 96
"""Height and width of an image in pixels."""

_OPTIMIZED = truth.KINDS.index(truth.OPTIMIZED)
_CLEAN = truth.KINDS.index(truth.CLEAN)


class Batch(NamedTuple):
    """Hold the V views of `VIEWS` of each of G squares, and the truth of K attributes.

    Attributes:
        images: ``(G, V, 1, H, W)`` in [0, 1].
        truth: ``(G, V, K)`` with +1, 0 (undecided) or -1.
        origin: ``(G, V)``: of which view a view was made; its own index where not degraded.
        change: ``(G, V, K)``: +1 or -1 where degrading raised or lowered an attribute against the
            origin.
        has_oracle: ``(G,)`` bool.
        labels: ``(G, 1, H, W)``: what stands where, indices of `truth.LABELS` or `truth.UNKNOWN`.
    """

    images: torch.Tensor
    truth: torch.Tensor
    origin: torch.Tensor
    change: torch.Tensor
    has_oracle: torch.Tensor
    labels: torch.Tensor


class _View(NamedTuple):
    """One view of each of G squares: images ``(G, 1, H, W)``, kinds and origins ``(G,)``."""

    images: torch.Tensor
    kinds: torch.Tensor
    origins: torch.Tensor


class _Sources(NamedTuple):
    """The two sources, ``(G, 1, H, W)``, and flags ``(G, 2)``."""

    visible: torch.Tensor
    infrared: torch.Tensor
    blurred: torch.Tensor
    noisy: torch.Tensor


def draw_index(
    pieces: Pieces, count: int, recorded_share: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw squares for a batch, a share of them of real cameras; none that are held out.

    Args:
        pieces: the squares.
        count: how many.
        recorded_share: of real cameras, in [0, 1]; all others are rendered.
        generator: draws them.
    """
    banks = pieces.where(recorded=False), pieces.where(recorded=True)
    recorded = round(count * recorded_share) if len(banks[0]) else count
    counts = count - recorded if len(banks[1]) else count, recorded if len(banks[1]) else 0
    chosen = []
    for bank, number in zip(banks, counts, strict=True):
        if number:
            places = torch.randint(len(bank), (number,), generator=generator)
            chosen.append(bank[places.cpu()])
    return torch.cat(chosen)


def make_batch(
    squares: Mapping[str, torch.Tensor],
    generator: torch.Generator,
    side: int = SIDE,
    negatives: torch.Tensor | None = None,
    augmented: float = 1.0,
    textured: bool = False,
) -> Batch:
    """Make images of some squares, clean and changed, and decide the attributes of each.

    Args:
        squares: as `Pieces.read` returns them.
        generator: draws cameras, crops and degradations.
        side: height and width of an image in pixels.
        negatives: ``(N, H, W)`` uint8, adversarial images; some replace degraded ones and count as
            artifacts.
        augmented: share of the squares whose sources are changed beyond what a camera does, in
            [0, 1].
        textured: use `augmentation.add_texture` instead of `augmentation.exchange_structure`.

    Returns:
        The images and what is known of them.

    Example:
        >>> squares = Pieces(Path("runs/pack")).read(torch.arange(4))
        >>> make_batch(squares, torch.Generator()).images.shape
        torch.Size([4, 9, 1, 96, 96])
    """
    count = len(squares["visible"])
    sources, maps = _crop(squares, generator, side)
    if augmented > 0:
        sources = _augment(sources, augmented, textured, generator)
    has_oracle = squares["has_oracle"] > 0
    oracle = augmentation.enhance(maps["oracle"], generator)
    oracle = torch.where(has_oracle.view(-1, 1, 1, 1), oracle, sources.visible)
    clean = [sources.visible, sources.infrared, oracle, _mix(sources, generator)]
    numbers = torch.arange(len(clean))
    untouched = numbers.new_full((count,), _CLEAN)
    views = [_View(v, untouched, numbers[[k]].expand(count)) for k, v in enumerate(clean)]
    for slot in range(3):  # of the oracle, of a source, of any
        views.append(_degrade(clean, slot, negatives, generator))
    pair, of = _salience_pair(clean, maps["salient"], generator)
    views += pair
    origin = torch.stack([view.origins for view in views], 1)
    source = origin.clone()
    source[:, SALIENT], source[:, HIDDEN] = of, of
    source = torch.where((source == ORACLE) & ~has_oracle[:, None], 0, source)
    known = truth.Views(
        images=torch.stack([view.images for view in views], 1),
        kinds=torch.stack([view.kinds for view in views], 1),
        source=source,
        **{name: maps[name] for name in ("salient", "veil", "labels")},
        facts={name: value for name, value in squares.items() if value.ndim == 1},
        blurred=sources.blurred,
        noisy=sources.noisy,
    )
    signs, changes = truth.label(known), truth.changes(known)
    return Batch(known.images, signs, origin, changes, has_oracle, maps["labels"])


def _crop(
    squares: Mapping[str, torch.Tensor], generator: torch.Generator, side: int
) -> tuple[_Sources, dict[str, torch.Tensor]]:
    """Let cameras see the squares, and cut the same random crop from every map of each."""
    shots = cameras.see(squares, generator)
    count = len(squares["visible"])
    others = [squares[name][:, None].float() / 255 for name in ("oracle", "salient", "veil")]
    stack = torch.cat([*(shot.image for shot in shots), *others], 1)
    theta = augmentation.random_crops(count, generator)
    grid = F.affine_grid(theta, [count, 5, side, side], align_corners=False)
    stack = F.grid_sample(stack, grid, padding_mode="reflection", align_corners=False)
    labels = squares["labels"][:, None].float()
    labels = F.grid_sample(labels, grid, "nearest", "reflection", align_corners=False)
    visible, infrared, oracle, salient, veil = stack.split(1, dim=1)
    flags = (torch.stack([shot[k] for shot in shots], 1) for k in (1, 2))
    maps = {"oracle": oracle, "salient": salient, "veil": veil, "labels": labels}
    return _Sources(visible, infrared, *flags), maps


def _augment(
    sources: _Sources, share: float, textured: bool, generator: torch.Generator
) -> _Sources:
    """Augment the sources of a share of the squares."""
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
    return _Sources(visible, infrared, blurred | sources.blurred, noisy | sources.noisy)


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
    """Degrade one view of each square, six squares at a time in the same way.

    Slot 0 degrades the oracle, slot 1 a source, slot 2 any of the three, mostly with artifacts, or
    takes adversarial images where there are some.
    """
    count = len(clean[0])
    parts = torch.randperm(count, generator=generator).chunk(6)
    images = torch.empty_like(clean[0])
    kinds, origins = torch.zeros(2, count, dtype=torch.long).unbind()
    for part in parts:
        chance = torch.rand(2, generator=generator).tolist()
        bank = ARTIFACTS if slot == 2 and chance[0] < 0.7 else DEGRADATIONS[:6]
        if slot < 2 and chance[0] < 0.3:
            bank = ARTIFACTS
        kind = bank[int(chance[1] * len(bank))]
        origin = 2 if slot == 0 else int(torch.randint(0, 3, (1,), generator=generator))
        if slot == 1:
            origin = int(torch.randint(0, 2, (1,), generator=generator))
        images[part] = degrade(clean[origin][part], kind, generator)
        kinds[part], origins[part] = truth.KINDS.index(kind), origin
    if slot == 2 and negatives is not None:
        taken = torch.cat(parts[:2])
        picks = torch.randint(len(negatives), (len(taken),), generator=generator)
        chosen = negatives[picks][:, None].float() / 255
        size = (images.shape[-2], images.shape[-1])
        images[taken] = F.interpolate(chosen, size, mode="bilinear", antialias=True)
        kinds[taken], origins[taken] = _OPTIMIZED, 4
    return _View(images, kinds, origins)


def _salience_pair(
    clean: Sequence[torch.Tensor], salient: torch.Tensor, generator: torch.Generator
) -> tuple[list[_View], torch.Tensor]:
    """Show one clean view of each square twice: objects stand out, and objects are hidden.

    Of the second views 3 in 10 get grain or contrast as well, and 3 in 10 get them without hiding.
    Where there is no object, the first is the view as it is, and the second has grain or contrast.
    Where both show objects and no more is added, each has tones of its own, so that only how far
    objects stand out tells them apart.

    Returns:
        Both views, and ``(G,)`` of which clean view they are.
    """
    count, mask = len(salient), (salient > 0.5).float()
    of = torch.randint(len(clean), (count,), generator=generator)
    image = torch.stack(list(clean), 1)[torch.arange(count), of]
    there = mask.mean((-2, -1), keepdim=True) > truth.FOREGROUND
    gap, prominence = salience.contrast(image, mask)
    obvious = (gap.abs() > salience.OBVIOUS_GAP) & (prominence > salience.OBVIOUS)
    keep = obvious[..., None, None] & (uniform(count, 0, 1, generator) < 0.5) | ~there
    shown = torch.where(keep, image, salience.emphasize(image, mask, generator))
    way = uniform(count, 0, 1, generator)
    hidden = torch.where((way < 0.7) & there, salience.hide(shown, mask, generator), shown)
    distracted = (way > 0.4) | ~there
    varied = salience.vary_tones(shown, generator)
    shown = torch.where(distracted, shown, varied)
    varied = salience.vary_tones(hidden, generator)
    hidden = torch.where(distracted, salience.distract(hidden, generator), varied)
    names = truth.KINDS.index(truth.HIDDEN), truth.KINDS.index(truth.DISTRACTED)
    kinds = torch.where(distracted.flatten(), names[1], names[0])
    first = _View(shown, torch.full_like(kinds, _CLEAN), torch.full_like(kinds, SALIENT))
    return [first, _View(hidden, kinds, torch.full_like(kinds, SALIENT))], of
