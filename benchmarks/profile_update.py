"""Where the time of an update goes, by TensorFlow's profiler: Free beside natural.

    python benchmarks/profile_update.py --network=preact_resnet18_16

Milliseconds an update that each kind of operation ran, summed over its calls and over
threads, which overlap: the sum is more than the time of an update.
"""

import collections
import pathlib
import tempfile
import warnings

import keras
import tensorflow as tf
from absl import app, flags
from subjects import METHODS, NETWORKS, compiled
from timing import random_images

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "preact_resnet18_16", list(NETWORKS), "The network.")
flags.DEFINE_string("policy", "float32", "Precision.")
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_integer("updates", 16, "Updates that are profiled.", 1)
flags.DEFINE_integer("lines", 20, "Kinds of operation to list.", 1)


def milliseconds_of_operations(folder):
    """What the profile in a folder says, summed by kind of operation."""
    # Not public, but the only reader that comes with TensorFlow.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    profile = xplane_pb2.XSpace.FromString(path.read_bytes())
    total = collections.Counter()
    for plane in profile.planes:
        names = {key: data.name for key, data in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                # "name of the operation:its kind", among spans of other things
                kind = names[event.metadata_id].rpartition(":")[2]
                if hasattr(tf.raw_ops, kind) or kind.startswith("_Mkl"):
                    total[kind] += event.duration_ps / 1e9
    return total


def profiled(method):
    """Milliseconds an update, by kind of operation."""
    model = compiled(METHODS[method](NETWORKS[FLAGS.network]()))
    images, labels = random_images(FLAGS.batch_size * FLAGS.updates)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):  # the first traces
            if number:
                tf.profiler.experimental.start(folder)
            model.fit(images, labels, batch_size=FLAGS.batch_size, verbose=0)
        tf.profiler.experimental.stop()
        total = milliseconds_of_operations(folder)
    return {
        kind: spent / FLAGS.updates
        for kind, spent in total.items()
        if not kind.endswith("Dataset")  # of one contains that of others
    }


def main(argv):
    del argv
    warnings.filterwarnings("ignore", message="This run ends after")
    keras.config.set_dtype_policy(FLAGS.policy)
    natural, free = profiled("natural"), profiled("free8")
    kinds = sorted(free, key=free.get, reverse=True)[: FLAGS.lines]
    print(f"{FLAGS.network}, {FLAGS.policy}, batch {FLAGS.batch_size}, ms an update")
    print("| operation | natural | free8 |\n|---|---|---|")
    print(f"| all | {sum(natural.values()):.1f} | {sum(free.values()):.1f} |")
    for kind in kinds:
        print(f"| {kind} | {natural.get(kind, 0.0):.2f} | {free[kind]:.2f} |")


if __name__ == "__main__":
    app.run(main)
