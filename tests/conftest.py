import gc
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

# A fresh session collects garbage: for each test, through all that was imported,
# unless that is set aside here.
gc.freeze()


@pytest.fixture(autouse=True)
def fresh_keras():
    """Each test begins with the same seeds, names and policy."""
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


def small_images(count, shape=(6, 6, 1), classes=3, seed=0):
    """Images in [0, 1] and labels, from a generator of their own."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 1, (count, *shape)).astype("float32")
    return images, generator.integers(0, classes, count)


def small_network(shape=(6, 6, 1), classes=3, softmax=False, **kwargs):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax" if softmax else None),
        ],
        **kwargs,
    )


def said_by(program, *arguments):
    """What a Python program prints, in a process of its own; it must end well."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class CountPasses(keras.layers.Layer):
    """Counts forward and backward passes through it, when run eagerly."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.counts = {"forward": 0, "backward": 0}

    def call(self, inputs):
        import tensorflow as tf

        @tf.custom_gradient
        def identity(x):
            self.counts["forward"] += 1

            def gradient(upstream):
                self.counts["backward"] += 1
                return upstream

            return tf.identity(x), gradient

        return identity(inputs)
