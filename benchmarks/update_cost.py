"""What an update costs by each method, alternating in one process.

    python benchmarks/update_cost.py --width=16 --policy=mixed_bfloat16

Each round times the same number of updates of each, through `fit`, on synthetic images
of CIFAR's size; the ratios are of minima and of medians over the rounds.
"""

import statistics
import time
import warnings

import keras
import numpy as np
from absl import app, flags

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAdversarialModel,
    TRADESModel,
    zoo,
)

FLAGS = flags.FLAGS
flags.DEFINE_integer("width", 16, "Channels of PreActResNet-18's first stage.", 1)
flags.DEFINE_string("policy", "float32", "Precision.")
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_integer("updates", 20, "Updates in a round.", 1)
flags.DEFINE_integer("rounds", 7, "Rounds.", 1)

METHODS = {
    "natural": lambda network: network,
    "Free m=8": lambda network: FreeAdversarialModel(network, 8 / 255, replays=8),
    "FGSM-RS": lambda network: PGDAdversarialModel(
        network, 8 / 255, steps=1, step_size=10 / 255
    ),
    "7-PGD": lambda network: PGDAdversarialModel(network, 8 / 255, steps=7),
    "TRADES": lambda network: TRADESModel(network, 8 / 255, steps=10),
}


def main(argv):
    del argv
    warnings.filterwarnings("ignore", message="This run ends after")
    keras.config.set_dtype_policy(FLAGS.policy)
    generator = np.random.default_rng(0)
    count = FLAGS.batch_size * FLAGS.updates
    images = generator.uniform(size=(count, 32, 32, 3)).astype("float32")
    labels = generator.integers(0, 10, count)
    models = {}
    for name, wrap in METHODS.items():
        models[name] = wrap(zoo.preact_resnet18(width=FLAGS.width))
        models[name].compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    seconds = {name: [] for name in METHODS}
    for number in range(FLAGS.rounds + 1):  # the first is for tracing
        for name, model in models.items():
            begin = time.perf_counter()
            model.fit(images, labels, batch_size=FLAGS.batch_size, verbose=0)
            if number:
                seconds[name].append((time.perf_counter() - begin) / FLAGS.updates)
    print(f"PreActResNet-18, width {FLAGS.width}, {FLAGS.policy}, milliseconds/update")
    print("| training | minimum | median | / natural (minima) | / natural (medians) |")
    print("|---|---|---|---|---|")
    least = min(seconds["natural"])
    middle = statistics.median(seconds["natural"])
    for name, times in seconds.items():
        low, median = min(times), statistics.median(times)
        print(
            f"| {name} | {1e3 * low:.1f} | {1e3 * median:.1f} | {low / least:.2f} "
            f"| {median / middle:.2f} |"
        )


if __name__ == "__main__":
    app.run(main)
