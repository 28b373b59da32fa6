"""What a pretrained robust network is worth on a small data set of another kind.

    python benchmarks/transfer.py

The small set is 20 of scikit-learn's digits of each class, enlarged to 32x32 pixels. A
network is trained on it by Free training, for the same number of updates: from random
weights, from the natural CIFAR-10 model, and from the robust one; or only a new last
layer is, on features that stay. Printed are accuracies on 360 other digits, natural and
under PGD-20, means over the seeds.
"""

import statistics

import keras
import numpy as np
from absl import app, flags

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAttack,
    datasets,
    evaluate_robustness,
    zoo,
)

FLAGS = flags.FLAGS
flags.DEFINE_float("epsilon", 0.1, "Radius of the ball, pixels in [0, 1].", 0)
flags.DEFINE_integer("of_each_class", 20, "Training images.", 1)
flags.DEFINE_integer("epochs", 60, "Of updates.", 1)
flags.DEFINE_float("learning_rate", 1e-3, "Adam's, where all is trained.", 0)
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the training.")

STARTS = {
    "random weights": None,
    "natural": "cifar10_compact_natural",
    "robust": "cifar10_compact_free",
}
REPLAYS = 4


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Digits as color images of 32x32 pixels."""
    data = datasets.load("digits", split=split, batch_size=2000, shuffle=False)
    images, labels = next(iter(data))
    images = keras.ops.image.resize(images, (32, 32), interpolation="bicubic")
    images = np.clip(keras.ops.convert_to_numpy(images), 0, 1)
    return np.repeat(images, 3, axis=-1), labels.numpy()


def small_set(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many images of each class, others for each seed."""
    images, labels = digits("train")
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.concatenate(
        [order[labels[order] == c][: FLAGS.of_each_class] for c in range(10)]
    )
    return images[chosen], labels[chosen]


def network(start: str | None, *, frozen: bool) -> keras.Model:
    """The network of the pretrained models, with a new last layer."""
    if start is None:
        body = zoo.compact_resnet(activation="silu")
    else:
        body = zoo.pretrained(start)
    features = keras.Model(body.inputs, body.layers[-1].input)
    features.trainable = not frozen
    inputs = keras.Input((32, 32, 3))
    # Frozen features stay in inference mode: their statistics are not moved.
    x = features(inputs, training=False if frozen else None)
    return keras.Model(inputs, keras.layers.Dense(10, name="new_logits")(x))


def accuracies(start: str | None, seed: int, *, frozen: bool) -> dict[str, float]:
    """Trains, and evaluates."""
    keras.utils.set_random_seed(seed)
    images, labels = small_set(seed)
    net = network(start, frozen=frozen)
    model = FreeAdversarialModel(net, FLAGS.epsilon, replays=REPLAYS)
    updates = FLAGS.epochs * -(-len(images) // 50)
    peak = 1e-2 if frozen else FLAGS.learning_rate
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(peak, updates)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images, labels, batch_size=50, epochs=FLAGS.epochs, verbose=0)
    attack = PGDAttack(FLAGS.epsilon, seed=0)
    return evaluate_robustness(net, digits("test"), attack, verbose=0).accuracy


def main(argv: list[str]) -> None:
    del argv
    print("| trained | beginning with | natural | PGD-20 |")
    print("|---|---|---|---|")
    for frozen, what in ((False, "all of it"), (True, "a new last layer")):
        for name, start in STARTS.items():
            if frozen and start is None:
                continue
            found = [accuracies(start, int(s), frozen=frozen) for s in FLAGS.seeds]
            cells = [
                f"{100 * statistics.fmean(each[key] for each in found):.1f}%"
                for key in ("natural", "pgd20")
            ]
            print(f"| {what} | {name} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    app.run(main)
