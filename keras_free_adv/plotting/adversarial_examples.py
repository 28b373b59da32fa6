"""Draws adversarial examples, perturbations and predictions."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation.input_gradients import input_gradients
from keras_free_adv.evaluation.model_warnings import climbs_cross_entropy
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.readings import Reading, mark, truth_in_words
from keras_free_adv.plotting.style import (
    TEXT,
    fitted,
    new_figure,
    show_image,
    to_unit_range,
)
from keras_free_adv.predictions import Predictions


def plot_adversarial_examples(
    model: keras.Model | dict[str, keras.Model],
    images: Any,
    labels: Any,
    attack: Attack,
    *,
    class_names: Sequence[str] | None = None,
    perturbations: bool = True,
) -> Figure:
    """Draws clean images, perturbations, adversarial images and predictions.

    The first row shows the clean images. Two rows follow for each model: the
    perturbation, enlarged to the full gray scale by the factor written beside it, and
    the adversarial image. Where nothing was added, the perturbation reads "no gradient"
    if the gradient of the attack's loss is exactly zero (in float32, the
    cross-entropy's is if the model is very sure), else "no change". The title of the
    perturbation is the prediction for the clean image, that of the adversarial image
    the new prediction, each with its probability. A cross and a thick frame mark a
    successful attack: another class than the label, or, if it is targeted, the label.

    Args:
        model: a classifier, or a dict of name to classifier, drawn one below another.
        images: `[B, height, width, 1 or 3]`, on the `value_range` of the attack, or of
            the models if it has none; one column each.
        labels: class numbers `[B]`, or one-hot rows: the images' classes, or the
            classes to reach, if the attack is targeted; or rows of several labels.
        attack: the attack, such as `PGDAttack(epsilon=8 / 255)`.
        class_names: names of the classes; their numbers by default.
        perturbations: whether to draw them; without, one row follows for each model.

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
    attack = checks.attack(attack)
    images, labels = checks.labelled_images(images, labels, models)
    value_range = checks.value_range_of(attack, models)
    validation.pixels_in_range("images", images, value_range)
    names = checks.class_names(class_names, models)
    views, truth = checks.views_of(attack, models, images, labels)

    validation.boolean("perturbations", perturbations)

    each = 2 if perturbations else 1
    columns, rows = len(images), 1 + each * len(models)
    figure = new_figure(1.5 * columns + 1.2, 1.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, image, label in zip(axes[0], images, truth, strict=True):
        show_image(axis, to_unit_range(image, value_range))
        aim = "→ " if attack.targeted else ""
        axis.set_title(aim + truth_in_words(label, names), fontsize=TEXT)
    axes[0][0].set_ylabel(
        "image,\n→ aim" if attack.targeted else "image", fontsize=TEXT
    )
    for number, (title, network) in enumerate(models.items()):
        adversarial = ops.convert_to_numpy(attack(images, labels, model=network))
        view, below = views[title], axes[each * (number + 1)]
        if perturbations:
            above = axes[each * number + 1]
            found = adversarial - images
            _show_perturbations(above, found, attack, value_range)
            _mark_unchanged(above, found, network, view, attack, images, truth)
            before = Reading(network, view, images)
            for column, axis in enumerate(above):
                axis.set_title(f"was {before.in_words(column, names)}", fontsize=TEXT)
        name = fitted(f"{title or 'the model'} sees", 1.4)
        below[0].set_ylabel(name, fontsize=TEXT, fontweight="bold")
        after = Reading(network, view, adversarial)
        for column, right in enumerate(after.is_right(labels)):
            show_image(below[column], to_unit_range(adversarial[column], value_range))
            reached = bool(right) == attack.targeted
            mark(below[column], after.in_words(column, names), reached)
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


def _mark_unchanged(
    axes: Sequence[Axes],
    perturbations: np.ndarray,
    network: keras.Model,
    view: Predictions,
    attack: Attack,
    images: np.ndarray,
    truth: np.ndarray,
) -> None:
    """Writes on empty perturbations, which look like small ones: a gray square."""
    unchanged = np.flatnonzero(~perturbations.any(axis=(1, 2, 3)))
    if not len(unchanged):
        return
    flat = _have_no_gradient(network, view, attack, images[unchanged], truth[unchanged])
    for number, is_flat in zip(unchanged, flat, strict=True):
        axes[int(number)].text(
            0.5,
            0.5,
            "no\ngradient" if is_flat else "no\nchange",
            transform=axes[int(number)].transAxes,
            ha="center",
            va="center",
            fontsize=TEXT,
        )


def _have_no_gradient(
    network: keras.Model,
    view: Predictions,
    attack: Attack,
    images: np.ndarray,
    truth: np.ndarray,
) -> np.ndarray:
    """Whether the loss of a white-box attack has no gradient at each image, `[B]`."""
    white_box = [part for part in attack.parts() if part.white_box]
    if not white_box:
        return np.zeros(len(images), bool)
    alone = all(climbs_cross_entropy(part) for part in white_box)
    gradients = input_gradients(
        network,
        view,
        view.losses.cross_entropy if alone else view.losses.margin,
        images,
        truth,
        attack.graphs,
    )
    usable = np.isfinite(gradients).all((1, 2, 3)) & gradients.any((1, 2, 3))
    return ~usable
