"""Truth: which attributes hold for an image of a packed square.

Some are known from the renderer (infrared or visible, what stands where, how thick the haze is),
some from the degradation that was applied, and some are measured on the pixels (darkness, contrast,
detail, how far objects stand out). Where none of these is conclusive, the attribute stays
undecided, and no caption counts as true or false. Of real images only the camera is known, what was
done to them, and what is measured.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from experiments.embedded_clip import salience
from experiments.embedded_clip.degradations import ARTIFACTS, DEGRADATIONS
from ldf_utils.clip.attributes import ATTRIBUTES, INDEX
from ldf_utils.metrics.oracle import background_detail, masked_mean, warm_gap

LABELS = ("nothing", "person", "vehicle", "tree", "building", "cycle")
"""Of the label maps, by number."""

UNKNOWN = 255
"""Number in a label map where nobody knows what is seen."""

SETTINGS = ("street", "field", "harbor", "room")

# Limits between true, undecided and false for what is measured on pixels.
DARK, BRIGHT = 0.20, 0.30  # mean luminance
PALE, STRONG = 0.09, 0.17  # standard deviation
PLAIN, DETAILED = 0.009, 0.019  # mean gradient of the background, slightly blurred
THIN, THICK = 0.06, 0.30  # mean share of the light that haze absorbs
SMALL = 0.012  # share of the image that an object must cover to count as present
UNSEEN = 0.015  # mean difference to its surroundings under which an object may be invisible
FOREGROUND = 0.004  # share of the image that objects must cover to be called salient or hidden

EFFECTS = {
    "blurry": ("sharp", -1),
    "noisy": ("noisy", 1),
    "dark": ("dark", 1),
    "hazy": ("hazy", 1),
    "pale": ("contrast", -1),
    "overexposed": ("overexposed", 1),
}
"""Degradation to the attribute that it changes and the sign of the change."""

EMPTY, FULL = 0.0, 0.15  # share of a cell that an object covers where it is absent, present

OBJECTS = {"people": "person", "vehicles": "vehicle", "trees": "tree", "buildings": "building"}
"""Attribute to the label."""

STANDING_OUT = {"salient": None, "salient_people": "person", "salient_vehicles": "vehicle"}
"""Attributes of salience to the label of the objects; None: all that are salient in the map."""

CLEAN, OPTIMIZED, HIDDEN, DISTRACTED = "clean", "optimized", "hidden", "distracted"
"""Kinds of views besides `DEGRADATIONS`: not degraded, an adversarial image, one in which objects
are hidden, and one with grain or contrast added (objects hidden or not)."""

KINDS = (CLEAN, OPTIMIZED, HIDDEN, DISTRACTED, *DEGRADATIONS)


@dataclass(frozen=True)
class Views:
    """Hold V images of each of G scenes and what is known about them.

    Attributes:
        images: ``(G, V, 1, H, W)`` in [0, 1].
        kinds: ``(G, V)``: indices of `KINDS`.
        source: ``(G, V)``: 0 for an image made of the visible source, 1 infrared, 2 oracle,
            3 mixture, 4 another scene.
        salient: ``(G, 1, H, W)``: people and warm vehicles.
        veil: ``(G, 1, H, W)``: share of the light that haze absorbs.
        labels: ``(G, 1, H, W)``: indices of `LABELS`, or `UNKNOWN`.
        facts: name to ``(G,)`` with +1, 0 or -1: night, and each setting; ``recorded`` with 1 for
            images of a camera of which nothing else is known.
        blurred: ``(G, 2)`` bool: whether the visible and the infrared source may be blurred.
        noisy: ``(G, 2)`` bool: the same for noise.
    """

    images: torch.Tensor
    kinds: torch.Tensor
    source: torch.Tensor
    salient: torch.Tensor
    veil: torch.Tensor
    labels: torch.Tensor
    facts: Mapping[str, torch.Tensor]
    blurred: torch.Tensor
    noisy: torch.Tensor

    def fact(self, name: str) -> torch.Tensor:
        """Return a fact of the scenes for each of their views, ``(G, V)``."""
        return self.facts[name][:, None].expand_as(self.source)

    def is_kind(self, *names: str) -> torch.Tensor:
        """Return where a view is of one of these kinds, ``(G, V)`` bool."""
        return torch.isin(self.kinds, torch.tensor([KINDS.index(name) for name in names]))

    def of_source(self, flags: torch.Tensor) -> torch.Tensor:
        """Spread flags of the two sources, ``(G, 2)``, to the views made of them, ``(G, V)``."""
        padding = torch.zeros(len(flags), 3, dtype=torch.bool)
        return torch.cat([flags, padding], 1).gather(1, self.source)

    @functools.cached_property
    def clean(self) -> torch.Tensor:
        return self.is_kind(CLEAN)

    @functools.cached_property
    def foreign(self) -> torch.Tensor:
        """Adversarial images, which show another scene."""
        return self.is_kind(OPTIMIZED)

    @functools.cached_property
    def camera_known(self) -> torch.Tensor:
        """Views whose degradation does not hide which camera took them."""
        return self.is_kind(CLEAN, HIDDEN, DISTRACTED, "blurry", "noisy", "pale")

    @functools.cached_property
    def recorded(self) -> torch.Tensor:
        """Views of a camera's images, of which little is known."""
        return self.fact("recorded") > 0

    @functools.cached_property
    def night(self) -> torch.Tensor:
        """Views of the visible source at night."""
        return (self.source == 0) & (self.fact("night") > 0)

    @functools.cached_property
    def veiled(self) -> torch.Tensor:
        """Mean of the veil of each scene, for each view."""
        return self.veil.mean((-2, -1)).expand_as(self.source)

    @functools.cached_property
    def murky(self) -> torch.Tensor:
        """Views of the visible source through more than thin haze."""
        return (self.veiled > THIN) & (self.source == 0)


