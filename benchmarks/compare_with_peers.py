r"""Robust accuracy and cost of our attacks beside those of other libraries.

Both sides attack the same saved Keras classifier (this library directly, the peers
through a PyTorch network with the same layers and weights, checked to give the same
logits) on the same CIFAR-10 test images, in float32, with the same settings, batch
size and number of threads. The peers live in an environment of their own:

    python -m venv .peers
    .peers/bin/pip install torch==2.13.0 torchvision==0.28.0 torchattacks==3.5.1 \
        pyautoattack==0.2.0 foolbox==3.3.4

A quick look, a few minutes; then the real thing, hours on two cores. Stop it at any
time: the same command goes on after the last finished result.

    python benchmarks/compare_with_peers.py --peers_python=.peers/bin/python \
        --model=runs/cifar10-free/model.keras --examples=32 --steps_scale=0.1 \
        --queries=100 --output=runs/peers-quick
    python benchmarks/compare_with_peers.py --peers_python=.peers/bin/python \
        --model=runs/cifar10-free/model.keras

Speed: everybody in turn, several times, in one run, without the counting of passes, on
a machine that has nothing else to do:

    python benchmarks/compare_with_peers.py --peers_python=.peers/bin/python \
        --model=runs/cifar10-free/model.keras --examples=256 --speed --norms=linf

What each library implements, and where it differs, is said in `peers/with_*.py`.

How to read the table: an example that the model gets wrong anyway counts as broken.
"Seconds" are the whole evaluation, with the clean predictions, without start-up and
compilation: each side has attacked `--warmup_examples` before. Libraries return
images, so a peer's evaluation contains one forward pass for each attack to judge them.
"Cores" is processor time by wall-clock time: much less than --threads on either side
means that something else ran beside, and the seconds say little.
Peers attack what still stands, in full batches, restart by restart, as a careful user
has them do. Passes count examples, not batches, and include rows that are idle.

Writes into --output: export.npz, results.json (every result, example by example) and
table.md. Remove results.json after a change of code: it is not noticed.
"""

import functools
import hashlib
import itertools
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from comparison.export import float32_classifier, write_export
from comparison.our_side import OurSide
from comparison.peer_process import AttackFailed, PeerProcess
from comparison.results import OURS, Results
from comparison.tables import rows_table, speed_table
from peers.settings import EPSILON, Settings

import keras_free_adv as kfa
from keras_free_adv import datasets, files


def _shared(s: Settings) -> dict[str, Any]:
    return {"epsilon": s.epsilon, "norm": s.norm, "seed": s.seed}


def _pgd(s: Settings, steps: int, **settings: Any) -> Any:
    # The last iterate, as the peers' PGD.
    return kfa.PGDAttack(
        steps=s.steps(steps),
        step_size=s.step_size,
        keep="last",
        **_shared(s),
        **settings,
    )


def _apgd(s: Settings, loss: str) -> Any:
    return kfa.APGDAttack(
        steps=s.steps(100), loss=loss, targets=s.targets, **_shared(s)
    )


def _fab_t(s: Settings) -> Any:
    return kfa.FABAttack(steps=s.steps(100), targets=s.targets, **_shared(s))


def _square(s: Settings) -> Any:
    # The schedule as within AutoAttack, which is what the peers are run with.
    return kfa.SquareAttack(queries=s.queries, rescale_schedule=False, **_shared(s))


def _autoattack(s: Settings) -> Any:
    if s.steps_scale == 1.0 and s.queries == 5000:
        return kfa.AutoAttack(**_shared(s))
    parts = [_apgd(s, "cross_entropy"), _apgd(s, "targeted_dlr"), _fab_t(s), _square(s)]
    return kfa.AutoAttack(attacks=parts, **_shared(s))


# Our attack of each row; the peers' are in peers/with_*.py.
OUR_ATTACKS: dict[str, Callable[[Settings], Any]] = {
    "pgd20": lambda s: _pgd(s, 20),
    "cw100": lambda s: _pgd(s, 100, loss="cw_margin"),
    "pgd20x10": lambda s: _pgd(s, 20, restarts=10),
    "apgd_ce": lambda s: _apgd(s, "cross_entropy"),
    "apgd_dlr": lambda s: _apgd(s, "dlr"),
    "apgd_t": lambda s: _apgd(s, "targeted_dlr"),
    "fab_t": _fab_t,
    "square": _square,
    "autoattack": _autoattack,
}
SPEED_ROWS = ("pgd20x10", "autoattack")
LIBRARIES = ("pyautoattack", "torchattacks", "foolbox")
# On a GPU all of them convolve in TF32, with 10 bits of mantissa.
LARGEST_LOGIT_DIFFERENCE = {"cpu": 1e-4, "cuda": 5e-2}

