"""Draws images that a targeted attack of large epsilon leads to another class."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops
from matplotlib.figure import Figure

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.readings import Reading, mark, truth_in_words
from keras_free_adv.plotting.style import (
    TEXT,
    TITLE,
    fitted,
    new_figure,
    show_image,
    to_unit_range,
)


def plot_large_epsilon(
    models: Mapping[str, keras.Model],
    images: Any,
    targets: Any,
    attack: Attack,
    *,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws images, and what a targeted attack of large epsilon makes of them.

    Each row is an image: the clean one, with the class to reach beside it, then one
    result for each model, with its prediction and probability above. A cross and a
    thick frame mark a successful attack. For a robust model the result must look like
    the class to reach; for a natural model, noise is enough.

    Reference: Shafahi et al. (2019), for Free and 7-PGD models; Tsipras et al.,
    "Robustness May Be at Odds with Accuracy", ICLR 2019.

    Args:
        models: name to classifier.
        images: `[B, height, width, 1 or 3]`, on the `value_range` of the attack, or of
            the models if it has none.
        targets: the classes to reach: numbers `[B]`, or one-hot rows.
        attack: a targeted attack of many steps, such as
            `PGDAttack(30 / 255, steps=100, targeted=True)`.
        class_names: names of the classes; their numbers by default.

    Returns:
        A matplotlib figure.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(2, 8, 8, 1).astype("float32")
    >>> attack = PGDAttack(epsilon=0.4, steps=5, targeted=True)
    >>> figure = plot_large_epsilon({"natural": network}, images, [0, 2], attack)
    >>> [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    ['→ 0', '→ 2']
    """
    models = checks.named_models("models", models)
    if not isinstance(attack, Attack) or not attack.targeted:
        what = "targeted=False" if isinstance(attack, Attack) else type(attack).__name__
        raise ValueError(
            "Argument `attack` must be a targeted attack, such as PGDAttack(30 / 255, "
            f"steps=100, targeted=True). Received: {what}."
        )
    images, targets = checks.labelled_images(images, targets, models, "targets")
    value_range = checks.value_range_of(attack, models)
    validation.pixels_in_range("images", images, value_range)
    names = checks.class_names(class_names, models)
    views, aims = checks.views_of(attack, models, images, targets, "targets")

    rows, columns = len(images), 1 + len(models)
    figure = new_figure(2.1 * columns + 0.6, 2.3 * rows + 1.0)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, image, target in zip(axes[:, 0], images, aims, strict=True):
        show_image(axis, to_unit_range(image, value_range))
        axis.set_ylabel(f"→ {truth_in_words(target, names)}", fontsize=TITLE)
    axes[0][0].set_title("image", fontsize=TEXT)
    for column, (name, model) in enumerate(models.items(), start=1):
        adversarial = ops.convert_to_numpy(attack(images, targets, model=model))
        reading = Reading(model, views[name], adversarial)
        reached = reading.is_right(targets)
        for row, axis in enumerate(axes[:, column]):
            show_image(axis, to_unit_range(adversarial[row], value_range))
            mark(axis, reading.in_words(row, names), reached=bool(reached[row]))
        axes[-1][column].set_xlabel(fitted(name, 1.9), fontsize=TITLE)
    axes[-1][0].set_xlabel(f"ε = {attack.epsilon:.3g}\n({attack.norm})", fontsize=TEXT)
    return figure