def measure(images: torch.Tensor, salient: torch.Tensor) -> dict[str, torch.Tensor]:
    """Measure on the pixels what the truth needs, for several views of each scene.

    Args:
        images: ``(G, V, H, W)`` in [0, 1].
        salient: ``(G, 1, H, W)`` in [0, 1]: where people and warm vehicles are.

    Returns:
        ``mean``, ``std``, ``white`` (share of saturated pixels) and ``detail`` (mean gradient of
        the background), each ``(G, V)``.
    """
    return dict(
        mean=images.mean((-2, -1)),
        std=images.std((-2, -1), correction=0),
        white=(images > 0.97).float().mean((-2, -1)),
        detail=background_detail(images, salient),
    )


def label(views: Views) -> torch.Tensor:
    """Decide every attribute for every view.

    Args:
        views: the images and what is known about them.

    Returns:
        ``(G, V, K)``, in the order of `ldf_utils.clip.attributes.ATTRIBUTES`: +1 true, -1 false,
        0 undecided.
    """
    seen = measure(views.images[:, :, 0], views.salient)
    truth = torch.zeros(*views.source.shape, len(ATTRIBUTES))
    signs = _camera_signs(views) | _quality_signs(views, seen) | _content_signs(views, seen)
    for name, values in signs.items():
        truth[..., INDEX[name]] = values
    return truth


def changes(views: Views) -> torch.Tensor:
    """Return ``(G, V, K)``: the sign by which degrading changed an attribute, 0 elsewhere.

    Hiding objects, or adding grain or contrast around them, makes them less salient.
    """
    change = torch.zeros(*views.source.shape, len(ATTRIBUTES))
    for kind, (name, sign) in EFFECTS.items():
        change[..., INDEX[name]] += sign * views.is_kind(kind)
    fainter = views.is_kind(HIDDEN, DISTRACTED)
    for name, object_label in STANDING_OUT.items():
        there = foreground(views, object_label).mean((-2, -1)) > FOREGROUND
        change[..., INDEX[name]] -= (fainter & there).float()
    return change


def cell_signs(labels: torch.Tensor, truth: torch.Tensor, cells: int) -> torch.Tensor:
    """Decide for every cell of a grid whether an object of each kind of `OBJECTS` is there.

    Args:
        labels: ``(G, 1, H, W)``: indices of `LABELS`, or `UNKNOWN`.
        truth: ``(G, V, K)`` from `label`, of whole images: where an object is absent, or nobody can
            say whether it is seen, no cell says anything else.
        cells: along a side.

    Returns:
        ``(G, V, 4, cells, cells)`` with +1, 0 (undecided) and -1.
    """
    masks = torch.cat([(labels - LABELS.index(o)).abs().lt(0.5) for o in OBJECTS.values()], 1)
    share = F.adaptive_avg_pool2d(masks.float(), cells)
    here = _signs(share > FULL, share <= EMPTY)[:, None]
    whole = truth[..., [INDEX[name] for name in OBJECTS]][..., None, None]
    return torch.where(whole > 0, here, whole.expand(-1, -1, -1, cells, cells))


def foreground(views: Views, object_label: str | None) -> torch.Tensor:
    """Return where salient objects are, all or those with a label, ``(G, 1, H, W)`` with 0 or 1."""
    hot = (views.salient > 0.5).float()
    if object_label is None:
        return hot
    return hot * (views.labels - LABELS.index(object_label)).abs().lt(0.5)


