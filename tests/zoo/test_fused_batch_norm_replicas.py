"""Two logical CPU devices under MirroredStrategy, in a process of their own."""

import textwrap

from tests.conftest import said_by

PROGRAM = textwrap.dedent(
    """
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv import zoo

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    generator = np.random.default_rng(0)
    images = generator.normal(50.0, 3.0, (8, 5, 5, 3)).astype("float32")
    images[:3] += 4.0

    for shares in ((3, 5), (8, 0)):
        with strategy.scope():
            layer = zoo.FusedBatchNormalization(momentum=0.75)
            layer.build(images.shape)
            layer.moving_mean.assign(np.full(3, 48.0))
        parts = np.split(images, [shares[0]])

        @tf.function
        def step():
            def on_replica():
                number = tf.distribute.get_replica_context().replica_id_in_sync_group
                part = tf.cond(number == 0, lambda: parts[0], lambda: parts[1])
                return layer(tf.ensure_shape(part, (None, 5, 5, 3)), training=True)
            return strategy.run(on_replica)

        step()
        mean = 0.75 * 48.0 + 0.25 * images.mean((0, 1, 2))
        variance = 0.75 * 1.0 + 0.25 * images.var((0, 1, 2))
        for variable, expected in (
            (layer.moving_mean, mean), (layer.moving_variance, variance)
        ):
            for local in strategy.experimental_local_results(variable.value):
                np.testing.assert_allclose(local, expected, rtol=1e-5)
    print("equal on both")
    """
)


def test_replicas_keep_the_statistics_of_the_whole_minibatch():
    assert "equal on both" in said_by(PROGRAM)
