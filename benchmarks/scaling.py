"""How the cost of an update grows with m, with the batch, and with the image.

    python benchmarks/scaling.py --sweep=replays
    python benchmarks/scaling.py --sweep=batch
    python benchmarks/scaling.py --sweep=image --batch_size=16

Everything trains in turns, through `fit`, on synthetic images.
"""

import statistics

import keras
from absl import app, flags
from subjects import EPSILON, NETWORKS, compiled
from timing import in_turns, random_images, table

from keras_free_adv import FreeAdversarialModel

FLAGS = flags.FLAGS
flags.DEFINE_enum("sweep", "replays", ["replays", "batch", "image"], "What varies.")
flags.DEFINE_enum("network", "preact_resnet18_16", list(NETWORKS), "The network.")
flags.DEFINE_string("policy", "float32", "Precision.")
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch, if that is fixed.", 1)
flags.DEFINE_integer("updates", 8, "Updates of each in its turn.", 1)
flags.DEFINE_integer("rounds", 5, "Turns of each.", 1)


def free(network, replays=8):
    return compiled(FreeAdversarialModel(network, EPSILON, replays=replays))


def timed(models, sizes=None, batches=None):
    """Seconds of the updates of each model."""
    sizes = sizes or dict.fromkeys(models, 32)
    batches = batches or dict.fromkeys(models, FLAGS.batch_size)
    data = {
        name: random_images(batches[name] * (FLAGS.updates + 1), sizes[name])
        for name in models
    }
    return in_turns(models, data, batches, FLAGS.updates, FLAGS.rounds)


def sweep_replays(network):
    models = {f"m={m}": free(network(), m) for m in (1, 2, 4, 8, 16, 32)}
    return table(timed(models), "m=1", "update")


def sweep_batch(network):
    batches = {f"batch {size}": size for size in (32, 64, 128, 256, 512)}
    seconds = timed({name: free(network()) for name in batches}, batches=batches)
    lines = ["| Free m=8 | images/s (best) | images/s (median) |", "|---|---|---|"]
    for name, times in seconds.items():
        best, middle = batches[name] / min(times), statistics.median(times)
        lines.append(f"| {name} | {best:.0f} | {batches[name] / middle:.0f} |")
    return "\n".join(lines)


def sweep_image(network):
    parts = []
    for size in (32, 64, 128, 224):
        shape = (size, size, 3)
        models = {
            "natural": compiled(network(input_shape=shape)),
            "free8": free(network(input_shape=shape)),
        }
        seconds = timed(models, sizes=dict.fromkeys(models, size))
        parts.append(table(seconds, "natural", f"{size}x{size}"))
    return "\n\n".join(parts)


def main(argv):
    del argv
    keras.config.set_dtype_policy(FLAGS.policy)
    sweep = globals()[f"sweep_{FLAGS.sweep}"]
    print(f"{FLAGS.network}, {FLAGS.policy}, {FLAGS.sweep}")
    print(sweep(NETWORKS[FLAGS.network]))


if __name__ == "__main__":
    app.run(main)
