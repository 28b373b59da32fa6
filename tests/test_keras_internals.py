"""Each fails when Keras changes what the library relies on."""

import keras
import numpy as np
import pytest

from keras_free_adv import keras_internals
from tests.conftest import from_logits, said_by, small_images, small_network


def compiled():
    model = small_network()
    model.compile("sgd", from_logits(), metrics=["accuracy"])
    return model


def test_a_callback_finds_the_callbacks_of_its_fit():
    found = {}

    class Looks(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found["begin"] = keras_internals.callbacks_of_this_fit()

        def on_epoch_end(self, epoch, logs=None):
            found["end"] = keras_internals.callbacks_of_this_fit()

    looks, other = Looks(), keras.callbacks.TerminateOnNaN()
    compiled().fit(*small_images(8), callbacks=[other, looks], verbose=0)
    assert found["begin"][:2] == found["end"][:2] == [other, looks]
    assert keras_internals.callbacks_of_this_fit() == []


def test_fit_begins_at_the_epoch_it_is_told_in_on_train_begin():
    class Start(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            keras_internals.start_at_epoch(self.model, 3)

    model = compiled()
    history = model.fit(*small_images(8), epochs=5, callbacks=[Start()], verbose=0)
    assert history.epoch == [3, 4]
    keras_internals.start_at_epoch(model, None)
    assert model.fit(*small_images(8), epochs=2, verbose=0).epoch == [0, 1]


def test_the_loss_tracker_is_what_is_logged_as_loss():
    model = compiled()
    model.train_on_batch(*small_images(8))
    tracker = keras_internals.loss_tracker(model)
    tracker.reset_state()
    tracker.update_state(5.0)
    assert float(model.get_metrics_result()["loss"]) == 5.0


def test_metrics_are_built_without_a_batch():
    model = compiled()
    with pytest.raises(ValueError, match="not yet been built"):
        model.get_metrics_result()
    before = model.get_weights()
    keras_internals.build_metrics(model, small_images(8))
    assert float(model.get_metrics_result()["accuracy"]) == 0.0
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_is_saved_as_the_class_it_stands_in_for(tmp_path):
    class Doubling(keras.layers.Dense):
        def call(self, inputs):
            return 2.0 * super().call(inputs)

    keras_internals.save_as(Doubling, "keras.layers.Dense")
    model = keras.Sequential([keras.Input((3,)), Doubling(2, name="mine")])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is keras.layers.Dense
    assert loaded.layers[0].name == "mine"
    inputs = np.ones((1, 3), "float32")
    np.testing.assert_allclose(2 * loaded(inputs), model(inputs), rtol=1e-6)


SHARES = """
import sys
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from keras_free_adv import keras_internals
from tests.conftest import from_logits, said_by, small_images, small_network

class Built(keras_internals.BuiltFromOneReplica):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)

def trained(strategy, wrap):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = wrap(small_network())
        model.compile("sgd", from_logits(), metrics=["accuracy"])
    # 7 examples are shared as 4 and 3.
    return model.fit(*small_images(7), batch_size=7, shuffle=False, verbose=0).history

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one = trained(tf.distribute.get_strategy(), lambda network: network)
two = trained(mirrored, Built)
assert one.keys() == two.keys() == {"loss", "accuracy"}, (one, two)
np.testing.assert_allclose(one["accuracy"], two["accuracy"])
try:
    trained(mirrored, lambda network: network)
except Exception as error:
    print("Keras fails:", error)
"""


def test_a_model_is_built_from_uneven_shares():
    """If Keras no longer fails, `BuiltFromOneReplica` can go."""
    assert "Keras fails: " in said_by(SHARES)


def test_deterministic_ops_are_seen():
    program = """if True:
        import tensorflow as tf
        from keras_free_adv import keras_internals
        assert keras_internals.deterministic_ops() is False
        tf.config.experimental.enable_op_determinism()
        assert keras_internals.deterministic_ops() is True
        """
    said_by(program)


def test_the_calls_in_a_graph_are_those_of_this_model():
    """A layer that is shared tells its first call, which is in another model."""
    inputs, others = keras.Input((3,)), keras.Input((3,))
    shared = keras.layers.Dense(2)
    shared(others)
    outputs = shared(inputs / 2.0)
    calls = keras_internals.calls_in_graph(keras.Model(inputs, outputs))
    by_kind = {type(call.operation).__name__: call for call in calls}
    assert set(by_kind) == {"InputLayer", "TrueDivide", "Dense"}
    divide, dense = by_kind["TrueDivide"], by_kind["Dense"]
    assert divide.arguments.args[0] is inputs
    assert divide.arguments.args[1] == 2.0
    assert dense.operation is shared
    assert dense.input_tensors[0] is divide.outputs[0]
    assert dense.outputs[0] is outputs
    assert [call.is_input for call in calls].count(True) == 1

    class Own(keras.Model):
        pass

    assert keras_internals.calls_in_graph(Own()) == []
