"""What trainings look like that do not move, and what moves them.

    python benchmarks/stuck_trainings.py

Small networks on scikit-learn's digits, half a minute each. It prints the table of
`docs/guides/when_training_does_not_move.md`: training accuracy at the end, natural and
PGD-20 accuracy on test images, and the warning that was given.
"""

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from absl import app

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAttack,
    datasets,
    evaluate_robustness,
)

EPSILON = 0.16
UPDATES = 960  # 40 epochs of 24 minibatches


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        name: what is different.
        epsilon: of training and attack.
        rate: learning rate, of SGD with momentum 0.9, constant.
        settings: more of Free training (m = 8).
        divided: whether images are divided by 255 once too often.
        shuffled: whether the labels belong to other images.
        width: filters of the network.
    """

    name: str
    epsilon: float = EPSILON
    rate: float = 0.03
    settings: dict[str, Any] = field(default_factory=dict)
    divided: bool = False
    shuffled: bool = False
    width: int = 32


WARM_UP = {"epsilon_warmup_steps": UPDATES // 2}
CASES = (
    Case("as it should be"),
    Case("learning rate ten times as large", rate=0.3),
    Case("4 filters instead of 32", width=4),
    Case("... with m = 2", width=4, settings={"replays": 2}),
    Case("... with `epsilon_warmup_steps`", width=4, settings=WARM_UP),
    Case("pixels divided by 255 twice", divided=True),
    Case("labels of other images", shuffled=True),
    Case("epsilon 0.4 instead of 0.16", epsilon=0.4),
    Case("... with `epsilon_warmup_steps`", epsilon=0.4, settings=WARM_UP),
)


def network(width: int) -> keras.Model:
    """Two convolutions."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(width, 3, activation="relu"),
            keras.layers.Conv2D(width, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a split."""
    data = datasets.load("digits", split=split, batch_size=2000, shuffle=False)
    images, labels = next(iter(data))
    return images.numpy(), labels.numpy()


def row(case: Case) -> list[str]:
    """Trains, attacks, and says what was seen."""
    keras.utils.set_random_seed(0)
    (images, labels), test = arrays("train"), arrays("test")
    if case.divided:
        images, test = images / 255, (test[0] / 255, test[1])
    if case.shuffled:
        labels = np.random.default_rng(0).permutation(labels)
    model = FreeAdversarialModel(network(case.width), case.epsilon, **case.settings)
    model.compile(
        keras.optimizers.SGD(case.rate, 0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(images, labels, batch_size=60, epochs=40, verbose=0)
        report = evaluate_robustness(
            model.model,
            test,
            PGDAttack(case.epsilon, steps=20, seed=0),
            verbose=0,
        )
    said = [str(each.message) for each in caught]
    said = [s for s in said if not s.startswith("Only ")]
    first = re.split(r"[:,.] ", said[0])[0] if said else ""
    return [
        case.name,
        f"{history.history['accuracy'][-1]:.0%}",
        f"{report.accuracy['natural']:.0%}",
        f"{report.accuracy['pgd20']:.0%}",
        first,
    ]


def main(argv: list[str]) -> None:
    del argv
    print("| training | its accuracy | natural | PGD-20 | first warning |")
    print("|---|---|---|---|---|")
    for case in CASES:
        print(f"| {' | '.join(row(case))} |", flush=True)


if __name__ == "__main__":
    app.run(main)
