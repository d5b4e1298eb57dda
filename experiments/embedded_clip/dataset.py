"""Lessons: pictures for the embedded CLIP, and the truth about each.

Every picture comes from `ldf_utils.data.scenes`. Its truth is known from the renderer (infrared or
visible, what stands where, how thick the haze is), from what was done to it on purpose, or it is
measured on its pixels (darkness, contrast, detail, how far warm objects stand out). What neither
says clearly stays undecided, and no caption is true or false of it.

Rendered cameras are cleaner than real ones, and a small model learns the difference of renderings
instead of the difference of cameras, if it can. So the sources are *disguised*: tone curves, noise,
blur, sharpening and spectra are drawn from the same wide distributions for both, and the fine
structure of one may show in the other. What is left to tell them apart is what is warm and what is
lit.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
from typing import NamedTuple

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.embedded_clip.degradations import ARTIFACTS, DEGRADATIONS, degrade
from ldf_utils.clip.attributes import ATTRIBUTES, INDEX
from ldf_utils.data.blur import gaussian_blur
from ldf_utils.data.cli import ignore_interrupts
from ldf_utils.data.images import luminance
from ldf_utils.data.scenes import LABELS, SETTINGS, render
from ldf_utils.metrics.oracle import background_detail, masked_mean, warm_gap

# Limits between true, undecided and false for what is measured on pixels.
DARK, BRIGHT = 0.20, 0.30  # mean luminance
PALE, STRONG = 0.09, 0.17  # standard deviation
PLAIN, DETAILED = 0.009, 0.019  # mean gradient of the background, slightly blurred
FAINT, SALIENT = 0.08, 0.20  # contrast of warm objects to their surroundings
THIN, THICK = 0.06, 0.30  # mean share of the light that haze keeps back
SMALL = 0.015  # share of the picture that an object must cover to be surely there
UNSEEN = 0.015  # mean difference to its surroundings under which it may not be seen

SIGNS = {  # what a degradation makes of an attribute
    "blurry": ("sharp", -1), "noisy": ("noisy", 1), "dark": ("dark", 1), "hazy": ("hazy", 1),
    "pale": ("contrast", -1), "overexposed": ("overexposed", 1),
}  # fmt: skip

VIEWS = ("visible", "infrared", "oracle", "mixture", "spoiled oracle", "spoiled source", "spoiled")
"""What is shown of each scene. A mixture is the average or the maximum of the sources."""


def measure(images: torch.Tensor, salient: torch.Tensor) -> dict[str, torch.Tensor]:
    """What can be read off the pixels, for several views of each scene.

    Args:
        images: ``(G, V, H, W)`` in [0, 1].
        salient: ``(G, 1, H, W)`` in [0, 1]: where warm objects are.

    Returns:
        ``mean``, ``std``, ``white`` (share of saturated pixels), ``detail`` (mean gradient of the
        background) and ``gap`` (how much brighter warm objects are than a ring around them), each
        ``(G, V)``; ``area`` (share of warm pixels), ``(G, 1)``.
    """
    return dict(
        mean=images.mean((-2, -1)),
        std=images.flatten(2).std(-1),
        white=(images > 0.97).float().mean((-2, -1)),
        detail=background_detail(images, salient),
        gap=warm_gap(images, salient),
        area=(salient > 0.5).float().mean((-2, -1)),
    )


def _between(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """+1 above ``high``, -1 below ``low``, 0 (undecided) between."""
    return (value > high).float() - (value < low).float()


def _affine(count: int, generator: torch.Generator, low=0.5, high=1.0) -> torch.Tensor:
    """Random crops as affine maps: side, place, mirror, a few degrees; a third nearly whole.

    Real pictures are wider than high and are squeezed to a square, so a crop is up to 1.4 times as
    wide as high.
    """
    side = low + (high - low) * torch.rand(count, generator=generator)
    whole = torch.rand(count, generator=generator) < 0.35
    side = torch.where(whole, 0.9 + 0.1 * side, side)
    angle = math.radians(6) * (2 * torch.rand(count, generator=generator) - 1)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    sides = torch.stack([side, side * (0.7 + 0.3 * torch.rand(count, generator=generator))], 1)
    place = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - sides)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = sides[:, 0] * flip * angle.cos(), -sides[:, 0] * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = sides[:, 1] * flip * angle.sin(), sides[:, 1] * angle.cos()
    theta[:, :, 2] = place
    return theta


# --- disguise -----------------------------------------------------------------------------------


def _drawn(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def leak(
    infrared: torch.Tensor, visible: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let fine structure of the visible picture show in the infrared one, and the other way.

    Real surfaces differ in emissivity and in what the sun has warmed, so real infrared pictures
    hold bricks, markings and bark, as they are or reversed.

    Args:
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: the same.
        generator: draws how much.

    Returns:
        The two pictures, of the same shapes.
    """
    count = len(infrared)

    def draw(low, high):
        return _drawn(count, low, high, generator)

    width = 0.8 + 3.0 * float(torch.rand((), generator=generator))
    fine = visible - gaussian_blur(visible, width)
    warm = infrared - gaussian_blur(infrared, width)
    sign = torch.where(draw(0, 1) < 0.35, -1.0, 1.0)
    infrared = infrared + sign * draw(0, 0.9) * (draw(0, 1) < 0.6) * fine
    visible = visible - draw(0, 0.7) * (draw(0, 1) < 0.4) * fine
    visible = visible + draw(-0.4, 0.4) * (draw(0, 1) < 0.3) * warm
    return infrared.clamp(0, 1), visible.clamp(0, 1)


