"""The embedded CLIP: a small open_clip model, trained on generated scenes with attribute captions.

It exists so that every notebook runs without a network. It is an *attribute critic*: it knows
which of a few dozen things are true of a picture (infrared or visible, sharp or blurry, noisy,
dark, hazy, detailed, salient objects, artifacts, people, ...), and the words for them. It knows
nothing else.

How it learns: every training picture comes from `ldf_utils.scenes`, sometimes degraded on purpose,
so the truth of each attribute is known: from the renderer, from what was done to the picture, or
measured on its pixels. A caption asserts a few attributes. So for each picture and caption it is
known whether the caption is true, false or undecided, and the contrastive loss uses exactly that:
several positives, no false negatives. A second term teaches the geometry that language-driven
fusion needs: from the two sources, the oracle fusion lies farther along the direction of the target
sentence than averages, maxima and degraded pictures.

    python -m ldf_utils.mini_clip train      # renders, trains, writes the weights
    python -m ldf_utils.mini_clip evaluate   # accuracies on held-out scenes, and on real pairs
    python -m ldf_utils.mini_clip card       # the model card from the latest evaluation
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ldf_utils.clip_space import (
    MINI_FOLDER,
    PROMPTS,
    VOCABULARY,
    ClipSpace,
    CompactTokenizer,
    load_clip,
)
from ldf_utils.files import atomic_path, write_json, write_text
from ldf_utils.images import find_sets, luminance, read_image
from ldf_utils.scenes import SETTINGS, gaussian_blur, render

# --- words --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attribute:
    """Something that is true or false of a picture, and the ways to say it.

    ``adjective`` phrases stand before "image", ``clause`` phrases behind "with", ``place`` phrases
    at the end. ``no_`` marks the ways to deny it.
    """

    name: str
    adjective: tuple[str, ...] = ()
    no_adjective: tuple[str, ...] = ()
    clause: tuple[str, ...] = ()
    no_clause: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    no_place: tuple[str, ...] = ()
    noun: tuple[str, ...] = ()


ATTRIBUTES = (
    Attribute("infrared", noun=("infrared image", "infrared picture", "thermal image",
                                "thermal infrared image", "thermal picture", "heat image")),
    Attribute("visible", noun=("visible gray image", "visible image", "visible light image",
                               "visible picture", "visible gray picture", "gray visible photo")),
    Attribute("fused", noun=("fused image", "fused picture", "fusion image", "combined image")),
    Attribute("clear", ("clear", "clean", "vivid", "good"), ("unclear", "poor", "bad", "degraded")),
    Attribute("sharp", ("sharp", "crisp", "focused"),
              ("blurry", "blurred", "unfocused", "soft", "fuzzy"),
              ("sharp edges", "fine edges"), ("blur", "blurry edges", "soft edges")),
    Attribute("noisy", ("noisy", "grainy"), (), ("noise", "strong noise", "grain"),
              ("no noise", "little noise", "no grain")),
    Attribute("dark", ("dark", "dim", "underexposed", "black"), ("bright", "light", "well lit"),
              ("dark background", "little light"), ("bright background", "much light")),
    Attribute("hazy", ("hazy", "foggy", "smoky", "misty"), (), ("haze", "fog", "smoke", "mist"),
              ("no haze", "no fog", "no smoke")),
    Attribute("contrast", ("high contrast", "strong"), ("low contrast", "pale", "faded", "dull"),
              ("high contrast", "strong contrast", "good contrast"),
              ("low contrast", "weak contrast", "little contrast")),
    Attribute("overexposed", ("overexposed", "saturated", "too bright"), (),
              ("glare", "white areas", "lost highlights"), ("no glare",)),
    Attribute("artifacts", ("distorted", "artificial", "embossed", "unnatural", "corrupted"),
              ("natural", "realistic", "undistorted"),
              ("artifacts", "halos", "letters", "stripes", "false texture", "a false pattern",
               "a checkerboard pattern", "spots"),
              ("no artifacts", "no halos", "natural texture")),
    Attribute("detailed", ("detailed", "textured", "rich"), ("flat", "smooth", "plain", "simple"),
              ("detailed background", "clear background", "rich background", "fine texture",
               "many details", "a textured background", "fine details"),
              ("flat background", "plain background", "smooth background", "a simple background",
               "no details", "little texture", "an empty background")),
    Attribute("salient", (), (),
              ("salient objects", "obvious objects", "bright objects", "warm objects",
               "hot objects", "prominent objects", "salient targets", "clear objects"),
              ("hidden objects", "faint objects", "weak objects", "invisible objects",
               "dark objects", "hidden targets")),
    Attribute("people", (), (), ("people", "a person", "pedestrians", "persons"),
              ("no people", "nobody", "no person")),
    Attribute("vehicles", (), (), ("cars", "a car", "vehicles", "a vehicle"),
              ("no cars", "no vehicles")),
    Attribute("trees", (), (), ("trees", "a tree", "leaves"), ("no trees",)),
    Attribute("buildings", (), (), ("buildings", "houses", "walls"), ("no buildings",)),
    Attribute("night", ("night",), ("day",), place=("at night", "in darkness"),
              no_place=("by day", "in daylight")),
    Attribute("street", place=("of a street", "of a road")),
    Attribute("field", place=("of a field", "of a meadow")),
    Attribute("harbor", place=("of a harbor", "of a port")),
    Attribute("room", place=("of a room", "in a room", "indoors")),
)  # fmt: skip
INDEX = {attribute.name: place for place, attribute in enumerate(ATTRIBUTES)}
NOUNS = ("image", "picture", "photo", "view", "scene")

# The sentences of the paper (both versions) and what they assert.
PAPER_SENTENCES = {
    PROMPTS.visible: {"visible": 1},
    PROMPTS.infrared: {"infrared": 1},
    PROMPTS.fused: {"clear": 1, "detailed": 1, "salient": 1},
    "a vivid image with clear background and obvious objects": {
        "clear": 1, "detailed": 1, "salient": 1,
    },
}  # fmt: skip

_WEIGHT = {"infrared": 2.0, "visible": 2.0, "clear": 2.0, "detailed": 1.5, "salient": 1.5}


def _pick(choices: Sequence[str], generator: torch.Generator) -> str:
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]


def write_caption(assertions: dict[str, int], generator: torch.Generator) -> str:
    """One sentence for a few assertions, in words drawn at random.

    Args:
        assertions: attribute name to +1 (true) or -1 (false).
        generator: draws the words.

    Returns:
        For example "a dark thermal image with salient objects and no noise at night".
    """
    adjectives, clauses, places, noun = [], [], [], None
    for name, sign in assertions.items():
        attribute = ATTRIBUTES[INDEX[name]]
        if attribute.noun:
            noun = _pick(attribute.noun, generator)
            continue
        ways = [
            (kind, phrase)
            for kind in ("adjective", "clause", "place")
            for phrase in getattr(attribute, kind if sign > 0 else f"no_{kind}")
        ]
        kind, phrase = ways[int(torch.randint(len(ways), (1,), generator=generator))]
        {"adjective": adjectives, "clause": clauses, "place": places}[kind].append(phrase)
    if noun is None:
        noun = "image" if torch.rand((), generator=generator) < 0.6 else _pick(NOUNS, generator)
    words = " ".join([*adjectives, noun])
    sentence = ("an " if words[0] in "aeiou" else "a ") + words
    if clauses:
        listed = " and ".join([", ".join(clauses[:-1])] * (len(clauses) > 1) + clauses[-1:])
        sentence += f" with {listed}"
    return " ".join([sentence, *places[:1]])


def vocabulary() -> tuple[list[str], list[int]]:
    """The words of every caption that can be written, and the numbers of their tokens."""
    phrases = ["a an and with", *NOUNS, *PAPER_SENTENCES]
    for attribute in ATTRIBUTES:
        for value in asdict(attribute).values():
            phrases += value if isinstance(value, tuple | list) else []
    words = sorted({word for phrase in phrases for word in phrase.split()})
    tokenizer = open_clip.SimpleTokenizer()
    kept = {token for word in words for token in tokenizer.encode(word)}
    return words, [0, *sorted(kept), tokenizer.sot_token_id, tokenizer.eot_token_id]


# --- pictures and their truth -------------------------------------------------------------------

# Limits between true, undecided and false for what is measured on pixels.
DARK, BRIGHT = 0.20, 0.30  # mean luminance
PALE, STRONG = 0.09, 0.17  # standard deviation
PLAIN, DETAILED = 0.009, 0.019  # mean gradient of the background, slightly blurred
FAINT, SALIENT = 0.08, 0.20  # contrast of warm objects to their surroundings


def _letters(count: int = 48, side: int = 128) -> torch.Tensor:
    """Masks with letters strewn over them: what a network draws when it cheats a CLIP."""
    generator = torch.Generator().manual_seed(5)
    masks = []
    for _ in range(count):
        image = Image.new("L", (side, side))
        draw = ImageDraw.Draw(image)
        for _ in range(int(torch.randint(3, 12, (1,), generator=generator))):
            x, y, size, letter, bright = torch.rand(5, generator=generator).tolist()
            font = ImageFont.load_default(size=int(12 + 44 * size))
            draw.text((x * side - 10, y * side - 10), chr(65 + int(letter * 26)),
                      fill=int(120 + 135 * bright), font=font)  # fmt: skip
        masks.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8))
    return torch.stack(masks).view(count, 1, side, side).float() / 255


def degrade(images: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Spoil pictures in one way.

    Args:
        images: ``(B, 1, H, W)`` in [0, 1].
        kind: one of `DEGRADATIONS`.
        generator: draws the strengths.

    Returns:
        ``(B, 1, H, W)`` in [0, 1].

    Raises:
        ValueError: for an unknown kind.
    """
    count, _, height, width = images.shape

    def draw(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    def noise(*shape):
        return torch.randn(shape or images.shape, generator=generator)

    if kind == "blurry":
        result = gaussian_blur(images, float(draw(1.4, 3.5)[0]))
    elif kind == "noisy":
        result = images + draw(0.06, 0.18) * noise()
    elif kind == "dark":
        result = images * draw(0.12, 0.4)
    elif kind == "hazy":
        through = draw(0.15, 0.45)
        uneven = F.interpolate(noise(count, 1, 4, 4), (height, width), mode="bicubic")
        through = (through * (1 + 0.4 * uneven)).clamp(0.05, 0.8)
        result = gaussian_blur(images, 0.7) * through + draw(0.45, 0.8) * (1 - through)
    elif kind == "pale":
        mean = images.mean(dim=(-2, -1), keepdim=True)
        result = mean + draw(0.1, 0.35) * (images - mean)
    elif kind == "overexposed":
        result = images * draw(1.8, 3.5) + draw(0.1, 0.35)
    elif kind == "embossed":
        shift = images.roll((1, 1), dims=(-2, -1))
        result = draw(0.2, 1.0) * images + draw(0.2, 0.5) + draw(1.0, 3.0) * (images - shift)
    elif kind == "halos":
        wide = gaussian_blur(images, float(draw(2.0, 5.0)[0]))
        result = images + draw(2.2, 4.5) * (images - wide)
    elif kind == "ringing":
        result = images + draw(4.0, 8.0) * (images - gaussian_blur(images, 0.9))
    elif kind == "checkerboard":
        period = int(torch.randint(1, 5, (1,), generator=generator))
        rows, columns = torch.arange(height) // period, torch.arange(width) // period
        board = ((rows[:, None] + columns[None, :]) % 2 * 2 - 1).float()
        result = images + draw(0.03, 0.2) * board
    elif kind == "stripes":
        period, angle = float(draw(2.5, 9)[0]), float(draw(0, math.pi)[0])
        rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
        wave = torch.sin(
            2 * math.pi / period * (rows * math.cos(angle) + columns * math.sin(angle))
        )
        result = images + draw(0.03, 0.2) * wave
    elif kind == "letters":
        bank = _LETTERS.setdefault("bank", None)
        if bank is None:
            bank = _LETTERS["bank"] = _letters()
        masks = bank[torch.randint(len(bank), (count,), generator=generator)]
        masks = F.interpolate(masks, (height, width), mode="bilinear", antialias=True)
        sign = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
        result = images + draw(0.3, 0.8) * sign * masks
    elif kind == "spots":
        blobs = F.interpolate(noise(count, 1, height // 6, width // 6), (height, width),
                              mode="bicubic")  # fmt: skip
        result = images + draw(0.3, 0.8) * (blobs.abs() - 1.2).clamp_min(0) * blobs.sign()
    else:
        raise ValueError(f"unknown degradation {kind!r}; expected one of {', '.join(DEGRADATIONS)}")
    return result.clamp(0, 1)


_LETTERS: dict[str, torch.Tensor | None] = {}
ARTIFACTS = ("embossed", "halos", "ringing", "checkerboard", "stripes", "letters", "spots")
DEGRADATIONS = ("blurry", "noisy", "dark", "hazy", "pale", "overexposed", *ARTIFACTS)


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
    soft = gaussian_blur(images, 0.8)
    slope = soft.diff(dim=-1).abs()[..., :-1, :] + soft.diff(dim=-2).abs()[..., :, :-1]
    hot = (salient > 0.5).float()
    near = F.max_pool2d(F.max_pool2d(hot, (1, 13), 1, (0, 6)), (13, 1), 1, (6, 0))
    ring, away = near - hot, 1 - near[..., :-1, :-1]

    def average(value, mask):
        return (value * mask).sum((-2, -1)) / mask.sum((-2, -1)).clamp_min(1)

    return dict(
        mean=images.mean((-2, -1)),
        std=images.flatten(2).std(-1),
        white=(images > 0.97).float().mean((-2, -1)),
        detail=average(slope / 2, away),
        gap=average(images, hot) - average(images, ring),
        area=hot.mean((-2, -1)),
    )


def _between(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """+1 above ``high``, -1 below ``low``, 0 (undecided) between."""
    return (value > high).float() - (value < low).float()


def _affine(count: int, generator: torch.Generator, low=0.55, high=1.0) -> torch.Tensor:
    """Random crops as affine maps: side, place, mirror, a few degrees."""
    side = low + (high - low) * torch.rand(count, generator=generator)
    angle = math.radians(6) * (2 * torch.rand(count, generator=generator) - 1)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    place = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = side * flip * angle.cos(), -side * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = side * flip * angle.sin(), side * angle.cos()
    theta[:, :, 2] = place
    return theta


VIEWS = ("visible", "infrared", "oracle", "average", "maximum")


def make_batch(
    scenes: dict[str, torch.Tensor], index: torch.Tensor, generator: torch.Generator, side: int = 96
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of some scenes, clean and spoiled, and the truth about each.

    Args:
        scenes: what `load_scenes` gives.
        index: ``(G,)`` which scenes.
        generator: draws crops, tones and degradations.
        side: pixels of a picture.

    Returns:
        Images ``(G, V, 1, side, side)`` in [0, 1] with V views of each scene (`VIEWS`, then three
        spoiled ones), and truth ``(G, V, K)`` with +1, 0 (undecided) or -1 for each attribute.
    """
    stack = torch.stack([scenes[k][index] for k in ("visible", "infrared", "oracle", "salient")], 1)
    count = len(index)
    theta = _affine(count, generator)
    grid = F.affine_grid(theta, (count, 4, side, side), align_corners=False)
    stack = F.grid_sample(
        stack.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    visible, infrared, oracle, salient = stack.split(1, dim=1)

    def toned(image, spread):
        power = torch.exp(spread * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1))
        return image.clamp_min(1e-4) ** power

    visible, infrared, oracle = toned(visible, 0.3), toned(infrared, 0.35), toned(oracle, 0.2)

    def processed(image):
        """What cameras and good fusions do: sharpen, raise local contrast, a trace of noise."""
        strength = torch.rand(2, count, 1, 1, 1, generator=generator) ** 2
        wide = gaussian_blur(image, 3.0 + 3.0 * float(torch.rand((), generator=generator)))
        fine = gaussian_blur(image, 1.0)
        grain = 0.015 * float(torch.rand((), generator=generator))
        noise = grain * torch.randn(image.shape, generator=generator)
        image = image + 1.5 * strength[0] * (image - fine) + 0.9 * strength[1] * (image - wide)
        return (image + noise).clamp(0, 1)

    visible, infrared, oracle = processed(visible), processed(infrared), processed(oracle)
    views = [visible, infrared, oracle, (visible + infrared) / 2, torch.maximum(visible, infrared)]
    kinds = [["clean"] * count for _ in views]
    origin = [[v] * count for v in range(len(views))]
    for slot in range(3):  # of the oracle, of a source, of any
        order = torch.randperm(count, generator=generator)
        spoiled = torch.empty_like(visible)
        kind_of, origin_of = [""] * count, [0] * count
        for part in order.chunk(6):
            if slot == 2 or torch.rand((), generator=generator) < 0.35:
                kind = _pick(ARTIFACTS, generator)
            else:
                kind = _pick(DEGRADATIONS[:6], generator)
            base = 2 if slot == 0 else int(torch.randint(0, 3, (1,), generator=generator))
            spoiled[part] = degrade(views[base][part], kind, generator)
            for i in part.tolist():
                kind_of[i], origin_of[i] = kind, base
        views.append(spoiled)
        kinds.append(kind_of)
        origin.append(origin_of)
    images = torch.stack(views, 1)
    total = images.shape[1]
    seen = measure(images[:, :, 0], salient)
    truth = torch.zeros(count, total, len(ATTRIBUTES))

    def put(name, value):
        truth[..., INDEX[name]] = value

    kind = [[kinds[v][g] for v in range(total)] for g in range(count)]
    source = torch.tensor([[origin[v][g] for v in range(total)] for g in range(count)])

    def is_kind(*names):
        return torch.tensor([[k in names for k in row] for row in kind])

    def where(true, false):
        """+1 and -1 by two masks, 0 elsewhere."""
        return true.float() - false.float()

    clean, made = is_kind("clean"), source >= 2
    facts = {k: scenes[k][index][:, None].expand(-1, total) for k in scenes if scenes[k].ndim == 1}
    murky = scenes["murky"][index][:, None].expand(-1, total)
    plain = is_kind("clean", "blurry", "noisy", "pale")  # the others hide which camera it was
    put("infrared", where((source == 1) & plain, (source == 0) & plain))
    put("visible", where((source == 0) & plain, (source == 1) & plain))
    put("fused", where(made & ~is_kind("dark", "pale"), ~made))
    soft_source = (source == 1) & clean
    put("sharp", where((clean & ~soft_source & ~(murky & (source == 0))) | is_kind("noisy"),
                       is_kind("blurry")))  # fmt: skip
    night = facts["night"] > 0
    put("noisy", where(is_kind("noisy"), ~is_kind("noisy") & ~((source == 0) & night)))
    put("dark", -_between(seen["mean"], DARK, BRIGHT))
    hazy = is_kind("hazy") | ((source == 0) & murky)
    faint_haze = (source >= 3) & murky  # averages and maxima carry half of it
    put("hazy", where(hazy, ~hazy & ~faint_haze & ~is_kind("pale")))
    put("contrast", _between(seen["std"], PALE, STRONG))
    put("overexposed", _between(seen["white"], 0.03, 0.2))
    put("artifacts", where(is_kind(*ARTIFACTS), ~is_kind(*ARTIFACTS)))
    detail = _between(seen["detail"], PLAIN, DETAILED)
    put("detailed", torch.where(is_kind("noisy", *ARTIFACTS), 0.0, detail))
    stands_out = _between(seen["gap"], FAINT, SALIENT)
    # Whether nothing warm stands out, or nothing warm is there, can't be told apart.
    put("salient", torch.where(seen["area"] > 0.004, stands_out, 0.0))
    good = clean & ((source == 2) | ((source == 0) & ~night & ~murky))
    spoiled = ~clean | ((source == 0) & (murky | (night & (seen["mean"] < DARK))))
    put("clear", where(good & (seen["std"] > PALE) & (seen["mean"] > DARK), spoiled))
    dropped = (seen["area"] == 0).expand(-1, total)
    for name in ("people", "vehicles", "trees", "buildings"):
        # A crop may have lost what the scene holds: only its absence is sure. Warm things are
        # checked by the mask, and only where the picture can show them.
        value = facts[name].clone()
        if name in ("people", "vehicles"):
            value = torch.where((value > 0) & dropped, 0.0, value)
        hidden = is_kind("hazy", "dark", "pale", "blurry") | ((source == 0) & (murky | night))
        put(name, torch.where(hidden & (value > 0), 0.0, value))
    put("night", torch.where((source == 0) & ~is_kind("dark", "overexposed"), facts["night"], 0.0))
    for name in SETTINGS:
        put(name, facts[name])
    return images, truth


def _render_chunk(job: tuple[int, int, int, int]) -> dict[str, torch.Tensor]:
    seed, start, count, size = job
    torch.set_num_threads(1)
    batch = render(count, (size, size), seed, start=start)
    pictures = dict(
        visible=luminance(batch.visible), infrared=batch.infrared, oracle=batch.oracle,
        salient=batch.salient,
    )  # fmt: skip
    facts = batch.attributes

    def flag(values):
        return torch.tensor([1.0 if v else -1.0 for v in values])

    labels = dict(
        people=flag(f["people"] for f in facts),
        vehicles=flag(f["vehicles"] for f in facts),
        trees=flag(f["trees"] or f["setting"] == "field" for f in facts),
        buildings=flag(f["buildings"] or f["setting"] == "room" for f in facts),
        night=flag(f["time"] == "night" for f in facts),
        murky=torch.tensor([f["weather"] in ("haze", "smoke") for f in facts]),
        **{place: flag(f["setting"] == place for f in facts) for place in SETTINGS},
    )  # fmt: skip
    if size > 128:  # a large picture twice close up, at its own pixels, and once as a whole
        generator = torch.Generator().manual_seed(start)
        corners = torch.randint(0, size - 127, (2, 2), generator=generator).tolist()
        pictures = {
            k: torch.cat(
                [v[..., y : y + 128, x : x + 128] for y, x in corners]
                + [F.interpolate(v, (128, 128), mode="bilinear", antialias=True)]
            )
            for k, v in pictures.items()
        }
        labels = {k: v.repeat(3) for k, v in labels.items()}
    return {**{k: (v * 255).round().to(torch.uint8)[:, 0] for k, v in pictures.items()}, **labels}


def load_scenes(count: int, seed: int, processes: int = 2) -> dict[str, torch.Tensor]:
    """Render the training world: scenes at 128 pixels, and larger ones as crops and reduced.

    Args:
        count: pictures of each view; a third stems from scenes of 256 pixels.
        seed: of the worlds.
        processes: how many render at once.

    Returns:
        ``visible`` (luminance), ``infrared``, ``oracle``, ``salient``: ``(count, 128, 128)`` uint8;
        and the facts: ``(count,)`` with +1 or -1, ``murky`` as bool.
    """
    chunk = 50
    whole = math.ceil(count * 0.65 / chunk)
    close = math.ceil(count * 0.35 / (3 * chunk // 2))
    jobs = [(seed, i * chunk, chunk, 128) for i in range(whole)]
    jobs += [(seed + 1, i * chunk // 2, chunk // 2, 256) for i in range(close)]
    parts = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        for part in tqdm(pool.imap(_render_chunk, jobs), total=len(jobs), desc="rendering scenes"):
            parts.append(part)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


# --- training -----------------------------------------------------------------------------------

MODEL_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 0, "width": 96, "heads": 4, "layers": 2},
}


@dataclass
class MiniClipConfig:
    """Settings of the training; the defaults made the shipped weights."""

    scenes: int = 9000
    steps: int = 1200
    groups: int = 20  # scenes a step; each gives eight pictures
    captions: int = 192
    learning_rate: float = 1.2e-3
    warm_up: int = 60
    weight_decay: float = 0.05
    direction_weight: float = 0.5
    margin: float = 0.4
    average_decay: float = 0.99
    seed: int = 0
    threads: int = 2
    save_every: int = 100


def draw_captions(
    truth: torch.Tensor, count: int, generator: torch.Generator
) -> tuple[list[str], torch.Tensor]:
    """Captions that are true of at least one picture each, and what they assert.

    Args:
        truth: ``(N, K)`` with +1, 0, -1.
        count: how many; the paper's sentences come on top.
        generator: draws pictures, attributes and words.

    Returns:
        The sentences, and ``(M, K)`` with +1 and -1 for what each asserts, 0 elsewhere.
    """
    sentences, rows = [], []
    weights = torch.tensor([_WEIGHT.get(a.name, 1.0) for a in ATTRIBUTES])
    deniable = torch.tensor([bool(a.no_adjective or a.no_clause or a.no_place) for a in ATTRIBUTES])
    for sentence, assertion in PAPER_SENTENCES.items():
        sentences.append(sentence)
        row = torch.zeros(len(ATTRIBUTES))
        for name, sign in assertion.items():
            row[INDEX[name]] = sign
        rows.append(row)
    lengths = torch.tensor([0.3, 0.3, 0.2, 0.12, 0.08])
    while len(sentences) < count + len(PAPER_SENTENCES):
        facts = truth[int(torch.randint(len(truth), (1,), generator=generator))]
        open_to = (facts != 0) & (deniable | (facts > 0))
        number = 1 + int(torch.multinomial(lengths, 1, generator=generator))
        odds = weights * open_to * torch.where(facts > 0, 1.0, 0.6)
        chosen = torch.multinomial(odds, min(number, int(open_to.sum())), generator=generator)
        row = torch.zeros(len(ATTRIBUTES))
        row[chosen] = facts[chosen]
        if row[: INDEX["fused"] + 1].abs().sum() > 1:  # one noun a sentence
            continue
        names = {ATTRIBUTES[i].name: int(facts[i]) for i in chosen.tolist()}
        sentences.append(write_caption(names, generator))
        rows.append(row)
    return sentences, torch.stack(rows)


def match(truth: torch.Tensor, assertions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which captions are true of which pictures, and which are false.

    Args:
        truth: ``(N, K)`` with +1, 0, -1.
        assertions: ``(M, K)`` with +1, 0, -1.

    Returns:
        Two bool tensors ``(N, M)``: true (all assertions hold) and false (one is contradicted);
        pairs that are neither are undecided.
    """
    agreement = truth @ assertions.T
    strength = truth.abs() @ assertions.abs().T
    said = assertions.abs().sum(1)
    contradictions = (strength - agreement) / 2
    return (strength == said) & (contradictions == 0), contradictions > 0


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """InfoNCE with several positives: each competes with all that is false, not with its peers.

    Args:
        logits: ``(N, M)`` scaled cosines.
        true, false: ``(N, M)`` from `match`.

    Returns:
        A scalar: the mean over both directions.
    """
    total = logits.new_zeros(())
    for scores, yes, no in ((logits, true, false), (logits.T, true.T, false.T)):
        rest = scores.masked_fill(~no, -1e4).logsumexp(dim=1, keepdim=True)
        each = F.softplus(rest - scores) * yes
        rows = yes.sum(1)
        total = total + (each.sum(1) / rows.clamp_min(1)).sum() / (rows > 0).sum().clamp_min(1)
    return total / 2


def direction_score(images: torch.Tensor, sources, texts: torch.Tensor) -> torch.Tensor:
    """Mean cosine of the two image directions with the two text directions, ``(G, V)``."""
    score = 0.0
    for source, place in zip(sources, (0, 1), strict=True):
        moved = images - source[:, None]
        score = score + F.cosine_similarity(moved, texts[2] - texts[place], dim=-1) / 2
    return score


def train(
    config: MiniClipConfig, folder: Path = MINI_FOLDER, work: Path = Path("runs/mini_clip")
) -> Path:
    """Train the embedded CLIP and write it, atomically, as an open_clip model folder.

    A run that was stopped goes on from its latest checkpoint in ``work``.

    Args:
        config: the settings.
        folder: where the weights, the configuration and the vocabulary go.
        work: where checkpoints and the log go.

    Returns:
        ``folder``.
    """
    started = time.time()
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    words, token_ids = vocabulary()
    model_config = deepcopy(MODEL_CONFIG)
    model_config["text_cfg"]["vocab_size"] = len(token_ids)
    settings = {
        "model_cfg": model_config,
        "preprocess_cfg": {
            "mean": [0.4, 0.4, 0.4], "std": [0.25, 0.25, 0.25],
            "interpolation": "bilinear", "resize_mode": "squash",
        },
    }  # fmt: skip
    write_json(work / "open_clip_config.json", settings)
    write_json(work / VOCABULARY, {"words": words, "token_ids": token_ids})
    tokenize = CompactTokenizer.from_folder(work)
    model = open_clip.model.CLIP(
        model_config["embed_dim"], model_config["vision_cfg"], model_config["text_cfg"]
    ).to(memory_format=torch.channels_last)
    average = deepcopy(model).requires_grad_(False)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay},
         {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate, betas=(0.9, 0.98),
    )  # fmt: skip

    def pace(step):
        if step < config.warm_up:
            return (step + 1) / config.warm_up
        share = (step - config.warm_up) / max(config.steps - config.warm_up, 1)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, pace)
    first, spent, log = 0, 0.0, []
    checkpoint = work / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if state["config"] != asdict(config):
            raise ValueError(
                f"{checkpoint}: was made with other settings; remove it to start anew, or use the "
                f"same settings to go on. Found {state['config']}, expected {asdict(config)}"
            )
        for part, name in ((model, "model"), (average, "average"), (optimizer, "optimizer"),
                           (schedule, "schedule")):  # fmt: skip
            part.load_state_dict(state[name])
        first, spent, log = state["step"], state["seconds"], state["log"]
        print(f"going on at step {first}")
    scenes = load_scenes(config.scenes, seed=1000 + config.seed, processes=config.threads)
    bar = tqdm(range(first, config.steps), initial=first, total=config.steps, desc="training")
    for step in bar:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        index = torch.randint(len(scenes["murky"]), (config.groups,), generator=generator)
        images, truth = make_batch(scenes, index, generator)
        groups, views = images.shape[:2]
        flat = truth.flatten(0, 1)
        sentences, assertions = draw_captions(flat, config.captions, generator)
        tokens = tokenize(sentences)
        pixels = (images.flatten(0, 1).expand(-1, 3, -1, -1) - 0.4) / 0.25
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pictures = model.encode_image(pixels.contiguous(memory_format=torch.channels_last))
            texts = model.encode_text(tokens)
        pictures = F.normalize(pictures.float(), dim=-1)
        texts = F.normalize(texts.float(), dim=-1)
        true, false = match(flat, assertions)
        scale = model.logit_scale.exp()
        contrast = contrastive_loss(scale * pictures @ texts.T, true, false)
        grouped = pictures.view(groups, views, -1)
        prompts = texts[[1, 0, 2]]  # infrared, visible, fused
        sources = (grouped[:, 1], grouped[:, 0])
        scores = direction_score(grouped[:, 2:], sources, prompts)
        shows = (flat.view(groups, views, -1)[:, 2, INDEX["clear"]] > 0).float()
        margin = torch.full((views - 3,), config.margin)
        margin[:2] *= 0.5  # averages and maxima are nearer to the answer than what was spoiled
        lag = F.relu(margin - scores[:, :1] + scores[:, 1:]).mean(1)
        direction = (shows * (lag + 0.3 * (1 - scores[:, 0]))).sum() / shows.sum().clamp_min(1)
        loss = contrast + config.direction_weight * direction
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        contrast, direction, scale = contrast.detach(), direction.detach(), scale.detach()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(50))
            decay = min(config.average_decay, (step + 1) / (step + 10))
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
            for slow, fast in zip(average.buffers(), model.buffers(), strict=True):
                slow.copy_(fast)
        if step % 20 == 0 or step == config.steps - 1:
            log.append({"step": step, "contrast": float(contrast), "direction": float(direction),
                        "scale": float(scale)})  # fmt: skip
            bar.set_postfix(contrast=f"{contrast:.3f}", direction=f"{direction:.3f}")
        if (step + 1) % config.save_every == 0 or step == config.steps - 1:
            spent += time.time() - started
            started = time.time()
            with atomic_path(checkpoint) as temporary:
                torch.save(
                    dict(config=asdict(config), step=step + 1, seconds=spent, log=log,
                         model=model.state_dict(), average=average.state_dict(),
                         optimizer=optimizer.state_dict(), schedule=schedule.state_dict()),
                    temporary,
                )  # fmt: skip
    weights = {k: v.half().contiguous() for k, v in average.state_dict().items()
               if not k.endswith(("attn_mask", "num_batches_tracked"))}  # fmt: skip
    for key, value in average.state_dict().items():
        if key.endswith("num_batches_tracked"):
            weights[key] = value.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "open_clip_model.safetensors") as temporary:
        save_file(weights, temporary)
    write_json(folder / "open_clip_config.json", settings)
    write_json(folder / VOCABULARY, {"words": words, "token_ids": token_ids})
    write_json(folder / "training.json", dict(
        command="python -m ldf_utils.mini_clip train", config=asdict(config),
        minutes=round(spent / 60, 1), threads=config.threads,
        parameters=sum(p.numel() for p in average.parameters()), log=log[-1:],
        torch=torch.__version__, open_clip=open_clip.__version__))  # fmt: skip
    return folder


