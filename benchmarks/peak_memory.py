"""The peak memory of training, Free beside natural.

    python benchmarks/peak_memory.py --network=preact_resnet18_64

Each run is a process of its own, in turns; what is compared is the most memory that was
resident at any time.
"""

import json
import resource
import statistics
import subprocess
import sys

import keras
from absl import app, flags
from subjects import METHODS, NETWORKS, compiled
from timing import random_images

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "preact_resnet18_16", list(NETWORKS), "The network.")
flags.DEFINE_string("policy", "float32", "Precision.")
flags.DEFINE_multi_enum("methods", ["free8"], list(METHODS), "What to run.")
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_integer("updates", 10, "Updates of a run.", 1)
flags.DEFINE_integer("runs", 5, "Processes of each method.", 1)
flags.DEFINE_string("only", None, "Trains by this method, and prints its peak.")


def train(method):
    """Mebibytes resident at most, in this process."""
    keras.config.set_dtype_policy(FLAGS.policy)
    model = compiled(METHODS[method](NETWORKS[FLAGS.network]()))
    images, labels = random_images(FLAGS.batch_size * FLAGS.updates)
    model.fit(images, labels, batch_size=FLAGS.batch_size, verbose=0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv):
    if FLAGS.only:
        print(json.dumps(train(FLAGS.only)))
        return
    methods = list(dict.fromkeys(["natural", *FLAGS.methods]))
    peaks = {method: [] for method in methods}
    for _ in range(FLAGS.runs):
        for method in methods:
            command = [sys.executable, *argv, f"--only={method}"]
            command += [
                f"--{name}={FLAGS[name].value}"
                for name in ("network", "policy", "batch_size", "updates")
            ]
            ended = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            peaks[method].append(json.loads(ended.stdout.splitlines()[-1]))
    print(f"{FLAGS.network}, {FLAGS.policy}, batch {FLAGS.batch_size}")
    print("| training | minimum, MiB | median, MiB | / natural (medians) |")
    print("|---|---|---|---|")
    for method, found in peaks.items():
        median = statistics.median(found)
        ratio = median / statistics.median(peaks["natural"])
        print(f"| {method} | {min(found):.0f} | {median:.0f} | {ratio:.3f} |")


if __name__ == "__main__":
    app.run(main)
