"""A training on arrays, to be killed at any moment and started again.

    python -m tests.reliability.arrays_training METHOD REPLICAS POLICY FOLDER

Says "Epoch" when training begins, and leaves all that it ends with in end.npz.
"""

import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import (
    BackupAndRestore,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    files,
)
from tests.conftest import from_logits, small_images

WRAPPERS = {
    "free": lambda network: FreeAdversarialModel(network, 0.1, replays=4),
    "pgd": lambda network: PGDAdversarialModel(network, 0.1, steps=7),
}


def network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.2),
            keras.layers.Flatten(),
            keras.layers.Dense(3, dtype="float32"),
        ]
    )


class SayEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        print("Epoch", epoch, flush=True)


def train(method, replicas, folder):
    if replicas > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * replicas,
        )
        strategy = tf.distribute.MirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    with strategy.scope():
        model = WRAPPERS[method](network())
        model.compile(keras.optimizers.Adam(0.01), from_logits(), metrics=["accuracy"])
    images, labels = small_images(43)
    checkpoint = keras.callbacks.ModelCheckpoint(
        folder / "best.weights.h5",
        monitor="loss",
        save_best_only=True,
        save_weights_only=True,
    )
    stopping = keras.callbacks.EarlyStopping(monitor="loss", patience=1000)
    history = model.fit(
        images,
        labels,
        batch_size=8,
        epochs=48,
        verbose=0,
        callbacks=[
            SayEpoch(),
            RobustnessEvaluation(
                (images, labels), PGDAttack(0.1, steps=1, seed=0), evaluation_freq=8
            ),
            checkpoint,
            stopping,
            BackupAndRestore(folder / "backup", save_freq=2),
        ],
    )
    return model, history, [checkpoint.best, stopping.best, stopping.wait]


def save_end(model, history, best, path):
    arrays = {
        f"{kind}{number}": np.stack(
            [
                np.asarray(local)
                for local in model.distribute_strategy.experimental_local_results(
                    variable.value
                )
            ]
        )
        for kind, variables in (
            ("weight", model.variables),
            ("optimizer", model.optimizer.variables),
        )
        for number, variable in enumerate(variables)
    }
    arrays |= {f"history {name}": values for name, values in history.history.items()}
    if isinstance(model, FreeAdversarialModel):
        arrays["delta"] = model.delta
    with files.atomic_write(path) as beside:
        np.savez(
            beside,
            best=best,
            epochs=history.epoch,
            place=model._position.current(),
            **arrays,
        )


if __name__ == "__main__":
    method, replicas, policy, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    trained = train(method, int(replicas), Path(folder))
    save_end(*trained, Path(folder) / "end.npz")
