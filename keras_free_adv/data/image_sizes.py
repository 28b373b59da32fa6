"""Minibatches whose images have one size, as a persistent delta needs it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from keras_free_adv.data.minibatches import Minibatches

_REMEDY = (
    "Resize or pad the images to one size (in dataset.map, before dataset.batch). Of "
    "one size within each minibatch only, train with PGDAdversarialModel, which keeps "
    "no delta."
)


def of_one_size(source: Minibatches, images_of: Callable[[Any], Any]) -> Minibatches:
    """The same minibatches; one with images of another size is an error.

    delta belongs to pixels, so it has one size. Another would fail within TensorFlow,
    or, of a delta with a side of one pixel, be broadcast in silence.

    Args:
        source: the minibatches.
        images_of: returns the images in x, `[B, ...]`.

    Raises:
        ValueError: the first two minibatches hold images of different sizes. (Later
            ones are found when they are read, before they are trained on.)
    """
    if source.second is None:
        return source
    size = np.shape(images_of(source.sample[0]))[1:]
    other = np.shape(images_of(source.second[0]))[1:]
    if size != other:
        raise ValueError(
            "Argument `x` must hold images of one size: the perturbation persists from "
            f"minibatch to minibatch. Received: sizes {size} and {other} in the first "
            f"two minibatches. {_REMEDY}"
        )
    message = (
        "Argument `x` must hold images of one size: the perturbation persists from "
        f"minibatch to minibatch. Received: another size than {size}, that of the "
        f"first minibatch. {_REMEDY}"
    )

    def checked(*minibatch: Any) -> Any:
        found = tf.shape(images_of(minibatch[0]))[1:]
        same = tf.debugging.assert_equal(found, tf.constant(size, tf.int32), message)
        with tf.control_dependencies([same]):
            return tree.map_structure(
                lambda t: None if t is None else tf.identity(t), minibatch
            )

    def stream(seed: Any, first: Any) -> tf.data.Dataset:
        dataset = source.stream(seed, first)
        spec = images_of(dataset.element_spec[0])
        known = spec.shape.rank is not None and spec.shape[1:].is_fully_defined()
        return dataset if known else dataset.map(checked)

    return dataclasses.replace(source, stream=stream)
