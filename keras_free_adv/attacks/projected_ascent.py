"""Projected gradient ascent: the loop under PGD attacks and K-PGD training."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import ops

from keras_free_adv import geometry


def input_gradient(
    objective: Callable[[Any], tuple[Any, ...]], images: Any
) -> tuple[tuple[Any, ...], Any]:
    """One forward and one backward pass.

    Args:
        objective: maps images `[B, ...]` to a tuple whose first entry is the loss
            (a scalar, or one number an example).
        images: `[B, ...]`.

    Returns:
        The objective's tuple, and the gradient of the (summed) loss, `[B, ...]`, or
        None if the loss does not depend on the images.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        values = objective(images)
    return values, tape.gradient(values[0], images)


def projected_ascent(
    gradient_at: Callable[[Any, Any], tuple[Any, Any]],
    images: Any,
    start: Any,
    state: Any,
    *,
    steps: int,
    step_size: float,
    epsilon: float,
    norm: str,
    value_range: tuple[float, float],
) -> tuple[Any, Any]:
    """Climbs `steps` steps inside the ball around `images` and the pixel range.

    Each step (Madry et al. 2018): a step along the gradient's direction, projection
    on the ball, clip to the pixel range. The loop is one operation of the graph.

    Args:
        gradient_at: maps (iterate, state) to (gradient, new state); the state
            lets the caller keep what it wants of each iterate.
        images: the clean images, `[B, ...]`.
        start: the first iterate.
        state: the state before the first iterate.
        steps: number of steps.
        step_size: length of a step, on the pixel scale.
        epsilon: radius of the ball, on the pixel scale.
        norm: "linf" or "l2".
        value_range: lowest and highest pixel value.

    Returns:
        The last iterate and the last state.
    """

    def step(iterate: Any, state: Any) -> tuple[Any, Any]:
        gradient, state = gradient_at(iterate, state)
        delta = geometry.ascend(
            iterate - images, gradient, step_size=step_size, epsilon=epsilon, norm=norm
        )
        return ops.clip(images + delta, *value_range), state

    return ops.fori_loop(0, steps, lambda _, carried: step(*carried), (start, state))
