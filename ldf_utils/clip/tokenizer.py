"""The tokenizer of the embedded CLIP: a vocabulary of words."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import open_clip
import torch

from ldf_utils.clip.model import ClipError

VOCABULARY = "vocabulary.json"
CONFIG = "open_clip_config.json"


_SMALL_WORDS = frozenset("a an and at by in no of too well with".split())
_ENDINGS = (
    "iness",
    "ness",
    "less",
    "ings",
    "ing",
    "est",
    "ers",
    "ies",
    "ed",
    "er",
    "es",
    "ly",
    "s",
    "y",
    "e",
)


def _stem(word: str) -> str:
    """Return a word without its ending, so that blur, blurred and blurry have one stem."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def nearest_words(word: str, words: Iterable[str], most: int = 4) -> list[str]:
    """Known words that may stand for an unknown one.

    Args:
        word: what was asked for, in lower case.
        words: the known words.
        most: how many to return at most.

    Returns:
        Other forms of the same word first (plural and singular, "blurring" for "blurry"), then
        words that begin with the same five letters or more ("photograph": "photo"), then words of
        like spelling, as of a slip of the finger. Empty where nothing is near.
    """
    known = sorted(set(words) - _SMALL_WORDS)
    known.sort(key=lambda w: -difflib.SequenceMatcher(None, word, w).ratio())
    forms = [w for w in known if _stem(w) == _stem(word)]
    begins = [w for w in known if len(word) >= 5 and w[:5] == word[:5]]
    alike = difflib.get_close_matches(word, known, n=most, cutoff=0.75)
    return list(dict.fromkeys([*forms, *begins, *alike]))[:most]


class CompactTokenizer:
    """open_clip's tokenizer, cut down to the words that a small model was trained with.

    The large model has a row for each of 49,408 tokens. The embedded one keeps the rows that its
    captions use, so token numbers are mapped; every word outside is an error, never a guess.

    Args:
        words: the words that may be used.
        token_ids: open_clip's numbers of the kept tokens, ascending; the place in this list is the
            row in the small model. The last is the end-of-text token, so that it stays the
            highest number, where open_clip's text tower reads the sentence's embedding.
        context_length: tokens of a sentence, start and end included.
    """

    def __init__(self, words: Sequence[str], token_ids: Sequence[int], context_length: int):
        self.words = frozenset(words)
        self.rows = {token: row for row, token in enumerate(token_ids)}
        self.context_length = context_length
        self._tokenize = open_clip.SimpleTokenizer(context_length=context_length)

    @classmethod
    def from_folder(cls, folder: Path) -> CompactTokenizer:
        """Read ``vocabulary.json`` and the context length beside the model's weights."""
        kept = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        context = config["model_cfg"]["text_cfg"]["context_length"]
        return cls(kept["words"], kept["token_ids"], context)

    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        """Sentences to rows.

        Returns:
            ``(N, context_length)`` int64, zero behind the end.

        Raises:
            ClipError: for an empty sentence, one too long, or a word that the model does not know.
        """
        spoken_words = []
        for sentence in sentences:
            spoken = re.findall(r"[a-z0-9']+", sentence.lower())
            spoken_words.append(" ".join(spoken))
            if not spoken:
                raise ClipError(f"the prompt {sentence!r} holds no word; write a short sentence")
            for word in spoken:
                if word not in self.words:
                    near = nearest_words(word, self.words)
                    raise ClipError(
                        f"the embedded CLIP does not know the word {word!r} in {sentence!r}"
                        + (f"; the nearest words it knows: {', '.join(near)}" if near else "")
                        + f". It knows {len(self.words)} words (load_clip('mini').words lists "
                        "them); load_clip('openai') knows ordinary English"
                    )
        tokens = self._tokenize(spoken_words)  # words only: commas and stops carry no meaning here
        end = max(self.rows)
        rows = torch.zeros_like(tokens)
        for index, line in enumerate(tokens.tolist()):
            length = line.index(end) + 1
            if (
                length == self.context_length
                and len(self._tokenize.encode(spoken_words[index])) + 2 > self.context_length
            ):
                raise ClipError(
                    f"the prompt {sentences[index]!r} is longer than {self.context_length - 2} "
                    "tokens; shorten it"
                )
            rows[index, :length] = torch.tensor([self.rows[token] for token in line[:length]])
        return rows