def _signs(true: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """+1 and -1 by two masks, 0 elsewhere."""
    return true.float() - false.float()


def _between(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """+1 above ``high``, -1 below ``low``, 0 (undecided) between."""
    return _signs(value > high, value < low)


def _camera_signs(views: Views) -> dict[str, torch.Tensor]:
    """Infrared, visible or fused."""
    source, known = views.source, views.camera_known
    fused = (source >= 2) & ~views.foreign & ~views.is_kind("dark", "pale")
    return {
        "infrared": _signs((source == 1) & known, (source == 0) & known),
        "visible": _signs((source == 0) & known, (source == 1) & known),
        "fused": _signs(fused, source < 2),
    }


def _quality_signs(views: Views, seen: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """How good an image is, whatever it shows."""
    source, clean, foreign, murky = views.source, views.clean, views.foreign, views.murky
    blurred, noisy = views.of_source(views.blurred), views.of_source(views.noisy)
    mixture = source == 3
    mixture_blurred = mixture & views.blurred.any(1, keepdim=True)
    crisp = clean & ~blurred & ~mixture_blurred & ~murky & (source != 1)
    crisp = crisp | (views.is_kind("noisy") & ~blurred)
    night_mixture = mixture & (views.noisy.any(1, keepdim=True) | (views.fact("night") > 0))
    altered = views.is_kind(HIDDEN, DISTRACTED)
    noise_unknown = (
        noisy
        | views.is_kind(DISTRACTED)
        | views.night
        | views.is_kind(*ARTIFACTS)
        | foreign
        | night_mixture
    )
    hazy = views.is_kind("hazy")
    thick = hazy | ((source == 0) & (views.veiled > THICK) & views.camera_known)
    thin = ~(hazy | views.is_kind("pale")) & ((source != 0) & ~mixture | (views.veiled < THIN))
    thin = thin & ~views.recorded
    damaged = views.is_kind(*ARTIFACTS, OPTIMIZED)
    detail_unknown = views.is_kind("noisy", DISTRACTED) | damaged | noisy
    good_source = (source == 0) & ~views.night & ~murky & ~blurred & ~noisy
    bright = seen["mean"] > DARK
    good = clean & ((source == 2) | good_source) & (seen["std"] > PALE) & bright
    bad = ~(clean | altered) | murky | (views.night & (seen["mean"] < DARK))
    return {
        "sharp": _signs(crisp, views.is_kind("blurry")),
        "noisy": _signs(views.is_kind("noisy"), ~views.is_kind("noisy") & ~noise_unknown),
        "dark": -_between(seen["mean"], DARK, BRIGHT),
        "hazy": _signs(thick, thin & ~foreign),
        "contrast": _between(seen["std"], PALE, STRONG),
        "overexposed": _between(seen["white"], 0.03, 0.2),
        "artifacts": _signs(damaged, ~(damaged | altered) & (~blurred | views.recorded)),
        "detailed": torch.where(detail_unknown, 0.0, _between(seen["detail"], PLAIN, DETAILED)),
        "clear": _signs(good, bad),
    }


def _content_signs(views: Views, seen: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the signs of what an image shows."""
    foreign = views.foreign
    signs = _salience_signs(views)
    hiding = ("hazy", "dark", "blurry", "letters", "checkerboard", OPTIMIZED)
    hidden = views.is_kind(*hiding) | views.murky
    unknown = (views.labels > len(LABELS)).flatten(1).any(1)[:, None] | foreign
    cycles = (views.labels - LABELS.index("cycle")).abs().lt(0.5).flatten(1).any(1)[:, None]
    for name, object_label in OBJECTS.items():
        area, contrast = _presence(views.images[:, :, 0], views.labels, object_label)
        present = (area > SMALL) & (contrast > UNSEEN) & ~hidden
        absent = (area == 0).expand_as(foreign) & ~unknown
        signs[name] = _signs(present, absent & ~cycles if name == "vehicles" else absent)
    by_eye = (views.source == 0) & ~views.is_kind("dark", "overexposed")
    signs["night"] = torch.where(by_eye, views.fact("night"), 0.0)
    return signs | {name: torch.where(foreign, 0.0, views.fact(name)) for name in SETTINGS}


def _salience_signs(views: Views) -> dict[str, torch.Tensor]:
    """Whether objects stand out; undecided where there are none."""
    images = views.images[:, :, 0]
    signs = {}
    for name, object_label in STANDING_OUT.items():
        mask = foreground(views, object_label)
        gap, prominence = salience.contrast(images, mask)
        known = (mask.mean((-2, -1)) > FOREGROUND) & ~views.foreign
        obvious = (gap.abs() > salience.OBVIOUS_GAP) & (prominence > salience.OBVIOUS)
        faint = (gap.abs() < salience.HIDDEN_GAP) | (prominence < salience.HIDDEN)
        signs[name] = torch.where(known, _signs(obvious, faint), 0.0)
        if name == "salient":
            signs["warm_objects"] = torch.where(known & obvious, gap.sign(), 0.0)
    return signs


def _presence(
    images: torch.Tensor, labels: torch.Tensor, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of the image that an object covers, ``(G, 1)``, and its contrast, ``(G, V)``."""
    mask = (labels - LABELS.index(name)).abs().lt(0.5).float()
    inside = masked_mean(images, mask)
    spread = masked_mean((images - inside[..., None, None]).abs(), mask)
    return mask.mean((-2, -1)), warm_gap(images, mask).abs() + 0.5 * spread
