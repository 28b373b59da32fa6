"""What an attack made of its examples, and which of two results is worse."""

import math
from typing import Any, NamedTuple

from keras import ops


class Outcome(NamedTuple):
    """What an attack made of B examples.

    Attributes:
        images: adversarial images, `[B, ...]`, float32.
        fooled: whether the attack reached its goal, `[B]`, bool. On a model that
            predicts several labels: which of them it has made wrong, here or before,
            `[B, L]`.
        loss: the attack's loss at `images`, `[B]`.
    """

    images: Any
    fooled: Any
    loss: Any


def any_label(fooled: Any) -> Any:
    """Whether an example is fooled, `[B]`: of several labels, whether in one."""
    return ops.any(fooled, axis=-1) if len(fooled.shape) > 1 else fooled


def all_labels(fooled: Any) -> Any:
    """Whether nothing is left to attack in an example, `[B]`."""
    return ops.all(fooled, axis=-1) if len(fooled.shape) > 1 else fooled


def nothing_yet(images: Any, label_count: int | None = None) -> Outcome:
    """The outcome any other beats: the images themselves, at a loss of -infinity.

    Args:
        images: `[B, ...]`.
        label_count: how many labels, of a model that predicts several at once.
    """
    batch = ops.shape(images)[0]
    return Outcome(
        images,
        ops.zeros((batch,) if label_count is None else (batch, label_count), "bool"),
        ops.full((batch,), -float("inf"), dtype="float32"),
    )


def more_damaging(one: Outcome, other: Outcome) -> Outcome:
    """Per example, the one that fools the model, else the one of larger loss.

    Labels that only one of the two makes wrong count both.
    """
    fooled, fooled_by_other = any_label(one.fooled), any_label(other.fooled)
    better = ops.logical_or(
        ops.logical_and(fooled_by_other, ops.logical_not(fooled)),
        ops.logical_and(
            ops.equal(fooled_by_other, fooled), ops.greater(other.loss, one.loss)
        ),
    )
    return Outcome(
        choose(better, other.images, one.images),
        ops.logical_or(one.fooled, other.fooled),
        ops.where(better, other.loss, one.loss),
    )


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
