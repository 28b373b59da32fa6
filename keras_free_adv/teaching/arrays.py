"""Compares arrays that a student's code returned with those of the library."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_free_adv.teaching.verdict import FoundError

# Rounding errors of numbers near 1, in float32.
ROUNDING = 1e-5


class Mistake(NamedTuple):
    """A well-known mistake.

    Attributes:
        result: the array that it returns.
        text: a description, and how to mend it.
    """

    result: np.ndarray
    text: str


def as_array(result: Any, like: np.ndarray, name: str) -> np.ndarray:
    """Returns a student's result as an array of the shape of `like`.

    Raises:
        FoundError: it is not one.
    """
    if result is None:
        raise FoundError(f"It returns nothing: end with `return` and {name}.")
    try:
        array = np.asarray(result, "float32")
    except (TypeError, ValueError) as error:
        raise FoundError(
            f"It returns {type(result).__name__}; return {name}, an array of shape "
            f"{like.shape}."
        ) from error
    if array.shape != like.shape:
        raise FoundError(
            f"It returns shape {array.shape}; return {name}, of shape {like.shape}."
        )
    if not np.isfinite(array).all():
        raise FoundError(f"It returns {name} with NaN or infinity among them.")
    return array


def alike(one: np.ndarray, other: np.ndarray, share: float = 1.0) -> bool:
    """Whether two arrays are equal up to rounding, in this share of their entries."""
    return bool(np.mean(np.abs(one - other) <= ROUNDING) >= share)


def explain(
    result: np.ndarray,
    expected: np.ndarray,
    mistakes: Sequence[Mistake],
    subject: str = "It",
) -> str:
    """Names the mistake that gives this result, or where the result is wrong."""
    for mistake in mistakes:
        # The sign of a gradient next to zero may round either way.
        if alike(result, mistake.result, 0.99) and not alike(mistake.result, expected):
            return mistake.text
    gap = np.abs(result - expected)
    where = np.unravel_index(gap.argmax(), gap.shape)
    place = ", ".join(map(str, where))
    return (
        f"{subject} differs from the library's in {np.mean(gap > ROUNDING):.0%} of the "
        f"entries, most at [{place}]: {result[where]:.4g} instead of "
        f"{expected[where]:.4g}."
    )


def outside(
    result: np.ndarray, images: np.ndarray, epsilon: float, subject: str
) -> Iterator[str]:
    """Finds pixels outside the ball, or outside the range [0, 1]."""
    away = float(np.abs(result - images).max())
    if away > epsilon + ROUNDING:
        yield (
            f"{subject} outside the ball: a pixel is {away:.4g} away from its image, "
            f"and epsilon is {epsilon:g}. Clip the difference from the *images* to "
            "[-epsilon, epsilon]."
        )
    low, high = float(result.min()), float(result.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        worst = low if -low > high - 1 else high
        yield (
            f"{subject} outside the pixel range: a pixel is {worst:.4g}. Clip to "
            "[0, 1]: no camera takes such an image."
        )


def changed_in_place(before: np.ndarray, now: np.ndarray, name: str) -> Iterator[str]:
    """Finds an argument that was written into."""
    if not np.array_equal(before, now):
        yield (
            f"It changes its argument `{name}`, which belongs to the caller: write "
            f"`{name} = {name} + ...`, not `{name} += ...`, and no `out=`."
        )