FLAGS = flags.FLAGS

# What is attacked.
flags.DEFINE_string("model", None, "A .keras file: a zoo model of 32x32x3 images.")
flags.DEFINE_integer("examples", 1000, "Test images of CIFAR-10, the first so many.", 1)
flags.DEFINE_string("data", "cifar10", "Of TFDS, or an .npz file with its images.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")

# With what.
flags.DEFINE_string("peers_python", None, "Python of the peers' environment.")
flags.DEFINE_enum("peers_device", "cpu", ["cpu", "cuda"], "Where PyTorch computes.")
flags.DEFINE_list("only", list(OUR_ATTACKS), "Attacks to run, with commas between.")
flags.DEFINE_list("norms", list(EPSILON), "linf (8/255), l2 (0.5), or both.")
flags.DEFINE_list("libraries", list(LIBRARIES), "Peers to run, where installed.")
flags.DEFINE_bool("ours", True, "Run our side too; --noours for the peers alone.")
flags.DEFINE_enum(
    "search_dtype",
    "float32",
    ["float32", "bfloat16", "float16"],
    "What our side searches in; the peers compute in float32.",
)
flags.DEFINE_float("steps_scale", 1.0, "Multiplies every number of steps.", 0)
flags.DEFINE_integer("queries", 5000, "Queries of Square.", 1)
flags.DEFINE_integer("batch_size", 128, "Examples in a minibatch.", 1)
flags.DEFINE_integer("seed", 0, "Seed of the attacks, each library's own numbers.")
flags.DEFINE_integer("threads", 2, "Threads of TensorFlow and of PyTorch.", 1)
flags.DEFINE_integer("warmup_examples", 8, "Attacked before the clock starts.", 1)

# Speed, and output.
flags.DEFINE_bool("speed", False, f"Time {' and '.join(SPEED_ROWS)} in turn instead.")
flags.DEFINE_integer("rounds", 3, "Rounds of --speed.", 1)
flags.DEFINE_string("output", None, "Folder; runs/peers-NAME of the model's if unset.")


def run_settings() -> dict[str, Any]:
    """What the results depend on; a run that goes on must have the same."""
    names = (
        "examples",
        "steps_scale",
        "queries",
        "batch_size",
        "seed",
        "threads",
        "warmup_examples",
        "data",
        "peers_device",
    )
    checksum = hashlib.sha256(Path(FLAGS.model).read_bytes()).hexdigest()
    settings = {"model": checksum, **{name: FLAGS[name].value for name in names}}
    if FLAGS.search_dtype != "float32":
        settings["search_dtype"] = FLAGS.search_dtype
    return settings


def settings_of(norm: str) -> Settings:
    """The settings of the attacks in a norm."""
    return Settings(
        norm, FLAGS.batch_size, FLAGS.steps_scale, FLAGS.queries, FLAGS.seed
    )


def test_examples() -> tuple[np.ndarray, np.ndarray]:
    """The first test images of CIFAR-10, in [0, 1], and their labels."""
    data = datasets.load(
        FLAGS.data, split="test", batch_size=FLAGS.examples, data_dir=FLAGS.data_dir
    )
    images, labels = next(iter(data))
    return images.numpy(), labels.numpy()


def greet(ours: OurSide, peers: PeerProcess, results: Results) -> list[str]:
    """Checks that both networks are one; returns the libraries to compare with."""
    hello = peers.hello()
    difference = hello["largest_logit_difference"]
    largest = LARGEST_LOGIT_DIFFERENCE[FLAGS.peers_device]
    if not difference <= largest:
        raise RuntimeError(
            f"The PyTorch network is not the Keras model: logits differ by "
            f"{difference:.2e}, more than {largest:.0e}."
        )
    modules = {"keras_free_adv": kfa, "keras": keras, "tensorflow": tf}
    versions = {name: module.__version__ for name, module in modules.items()}
    milliseconds = ours.gradient_milliseconds()
    results.note(
        "environment",
        {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "versions": {**versions, **hello["versions"]},
            "largest_logit_difference": difference,
            "keras_gradient_milliseconds": milliseconds,
            "pytorch_gradient_milliseconds": hello["gradient_milliseconds"],
        },
    )
    print(
        f"Logits differ by {difference:.1e} at most. A batch forward and backward in "
        f"milliseconds: Keras {milliseconds:.1f}, PyTorch "
        f"{hello['gradient_milliseconds']}.",
        flush=True,
    )
    missing = set(FLAGS.libraries) - set(hello["libraries"])
    if missing:
        print(f"Not installed among the peers: {', '.join(sorted(missing))}.")
    return [name for name in FLAGS.libraries if name not in missing]


