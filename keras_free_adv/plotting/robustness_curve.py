"""Draws robust accuracy against the radius of the ball."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_free_adv import pixel_scale, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.data.labelled_batches import LabelledBatches
from keras_free_adv.evaluation.attack_warnings import share_of_range
from keras_free_adv.evaluation.checked_attacks import checked_attacks
from keras_free_adv.evaluation.evaluate_robustness import evaluate_robustness
from keras_free_adv.evaluation.robustness_report import NATURAL
from keras_free_adv.evaluation.setting_warnings import ROUNDING
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

# A ball of at least this share of the range contains uniform gray.
_GRAY_SHARE = 0.5


def plot_robustness_curve(
    models: Mapping[str, keras.Model],
    data: Any,
    epsilons: Sequence[float],
    *,
    attack: Attack | None = None,
    value_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    max_examples: int | None = None,
    verbose: Any = "auto",
    search_dtype: str = "float32",
) -> Figure:
    """Measures and draws robust accuracy against epsilon, with 95% intervals.

    Each point is one attack of `evaluate_robustness`; the point at epsilon 0 is natural
    accuracy. Each curve is checked twice. If a check fails, the attack is too weak: a
    ring marks the point, and a sentence below the picture says so.

    - The curve does not rise with epsilon, beyond the intervals.
    - Where the ball contains uniform gray (half of `value_range` in "linf"), every
      image can be made the same, so that at most the share of the most frequent class
      is left.

    Reference: Carlini et al., "On Evaluating Adversarial Robustness" (2019), for the
    checks.

    Args:
        models: name to classifier, one curve each.
        data: (images, labels), or a dataset of minibatches; see `evaluate_robustness`.
        epsilons: radii of the ball, on the pixel scale, in any order.
        attack: the attack; its epsilon and step size are scaled to each of `epsilons`.
            By default 20 steps of PGD, of epsilon / 4 each, that keep the best iterate,
            with seed 0.
        value_range: lowest and highest pixel value; None for that of the attack, or of
            the models, which must be one; see `keras_free_adv.pixel_scale`.
        batch_size: examples in a minibatch; see `evaluate_robustness`.
        max_examples: evaluate the first so many examples only.
        verbose: 0 for silence, 1 for a progress bar a model; "auto" is 1.
        search_dtype: what attacks search in; see `evaluate_robustness`.

    Returns:
        A matplotlib figure.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(20, 4, 4, 1).astype("float32")
    >>> labels = np.random.randint(0, 3, 20)
    >>> figure = plot_robustness_curve(
    ...     {"natural": network}, (images, labels), [0.05, 0.1], verbose=0)
    >>> figure.axes[0].lines[0].get_xdata().tolist()
    [0.0, 0.05, 0.1]
    """
    models = checks.named_models("models", models)
    if attack is None:
        value_range = pixel_scale.resolve_for_all(value_range, models)
        attack = _default_attack(value_range)
    else:
        if value_range is not None:
            validation.pixel_range(value_range)
        (attack,) = checked_attacks(checks.attack(attack))
        value_range = checks.value_range_of(attack, models)
    radii = _checked_epsilons(epsilons, attack, value_range)
    attacks = {
        epsilon: with_changes(
            attack, epsilon=epsilon, name=f"{attack.name}_epsilon_{epsilon!r}"
        )
        for epsilon in radii
    }
    most_frequent = _largest_shares(
        data, attacks, value_range, batch_size, max_examples
    )
    names = {0.0: NATURAL, **{epsilon: a.name for epsilon, a in attacks.items()}}
    curves, failures = {}, {}
    for name, model in models.items():
        report = evaluate_robustness(
            model,
            data,
            list(attacks.values()),
            batch_size=batch_size,
            max_examples=max_examples,
            verbose=verbose,
            search_dtype=search_dtype,
        )
        curves[name] = curve = Curve.of(report, names)
        failures[name] = check_does_not_rise(name, curve, "ε =")
        failures[name] += _check_falls(name, curve, most_frequent)
    figure = new_figure(8, 5.5)
    draw_curves(
        figure.subplots(),
        curves,
        failures,
        xlabel=f"ε ({attack.norm}), {scale_of(value_range)}",
        title=f"accuracy under {attack.name}, with 95% intervals",
    )
    write_failures(
        figure, [failure for several in failures.values() for failure in several]
    )
    return figure


def _default_attack(value_range: tuple[float, float]) -> PGDAttack:
    # Its epsilon is replaced. This one is the largest that is allowed.
    epsilon = value_range[1] - value_range[0]
    return PGDAttack(
        epsilon, steps=20, step_size=epsilon / 4, value_range=value_range, seed=0
    )


def _checked_epsilons(
    epsilons: Any, attack: Attack, value_range: tuple[float, float]
) -> list[float]:
    array = validation.as_array(validation.array_or_tensor("epsilons", epsilons))
    if array.ndim != 1 or not array.size:
        raise ValueError(
            "Argument `epsilons` must be a list of at least one number, such as "
            f"[4 / 255, 8 / 255, 16 / 255]. Received: shape {array.shape}."
        )
    radii = []
    for number in array.tolist():
        if validation.not_negative("epsilons", number) > 0:
            validation.ball_radius(number, value_range, attack.norm)
            radii.append(float(number))
    if not radii:
        raise ValueError(
            "Argument `epsilons` must hold a number above zero. Received: "
            f"epsilons={epsilons!r}."
        )
    return sorted(set(radii))


def _largest_shares(
    data: Any,
    attacks: Mapping[float, Attack],
    value_range: tuple[float, float],
    batch_size: int | None,
    max_examples: int | None,
) -> dict[float, float]:
    """The largest accuracy possible at each epsilon whose ball contains gray."""
    batches = LabelledBatches(
        data,
        batch_size=batch_size,
        max_examples=max_examples,
        value_range=value_range,
    )
    shape = next((images.shape[1:] for images, _ in batches), None)
    if shape is None:
        raise ValueError("Argument `data` holds no example. Pass at least one.")
    large = [
        epsilon
        for epsilon, attack in attacks.items()
        if share_of_range(attack, shape, value_range) >= _GRAY_SHARE - ROUNDING
    ]
    if not large:  # the labels need not be read
        return {}
    # The model predicts one class, or one set of labels, for the gray image.
    labels = np.concatenate([labels for _, labels in batches])
    counts = np.unique(labels, axis=0, return_counts=True)[1]
    return dict.fromkeys(large, float(counts.max() / len(labels)))


def _check_falls(
    name: str, curve: Curve, most_frequent: Mapping[float, float]
) -> list[Failure]:
    """Returns the failure of a curve that is higher than possible, or nothing."""
    for point, epsilon in enumerate(curve.at):
        share = most_frequent.get(float(epsilon))
        if share is not None and curve.low[point] > share:
            return [
                Failure(
                    point,
                    f"{name}: accuracy is {curve.accuracy[point]:.0%} at ε = "
                    f"{epsilon:g}, where every image can be made the same gray and "
                    f"{share:.0%} at most can be left: the attack fails.",
                )
            ]
    return []
