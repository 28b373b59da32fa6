"""Two logical CPU devices under MirroredStrategy, in a process of their own."""

import textwrap

import pytest

from tests.conftest import said_by

pytestmark = pytest.mark.tensorflow_only

PROGRAM = textwrap.dedent(
    """
    import sys, warnings
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv import (
        AveragedWeights, FreeAdversarialModel, PGDAdversarialModel, TRADESModel)
    from tests.conftest import from_logits, small_images, small_network
    from tests.training import test_update_number as counting

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
    # One device goes on with all of delta, and two with the halves of one's.
    loaded._prepare((images[:8], labels[:8]), rows=8)
    np.testing.assert_array_equal(loaded.delta, joined[None])
    two.load_own_variables({"delta": one.delta})
    np.testing.assert_array_equal(two.delta, one.delta.reshape(2, 4, 6, 6, 1))

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

    # Keras would share a last minibatch of 5 as 4 and 1, and one of 2 as 2 and none.
    def uneven(strategy, wrap, size, loss, **settings):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = wrap(small_network())
            model.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"],
                          weighted_metrics=["accuracy"])
        # Keras' own validation loss is wrong for sums over uneven shares.
        if loss is not summed:
            settings["validation_data"] = (images[:9], labels[:9])
        history = model.fit(images[:size], labels[:size], batch_size=8, epochs=8,
                            verbose=0, **settings).history
        return [*history.values(), *model.get_weights()]

    def free(network):
        return FreeAdversarialModel(network, 0.1, replays=4)

    def pgd(network):
        return PGDAdversarialModel(network, 0.1, steps=2, random_start=False)

    summed = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="sum")
    weights = np.linspace(0.2, 1.8, 40)
    for *case, weighted in ((free, 37, from_logits(), True),
                            (free, 34, from_logits(), False),
                            (pgd, 37, from_logits(), False), (free, 37, summed, True)):
        settings = {"sample_weight": weights[:case[1]]} if weighted else {}
        for a, b in zip(uneven(mirrored, *case, **settings),
                        uneven(tf.distribute.get_strategy(), *case, **settings),
                        strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=str(case))

    # Losses and metrics of every kind, and outputs with names.
    def two_outputs():
        inputs = keras.Input((6, 6, 1))
        x = keras.layers.Flatten()(inputs)
        return keras.Model(inputs, {name: keras.layers.Dense(3, name=name)(x)
                                    for name in "ab"})

    def an_output_a_pixel():
        inputs = keras.Input((6, 6, 1))
        return keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same")(inputs))

    def share_of_first(y_true, y_pred):  # a number, and none of no examples
        return tf.reduce_mean(tf.cast(tf.argmax(y_pred, -1) == 0, "float32"))

    none = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    named = {"a": labels[:34], "b": 2 - labels[:34]}
    for name, network, target, settings in (
        ("named", two_outputs, named, {"loss": {k: from_logits() for k in "ab"}}),
        ("sums", two_outputs, named, {"loss": {k: summed for k in "ab"}}),
        ("unreduced", two_outputs, named, {"loss": {k: none for k in "ab"}}),
        ("pixels", an_output_a_pixel, images[:34] ** 2, {"loss": "mse"}),
        ("none", small_network, labels[:34], {"loss": none}),
        ("number", small_network, labels[:34],
         {"loss": from_logits(), "metrics": [share_of_first]}),
    ):
        both = []
        for strategy in (mirrored, tf.distribute.get_strategy()):
            keras.utils.set_random_seed(1)
            with strategy.scope():
                model = free(network())
                model.compile(keras.optimizers.SGD(0.01), **settings)
            history = model.fit(images[:34], target, batch_size=8, epochs=4, verbose=0)
            # Keras' mean over an epoch counts shares of 4 and 1 alike.
            kept = {k: v for k, v in history.history.items() if k != "share_of_first"}
            if "a_loss" in kept:
                np.testing.assert_allclose(np.add(kept["a_loss"], kept["b_loss"]),
                                           kept["loss"], atol=1e-5, err_msg=name)
            both.append([*kept.values(), *model.get_weights()])
            assert np.isfinite(np.concatenate(list(history.history.values()))).all()
        for a, b in zip(*both, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)

    with mirrored.scope():
        model = free(two_outputs())
        model.compile("sgd", {"a": from_logits(), "b": summed})
    try:
        model.fit(images[:34], named, batch_size=8, verbose=0)
    except ValueError as error:
        assert "all sums or all means" in str(error)
    else:
        raise AssertionError("mixed reductions were taken")

    # The average of the weights is put in their place on every replica.
    both = []
    for strategy in (mirrored, tf.distribute.get_strategy()):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = free(small_network())
            model.compile(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9),
                          from_logits())
        history = model.fit(images[:34], labels[:34], batch_size=8, epochs=4, verbose=0,
                            validation_data=(images[:32], labels[:32]),
                            callbacks=[AveragedWeights()]).history
        both.append([history["val_loss"], *model.get_weights()])
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)

    # TRADES draws a start of its own on each replica.
    with mirrored.scope():
        model = TRADESModel(small_network(), 0.1, steps=2)
        model.compile(keras.optimizers.SGD(0.05), from_logits())
    history = model.fit(images[:34], labels[:34], batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all(), history.history

    # The random stem of a model gives all replicas the pixels of one device.
    def with_a_stem(strategy, wrap):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            network = keras.Sequential([
                keras.Input((6, 6, 1)), keras.layers.RandomFlip(),
                keras.layers.RandomTranslation(0.3, 0.3), keras.layers.Rescaling(2.0),
                keras.layers.Flatten(), keras.layers.Dense(3)])
            model = wrap(network)
            model.compile(keras.optimizers.SGD(0.05), from_logits())
        model.fit(images[:37], labels[:37], batch_size=8, epochs=4, verbose=0)
        return model.trainable_weights

    for wrap in (free, pgd):
        for a, b in zip(with_a_stem(mirrored, wrap),
                        with_a_stem(tf.distribute.get_strategy(), wrap), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)

    # Each replica counts the updates, and draws random starts of its own.
    with mirrored.scope():
        model = counting.recording(PGDAdversarialModel)
    for epochs in (2, 1):
        with mirrored.scope():
            # Keras itself accumulates no gradients here.
            counting.compiled(model, accumulated=None)
        counting.fit(model, epochs)
    shares = np.repeat(np.arange(1, 13), 2) / counting.WARMUP
    np.testing.assert_allclose(
        sorted(model.radii), counting.EPSILON * shares, rtol=1e-6)
    assert len({np.sign(start).tobytes() for start in model.starts}) == 24

    print("as on one device")
    """
)

