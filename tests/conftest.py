import collections
import concurrent.futures
import contextlib
import gc
import json
import os
import socket
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_free_adv import backends
from tests import forked

# Files with many variants that are alike: every k-th runs, all of them by
# `pytest -m long`. So that a change is tested on three backends in the time there is.
VARIANTS = {
    "attacks/test_apgd_attack.py": 3,
    "attacks/test_every_attack.py": 6,
    "attacks/test_pgd_attack.py": 3,
    "attacks/test_square_attack.py": 4,
    "callbacks/test_backup_and_restore.py": 4,
    "callbacks/test_collapse_guard.py": 3,
    "evaluation/test_probe.py": 3,
    "evaluation/test_report_warnings.py": 7,
    "evaluation/test_resume.py": 3,
    "plotting/test_robustness_curve.py": 2,
    "recipes/test_building.py": 2,
    "reliability/test_any_arguments.py": 2,
    "serving/test_bad_requests.py": 2,
    "serving/test_export_for_serving.py": 3,
    "serving/test_serve_client.py": 4,
    "teaching/test_check_pgd.py": 3,
    "teaching/test_check_train.py": 2,
    "teaching/test_check_train_step.py": 2,
    "evaluation/test_search_dtype.py": 2,
    "test_examples.py": 2,
    "test_input_mask.py": 3,
    "test_pixel_scale.py": 6,
    "test_what_models_predict.py": 5,
    "training/test_as_keras_takes_it.py": 2,
    "training/test_chance_warner.py": 2,
    "training/test_cost.py": 2,
    "training/test_fit.py": 4,
    "training/test_not_finite.py": 2,
    "training/test_random_stem.py": 3,
    "test_image_axes.py": 2,
    "training/test_other_libraries.py": 2,
    "training/test_trades_model.py": 3,
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    seen = collections.Counter()
    for item in items:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        if file in VARIANTS and hasattr(item, "callspec"):
            if seen[file] % VARIANTS[file]:
                item.add_marker(pytest.mark.long)
                item.add_marker(pytest.mark.by_hand)
            seen[file] += 1


def pytest_collection_finish(session):
    # The garbage collector need not look through three frameworks' modules each time.
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    if item.get_closest_marker("tensorflow_only") and backends.NAME != "tensorflow":
        pytest.skip(f"needs TensorFlow; the backend is {backends.NAME}")
    by_hand = item.get_closest_marker("by_hand")
    if by_hand and "long" not in item.config.getoption("markexpr"):
        pytest.skip("others of its kind ran; all of them: pytest -m long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except ValueError as error:
        if "must be 1 with the PyTorch backend" in str(error):
            pytest.skip("Keras makes one update an execution on PyTorch")
        raise


def by_hand(*values):
    """Arguments of a test that is left to `pytest -m long`."""
    return pytest.param(*values, marks=[pytest.mark.long, pytest.mark.by_hand])


@pytest.fixture(autouse=True)
def fresh_keras():
    """Each test begins with the same seeds, names and policy."""
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session(free_memory=False)  # a collection takes a second
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


def small_images(count, shape=(6, 6, 1), classes=3, seed=0):
    """Images in [0, 1] and labels, from a generator of their own."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 1, (count, *shape)).astype("float32")
    return images, generator.integers(0, classes, count)


def small_network(shape=(6, 6, 1), classes=3, softmax=False, **kwargs):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax" if softmax else None),
        ],
        **kwargs,
    )


def skip_without(dtype):
    """Skips a test of a dtype that the backend does not have."""
    if dtype == "float64" and backends.NAME == "jax":
        pytest.skip("JAX has float64 with JAX_ENABLE_X64=1 only")


def outputs_of(model, images):
    """What a model returns, in inference mode, as a NumPy array."""
    return ops.convert_to_numpy(model(images, training=False))


def tell(function, tensor):
    """Calls a function with the values of a tensor, from a compiled step too."""
    if backends.NAME == "jax":
        import jax

        jax.debug.callback(lambda values: function(np.array(values)), tensor)
    elif backends.NAME == "tensorflow":
        import tensorflow as tf

        tf.py_function(lambda values: function(values.numpy()), [tensor], [])
    else:
        function(ops.convert_to_numpy(tensor).copy())


def compiled(function, model):
    """A compiled function of tensors of these sizes, that calls the model."""
    return backends.compiled(function, lambda: model, any_size=False)


def said_by(program, *arguments, forks=forked.FORKS):
    """What a Python program prints, in a process of its own; it must end well."""
    ended = forked.python("-c", program, *arguments, forks=forks)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def free_ports(count):
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def start_workers(words, count=2):
    """The same program of Python as each worker of a cluster on this machine."""
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    processes = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": addresses}, "task": task}
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_CONFIG": json.dumps(cluster),
        }
        processes.append(forked.start(*words, env=environment))
    return processes


def said_by_workers(processes, timeout=300):
    """What each worker printed, and how it ended."""
    # One that is waited for must not block on a pipe that the other fills.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = [pool.submit(p.communicate, timeout=timeout) for p in processes]
        try:
            outputs = [each.result()[0] for each in waiting]
        finally:
            for process in processes:
                process.kill()
    return outputs, [process.returncode for process in processes]


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class CountPasses(keras.layers.Layer):
    """Counts forward and backward passes through it, when run eagerly."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.counts = {"forward": 0, "backward": 0}

    def call(self, inputs):
        @ops.custom_gradient
        def identity(x):
            self.counts["forward"] += 1

            def gradient(*args, upstream=None):
                self.counts["backward"] += 1
                return args[0] if upstream is None else upstream

            return 1.0 * x, gradient

        return identity(inputs)
