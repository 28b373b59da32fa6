"""Gradients that overflow on one replica, in float16."""

from typing import Any

import keras
import tensorflow as tf


def shared_overflow(gradients: list[Any], optimizer: Any) -> list[Any]:
    """Makes gradients that are not finite on one replica not finite on all.

    A loss-scaling optimizer skips an update whose gradients overflowed, and looks for
    that at the first replica's alone. One scalar is summed over the replicas.
    """
    context = tf.distribute.get_replica_context()
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if not scales or context is None or context.num_replicas_in_sync == 1:
        return gradients
    finite = [
        tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(_values(gradient))))
        for gradient in gradients
        if gradient is not None
    ]
    nothing = tf.where(tf.reduce_all(finite), 0.0, float("nan"))
    nothing = context.all_reduce("sum", nothing)
    return [_plus(gradient, nothing) for gradient in gradients]


def _values(gradient: Any) -> Any:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _plus(gradient: Any, nothing: Any) -> Any:
    """The gradient, or NaN; the addition is exact."""
    if gradient is None:
        return None
    values = _values(gradient) + tf.cast(nothing, gradient.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
