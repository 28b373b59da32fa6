"""Images and a small network for a student's attack."""

from typing import NamedTuple

import keras
import numpy as np

from keras_free_adv.teaching.loss_and_gradient import (
    LossAndGradient,
    RecordedGradients,
    loss_and_gradient_of,
)

_SHAPE = (6, 6, 1)


class AttackedExample(NamedTuple):
    """What an attack is tried on.

    Attributes:
        network: to logits of two classes. Of two, the larger loss is the more damaging
            one: of more, an image of lower loss can be the one that is misread.
        images: `[B, 6, 6, 1]`, float32, some pixels at the ends of [0, 1].
        labels: what the network reads in them, `[B]`.
        ask: the network's loss and gradient.
    """

    network: keras.Model
    images: np.ndarray
    labels: np.ndarray
    ask: LossAndGradient

    def looks(self) -> RecordedGradients:
        """The loss and gradient, which will remember where they were asked."""
        return RecordedGradients(self.ask, self.images, self.labels)


def attacked_example(*, linear: bool = False) -> AttackedExample:
    """Images, and a network: curved, or linear.

    A linear one has one worst image in the ball, which PGD reaches from any start.
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
    # Some pixels are black or white, as many are in real images.
    images = random.uniform(-0.2, 1.2, (16, *_SHAPE)).clip(0, 1).astype("float32")
    labels = np.asarray(network(images)).argmax(-1)
    return AttackedExample(network, images, labels, loss_and_gradient_of(network))
