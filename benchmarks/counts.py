"""Counts what an update computes and what it sends, from its graph on two replicas.

    python benchmarks/counts.py --network=preact_resnet18_64
    python benchmarks/counts.py --network=resnet50 --batch_size=8

Floating-point operations of the convolutions and matrix products of one replica, by
what they are for, and the bytes of the tensors that the replicas sum.
"""

import collections
import math
import warnings

import keras
import tensorflow as tf
from absl import app, flags, logging
from subjects import METHODS, NETWORKS, compiled
from timing import random_images

FLAGS = flags.FLAGS
FORWARD, INPUT, WEIGHTS = "forward", "inputs' gradient", "weights' gradient"
CONVOLUTIONS = {
    "Conv2D": FORWARD,
    "Conv2DBackpropInput": INPUT,
    "Conv2DBackpropFilter": WEIGHTS,
}
STEPS = 7  # of the K-PGD that is compared


def resnet50():
    """Of ImageNet."""
    return keras.applications.ResNet50(weights=None, classifier_activation=None)


CHOICES = {**NETWORKS, "resnet50": resnet50}
flags.DEFINE_enum("network", "preact_resnet18_64", list(CHOICES), "The network.")
flags.DEFINE_integer("batch_size", 128, "Images of a replica.", 1)


def graph_of(method, strategy):
    """The graph of an update of all replicas, and the parameters of the network."""
    with strategy.scope():
        network = CHOICES[FLAGS.network]()
        model = compiled(METHODS[method](network))
    both = strategy.num_replicas_in_sync * FLAGS.batch_size
    images, labels = random_images(both, network.input_shape[1])
    model.fit(images, labels, batch_size=both, verbose=0)  # makes all variables
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    data = data.batch(both, drop_remainder=True)
    minibatches = iter(strategy.experimental_distribute_dataset(data))

    @tf.function
    def update():
        return strategy.run(model.train_step, args=(next(minibatches),))

    return update.get_concrete_function().graph, model


def operations(graph):
    """Floating-point operations of the first replica, by purpose."""
    counts = collections.Counter()
    for op in graph.get_operations():
        # A gradient of the pixels that nobody asked for is not computed.
        if "CPU:1" in op.device or not any(each.consumers() for each in op.outputs):
            continue
        if op.type in CONVOLUTIONS:
            purpose = CONVOLUTIONS[op.type]
            kernel, maps = {
                FORWARD: lambda op=op: (op.inputs[1], op.outputs[0]),
                INPUT: lambda op=op: (op.inputs[1], op.inputs[2]),
                WEIGHTS: lambda op=op: (op.outputs[0], op.inputs[2]),
            }[purpose]()
            counts[purpose] += 2 * math.prod(maps.shape[:3]) * math.prod(kernel.shape)
        elif op.type == "MatMul":
            transposed = [op.get_attr(f"transpose_{side}") for side in "ab"]
            purpose = {(False, False): FORWARD, (False, True): INPUT}.get(
                tuple(transposed), WEIGHTS
            )
            inner = op.inputs[0].shape[0 if transposed[0] else 1]
            counts[purpose] += 2 * math.prod(op.outputs[0].shape) * inner
    return counts


def summed_bytes(graph):
    """Bytes of what one replica gives to the sums over all."""
    return sum(
        math.prod(op.outputs[0].shape) * op.outputs[0].dtype.size
        for op in graph.get_operations()
        if op.type.startswith("CollectiveReduce") and "CPU:0" in op.device
    )


def main(argv):
    del argv
    logging.set_verbosity(logging.ERROR)  # TensorFlow tells of each sum
    warnings.filterwarnings("ignore", message="This run ends after")
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    print(f"{FLAGS.network}, {FLAGS.batch_size} images of a replica")
    print(f"| an update | GFLOP: {FORWARD} | {INPUT} | {WEIGHTS} | all | summed, MB |")
    print("|---|---|---|---|---|---|")
    found = {}
    for method in ("natural", "free8"):
        graph, model = graph_of(method, strategy)
        counts = found[method] = operations(graph)
        cells = [counts[FORWARD], counts[INPUT], counts[WEIGHTS], counts.total()]
        sizes = " | ".join(f"{count / 1e9:.2f}" for count in cells)
        print(f"| {method} | {sizes} | {summed_bytes(graph) / 1e6:.2f} |")
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    print(f"\nThe trainable weights are {4 * weights / 1e6:.2f} MB.")
    natural, free = (found[method].total() for method in ("natural", "free8"))
    step = found["free8"][FORWARD] + found["free8"][INPUT]
    print(f"Free / natural: {free / natural:.4f}")
    print(f"{STEPS}-PGD / Free: {(STEPS * step + natural) / free:.2f}")


if __name__ == "__main__":
    app.run(main)
