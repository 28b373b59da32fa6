"""Where the time of an evaluation goes, and whether its progress bar says what is left.

    taskset -c 0 python benchmarks/evaluation_time.py --shares
    python benchmarks/evaluation_time.py --estimate --examples=64

`--shares` attacks images that stand, so that every batch is full, and prints of each
part of AutoAttack how much of its time is not the network's: the host's between the
calls of a graph, and all beside the passes through the network, each of which is timed
by itself.

`--estimate` runs AutoAttack, and prints what was estimated to be left, beside what was.
"""

import time
import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    FABAttack,
    PGDAttack,
    SquareAttack,
    datasets,
    evaluate_robustness,
    zoo,
)
from keras_free_adv.distribution.replicas import Replicas
from keras_free_adv.evaluation.progress import Progress

FLAGS = flags.FLAGS
flags.DEFINE_bool("shares", False, "Whose time it is.")
flags.DEFINE_bool("estimate", False, "What was estimated to be left.")
flags.DEFINE_string("model", "cifar10_compact_free", "One of the package.")
flags.DEFINE_integer("examples", 128, "Images.", 1)
flags.DEFINE_integer("rounds", 5, "Of `--shares`; the least overhead counts.", 1)
flags.DEFINE_string("search_dtype", "float32", "Of `--estimate`.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")

EPSILON = 8 / 255
STANDING = 1e-5  # an epsilon at which no image falls
MOMENTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # shares of the time
REPEATS = 7


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Test images of CIFAR-10."""
    data = datasets.load(
        "cifar10",
        split=f"test[:{FLAGS.examples}]",
        batch_size=FLAGS.examples,
        data_dir=FLAGS.data_dir,
    )
    return next(data.as_numpy_iterator())


def seconds(function: Any, *arguments: Any) -> float:
    """The least of some calls."""
    least = float("inf")
    for _ in range(REPEATS):
        begin = time.perf_counter()
        function(*arguments).numpy()
        least = min(least, time.perf_counter() - begin)
    return least


def seconds_of_passes(
    model: Any, images: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Of a forward pass of these images, and of one with the pixels' gradient."""

    @tf.function
    def forward(x: Any) -> Any:
        return model(x, training=False)

    @tf.function
    def gradient(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = model(x, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        return tape.gradient(loss, x)

    x, y = tf.constant(images), tf.constant(labels)
    forward(x), gradient(x, y)
    return seconds(forward, x), seconds(gradient, x, y)


def print_shares(model: Any, images: np.ndarray) -> None:
    """Of each part of AutoAttack and of PGD, in turns."""
    labels = model.predict(images, verbose=0).argmax(-1)  # what it says is right
    in_graph = 0.0
    run = Replicas.run

    def timed(*arguments: Any) -> Any:
        nonlocal in_graph
        begin = time.perf_counter()
        results = run(*arguments)
        int(results[1])  # waits for it
        in_graph += time.perf_counter() - begin
        return results

    attacks = [
        PGDAttack(STANDING, steps=20, seed=0),
        APGDAttack(STANDING, steps=20, seed=0),
        FABAttack(STANDING, steps=10, targets=2, seed=0),
        SquareAttack(STANDING, queries=60, rescale_schedule=False, seed=0),
    ]
    settings = {"batch_size": len(images), "verbose": 0}
    for attack in attacks:  # makes the graphs
        evaluate_robustness(model, (images, labels), attack, **settings)
    Replicas.run = timed  # type: ignore[method-assign]
    shares: dict[str, list[tuple[float, float]]] = {a.name: [] for a in attacks}
    for _ in range(FLAGS.rounds):
        for attack in attacks:
            forward, gradient = seconds_of_passes(model, images, labels)
            in_graph = 0.0
            report = evaluate_robustness(model, (images, labels), attack, **settings)
            whole, passes = report.seconds[attack.name], report.passes[attack.name]
            alone = passes["forward"] - passes["backward"]
            network = alone * forward + passes["backward"] * gradient
            network /= len(images)
            shares[attack.name].append((1 - in_graph / whole, 1 - network / whole))
    Replicas.run = run  # type: ignore[method-assign]
    print("| attack | host, % | all but the network, % |\n|---|---|---|")
    for name, found in shares.items():
        host, beside = (100 * min(column) for column in zip(*found, strict=True))
        print(f"| {name} | {host:.1f} | {beside:.1f} |")


def print_estimates(model: Any, images: np.ndarray, labels: np.ndarray) -> None:
    """Of an AutoAttack: what its bar said, and what came."""
    said: list[tuple[float, float]] = []
    add = Progress.add

    def noted(self: Progress, **values: Any) -> None:
        if values.get("left"):
            said.append((time.perf_counter(), values["left"][-1]))
        add(self, **values)

    Progress.add = noted  # type: ignore[method-assign]
    begin = time.perf_counter()
    report = evaluate_robustness(
        model,
        (images, labels),
        AutoAttack(EPSILON, seed=0),
        batch_size=128,
        search_dtype=FLAGS.search_dtype,
    )
    end = time.perf_counter()
    print(report)
    print("| after | estimated, s | left, s | ratio |\n|---|---|---|---|")
    for share in MOMENTS:
        moment = begin + share * (end - begin)
        at, estimated = min(said, key=lambda each: abs(each[0] - moment))
        left = end - at
        print(
            f"| {share:.0%} | {estimated:.0f} | {left:.0f} | {estimated / left:.2f} |"
        )


def main(argv: list[str]) -> None:
    """Measures what is asked for."""
    if len(argv) > 1 or not (FLAGS.shares or FLAGS.estimate):
        raise app.UsageError("--shares or --estimate is needed, and nothing else.")
    warnings.simplefilter("ignore", UserWarning)
    model = zoo.pretrained(FLAGS.model)
    images, labels = images_and_labels()
    if FLAGS.shares:
        print_shares(model, images)
    if FLAGS.estimate:
        print_estimates(model, images, labels)


if __name__ == "__main__":
    app.run(main)