OVERFLOW = textwrap.dedent(
    """
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv import FreeAdversarialModel
    from tests.conftest import from_logits, small_images

    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    images, labels = small_images(8)

    @keras.saving.register_keras_serializable()
    class Overflow(keras.layers.Layer):
        # Infinite for bright images.
        def call(self, inputs):
            bright = tf.reduce_max(inputs, (1, 2, 3), keepdims=True) > 1.5
            return inputs * tf.cast(tf.where(bright, float("inf"), 1.0), inputs.dtype)

    keras.mixed_precision.set_global_policy("mixed_float16")
    with mirrored.scope():
        network = keras.Sequential([
            keras.Input((6, 6, 1)), Overflow(), keras.layers.Flatten(),
            keras.layers.Dense(3), keras.layers.Activation("linear", dtype="float32")])
        model = FreeAdversarialModel(network, 0.1, value_range=(0, 2), replays=1)
        model.compile(keras.optimizers.SGD(0.05), from_logits())
    bright = images[:8].copy()
    bright[4:] += 1.0
    before = model.get_weights()
    scale = model.optimizer.initial_scale
    model.fit(bright, labels[:8], batch_size=8, epochs=1, verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    scales = [float(local) for local in mirrored.experimental_local_results(
        model.optimizer.dynamic_scale.value)]
    assert scales == [scale / 2, scale / 2], scales
    assert int(model.optimizer.iterations.numpy()) == 0
    assert np.isfinite(model.delta).all()
    assert (np.abs(model.delta[0]) > 0).any() and (model.delta[1] == 0).all()
    model.fit(images[:8], labels[:8], batch_size=8, epochs=20, verbose=0)
    for weight in model.trainable_weights:
        one, other = mirrored.experimental_local_results(weight.value)
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()
    assert int(model.optimizer.iterations.numpy()) > 0
    print("skipped on both")
    """
)

STATISTICS = textwrap.dedent(
    """
    import warnings
    import numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras
    from keras_free_adv import FreeAdversarialModel, zoo
    from tests.conftest import from_logits, small_images

    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    images, labels = small_images(37)  # the last minibatch is of 5

    def trained(prepare):
        with mirrored.scope():
            network = prepare(keras.Sequential([
                keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 3),
                keras.Sequential([keras.layers.BatchNormalization(name="inner")]),
                keras.layers.Flatten(), keras.layers.Dense(3)]))
            model = FreeAdversarialModel(network, 0.1, replays=2)
            model.compile(keras.optimizers.SGD(0.05), from_logits())
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(images, labels, batch_size=8, epochs=4, verbose=0)
        drift = max(
            np.abs(np.subtract(*mirrored.experimental_local_results(v.value))).max()
            for v in network.non_trainable_weights if "moving" in v.path)
        return drift, [str(one.message) for one in said]

    drift, said = trained(zoo.fused)
    assert drift == 0, drift
    assert not any("BatchNormalization" in message for message in said), said
    drift, said = trained(lambda network: network)
    assert drift > 0
    assert any("'inner' keeps statistics of its own" in m and "zoo.fused" in m
               for m in said), said
    print("equal where they can be")
    """
)


def test_two_replicas_keep_a_delta_each_and_train_as_one_device(tmp_path):
    assert "as on one device" in said_by(PROGRAM, tmp_path / "model.keras")


def test_an_overflow_on_the_second_replica_skips_the_update_on_both():
    assert "skipped on both" in said_by(OVERFLOW)


def test_statistics_are_equal_on_both_or_fit_says_so():
    assert "equal where they can be" in said_by(STATISTICS)
