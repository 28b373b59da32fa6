"""Two logical CPU devices under MirroredStrategy, in a process of their own."""

import os
import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent(
    """
    import sys, warnings
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv import BackupAndRestore, FreeAdversarialModel
    from tests.conftest import from_logits, small_images, small_network

    images, labels = small_images(40)

    def trained(strategy, batch_size=8, folder=None):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = FreeAdversarialModel(small_network(), 0.1, replays=2)
            model.compile(keras.optimizers.SGD(0.05), from_logits())
        model.fit(images, labels, batch_size=batch_size, epochs=8, verbose=0)
        return model

    two = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    one = trained(tf.distribute.get_strategy())
    assert two.delta.shape == (2, 4, 6, 6, 1), two.delta.shape
    # The replicas' deltas are the halves of the single device's.
    joined = np.concatenate(list(two.delta))
    np.testing.assert_allclose(joined, one.delta[0], atol=1e-5)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    two.save(sys.argv[1])
    loaded = keras.models.load_model(sys.argv[1])
    np.testing.assert_array_equal(loaded.delta, two.delta)
    print("as on one device")
    """
)


def test_two_replicas_keep_a_delta_each_and_train_as_one_device(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert "as on one device" in ended.stdout, ended.stderr
