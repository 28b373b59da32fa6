"""Projected gradient ascent, as K-PGD training and TRADES craft their images."""

from collections.abc import Callable
from typing import Any

from keras_free_adv import backends
from keras_free_adv.geometry import Ball


def projected_ascent(
    gradient_at: Callable[[Any], Any],
    images: Any,
    start: Any,
    *,
    steps: int,
    step_size: Any,
    ball: Ball,
) -> Any:
    """Climbs `steps` steps; the loop is one operation of a graph.

    Args:
        gradient_at: maps an iterate to the gradient of the loss, `[B, ...]`.
        images: the clean images, `[B, ...]`.
        start: the first iterate.
        steps: number of steps.
        step_size: length of a step, on the pixel scale.
        ball: what the iterates may be.

    Returns:
        The last iterate.
    """

    def one_step(iterate: Any, step: Any) -> tuple[Any, Any]:
        return ball.climb(iterate, images, gradient_at(iterate), step_size), step + 1

    last, _ = backends.while_loop(lambda _, step: step < steps, one_step, (start, 0))
    return last
