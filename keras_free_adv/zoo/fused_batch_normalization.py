"""Batch normalization on TensorFlow's fused kernel.

Keras computes it from many small operations, slower on CPU. The numbers, weights and
arguments are Keras' own.
"""

from typing import Any

import keras
import tensorflow as tf

from keras_free_adv import keras_internals


@keras.saving.register_keras_serializable("keras_free_adv")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, computed by one fused operation.

    A drop-in for images `[B, height, width, channels]` with the channels last, on
    TensorFlow; any other input (another rank or axis, a mask, `synchronized=True`) and
    any other backend takes Keras' own path. Weights have Keras' names and order, so
    they load into either layer. A model is saved with Keras' layer in place of this
    one: who loads the file needs Keras only.

    Under a strategy each replica normalizes by its own share of the minibatch, as
    Keras' layer does, but all keep the same moving averages: those of the whole
    minibatch.

    Example:
    >>> layer = FusedBatchNormalization(momentum=0.9)
    >>> tuple(layer(keras.ops.ones((2, 4, 4, 3))).shape)
    (2, 4, 4, 3)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalizes `inputs`; in training mode also updates the moving averages."""
        fusable = (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (3, -1)
            and mask is None
            and not self.synchronized
            and not getattr(self, "renorm", False)
            and keras.backend.standardize_dtype(inputs.dtype)
            in ("float32", "bfloat16", "float16")
        )
        if not fusable:
            return super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            return self._normalize_with_batch_statistics(inputs)
        return self._normalize_with_moving_averages(inputs)

    def _normalize_with_moving_averages(self, inputs: Any) -> Any:
        mean, variance = self.moving_mean.value, self.moving_variance.value
        # The kernel's own gradient always computes the sums for gamma and beta.
        # Written out, they are left out of a graph that asks for the inputs' alone,
        # as every attack does.
        mean, variance = (tf.cast(tensor, tf.float32) for tensor in (mean, variance))

        @tf.custom_gradient
        def normalized(inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Any]:
            outputs = self._fused(inputs, gamma, beta, mean, variance)[0]

            def gradient(upstream: Any) -> tuple[Any, Any, Any]:
                inverse = tf.math.rsqrt(variance + self.epsilon)
                slope = tf.cast(gamma * inverse, upstream.dtype)
                wide = tf.cast(upstream, tf.float32)
                centered = (tf.cast(inputs, tf.float32) - mean) * inverse
                return (
                    upstream * slope,
                    tf.reduce_sum(wide * centered, axis=(0, 1, 2)),
                    tf.reduce_sum(wide, axis=(0, 1, 2)),
                )

            return outputs, gradient

        return normalized(inputs, *self._scale_and_offset(inputs))

    def _normalize_with_batch_statistics(self, inputs: Any) -> Any:
        empty = tf.zeros((0,), tf.float32)
        gamma, beta = self._scale_and_offset(inputs)
        outputs, mean, variance = self._fused(inputs, gamma, beta, empty, empty)
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        # The kernel reports the unbiased variance, Keras keeps the biased one.
        variance = variance * (count - 1.0) / count
        mean, variance = _of_all_replicas(
            mean, variance, count, keras.ops.cast(self.moving_mean, "float32")
        )
        for moving, batch in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            moving.assign(
                moving * self.momentum
                + keras.ops.cast(batch, moving.dtype) * (1.0 - self.momentum)
            )
        return outputs

    def _scale_and_offset(self, inputs: Any) -> tuple[Any, Any]:
        ones = tf.ones((inputs.shape[-1],), tf.float32)
        gamma = keras.ops.cast(self.gamma, "float32") if self.scale else ones
        beta = keras.ops.cast(self.beta, "float32") if self.center else 0.0 * ones
        return tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta)

    def _fused(
        self, inputs: Any, gamma: Any, beta: Any, mean: Any, variance: Any
    ) -> tuple[Any, Any, Any]:
        """The kernel; without a mean and a variance it takes the minibatch's."""
        outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=mean.shape[0] == 0,
        )
        return outputs, batch_mean, batch_variance


# What is saved is the layer that it stands in for.
keras_internals.save_as(FusedBatchNormalization, "keras.layers.BatchNormalization")


def _of_all_replicas(
    mean: Any, variance: Any, count: Any, near: Any
) -> tuple[Any, Any]:
    """Mean and biased variance over every replica's share, from those of one.

    A share may be empty; its mean and variance are then not numbers. Squares are
    summed of the distance from `near`, the same on all replicas: less is lost to
    rounding.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return mean, variance
    distance = mean - near
    square = variance + tf.square(distance)
    sums = tf.stack([distance, square, tf.ones_like(mean)]) * count
    sums = tf.where(count > 0, sums, tf.zeros_like(sums))
    distance, square, total = tf.unstack(context.all_reduce("sum", sums))
    distance, square = distance / total, square / total
    return near + distance, square - tf.square(distance)
