"""Fingerprints of OpenAI's weights."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from torch.nn import functional as F

from ldf_utils.clip.loading import (
    _HUB_FILES,
    _first_line,
    _has_the_towers_of_openai,
    _hub_repository,
    _other_activation,
    load_clip,
)
from ldf_utils.clip.model import ClipError, ClipSpace, WeightsNotFound
from ldf_utils.data.files import write_json

FINGERPRINTS = Path(__file__).parent.parent / "weights" / "clip_vit_b32_fingerprints.json"


# --- fingerprints of OpenAI's weights -------------------------------------------------------------

# Near, middle and far apart; names of one word that begin with a consonant, so that neither "an"
# nor the writing of two words can make a difference.
_PAIRS = (
    ("cat", "dog"), ("car", "truck"), ("fork", "knife"), ("dog", "truck"), ("car", "cat"),
    ("cat", "zebra"), ("zebra", "dog"), ("knife", "car"), ("fork", "dog"), ("truck", "fork"),
    ("zebra", "frisbee"), ("frisbee", "knife"), ("cat", "frisbee"), ("truck", "frisbee"),
    ("zebra", "fork"), ("bench", "frisbee"), ("bench", "car"), ("bench", "zebra"),
)  # fmt: skip
_PROMPT = "a {name}"
_PROMPTS = (_PROMPT, "{name}", "a photo of a {name}")

AGREE = 0.005
ALIKE = 0.8


@dataclass(frozen=True)
class Fingerprints:
    """What is kept of OpenAI's text tower: cosines between a few sentences.

    Attributes:
        prompt: the sentence, with ``{name}`` where the name goes.
        pairs: two names and the cosine between their sentences.
        source: where the cosines are from, in words.
    """

    prompt: str
    pairs: tuple[tuple[str, str, float], ...]
    source: str


@dataclass(frozen=True)
class FingerprintRow:
    """One cosine, kept and found.

    Attributes:
        first: a name.
        second: another name.
        expected: cosine between their sentences, as kept.
        found: the same, of the model that was asked.
    """

    first: str
    second: str
    expected: float
    found: float

    @property
    def difference(self) -> float:
        """Found minus expected."""
        return self.found - self.expected


@dataclass(frozen=True)
class SelfCheck:
    """What the comparison with the fingerprints gave.

    Attributes:
        rows: the cosines, with the prompt that fits best.
        prompt: that prompt.
        largest: prompt to the largest difference without its sign, for all prompts tried.
        correlation: of expected and found cosines, with the best prompt.
        verdict: ``agree``; ``activation`` (they would, with the other activation); ``question``
            (like OpenAI's, not equal); ``other`` (not OpenAI's).
    """

    rows: tuple[FingerprintRow, ...]
    prompt: str
    largest: Mapping[str, float]
    correlation: float
    verdict: str

    @property
    def agrees(self) -> bool:
        """True if the weights are OpenAI's, as far as the fingerprints reach."""
        return self.verdict == "agree"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        largest = self.largest[self.prompt]
        facts = (
            f"(largest difference {largest:.4f} with the prompt {self.prompt!r}, correlation "
            f"{self.correlation:.2f})"
        )
        return {
            "agree": f"These are OpenAI's weights, as far as the text tower tells {facts}.",
            "activation": "These are OpenAI's weights under the wrong activation: with the other "
            f"one they agree {facts}. Load them with QuickGELU.",
            "question": "A question: the cosines go up and down with those of OpenAI's weights, "
            f"but they are not equal {facts}. The prompt behind the fingerprints could not be "
            "confirmed. So either it was none of those tried, or these are other weights that "
            "know the same words, as LAION's.",
            "other": "These are not OpenAI's weights: they are random, of another model, or "
            f"damaged {facts}.",
        }[self.verdict]

    def __str__(self) -> str:
        lines = [f"{'pair':<22} {'expected':>9} {'found':>9} {'difference':>11}"]
        for row in self.rows:
            pair = f"{row.first}, {row.second}"
            lines.append(f"{pair:<22} {row.expected:9.4f} {row.found:9.4f} {row.difference:+11.4f}")
        lines.append("")
        for prompt, largest in sorted(self.largest.items(), key=lambda item: item[1]):
            lines.append(f"largest difference {largest:.4f} with the prompt {prompt!r}")
        return "\n".join([*lines, self.sentence])