def roughen(
    infrared: torch.Tensor, visible: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fine structure in both pictures, as much in the infrared one as real ones may hold.

    Real infrared pictures hold more texture than rendered ones, and a judge that has seen only
    rendered ones calls them visible. So the infrared picture gets the fine structure of the visible
    one, as it is or reversed, scaled to a spread that is drawn; and either gets clutter of its own,
    noise with the spectrum of natural pictures.

    Args:
        infrared: ``(B, 1, S, S)`` in [0, 1], square.
        visible: the same.
        generator: draws how much.

    Returns:
        The two pictures, of the same shapes, in [0, 1].
    """
    count = len(infrared)

    def draw(low, high):
        return _drawn(count, low, high, generator)

    width = 0.8 + 5.0 * float(torch.rand((), generator=generator))
    fine = visible - gaussian_blur(visible, width)
    warm = infrared - gaussian_blur(infrared, width)
    sign = torch.where(draw(0, 1) < 0.4, -1.0, 1.0)
    wanted = 0.07 * draw(0, 1) ** 1.5
    ratio = (wanted / fine.std((-2, -1), keepdim=True).clamp_min(0.004)).clamp(max=4)
    infrared = infrared + sign * ratio * (draw(0, 1) < 0.8) * fine
    visible = visible - draw(0, 0.9) * (draw(0, 1) < 0.5) * fine
    visible = visible + draw(-0.4, 0.4) * (draw(0, 1) < 0.3) * warm
    both = torch.cat([infrared.clamp(0, 1), visible.clamp(0, 1)])
    return _cluttered(both, generator).chunk(2)


def _cluttered(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noise whose amplitude falls as ``f ** -a``, a from 0.7 to 1.6, on some square pictures."""
    count, side = len(images), images.shape[-1]
    ring, sizes = _rings(side)
    radius = torch.arange(len(sizes))
    slope = 0.7 + 0.9 * torch.rand(count, 1, generator=generator)
    gain = radius.clamp_min(1) ** -slope * (radius > 2)
    waves = torch.fft.rfft2(torch.randn(count, side, side, generator=generator))
    waves = waves * gain[:, ring.flatten()].view(count, *ring.shape)
    clutter = torch.fft.irfft2(waves, s=(side, side))[:, None]
    clutter = clutter / clutter.std((-2, -1), keepdim=True)
    amount = 0.09 * _drawn(count, 0, 1, generator) ** 2
    return (images + amount * (_drawn(count, 0, 1, generator) < 0.6) * clutter).clamp(0, 1)


@functools.cache
def _rings(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ring of each frequency of a real Fourier transform, and the sizes of the rings."""
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    ring = (torch.hypot(rows, columns) * side / 2).round().long().clamp(max=side // 2)
    sizes = torch.zeros(side // 2 + 1).scatter_add_(0, ring.flatten(), torch.ones(ring.numel()))
    return ring, sizes.clamp_min(1)


def respectrum(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give each square picture the spectrum of a natural one, ``f ** -a`` with a from 1 to 1.9.

    The slope of natural pictures: Field, doi:10.1364/JOSAA.4.002379. Mean and standard deviation
    stay.

    Args:
        images: ``(B, 1, S, S)``.
        generator: draws the slopes.

    Returns:
        The pictures, of the same shape, not cut to [0, 1].
    """
    count, side = len(images), images.shape[-1]
    ring, sizes = _rings(side)
    mean = images.mean((-2, -1), keepdim=True)
    spread = images.std((-2, -1), keepdim=True)
    waves = torch.fft.rfft2((images - mean)[:, 0])
    power = torch.zeros(count, len(sizes)).scatter_add_(
        1, ring.flatten().expand(count, -1), (waves.abs() ** 2).flatten(1)
    )
    slope = 1.0 + 0.9 * torch.rand(count, 1, generator=generator)
    wanted = torch.arange(len(sizes)).clamp_min(1) ** (-2 * slope)
    gain = (wanted / (power / sizes).clamp_min(1e-9)).sqrt()
    gain[:, 0] = gain[:, 1]
    waves = waves * gain[:, ring.flatten()].view(count, *ring.shape)
    made = torch.fft.irfft2(waves, s=(side, side))[:, None]
    return made / made.std((-2, -1), keepdim=True).clamp_min(1e-6) * spread + mean


def retone(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Send the quantiles of each picture to other ones, drawn at random: a monotone tone curve.

    Args:
        images: ``(B, 1, H, W)``.
        generator: draws the curves.

    Returns:
        The pictures, of the same shape, about in [0, 1].
    """
    count, knots = len(images), 7
    flat = images.flatten(1)
    edges = torch.quantile(flat[:, ::9], torch.linspace(0.005, 0.995, knots), dim=1).T
    edges = edges + torch.arange(knots) * 1e-4
    steps = torch.rand(count, knots - 1, generator=generator) ** 1.5 + 0.05
    goal = torch.cat([torch.zeros(count, 1), steps.cumsum(1)], 1)
    low = 0.25 * torch.rand(count, 1, generator=generator) ** 2
    span = (1 - low) * (0.35 + 0.65 * torch.rand(count, 1, generator=generator))
    goal = low + span * goal / goal[:, -1:]
    place = torch.searchsorted(edges.contiguous(), flat.contiguous()).clamp(1, knots - 1)
    x0, x1 = edges.gather(1, place - 1), edges.gather(1, place)
    y0, y1 = goal.gather(1, place - 1), goal.gather(1, place)
    return (y0 + (flat - x0) / (x1 - x0) * (y1 - y0)).view_as(images).clamp(-0.1, 1.1)


def disguise(
    images: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a camera and its software may do to a picture, the same for both kinds of camera.

    Args:
        images: ``(B, 1, S, S)`` in [0, 1].
        generator: draws what is done.

    Returns:
        The pictures in [0, 1]; which of them may be less sharp than they were, ``(B,)`` bool; and
        which may hold noise, ``(B,)`` bool.
    """
    count, side = len(images), images.shape[-1]

    def draw(low, high):
        return _drawn(count, low, high, generator)

    new_spectrum = draw(0, 1) < 0.25
    images = torch.where(new_spectrum, respectrum(images, generator).clamp(0, 1), images)
    images = images.clamp_min(1e-4) ** torch.exp(draw(-0.5, 0.5))
    images = torch.where(draw(0, 1) < 0.25, retone(images, generator), images)
    fine, wide = gaussian_blur(images, 1.0), gaussian_blur(images, 4.0)
    sharpened = 1.4 * draw(0, 1) ** 2 * (images - fine) + draw(0, 1) ** 2 * (images - wide)
    soft = draw(0, 1) < 0.2
    width = 0.6 + 0.6 * float(torch.rand((), generator=generator))
    images = torch.where(soft, gaussian_blur(images, width), images + sharpened)
    images = images * draw(0.7, 1.15) + draw(-0.05, 0.1)
    images = torch.where(draw(0, 1) < 0.08, images * draw(0.25, 0.6), images)
    amount = 0.035 * draw(0, 1) ** 2
    columns = torch.randn(count, 1, 1, side, generator=generator) * (draw(0, 1) < 0.2)
    rows = torch.randn(count, 1, side, 1, generator=generator) * (draw(0, 1) < 0.2)
    grain = torch.randn(images.shape, generator=generator)
    images = images + amount * (grain + 0.6 * (columns + rows))
    blurred, noisy = soft | new_spectrum, (amount > 0.012) | new_spectrum
    return images.clamp(0, 1), blurred.flatten(), noisy.flatten()


# --- pictures and truth ---------------------------------------------------------------------------


class Lessons(NamedTuple):
    """Pictures of G scenes, the V views of `VIEWS` of each, and the truth of K attributes."""

    images: torch.Tensor
    """``(G, V, 1, side, side)`` in [0, 1]."""
    truth: torch.Tensor
    """``(G, V, K)`` with +1, 0 (undecided) or -1."""
    origin: torch.Tensor
    """``(G, V)``: of which view a view was made; its own number where it was not spoiled."""
    change: torch.Tensor
    """``(G, V, K)``: +1 or -1 where spoiling raised or lowered an attribute against the origin."""


def _presence(
    images: torch.Tensor, labels: torch.Tensor, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of the picture that an object covers, ``(G, 1)``, and how far it shows, ``(G, V)``."""
    mask = (labels - LABELS.index(name)).abs().lt(0.5).float()
    inside = masked_mean(images, mask)
    spread = masked_mean((images - inside[..., None, None]).abs(), mask)
    return mask.mean((-2, -1)), warm_gap(images, mask).abs() + 0.5 * spread


def make_batch(
    scenes: dict[str, torch.Tensor],
    index: torch.Tensor,
    generator: torch.Generator,
    side: int = 96,
    negatives: torch.Tensor | None = None,
    disguised: float = 1.0,
    rough: bool = False,
) -> Lessons:
    """Pictures of some scenes, clean and spoiled, and the truth about each.

    Args:
        scenes: what `load_scenes` gives.
        index: ``(G,)`` which scenes.
        generator: draws crops, tones and degradations.
        side: pixels of a picture.
        negatives: ``(N, H, W)`` uint8: pictures that were optimized against a judge; some take the
            place of spoiled ones, and count as artifacts.
        disguised: share of the scenes whose sources `leak` and `disguise` change; the others are
            as rendered.
        rough: `roughen` these sources in place of `leak`.

    Returns:
        The pictures and what is known of them.
    """
    count = len(index)
    names = ("visible", "infrared", "oracle", "salient", "veil")
    stack = torch.stack([scenes[k][index] for k in names], 1).float() / 255
    theta = _affine(count, generator)
    grid = F.affine_grid(theta, (count, 5, side, side), align_corners=False)
    stack = F.grid_sample(stack, grid, padding_mode="reflection", align_corners=False)
    labels = F.grid_sample(scenes["labels"][index][:, None].float(), grid, mode="nearest",
                           padding_mode="reflection", align_corners=False)  # fmt: skip
    visible, infrared, oracle, salient, veil = stack.split(1, dim=1)
    blurred = grainy = torch.zeros(2 * count, dtype=torch.bool)
    if disguised > 0:
        plain = torch.cat([visible, infrared])
        infrared, visible = (roughen if rough else leak)(infrared, visible, generator)
        infrared = _dimmed(infrared, 0.18, generator)
        visible = _dimmed(visible, 0.08, generator)
        sources, blurred, grainy = disguise(torch.cat([visible, infrared]), generator)
        hidden = (torch.rand(count, generator=generator) < disguised).repeat(2)
        blurred, grainy = blurred & hidden, grainy & hidden
        visible, infrared = torch.where(hidden[:, None, None, None], sources, plain).chunk(2)
    blurred, grainy = blurred.view(2, count).T, grainy.view(2, count).T
    oracle = _good(oracle, generator)
    share = torch.where(_drawn(count, 0, 1, generator) < 0.5, 0.5,
                        _drawn(count, 0.3, 0.7, generator))  # fmt: skip
    average = visible.lerp(infrared, share)
    use_average = _drawn(count, 0, 1, generator) < 0.5
    views = [visible, infrared, oracle,
             torch.where(use_average, average, torch.maximum(visible, infrared))]  # fmt: skip
    kinds = [["clean"] * count for _ in views]
    origin = [[v] * count for v in range(len(views))]
    for slot in range(3):  # of the oracle, of a source, of any
        order = torch.randperm(count, generator=generator)
        spoiled = torch.empty_like(visible)
        kind_of, origin_of = [""] * count, [0] * count
        for part in order.chunk(6):
            chance = torch.rand(2, generator=generator)
            bank = ARTIFACTS if slot == 2 and chance[0] < 0.7 else DEGRADATIONS[:6]
            if slot < 2 and chance[0] < 0.3:
                bank = ARTIFACTS
            kind = bank[int(chance[1] * len(bank))]
            base = 2 if slot == 0 else int(torch.randint(0, 3, (1,), generator=generator))
            if slot == 1:
                base = int(torch.randint(0, 2, (1,), generator=generator))
            spoiled[part] = degrade(views[base][part], kind, generator)
            for i in part.tolist():
                kind_of[i], origin_of[i] = kind, base
        if slot == 2 and negatives is not None:
            for i in order.chunk(6)[0].tolist() + order.chunk(6)[1].tolist():
                pick = int(torch.randint(len(negatives), (1,), generator=generator))
                picture = negatives[pick][None, None].float() / 255
                size = (side, side)
                spoiled[i] = F.interpolate(picture, size, mode="bilinear", antialias=True)[0]
                kind_of[i], origin_of[i] = "optimized", 4
        views.append(spoiled)
        kinds.append(kind_of)
        origin.append(origin_of)
    images = torch.stack(views, 1)
    truth = _truth(scenes, index, images, salient, veil, labels, kinds, origin, blurred, grainy)
    change = torch.zeros_like(truth)
    for view, kind_of in enumerate(kinds):
        for scene, kind in enumerate(kind_of):
            if kind in SIGNS:
                name, sign = SIGNS[kind]
                change[scene, view, INDEX[name]] = sign
    return Lessons(images, truth, torch.tensor(origin).T, change)


def _dimmed(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Some pictures as cameras for the night show them: all but the brightest near black."""
    count = len(images)
    dim = images.clamp_min(1e-4) ** _drawn(count, 1.0, 2.5, generator)
    dim = dim * _drawn(count, 0.15, 0.7, generator)
    return torch.where(_drawn(count, 0, 1, generator) < share, dim, images)


def _good(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What good fusions may do: another tone curve, sharper, more local contrast, little noise."""
    count = len(images)
    images = images.clamp_min(1e-4) ** torch.exp(_drawn(count, -0.2, 0.2, generator))
    strength = torch.rand(2, count, 1, 1, 1, generator=generator) ** 2
    wide = gaussian_blur(images, 3.0 + 3.0 * float(torch.rand((), generator=generator)))
    fine = gaussian_blur(images, 1.0)
    grain = 0.012 * _drawn(count, 0, 1, generator) * torch.randn(images.shape, generator=generator)
    images = images + 1.2 * strength[0] * (images - fine) + 0.9 * strength[1] * (images - wide)
    return (images + grain).clamp(0, 1)


def _truth(scenes, index, images, salient, veil, labels, kinds, origin, blurred, grainy):
    """The sign of every attribute for every view, ``(G, V, K)``."""
    count, total = images.shape[:2]
    seen = measure(images[:, :, 0], salient)
    truth = torch.zeros(count, total, len(ATTRIBUTES))
    kind = [[kinds[v][g] for v in range(total)] for g in range(count)]
    source = torch.tensor([[origin[v][g] for v in range(total)] for g in range(count)])

    def put(name, value):
        truth[..., INDEX[name]] = value

    def is_kind(*names):
        return torch.tensor([[k in names for k in row] for row in kind])

    def where(true, false):
        """+1 and -1 by two masks, 0 elsewhere."""
        return true.float() - false.float()

    def of_source(flags):
        """Flags of the two sources, ``(G, 2)``, at the views made of them; False elsewhere."""
        wide = torch.cat([flags, torch.zeros(count, 3, dtype=torch.bool)], 1)
        return wide.gather(1, source)

    foreign = is_kind("optimized")  # of another scene
    clean = is_kind("clean")
    facts = {k: scenes[k][index][:, None].expand(-1, total) for k in scenes if scenes[k].ndim == 1}
    veiled = veil.mean((-2, -1)).expand(-1, total)
    murky = (veiled > THIN) & (source == 0)
    night = facts["night"] > 0
    plain = is_kind("clean", "blurry", "noisy", "pale")  # the others hide which camera it was
    put("infrared", where((source == 1) & plain, (source == 0) & plain))
    put("visible", where((source == 0) & plain, (source == 1) & plain))
    put("fused", where((source >= 2) & ~foreign & ~is_kind("dark", "pale"), source < 2))
    soft, grain = of_source(blurred), of_source(grainy)
    mixed_soft = (source == 3) & blurred.any(1, keepdim=True)
    crisp = (clean & ~soft & ~mixed_soft & ~murky & (source != 1)) | (is_kind("noisy") & ~soft)
    put("sharp", where(crisp, is_kind("blurry")))
    unsure = grain | ((source == 0) & night) | is_kind(*ARTIFACTS) | foreign
    unsure = unsure | ((source == 3) & (grainy.any(1, keepdim=True) | night))
    put("noisy", where(is_kind("noisy"), ~is_kind("noisy") & ~unsure))
    put("dark", -_between(seen["mean"], DARK, BRIGHT))
    thick = is_kind("hazy") | ((source == 0) & (veiled > THICK) & plain)
    thin = ~is_kind("hazy", "pale") & ((source != 0) & (source != 3) | (veiled < THIN))
    put("hazy", where(thick, thin & ~foreign))
    put("contrast", _between(seen["std"], PALE, STRONG))
    put("overexposed", _between(seen["white"], 0.03, 0.2))
    bad = is_kind(*ARTIFACTS, "optimized")
    put("artifacts", where(bad, ~bad & ~soft))
    detail = _between(seen["detail"], PLAIN, DETAILED)
    put("detailed", torch.where(is_kind("noisy", *ARTIFACTS, "optimized") | grain, 0.0, detail))
    stands_out = _between(seen["gap"], FAINT, SALIENT)
    # Whether nothing warm stands out, or nothing warm is there, can't be told apart.
    told = (seen["area"] > 0.006) & ~foreign
    put("salient", torch.where(told, stands_out, 0.0))
    good = clean & ((source == 2) | ((source == 0) & ~night & ~murky & ~soft & ~grain))
    spoiled = ~clean | murky | ((source == 0) & night & (seen["mean"] < DARK))
    put("clear", where(good & (seen["std"] > PALE) & (seen["mean"] > DARK), spoiled))
    for name, label in (("people", "person"), ("vehicles", "vehicle"), ("trees", "tree"),
                        ("buildings", "building")):  # fmt: skip
        area, shows = _presence(images[:, :, 0], labels, label)
        hidden = is_kind("hazy", "dark", "blurry", "letters", "checkerboard", "optimized") | murky
        there = (area > SMALL) & (shows > UNSEEN) & ~hidden
        put(name, where(there, (area == 0).expand(-1, total) & ~foreign))
    by_eye = (source == 0) & ~is_kind("dark", "overexposed")
    put("night", torch.where(by_eye, facts["night"], 0.0))
    for name in SETTINGS:
        put(name, torch.where(foreign, 0.0, facts[name]))
    return truth


def _render_chunk(job: tuple[int, int, int, int]) -> dict[str, torch.Tensor]:
    seed, start, count, size = job
    torch.set_num_threads(1)
    batch = render(count, (size, size), seed, start=start)
    pictures = dict(
        visible=luminance(batch.visible), infrared=batch.infrared, oracle=batch.oracle,
        salient=batch.salient, veil=batch.veil,
    )  # fmt: skip
    pictures = {name: (p * 255).round() for name, p in pictures.items()}
    pictures["labels"] = batch.labels.float()
    facts = batch.attributes

    def flag(values):
        return torch.tensor([1.0 if v else -1.0 for v in values])

    labels = dict(
        night=flag(f["time"] == "night" for f in facts),
        **{place: flag(f["setting"] == place for f in facts) for place in SETTINGS},
    )
    if size > 128:  # a large picture twice close up, at its own pixels, and once as a whole
        generator = torch.Generator().manual_seed(start)
        corners = torch.randint(0, size - 127, (2, 2), generator=generator).tolist()

        def parts(name, image):
            how = {"mode": "nearest"} if name == "labels" else {"mode": "area"}
            close = [image[..., y : y + 128, x : x + 128] for y, x in corners]
            return torch.cat([*close, F.interpolate(image, (128, 128), **how)])

        pictures = {name: parts(name, image) for name, image in pictures.items()}
        labels = {k: v.repeat(3) for k, v in labels.items()}
    return {**{k: v.to(torch.uint8)[:, 0] for k, v in pictures.items()}, **labels}


def load_scenes(count: int, seed: int, processes: int = 2) -> dict[str, torch.Tensor]:
    """Render the training world: large scenes as crops and reduced, and some small ones.

    Args:
        count: pictures of each view; four fifths stem from scenes of 256 pixels.
        seed: of the worlds.
        processes: how many render at once.

    Returns:
        ``visible`` (luminance), ``infrared``, ``oracle``, ``salient``, ``veil``, ``labels``:
        ``(count, 128, 128)`` uint8; and the facts: ``(count,)`` with +1 or -1.
    """
    small, large = 50, 24
    whole = math.ceil(count * 0.2 / small)
    close = math.ceil(count * 0.8 / (3 * large))
    jobs = [(seed, i * small, small, 128) for i in range(whole)]
    jobs += [(seed + 1, i * large, large, 256) for i in range(close)]
    parts = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=ignore_interrupts) as pool:
        for part in tqdm(pool.imap(_render_chunk, jobs), total=len(jobs), desc="rendering scenes"):
            parts.append(part)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
