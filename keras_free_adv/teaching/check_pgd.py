"""Checks the start, the steps and the restarts of a student's PGD."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.teaching.arrays import (
    Mistake,
    alike,
    as_array,
    changed_in_place,
    explain,
    outside,
)
from keras_free_adv.teaching.attacked_example import AttackedExample, attacked_example
from keras_free_adv.teaching.climb import GradientQuery, StepSetting, split_into_climbs
from keras_free_adv.teaching.loss_and_gradient import RecordedGradients
from keras_free_adv.teaching.verdict import Verdict, name_of, verdict_on

_EPSILON, _STEPS, _RESTARTS = 0.125, 4, 3
_STEP_SIZE = _EPSILON / 4
# The restart with the largest mean loss is then neither the first nor the last.
_SEED = 6


def check_pgd(pgd: Callable[..., Any]) -> Verdict:
    """Checks projected gradient descent (Madry et al. 2018), with restarts.

        pgd(images, labels, epsilon, loss_and_gradient,
            steps=, step_size=, restarts=, random=) -> adversarial images

    From a point drawn uniformly from the ball, `steps` steps along the sign of the
    gradient, each projected on the ball and on the pixel range [0, 1]; all of it
    `restarts` times; the result is, for each example, the last iterate of largest loss.
    Every step is compared with the library's, and the result with `PGDAttack` on a
    linear network, where all starts lead to one image.

    Args:
        pgd: the student's function, of NumPy arrays; `random` is a
            `numpy.random.Generator`, `loss_and_gradient(images, labels)` gives the
            losses `[B]` and the gradients `[B, ...]`.

    Returns:
        A verdict.

    Example:
    >>> def pgd(images, labels, epsilon, loss_and_gradient, steps, step_size, restarts,
    ...         random):
    ...     points = images
    ...     for _ in range(steps):
    ...         _, gradient = loss_and_gradient(points, labels)
    ...         points = points + step_size * np.sign(gradient)
    ...         points = np.clip(points, images - epsilon, images + epsilon).clip(0, 1)
    ...     return points
    >>> print(check_pgd(pgd))
    pgd: not yet
      - It starts at the clean images: add noise, drawn uniformly from [-epsilon,
        epsilon] for each pixel by `random`, and clip to [0, 1].
    """
    return verdict_on(name_of(pgd, "pgd"), lambda: _findings(pgd))


def _findings(pgd: Callable[..., Any]) -> Iterator[str]:
    # A mistake of one climb would be found again in several.
    for check in (_check_one_climb, _check_restarts, _check_result):
        found = list(check(pgd))
        if found:
            yield from found
            return


def _run(
    pgd: Callable[..., Any], example: AttackedExample, steps: int, restarts: int
) -> tuple[RecordedGradients, np.ndarray, list[str]]:
    """Returns the recorded calls, the images returned, and findings."""
    recorded = example.recorded()
    given = example.images.copy()
    returned = pgd(
        given,
        example.labels.copy(),
        _EPSILON,
        recorded,
        steps=steps,
        step_size=_STEP_SIZE,
        restarts=restarts,
        random=np.random.default_rng(_SEED),
    )
    found = list(changed_in_place(example.images, given, "images"))
    return recorded, as_array(returned, given, "the adversarial images"), found


def _check_one_climb(pgd: Callable[..., Any]) -> Iterator[str]:
    example = attacked_example()
    recorded, result, found = _run(pgd, example, _STEPS, restarts=1)
    yield from found
    if not recorded.points:
        yield "It never asks for the gradient: call loss_and_gradient(images, labels)."
        return
    setting = StepSetting(example.images, _EPSILON, _STEP_SIZE)
    climbs = split_into_climbs(recorded, setting)
    yield from _check_start(climbs[0][0], example.images)
    climb = climbs[0]
    same = sum(alike(recorded.points[0], point) for point in recorded.points)
    if same >= _STEPS:
        yield (
            "It asks for the gradient at the same point in every step: ask anew, at "
            "the point that the last step led to."
        )
    elif len(climb) < _STEPS and len(climbs) > 1:
        yield _explain_step(climbs[1][0].point, climb, setting)
    elif len(climb) < _STEPS:
        yield f"It takes {len(climb)} of the {_STEPS} steps it was asked for."
    elif len(climb) > _STEPS + 1 or len(climbs) > 1:
        yield f"It takes more than the {_STEPS} steps it was asked for."
    elif alike(result, climb[_STEPS - 1].point):
        yield (
            f"It returns the point after {_STEPS - 1} of the {_STEPS} steps it was "
            "asked for."
        )
    elif not setting.leads_to(climb[_STEPS - 1], result):
        yield _explain_step(result, climb[:_STEPS], setting)


def _check_start(start: GradientQuery, images: np.ndarray) -> Iterator[str]:
    noise = (start.point - images) / _EPSILON
    found = list(outside(start.point, images, _EPSILON, "It starts at points"))
    yield from found
    if found:
        return
    # Clipping changes the noise of pixels near the ends of the range.
    middle = (images > _EPSILON) & (images < 1 - _EPSILON)
    if not np.abs(noise).max() > 1e-3:
        yield (
            "It starts at the clean images: add noise, drawn uniformly from [-epsilon, "
            "epsilon] for each pixel by `random`, and clip to [0, 1]."
        )
    elif abs(noise[middle].mean()) > 0.2:
        yield (
            f"Its start is {noise[middle].mean():+.2f} epsilon from the images on "
            "average: draw from [-epsilon, epsilon], not from [0, epsilon]."
        )
    elif np.all((np.abs(noise - _first(noise, middle)) < 1e-3) | ~middle):
        yield "All images get the same noise: draw noise of the shape of the images."
    elif abs(np.abs(noise[middle]).mean() - 0.5) > 0.1:
        yield (
            f"The noise of its start is {np.abs(noise[middle]).mean():.2f} epsilon on "
            "average, and would be 0.50 if it were uniform in [-epsilon, epsilon]."
        )


def _first(noise: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The noise of each pixel in the first image where it is not clipped."""
    return np.take_along_axis(noise, middle.argmax(axis=0)[np.newaxis], axis=0)


