"""Checks of the arguments of pictures, before any work starts."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import pixel_scale, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.predictions import Predictions


def named_models(name: str, models: Any) -> dict[str, keras.Model]:
    """Returns `models` as a dict of name to model, or raises."""
    if isinstance(models, keras.Model):
        raise TypeError(
            f"Argument `{name}` must be a dict of name to model. Received: a model. "
            f'Pass {name}={{"{models.name}": model}}.'
        )
    models = dict(validation.mapping(name, models))
    if not models:
        raise ValueError(
            f"Argument `{name}` is an empty dict. Pass at least one model."
        )
    for key, model in models.items():
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"Argument `{name}` must hold instances of keras.Model. Received: "
                f"{type(model).__name__} for {key!r}."
            )
    return models


def attack(given: Any) -> Attack:
    """Returns an attack, or raises."""
    if not isinstance(given, Attack):
        raise TypeError(
            "Argument `attack` must be an attack, such as PGDAttack(epsilon=8 / 255). "
            f"Received: {type(given).__name__}."
        )
    return given


def views_of(
    attack: Attack,
    models: Mapping[str, keras.Model],
    images: np.ndarray,
    labels: np.ndarray,
    name: str = "labels",
) -> tuple[dict[str, Predictions], np.ndarray]:
    """Returns each model's predictions, and the labels as class numbers or 0 and 1."""
    views = {
        key: attack.view_of(model, images, labels) for key, model in models.items()
    }
    for view in views.values():
        view.check_labels(labels, name)
    return views, ops.convert_to_numpy(next(iter(views.values())).encoded(labels))


def value_range_of(
    attack: Attack, models: Mapping[str, keras.Model]
) -> tuple[float, float]:
    """Returns the pixel range of an attack, the same for all models, or raises."""
    ranges = {name: attack.value_range_for(model) for name, model in models.items()}
    return pixel_scale.the_same(ranges, "models", "Draw them one by one.")


def labelled_images(
    images: Any, labels: Any, models: Mapping[str, keras.Model], name: str = "labels"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images that can be drawn, float32, and as many labels, or raises."""
    images = validation.image_array("images", images).astype("float32")
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(
            "Argument `images` must have shape (batch, height, width, 1 or 3), with "
            f"at least one image. Received: shape {images.shape}."
        )
    labels = validation.as_array(validation.array_or_tensor(name, labels))
    if labels.shape[:1] != (len(images),):
        raise ValueError(
            f"Arguments `images` and `{name}` must hold the same number of examples. "
            f"Received: shapes {images.shape} and {labels.shape}."
        )
    shapes_of_inputs("images", images.shape[1:], models)
    return images, labels


def shapes_of_inputs(
    name: str, shape: tuple[int, ...], models: Mapping[str, keras.Model]
) -> None:
    """Raises if a model takes images of another shape; `shape` is without the batch."""
    for key, model in models.items():
        expected = getattr(model, "input_shape", None)
        if not isinstance(expected, tuple) or expected[:1] != (None,):
            continue  # not built, or several inputs
        sizes = expected[1:]
        alike = len(sizes) == len(shape) and all(
            size in (None, found) for size, found in zip(sizes, shape, strict=True)
        )
        if not alike:
            raise ValueError(
                f"Argument `{name}` must hold images of the models' input shape, "
                f"{sizes} for {key!r}. Received: images of shape {shape}."
            )


def class_names(names: Any, models: Mapping[str, keras.Model]) -> list[str] | None:
    """Returns a name for each class, or None, or raises if there are too few."""
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


def name_of(label: int, names: list[str] | None) -> str:
    """The name of a class, or its number."""
    return names[label] if names else str(label)
