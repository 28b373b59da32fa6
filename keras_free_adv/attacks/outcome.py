"""What an attack made of its examples, and which of two results is worse."""

import math
from typing import Any, NamedTuple

from keras import ops


class Outcome(NamedTuple):
    """What an attack made of B examples.

    Attributes:
        images: adversarial images, `[B, ...]`, float32.
        fooled: whether the attack reached its goal, `[B]`, bool.
        loss: the attack's loss at `images`, `[B]`.
    """

    images: Any
    fooled: Any
    loss: Any


def nothing_yet(images: Any) -> Outcome:
    """The outcome any other beats: the images themselves, at a loss of -infinity."""
    batch = ops.shape(images)[0]
    return Outcome(
        images,
        ops.zeros((batch,), "bool"),
        ops.full((batch,), -float("inf"), dtype="float32"),
    )


def more_damaging(one: Outcome, other: Outcome) -> Outcome:
    """Per example, the one that fools the model, else the one of larger loss."""
    better = ops.logical_or(
        ops.logical_and(other.fooled, ops.logical_not(one.fooled)),
        ops.logical_and(
            ops.equal(other.fooled, one.fooled), ops.greater(other.loss, one.loss)
        ),
    )
    return Outcome(*(choose(better, b, a) for a, b in zip(one, other, strict=True)))


def choose(where: Any, one: Any, other: Any) -> Any:
    """Per example, `one` `[B, ...]` where `where` `[B]` is true, else `other`."""
    if len(one.shape) < 2:
        return ops.where(where, one, other)
    # TensorFlow's broadcasting selection is several times faster over two axes.
    rows = (ops.shape(where)[0], math.prod(one.shape[1:]))
    chosen = ops.where(
        ops.expand_dims(where, -1), ops.reshape(one, rows), ops.reshape(other, rows)
    )
    return ops.reshape(chosen, ops.shape(one))
