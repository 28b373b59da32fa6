"""Draws input gradients as images."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_free_adv import pixel_scale, validation
from keras_free_adv.evaluation.input_gradients import input_gradients
from keras_free_adv.model_cache import ModelCache
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.readings import truth_in_words
from keras_free_adv.plotting.style import (
    TEXT,
    TITLE,
    fitted,
    new_figure,
    show_image,
    to_unit_range,
)
from keras_free_adv.predictions import (
    AUTO,
    check_from_logits,
    check_predicts,
    predictions_of,
)

# A gradient has outliers: values from this many standard deviations on are clipped.
_DEVIATIONS = 3.0


def plot_input_gradients(
    models: Mapping[str, keras.Model],
    images: Any,
    labels: Any,
    *,
    scale: str = "image",
    class_names: Sequence[str] | None = None,
    value_range: tuple[float, float] | None = None,
    from_logits: bool | str = "auto",
    predicts: str = AUTO,
) -> Figure:
    """Draws the input gradients of several models side by side.

    Each row is an image, followed by its gradients, one column a model. A pixel is
    light where the loss rises with it, dark where it falls, and gray where it does not
    matter; the gradient of a color image is drawn channel by channel. The gradients of
    a robust model trace the objects in the image, those of a natural one look like
    noise.

        g = grad_x cross_entropy(y, f(x)), drawn from -3 sd(g) to 3 sd(g)

    Reference: Tsipras et al., "Robustness May Be at Odds with Accuracy", ICLR 2019,
    who also clip gradients to 3 standard deviations; Shafahi et al. (2019) find the
    same for Free models.

    Args:
        models: name to classifier.
        images: `[B, height, width, 1 or 3]`, on the scale of `value_range`.
        labels: class numbers `[B]`, or one-hot rows.
        scale: "image" gives each image a scale of its own, written below it. "model"
            draws all gradients of a model on one scale, written below the column, so
            that its images can be compared; the gradients of images that the model is
            sure of may then be too faint to see.
        class_names: names of the classes; their numbers by default.
        value_range: lowest and highest pixel value; None for that of the models, which
            must be one; see `keras_free_adv.pixel_scale`.
        from_logits: whether the models return logits; "auto" looks through a final
            softmax, and otherwise decides from the outputs.
        predicts: what the models predict; see `PGDAttack`.

    Returns:
        A matplotlib figure. The scales are in nats for each unit of a pixel value.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(2, 8, 8, 1).astype("float32")
    >>> figure = plot_input_gradients({"natural": network}, images, np.array([0, 2]))
    >>> [axis.get_title() for axis in figure.axes if axis.get_title()]
    ['image', 'natural']
    """
    models = checks.named_models("models", models)
    images, labels = checks.labelled_images(images, labels, models)
    scale = validation.one_of("scale", scale, ("model", "image"))
    value_range = pixel_scale.resolve_for_all(value_range, models)
    validation.pixels_in_range("images", images, value_range)
    from_logits = check_from_logits(from_logits)
    predicts = check_predicts(predicts)
    names = checks.class_names(class_names, models)
    images = np.clip(images, *value_range)
    views = {
        name: predictions_of(
            model, images, labels, from_logits=from_logits, predicts=predicts
        )
        for name, model in models.items()
    }
    for view in views.values():
        view.check_labels(labels)
    truth = ops.convert_to_numpy(next(iter(views.values())).encoded(labels))
    gradients = {
        name: input_gradients(
            model, view, view.losses.cross_entropy, images, truth, ModelCache()
        )
        for (name, model), view in zip(models.items(), views.values(), strict=True)
    }

    columns, rows = 1 + len(models), len(images)
    figure = new_figure(2.1 * columns + 0.4, 2.2 * rows + 1.0)
    heights = [2.0] * rows + ([0.12] if scale == "model" else [])
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    axes = [
        [figure.add_subplot(grid[row, column]) for row in range(rows)]
        for column in range(columns)
    ]
    axes[0][0].set_title("image", fontsize=TITLE)
    for axis, image, label in zip(axes[0], images, truth, strict=True):
        show_image(axis, to_unit_range(image, value_range))
        axis.set_ylabel(truth_in_words(label, names), fontsize=TEXT)
    for column, (name, found) in enumerate(gradients.items(), start=1):
        axes[column][0].set_title(fitted(name, 1.9), fontsize=TITLE)
        if scale == "image":
            _draw_on_own_scales(axes[column], found)
        elif largest := _draw_on_one_scale(axes[column], found):
            _draw_scale(figure.add_subplot(grid[rows, column]), largest)
    return figure


def _draw_on_one_scale(axes: Sequence[Axes], gradients: np.ndarray) -> float:
    """Draws the gradients of a model, and returns the value drawn white."""
    largest = _white_value(gradients)
    for axis, gradient in zip(axes, gradients, strict=True):
        _show_gradient(axis, gradient, largest)
    if not largest:
        axes[-1].set_xlabel("no gradient", fontsize=TEXT)
    return largest


def _draw_scale(axis: Axes, largest: float) -> None:
    axis.imshow(np.linspace(0, 1, 256)[np.newaxis], cmap="gray", aspect="auto")
    axis.set_yticks([])
    axis.set_xticks(
        [0, 127.5, 255], [f"−{largest:.2g}", "0", f"{largest:.2g}"], fontsize=TEXT
    )
    axis.set_xlabel("nats / unit", fontsize=TEXT)


def _draw_on_own_scales(axes: Sequence[Axes], gradients: np.ndarray) -> None:
    """Draws the gradients of a model, each with its scale below it."""
    for axis, gradient in zip(axes, gradients, strict=True):
        largest = _white_value(gradient)
        _show_gradient(axis, gradient, largest)
        text = f"±{largest:.2g} nats / unit" if largest else "no gradient"
        axis.set_xlabel(text, fontsize=TEXT)


def _white_value(gradients: np.ndarray) -> float:
    """The value drawn white; zero if there is no gradient."""
    largest = _DEVIATIONS * float(gradients.astype("float64").std())
    return largest if np.isfinite(largest) else 0.0


def _show_gradient(axis: Axes, gradient: np.ndarray, largest: float) -> None:
    share = gradient / largest if largest else np.zeros_like(gradient)
    show_image(axis, 0.5 + 0.5 * share)
