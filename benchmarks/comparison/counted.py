"""A Keras model that counts the examples going forward and backward through it."""

from typing import Any

import keras
import tensorflow as tf


class PassCounter(keras.layers.Layer):
    """Hands images on unchanged; counts them, and the gradients that come back.

    Inside the graph, so that a pass in a compiled loop counts as often as it is made.
    """

    def __init__(self) -> None:
        super().__init__(dtype="float32", autocast=False)
        self._forward = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._backward = tf.Variable(0, dtype=tf.int64, trainable=False)

    @property
    def forward_passes(self) -> int:
        """Examples that went forward."""
        return int(self._forward.numpy())

    @property
    def backward_passes(self) -> int:
        """Examples that went backward."""
        return int(self._backward.numpy())

    def reset(self) -> None:
        """Begins again at zero."""
        self._forward.assign(0)
        self._backward.assign(0)

    def call(self, images: Any) -> Any:
        """The images."""
        count = tf.shape(images, out_type=tf.int64)[0]
        self._forward.assign_add(count)

        @tf.custom_gradient
        def counted(images: Any) -> tuple[Any, Any]:
            def gradient(upstream: Any) -> Any:
                self._backward.assign_add(count)
                return upstream

            return tf.identity(images), gradient

        return counted(images)

    def compute_output_spec(self, images: Any) -> Any:
        """That of the images."""
        return keras.KerasTensor(images.shape, dtype=images.dtype)


def counted(model: keras.Model) -> tuple[keras.Model, PassCounter]:
    """The model behind a counter, and the counter."""
    counter = PassCounter()
    images = keras.Input(model.input_shape[1:])
    return keras.Model(images, model(counter(images))), counter
