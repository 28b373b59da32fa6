"""What is timed, by name: networks (which take `input_shape`), and ways to train."""

import functools
from collections.abc import Callable

import keras

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAdversarialModel,
    TRADESModel,
    zoo,
)

EPSILON = 8 / 255


def tiny_cnn(input_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """So small that reading and augmenting its images takes as long as training it."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )


NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "preact_resnet18_64": functools.partial(zoo.preact_resnet18, width=64),
    "preact_resnet18_16": functools.partial(zoo.preact_resnet18, width=16),
    # Two units a stage: WRN-16-4, as others count.
    "wrn14_4": functools.partial(zoo.wide_resnet, depth=14, width=4),
    "tiny_cnn": tiny_cnn,
    "small_cnn": functools.partial(zoo.small_cnn, classes=10, input_shape=(32, 32, 3)),
}

METHODS: dict[str, Callable[[keras.Model], keras.Model]] = {
    "natural": lambda network: network,
    "free8": lambda network: FreeAdversarialModel(network, EPSILON, replays=8),
    "fgsm_rs": lambda network: PGDAdversarialModel(
        network, EPSILON, steps=1, step_size=1.25 * EPSILON
    ),
    "pgd7": lambda network: PGDAdversarialModel(network, EPSILON, steps=7),
    "trades": lambda network: TRADESModel(network, EPSILON, steps=10),
}


def compiled(model: keras.Model) -> keras.Model:
    """With the optimizer and the loss of the recipes."""
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model
