"""What an attack adds to images, and what models then see."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.labels import check_classes, class_numbers
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.readings import mark, prediction, probabilities
from keras_free_adv.plotting.style import (
    TEXT,
    fitted,
    new_figure,
    show_image,
    to_unit_range,
)


def plot_adversarial_examples(
    model: keras.Model | dict[str, keras.Model],
    images: Any,
    labels: Any,
    attack: Attack,
    *,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws images, what an attack adds to them, and what the model then sees.

    The first row holds the clean images. For each model follow the perturbation,
    enlarged to the full gray scale (the factor is written beside it), and the
    adversarial image. Above the perturbation stands what the model makes of the clean
    image, above the adversarial image what it makes of that, each with its
    probability. Where the attack reached its aim (another class than the label; the
    label, if the attack is targeted), a cross and a thick frame say so.

    Args:
        model: a classifier, or a dict of name to classifier, drawn below each other.
        images: `[B, height, width, 1 or 3]`, on the `value_range` of the attack, or of
            the models if it has none; one column each.
        labels: class numbers `[B]`, or one-hot rows: the images' classes, or the
            classes to reach, if the attack is targeted.
        attack: the attack, such as `PGDAttack(epsilon=8 / 255)`.
        class_names: names of the classes; their numbers by default.

    Returns:
        A matplotlib figure.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(4, 8, 8, 1).astype("float32")
    >>> figure = plot_adversarial_examples(
    ...     network, images, np.array([0, 1, 2, 0]), PGDAttack(epsilon=0.1, steps=2))
    >>> len(figure.axes)
    12
    """
    single = isinstance(model, keras.Model)
    models = checks.named_models("model", {"": model} if single else model)
    if not isinstance(attack, Attack):
        raise TypeError(
            "Argument `attack` must be an attack, such as PGDAttack(epsilon=8 / 255). "
            f"Received: {type(attack).__name__}."
        )
    images, labels = checks.labelled_images(images, labels, models)
    value_range = checks.value_range_of(attack, models)
    validation.pixels_in_range("images", images, value_range)
    names = checks.class_names(class_names, models)
    for network in models.values():
        check_classes(labels, attack.view_of(network, images).classes)
    given = np.asarray(class_numbers(labels))

    columns, rows = len(images), 1 + 2 * len(models)
    figure = new_figure(1.5 * columns + 1.2, 1.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, image, label in zip(axes[0], images, given, strict=True):
        show_image(axis, to_unit_range(image, value_range))
        aim = "→ " if attack.targeted else ""
        axis.set_title(aim + checks.name_of(label, names), fontsize=TEXT)
    axes[0][0].set_ylabel(
        "image,\n→ aim" if attack.targeted else "image", fontsize=TEXT
    )
    for number, (title, network) in enumerate(models.items()):
        adversarial = np.asarray(attack(images, labels, model=network))
        above, below = axes[1 + 2 * number], axes[2 + 2 * number]
        _show_perturbations(above, adversarial - images, attack, value_range)
        _show_results(below, adversarial, value_range)
        below[0].set_ylabel(
            fitted(f"{title or 'the model'} sees", 1.4),
            fontsize=TEXT,
            fontweight="bold",
        )
        before = probabilities(network, attack, images)
        after = probabilities(network, attack, adversarial)
        for column in range(columns):
            was, _ = prediction(before[column], names)
            sees, predicted = prediction(after[column], names)
            above[column].set_title(f"was {was}", fontsize=TEXT)
            reached = (predicted == given[column]) == attack.targeted
            mark(below[column], sees, reached)
    return figure


def _show_perturbations(
    axes: Sequence[Axes],
    perturbations: np.ndarray,
    attack: Attack,
    value_range: tuple[float, float],
) -> None:
    low, high = value_range
    largest = float(np.abs(perturbations).max()) or 1.0
    for axis, perturbation in zip(axes, perturbations, strict=True):
        show_image(axis, 0.5 + 0.5 * perturbation / largest)
    factor = 0.5 * (high - low) / largest
    axes[0].set_ylabel(
        f"perturbation\n× {factor:.3g}\n(ε = {attack.epsilon:.3g})", fontsize=TEXT
    )


def _show_results(
    axes: Sequence[Axes], images: np.ndarray, value_range: tuple[float, float]
) -> None:
    for axis, image in zip(axes, images, strict=True):
        show_image(axis, to_unit_range(image, value_range))
