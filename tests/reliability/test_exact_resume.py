"""Trainings that are killed at random moments, and end as if they had not been.

The whole matrix, twenty kills each, is for runs by hand:

    python -m pytest -m long tests/reliability -n 0 -s
"""

import json
import os
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tests import forked
from tests.conftest import by_hand

ROOT = Path(__file__).parents[2]
KILLS = 20
# From the first epoch on; a training takes some five to ten seconds.
LONGEST_LIFE = 3.0


def arrays(method, replicas, policy):
    module = "tests.reliability.arrays_training"
    return lambda folder: [
        *("-m", module),
        *(method, str(replicas), policy, str(folder)),
    ]


def example(recipe, replicas, policy):
    """`keras-free-adv train`, its recipe made small."""
    of_replicas = ["-m", "tests.reliability.two_devices", "train"] * (replicas > 1)
    program = of_replicas or ["-m", "keras_free_adv", "train"]
    changes = {
        **{"policy": policy, "batch_size": 32, "epochs": 40, "steps_per_epoch": 3},
        **{"model": "preact_resnet18", "model_arguments": '{"width":2}'},
        **({"train_split": "train[:256]"} if "cifar10" in recipe else {}),
    }
    return lambda folder: [
        *program,
        *(f"--recipe={recipe}", f"--output={folder}", "--deterministic"),
        *(f"--set={key}={value}" for key, value in changes.items()),
        *("--monitor_every=8", "--monitor_examples=40", "--test_examples=0"),
        *("--verbose=2", f"--strategy={'mirrored' if replicas > 1 else 'single'}"),
    ]


# All pairs of method and devices, method and precision, source and devices, source
# and precision but one (arrays in float32), and devices and precision.
TRAININGS = {
    "natural, digits, one, float32": example("digits_natural", 1, "float32"),
    "natural, TFDS, two, float16": example("cifar10_small_natural", 2, "mixed_float16"),
    "Free, arrays, two, float16": arrays("free", 2, "mixed_float16"),
    "Free, TFDS, one, float32": example("cifar10_small_free8", 1, "float32"),
    "7-PGD, arrays, one, float16": arrays("pgd", 1, "mixed_float16"),
    "7-PGD, TFDS, two, float32": example("cifar10_small_pgd7", 2, "float32"),
}
SHORT = ["Free, arrays, two, float16", by_hand("natural, digits, one, float32")]


def start(command, **settings):
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return forked.start(*command, env=environment, **settings)


def finish(command, **settings):
    process = start(command, **settings)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


def kill_after(command, seconds):
    """Kills it so long after its first epoch began; says whether it still ran."""
    process = start(command)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Epoch"):
            break
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), "".join(said)
    return process.returncode != 0


def end_of(folder):
    """All that a training leaves, as arrays by name."""
    if (folder / "end.npz").exists():
        return dict(np.load(folder / "end.npz"))
    model = keras.models.load_model(folder / "model.keras")
    found = {w.path: w.numpy() for w in model.weights}
    for name, values in json.loads((folder / "history.json").read_text()).items():
        if "seconds" not in name:
            found[f"history {name}"] = np.array(values)
    return found


def check(name, folder, kills):
    command = TRAININGS[name]
    if "TFDS" in name and "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR names no folder with cifar10")
    finish(command(folder / "whole"))
    moments = np.random.default_rng(list(name.encode()))
    done = 0
    while done < kills:
        killed = kill_after(
            command(folder / "killed"), moments.uniform(0, LONGEST_LIFE)
        )
        done += killed
        if not killed:  # it had ended: another run of the same
            compare(folder)
            (folder / "killed").rename(folder / f"ended-{done}")
    # In a process with other hashes, as that of a user who starts it again.
    finish(command(folder / "killed"), forks=False)
    compare(folder)
    ended = 1 + len(list(folder.glob("ended-*")))
    print(f"\n{name}: {done} kills in {ended} trainings, no difference")


def compare(folder):
    whole, killed = end_of(folder / "whole"), end_of(folder / "killed")
    assert set(whole) == set(killed)
    for name, value in whole.items():
        np.testing.assert_array_equal(killed[name], value, err_msg=name)
    # Nothing is left over.
    left = [{p.name for p in (folder / run).iterdir()} for run in ("whole", "killed")]
    assert left[0] == left[1]


@pytest.mark.parametrize("name", SHORT)
def test_a_killed_training_ends_with_the_same_bits(tmp_path, name):
    check(name, tmp_path, kills=2)


@pytest.mark.long
@pytest.mark.by_hand
@pytest.mark.parametrize("name", TRAININGS)
def test_all_kinds_of_training_end_with_the_same_bits(tmp_path, name):
    """The whole matrix of kills takes half an hour."""
    check(name, tmp_path, KILLS)
