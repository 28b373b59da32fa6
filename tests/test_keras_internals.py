"""Each fails when Keras changes what the library relies on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import keras_internals, random_numbers
from keras_free_adv.training.keyed_augmentation import (
    RANDOM_LAYERS,
    KeyedAugmentation,
)
from tests.conftest import from_logits, said_by, small_images, small_network


def compiled():
    model = small_network()
    model.compile("sgd", from_logits(), metrics=["accuracy"])
    return model


def test_a_callback_finds_the_callbacks_of_its_fit():
    found = {}

    class RecordedGradients(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found["begin"] = keras_internals.callbacks_of_this_fit()

        def on_epoch_end(self, epoch, logs=None):
            found["end"] = keras_internals.callbacks_of_this_fit()

    looks, other = RecordedGradients(), keras.callbacks.TerminateOnNaN()
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


def test_layers_within_layers_are_found_and_the_model_is_not():
    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="outer")
            self.inner = keras.layers.Dense(1, name="inner")

    model = keras.Sequential([Outer()])
    found = list(keras_internals.layers_inside(model, recursive=True))
    assert sorted(layer.name for layer in found) == ["inner", "outer"]


def test_a_models_own_metrics_are_those_it_had_before_it_was_compiled():
    inputs = keras.Input((2,))
    outputs = [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)]
    model = keras.Model(inputs, outputs)
    model.mine = keras.metrics.Mean(name="mine")
    assert keras_internals.own_metrics(model) == [model.mine]
    model.compile("sgd", ["mse", "mae"], metrics=["mae", "mse"])
    numbers = np.ones((3, 2), "float32"), [np.ones((3, 1), "float32")] * 2
    model.train_on_batch(*numbers)
    assert len(model.metrics) == 5  # two losses, their sum, the compiled, and mine
    assert keras_internals.own_metrics(model) == [model.mine]


def test_losses_of_outputs_are_found_and_not_logged():
    inputs = keras.Input((2,), name="x")
    outputs = {
        name: keras.layers.Dense(1, name=name, kernel_initializer="ones")(inputs)
        for name in "ab"
    }
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 1.0, "b": 5.0})
    x, y = np.ones((4, 2), "float32"), dict.fromkeys("ab", np.zeros((4, 1), "float32"))
    model.test_on_batch(x, y)
    model.reset_metrics()
    with keras_internals.without_losses_of_outputs(model):
        assert float(model.compute_loss(x, y, model(x))) == 4.0 + 5 * 2.0
    found = keras_internals.losses_of_outputs(model, y, model(x), None)
    assert [(m.name, float(v)) for m, v in found] == [("a_loss", 4.0), ("b_loss", 2.0)]
    assert [float(m.total) for m, _ in found] == [0.0, 0.0]
    model.compute_loss(x, y, model(x))  # as before
    assert [float(m.result()) for m, _ in found] == [4.0, 2.0]
    assert keras_internals.losses_of_outputs(compiled(), y, x, None) == []


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


@pytest.mark.parametrize("layer", RANDOM_LAYERS, ids=lambda layer: layer.__name__)
def test_all_that_a_random_layer_draws_comes_from_its_generator(layer):
    """In a graph too, as tf.data makes one: a key gives the same pixels again."""
    arguments = {
        "RandomBrightness": {"factor": 0.5},
        "RandomContrast": {"factor": 0.5},
        "RandomCrop": {"height": 5, "width": 5},
        "RandomHue": {"factor": 0.5, "value_range": (0, 1)},
        "RandomPosterization": {"factor": 4, "value_range": (0, 1)},
        "RandomRotation": {"factor": 0.4},
        "RandomSaturation": {"factor": (0.0, 1.0)},
        "RandomSharpness": {"factor": (0.0, 1.0)},
        "RandomTranslation": {"height_factor": 0.4, "width_factor": 0.4},
        "RandomZoom": {"height_factor": 0.4},
        "RandomShear": {"x_factor": 0.8},
        "RandomColorDegeneration": {"factor": 1.0},
        "RandomColorJitter": {"contrast_factor": 0.5},
        "Solarization": {"threshold_factor": 1.0, "value_range": (0, 1)},
    }.get(layer.__name__, {})
    if layer.__name__ in ("RandAugment", "RandomErasing", "RandomElasticTransform"):
        arguments["value_range"] = (0, 1)
    mine = layer(**arguments)
    before = [np.array(v) for v in mine.variables]
    augmentation = KeyedAugmentation([mine], (0.0, 1.0), "float32")
    images, _ = small_images(8, (8, 8, 3))
    augmentation.shape_of((8, 8, 3))
    in_graph = tf.function(augmentation)
    first, other, again, eager = (
        np.asarray(call(tf.constant(images), random_numbers.key(number)))
        for call, number in (
            (in_graph, 1),
            (in_graph, 2),
            (in_graph, 1),
            (augmentation, 1),
        )
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, eager, atol=1e-5)
    assert (first != other).any()
    for variable, value in zip(mine.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_the_layers_inside_and_what_is_functional():
    inputs = keras.Input((4,))
    first = keras.layers.Dropout(0.5)(inputs, training=False)
    model = keras.Model(inputs, keras.layers.Add()([first, inputs]))
    calls = [c for c in keras_internals.calls_in_graph(model) if not c.is_input]
    dropout, add = sorted(calls, key=lambda call: len(call.input_tensors))
    assert dropout.operation is model.layers[1]
    assert dropout.arguments.kwargs == {"training": False}
    assert add.input_tensors[0] is first
    assert add.input_tensors[1] is inputs
    assert keras_internals.is_functional(model)
    assert not keras_internals.is_functional(small_network())
    held = keras.Sequential([model])
    assert list(keras_internals.layers_inside(held, recursive=False))[-1:] == [model]
    assert set(model.layers) <= set(keras_internals.layers_inside(held, recursive=True))


def test_the_inputs_of_masking_layers_are_seen_in_a_call_and_not_after():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.mask = keras.layers.Masking()

        def call(self, inputs):
            return self.mask(inputs) + self.mask(inputs + 1.0)

    model, x = Twice(), tf.ones((2, 3, 1))
    model(x)
    (one, first), (other, second) = keras_internals.inputs_of_masking_layers(model, x)
    assert one is other is model.mask
    assert first is x
    np.testing.assert_array_equal(second, x + 1.0)
    assert "call" not in vars(model.mask)
    assert keras_internals.inputs_of_masking_layers(small_network(), x) == []


def test_the_calls_of_a_graph_come_in_their_order_and_can_be_repeated():
    inputs = keras.Input((2,))
    outputs = keras.layers.Rescaling(3.0)(inputs + 1.0)
    added, rescaled = keras_internals.calls_between([inputs], [outputs])
    assert added.input_tensors[0] is inputs
    assert rescaled.input_tensors[0] is added.outputs[0]
    assert isinstance(rescaled.operation, keras.layers.Rescaling)
    assert rescaled.outputs[0] is outputs
    again = keras_internals.call_again(added, np.float32([[1.0, 2.0]]))
    np.testing.assert_array_equal(again, [[2.0, 3.0]])


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