# Maps (row, settings, number of examples, whether to count passes) to a result.
Side = Callable[[str, Settings, int, bool], dict[str, Any]]


def sides_of(
    ours: OurSide, peers: PeerProcess, libraries: list[str]
) -> dict[str, Side]:
    """Who takes part, in the order of their turns."""
    sides: dict[str, Side] = {OURS: ours.run} if FLAGS.ours else {}
    for library in libraries:
        sides[library] = functools.partial(peers.run, library)
    return sides


def warmed_up(side: Side, row: str, settings: Settings, counted: bool) -> bool:
    """Compiles and touches everything; returns whether the side has the attack."""
    count = min(FLAGS.warmup_examples, FLAGS.examples)
    return "missing" not in side(row, settings, count, counted)


def compare(sides: dict[str, Side], results: Results) -> None:
    """Every attack in every norm by every side, once."""
    for norm, row, (name, side) in itertools.product(
        FLAGS.norms, FLAGS.only, sides.items()
    ):
        key = f"{norm}/{row}"
        settings = settings_of(norm)
        if results.get("rows", key, name):
            continue
        try:
            if not warmed_up(side, row, settings, counted=True):
                continue
            result = side(row, settings, FLAGS.examples, True)
        except AttackFailed as failure:
            print(f"{key} by {name} failed:\n{failure}", flush=True)
            continue
        results.put("rows", key, name, result)
        robust = result["robust"].count("1") / FLAGS.examples
        print(f"{key} by {name}: {robust:.1%}, {result['seconds']:.1f} s", flush=True)


def rounds_before(results: Results, key: str, name: str) -> dict[str, Any]:
    """The rounds that a side has finished, maybe in a run that was stopped."""
    return results.get("speed", key, name) or {"seconds": [], "cores": []}


def time_in_turn(sides: dict[str, Side], results: Results) -> None:
    """The speed rows by every side in turn, several rounds."""
    rows = [row for row in FLAGS.only if row in SPEED_ROWS]
    for norm, row in itertools.product(FLAGS.norms, rows):
        key, settings = f"{norm}/{row}", settings_of(norm)
        able = {
            name: side
            for name, side in sides.items()
            if len(rounds_before(results, key, name)["seconds"]) < FLAGS.rounds
            and warmed_up(side, row, settings, counted=False)
        }
        for number, (name, side) in itertools.product(
            range(FLAGS.rounds), able.items()
        ):
            before = rounds_before(results, key, name)
            if len(before["seconds"]) > number:
                continue
            result = side(row, settings, FLAGS.examples, False)
            seconds = [*before["seconds"], result["seconds"]]
            cores = [*before["cores"], result["cpu_seconds"] / result["seconds"]]
            stored = {"robust": result["robust"], "seconds": seconds, "cores": cores}
            results.put("speed", key, name, stored)
            print(f"{key} by {name}: {result['seconds']:.2f} s", flush=True)


def check_flags(argv: list[str]) -> None:
    """Raises if a flag has a value that the comparison does not know."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    for name, known in (
        ("only", OUR_ATTACKS),
        ("norms", EPSILON),
        ("libraries", LIBRARIES),
    ):
        unknown = set(FLAGS[name].value) - set(known)
        if unknown:
            raise app.UsageError(
                f"--{name} must be of {', '.join(known)}. Received: {sorted(unknown)}."
            )


def main(argv: list[str]) -> None:
    """Exports, attacks from both sides, and writes the tables."""
    check_flags(argv)
    logging.set_verbosity(logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    path = Path(FLAGS.model)
    folder = Path(FLAGS.output or f"runs/peers-{path.parent.name or path.stem}")
    try:
        results = Results(folder / "results.json", run_settings())
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    images, labels = test_examples()
    model = float32_classifier(FLAGS.model)
    logits = write_export(folder / "export.npz", model, images, labels)
    ours = OurSide(model, images, labels, OUR_ATTACKS, FLAGS.search_dtype)
    with PeerProcess(
        FLAGS.peers_python, folder / "export.npz", FLAGS.threads, FLAGS.peers_device
    ) as peers:
        sides = sides_of(ours, peers, greet(ours, peers, results))
        (time_in_turn if FLAGS.speed else compare)(sides, results)
    natural = float((logits.argmax(1) == labels).mean())
    lines = [
        f"{FLAGS.examples} examples, natural accuracy {natural:.1%}",
        "",
        *rows_table(results.all("rows")),
        "",
        *speed_table(results.all("speed")),
    ]
    files.write_text(folder / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"Results: {folder}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["model", "peers_python"])
    app.run(main)
