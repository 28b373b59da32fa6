"""Images and a small network to try a student's attack on."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_free_adv.teaching.loss_and_gradient import (
    LossAndGradient,
    RecordedGradients,
    loss_and_gradient_of,
)

_SHAPE = (6, 6, 1)


class AttackedExample(NamedTuple):
    """Images and a network to attack.

    Attributes:
        network: returns logits of two classes: with more, an image of lower loss can be
            the misclassified one.
        images: `[B, 6, 6, 1]`, float32, some pixels at the ends of [0, 1].
        labels: the network's own predictions, `[B]`.
        loss_and_gradient: those of the network.
    """

    network: keras.Model
    images: np.ndarray
    labels: np.ndarray
    loss_and_gradient: LossAndGradient

    def recorded(self) -> RecordedGradients:
        """Wraps `loss_and_gradient` to record its calls."""
        return RecordedGradients(self.loss_and_gradient, self.images, self.labels)


def attacked_example(*, linear: bool = False) -> AttackedExample:
    """Makes images, and a network: curved, or linear.

    For a linear network one image in the ball is the worst: PGD reaches it from any
    start.
    """
    layers = keras.layers
    curved = [
        layers.Conv2D(
            6,
            3,
            activation="tanh",
            kernel_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=1),
            dtype="float32",
        )
    ]
    network = keras.Sequential(
        [
            keras.Input(_SHAPE),
            *([] if linear else curved),
            layers.Flatten(dtype="float32"),
            layers.Dense(
                2,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.3, seed=2),
                dtype="float32",
            ),
        ]
    )
    random = np.random.default_rng(3)
    # Some pixels are black or white, as in real images.
    images = random.uniform(-0.2, 1.2, (16, *_SHAPE)).clip(0, 1).astype("float32")
    labels = ops.convert_to_numpy(network(images)).argmax(-1)
    return AttackedExample(network, images, labels, loss_and_gradient_of(network))
