"""The `class_weight` of `fit`."""

import dataclasses
from typing import Any

import tensorflow as tf
from keras import tree

from keras_free_adv.data.minibatches import Minibatches


def weighted_by_class(
    source: Minibatches, class_weight: dict[int, float]
) -> Minibatches:
    """Adds each example's class weight as its sample weight, as Keras does.

    Labels that are not whole are rounded; a class without a weight weighs 1.
    """
    if len(source.sample) == 3:
        raise ValueError(
            "Arguments `class_weight` and `sample_weight` cannot be given together. "
            "Multiply the class weights into `sample_weight`."
        )
    if tree.is_nested(source.sample[1]):
        raise ValueError(
            "Argument `class_weight` needs a model with a single output. Pass "
            "`sample_weight` for each output instead."
        )
    classes = tf.constant(list(class_weight), tf.int64)
    weights = tf.constant(list(class_weight.values()), tf.float32)

    def add_weight(x: Any, y: Any) -> tuple[Any, Any, Any]:
        if y.shape.rank is not None and y.shape.rank > 1:
            label = tf.argmax(y, -1) if y.shape[-1] != 1 else tf.squeeze(y, -1)
        else:
            label = y
        if label.dtype.is_floating:
            label = tf.round(label)
        match = tf.equal(tf.cast(label, tf.int64)[..., None], classes)
        weight = tf.reduce_sum(tf.where(match, weights, 0.0), -1)
        return x, y, tf.where(tf.reduce_any(match, -1), weight, 1.0)

    return dataclasses.replace(
        source,
        stream=lambda seed, first: source.stream(seed, first).map(add_weight),
        slices=None,
    )
