"""A convolutional network small enough to train on a laptop in seconds."""

import keras

from keras_free_adv import validation
from keras_free_adv.zoo.pixels import centered


def small_cnn(
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    value_range: tuple[float, float] = (0.0, 1.0),
) -> keras.Model:
    """Two convolutions, a pooling and two dense layers, without batch norm.

    Args:
        classes: number of classes.
        input_shape: (height, width, channels) of an image.
        value_range: lowest and highest pixel value.

    Returns:
        A functional model, `[B, height, width, channels]` to logits
        `[B, classes]` in float32.

    Example:
    >>> small_cnn(classes=10, input_shape=(8, 8, 1)).output_shape
    (None, 10)
    """
    classes = validation.positive_integer("classes", classes)
    value_range = validation.pixel_range(value_range)
    input_shape = validation.image_shape("input_shape", input_shape, least=2)
    layers = keras.layers
    inputs = keras.Input(input_shape, name="image")
    x = centered(value_range)(inputs)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    outputs = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs, name="small_cnn")
