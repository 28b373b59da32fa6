"""Batch normalization on TensorFlow's fused kernel.

Keras computes it from many small operations, slower on CPU. The numbers, weights and
arguments are Keras' own.
"""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_free_adv")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, computed by one fused operation.

    A drop-in for images `[B, height, width, channels]` with the channels last;
    any other input (another rank or axis, a mask, `synchronized=True`) takes Keras'
    own path. Weights have Keras' names and order, so they load into either layer.

    Example:
    >>> layer = FusedBatchNormalization(momentum=0.9)
    >>> layer(keras.ops.ones((2, 4, 4, 3))).shape
    TensorShape([2, 4, 4, 3])
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalizes `inputs`; in training mode also updates the moving averages."""
        fusable = (
            len(inputs.shape) == 4
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
        return self._fused(
            inputs, self.moving_mean, self.moving_variance, is_training=False
        )[0]

    def _normalize_with_batch_statistics(self, inputs: Any) -> Any:
        empty = tf.zeros((0,), tf.float32)
        outputs, mean, variance = self._fused(inputs, empty, empty, is_training=True)
        # The kernel reports the unbiased variance, Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance = variance * (count - 1.0) / count
        for moving, batch in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            moving.assign(
                moving * self.momentum
                + keras.ops.cast(batch, moving.dtype) * (1.0 - self.momentum)
            )
        return outputs

    def _fused(
        self, inputs: Any, mean: Any, variance: Any, *, is_training: bool
    ) -> tuple[Any, Any, Any]:
        ones = tf.ones((inputs.shape[-1],), tf.float32)
        gamma = keras.ops.cast(self.gamma, "float32") if self.scale else ones
        beta = keras.ops.cast(self.beta, "float32") if self.center else 0.0 * ones
        outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=keras.ops.cast(mean, "float32"),
            variance=keras.ops.cast(variance, "float32"),
            epsilon=self.epsilon,
            is_training=is_training,
        )
        return outputs, batch_mean, batch_variance
