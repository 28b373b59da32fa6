"""What training costs from beginning to end, Free beside natural, on CIFAR-10.

    python benchmarks/end_to_end.py --network=tiny_cnn --updates=800
    python benchmarks/end_to_end.py --network=preact_resnet18_16 --updates=80

The wall-clock time of whole calls of `fit`, in turns: reading with TFDS, decoding,
shuffling, pad-crop-flip and the updates. Free training reads m times fewer minibatches.
"""

import time
import warnings

import keras
from absl import app, flags
from subjects import EPSILON, NETWORKS, compiled
from timing import table

from keras_free_adv import FreeAdversarialModel, datasets
from keras_free_adv.data.addressable_dataset import minibatches_from

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "tiny_cnn", list(NETWORKS), "The network.")
flags.DEFINE_string("policy", "float32", "Precision.")
flags.DEFINE_integer("updates", 800, "Updates in a call of fit.", 1)
flags.DEFINE_integer("rounds", 5, "Calls of each.", 1)
flags.DEFINE_integer("replays", 8, "m of Free training.", 1)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")


def main(argv):
    del argv
    warnings.filterwarnings("ignore", message="This run ends after")
    keras.config.set_dtype_policy(FLAGS.policy)
    network = NETWORKS[FLAGS.network]
    free = f"free{FLAGS.replays}"
    models = {
        "natural": compiled(network()),
        free: compiled(FreeAdversarialModel(network(), EPSILON, replays=FLAGS.replays)),
    }
    train = datasets.load(
        "cifar10",
        split="train",
        batch_size=128,
        augment="standard",
        seed=0,
        data_dir=FLAGS.data_dir,
    )
    seconds = {name: [] for name in models}
    for number in range(FLAGS.rounds + 1):  # the first traces
        for name, model in models.items():
            # Keras would stop at the end of a pass; an adversarial model goes on.
            data = minibatches_from(train, 0) if name == "natural" else train
            begin = time.perf_counter()
            model.fit(data, steps_per_epoch=FLAGS.updates, epochs=1, verbose=0)
            if number:
                seconds[name].append(time.perf_counter() - begin)
    print(f"{FLAGS.network}, {FLAGS.policy}, {FLAGS.updates} updates of 128 images")
    print(table(seconds, "natural", "fit"))


if __name__ == "__main__":
    app.run(main)
