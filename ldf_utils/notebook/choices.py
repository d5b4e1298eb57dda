"""Questions with several answers to choose from: the check and a reason for every answer.

The question and its answers stand in the notebook, as a list ``a`` to ``d``; here is which of them
is right, and why each is right or wrong, so that a reader sees a reason after choosing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ldf_utils.notebook.answers import Hints, Result, exercise, expect


@dataclass(frozen=True)
class Choice:
    """Hold one question.

    Attributes:
        right: the letter of the right answer.
        reasons: letter to why this answer is right or wrong, one for every answer.

    Raises:
        ValueError: if the right answer has no reason.
    """

    right: str
    reasons: Mapping[str, str]

    def __post_init__(self):
        if self.right not in self.reasons:
            raise ValueError(f"right must be one of {', '.join(self.reasons)}, got {self.right!r}")


def check_choice(answer: Any, question: str) -> Result:
    """Check the letter that was chosen; a right one is answered by its reason, too.

    Args:
        answer: a letter, ``"b"``; capitals and spaces around it do not matter.
        question: a key of `CHOICES`.

    Raises:
        KeyError: for another question.
    """
    choice = CHOICES[question]

    @exercise(question)
    def check(letter: Any) -> Hints:
        letters = list(choice.reasons)
        chosen = letter.strip().lower() if isinstance(letter, str) else ""
        yield expect(
            chosen in letters,
            f"choose one letter, {', '.join(letters[:-1])} or {letters[-1]}, in quotes; "
            f"got {letter!r}",
        )
        yield expect(chosen == choice.right, f"{chosen}: {choice.reasons[chosen]}")

    result = check(answer)
    if result:
        print(f"  {choice.right}: {choice.reasons[choice.right]}")
    return result


CHOICES: dict[str, Choice] = {
    "What averaging keeps": Choice(
        "b",
        {
            "a": "only what one camera shows alone is halved; what both show alike keeps all of "
            "its contrast, and opposite contrasts cancel",
            "b": "means and differences of means are linear, so the contrast of the average is the "
            "mean of the two contrasts, in any window of any pair",
            "c": "a step up in one image and a step down in the other cancel, so the texture is at "
            "most the mean of the two, and mostly less",
            "d": "the mean of two independent noises is weaker than either, but not zero",
        },
    ),
    "Why differences are compared": Choice(
        "c",
        {
            "a": "a difference of two vectors has as many numbers as each of them",
            "b": "CLIP never saw a difference in training; that steps have a meaning is an "
            "observation, and notebook 02 tests it",
            "c": "whatever all images share, as seen by CLIP, is in both embeddings and cancels; "
            "what is left is the change, and changes of words and of images can be compared",
            "d": "the cosine of a step can be smaller as well as larger; it answers another "
            "question",
        },
    ),
    "What a copy of one source scores": Choice(
        "b",
        {
            "a": "a copy has moved away from the other source, so its other arrow is not zero, and "
            "that side may well be below 1",
            "b": "its own arrow has length zero and counts as cosine 0, which costs one half; the "
            "other side adds between 0 and 1",
            "c": "the loss compares steps with the sentence; the own side of a copy has no step, "
            "so this half of the loss cannot get below one half",
            "d": "the own step has no direction, but the code counts its cosine as 0, so the loss "
            "has a value for any image",
        },
    ),
    "Why patches meet the whole sources": Choice(
        "b",
        {
            "a": "it does save work, because each source is encoded once, but that would be no "
            "reason to prefer a worse loss",
            "b": "seen from the whole source, a patch has to show by itself what the sentence asks "
            "for; seen from its own cut, a small change of what is there would do",
            "c": "any square can be encoded; the filter of the next notebook cuts source patches",
            "d": "every cut is brought to CLIP's input size, so sizes play no part",
        },
    ),
    "What a falling loss shows": Choice(
        "c",
        {
            "a": "CLIP was not asked whether a person would like the image, only for a direction",
            "b": "the optimizer did what it was asked: it lowered the loss",
            "c": "the loss fell for the very view it was computed on; other views and measures "
            "that CLIP does not compute tell whether more has changed",
            "d": "the same sentence gives other images as soon as other terms join in, so it is "
            "not the sentence alone",
        },
    ),
    "What changes in a training step": Choice(
        "a",
        {
            "a": "the optimizer holds the weights of the network and no others",
            "b": "gradients pass through the image tower to reach the network, but its weights are "
            "frozen: if they moved, CLIP could learn to like any image",
            "c": "the sentence is encoded once, before the first step; its embedding is a constant",
            "d": "the released code computes gradients for CLIP and never uses them: its optimizer "
            "holds the network alone",
        },
    ),
    "Why new words are followed": Choice(
        "d",
        {
            "a": "the network reads no letters: it gets two directions, 256 numbers in all",
            "b": "the words were kept out of the grammar, and the tests of the package check that",
            "c": "no picture of a right answer exists for any sentence; the loss needs none",
            "d": "CLIP puts sentences of one meaning near each other, so directions of new words "
            "lie near those that the network was trained with",
        },
    ),
    "What a table does not say": Choice(
        "c",
        {
            "a": "the interval of the difference contains 0, so other pairs could have reversed it",
            "b": "an interval that contains 0 does not prove equality; it may be narrowed by more "
            "pairs",
            "c": "the pairs are too few, or too different, to tell the two apart",
            "d": "more metrics change the question, not the number of pairs; and a metric that "
            "noise raises would not help",
        },
    ),
}
"""Question to its answer and reasons."""
