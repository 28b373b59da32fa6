"""The way an attack took, read from where it asked for gradients."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_free_adv.attacks.projected_ascent import ascend_inside
from keras_free_adv.teaching.arrays import ROUNDING, alike
from keras_free_adv.teaching.loss_and_gradient import RecordedGradients


class GradientQuery(NamedTuple):
    """One question of an attack, and the answer.

    Attributes:
        point: where it asked, `[B, ...]`.
        loss: `[B]`.
        gradient: `[B, ...]`.
    """

    point: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray


class Ball(NamedTuple):
    """Around what, how far, and in which steps.

    Attributes:
        images: the clean images, `[B, ...]`, pixels in [0, 1].
        epsilon: radius of the L-infinity ball.
        step_size: length of a step.
    """

    images: np.ndarray
    epsilon: float
    step_size: float

    def next(self, look: GradientQuery) -> np.ndarray:
        """Where the library's step goes from there."""
        return np.asarray(
            ascend_inside(
                look.point,
                self.images,
                look.gradient,
                step_size=self.step_size,
                epsilon=self.epsilon,
                norm="linf",
                value_range=(0.0, 1.0),
            )
        )

    def leads_to(self, look: GradientQuery, point: np.ndarray) -> bool:
        """Whether a right step goes from there to `point`.

        An attack may keep a perturbation that reaches beyond the pixel range, and clip
        what it shows the network. A pixel at an end of the range may then stay there.
        """
        expected = self.next(look)
        low, high = np.minimum(look.point, expected), np.maximum(look.point, expected)
        between = (point >= low - ROUNDING) & (point <= high + ROUNDING)
        at_an_end = (look.point <= 0) | (look.point >= 1)
        return bool(
            np.all((np.abs(point - expected) <= ROUNDING) | (at_an_end & between))
        )


def climbs(looks: RecordedGradients, ball: Ball) -> list[list[GradientQuery]]:
    """Cuts what was asked into climbs, one for each start.

    A question about the clean images that no step follows is no climb, and one that
    was asked before within a climb is left out.
    """
    found: list[list[GradientQuery]] = []
    for look in _each(looks):
        if found and any(alike(look.point, seen.point) for seen in found[-1]):
            continue
        if found and ball.leads_to(found[-1][-1], look.point):
            found[-1].append(look)
        else:
            found.append([look])
    return [climb for climb in found if not _is_clean(climb, ball)] or found


def _each(looks: RecordedGradients) -> Iterator[GradientQuery]:
    for seen in zip(looks.points, looks.losses, looks.gradients, strict=True):
        yield GradientQuery(*seen)


def _is_clean(climb: Sequence[GradientQuery], ball: Ball) -> bool:
    return len(climb) == 1 and alike(climb[0].point, ball.images)
