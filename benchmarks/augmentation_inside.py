"""What random layers inside a model do to Free training, on scikit-learn's digits.

    python benchmarks/augmentation_inside.py --seeds=2

The same network and the same `RandomTranslation` and `RandomRotation` four times: as
layers of a subclassed model, which draw anew in each forward pass, so that delta
belongs to other pixels than those the network sees; as the first layers of a Sequential
model, which `fit` applies to each minibatch once for all its replays, with arrays and
with a shuffled dataset; and in the `map` of that dataset.
"""

import statistics
import warnings

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from keras import layers
from sklearn.datasets import load_digits

from keras_free_adv import FreeAdversarialModel, PGDAttack, evaluate_robustness

FLAGS = flags.FLAGS
flags.DEFINE_integer("seeds", 2, "Trainings of each, with the seeds 0, 1, ...", 1)
flags.DEFINE_integer("epochs", 80, "Epochs of a training.", 1)

EPSILON, REPLAYS, BATCH, TRAINED_ON = 0.1, 4, 32, 1437
AFRESH = "in a subclassed model"
ARRAYS, DATASET = "at the input, arrays", "at the input, dataset"
MAPPED = "in dataset.map"


class Subclassed(keras.Model):
    """Does not show in which order it calls its layers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)


def augmentation():
    return [layers.RandomTranslation(0.15, 0.15), layers.RandomRotation(0.05)]


def network(stem):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *stem,
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def trained(where, seed, images, labels):
    keras.utils.set_random_seed(seed)
    plain = network([] if where == MAPPED else augmentation())
    inner = Subclassed(plain) if where == AFRESH else plain
    model = FreeAdversarialModel(inner, EPSILON, replays=REPLAYS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    if where in (AFRESH, ARRAYS):
        data = {"x": images, "y": labels, "batch_size": BATCH}
    else:
        dataset = tf.data.Dataset.from_tensor_slices((images, labels))
        dataset = dataset.shuffle(len(images)).batch(BATCH)
        if where == MAPPED:
            augment = keras.Sequential(augmentation())
            dataset = dataset.map(lambda x, y: (augment(x, training=True), y))
        data = {"x": dataset}
    model.fit(**data, epochs=FLAGS.epochs, verbose=0)
    return model


def main(argv):
    del argv
    warnings.filterwarnings("ignore", category=UserWarning)
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype("float32")
    test = images[TRAINED_ON:], digits.target[TRAINED_ON:]
    attack = PGDAttack(EPSILON, steps=20, seed=0)
    print(f"{FLAGS.epochs} epochs, m={REPLAYS}, PGD-20 at {EPSILON}, 360 test digits")
    print(f"{'random layers':24}{'natural':>9}{'PGD-20':>9}   of each seed")
    for where in (AFRESH, ARRAYS, DATASET, MAPPED):
        reports = [
            evaluate_robustness(
                trained(where, seed, images[:TRAINED_ON], digits.target[:TRAINED_ON]),
                test,
                attack,
                verbose=0,
            )
            for seed in range(FLAGS.seeds)
        ]
        natural = statistics.mean(r.accuracy["natural"] for r in reports)
        robust = [r.accuracy["pgd20"] for r in reports]
        each = "  ".join(f"{share:.1%}" for share in robust)
        print(f"{where:24}{natural:9.1%}{np.mean(robust):9.1%}   {each}", flush=True)


if __name__ == "__main__":
    app.run(main)
