"""The nearest point of a hyperplane inside the pixel range."""

from typing import Any

from keras import ops

from keras_free_adv import geometry

# The iteration ends by itself once nothing moves; this is a bound for rounding.
_MOST_ITERATIONS = 100


def project_on_hyperplane(
    points: Any,
    weights: Any,
    values: Any,
    *,
    norm: str,
    value_range: tuple[float, float],
) -> Any:
    """Solves min ||d|| such that <w, d> = -f and x + d lies in the pixel range.

    Every pixel moves against f at its own speed until it meets the edge of the
    range: |d_i| = min(t speed_i, room_i). How far f has come at time t,

        phi(t) = sum_i |w_i| min(t speed_i, room_i),

    is concave and piecewise linear, so Newton's method from t = 0 reaches
    phi(t) = |f| from below, exactly, in a few steps. If the hyperplane does not meet
    the range, every pixel ends at the edge: as near as it gets.

    The problem is that of Croce and Hein, "Minimally distorted adversarial examples
    with a fast adaptive boundary attack", ICML 2020, section 2.2.

    Args:
        points: x, `[B, ...]`, inside the range.
        weights: w, the normal of the hyperplane, `[B, ...]`.
        values: f at x, `[B]`: the hyperplane is where f + <w, d> is zero.
        norm: "linf" or "l2": what is the shortest.
        value_range: lowest and highest pixel value.

    Returns:
        d, `[B, ...]`.

    Example:
    >>> import numpy as np
    >>> x, w = np.float32([[0.5, 0.75]]), np.float32([[1.0, 1.0]])
    >>> d = project_on_hyperplane(x, w, np.float32([-0.625]), norm="linf",
    ...                           value_range=(0, 1))
    >>> np.asarray(d).tolist()
    [[0.375, 0.25]]
    """
    low, high = value_range
    one_an_example = (-1,) + (1,) * (len(points.shape) - 1)
    values = ops.reshape(values, one_an_example)
    axes = tuple(range(1, len(points.shape)))
    # The scale of w and f cancels out; large ones must not overflow.
    scale = ops.max(ops.abs(weights), axis=axes, keepdims=True)
    scale = ops.where(scale > 0, scale, 1.0)
    weights, values = weights / scale, values / scale

    toward = -ops.sign(weights) * ops.sign(values)
    room = ops.maximum(ops.where(toward > 0, high - points, points - low), 0.0)
    speeds = geometry.get_norm(norm).speeds(weights)
    steepness = ops.abs(weights)

    def moved(time: Any) -> Any:
        return ops.minimum(time * speeds, room)

    def newton(time: Any, going_on: Any) -> tuple[Any, Any]:
        del going_on
        missing = ops.abs(values) - ops.sum(
            steepness * moved(time), axis=axes, keepdims=True
        )
        free = ops.cast(time * speeds < room, points.dtype)
        slope = ops.sum(free * steepness * speeds, axis=axes, keepdims=True)
        blocked = slope <= 0.0
        step = ops.where(blocked, 0.0, missing / ops.where(blocked, 1.0, slope))
        later = ops.maximum(time + step, time)
        return later, ops.any(later > time * (1.0 + 1e-6))

    start = ops.zeros_like(values)
    time, _ = ops.while_loop(
        lambda time, going_on: going_on,
        newton,
        (start, ops.convert_to_tensor(True)),
        maximum_iterations=_MOST_ITERATIONS,
    )
    # Where nothing is free any more, every pixel is at the edge.
    return toward * moved(time)
