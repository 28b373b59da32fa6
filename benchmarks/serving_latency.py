"""How long an exported model takes to answer.

    python benchmarks/serving_latency.py --network=preact_resnet18_16 --requests=200

Requests to the artifact of `export_for_serving`, to a bare SavedModel of the same
network (`model.export`) and to `model.predict`, in turns. Both artifacts are called as
TensorFlow Serving calls them, through their default signature.
"""

import tempfile
import time
import warnings
from pathlib import Path

import tensorflow as tf
from absl import app, flags
from subjects import NETWORKS
from timing import random_images, table

from keras_free_adv import export_for_serving

FLAGS = flags.FLAGS

flags.DEFINE_enum("network", "preact_resnet18_16", sorted(NETWORKS), "What is served.")
flags.DEFINE_list("batch_sizes", "1,64", "Images in a request.")
flags.DEFINE_integer("requests", 200, "Requests to each, for each size.", 1)


def signature(path):
    """The default signature of a SavedModel, with what it needs to stay alive."""
    loaded = tf.saved_model.load(str(path))
    served = loaded.signatures["serving_default"]
    (name,) = served.structured_input_signature[1]
    return lambda images: (loaded, served(**{name: images}))


def main(argv):
    warnings.filterwarnings("ignore", message=".*retracing")
    del argv
    model = NETWORKS[FLAGS.network]()
    with tempfile.TemporaryDirectory() as folder:
        exported = signature(export_for_serving(model, Path(folder) / "exported"))
        model.export(Path(folder) / "bare", verbose=False)
        bare = signature(Path(folder) / "bare")
    for size in map(int, FLAGS.batch_sizes):
        images, _ = random_images(size)
        tensor = tf.constant(images)
        subjects = {
            "bare SavedModel": lambda tensor=tensor: bare(tensor),
            "export_for_serving": lambda tensor=tensor: exported(tensor),
            "model.predict": lambda images=images: model.predict(images, verbose=0),
        }
        seconds = {name: [] for name in subjects}
        for number in range(FLAGS.requests + 5):
            for name, answer in subjects.items():
                begin = time.perf_counter()
                answer()
                if number >= 5:
                    seconds[name].append(time.perf_counter() - begin)
        print(f"\n{FLAGS.network}, {size} images a request\n")
        print(table(seconds, "bare SavedModel", "answered by"))
        best = min(seconds["export_for_serving"])
        print(f"\n{size / best:.0f} images a second by export_for_serving, at best.")


if __name__ == "__main__":
    app.run(main)
