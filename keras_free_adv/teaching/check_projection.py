"""Checks a student's projection on the ball and the pixel range."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras.ops import convert_to_numpy, convert_to_tensor

from keras_free_adv.geometry import Ball
from keras_free_adv.teaching.arrays import (
    ROUNDING,
    Mistake,
    alike,
    as_array,
    changed_in_place,
    explain,
    outside,
)
from keras_free_adv.teaching.verdict import Verdict, name_of, verdict_on

_EPSILON = 0.125


def check_projection(project: Callable[..., Any]) -> Verdict:
    """Checks a projection on the L-infinity ball and the pixel range.

        project(points, images, epsilon) -> the nearest points of the ball around the
                                            images whose pixels are in [0, 1]

    It is compared with `keras_free_adv.geometry.Ball.keep_inside`, at points inside, on
    the edge and outside.

    Args:
        project: the student's function, of NumPy arrays `[B, ...]`, float32.

    Returns:
        A verdict.

    Example:
    >>> def project(points, images, epsilon):
    ...     return images + np.clip(points - images, -epsilon, epsilon)
    >>> print(check_projection(project))
    project: not yet
      - It returns points outside the pixel range: a pixel is 1.125. Clip to [0, 1]:
        no camera takes such an image.
    """
    return verdict_on(name_of(project, "projection"), lambda: _findings(project))


def _findings(project: Callable[..., Any]) -> Iterator[str]:
    images, points = _example()
    ball = Ball(_EPSILON, "linf", (0.0, 1.0))
    nearest = ball.keep_inside(convert_to_tensor(points), convert_to_tensor(images))
    expected = convert_to_numpy(nearest)
    given = points.copy(), images.copy()
    returned = project(*given, _EPSILON)
    yield from changed_in_place(points, given[0], "points")
    yield from changed_in_place(images, given[1], "images")
    result = as_array(returned, points, "the projected points")
    if alike(result, expected):
        return
    for mistake in _mistakes(points, images, expected):
        if alike(result, mistake.result):
            yield mistake.text
            return
    found = list(outside(result, images, _EPSILON, "It returns points"))
    yield from found
    if found:
        return
    was_inside = np.all(points == expected, axis=(1, 2, 3))
    moved = np.abs(result - points)[was_inside].max()
    if moved > ROUNDING:
        yield (
            f"It moves points that were inside already, by {moved:.4g}: their "
            "projection is the points themselves."
        )
    else:
        yield "It returns points inside, but not the nearest ones. " + explain(
            result, expected, []
        )


def _example() -> tuple[np.ndarray, np.ndarray]:
    """Images, and points: inside for the first two images, anywhere for the others."""
    random = np.random.default_rng(0)
    images = random.uniform(0, 1, (8, 4, 4, 1)).astype("float32")
    images[2:, 0] = 0.0
    images[2:, 1] = 1.0
    deltas = random.uniform(-4 * _EPSILON, 4 * _EPSILON, images.shape)
    deltas[:2] /= 8
    deltas[3] = _EPSILON * np.sign(deltas[3])  # on the edge
    points = (images + deltas).astype("float32")
    points[:2] = points[:2].clip(0, 1)
    return images, points


def _mistakes(
    points: np.ndarray, images: np.ndarray, expected: np.ndarray
) -> list[Mistake]:
    delta = points - images
    longest = np.abs(delta).max(axis=(1, 2, 3), keepdims=True)
    shortened = delta * np.minimum(1, _EPSILON / np.maximum(longest, 1e-12))
    length = np.sqrt(np.square(delta).sum(axis=(1, 2, 3), keepdims=True))
    in_l2 = delta * np.minimum(1, _EPSILON / np.maximum(length, 1e-12))
    add = "It returns the perturbation, not the points: add the images to it again."
    by_itself = "in L-infinity each pixel is clipped by itself."
    return [
        Mistake(delta.clip(-_EPSILON, _EPSILON), add),
        Mistake(expected - images, add),
        Mistake(points, "It returns the points as they were."),
        Mistake(
            (images + shortened).clip(0, 1),
            "It shortens the whole perturbation until its largest pixel fits; "
            f"{by_itself}",
        ),
        Mistake(
            (images + in_l2).clip(0, 1),
            "It projects on the L2 ball, which bounds the Euclidean length of the "
            f"perturbation; {by_itself}",
        ),
    ]