def make_fingerprints(path: str | os.PathLike) -> dict:
    """The kept cosines, from text features of all 80 classes of COCO.

    Args:
        path: ``.npy`` with ``(80, 512)`` features of OpenAI's ViT-B/32 in the order of COCO's
            classes, normalized or not.

    Returns:
        What `FINGERPRINTS` holds.

    Raises:
        ClipError: if the file is not that.
    """
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    path = Path(path)
    try:
        features = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise ClipError(
            f"{path}: no array of numbers ({_first_line(error)}); expected a .npy file of "
            "(80, 512) text features"
        ) from error
    if features.shape != (80, 512) or not np.isfinite(features).all():
        kind = "finite" if np.isfinite(features).all() else "with NaN or infinity"
        raise ClipError(
            f"{path}: found shape {features.shape}, {kind}; expected (80, 512) finite text "
            "features, one row for each class of COCO in COCO's order"
        )
    listed = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    places = {n: i for i, n in enumerate(n for n in listed if n not in ("__background__", "N/A"))}
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return {
        "model": "OpenAI's CLIP ViT-B/32, text tower",
        "source": "published text features of the 80 class names of COCO, (80, 512) float16, as a "
        "large open-vocabulary detector ships them; their exact prompt could not be confirmed",
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "made_by": f"python -m ldf_utils.clip_space fingerprint {path.name}",
        "prompt": _PROMPT,
        "pairs": [
            {"first": a, "second": b, "cosine": round(float(unit[places[a]] @ unit[places[b]]), 5)}
            for a, b in _PAIRS
        ],
    }


