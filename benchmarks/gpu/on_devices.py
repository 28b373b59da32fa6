"""Trains on so many devices; a program of its own, for step 7.

    python -m gpu.on_devices COUNT FOLDER DRY

Prints JSON: what an update costs. Leaves the weights after some updates in FOLDER.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from subjects import METHODS, compiled
from timing import random_images

from gpu.cost_of_update import in_turns, seconds_of_fit
from gpu.sizes import DRY, FULL, Sizes
from gpu.updates import minibatches, network

COMPARED = 8  # updates after which the weights are compared


def scopes_on(count: int, dry: bool) -> Callable[[], Any]:
    """Makes scopes: a model that is made in one trains on the first `count` devices."""
    kind = "CPU" if dry else "GPU"
    names = [f"{kind}:{number}" for number in range(count)]
    if keras.backend.backend() == "jax":
        if count > 1:
            keras.distribution.set_distribution(
                keras.distribution.DataParallel(devices=[n.lower() for n in names])
            )
        return contextlib.nullcontext
    if dry:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
    if count == 1:
        return tf.distribute.OneDeviceStrategy(names[0]).scope
    return tf.distribute.MirroredStrategy(names).scope


def plain_network() -> keras.Model:
    """Without batch norm, whose statistics are each device's own on TensorFlow."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def main() -> None:
    count, folder, dry = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"
    sizes: Sizes = DRY if dry else FULL
    scope = scopes_on(count, dry)
    keras.utils.set_random_seed(0)
    with scope():
        model = compiled(METHODS["free8"](plain_network()))
    images, labels = random_images(sizes.batch_size)
    same = tf.data.Dataset.from_tensors((images, labels)).repeat()
    seconds_of_fit(model, same, COMPARED)
    np.savez(folder / f"devices-{count}.npz", *model.get_weights())

    keras.config.set_dtype_policy("mixed_bfloat16")
    seconds = {}
    for method in ("free8",) if dry else ("natural", "free8"):
        with scope():
            model = compiled(METHODS[method](network("preact_resnet18", sizes)))
        data = {method: minibatches(sizes)}
        found = in_turns({method: model}, data, sizes.updates, sizes.rounds)
        seconds[method] = min(found[method])
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
