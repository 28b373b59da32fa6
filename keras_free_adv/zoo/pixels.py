"""The first layers of the zoo's models: pixels to network scale.

They compute in float32 whatever the policy: in bfloat16 a perturbation of 8/255 would
keep only a few distinct values.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras


def centered(value_range: tuple[float, float]) -> keras.layers.Layer:
    """Maps `value_range` to [-2, 2]: natural images get about unit variance."""
    return _rescaled(value_range, (-2.0, 2.0), "centered")


def standardized(
    value_range: tuple[float, float], input_shape: Sequence[int]
) -> Callable[[Any], Any]:
    """Gives each image mean 0 and variance 1, as `tf.image.per_image_standardization`.

    TensorFlow divides by max(deviation, 1 / sqrt(n)) on the 0..255 scale, where n is
    the number of values in an image. These Keras layers divide by
    sqrt(variance + 1 / n): the same in float32, except for images of one color, whose
    gradient is finite here.
    """
    rescale = _rescaled(value_range, (0.0, 255.0), "pixels")
    standardize = keras.layers.LayerNormalization(
        axis=[1, 2, 3],
        epsilon=1.0 / math.prod(input_shape),
        center=False,
        scale=False,
        dtype="float32",
        name="standardized",
    )
    return lambda images: standardize(rescale(images))


def standardized_channels(
    value_range: tuple[float, float],
    mean: Sequence[float],
    deviation: Sequence[float],
) -> Callable[[Any], Any]:
    """Subtracts each channel's mean, and divides by its deviation, both on [0, 1]."""
    rescale = _rescaled(value_range, (0.0, 1.0), "pixels")
    standardize = keras.layers.Normalization(
        mean=list(mean),
        variance=[d**2 for d in deviation],
        dtype="float32",
        name="standardized",
    )
    return lambda images: standardize(rescale(images))


def _rescaled(
    value_range: tuple[float, float], to: tuple[float, float], name: str
) -> keras.layers.Layer:
    low, high = value_range
    scale = (to[1] - to[0]) / (high - low)
    return keras.layers.Rescaling(
        scale, offset=to[0] - scale * low, dtype="float32", name=name
    )
