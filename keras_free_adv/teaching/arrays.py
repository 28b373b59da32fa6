"""What is wrong with an array that a student's code returned."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_free_adv.teaching.verdict import FoundError

# Of numbers near 1, in float32.
ROUNDING = 1e-5


class Mistake(NamedTuple):
    """What a well-known mistake would give.

    Attributes:
        result: the array it gives.
        text: what it is, and how to mend it.
    """

    result: np.ndarray
    text: str


def as_array(result: Any, like: np.ndarray, called: str) -> np.ndarray:
    """What was returned, as an array of the shape of `like`.

    Raises:
        FoundError: there is no such array.
    """
    if result is None:
        raise FoundError(f"It returns nothing: end with `return` and {called}.")
    try:
        array = np.asarray(result, "float32")
    except (TypeError, ValueError) as error:
        raise FoundError(
            f"It returns {type(result).__name__}; return {called}, an array of shape "
            f"{like.shape}."
        ) from error
    if array.shape != like.shape:
        raise FoundError(
            f"It returns shape {array.shape}; return {called}, of shape {like.shape}."
        )
    if not np.isfinite(array).all():
        raise FoundError(f"It returns {called} with NaN or infinity among them.")
    return array


def alike(one: np.ndarray, other: np.ndarray, share: float = 1.0) -> bool:
    """Whether two arrays are equal but for rounding, in so many of their entries."""
    return bool(np.mean(np.abs(one - other) <= ROUNDING) >= share)


def explained(
    result: np.ndarray,
    expected: np.ndarray,
    mistakes: Sequence[Mistake],
    what: str = "It",
) -> str:
    """The mistake that gives this result, or where it differs from what is expected."""
    for mistake in mistakes:
        # The sign of a gradient next to zero may round either way.
        if alike(result, mistake.result, 0.99) and not alike(mistake.result, expected):
            return mistake.text
    gap = np.abs(result - expected)
    where = np.unravel_index(gap.argmax(), gap.shape)
    place = ", ".join(map(str, where))
    return (
        f"{what} differs from the library's in {np.mean(gap > ROUNDING):.0%} of the "
        f"entries, most at [{place}]: {result[where]:.4g} instead of "
        f"{expected[where]:.4g}."
    )


def outside(
    result: np.ndarray, images: np.ndarray, epsilon: float, what: str
) -> Iterator[str]:
    """Sentences on what lies outside the ball, or the pixel range [0, 1]."""
    away = float(np.abs(result - images).max())
    if away > epsilon + ROUNDING:
        yield (
            f"{what} outside the ball: a pixel is {away:.4g} away from its image, and "
            f"epsilon is {epsilon:g}. Clip the difference from the *images* to "
            "[-epsilon, epsilon]."
        )
    low, high = float(result.min()), float(result.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        worst = low if -low > high - 1 else high
        yield (
            f"{what} outside the pixel range: a pixel is {worst:.4g}. Clip to [0, 1]: "
            "no camera takes such an image."
        )


def changed_in_place(before: np.ndarray, now: np.ndarray, name: str) -> Iterator[str]:
    """A sentence if an argument was written into."""
    if not np.array_equal(before, now):
        yield (
            f"It changes its argument `{name}`, which belongs to the caller: write "
            f"`{name} = {name} + ...`, not `{name} += ...`, and no `out=`."
        )
