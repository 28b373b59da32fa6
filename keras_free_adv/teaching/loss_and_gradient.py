"""The loss and the input gradient of a model, for students' attacks."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends, losses
from keras_free_adv.labels import class_numbers
from keras_free_adv.logits import outputs_in_inference_mode
from keras_free_adv.predictions import CLASS, predictions_of
from keras_free_adv.teaching.verdict import FoundError

LossAndGradient = Callable[[Any, Any], tuple[np.ndarray, np.ndarray]]


def loss_and_gradient_of(model: keras.Model) -> LossAndGradient:
    """Returns the function that gives an attack the loss and its gradient.

        loss_and_gradient(images, labels) -> losses `[B]`, gradients `[B, ...]`

    The loss is the cross-entropy of each example, the gradient is that of an example's
    loss with respect to its own pixels; the model runs in inference mode. Where no path
    leads from the loss to the pixels, the gradient is zero.

    Args:
        model: a classifier, `[B, ...]` to logits or probabilities `[B, C]`.

    Returns:
        A function from NumPy arrays or tensors to NumPy arrays in float32.

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

            def differentiated(images: Any, classes: Any) -> tuple[Any, Any]:
                def loss_at(images: Any) -> tuple[Any]:
                    logits = view(outputs_in_inference_mode(model, images))
                    return (losses.cross_entropy(classes, logits),)

                (loss,), gradient = backends.value_and_gradient(loss_at, images)
                return loss, ops.zeros_like(images) if gradient is None else gradient

            compiled.append(backends.compiled(differentiated, lambda: model))
        loss, gradient = compiled[0](images, class_numbers(labels))
        return ops.convert_to_numpy(loss), ops.convert_to_numpy(gradient)

    return loss_and_gradient


class RecordedGradients:
    """A `loss_and_gradient` that records its calls.

    Attributes:
        points: the images of each call, `[B, ...]`.
        losses: the losses of each call, `[B]`.
        gradients: the gradients of each call, `[B, ...]`.

    Args:
        loss_and_gradient: the function to call.
        images: the images under attack, `[B, ...]`.
        labels: their classes, `[B]`.
    """

    def __init__(
        self, loss_and_gradient: LossAndGradient, images: np.ndarray, labels: Any
    ) -> None:
        self._loss_and_gradient = loss_and_gradient
        self._shape = images.shape
        self._labels = np.asarray(labels)
        self.points: list[np.ndarray] = []
        self.losses: list[np.ndarray] = []
        self.gradients: list[np.ndarray] = []

    def __call__(self, images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        """Records the call, and returns losses and gradients.

        Raises:
            FoundError: the call is not for all images, or not with their labels.
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
        loss, gradient = self._loss_and_gradient(points, self._labels)
        self.points.append(points)
        self.losses.append(loss)
        self.gradients.append(gradient)
        # Copies: a student may write into them.
        return loss.copy(), gradient.copy()
