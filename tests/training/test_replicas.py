"""Two logical CPU devices under MirroredStrategy, in a process of their own."""

import textwrap

from tests.conftest import said_by

PROGRAM = textwrap.dedent(
    """
    import sys, warnings
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel, TRADESModel
    from tests.conftest import from_logits, small_images, small_network

    images, labels = small_images(40)

    def trained(strategy, batch_size=8, folder=None):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = FreeAdversarialModel(small_network(), 0.1, replays=2)
            model.compile(keras.optimizers.SGD(0.05), from_logits())
        model.fit(images, labels, batch_size=batch_size, epochs=8, verbose=0)
        return model

    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    two = trained(mirrored)
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

    # K-PGD from the images themselves, whatever the replica draws.
    def crafted(strategy):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = PGDAdversarialModel(
                small_network(), 0.1, steps=2, random_start=False)
            model.compile(keras.optimizers.SGD(0.05), from_logits())
        model.fit(images, labels, batch_size=8, epochs=4, verbose=0)
        return model.get_weights()

    for a, b in zip(crafted(mirrored), crafted(tf.distribute.get_strategy()),
                    strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)

    # TRADES draws a start of its own on each replica.
    with mirrored.scope():
        model = TRADESModel(small_network(), 0.1, steps=2)
        model.compile(keras.optimizers.SGD(0.05), from_logits())
    history = model.fit(images[:34], labels[:34], batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all(), history.history
    print("as on one device")
    """
)


def test_two_replicas_keep_a_delta_each_and_train_as_one_device(tmp_path):
    assert "as on one device" in said_by(PROGRAM, tmp_path / "model.keras")
