"""The climbs of an attack, reconstructed from its calls of `loss_and_gradient`."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras.ops import convert_to_numpy, convert_to_tensor

from keras_free_adv.geometry import Ball
from keras_free_adv.teaching.arrays import ROUNDING, alike
from keras_free_adv.teaching.loss_and_gradient import RecordedGradients


class GradientQuery(NamedTuple):
    """One call of `loss_and_gradient`.

    Attributes:
        point: the images, `[B, ...]`.
        loss: `[B]`.
        gradient: `[B, ...]`.
    """

    point: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray


class StepSetting(NamedTuple):
    """The ball around clean images, and the length of a step in it.

    Attributes:
        images: the clean images, `[B, ...]`, pixels in [0, 1].
        epsilon: radius of the L-infinity ball.
        step_size: length of a step.
    """

    images: np.ndarray
    epsilon: float
    step_size: float

    def next_point(self, query: GradientQuery) -> np.ndarray:
        """The point after one step of the library."""
        ball = Ball(self.epsilon, "linf", (0.0, 1.0))
        given = (query.point, self.images, query.gradient)
        point, images, gradient = map(convert_to_tensor, given)
        moved = ball.climb(point, images, gradient, self.step_size)
        return convert_to_numpy(moved)

    def leads_to(self, query: GradientQuery, point: np.ndarray) -> bool:
        """Whether a correct step goes from the query's point to `point`.

        An attack may keep a perturbation beyond the pixel range, and clip the network's
        input. A pixel at an end of the range may then stay there.
        """
        expected = self.next_point(query)
        low, high = np.minimum(query.point, expected), np.maximum(query.point, expected)
        between = (point >= low - ROUNDING) & (point <= high + ROUNDING)
        at_an_end = (query.point <= 0) | (query.point >= 1)
        return bool(
            np.all((np.abs(point - expected) <= ROUNDING) | (at_an_end & between))
        )


def split_into_climbs(
    recorded: RecordedGradients, setting: StepSetting
) -> list[list[GradientQuery]]:
    """Splits the recorded calls into climbs, one for each start.

    A call with the clean images that no step follows is not a climb; a call repeated
    within a climb is left out.
    """
    found: list[list[GradientQuery]] = []
    calls = zip(recorded.points, recorded.losses, recorded.gradients, strict=True)
    for query in itertools.starmap(GradientQuery, calls):
        if found and any(alike(query.point, seen.point) for seen in found[-1]):
            continue
        if found and setting.leads_to(found[-1][-1], query.point):
            found[-1].append(query)
        else:
            found.append([query])
    return [climb for climb in found if not _is_clean(climb, setting)] or found


def _is_clean(climb: Sequence[GradientQuery], setting: StepSetting) -> bool:
    return len(climb) == 1 and alike(climb[0].point, setting.images)
