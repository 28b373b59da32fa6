"""Derives a served classifier from a trained model."""

import textwrap
from collections.abc import Iterable, Set
from typing import Any

import keras
import numpy as np

from keras_free_adv import image_axes, pixel_scale, validation
from keras_free_adv.compiled_loss import compiled_loss
from keras_free_adv.datasets import decoding
from keras_free_adv.predictions import (
    AUTO,
    check_from_logits,
    check_predicts,
    predictions_of,
)
from keras_free_adv.serving.signatures import (
    ServedClassifier,
    call_with_images,
)
from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.training.wrapped_model import WrappedModel

# In half precision, sums of probabilities may be this far from one.
_SUMS_TO_ONE = 0.05


def network_of(model: Any) -> keras.Model:
    """Returns the model to serve: for an adversarial model, the one inside.

    Raises:
        TypeError: it is not a Keras model.
        ValueError: it is not built, or its `predict` does more than call it.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Argument `model` must be a keras.Model. Received: "
            f"{model!r} (of type {type(model).__name__})."
        )
    network = model.model if isinstance(model, WrappedModel) else model
    if not network.built:
        raise ValueError(
            "Argument `model` must be built: call it on a minibatch first. Received: "
            f"{network.name!r}, which has no weights yet."
        )
    if getattr(network, "preprocessor", None) is not None:
        raise ValueError(
            "Argument `model` must not have a preprocessor attached: the artifact "
            f"would leave it out. Received: {type(network).__name__} with preprocessor "
            f"{type(network.preprocessor).__name__}. Create it with preprocessor=None, "
            "and preprocess in the network."
        )
    for declared in getattr(network, "inputs", None) or []:
        dtype = keras.backend.standardize_dtype(declared.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "Argument `model` must take floats: images are scaled to its "
                f"`value_range`, and whole numbers would lose them. Received: an input "
                f"of {dtype}. Build it on keras.Input(dtype='float32'), and give it "
                "these weights with set_weights; clients may send uint8."
            )
    return network


def input_shape_of(network: keras.Model) -> tuple[int | None, int | None, int]:
    """Returns the shape of the network's images, without the batch axis.

    Raises:
        ValueError: the network does not take one batch of images of 1 or 3 channels.
    """
    declared = getattr(network, "inputs", None)
    shapes: list[Any]
    if declared is not None:
        shapes = [tuple(one.shape) for one in declared]
    else:
        shapes = [(network.get_build_config() or {}).get("input_shape")]
    shape = tuple(shapes[0]) if len(shapes) == 1 and shapes[0] else ()
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(
            "Argument `model` must take one batch of images (batch, height, width, "
            f"channels) of 1 or 3 channels. Received: {network.name!r}, with inputs of "
            f"shape {shapes}."
        )
    if image_axes.shown_by(network) == image_axes.FIRST:
        raise ValueError(
            "Argument `model` must take images with the channels last: (batch, height, "
            f"width, channels). Received: {network.name!r}, whose layers have "
            'data_format="channels_first". Export keras.Sequential([keras.Input('
            "(height, width, channels)), keras.layers.Permute((3, 1, 2)), model])."
        )
    return shape[1], shape[2], shape[3]


def pixel_range_of(model: keras.Model, value_range: Any) -> tuple[float, float]:
    """Returns the pixel range: that of the training, as given, or that of the layers.

    Raises:
        ValueError: the given range is not that of the model.
    """
    given = None if value_range is None else validation.pixel_range(value_range)
    if not isinstance(model, AdversarialModel):
        return pixel_scale.resolve(given, model)
    if given is not None and given != tuple(model.value_range):
        raise ValueError(
            "Argument `value_range` must be what the model was trained with. Received: "
            f"value_range={value_range!r}, and a model of {model.value_range}."
        )
    low, high = model.value_range
    return low, high


def names_of_classes(class_names: Any, classes: int) -> tuple[str, ...]:
    """Returns the names, or by default the numbers, of the classes.

    Raises:
        ValueError: they are not strings of one line, one for each class.
    """
    if class_names is None:
        return tuple(str(number) for number in range(classes))
    # A set has no order.
    listed = isinstance(class_names, Iterable) and not isinstance(
        class_names, (str, Set)
    )
    names = [str(name) for name in class_names] if listed else []
    strings = listed and all(isinstance(name, str) for name in class_names)
    lines = sum(len(f"{name}.".splitlines()) for name in names)
    if not strings or not len(names) == lines == classes:
        raise ValueError(
            f"Argument `class_names` must be {classes} strings of one line, one for "
            "each class in the order of their numbers. Received: "
            f"{_outline(class_names)}."
        )
    return tuple(names)


def _outline(class_names: Any) -> str:
    text = textwrap.shorten(repr(class_names), 100, placeholder=" ...")
    if isinstance(class_names, str) or not hasattr(class_names, "__len__"):
        return text
    return f"{len(class_names)} of them, {text}"


def size_of_images(
    image_size: Any, input_shape: tuple[int | None, int | None, int]
) -> tuple[tuple[int, int], float]:
    """Returns the size to resize encoded images to, and the margin to cut off.

    Raises:
        ValueError: the network takes images of another size, or the size is unknown.
    """
    height, width, _ = input_shape
    if image_size is None:
        if height is None or width is None:
            raise ValueError(
                "Argument `image_size` is needed for a model whose images vary in "
                f"size. Received: image_size=None, and images of {input_shape}. Pass "
                "the size in training, such as 224."
            )
        return (height, width), 0
    size = validation.positive_integer("image_size", image_size)
    if {height, width} - {None, size}:
        raise ValueError(
            "Argument `image_size` must be the height and width of the model's "
            f"images. Received: image_size={image_size!r}, and images of "
            f"{input_shape}."
        )
    return (size, size), decoding.margin_of(size)


def served_classifier(
    model: keras.Model,
    *,
    class_names: Any,
    image_size: Any,
    value_range: Any,
    from_logits: Any,
    predicts: Any = AUTO,
) -> ServedClassifier:
    """Makes the classifier to serve; for the arguments see `export_for_serving`."""
    network = network_of(model)
    from_logits = check_from_logits(from_logits)
    predicts = check_predicts(predicts)
    input_shape = input_shape_of(network)
    low, high = pixel_range_of(model, value_range)
    size, margin = size_of_images(image_size, input_shape)
    random = np.random.default_rng(0)
    images = random.uniform(low, high, (2, *size, input_shape[-1])).astype("float32")
    # The adversarial model is compiled, the one inside is not.
    losses = [compiled_loss(model), compiled_loss(network)]
    view = predictions_of(
        network,
        images,
        from_logits=from_logits,
        predicts=predicts,
        call=call_with_images,
        loss=next((loss for loss in losses if loss.name), losses[0]),
    )
    classifier = ServedClassifier(
        network=network,
        view=view,
        class_names=names_of_classes(class_names, view.classes),
        input_shape=input_shape,
        value_range=(low, high),
        image_size=size,
        margin=margin,
    )
    _check_probabilities(classifier, images, from_logits)
    return classifier


def _check_probabilities(
    classifier: ServedClassifier, images: np.ndarray, from_logits: bool | str
) -> None:
    """Raises if the probabilities to serve are not probabilities."""
    found = np.asarray(classifier.probabilities(images))
    exclusive = not classifier.view.independent
    apart = exclusive * np.abs(found.sum(-1) - 1.0).max()
    if np.isfinite(found).all() and (
        found.min() < 0 or found.max() > 1 + _SUMS_TO_ONE or apart > _SUMS_TO_ONE
    ):
        raise ValueError(
            "Argument `from_logits` must say what the model's outputs are. Received: "
            f"from_logits={from_logits!r}, and outputs that, as probabilities, range "
            f"from {found.min():.3g} to {found.max():.3g} and sum to "
            f"{found[0].sum():.3g}. Pass from_logits=True."
        )
