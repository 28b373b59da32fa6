"""JAX on two devices (of the host) trains and evaluates as on one."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

PROGRAM = """
import sys
import keras, numpy as np
devices, path = int(sys.argv[1]), sys.argv[2]
if devices > 1:
    keras.distribution.set_distribution(keras.distribution.DataParallel())
import keras_free_adv as kfa
from tests.backends import reference

found = {}
for name in ("free", "pgd", "trades"):
    model = reference.trainer(name, reference.network(batch_norm=True))
    images, labels = reference.data(61)  # the last minibatch has 13
    history = model.fit(images, labels, batch_size=16, epochs=4, verbose=0)
    found[name] = reference.weights_of(model.model)
    found[f"{name} loss"] = history.history["loss"]
    found[f"{name} evaluated"] = model.evaluate(images, labels, verbose=0)
    if name == "free":
        found["delta"] = model.delta
attack = kfa.PGDAttack(0.1, steps=5, seed=1)
report = kfa.evaluate_robustness(
    model.model, (images, labels), attack, batch_size=16, verbose=0
)
found.update(report.robust)
np.savez(path, **found)
"""


def on(devices, path):
    flags = f"--xla_force_host_platform_device_count={devices}"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(devices), path],
        env={**os.environ, "XLA_FLAGS": flags},
        check=True,
    )
    return np.load(path)


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="keras.distribution shares data on JAX"
)
def test_two_devices_equal_one(tmp_path):
    """Batch norm and a minibatch that does not divide included."""
    one, two = on(1, tmp_path / "one.npz"), on(2, tmp_path / "two.npz")
    assert sorted(one) == sorted(two)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-5)
