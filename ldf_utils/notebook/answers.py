"""Answers to exercises: what a check accepts, its hints, its result.

A check is a generator of hints under the decorator `exercise`: the first hint is shown; without a
hint the exercise is solved. No check stops a notebook, so that a notebook with open exercises runs
to its end.

    @exercise("Cosine of two embeddings")
    def check_cosine(answer, first, second):
        yield expect_close("the answer", answer(first, second), (first * second).sum())
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Hints = Iterator[str | None]


def random_numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return numbers from 0 to 1 to try an answer on; equal seeds give equal numbers."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Result:
    """Hold the outcome of a check; true if the exercise is solved.

    Attributes:
        exercise: the name of the exercise.
        hint: what to look at next, or None if the answer is right.
    """

    exercise: str
    hint: str | None = None

    def __bool__(self) -> bool:
        return self.hint is None

    def __str__(self) -> str:
        if self.hint is None:
            return f"Well done: {self.exercise}."
        return f"Not yet: {self.exercise}.\n" + textwrap.indent(self.hint, "  ")

    def _ipython_display_(self) -> None:
        """Show nothing: the check has printed the result, wherever in the cell it stands."""


def exercise(name: str) -> Callable[[Callable[..., Hints]], Callable[..., Result]]:
    """Make a check of an exercise out of a generator of hints.

    The check prints its result and returns it. It asks the generator for hints until one is not
    None. A first argument that is still ``...`` or None means that the exercise is open. An
    exception (most often from the learner's function) becomes a hint as well. A function gets
    copies of the tensors it is tried on, or NumPy arrays if it cannot use tensors, and its numbers
    come back as a tensor.

    Args:
        name: the exercise, as a noun phrase without a full stop.
    """

    def decorate(hints: Callable[..., Hints]) -> Callable[..., Result]:
        @functools.wraps(hints)
        def checked(answer: Any, *args: Any, **kwargs: Any) -> Result:
            if answer is ... or answer is None:
                hint: str | None = "replace the three dots with your answer and rerun the cell"
            else:
                tried = functools.partial(_call, answer) if callable(answer) else answer
                hint = _first_hint(hints, tried, *args, **kwargs)
            result = Result(name, hint)
            print(result)
            return result

        return checked

    return decorate


def _first_hint(hints: Callable[..., Hints], *args: Any, **kwargs: Any) -> str | None:
    try:
        return next((hint for hint in hints(*args, **kwargs) if hint), None)
    except Exception as error:
        return (
            f"running it raised {type(error).__name__}: {error}\n"
            "call it yourself in a new cell to see where"
        )


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a learner's function gives for tensors, or for arrays if it needs NumPy."""
    tensors = [x.clone() if isinstance(x, torch.Tensor) else x for x in args]
    try:
        returned = function(*tensors)
    except Exception as error:
        try:
            returned = function(
                *(x.numpy().copy() if isinstance(x, torch.Tensor) else x for x in args)
            )
        except Exception:
            raise error from None
    numbers = as_tensor(returned)
    return returned if numbers is None else numbers


def as_tensor(value: Any) -> torch.Tensor | None:
    """Convert numbers of Python, NumPy or torch, and lists of them, to a float64 tensor.

    Returns:
        A tensor on the CPU without gradient, or None if the value does not consist of numbers.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return torch.from_numpy(array.astype(np.float64)) if array.dtype.kind in "biuf" else None


def expect(condition: object, hint: str) -> str | None:
    """Return the hint, unless the condition holds."""
    return None if bool(condition) else hint


def expect_shape(what: str, found: Any, shape: tuple[int, ...]) -> str | None:
    """Return a hint, unless `found` is an array, or a number for ``()``, of this shape."""
    if found is ... or found is None:
        return f"{what} is still missing: replace the three dots with your code"
    numbers = as_tensor(found)
    kind = "a number" if shape == () else f"a tensor of shape {tuple(shape)}"
    if numbers is None:
        return f"{what} must be {kind}, got {type(found).__name__}"
    if tuple(numbers.shape) != tuple(shape):
        return f"{what} must be {kind}, got shape {tuple(numbers.shape)}"
    return None


def expect_close(
    what: str, found: Any, expected: Any, tolerance: float = 1e-4, hint: str = ""
) -> str | None:
    """Return a hint, unless all numbers agree.

    Args:
        what: the name of the value in the hint.
        found: a number or an array.
        expected: a number or an array.
        tolerance: the largest absolute difference that passes.
        hint: what to think about when the numbers differ.
    """
    right = torch.as_tensor(expected).detach().double()
    numbers = as_tensor(found)
    if (wrong_shape := expect_shape(what, found, tuple(right.shape))) or numbers is None:
        return wrong_shape
    more = f"; {hint}" if hint else ""
    difference = (numbers - right).abs()
    if not difference.isfinite().all():
        return f"{what} contains a number that is not finite{more}"
    if difference.numel() and difference.max() > tolerance:
        at = int(difference.argmax())
        where = f" (element {at}, where the difference is largest)" if right.ndim else ""
        return (
            f"{what} must be {right.flatten()[at]:.5g}, got {numbers.flatten()[at]:.5g}"
            f"{where}{more}"
        )
    return None


def expect_between(what: str, found: Any, low: float, high: float, hint: str = "") -> str | None:
    """Return a hint, unless `found` is a number in [low, high]."""
    numbers = as_tensor(found)
    if numbers is None or numbers.numel() != 1:
        return expect_shape(what, found, ())
    if not low <= numbers.item() <= high:
        more = f"; {hint}" if hint else ""
        return f"{what} must be {low:g} to {high:g}, got {numbers.item():.4g}{more}"
    return None


def expect_no_mistake(found: Any, mistakes: Mapping[str, Any]) -> str | None:
    """Return the hint of the mistake whose result was found, if it is one of them."""
    numbers = as_tensor(found)
    if numbers is None:
        return None
    for hint, result in mistakes.items():
        result = torch.as_tensor(result).double()
        if numbers.shape == result.shape and torch.allclose(numbers, result, atol=1e-5):
            return hint
    return None