# --- evaluation -----------------------------------------------------------------------------------


def prompts_for(name: str) -> tuple[list[str], list[str]]:
    """The sentences that assert an attribute, and those that deny it.

    Infrared and visible deny each other; an attribute without words of denial gets an empty list.
    """
    attribute = ATTRIBUTES[INDEX[name]]

    def sentences(adjectives, clauses, places, nouns):
        made = [f"{word} image" for word in adjectives] + list(nouns)
        made = [("an " if s[0] in "aeiou" else "a ") + s for s in made]
        return made + [f"an image with {c}" for c in clauses] + [f"an image {p}" for p in places]

    yes = sentences(attribute.adjective, attribute.clause, attribute.place, attribute.noun)
    other = {"infrared": "visible", "visible": "infrared"}.get(name)
    no_noun = ATTRIBUTES[INDEX[other]].noun if other else ()
    no = sentences(attribute.no_adjective, attribute.no_clause, attribute.no_place, no_noun)
    return yes, no


def attribute_scores(clip: ClipSpace, images: torch.Tensor, name: str) -> torch.Tensor:
    """How much an attribute holds: mean cosine to its sentences minus that to their denials.

    Args:
        clip: the model.
        images: embeddings, ``(N, D)``.
        name: of the attribute.

    Returns:
        ``(N,)``; above 0 means "true" where the attribute can be denied.
    """
    yes, no = prompts_for(name)
    score = (images @ clip.encode_text(yes).T).mean(1)
    return score - (images @ clip.encode_text(no).T).mean(1) if no else score


