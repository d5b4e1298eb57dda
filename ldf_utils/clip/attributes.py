"""Attributes: what can be true of a picture, and the many ways to say so or deny it.

The embedded CLIP learns from sentences that this module writes, so these are also all the words it
knows. A sentence asserts a few attributes; everything else in it (*a photo of*, *very*) says
nothing. Which sentence is true of which picture is then a matter of comparing two rows of signs,
see `match`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import open_clip
import torch

from ldf_utils.clip.model import PROMPTS, ClipSpace


@dataclass(frozen=True)
class Attribute:
    """Something that is true or false of a picture, and the ways to say it.

    ``adjective`` phrases stand before "image", ``clause`` phrases behind "with" (or "without", for
    the opposite), ``place`` phrases at the end, ``noun`` phrases instead of "image". ``no_`` marks
    the ways to deny it.
    """

    name: str
    adjective: tuple[str, ...] = ()
    no_adjective: tuple[str, ...] = ()
    clause: tuple[str, ...] = ()
    no_clause: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    no_place: tuple[str, ...] = ()
    noun: tuple[str, ...] = ()
    lack: tuple[str, ...] = ()  # "without ..." denies

    @property
    def deniable(self) -> bool:
        return bool(self.no_adjective or self.no_clause or self.no_place or self.lack)


ATTRIBUTES = (
    Attribute("infrared", noun=(
        "infrared image", "infrared picture", "infrared photo", "infrared photograph",
        "thermal image", "thermal infrared image", "thermal picture", "heat image",
        "temperature image", "thermography image", "infrared camera image", "thermal camera view",
        "infrared frame", "infrared scene", "thermal photo", "ir image")),
    Attribute("visible", noun=(
        "visible gray image", "visible image", "visible light image", "visible picture",
        "visible gray picture", "gray visible photo", "visible grey image", "visible photograph",
        "visible photo", "ordinary photo", "optical image", "visible camera image", "visible frame",
        "normal camera picture", "visible scene", "rgb image", "color image")),
    Attribute("fused", noun=(
        "fused image", "fused picture", "fusion image", "combined image", "merged image",
        "fusion result", "blended picture", "fused photo")),
    Attribute("clear",
              ("clear", "clean", "vivid", "good", "nice", "fine", "excellent", "high quality",
               "perfect", "great", "beautiful"),
              ("unclear", "poor", "bad", "degraded", "ugly", "low quality", "damaged", "spoiled",
               "terrible", "awful"),
              ("good quality", "high quality"), ("bad quality", "low quality", "poor quality")),
    Attribute("sharp",
              ("sharp", "crisp", "focused", "well focused", "in focus"),
              ("blurry", "blurred", "unfocused", "soft", "fuzzy", "defocused", "smeared",
               "out of focus", "unsharp"),
              ("sharp edges", "crisp edges", "sharp contours", "sharp lines", "clear edges"),
              ("blur", "blurry edges", "soft edges", "blurred contours", "fuzzy lines"),
              lack=("blur",)),
    Attribute("noisy",
              ("noisy", "grainy", "speckled"), ("noiseless", "noise free"),
              ("noise", "strong noise", "grain", "heavy noise", "random noise", "sensor noise",
               "much noise", "static", "speckles"),
              ("no noise", "little noise", "no grain"), lack=("noise", "grain", "speckles")),
    Attribute("dark",
              ("dark", "dim", "underexposed", "black", "gloomy", "shadowy", "unlit", "darkened"),
              ("bright", "light", "well lit", "illuminated", "luminous", "brightened"),
              ("dark background", "little light", "low brightness", "dark shadows", "low light"),
              ("bright background", "much light", "high brightness", "strong light"),
              lack=()),
    Attribute("hazy",
              ("hazy", "foggy", "smoky", "misty"), (),
              ("haze", "fog", "smoke", "mist", "thick fog", "dense smoke", "a veil of haze"),
              ("no haze", "no fog", "no smoke", "clear air"),
              ("in fog", "in haze", "behind smoke"), ("in clear air",),
              lack=("haze", "fog", "smoke", "mist")),
    Attribute("contrast",
              ("high contrast", "strong", "contrasty", "punchy"),
              ("low contrast", "pale", "faded", "dull", "weak", "washed out"),
              ("high contrast", "strong contrast", "good contrast", "rich contrast"),
              ("low contrast", "weak contrast", "little contrast", "poor contrast", "no contrast"),
              lack=("contrast",)),
    Attribute("overexposed",
              ("overexposed", "saturated", "too bright", "burnt", "blown out"),
              ("well exposed",),
              ("glare", "white areas", "lost highlights", "burnt highlights", "saturated areas",
               "blown highlights"),
              ("no glare", "good exposure"), lack=("glare", "saturated areas")),
    Attribute("artifacts",
              ("distorted", "artificial", "embossed", "unnatural", "corrupted", "fake"),
              ("natural", "realistic", "undistorted", "authentic", "real"),
              ("artifacts", "halos", "letters", "stripes", "false texture", "a false pattern",
               "a checkerboard pattern", "spots", "strange patterns", "distortions", "blotches",
               "ringing", "false edges", "artefacts", "a relief", "text"),
              ("no artifacts", "no halos", "natural texture", "no distortions", "no artefacts"),
              lack=("artifacts", "halos", "distortions", "letters", "false texture")),
    Attribute("detailed",
              ("detailed", "textured", "rich"),
              ("flat", "smooth", "plain", "simple", "textureless", "featureless", "uniform"),
              ("detailed background", "clear background", "rich background", "fine texture",
               "many details", "a textured background", "fine details", "rich detail",
               "much detail", "detailed texture", "a rich scene", "fine structures"),
              ("flat background", "plain background", "smooth background", "a simple background",
               "no details", "little texture", "an empty background", "uniform background",
               "no texture", "little detail"),
              lack=("details", "texture", "detail")),
    Attribute("salient", (), (),
              ("salient objects", "obvious objects", "prominent objects", "salient targets",
               "clear objects", "visible targets", "distinct objects", "highlighted targets",
               "conspicuous objects", "obvious targets", "striking objects", "salient foreground"),
              ("hidden objects", "faint objects", "weak objects", "invisible objects",
               "hidden targets", "inconspicuous objects", "obscured targets", "concealed objects",
               "camouflaged objects")),
    Attribute("warm_objects", (), (),
              ("bright objects", "warm objects", "hot objects", "glowing objects"),
              ("dark objects", "cold objects")),
    Attribute("salient_people", (), (),
              ("salient people", "obvious people", "prominent people", "a salient person",
               "distinct people", "a conspicuous person", "salient pedestrians"),
              ("hidden people", "faint people", "inconspicuous people", "a hidden person",
               "obscured people", "a camouflaged person", "hidden pedestrians")),
    Attribute("salient_vehicles", (), (),
              ("salient vehicles", "obvious vehicles", "prominent cars", "salient cars",
               "a conspicuous car", "distinct vehicles"),
              ("hidden vehicles", "faint vehicles", "inconspicuous cars", "hidden cars",
               "a camouflaged car", "obscured vehicles")),
    Attribute("people", (), (),
              ("people", "a person", "pedestrians", "persons", "a pedestrian", "a man", "a woman",
               "men", "humans", "a human", "someone", "a group of people", "walkers", "soldiers"),
              ("no people", "nobody", "no person", "no pedestrians", "no humans"),
              lack=("people", "persons", "pedestrians")),
    Attribute("vehicles", (), (),
              ("cars", "a car", "vehicles", "a vehicle", "traffic", "an automobile", "a van",
               "automobiles"),
              ("no cars", "no vehicles", "no traffic"), lack=("cars", "vehicles", "traffic")),
    Attribute("trees", (), (),
              ("trees", "a tree", "leaves", "foliage", "vegetation", "bushes", "plants", "woods",
               "a forest"),
              ("no trees", "no vegetation", "no plants"), lack=("trees", "leaves", "plants")),
    Attribute("buildings", (), (),
              ("buildings", "houses", "a building", "a house", "facades", "windows and walls",
               "huts"),
              ("no buildings", "no houses"), lack=("buildings", "houses")),
    Attribute("night", ("night", "nighttime"), ("day", "daytime"),
              place=("at night", "in darkness", "at midnight", "in the evening"),
              no_place=("by day", "in daylight", "in sunlight", "during the day", "at noon")),
    Attribute("street", place=("of a street", "of a road", "in a city", "in town", "of an avenue")),
    Attribute("field", place=("of a field", "of a meadow", "in the country", "of grass")),
    Attribute("harbor", place=("of a harbor", "of a port", "by the water", "of a quay")),
    Attribute("room", place=("of a room", "in a room", "indoors", "inside")),
)  # fmt: skip
INDEX = {attribute.name: place for place, attribute in enumerate(ATTRIBUTES)}
NOUNS = ("image", "picture", "photo", "view", "scene", "photograph", "frame", "shot")
OPENINGS = ("this is", "a photo of", "a picture of", "here is", "we see", "one sees")
DEGREES = ("very", "quite", "really", "extremely", "rather")

# The sentences of the paper (both versions) and what they assert.
PAPER_SENTENCES = {
    PROMPTS.visible: {"visible": 1},
    PROMPTS.infrared: {"infrared": 1},
    PROMPTS.fused: {"clear": 1, "detailed": 1, "salient": 1},
    "a vivid image with clear background and obvious objects": {
        "clear": 1, "detailed": 1, "salient": 1,
    },
}  # fmt: skip


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
    found: dict[str, list[str]] = {"adjective": [], "clause": [], "lack": [], "place": []}
    noun = None
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
        if sign < 0:
            ways += [("lack", phrase) for phrase in attribute.lack]
        kind, phrase = ways[int(torch.randint(len(ways), (1,), generator=generator))]
        if kind == "adjective" and torch.rand((), generator=generator) < 0.1:
            phrase = f"{_pick(DEGREES, generator)} {phrase}"
        found[kind].append(phrase)
    adjectives, clauses, lacks, places = found.values()
    if noun is None:
        noun = "image" if torch.rand((), generator=generator) < 0.6 else _pick(NOUNS, generator)
    words = " ".join([*adjectives, noun])
    sentence = ("an " if words[0] in "aeiou" else "a ") + words
    for joint, phrases in (("with", clauses), ("without", lacks)):
        if phrases:
            listed = [", ".join(phrases[:-1])] * (len(phrases) > 1) + phrases[-1:]
            sentence += f" {joint} {' and '.join(listed)}"
    sentence = " ".join([sentence, *places[:1]])
    if torch.rand((), generator=generator) < 0.08:
        sentence = f"{_pick(OPENINGS, generator)} {sentence}"
    return sentence


def prompts_for(name: str) -> tuple[list[str], list[str]]:
    """Return the sentences that assert an attribute, and those that deny it.

    Infrared and visible deny each other; an attribute without words of denial gets an empty list.

    Args:
        name: of one of `ATTRIBUTES`.

    Returns:
        Sentences that are true of a picture with the attribute, and of one without.
    """
    attribute = ATTRIBUTES[INDEX[name]]

    def sentences(adjectives, clauses, places, nouns, lacks=()):
        made = [f"{word} image" for word in adjectives] + list(nouns)
        made = [("an " if s[0] in "aeiou" else "a ") + s for s in made]
        made += [f"an image with {c}" for c in clauses] + [f"an image {p}" for p in places]
        return made + [f"an image without {lack}" for lack in lacks]

    yes = sentences(attribute.adjective, attribute.clause, attribute.place, attribute.noun)
    other = {"infrared": "visible", "visible": "infrared"}.get(name)
    no_noun = ATTRIBUTES[INDEX[other]].noun if other else ()
    no = sentences(
        attribute.no_adjective, attribute.no_clause, attribute.no_place, no_noun, attribute.lack
    )
    return yes, no


def vocabulary() -> tuple[list[str], list[int]]:
    """Return the words of every caption that can be written, and the numbers of their tokens.

    Returns:
        The words in alphabetical order; open_clip's token numbers in ascending order, 0 first,
        start and end of text last.
    """
    phrases = ["a an and with without", *NOUNS, *OPENINGS, *DEGREES, *PAPER_SENTENCES]
    for attribute in ATTRIBUTES:
        for value in asdict(attribute).values():
            phrases += value if isinstance(value, tuple | list) else []
    words = sorted({word for phrase in phrases for word in phrase.split()})
    tokenizer = open_clip.SimpleTokenizer()
    kept = {token for word in words for token in tokenizer.encode(word)}
    return words, [0, *sorted(kept), tokenizer.sot_token_id, tokenizer.eot_token_id]


_WEIGHT = {"infrared": 2.0, "visible": 2.0, "clear": 2.0, "detailed": 1.5, "salient": 1.5}


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
    deniable = torch.tensor([a.deniable for a in ATTRIBUTES])
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
        if not odds.any():
            continue
        chosen = torch.multinomial(odds, min(number, int(open_to.sum())), generator=generator)
        row = torch.zeros(len(ATTRIBUTES))
        row[chosen] = facts[chosen]
        if row[: INDEX["fused"] + 1].abs().sum() > 1:  # one noun a sentence
            continue
        names = {ATTRIBUTES[i].name: int(facts[i]) for i in chosen.tolist()}
        sentences.append(write_caption(names, generator))
        rows.append(row)
    return sentences, torch.stack(rows)


def draw_denials(generator: torch.Generator) -> tuple[list[str], list[str], list[int]]:
    """For each attribute that can be denied, one sentence that asserts it and one that denies it.

    Args:
        generator: draws the words.

    Returns:
        The sentences that assert, those that deny, and the places of the attributes.
    """
    yes, no, places = [], [], []
    for place, attribute in enumerate(ATTRIBUTES):
        asserting, denying = prompts_for(attribute.name)
        if denying:
            yes.append(_pick(asserting, generator))
            no.append(_pick(denying, generator))
            places.append(place)
    return yes, no, places


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
