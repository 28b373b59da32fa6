"""For a machine with one GPU or two: `pytest -m gpu -n 0`. Elsewhere they skip."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import FreeAdversarialModel, PGDAttack, evaluate_robustness, zoo
from tests.conftest import from_logits, small_images, small_network

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parent.parent


def needs(count):
    found = len(tf.config.list_physical_devices("GPU"))
    return pytest.mark.skipif(
        found < count,
        reason=f"needs {count} GPU(s) that TensorFlow can use; there are {found}",
    )


@pytest.fixture(autouse=True)
def float32_is_float32():
    """Not TF32, which has 10 bits of mantissa."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


@functools.cache
def both_gpus():
    """One for all tests: the collectives of two strategies get mixed up."""
    return tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])


def trained(strategy=None, network=small_network, **compile_arguments):
    keras.utils.set_random_seed(1)
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = FreeAdversarialModel(network(), 0.1, replays=4)
        model.compile(keras.optimizers.SGD(0.05), from_logits(), **compile_arguments)
    model.fit(*small_images(37), batch_size=8, epochs=8, verbose=0)
    return model


def assert_equal(one, other, tolerance=1e-4):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


@needs(1)
def test_a_gpu_trains_as_a_cpu_does():
    on_cpu = trained(tf.distribute.OneDeviceStrategy("CPU:0"))
    on_gpu = trained(tf.distribute.OneDeviceStrategy("GPU:0"))
    assert_equal(on_gpu, on_cpu)
    assert "GPU" in on_gpu.trainable_variables[0].value.device
    np.testing.assert_allclose(on_gpu.delta, on_cpu.delta, atol=1e-4)


@needs(1)
def test_xla_trains_as_no_xla_does():
    assert_equal(trained(jit_compile=True), trained(jit_compile=False))


@needs(1)
@pytest.mark.filterwarnings("ignore:Only 128 examples")
def test_an_attack_finds_on_a_gpu_what_it_finds_on_a_cpu():
    images, labels = small_images(128)
    standing = []
    for device in ("CPU:0", "GPU:0"):
        with tf.distribute.OneDeviceStrategy(device).scope():
            keras.utils.set_random_seed(1)
            network = small_network()
            network.compile("sgd", from_logits())
        attack = PGDAttack(0.1, steps=5, seed=0)
        report = evaluate_robustness(network, (images, labels), attack, verbose=0)
        standing.append(report.robust["pgd5"])
    # An image at the very edge may fall on either side.
    assert np.mean(standing[0] != standing[1]) < 0.02


@needs(1)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains(policy):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    model = FreeAdversarialModel(
        zoo.preact_resnet18(width=16, classes=3), 0.02, replays=4
    )
    model.compile(keras.optimizers.SGD(0.05), from_logits())
    images, labels = small_images(64, shape=(32, 32, 3))
    images += 0.3 * labels[:, None, None, None] / 2
    losses = model.fit(images / 1.3, labels, batch_size=32, epochs=40, verbose=0)
    assert losses.history["loss"][-1] < 0.5 * losses.history["loss"][0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert 0 < np.abs(model.delta).max() <= 0.02 + 1e-6


@needs(2)
def test_two_gpus_train_as_one_does():
    two = trained(both_gpus())
    one = trained(tf.distribute.OneDeviceStrategy("GPU:0"))
    assert_equal(two, one)
    assert two.delta.shape[:2] == (2, 4)
    np.testing.assert_allclose(np.concatenate(list(two.delta)), one.delta[0], atol=1e-4)


@needs(2)
def test_two_gpus_keep_equal_statistics_of_batch_norm():
    strategy = both_gpus()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = FreeAdversarialModel(
            zoo.preact_resnet18(width=16, classes=3), 0.02, replays=4
        )
        model.compile(keras.optimizers.SGD(0.05), from_logits())
    model.fit(*small_images(37, shape=(32, 32, 3)), batch_size=8, epochs=4, verbose=0)
    for variable in model.variables:
        first, second = strategy.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)


@needs(1)
def test_free_training_needs_the_memory_of_natural_training():
    peaks = []
    for wrap in (
        lambda network: network,
        lambda network: FreeAdversarialModel(network, 8 / 255),
    ):
        keras.backend.clear_session()
        model = wrap(zoo.preact_resnet18())
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), from_logits())
        images, labels = small_images(128 * 8, shape=(32, 32, 3), classes=10)
        tf.config.experimental.reset_memory_stats("GPU:0")
        model.fit(images, labels, batch_size=128, epochs=8, verbose=0)
        peaks.append(tf.config.experimental.get_memory_info("GPU:0")["peak"])
        del model
    assert peaks[1] / peaks[0] <= 1.05, peaks


@needs(1)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_an_update_costs_what_natural_training_pays(policy):
    printed = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "update_cost.py"),
            "--network=preact_resnet18_64",
            f"--policy={policy}",
            "--methods=free8",
            "--methods=pgd7",
            "--updates=40",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    ratios = {
        name: float(ratio)
        for name, ratio in re.findall(r"\| (\w+) \|.* ([\d.]+) \|$", printed, re.M)
    }
    assert ratios["free8"] <= 1.03, printed
    # By count of operations 5.7: its steps compute no gradients of the weights.
    assert ratios["pgd7"] / ratios["free8"] >= 5, printed
