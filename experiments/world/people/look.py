"""What people look like: build, skin, hair, clothes and their colors, drawn as in real streets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from experiments.world.people.skeleton import Build

Color = tuple[float, float, float]

SKIN: tuple[Color, ...] = (
    (0.58, 0.36, 0.26), (0.50, 0.30, 0.21), (0.42, 0.25, 0.16),
    (0.30, 0.16, 0.10), (0.17, 0.085, 0.05), (0.09, 0.045, 0.028),
)  # fmt: skip
HAIR: tuple[Color, ...] = (
    (0.010, 0.008, 0.007), (0.020, 0.013, 0.009), (0.045, 0.024, 0.013),
    (0.10, 0.055, 0.028), (0.26, 0.17, 0.08), (0.30, 0.29, 0.28),
)  # fmt: skip
DARK: tuple[Color, ...] = (
    (0.012, 0.012, 0.014), (0.022, 0.023, 0.027), (0.015, 0.020, 0.042), (0.040, 0.042, 0.046),
    (0.035, 0.028, 0.022), (0.026, 0.034, 0.026), (0.030, 0.012, 0.015),
)  # fmt: skip
NEUTRAL: tuple[Color, ...] = (
    (0.12, 0.12, 0.13), (0.23, 0.22, 0.21), (0.30, 0.25, 0.18), (0.13, 0.095, 0.06),
    (0.09, 0.10, 0.07), (0.055, 0.075, 0.13), (0.42, 0.39, 0.35),
)  # fmt: skip
LIGHT: tuple[Color, ...] = ((0.70, 0.69, 0.67), (0.58, 0.56, 0.52), (0.45, 0.52, 0.62))
BRIGHT: tuple[Color, ...] = (
    (0.30, 0.030, 0.032), (0.045, 0.095, 0.27), (0.45, 0.31, 0.06), (0.040, 0.13, 0.075),
    (0.36, 0.12, 0.035), (0.40, 0.20, 0.24), (0.11, 0.045, 0.10), (0.11, 0.22, 0.26),
)  # fmt: skip
JEANS: tuple[Color, ...] = (
    (0.028, 0.040, 0.075), (0.060, 0.085, 0.14), (0.13, 0.18, 0.25), (0.016, 0.018, 0.026),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Hold everything about a person except what the person does.

    Attributes:
        build: measures of the body.
        top: ``jacket``, ``puffer``, ``coat``, ``hoodie``, ``shirt``, ``tshirt`` or ``suit``.
        bottom: ``trousers``, ``jeans``, ``leggings``, ``shorts``, ``skirt`` or ``dress``.
        hair_style: ``bald``, ``short``, ``crop``, ``medium``, ``long``, ``bun`` or ``ponytail``.
        headwear: ``none``, ``cap``, ``beanie``, ``hat``, ``hood`` or ``helmet``.
        carried: ``none``, ``bag``, ``case``, ``backpack``, ``shoulder_bag`` or ``umbrella``.
        scarf, beard, mask, glasses: whether there is one.
        colors: albedo by ``skin``, ``hair``, ``top``, ``inner``, ``bottom``, ``shoe``, ``sole``,
            ``headwear``, ``scarf`` and ``carried``.
        seed: of the folds.
    """

    build: Build
    top: str = "jacket"
    bottom: str = "trousers"
    hair_style: str = "short"
    headwear: str = "none"
    carried: str = "none"
    scarf: bool = False
    beard: bool = False
    mask: bool = False
    glasses: bool = False
    colors: dict[str, Color] = field(default_factory=dict)
    seed: int = 0

    def riding(self, helmet: bool) -> Look:
        """Return the look with clothes that one can ride in."""
        bottom = "jeans" if self.bottom in ("skirt", "dress") else self.bottom
        top = "jacket" if self.top == "coat" else self.top
        headwear = "helmet" if helmet else self.headwear
        carried = self.carried if self.carried == "backpack" else "none"
        return replace(self, bottom=bottom, top=top, headwear=headwear, carried=carried)


def sample_look(
    rng: np.random.Generator, *, child: bool | None = None, season: str = "cool"
) -> Look:
    """Draw a person.

    Args:
        rng: source of randomness; the same state gives the same person.
        child: True for a child of 1.1 to 1.5 m, False for an adult, None for one in twelve.
        season: ``cool`` (jackets, coats), ``cold`` (also hats, scarves) or ``warm`` (shirts).

    Returns:
        The look.
    """
    if season not in ("cool", "cold", "warm"):
        raise ValueError(f"season must be cool, cold or warm, got {season!r}")
    child = bool(rng.random() < 1 / 12) if child is None else child
    feminine = float(rng.random() < 0.5)
    build = _sample_build(rng, child, feminine)
    top, bottom = _sample_clothes(rng, child, feminine, season)
    style = str(
        rng.choice(["medium", "long", "bun", "ponytail", "short"], p=[0.24, 0.34, 0.12, 0.2, 0.1])
        if feminine
        else rng.choice(["short", "crop", "medium", "bald"], p=[0.55, 0.25, 0.12, 0.08])
    )
    headwear = _sample_headwear(rng, top, season)
    items = ["none", "backpack", "shoulder_bag", "bag", "case"]
    carried = str(rng.choice(items, p=[0.5, 0.2, 0.16, 0.1, 0.04]))
    if child:
        carried = "backpack" if rng.random() < 0.4 else "none"
    return Look(
        build=build,
        top=top,
        bottom=bottom,
        hair_style=style,
        headwear=headwear,
        carried=carried,
        scarf=bool(rng.random() < {"cold": 0.35, "cool": 0.08, "warm": 0.0}[season]),
        beard=bool(not feminine and not child and rng.random() < 0.25),
        mask=bool(rng.random() < 0.06),
        glasses=bool(rng.random() < 0.12),
        colors=_sample_colors(rng, bottom, formal=top in ("coat", "suit"), child=child),
        seed=int(rng.integers(2**31)),
    )


