"""Trainings and attacks come out as on TensorFlow, up to float rounding."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from keras_free_adv import evaluate_robustness
from tests.backends import reference

pytestmark = [
    pytest.mark.filterwarnings("ignore:Only 200 examples"),
    pytest.mark.filterwarnings("ignore:This run ends after"),
]


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    """What `reference` wrote in a process that runs on TensorFlow."""
    if keras.backend.backend() == "tensorflow":
        pytest.skip("this is TensorFlow: KERAS_BACKEND=jax or torch compares with it")
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.backends.reference", folder],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    return folder


@pytest.mark.parametrize("name", reference.TRAINERS)
def test_forty_updates(on_tensorflow, name):
    """Whole minibatches and a short one, in `fit`; no gradient is near zero."""
    expected = np.load(on_tensorflow / f"forty_{name}.npz")
    found = reference.forty_updates(name)
    for part in ("weights", "delta", "loss", "accuracy"):
        np.testing.assert_allclose(found[part], expected[part], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["free", "pgd"])
def test_single_updates_with_batch_norm(on_tensorflow, name):
    """From the same state each update leads to the same one."""
    states = np.load(on_tensorflow / f"states_{name}.npz")
    images, labels = reference.data(16)
    model = reference.trainer(name, reference.network(batch_norm=True))
    model.train_on_batch(images, labels)
    for update in range(8):
        put(states, update, model)
        model.train_on_batch(images, labels)
        np.testing.assert_allclose(
            reference.weights_of(model.model),
            states[f"{update + 1}.before"],
            rtol=1e-4,
            atol=2e-5,
        )
        if name.startswith("free"):
            expected = states[f"{update + 1}.delta"]
            differs = np.abs(model.delta - expected) > 1e-5
            # A pixel whose gradient is all rounding may go either way.
            assert differs.mean() <= 0.002


def put(states, update, model):
    """Sets weights, momentum and delta to those before an update."""
    split(states[f"{update}.before"], model.model.weights)
    split(states[f"{update}.momentum"], model.optimizer.variables[2:])
    if f"{update}.delta" in states:
        model.load_own_variables({"delta": states[f"{update}.delta"]})


def split(values, variables):
    sizes = np.cumsum([int(np.prod(variable.shape)) for variable in variables])
    for variable, part in zip(variables, np.split(values, sizes[:-1]), strict=True):
        variable.assign(part.reshape(variable.shape))


def both(folder, attack):
    """Verdicts on the model that TensorFlow trained: there and here, by name."""
    model = keras.saving.load_model(folder / "robust.keras", compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = reference.verdicts(model, attack)
    expected = np.load(folder / "verdicts.npz")
    return [(name, expected[name], found[name]) for name in found]


# JAX compiles each for a quarter of a minute.
EACH_TIME = ("pgd20x2", "apgd_t", "square_l2")
ATTACKS = [
    pytest.param(attack, id=attack.name)
    if attack.name in EACH_TIME
    else pytest.param(
        attack, id=attack.name, marks=[pytest.mark.long, pytest.mark.by_hand]
    )
    for attack in reference.attacks()
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_model_of_tensorflow_is_attacked_alike(on_tensorflow, attack):
    """The same examples withstand, but for at most one of 200."""
    for name, expected, found in both(on_tensorflow, attack):
        differ = np.flatnonzero(found != expected)
        assert len(differ) <= 1, f"{name}: examples {differ}"


@pytest.mark.long
@pytest.mark.by_hand
def test_auto_attack_within_half_a_point(on_tensorflow):
    for _, expected, found in both(on_tensorflow, reference.auto_attack()):
        assert abs(found.mean() - expected.mean()) <= 0.005


def test_results_do_not_depend_on_the_batch():
    """Attacks pack examples; on JAX the last ones are filled up to fixed sizes."""
    keras.utils.set_random_seed(0)
    model = reference.network()
    images, _ = reference.data(61)
    labels = keras.ops.convert_to_numpy(model(images)).argmax(-1)
    attack = reference.attacks()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reports = [
            evaluate_robustness(model, (images, labels), attack, batch_size=size)
            for size in (61, 16)
        ]
    for report in reports[1:]:
        for name in report.robust:
            np.testing.assert_array_equal(report.robust[name], reports[0].robust[name])
