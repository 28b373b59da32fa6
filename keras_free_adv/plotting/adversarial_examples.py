"""What an attack adds to images, and what models then see."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.labels import class_numbers

_RIGHT, _WRONG = "#1b7837", "#b2182b"


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
    adversarial image with the predicted class and its probability; a misclassified
    one is marked by a cross and a thick frame.

    Args:
        model: a classifier, or a dict of name to classifier, drawn below each other.
        images: `[B, height, width, 1 or 3]`, on the attack's `value_range`; one column
            each.
        labels: class numbers `[B]`, or one-hot rows.
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
    models = model if isinstance(model, dict) else {"": model}
    if not models:
        raise ValueError("Argument `model` is an empty dict. Pass at least one model.")
    if not isinstance(attack, Attack):
        raise TypeError(
            "Argument `attack` must be an attack, such as PGDAttack(epsilon=8 / 255). "
            f"Received: {type(attack).__name__}."
        )
    images, labels = _checked(images, labels)
    truth = np.asarray(class_numbers(labels))
    names = _checked_names(class_names, models)

    columns, rows = len(images), 1 + 2 * len(models)
    figure = Figure(figsize=(1.5 * columns + 1.2, 1.75 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    low, high = attack.value_range
    for axis, image, label in zip(axes[0], images, truth, strict=True):
        _show(axis, (image - low) / (high - low))
        axis.set_title(_name(label, names), fontsize=12)
    axes[0][0].set_ylabel("image", fontsize=12)

    for number, (title, network) in enumerate(models.items()):
        adversarial = np.asarray(attack(images, labels, model=network))
        probabilities = _probabilities(network, attack, adversarial)
        perturbation = adversarial - images
        largest = float(np.abs(perturbation).max()) or 1.0
        above, below = axes[1 + 2 * number], axes[2 + 2 * number]
        for column in range(columns):
            _show(above[column], 0.5 + 0.5 * perturbation[column] / largest)
            _show(below[column], (adversarial[column] - low) / (high - low))
            predicted = int(probabilities[column].argmax())
            fooled = predicted != truth[column]
            color = _WRONG if fooled else _RIGHT
            below[column].set_title(
                f"{'✗' if fooled else '✓'} {_name(predicted, names)}, "
                f"{probabilities[column].max():.0%}",
                fontsize=12,
                color=color,
            )
            for side in below[column].spines.values():
                side.set(visible=True, color=color, linewidth=3 if fooled else 1)
        factor = 0.5 * (high - low) / largest
        above[0].set_ylabel(f"perturbation\n× {factor:.3g}", fontsize=12)
        below[0].set_ylabel(f"{title}\nsees".strip(), fontsize=12, fontweight="bold")
    return figure


def _checked(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    images = validation.image_array("images", images).astype("float32")
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(
            "Argument `images` must have shape (batch, height, width, 1 or 3), with "
            f"one image at least. Received: shape {images.shape}."
        )
    labels = np.asarray(validation.array_or_tensor("labels", labels))
    if labels.shape[:1] != (len(images),):
        raise ValueError(
            "Arguments `images` and `labels` must hold the same number of examples. "
            f"Received: shapes {images.shape} and {labels.shape}."
        )
    return images, labels


def _checked_names(names: Any, models: dict[str, keras.Model]) -> list[str] | None:
    if names is None:
        return None
    if not isinstance(names, (list, tuple)):
        raise TypeError(
            "Argument `class_names` must be a list with a name for each class. "
            f"Received: class_names={names!r}."
        )
    shapes = [getattr(model, "output_shape", None) for model in models.values()]
    units = [shape[-1] for shape in shapes if isinstance(shape, tuple)]
    classes = max((2 if n == 1 else n for n in units if n), default=0)
    if len(names) < classes:
        raise ValueError(
            f"Argument `class_names` must have a name for each of the {classes} "
            f"classes. Received: {len(names)} names."
        )
    return [str(name) for name in names]


def _probabilities(model: keras.Model, attack: Attack, images: np.ndarray) -> Any:
    view = attack.view_of(model, images)
    outputs = model(images, training=False)
    return np.asarray(keras.ops.softmax(view(outputs), axis=-1))


def _show(axis: Axes, image: np.ndarray) -> None:
    """Draws one image, values in [0, 1], gray if it has one channel."""
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    axis.imshow(np.clip(image, 0.0, 1.0), interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)


def _name(label: int, names: list[str] | None) -> str:
    return names[label] if names else str(label)
