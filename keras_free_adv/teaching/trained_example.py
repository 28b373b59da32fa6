"""Minibatches and a small network to try a student's training on."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends
from keras_free_adv.distribution.workers import strategy_in_force
from keras_free_adv.tensorflow_only import require_tensorflow
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel

BATCH, MINIBATCHES = 8, 3
EPSILON, STEP_SIZE, LEARNING_RATE = 0.1, 0.04, 0.2
_SHAPE, _CLASSES = (6, 6, 1), 3


class TrainedExample(NamedTuple):
    """Minibatches and a network to train.

    Attributes:
        network: returns logits; its batch norm tells training from inference mode.
        passes: counts the forward and backward passes through it.
        images: `[MINIBATCHES * BATCH, 6, 6, 1]`, some pixels at the ends of [0, 1].
        labels: `[MINIBATCHES * BATCH]`.
    """

    network: keras.Model
    passes: "CountedPasses"
    images: np.ndarray
    labels: np.ndarray

    def minibatch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of one minibatch."""
        rows = slice(number * BATCH, (number + 1) * BATCH)
        return self.images[rows], self.labels[rows]


class CountedPasses(keras.layers.Layer):
    """Counts the passes through it, eager or in a graph."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", trainable=False)
        self._forward, self._backward = (
            backends.ReplicaVariable((), "int32", strategy_in_force()) for _ in range(2)
        )

    def call(self, inputs: Any) -> Any:
        """Returns its inputs."""

        @ops.custom_gradient
        def identity(x: Any) -> tuple[Any, Any]:
            self._forward.write(self._forward.read() + 1)

            def gradient(*args: Any, upstream: Any = None) -> Any:
                self._backward.write(self._backward.read() + 1)
                return args[0] if upstream is None else upstream

            return ops.copy(x), gradient

        return identity(inputs)

    def reset(self) -> None:
        """Sets both counts to zero."""
        for counter in (self._forward, self._backward):
            counter.set(np.zeros(1, "int32"))

    @property
    def forward(self) -> int:
        """The number of forward passes."""
        return int(self._forward.values().sum())

    @property
    def backward(self) -> int:
        """The number of backward passes."""
        return int(self._backward.values().sum())


def require_gradient_tape(check: str) -> None:
    """Raises on another backend than TensorFlow; `check` is the calling function.

    Raises:
        RuntimeError: Keras runs on another backend.
    """
    require_tensorflow(
        check,
        "checks code that is written with tf.GradientTape",
        "Run the exercise in a process started with KERAS_BACKEND=tensorflow.",
    )


def trained_example() -> TrainedExample:
    """Makes an example, always with the same weights, images and labels."""
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
    """Wraps a network for the library's Free training, from a delta of zero."""
    model = FreeAdversarialModel(network, EPSILON, step_size=STEP_SIZE, replays=replays)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd(network), loss, run_eagerly=True)
    return model


def delta_of(model: FreeAdversarialModel) -> np.ndarray:
    """The current delta, `[B, ...]`, on one device."""
    return np.asarray(model.delta)[0]
