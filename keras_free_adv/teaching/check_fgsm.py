"""Checks a student's FGSM against the library's."""

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
from keras_free_adv.teaching.attacked_example import attacked_example
from keras_free_adv.teaching.verdict import Verdict, name_of, verdict_on

_EPSILON = 0.0625


def check_fgsm(fgsm: Callable[..., Any]) -> Verdict:
    """Checks the fast gradient sign method (Goodfellow et al. 2015).

        fgsm(images, labels, epsilon, loss_and_gradient) -> adversarial images

    It is compared with `PGDAttack(epsilon, steps=1, step_size=epsilon,
    random_start=False)` on a small network. Pixels are in [0, 1].

    Args:
        fgsm: the student's function, of NumPy arrays; `loss_and_gradient(images,
            labels)` gives it the losses `[B]` and the gradients `[B, ...]`.

    Returns:
        A verdict.

    Example:
    >>> def fgsm(images, labels, epsilon, loss_and_gradient):
    ...     _, gradient = loss_and_gradient(images, labels)
    ...     return np.clip(images - epsilon * np.sign(gradient), 0, 1)
    >>> print(check_fgsm(fgsm))
    fgsm: not yet
      - It goes downhill, to a lower loss: an attack adds the step.
    """
    return verdict_on(name_of(fgsm, "fgsm"), lambda: _findings(fgsm))


def _findings(fgsm: Callable[..., Any]) -> Iterator[str]:
    example = attacked_example()
    images, labels, recorded = example.images, example.labels, example.recorded()
    given = images.copy()
    returned = fgsm(given, labels.copy(), _EPSILON, recorded)
    yield from changed_in_place(images, given, "images")
    result = as_array(returned, images, "the adversarial images")
    if not recorded.points:
        yield "It never asks for the gradient: call loss_and_gradient(images, labels)."
        return
    if len(recorded.points) > 1:
        yield (
            f"It asks for the gradient {len(recorded.points)} times; FGSM is one step, "
            "from one gradient."
        )
    if not alike(recorded.points[0], images):
        yield "It asks for the gradient elsewhere than at the clean images."
        return
    attack = PGDAttack(
        _EPSILON, steps=1, step_size=_EPSILON, random_start=False, keep="last", seed=0
    )
    expected = ops.convert_to_numpy(attack(images, labels, model=example.network))
    gradient = recorded.gradients[0]
    # Where it is next to zero, its sign is a matter of rounding.
    size = np.abs(gradient)
    sure = size > 1e-4 * size.max(axis=(1, 2, 3), keepdims=True)
    result, expected = (np.where(sure, a, images) for a in (result, expected))
    if not alike(result, expected):
        found = list(outside(result, images, _EPSILON, "It returns images"))
        mistakes = [
            Mistake(np.where(sure, mistake.result, images), mistake.text)
            for mistake in _mistakes(images, gradient)
        ]
        if found:
            # A known mistake says more than its consequence.
            known = [m.text for m in mistakes if alike(result, m.result, 0.99)]
            yield from known[:1] or found
        else:
            yield explain(result, expected, mistakes)


def _mistakes(images: np.ndarray, gradient: np.ndarray) -> list[Mistake]:
    sign = np.sign(gradient)
    without_sign = "It steps along the gradient itself, {}; FGSM takes its *sign*."
    length = np.sqrt(np.square(gradient).sum(axis=(1, 2, 3), keepdims=True))
    return [
        Mistake(
            (images - _EPSILON * sign).clip(0, 1),
            "It goes downhill, to a lower loss: an attack adds the step.",
        ),
        Mistake(images, "It returns the images as they were."),
        Mistake(
            _EPSILON * sign,
            "It returns the perturbation, not the images: add the images to it.",
        ),
        Mistake(
            images + _EPSILON * sign,
            "It leaves the pixel range: clip what you return to [0, 1].",
        ),
        Mistake(
            (images + _EPSILON * gradient).clip(0, 1),
            without_sign.format("so that each pixel moves by another length"),
        ),
        Mistake(
            (images + gradient).clip(0, 1),
            without_sign.format("and without epsilon"),
        ),
        Mistake(
            (images + sign).clip(0, 1), "It steps by 1: multiply the sign by epsilon."
        ),
        Mistake(
            (images + _EPSILON * gradient / length).clip(0, 1),
            "It steps along the gradient divided by its length, which is the way of "
            "the L2 ball; in L-infinity it is the sign.",
        ),
    ]
