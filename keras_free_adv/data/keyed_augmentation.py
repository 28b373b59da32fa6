"""Keras' random preprocessing layers, with draws that follow from a key."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import keras_internals

# They move or recolor each image for itself, and draw all that is random from their
# generator. (AugMix draws from Python's when it is traced; MixUp and CutMix mix
# examples.)
RANDOM_LAYERS = (
    keras.layers.RandAugment,
    keras.layers.RandomBrightness,
    keras.layers.RandomColorDegeneration,
    keras.layers.RandomColorJitter,
    keras.layers.RandomContrast,
    keras.layers.RandomCrop,
    keras.layers.RandomElasticTransform,
    keras.layers.RandomErasing,
    keras.layers.RandomFlip,
    keras.layers.RandomGaussianBlur,
    keras.layers.RandomGrayscale,
    keras.layers.RandomHue,
    keras.layers.RandomInvert,
    keras.layers.RandomPerspective,
    keras.layers.RandomPosterization,
    keras.layers.RandomRotation,
    keras.layers.RandomSaturation,
    keras.layers.RandomSharpness,
    keras.layers.RandomShear,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
    keras.layers.Solarization,
)


def is_random(layer: Any) -> bool:
    """Whether its draws can be keyed; a user's subclass may draw otherwise."""
    return type(layer) in RANDOM_LAYERS


def is_affine(layer: Any) -> bool:
    """Whether it is an affine function of the pixels that can be undone."""
    if type(layer) is keras.layers.Rescaling:
        return bool(np.all(np.asarray(layer.scale) != 0))
    return type(layer) is keras.layers.Normalization


class KeyedAugmentation:
    """The layers at the input of a model, applied to clean minibatches.

    With A the affine layers among them, a minibatch x becomes

        x' = clip(A^-1(stem(x)))

    which is augmented as the model would, but in the user's pixel units. The user's
    random layers are not touched: their copies here draw from the key of a minibatch,
    so that the same key gives the same pixels.

    Args:
        layers: the stem, in its order: random and affine layers.
        value_range: lowest and highest pixel value.
        dtype: dtype of x'.
    """

    def __init__(
        self, layers: Sequence[Any], value_range: tuple[float, float], dtype: str
    ) -> None:
        self._draws = _KeyedDraws()
        self._affine = [layer for layer in layers if is_affine(layer)]
        self._layers = [
            _keyed_copy(layer, self._draws) if is_random(layer) else layer
            for layer in layers
        ]
        self._value_range = value_range
        self._dtype = dtype

    def __call__(self, images: Any, key: Any) -> Any:
        """Augments images `[B, ...]`; `key` is `[2]`, from `data.keys.key`."""
        self._draws.begin(key)
        if len(images.shape) == 3:  # as Keras adds a last axis of size one
            images = images[..., None]
        for layer in self._layers:
            images = layer(images, training=True) if is_random(layer) else layer(images)
        images = tf.cast(images, self._dtype)
        for layer in reversed(self._affine):
            images = _undone(layer, images)
        return tf.clip_by_value(images, *self._value_range)

    def shape_of(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one augmented image; a RandomCrop changes it."""
        image = tf.zeros((1, *image_shape), self._dtype)
        key = tf.zeros((2,), tf.int64)
        if keras.backend.backend() == "tensorflow":
            self(image, key)  # builds the copies, outside of any graph
        one = tf.data.Dataset.from_tensors(image).map(lambda image: self(image, key))
        return tuple(one.element_spec.shape[1:])


class _KeyedDraws(keras.random.SeedGenerator):
    """Seeds that follow from a key and from how many were drawn since."""

    def __init__(self) -> None:
        # Not Keras' own: this has no variable for its state.
        self.begin(tf.zeros((2,), tf.int64))

    def begin(self, key: Any) -> None:
        self._key, self._drawn = key, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        del ordered
        self._drawn += 1
        return tf.random.experimental.stateless_fold_in(self._key, self._drawn)


def _keyed_copy(layer: Any, draws: _KeyedDraws) -> Any:
    # With a seed, so that making the copy draws nothing from Python's generator.
    config = {**layer.get_config(), "seed": 0}
    if isinstance(layer, keras.layers.RandomShear):
        # Keras 3.15 refuses the negative factors of this layer's own config.
        copy = type(layer).from_config({**config, "x_factor": 0.0, "y_factor": 0.0})
        copy.x_factor, copy.y_factor = layer.x_factor, layer.y_factor
    else:
        copy = type(layer).from_config(config)
    keras_internals.draw_from(copy, draws)
    return copy


def _values(numbers: Any, like: tf.Tensor) -> tf.Tensor:
    """A layer's numbers, of any backend, as a tensor of TensorFlow."""
    if not tf.is_tensor(numbers):
        numbers = keras.ops.convert_to_numpy(numbers)
    return tf.cast(numbers, like.dtype)


def _undone(layer: Any, outputs: Any) -> Any:
    """The inputs that an affine layer gives these outputs for."""
    if isinstance(layer, keras.layers.Rescaling):
        scale, offset = (_values(each, outputs) for each in (layer.scale, layer.offset))
        if len(scale.shape) and keras.config.image_data_format() == "channels_first":
            scale = tf.reshape(scale, (*scale.shape, *(1,) * (3 - len(scale.shape))))
        return (outputs - offset) / scale
    mean, variance = (_values(each, outputs) for each in (layer.mean, layer.variance))
    # As the layer has it where the variance is zero.
    spread = tf.maximum(tf.sqrt(variance), keras.config.epsilon())
    return (outputs - mean) / spread if layer.invert else outputs * spread + mean
