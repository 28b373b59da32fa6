"""Projected gradient ascent: the step of PGD attacks and of K-PGD training."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_free_adv import geometry


def ascend_inside(
    iterate: Any,
    images: Any,
    gradient: Any,
    *,
    step_size: Any,
    epsilon: float,
    norm: str,
    value_range: tuple[float, float],
) -> Any:
    """One step of Madry et al. (2018), inside the ball and the pixel range.

    A step along the gradient's direction, projection on the ball around the images,
    clip to the pixel range.

    Args:
        iterate: where to start, `[B, ...]`.
        images: the clean images, `[B, ...]`.
        gradient: of the loss at the iterate, `[B, ...]`.
        step_size: length of the step, on the pixel scale; a number, or `[B, 1, ...]`.
        epsilon: radius of the ball, on the pixel scale.
        norm: "linf" or "l2".
        value_range: lowest and highest pixel value.

    Returns:
        The next iterate, `[B, ...]`.
    """
    delta = geometry.ascend(
        iterate - images, gradient, step_size=step_size, epsilon=epsilon, norm=norm
    )
    return ops.clip(images + delta, *value_range)


def projected_ascent(
    gradient_at: Callable[[Any], Any],
    images: Any,
    start: Any,
    *,
    steps: int,
    **ball: Any,
) -> Any:
    """Climbs `steps` steps; the loop is one operation of the graph.

    Args:
        gradient_at: maps an iterate to the gradient of the loss, `[B, ...]`.
        images: the clean images, `[B, ...]`.
        start: the first iterate.
        steps: number of steps.
        **ball: `step_size`, `epsilon`, `norm` and `value_range`, as in
            `ascend_inside`.

    Returns:
        The last iterate.
    """
    return ops.fori_loop(
        0,
        steps,
        lambda _, iterate: ascend_inside(iterate, images, gradient_at(iterate), **ball),
        start,
    )
