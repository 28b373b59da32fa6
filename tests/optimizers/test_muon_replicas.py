"""Two logical CPU devices under MirroredStrategy, in a process of their own."""

import textwrap

import pytest

from tests.conftest import said_by

PROGRAM = textwrap.dedent(
    """
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv.optimizers import Muon

    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, np.arange(8) % 3)).batch(8)
    initial = None
    found = []
    for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
        with tf.distribute.MirroredStrategy(devices).scope():
            network = keras.Sequential([
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(8, 3, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ])
            initial = initial or network.get_weights()
            network.set_weights(initial)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            network.compile(Muon(0.05), loss)
        network.fit(data, epochs=2, verbose=0, shuffle=False)
        found.append(network.get_weights())
    for start, one, other in zip(initial, *found):
        assert np.abs(one - start).max() > 1e-3
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    print("equal")
    """
)


@pytest.mark.tensorflow_only
def test_two_replicas_make_the_update_of_one_device():
    assert "equal" in said_by(PROGRAM)
