"""Minibatches and a small network for a student's training."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel

BATCH, MINIBATCHES = 8, 3
EPSILON, STEP_SIZE, LEARNING_RATE = 0.1, 0.04, 0.2
_SHAPE, _CLASSES = (6, 6, 1), 3


class TrainedExample(NamedTuple):
    """What a training is tried on.

    Attributes:
        network: to logits; batch norm tells training from inference mode.
        passes: forward and backward passes through it.
        images: `[MINIBATCHES * BATCH, 6, 6, 1]`, some pixels at the ends of [0, 1].
        labels: `[MINIBATCHES * BATCH]`.
    """

    network: keras.Model
    passes: "CountedPasses"
    images: np.ndarray
    labels: np.ndarray

    def minibatch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of one."""
        rows = slice(number * BATCH, (number + 1) * BATCH)
        return self.images[rows], self.labels[rows]


class CountedPasses(keras.layers.Layer):
    """Counts the passes through it, run eagerly or as a graph."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", trainable=False)
        self._forward = tf.Variable(0, trainable=False)
        self._backward = tf.Variable(0, trainable=False)

    def call(self, inputs: Any) -> Any:
        """Returns its inputs."""

        @tf.custom_gradient
        def identity(x: Any) -> tuple[Any, Any]:
            self._forward.assign_add(1)

            def gradient(upstream: Any) -> Any:
                self._backward.assign_add(1)
                return upstream

            return tf.identity(x), gradient

        return identity(inputs)

    def forget(self) -> None:
        """Begins to count anew."""
        self._forward.assign(0)
        self._backward.assign(0)

    @property
    def forward(self) -> int:
        """How many forward passes."""
        return int(self._forward)

    @property
    def backward(self) -> int:
        """How many backward passes."""
        return int(self._backward)


def trained_example() -> TrainedExample:
    """Always of the same weights, images and labels."""
    passes = CountedPasses()
    layers = keras.layers
    initializer = keras.initializers.GlorotUniform
    network = keras.Sequential(
        [
            keras.Input(_SHAPE),
            layers.Conv2D(
                4,
                3,
                activation="tanh",
                kernel_initializer=initializer(seed=1),
                dtype="float32",
            ),
            layers.BatchNormalization(dtype="float32"),
            layers.Flatten(dtype="float32"),
            layers.Dense(
                _CLASSES, kernel_initializer=initializer(seed=2), dtype="float32"
            ),
            passes,
        ]
    )
    random = np.random.default_rng(4)
    count = BATCH * MINIBATCHES
    images = random.uniform(-0.3, 1.3, (count, *_SHAPE)).clip(0, 1).astype("float32")
    return TrainedExample(network, passes, images, random.integers(0, _CLASSES, count))


def sgd(network: keras.Model) -> keras.optimizers.Optimizer:
    """An optimizer whose step is the gradient times the learning rate."""
    optimizer = keras.optimizers.SGD(LEARNING_RATE)
    optimizer.build(network.trainable_variables)
    return optimizer


def free_model(network: keras.Model, replays: int = 1) -> FreeAdversarialModel:
    """The library's Free training of a network, from a delta of zero."""
    model = FreeAdversarialModel(network, EPSILON, step_size=STEP_SIZE, replays=replays)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd(network), loss, run_eagerly=True)
    return model


def delta_of(model: FreeAdversarialModel) -> np.ndarray:
    """Its delta now, `[B, ...]`, on one device."""
    return np.asarray(model.delta)[0]