def read_fingerprints(path: str | os.PathLike | None = None) -> Fingerprints:
    """The kept cosines of OpenAI's text tower.

    Args:
        path: by default `FINGERPRINTS`.

    Raises:
        ClipError: if the file is not as `make_fingerprints` makes it.
    """
    path = Path(path or FINGERPRINTS)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        pairs = tuple((p["first"], p["second"], float(p["cosine"])) for p in kept["pairs"])
        return Fingerprints(kept["prompt"], pairs, kept["source"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClipError(
            f"{path}: no fingerprints ({type(error).__name__}: {_first_line(error)}); expected "
            "what `python -m ldf_utils.clip_space fingerprint FILE.npy` writes"
        ) from error


def _compare(clip: ClipSpace, kept: Fingerprints, prompt: str) -> tuple[FingerprintRow, ...]:
    names = list(dict.fromkeys(name for first, second, _ in kept.pairs for name in (first, second)))
    vectors = clip.encode_text([prompt.format(name=name) for name in names]).cpu().double()
    of = dict(zip(names, F.normalize(vectors, dim=-1), strict=True))
    return tuple(FingerprintRow(a, b, cosine, float(of[a] @ of[b])) for a, b, cosine in kept.pairs)


def _largest(rows: Iterable[FingerprintRow]) -> float:
    return max(abs(row.difference) for row in rows)


def selfcheck(clip: ClipSpace, fingerprints: str | os.PathLike | None = None) -> SelfCheck:
    """Compare a model with the kept cosines of OpenAI's text tower.

    Says nothing of the image tower, of which no published numbers are at hand.

    Args:
        clip: the model; one that knows ordinary English.
        fingerprints: by default those that come with the project.

    Returns:
        The cosines, the prompt that fits best, and a verdict.

    Raises:
        ClipError: for the embedded model, which knows none of the names.
    """
    kept = read_fingerprints(fingerprints)
    if clip.words is not None:
        raise ClipError(
            f"{clip.name}: this is the embedded model, which knows {len(clip.words)} words and "
            "not those of the fingerprints. There is nothing to compare; give OpenAI's weights"
        )
    tried = {p: _compare(clip, kept, p) for p in dict.fromkeys((kept.prompt, *_PROMPTS))}
    largest = {prompt: _largest(rows) for prompt, rows in tried.items()}
    prompt = min(largest, key=largest.get)
    rows, here = tried[prompt], largest[prompt]
    columns = np.array([(row.expected, row.found) for row in rows]).T
    correlation = float(np.corrcoef(columns)[0, 1]) if columns[1].std() > 1e-6 else 0.0
    there = float("inf")
    if _has_the_towers_of_openai(clip):
        with _other_activation(clip.model):
            there = _largest(_compare(clip, kept, prompt))
    if there <= AGREE and 3 * there < here:
        verdict = "activation"
    elif here <= AGREE:
        verdict = "agree"
    else:
        verdict = "question" if correlation >= ALIKE else "other"
    return SelfCheck(rows, prompt, largest, correlation, verdict)


# --- is there a network? --------------------------------------------------------------------------


def _why_not_openai(timeout: float = 3.0) -> str | None:
    """None where OpenAI's weights are cached or within reach, else the reason in words."""
    import huggingface_hub
    from huggingface_hub import constants

    for file in _HUB_FILES:
        if isinstance(huggingface_hub.try_to_load_from_cache(_hub_repository(), file), str):
            return None
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "yes"):
        return "HF_HUB_OFFLINE is set and the weights are not cached"
    if "BINDER_SERVICE_HOST" in os.environ:
        return "a Binder session has too little memory for the large model"
    address = urlsplit(constants.ENDPOINT)
    reached = threading.Event()

    def knock():
        try:
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname, port), timeout).close()
            reached.set()
        except OSError:
            pass

    thread = threading.Thread(target=knock, daemon=True)  # a name lookup may hang for minutes
    thread.start()
    thread.join(timeout)
    return None if reached.is_set() else f"no connection to {address.hostname}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: selfcheck, fingerprint.

    Returns:
        For ``selfcheck`` 0 if the weights are OpenAI's, 1 if they are not or it is a question, 2
        if there are none to ask.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.clip_space",
        description="Ask whether CLIP weights are OpenAI's.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser(
        "selfcheck",
        help="compare weights with the kept cosines",
        description="Compare weights with the kept cosines. Exit code 0: they are OpenAI's; 1: "
        "they are not, or it is a question; 2: there are no such weights to ask.",
    )
    asking.add_argument("--clip", default="openai", help="openai (default), or a file or folder")
    making = commands.add_parser("fingerprint", help="make the kept cosines from text features")
    making.add_argument("features", help=".npy, (80, 512): the classes of COCO in their order")
    making.add_argument("--output", default=str(FINGERPRINTS), help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        if args.command == "fingerprint":
            print(f"cosines in {write_json(args.output, make_fingerprints(args.features))}")
            return 0
        return _selfcheck_command(args.clip)
    except (ClipError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _selfcheck_command(name: str) -> int:
    nothing = "Nothing was compared: OpenAI's weights are not at hand."
    reason = _why_not_openai() if name == "openai" else None
    if reason:
        print(f"{nothing} Reason: {reason}. A file that you have: selfcheck --clip PATH")
        return 2
    try:
        clip = load_clip(name)
    except WeightsNotFound as error:
        print(f"{nothing} Reason: {error}")
        return 2
    if clip.stands_in:
        print(f"{nothing} {clip.name} is the embedded model that stands in for them.")
        return 2
    print(f"{clip.name}: cosines between sentences, kept with the project and found\n")
    result = selfcheck(clip)
    print(result)
    return 0 if result.agrees else 1
