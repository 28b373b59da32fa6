"""Does a search in half precision reach the verdicts of one in float32, and how fast?

    python benchmarks/search_precision.py --model=cifar10_compact_free --examples=500

Attacks the first test images of CIFAR-10 in float32 with two seeds, and in half
precision with the first of them, and prints on how many images the verdicts differ, in
either direction. What is finished stays in --output, and is not done again.

Where a processor has no instructions for bfloat16 its gradients take ten times as long.
`--emulate` then computes in float32, and rounds the outputs of the inner layers, the
kernels of their convolutions and, on the way back, their gradients: the same search to
about a rounding, of which the times mean nothing.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags
from keras import ops

from keras_free_adv import (
    AutoAttack,
    PGDAttack,
    RobustnessReport,
    SquareAttack,
    datasets,
    evaluate_robustness,
    files,
    zoo,
)
from keras_free_adv.attacks import compiled_attack

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model", "cifar10_compact_free", "Of the package, or a .keras file."
)
flags.DEFINE_integer("examples", 500, "Test images.", lower_bound=1)
flags.DEFINE_list("attacks", ["autoattack", "square", "pgd20x10"], "Which.")
flags.DEFINE_integer("queries", 1000, "Of square by itself.", lower_bound=1)
flags.DEFINE_enum("norm", "linf", ["linf", "l2"], "The ball's.")
flags.DEFINE_enum("dtype", "bfloat16", ["bfloat16", "float16"], "Of the search.")
flags.DEFINE_bool("emulate", False, "Round, instead of computing in it.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string("output", "runs/search_precision", "Folder.")


def attack_of(name: str, seed: int) -> Any:
    """The attack of that name, at the usual epsilon."""
    ball: dict[str, Any] = {
        "epsilon": 8 / 255 if FLAGS.norm == "linf" else 0.5,
        "norm": FLAGS.norm,
        "seed": seed,
        "name": name,
    }
    if name == "autoattack":
        return AutoAttack(**ball)
    if name == "square":
        square = SquareAttack(**ball, queries=FLAGS.queries)
        square.white_box = True  # else it would stay in float32: this shows why
        return square
    if name == "pgd20x10":
        return PGDAttack(**ball, steps=20, restarts=10)
    raise app.UsageError(f"--attacks: {name} is unknown.")


@contextlib.contextmanager
def rounding(layers: Iterable[Any], dtype: str) -> Iterator[None]:
    """Makes layers round to `dtype`, computing in float32, until the block ends."""

    def rounded(tensor: Any) -> Any:
        return ops.cast(ops.cast(tensor, dtype), "float32")

    def patched(layer: Any) -> dict[str, Any]:
        kind = type(layer)

        def call(*args: Any, **kwargs: Any) -> Any:
            return rounded(kind.call(layer, *args, **kwargs))

        def convolution_op(inputs: Any, kernel: Any) -> Any:
            return kind.convolution_op(layer, inputs, rounded(kernel))

        convolves = hasattr(layer, "convolution_op")
        return {
            "call": call,
            **({"convolution_op": convolution_op} if convolves else {}),
        }

    patches = [(layer, patched(layer)) for layer in layers]
    for layer, patch in patches:
        vars(layer).update(patch)
    try:
        yield
    finally:
        for layer, patch in patches:
            for name in patch:
                del vars(layer)[name]


def report_of(model: Any, data: Any, name: str, dtype: str, seed: int) -> Any:
    """The report of one run, from its file if there is one."""
    emulated = "_emulated" if FLAGS.emulate and dtype != "float32" else ""
    stem = f"{name}-{FLAGS.norm}-{FLAGS.examples}-{dtype}{emulated}-seed{seed}"
    path = Path(FLAGS.output, Path(FLAGS.model).stem, f"{stem}.json")
    if not path.exists():
        print(f"== {stem}", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        report = evaluate_robustness(
            model,
            data,
            attack_of(name, seed),
            batch_size=128,
            verbose=0,
            search_dtype=dtype,
        )
        files.write_text(path, report.to_json())
    return RobustnessReport.from_json(path.read_text())


def row(name: str, reports: dict[str, Any]) -> str:
    """One attack, as a row of the table."""
    full, other, half = (reports[key].robust[name] for key in reports)
    seconds = [report.seconds[name] for report in reports.values()]
    cells = [
        name,
        *(f"{100 * stands.mean():.1f}" for stands in (full, other, half)),
        f"{(full & ~other).sum()} / {(other & ~full).sum()}",
        f"{(full & ~half).sum()} / {(half & ~full).sum()}",
        f"{reports['half'].settings['refuted_claims'][name]}",
        "" if FLAGS.emulate else f"{min(seconds[:2]) / seconds[2]:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise app.UsageError(f"Arguments without a flag: {arguments[1:]}.")
    if FLAGS.emulate:
        compiled_attack.computing_in = rounding
    known = FLAGS.model in zoo.pretrained_names()
    model = (
        zoo.pretrained(FLAGS.model) if known else keras.models.load_model(FLAGS.model)
    )
    test = datasets.load(
        "cifar10", split="test", batch_size=128, shuffle=False, data_dir=FLAGS.data_dir
    ).take(-(-FLAGS.examples // 128))
    images, labels = zip(*test.as_numpy_iterator(), strict=True)
    data = tuple(np.concatenate(of)[: FLAGS.examples] for of in (images, labels))
    runs = {"first": ("float32", 0), "second": ("float32", 1), "half": (FLAGS.dtype, 0)}
    rows = [
        row(
            name, {key: report_of(model, data, name, *run) for key, run in runs.items()}
        )
        for name in FLAGS.attacks
    ]
    print(f"\n{FLAGS.examples} images, {FLAGS.norm}, robust accuracy in percent:\n")
    print(
        "| attack | float32, seed 0 | float32, seed 1 | "
        f"{FLAGS.dtype}, seed 0 | fall to seed 1 only / seed 0 only | "
        f"fall to {FLAGS.dtype} only / float32 only | refuted claims | times as fast |"
    )
    print("|---" * 8 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    app.run(main)
