"""For a machine with one GPU or two: `pytest -m gpu -n 0`. Elsewhere they skip.

On TensorFlow, and with KERAS_BACKEND=jax on JAX. KERAS_FREE_ADV_REHEARSE_GPU=1 has the
processor stand in for the GPU, to try the tests themselves.
"""

import contextlib
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAttack,
    backends,
    evaluate_robustness,
    zoo,
)
from tests.conftest import from_logits, said_by, small_images, small_network

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parent.parent
REHEARSES = bool(os.environ.get("KERAS_FREE_ADV_REHEARSE_GPU"))
GPU = "CPU:0" if REHEARSES else "GPU:0"
TENSORFLOW = backends.NAME == "tensorflow"


def gpus():
    """How many the backend can use."""
    if REHEARSES:
        return 1
    if TENSORFLOW:
        return len(tf.config.list_physical_devices("GPU"))
    if backends.NAME == "jax":
        return len(keras.distribution.list_devices("gpu"))
    import torch

    return torch.cuda.device_count()


def needs(count):
    try:
        found = gpus()
    except RuntimeError:  # JAX has no such platform
        found = 0
    return pytest.mark.skipif(
        found < count,
        reason=f"needs {count} GPU(s) that {backends.NAME} can use; there are {found}",
    )


@contextlib.contextmanager
def on(device):
    """What is made and trained in it is on that device."""
    if TENSORFLOW:
        with tf.distribute.OneDeviceStrategy(device).scope():
            yield
    else:
        with keras.device(device.lower()):
            yield


@pytest.fixture(autouse=True)
def float32_is_float32():
    """Not TF32, which has 10 bits of mantissa."""
    if TENSORFLOW:
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        yield
        tf.config.experimental.enable_tensor_float_32_execution(before)
    elif backends.NAME == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    else:
        yield


@functools.cache
def both_gpus():
    """One for all tests: the collectives of two strategies get mixed up."""
    return tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])


def trained(device=GPU, strategy=None, **compile_arguments):
    """A Free model after 40 updates with a short last minibatch."""
    keras.utils.set_random_seed(1)
    with on(device) if strategy is None else strategy.scope():
        model = FreeAdversarialModel(small_network(), 0.1, replays=4)
        model.compile(keras.optimizers.SGD(0.05), from_logits(), **compile_arguments)
        if strategy is None:
            model.fit(*small_images(37), batch_size=8, epochs=8, verbose=0)
    if strategy is not None:
        model.fit(*small_images(37), batch_size=8, epochs=8, verbose=0)
    return model


def assert_equal(one, other, tolerance=1e-3):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


@needs(1)
def test_a_gpu_trains_as_a_cpu_does():
    on_cpu, on_gpu = trained("CPU:0"), trained(GPU)
    assert_equal(on_gpu, on_cpu)
    np.testing.assert_allclose(on_gpu.delta, on_cpu.delta, atol=1e-3)
    if TENSORFLOW and not REHEARSES:
        assert "GPU" in on_gpu.trainable_variables[0].value.device


@needs(1)
def test_xla_trains_as_no_xla_does():
    assert_equal(trained(jit_compile=True), trained(jit_compile=False))


@needs(1)
@pytest.mark.filterwarnings("ignore:Only 128 examples")
def test_an_attack_finds_on_a_gpu_what_it_finds_on_a_cpu():
    images, labels = small_images(128)
    standing = []
    for device in ("CPU:0", GPU):
        with on(device):
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


@needs(1)
def test_an_overflow_in_float16_moves_nothing_and_training_goes_on():
    keras.config.set_dtype_policy("mixed_float16")
    network = small_network()
    model = FreeAdversarialModel(network, 0.1, replays=2)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**40
    )
    model.compile(optimizer, from_logits())
    images, labels = small_images(32)
    images[:, :3, :3, 0] = labels[:, None, None] / 2
    before = network.get_weights()
    model.train_on_batch(images, labels)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.delta, 0.0)
    history = model.fit(images, labels, batch_size=32, epochs=60, verbose=0)
    assert float(optimizer.dynamic_scale) < 2.0**40
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert 0 < np.abs(model.delta).max() <= 0.1 + 1e-6


RESUMED = """
import sys, tempfile
import numpy as np
from keras_free_adv import BackupAndRestore, backends
backends.make_deterministic()
from tests.backends import reference

def train(epochs, folder):
    model = reference.trainer("free", reference.network(batch_norm=True))
    backup = BackupAndRestore(folder, delete_checkpoint=False)
    model.fit(
        *reference.data(), batch_size=16, epochs=epochs, verbose=0, callbacks=[backup]
    )
    return [*model.get_weights(), model.delta]

whole = train(8, tempfile.mkdtemp())
folder = tempfile.mkdtemp()
train(4, folder)  # stopped
resumed = train(8, folder)
print(all(np.array_equal(a, b) for a, b in zip(whole, resumed, strict=True)))
"""


@needs(1)
def test_a_resumed_training_has_the_bits_of_one_that_was_not_stopped(monkeypatch):
    if backends.NAME == "jax":  # which is told before it starts
        before = os.environ.get("XLA_FLAGS", "")
        flag = "--xla_gpu_deterministic_ops=true"
        monkeypatch.setenv("XLA_FLAGS", f"{before} {flag}")
    assert said_by(RESUMED).strip().endswith("True")


@needs(1)
def test_free_training_needs_the_memory_of_natural_training():
    if REHEARSES or backends.NAME == "torch":
        pytest.skip("needs a GPU whose memory TensorFlow or JAX counts")
    peaks = [
        float(said_by(PEAK, method).split()[-1]) for method in ("natural", "free8")
    ]
    assert peaks[1] / peaks[0] <= 1.05, peaks


PEAK = f"""
import sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
from subjects import METHODS, NETWORKS, compiled
from timing import random_images
import keras
model = compiled(METHODS[sys.argv[1]](NETWORKS["preact_resnet18_64"]()))
images, labels = random_images(128 * 8)
model.fit(images, labels, batch_size=128, epochs=8, verbose=0)
if keras.backend.backend() == "jax":
    import jax
    print(jax.devices()[0].memory_stats()["peak_bytes_in_use"])
else:
    import tensorflow as tf
    print(tf.config.experimental.get_memory_info("GPU:0")["peak"])
"""


@needs(2)
@pytest.mark.tensorflow_only
def test_two_gpus_train_as_one_does():
    two, one = trained(strategy=both_gpus()), trained()
    assert_equal(two, one)
    assert two.delta.shape[:2] == (2, 4)
    np.testing.assert_allclose(np.concatenate(list(two.delta)), one.delta[0], atol=1e-4)


@needs(2)
@pytest.mark.tensorflow_only
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
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_an_update_costs_what_natural_training_pays(policy):
    if REHEARSES:
        pytest.skip("the processor takes minutes for it")
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
