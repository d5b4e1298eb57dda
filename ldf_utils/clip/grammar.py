"""A grammar of targets: sentences for the fused picture, drawn at random, and those kept for tests.

A network that is to take any sentence has to be trained with many. Each says one to four things of
`TOPICS`, affirmed or denied, in the words of `ldf_utils.clip.attributes`: of the whole picture
(*sharp*, *noisy*, *dark*, *hazy*, contrast, quality), of its background, its objects, its people
and its vehicles. What a picture shows (trees, a street, night) is left out, since fusing cannot
change it, and so is every word for the two cameras.

Two kinds of sentences are kept out of the training, so that tests can use them:

- those with one of `HELD_OUT_WORDS`, which are the twelve words whose effects are declared in
  `ldf_utils.evaluation.declared`. Their paraphrases stay: *foggy* is drawn, *hazy* is not;
- those that say two things of `HELD_OUT_PAIRS` together, in whatever words.
"""

from __future__ import annotations

import re

import torch

from ldf_utils.clip.attributes import ATTRIBUTES, INDEX, Attribute, write_caption

TOPICS = (
    "clear",
    "sharp",
    "noisy",
    "dark",
    "hazy",
    "contrast",
    "detailed",
    "salient",
    "salient_people",
    "salient_vehicles",
)
"""Names of the attributes that fusing can change."""

HELD_OUT_WORDS = frozenset(
    "clear hazy sharp blurry bright dark noisy smooth detailed flat salient hidden".split()
)
"""Words that no sentence of the training has."""

HELD_OUT_PAIRS = (
    {"dark": 1, "sharp": -1},
    {"dark": -1, "noisy": 1},
    {"contrast": 1, "noisy": -1},
    {"hazy": 1, "salient": 1},
    {"detailed": 1, "salient": 1},
    {"salient_people": 1, "salient_vehicles": -1},
    {"salient_people": -1, "salient_vehicles": 1},
)
"""Pairs of assertions that no sentence of the training makes together."""

_LENGTHS = (0.4, 0.3, 0.2, 0.1)  # how often a sentence says one, two, three, four things


def draw_assertions(generator: torch.Generator) -> dict[str, int]:
    """Draw what a sentence says: one to four of `TOPICS`, each with +1 or -1.

    Args:
        generator: source of randomness.

    Returns:
        Topic to sign; never a combination that is held out.
    """
    while True:
        count = 1 + int(torch.multinomial(torch.tensor(_LENGTHS), 1, generator=generator))
        chosen = torch.randperm(len(TOPICS), generator=generator)[:count].tolist()
        signs = (2 * torch.randint(2, (count,), generator=generator) - 1).tolist()
        said = {TOPICS[place]: sign for place, sign in zip(chosen, signs, strict=True)}
        if not is_held_out_combination(said):
            return said


def draw_sentence(generator: torch.Generator) -> str:
    """Draw a sentence for the training.

    Args:
        generator: source of randomness.

    Returns:
        For example "a foggy image with obvious people"; never one that is held out.
    """
    said = draw_assertions(generator)
    while True:
        sentence = write_caption(said, generator)
        if not is_held_out(sentence):
            return sentence


def is_held_out_combination(said: dict[str, int]) -> bool:
    """Say whether a sentence with these assertions is kept for tests, whatever its words are."""
    return any(pair.items() <= said.items() for pair in HELD_OUT_PAIRS)


def assertions_of(sentence: str) -> dict[str, int]:
    """Find what a sentence says about `TOPICS`, by the phrases it holds.

    Longer phrases are read first, so "clear background" is about the background and not about the
    picture. "without" denies what follows it.

    Args:
        sentence: in the words of `ldf_utils.clip.attributes`; others are passed over.

    Returns:
        Topic to sign.
    """
    affirmed, without, denied = sentence.lower().partition("without ")
    denied = re.sub(r", | and ", " without ", denied)  # it denies all that are listed
    text = " " + " ".join(re.findall(r"[a-z0-9']+", affirmed + without + denied)) + " "
    said: dict[str, int] = {}
    for phrase, name, sign in _PHRASES:
        if f" {phrase} " in text:
            text = text.replace(f" {phrase} ", " | ")
            said[name] = sign
    return {name: sign for name, sign in said.items() if name in TOPICS}


def is_held_out(sentence: str) -> bool:
    """Say whether a sentence is kept for tests: by its words, or by what it says.

    Args:
        sentence: any.

    Example:
        >>> is_held_out("a dark image"), is_held_out("a dim image")
        (True, False)
    """
    words = set(re.findall(r"[a-z0-9']+", sentence.lower()))
    return bool(words & HELD_OUT_WORDS) or is_held_out_combination(assertions_of(sentence))


def _phrases() -> list[tuple[str, str, int]]:
    """Every phrase of every attribute with its sign, the longest first."""
    found = []
    for attribute in ATTRIBUTES:
        for phrase, sign in _of_one(attribute):
            found.append((phrase, attribute.name, sign))
    return sorted(found, key=lambda item: (-len(item[0].split()), -len(item[0]), item[1]))


def _of_one(attribute: Attribute) -> list[tuple[str, int]]:
    kinds = ("adjective", "clause", "place")
    found = [(p, +1) for kind in kinds for p in getattr(attribute, kind)]
    found += [(p, -1) for kind in kinds for p in getattr(attribute, f"no_{kind}")]
    return found + [(f"without {p}", -1) for p in attribute.lack]


_PHRASES = _phrases()
assert set(TOPICS) <= set(INDEX)