def _sample_build(rng: np.random.Generator, child: bool, feminine: float) -> Build:
    """Draw height and girth."""
    if child:
        return Build(float(rng.uniform(1.10, 1.5)), float(rng.uniform(0.86, 1.05)), 0.4 * feminine)
    mean, spread = (1.65, 0.06) if feminine else (1.77, 0.07)
    height = float(np.clip(rng.normal(mean, spread), 1.5, 1.95))
    return Build(height, float(np.clip(rng.normal(1.0, 0.1), 0.84, 1.32)), feminine)


def _sample_clothes(
    rng: np.random.Generator, child: bool, feminine: float, season: str
) -> tuple[str, str]:
    """Draw what is worn above and below."""
    tops = {
        "cool": (["jacket", "hoodie", "coat", "suit", "shirt", "puffer"],
                 [0.36, 0.2, 0.14, 0.1, 0.14, 0.06]),
        "cold": (["jacket", "coat", "puffer", "hoodie"], [0.3, 0.34, 0.3, 0.06]),
        "warm": (["tshirt", "shirt", "hoodie"], [0.6, 0.3, 0.1]),
    }[season]  # fmt: skip
    top = str(rng.choice(tops[0], p=tops[1]))
    if child and top in ("suit", "coat"):
        top = "puffer"
    below = ["trousers", "jeans", "leggings", "shorts", "skirt", "dress"]
    weights = np.array(
        [0.24, 0.36, 0.2, 0.0, 0.14, 0.06] if feminine else [0.5, 0.46, 0, 0.04, 0, 0]
    )
    if season == "warm":
        weights[3] += 0.25
    elif season == "cold":
        weights[3] = 0.0
    bottom = str(rng.choice(below, p=weights / weights.sum()))
    if top == "suit" and bottom != "skirt":
        bottom = "trousers"
    return top, bottom


def _sample_headwear(rng: np.random.Generator, top: str, season: str) -> str:
    """Draw what is on the head."""
    if top in ("hoodie", "puffer", "jacket") and rng.random() < 0.12:
        return "hood"
    share = {"cold": 0.4, "cool": 0.16, "warm": 0.2}[season]
    if rng.random() > share:
        return "none"
    kinds = {"cold": ["beanie", "hat", "cap"], "cool": ["cap", "beanie", "hat"]}
    return str(rng.choice(kinds.get(season, ["cap", "hat", "cap"]), p=[0.6, 0.2, 0.2]))


def _pick(rng: np.random.Generator, groups: list[tuple[Color, ...]], weights: list[float]) -> Color:
    """Draw a color of one of the groups and vary it a little."""
    group = groups[int(rng.choice(len(groups), p=weights))]
    color = np.array(group[int(rng.integers(len(group)))])
    color = color * float(rng.uniform(0.8, 1.25)) * rng.uniform(0.94, 1.06, 3)
    red, green, blue = (float(c) for c in np.clip(color, 0.008, 0.8))
    return red, green, blue


def _sample_colors(
    rng: np.random.Generator, bottom: str, *, formal: bool, child: bool
) -> dict[str, Color]:
    """Draw the albedo of everything worn."""
    groups = [DARK, NEUTRAL, LIGHT, BRIGHT]
    skin = SKIN[int(rng.choice(len(SKIN), p=[0.3, 0.26, 0.18, 0.12, 0.08, 0.06]))]
    hair = HAIR[int(rng.choice(len(HAIR), p=[0.3, 0.24, 0.2, 0.1, 0.06, 0.1]))]
    if child and hair == HAIR[-1]:
        hair = HAIR[2]
    below = _pick(rng, [DARK, NEUTRAL], [0.7, 0.3])
    if bottom == "jeans":
        below = _pick(rng, [JEANS], [1.0])
    elif bottom == "dress":
        below = _pick(rng, groups, [0.4, 0.2, 0.15, 0.25])
    return {
        "skin": skin,
        "hair": hair,
        "top": _pick(rng, groups, [0.64, 0.29, 0.02, 0.05] if formal else [0.5, 0.22, 0.12, 0.16]),
        "inner": _pick(rng, groups, [0.25, 0.25, 0.4, 0.1]),
        "bottom": below,
        "shoe": _pick(rng, [DARK, NEUTRAL, LIGHT], [0.6, 0.2, 0.2]),
        "sole": _pick(rng, [DARK, LIGHT], [0.5, 0.5]),
        "headwear": _pick(rng, groups, [0.55, 0.25, 0.08, 0.12]),
        "scarf": _pick(rng, groups, [0.3, 0.3, 0.15, 0.25]),
        "carried": _pick(rng, groups, [0.6, 0.2, 0.05, 0.15]),
    }
