"""Made the files beside it, once, with release 0.1.0; they are not to be made anew.

    python -m tests.reliability.first_release.make FOLDER

One `.keras` file of each adversarial model, trained for a while, and what it predicts.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAdversarialModel,
    TRADESModel,
    zoo,
)
from tests.conftest import from_logits, small_images


def network():
    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
    x = zoo.FusedBatchNormalization(momentum=0.9)(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dropout(0.1)(x)))


MODELS = {
    "free": lambda: FreeAdversarialModel(
        network(), 0.1, replays=2, step_size=0.05, norm="l2", epsilon_warmup=3
    ),
    "pgd": lambda: PGDAdversarialModel(network(), 0.1, steps=2, random_start=False),
    "trades": lambda: TRADESModel(network(), 0.1, steps=2, beta=3.0),
    "wide_resnet": lambda: FreeAdversarialModel(
        zoo.wide_resnet(8, 1, classes=3, input_shape=(8, 8, 1)), 0.1, replays=2
    ),
    "preact_resnet18": lambda: FreeAdversarialModel(
        zoo.preact_resnet18(width=2, classes=3, input_shape=(8, 8, 1)), 0.1, replays=2
    ),
}


def main(folder):
    images, labels = small_images(16, shape=(8, 8, 1))
    expected = {}
    for name, make in MODELS.items():
        keras.utils.set_random_seed(0)
        model = make()
        model.compile(
            "sgd" if hasattr(zoo, name) else "adam", from_logits(), metrics=["accuracy"]
        )
        model.fit(images, labels, batch_size=8, epochs=4, verbose=0)
        model.save(folder / f"{name}.keras")
        expected[name] = model.predict(images, verbose=0)
        if isinstance(model, FreeAdversarialModel):
            expected[f"{name} delta"] = model.delta
    np.savez(folder / "expected.npz", images=images, labels=labels, **expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