def area_under_curve(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Probability that a positive scores above a negative; a tie counts half."""
    higher = (positive[:, None] > negative[None]).float()
    return float((higher + 0.5 * (positive[:, None] == negative[None])).mean())


@torch.no_grad()
def evaluate_scenes(clip: ClipSpace, count: int = 400, seed: int = 90_000) -> dict:
    """Accuracies on scenes that the training never saw.

    Args:
        clip: the model.
        count: scenes; each gives eight pictures.
        seed: of the worlds; training uses other seeds.

    Returns:
        For each attribute the numbers of true and false pictures, the area under the curve, and
        where it can be denied the balanced accuracy at threshold 0; and the area under the curve
        of the target sentence.
    """
    scenes = load_scenes(count, seed)
    generator = torch.Generator().manual_seed(seed)
    images, truths = [], []
    for index in torch.arange(len(scenes["murky"])).split(25):
        made, truth = make_batch(scenes, index, generator)
        images.append(clip.encode_image(made.flatten(0, 1)))
        truths.append(truth.flatten(0, 1))
    images, truth = torch.cat(images), torch.cat(truths)
    table = {}
    for attribute in ATTRIBUTES:
        score = attribute_scores(clip, images, attribute.name)
        fact = truth[:, INDEX[attribute.name]]
        positive, negative = score[fact > 0], score[fact < 0]
        row = {"true": len(positive), "false": len(negative)}
        row["auc"] = round(area_under_curve(positive, negative), 4)
        if prompts_for(attribute.name)[1]:
            hits = (positive > 0).float().mean() + (negative < 0).float().mean()
            row["balanced_accuracy"] = round(float(hits / 2), 4)
        table[attribute.name] = row
    wanted = truth[:, [INDEX["clear"], INDEX["detailed"], INDEX["salient"]]]
    cosine = images @ clip.encode_text(PROMPTS.fused)[0]
    good, bad = cosine[(wanted > 0).all(1)], cosine[(wanted < 0).any(1)]
    return {
        "pictures": len(images),
        "attributes": table,
        "target_sentence": {
            "sentence": PROMPTS.fused, "true": len(good), "false": len(bad),
            "auc": round(area_under_curve(good, bad), 4),
        },
    }  # fmt: skip


@torch.no_grad()
def evaluate_real(clip: ClipSpace, data_dir: str | os.PathLike) -> dict:
    """Accuracies on real pairs: infrared or visible, and published results against averages.

    Args:
        clip: the model.
        data_dir: a folder of sets as in `ldf_utils.images.find_sets`.

    Returns:
        Per set the balanced accuracy of infrared against visible at threshold 0, the share of
        pairs where the infrared picture scores higher, and per published method the cosines to the
        target sentence of its results and of the averages of the same sources.
    """
    target = clip.encode_text(PROMPTS.fused)[0]
    report = {}
    for name, pairs in find_sets(data_dir).items():
        scores, methods = [], {}
        for pair in tqdm(pairs, desc=f"evaluating {name}", leave=False):
            both = clip.encode_image(torch.stack([pair.infrared, pair.luminance]))
            scores.append(attribute_scores(clip, both, "infrared"))
            average = ((pair.infrared + pair.luminance) / 2)[None]
            for method in pairs.fused_methods():
                path = pairs.fused_path(method, pair.name)
                if path is None:
                    continue
                fused = luminance(read_image(path))[None]
                row = {
                    "image": pair.name,
                    "result": round(float(clip.encode_image(fused)[0] @ target), 4),
                    "average": round(float(clip.encode_image(average)[0] @ target), 4),
                }
                methods.setdefault(method, []).append(row)
        scores = torch.stack(scores)
        hits = (scores[:, 0] > 0).float().mean() + (scores[:, 1] < 0).float().mean()
        report[name] = {
            "pairs": len(pairs),
            "infrared_or_visible": round(float(hits / 2), 4),
            "infrared_scores_higher": round(float((scores[:, 0] > scores[:, 1]).float().mean()), 4),
        }
        if methods:
            report[name]["nearer_to_target_than_average"] = {
                method: {
                    "share": round(sum(r["result"] > r["average"] for r in rows) / len(rows), 4),
                    "images": rows if len(rows) <= 4 else len(rows),
                }
                for method, rows in methods.items()
            }
    return report


def write_card(folder: Path = MINI_FOLDER) -> Path:
    """Write the model card, ``README.md`` beside the weights, from what was recorded.

    Args:
        folder: holds ``training.json`` and ``evaluation.json``.

    Returns:
        The path of the card.

    Raises:
        FileNotFoundError: if one of the two records is missing.
    """
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    words = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))["words"]
    size = (folder / "open_clip_model.safetensors").stat().st_size / 1e6
    config = training["config"]
    lines = [
        "# The embedded mini CLIP",
        "",
        "A small open_clip model that stands in for OpenAI's ViT-B/32 where there is no network.",
        "It is an attribute critic for infrared, visible and fused pictures, not a general model.",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {training['parameters']:,} ({size:.1f} MB in float16) |",
        "| image tower | ModifiedResNet, 96 x 96 pixels |",
        f"| text tower | 2 layers, {len(words)} words |",
        f"| data | {config['scenes']} scenes of `ldf_utils.scenes`, no real picture |",
        f"| training | {config['steps']} steps of {8 * config['groups']} pictures, "
        f"{training['minutes']} minutes on {training['threads']} CPU cores |",
        f"| seed | {config['seed']} |",
        f"| made by | `{training['command']}` (torch {training['torch']}, "
        f"open_clip {training['open_clip']}) |",
        "",
        "## Held-out scenes",
        "",
        f"{evaluation['scenes']['pictures']} pictures of scenes that the training never saw, half "
        "of them spoiled on purpose. Zero-shot: mean cosine to the sentences that assert an "
        "attribute, minus mean cosine to those that deny it; threshold 0.",
        "",
        "| attribute | true / false | balanced accuracy | area under curve |",
        "|---|---|---|---|",
    ]
    for name, row in evaluation["scenes"]["attributes"].items():
        accuracy = row.get("balanced_accuracy")
        shown = f"{accuracy:.3f}" if accuracy is not None else "no words of denial"
        lines.append(f"| {name} | {row['true']} / {row['false']} | {shown} | {row['auc']:.3f} |")
    target = evaluation["scenes"]["target_sentence"]
    lines += [
        "",
        f'Target sentence, "{target["sentence"]}": area under curve {target["auc"]:.3f} '
        f"({target['true']} pictures of which all of it is true, {target['false']} of which some "
        "of it is false).",
        "",
    ]
    if "real" in evaluation:
        lines += [
            "## Real pairs, never trained on",
            "",
            "| set | pairs | infrared or visible (balanced accuracy) | infrared scores higher |",
            "|---|---|---|---|",
        ]
        for name, row in evaluation["real"].items():
            lines.append(
                f"| {name} | {row['pairs']} | {row['infrared_or_visible']:.3f} | "
                f"{row['infrared_scores_higher']:.3f} |"
            )
        lines += ["", "Cosine to the target sentence, published results against averages:", ""]
        lines += ["| set | method | result nearer than average |", "|---|---|---|"]
        for name, row in evaluation["real"].items():
            for method, found in row.get("nearer_to_target_than_average", {}).items():
                lines.append(f"| {name} | {method} | {found['share']:.0%} |")
        lines.append("")
    lines += [
        "## Limits",
        "",
        "It has seen rendered scenes only, and knows the words listed in `vocabulary.json` and no "
        "others: any other word is refused. It judges pictures at 96 pixels, so it must be shown "
        "native crops where sharpness matters. It is small enough to be fooled: a free network "
        "optimized against it finds patterns that it likes and people don't. Use it to learn the "
        "mechanism of language-driven fusion; use OpenAI's weights to reproduce the paper.",
        "",
        "Figures: `python -m ldf_utils.mini_clip evaluate [--data DIR]`, then `... card`.",
        "",
    ]
    return write_text(folder / "README.md", "\n".join(lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: train, evaluate, card."""
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.mini_clip",
        description="Train and judge the embedded CLIP.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="render scenes, train, write the weights")
    training.add_argument("--steps", type=int, default=MiniClipConfig.steps)
    training.add_argument("--scenes", type=int, default=MiniClipConfig.scenes)
    training.add_argument("--seed", type=int, default=MiniClipConfig.seed)
    training.add_argument("--threads", type=int, default=MiniClipConfig.threads)
    training.add_argument("--work", default="runs/mini_clip", help="checkpoints (resumes there)")
    judging = commands.add_parser("evaluate", help="print and write the accuracies")
    judging.add_argument("--data", help="folder of real sets, each with ir/ and vi/")
    judging.add_argument("--scenes", type=int, default=400)
    card = commands.add_parser("card", help="write the model card")
    for command in (training, judging, card):
        command.add_argument("--folder", default=str(MINI_FOLDER), help="the model's folder")
    args = parser.parse_args(argv)
    folder = Path(args.folder)
    try:
        if args.command == "train":
            config = MiniClipConfig(
                steps=args.steps, scenes=args.scenes, seed=args.seed, threads=args.threads
            )
            print(f"weights in {train(config, folder, Path(args.work))}")
        elif args.command == "evaluate":
            clip = load_clip(folder)
            report = {"scenes": evaluate_scenes(clip, args.scenes)}
            if args.data:
                report["real"] = evaluate_real(clip, args.data)
            write_json(folder / "evaluation.json", report)
            print(json.dumps(report, indent=2))
        else:
            print(f"card in {write_card(folder)}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
