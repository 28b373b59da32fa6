"""Images a second of Free training, beside a plain PyTorch loop of the same method.

    python -m venv .peers && .peers/bin/pip install torch==2.13.0 \\
        --index-url https://download.pytorch.org/whl/cpu
    python benchmarks/against_pytorch.py --peers_python=.peers/bin/python --width=64

PreActResNet-18, m = 8, synthetic images of CIFAR's size. The loop is a program of its
own (peers/free_training.py: channels-last, autocast for bfloat16) in a process of its
own; both train in turns, with the same number of threads; the one that waits sleeps.
"""

import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import keras
import tensorflow as tf
from absl import app, flags
from subjects import METHODS, compiled
from timing import UpdateTimes, random_images

from keras_free_adv import zoo

FLAGS = flags.FLAGS
flags.DEFINE_string("peers_python", None, "Python that has PyTorch.", required=True)
flags.DEFINE_integer("width", 64, "Channels of the first stage.", 1)
flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "Of convolutions.")
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_integer("threads", os.cpu_count(), "Threads of each.", 1)
flags.DEFINE_integer("updates", 5, "Updates of each in its turn.", 1)
flags.DEFINE_integer("rounds", 6, "Turns of each.", 1)


def pytorch():
    """The waiting process; a line "5" has it make five updates."""
    settings = (FLAGS.width, FLAGS.batch_size, FLAGS.precision, FLAGS.threads)
    return subprocess.Popen(
        [
            os.path.abspath(FLAGS.peers_python),
            "-m",
            "peers.free_training",
            *map(str, settings),
        ],
        cwd=Path(__file__).parent,
        # Its threads sleep while it waits: by default they spin.
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main(argv):
    del argv
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    if FLAGS.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = compiled(METHODS["free8"](zoo.preact_resnet18(width=FLAGS.width)))
    images, labels = random_images(FLAGS.batch_size * (FLAGS.updates + 1))
    ours, theirs = UpdateTimes(), []
    with pytorch() as peer:
        for number in range(FLAGS.rounds + 1):  # the first is for warming up
            model.fit(
                images,
                labels,
                batch_size=FLAGS.batch_size,
                steps_per_epoch=FLAGS.updates + 1,
                callbacks=[ours],
                verbose=0,
            )
            time.sleep(0.3)  # until TensorFlow's threads sleep
            peer.stdin.write(f"{FLAGS.updates}\n")
            peer.stdin.flush()
            theirs += json.loads(peer.stdout.readline())
            if not number:
                ours.seconds.clear()
                theirs.clear()
        peer.stdin.close()
    print(
        f"Free m=8, PreActResNet-18 of width {FLAGS.width}, {FLAGS.precision}, batch "
        f"{FLAGS.batch_size}, {FLAGS.threads} threads"
    )
    print("| images a second | keras_free_adv | PyTorch | ratio |")
    print("|---|---|---|---|")
    for name, of in (("best", min), ("median", statistics.median)):
        one, two = (FLAGS.batch_size / of(each) for each in (ours.seconds, theirs))
        print(f"| {name} | {one:.1f} | {two:.1f} | {one / two:.3f} |")


if __name__ == "__main__":
    app.run(main)
