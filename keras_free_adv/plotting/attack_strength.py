"""Draws robust accuracy against the steps and restarts of PGD."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from keras_free_adv import pixel_scale, validation
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.evaluation.evaluate_robustness import evaluate_robustness
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.accuracy_curves import (
    Curve,
    Failure,
    check_does_not_rise,
    draw_curves,
    with_changes,
    write_failures,
)
from keras_free_adv.plotting.style import new_figure, scale_of

# As in the paper's tables.
_STEPS_PER_RESTART = 20


def plot_attack_strength(
    models: Mapping[str, keras.Model],
    data: Any,
    epsilon: float,
    *,
    steps: Sequence[int] = (1, 2, 5, 10, 20, 50),
    restarts: Sequence[int] = (1, 2, 5, 10),
    norm: str = "linf",
    value_range: tuple[float, float] | None = None,
    from_logits: bool | str = "auto",
    seed: int = 0,
    batch_size: int | None = None,
    max_examples: int | None = None,
    verbose: Any = "auto",
) -> Figure:
    """Measures and draws robust accuracy against PGD's steps, and its restarts.

    A robust accuracy is credible once both curves are level: more effort then finds no
    more adversarial examples. If a curve rises beyond the intervals, the attack fails:
    a ring marks the point, and a sentence below the picture says so.

    Reference: Carlini et al., "On Evaluating Adversarial Robustness" (2019), for the
    checks; Shafahi et al. (2019), table 1, for 20 steps and 10 restarts.

    Args:
        models: name to classifier, one curve each.
        data: (images, labels), or a dataset of minibatches; see `evaluate_robustness`.
        epsilon: radius of the ball, on the pixel scale.
        steps: numbers of steps, on the left; a step is 2.5 * epsilon / steps long, and
            at most epsilon.
        restarts: numbers of random starts, on the right, of 20 steps each.
        norm: "linf" or "l2", per example.
        value_range: lowest and highest pixel value; None for that of the models, which
            must be one; see `keras_free_adv.pixel_scale`.
        from_logits: whether the models return logits; "auto" looks through a final
            softmax, and otherwise decides from the outputs.
        seed: seed of the random starts.
        batch_size: examples in a minibatch; see `evaluate_robustness`.
        max_examples: evaluate the first so many examples only.
        verbose: 0 for silence, 1 for a progress bar a model; "auto" is 1.

    Returns:
        A matplotlib figure.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(20, 4, 4, 1).astype("float32")
    >>> labels = np.random.randint(0, 3, 20)
    >>> figure = plot_attack_strength({"natural": network}, (images, labels), 0.1,
    ...                               steps=[1, 5], restarts=[1, 2], verbose=0)
    >>> [axis.get_xlabel() for axis in figure.axes]
    ['steps', 'restarts of 20 steps']
    """
    models = checks.named_models("models", models)
    value_range = pixel_scale.resolve_for_all(value_range, models)
    efforts = {
        "steps": _checked_numbers("steps", steps),
        "restarts": _checked_numbers("restarts", restarts),
    }
    attack = PGDAttack(
        epsilon,
        steps=_STEPS_PER_RESTART,
        norm=norm,
        value_range=value_range,
        from_logits=from_logits,
        seed=seed,
    )
    attacks = {
        kind: {n: with_changes(attack, name=None, **{kind: n}) for n in numbers}
        for kind, numbers in efforts.items()
    }
    distinct = {a.name: a for several in attacks.values() for a in several.values()}
    reports = {
        name: evaluate_robustness(
            model,
            data,
            list(distinct.values()),
            batch_size=batch_size,
            max_examples=max_examples,
            verbose=verbose,
        )
        for name, model in models.items()
    }
    figure = new_figure(12, 5.5)
    failed: list[Failure] = []
    title = f"PGD, ε = {attack.epsilon:.3g} ({norm}), {scale_of(value_range)}"
    labels = {
        "steps": "steps",
        "restarts": f"restarts of {_STEPS_PER_RESTART} steps",
    }
    axes = figure.subplots(1, 2)
    for axis, (kind, several) in zip(axes, attacks.items(), strict=True):
        names = {number: a.name for number, a in several.items()}
        curves = {name: Curve.of(report, names) for name, report in reports.items()}
        failures = {
            name: check_does_not_rise(name, c, f"{kind} =")
            for name, c in curves.items()
        }
        draw_curves(axis, curves, failures, labels[kind], title)
        _space_evenly(axis, efforts[kind])
        failed += [failure for found in failures.values() for failure in found]
    write_failures(figure, failed)
    return figure


def _checked_numbers(name: str, numbers: Any) -> list[int]:
    if isinstance(numbers, np.ndarray):
        numbers = numbers.tolist()
    if not isinstance(numbers, (list, tuple, range)) or not len(numbers):
        raise TypeError(
            f"Argument `{name}` must be a list of at least one whole number. "
            f"Received: {name}={numbers!r}."
        )
    return sorted({validation.positive_integer(name, number) for number in numbers})


def _space_evenly(axis: Axes, numbers: Sequence[int]) -> None:
    """Makes the axis logarithmic, with a tick at each measured number."""
    axis.set_xscale("log")
    axis.set_xticks(list(numbers))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
