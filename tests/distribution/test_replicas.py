"""Evaluation on two logical CPU devices, in a process of its own."""

import textwrap

from tests.conftest import said_by

PROGRAM = textwrap.dedent(
    """
    import warnings
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv import (
        APGDAttack, AutoAttack, PGDAttack, RobustnessEvaluation, SquareAttack,
        evaluate_robustness)
    from keras_free_adv.distribution import replicas
    from tests.conftest import from_logits, small_images, small_network

    warnings.simplefilter("ignore")
    images, labels = small_images(61)
    images[:, :3, :3, 0] *= 0.3
    images[:, :3, :3, 0] += labels[:, None, None] / 2 * 0.4

    def network(strategy):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            made = small_network()
            made.compile(keras.optimizers.Adam(0.01), from_logits())
        return made

    one = network(tf.distribute.get_strategy())
    one.fit(images, labels, epochs=30, verbose=0)
    two = network(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    two.set_weights(one.get_weights())
    attacks = [
        PGDAttack(0.08, steps=4, restarts=3, seed=0),
        AutoAttack(0.08, seed=0, attacks=[
            APGDAttack(0.08, steps=5, loss="targeted_dlr", seed=0),
            SquareAttack(0.08, queries=40, seed=0)]),
    ]
    shares = []
    run = replicas.Replicas._spread
    def spied(self, pieces):
        shares.append(tuple(len(piece) for piece in pieces))
        return run(self, pieces)
    replicas.Replicas._spread = spied
    reports = [
        evaluate_robustness(model, (images, labels), attacks, batch_size=8, verbose=0)
        for model in (one, two)]
    for name, expected in reports[0].robust.items():
        np.testing.assert_array_equal(reports[1].robust[name], expected)
    assert 0.05 < reports[0].accuracy["pgd4x3"] < 0.95, reports[0].accuracy
    assert reports[1].settings["replicas"] == 2
    # A global batch of 2 x 8, each replica half of it, the odd one out with the last.
    assert shares[0] == (8, 8), shares[0]
    assert all(0 <= b - a <= 1 for a, b in shares)

    two.fit(images, labels, epochs=1, verbose=0, batch_size=16, callbacks=[
        RobustnessEvaluation((images, labels), PGDAttack(0.08, steps=2, seed=0))])
    print("as on one device")
    """
)


def test_each_replica_attacks_its_share_with_the_result_of_one_device():
    assert "as on one device" in said_by(PROGRAM)
