"""What an attack is allowed to ask a model: the loss, and its input gradient."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import losses
from keras_free_adv.labels import class_numbers
from keras_free_adv.predictions import CLASS, predictions_of
from keras_free_adv.teaching.verdict import FoundError

LossAndGradient = Callable[[Any, Any], tuple[np.ndarray, np.ndarray]]


def loss_and_gradient_of(model: keras.Model) -> LossAndGradient:
    """Returns the function by which an attack asks a model for the way uphill.

        loss_and_gradient(images, labels) -> losses `[B]`, gradients `[B, ...]`

    The loss is the cross-entropy of each example, the gradient that of an example's
    loss with respect to its own pixels; the model runs in inference mode. A loss that
    does not depend on the pixels, as TensorFlow sees it, has a gradient of zeros.

    Args:
        model: a classifier, `[B, ...]` to logits or probabilities `[B, C]`.

    Returns:
        A function of NumPy arrays or tensors, to NumPy arrays in float32.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> loss_and_gradient = loss_and_gradient_of(network)
    >>> images = np.random.rand(2, 4, 4, 1).astype("float32")
    >>> loss, gradient = loss_and_gradient(images, np.array([0, 2]))
    >>> loss.shape, gradient.shape
    ((2,), (2, 4, 4, 1))
    """
    compiled: list[Callable] = []

    def loss_and_gradient(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        images = np.asarray(images, "float32")
        if not compiled:
            view = predictions_of(model, images, labels, predicts=CLASS)

            @tf.function
            def graph(images: Any, classes: Any) -> tuple[Any, Any]:
                with tf.GradientTape() as tape:
                    tape.watch(images)
                    logits = view(model(images, training=False))
                    loss = losses.cross_entropy(classes, logits)
                gradient = tape.gradient(
                    loss, images, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
                return loss, gradient

            compiled.append(graph)
        loss, gradient = compiled[0](tf.constant(images), class_numbers(labels))
        return loss.numpy(), gradient.numpy()

    return loss_and_gradient


class RecordedGradients:
    """A `loss_and_gradient` that remembers where it was asked.

    Attributes:
        points: where, in their order, `[B, ...]` each.
        losses: what it answered, `[B]` each.
        gradients: and, `[B, ...]` each.

    Args:
        ask: the `loss_and_gradient`.
        images: the images under attack, `[B, ...]`.
        labels: their classes, `[B]`.
    """

    def __init__(self, ask: LossAndGradient, images: np.ndarray, labels: Any) -> None:
        self._ask = ask
        self._shape = images.shape
        self._labels = np.asarray(labels)
        self.points: list[np.ndarray] = []
        self.losses: list[np.ndarray] = []
        self.gradients: list[np.ndarray] = []

    def __call__(self, images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        """Answers, and remembers.

        Raises:
            FoundError: it was not asked for all the images, or not with their labels.
        """
        points = np.array(images, "float32")
        if points.shape != self._shape:
            raise FoundError(
                f"It asks for gradients at images of shape {points.shape}; ask for "
                f"those of the whole minibatch, shape {self._shape}, at once."
            )
        if not np.array_equal(np.asarray(labels), self._labels):
            raise FoundError(
                "It asks for gradients with labels other than those it was given: the "
                "loss to climb is that of the *true* classes."
            )
        loss, gradient = self._ask(points, self._labels)
        self.points.append(points)
        self.losses.append(loss)
        self.gradients.append(gradient)
        # What the student does to the answer does not change what was seen.
        return loss.copy(), gradient.copy()
