"""What an update costs by each method, beside a natural one.

    python benchmarks/update_cost.py --network=preact_resnet18_64 --policy=float32

The methods train in turns, a few updates each, through `fit`, on synthetic images of
CIFAR's size; the time of every update is kept, and the ratios are of the minima and of
the medians.
"""

import keras
from absl import app, flags
from subjects import METHODS, NETWORKS, compiled
from timing import in_turns, random_images, table

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "preact_resnet18_16", list(NETWORKS), "The network.")
flags.DEFINE_string("policy", "float32", "Precision.")
flags.DEFINE_multi_enum("methods", list(METHODS), list(METHODS), "What to time.")
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_integer("updates", 8, "Updates of a method in its turn.", 1)
flags.DEFINE_integer("rounds", 5, "Turns of each method.", 1)


def main(argv):
    del argv
    keras.config.set_dtype_policy(FLAGS.policy)
    methods = dict.fromkeys(["natural", *FLAGS.methods])
    models = {
        name: compiled(METHODS[name](NETWORKS[FLAGS.network]())) for name in methods
    }
    data = random_images(FLAGS.batch_size * (FLAGS.updates + 1))
    seconds = in_turns(
        models,
        dict.fromkeys(models, data),
        dict.fromkeys(models, FLAGS.batch_size),
        FLAGS.updates,
        FLAGS.rounds,
    )
    print(f"{FLAGS.network}, {FLAGS.policy}, batch {FLAGS.batch_size}")
    print(table(seconds, "natural", "update"))


if __name__ == "__main__":
    app.run(main)