def _explain_step(
    point: np.ndarray, climb: list[GradientQuery], setting: StepSetting
) -> str:
    """Explains the step from the end of a climb to a point."""
    number = len(climb)
    text = explain(
        point, setting.next_point(climb[-1]), _mistakes(climb, setting), "it"
    )
    return f"Step {number}: {text}"


def _mistakes(climb: list[GradientQuery], setting: StepSetting) -> list[Mistake]:
    images, epsilon, step_size = setting
    point, _, gradient = climb[-1]
    sign = np.sign(gradient)
    along = step_size * sign

    def inside(points: np.ndarray) -> np.ndarray:
        return np.clip(points, images - epsilon, images + epsilon).clip(0, 1)

    into_ball = (
        "clip the difference from the clean images, not from the random start, to "
        "[-epsilon, epsilon]"
    )
    return [
        Mistake(inside(point - along), "it goes downhill: an attack adds the step."),
        Mistake(
            inside(point + step_size * gradient),
            "it goes along the gradient itself; in L-infinity it is the *sign*.",
        ),
        Mistake(
            inside(point + epsilon * sign),
            "it is epsilon long, not `step_size`.",
        ),
        Mistake(inside(point + sign), "it is 1 long: multiply by `step_size`."),
        Mistake(
            inside(images + along),
            "it begins at the clean images again: go on from the last point.",
        ),
        Mistake(
            (images + np.clip(point + along - images, -epsilon, epsilon)),
            "it leaves the pixel range: clip to [0, 1] after each step.",
        ),
        Mistake(
            (point + along).clip(0, 1),
            f"it leaves the ball: after each step {into_ball}.",
        ),
        Mistake(
            point + along,
            f"it is not projected: after each step {into_ball}, and the point to "
            "[0, 1].",
        ),
        Mistake(point, "it stays where it was."),
    ]


def _check_restarts(pgd: Callable[..., Any]) -> Iterator[str]:
    example = attacked_example()
    recorded, result, _ = _run(pgd, example, _STEPS, _RESTARTS)
    setting = StepSetting(example.images, _EPSILON, _STEP_SIZE)
    climbs = split_into_climbs(recorded, setting)
    starts = [climb[0].point for climb in climbs]
    if len(recorded.points) >= _STEPS * _RESTARTS and len(climbs) == 1:
        yield (
            "All restarts begin at the same point: draw new noise for each, and make "
            "no generator of your own."
        )
        return
    if any(alike(starts[0], other) for other in starts[1:]):
        yield "Several restarts begin at the same point: draw new noise for each."
        return
    if len(climbs) != _RESTARTS:
        yield f"It makes {len(climbs)} starts, and was asked for restarts={_RESTARTS}."
        return
    if any(len(climb) <= _STEPS for climb in climbs):
        yield (
            "It cannot know which restart ended at the largest loss: it does not ask "
            "for the loss after the last step."
        )
        return
    ends = np.stack([climb[_STEPS].point for climb in climbs])
    losses = np.stack([climb[_STEPS].loss for climb in climbs])
    expected = _pick(ends, losses.argmax(0))
    if alike(result, expected):
        return
    early = np.stack([climb[_STEPS - 1].loss for climb in climbs])
    count = losses.shape[1]
    worst_of_all = np.full(count, losses.mean(1).argmax())
    each = "keep, for each example, the end of largest loss"
    yield explain(
        result,
        expected,
        [
            Mistake(ends[-1], f"It keeps the last restart: {each}."),
            Mistake(ends[0], f"It keeps the first restart: {each}."),
            Mistake(
                _pick(ends, losses.argmin(0)),
                f"It keeps the end of *smallest* loss: {each}.",
            ),
            Mistake(
                _pick(ends, worst_of_all),
                "It keeps one restart for the whole minibatch, the one of largest mean "
                f"loss: {each}.",
            ),
            Mistake(
                _pick(ends, early.argmax(0)),
                "It compares the losses before the last step: ask again at the end.",
            ),
            Mistake(ends.mean(0), f"It returns the mean of the restarts: {each}."),
        ],
    )


def _pick(ends: np.ndarray, restarts: np.ndarray) -> np.ndarray:
    """Picks the end of one restart for each example, `[B, ...]`."""
    return ends[restarts, np.arange(len(restarts))]


def _check_result(pgd: Callable[..., Any]) -> Iterator[str]:
    example = attacked_example(linear=True)
    steps = 20
    _, result, _ = _run(pgd, example, steps, restarts=2)
    attack = PGDAttack(
        _EPSILON, steps=steps, step_size=_STEP_SIZE, restarts=2, keep="last", seed=0
    )
    expected = ops.convert_to_numpy(
        attack(example.images, example.labels, model=example.network)
    )
    if not alike(result, expected):
        yield (
            "On a linear network, where every start of PGD leads to one image, it "
            f"ends elsewhere than PGDAttack. {explain(result, expected, [])}"
        )
