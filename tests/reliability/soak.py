"""Tiny trainings, saves, loads and attacks in one process, again and again.

    python -m tests.reliability.soak ROUNDS [plain]

A round is an epoch of each adversarial model with a backup and an attack after it, an
evaluation under three attacks, and a file that is written and read. With `plain`, the
same epochs and files of plain Keras models, for comparison. Prints the memory in use,
in MiB, after each tenth of the rounds, and last its slope over the second half, in KiB
a round. Fails on any warning, one of retracing for one.
"""

import ctypes
import gc
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from keras_free_adv import (
    APGDAttack,
    BackupAndRestore,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    SquareAttack,
    TRADESModel,
    evaluate_robustness,
)
from tests.conftest import from_logits, small_images, small_network

IMAGES, LABELS = small_images(40)
WRAPPERS = (
    lambda network: FreeAdversarialModel(network, 0.1, replays=2),
    lambda network: PGDAdversarialModel(network, 0.1, steps=2),
    lambda network: TRADESModel(network, 0.1, steps=2),
)
PAGE_KIB = 4


def memory():
    """What the process has in memory, in KiB, without what is garbage or free.

    The C library hands what was freed back late: else it would be counted.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


def compiled(model):
    model.compile("adam", from_logits(), metrics=["accuracy"])
    return model


class Plain:
    """Rounds of what Keras does."""

    def __init__(self, folder):
        self.file = folder / "model.keras"
        self.weights = folder / "model.weights.h5"
        self.models = [compiled(small_network()) for _ in WRAPPERS]

    def run(self):
        for model in self.models:
            model.fit(IMAGES, LABELS, batch_size=8, verbose=0)
            model.save_weights(self.weights)  # as a backup does
        self.models[0].save(self.file)
        self.models[0].load_weights(self.file)


class Adversarial:
    """Rounds of what this library does."""

    def __init__(self, folder):
        self.file = folder / "model.keras"
        self.backup = BackupAndRestore(folder / "backup")
        self.models = [compiled(wrap(small_network())) for wrap in WRAPPERS]
        self.attacks = [
            PGDAttack(0.1, steps=2, seed=0),
            APGDAttack(0.1, steps=3, seed=0),
            SquareAttack(0.1, queries=3, seed=0),
        ]
        attack = PGDAttack(0.1, steps=1, seed=0, name="monitor")
        self.monitor = RobustnessEvaluation((IMAGES, LABELS), attack)

    def run(self):
        for model in self.models:
            callbacks = [self.monitor, self.backup]
            model.fit(IMAGES, LABELS, batch_size=8, verbose=0, callbacks=callbacks)
        model = self.models[0]
        self.attacks[0](IMAGES, LABELS, model=model)
        evaluate_robustness(model, (IMAGES, LABELS), self.attacks, verbose=0)
        model.save(self.file)
        model.load_weights(self.file)


def soak(rounds, one_round):
    """The memory after each round."""
    used = []
    for number in range(1, rounds + 1):
        one_round.run()
        used.append(memory())
        if number % max(1, rounds // 10) == 0:
            print(f"{number:5d} rounds: {used[-1] / 1024:.0f} MiB", flush=True)
    expected = one_round.models[0](IMAGES)
    loaded = keras.models.load_model(one_round.file)
    np.testing.assert_allclose(loaded(IMAGES), expected, rtol=1e-5, atol=1e-6)
    return used


class Fail(logging.Handler):
    def emit(self, record):
        raise RuntimeError(f"{record.name}: {record.getMessage()}")


def main(rounds, kind=Adversarial):
    keras.utils.set_random_seed(0)
    warnings.simplefilter("error")
    # TensorFlow's own, with NumPy 2.
    warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy")
    warnings.filterwarnings("ignore", "This run ends after")
    warnings.filterwarnings("ignore", "Only .* examples were evaluated")
    # Of a tiny network a ReLU or two is dead: a doubt of the report, and a right one.
    warnings.filterwarnings("ignore", ".*the input gradient is exactly zero")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).addHandler(Fail(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder:
        used = soak(rounds, kind(Path(folder)))
    half = used[len(used) // 2 :]
    slope = np.polyfit(np.arange(len(half)), half, 1)[0]
    print(f"slope: {slope:.1f} KiB a round")


if __name__ == "__main__":
    main(int(sys.argv[1]), Plain if "plain" in sys.argv else Adversarial)
