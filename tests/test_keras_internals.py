"""Each fails when Keras changes what the library relies on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import PGDAdversarialModel, backends, keras_internals
from keras_free_adv.backends.final_operation import AFFINE, SIGMOID, SOFTMAX
from keras_free_adv.data import keys
from keras_free_adv.data.keyed_augmentation import (
    RANDOM_LAYERS,
    KeyedAugmentation,
)
from tests.conftest import from_logits, said_by, small_images, small_network


def compiled():
    model = small_network()
    model.compile("sgd", from_logits(), metrics=["accuracy"])
    return model


@pytest.mark.parametrize("wrapped", [False, True], ids=["list", "CallbackList"])
@pytest.mark.parametrize("adversarial", [False, True], ids=["plain", "adversarial"])
def test_a_callback_finds_the_callbacks_of_its_fit(adversarial, wrapped):
    found = {}

    class Finder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found["begin"] = keras_internals.callbacks_of_this_fit()

        def on_epoch_end(self, epoch, logs=None):
            found["end"] = keras_internals.callbacks_of_this_fit()

    model = PGDAdversarialModel(small_network(), 0.1, steps=1)
    model = model if adversarial else model.model
    model.compile("sgd", from_logits())
    callbacks = [keras.callbacks.TerminateOnNaN(), Finder()]
    passed = callbacks
    if wrapped:
        passed = keras.callbacks.CallbackList(callbacks, add_history=True, model=model)
    model.fit(*small_images(8), callbacks=passed, verbose=0)
    for those in found.values():
        assert [one for one in those if one in callbacks] == callbacks
        assert model.history in those
    assert len(found) == 2
    assert keras_internals.callbacks_of_this_fit() == []


def test_keras_gives_a_callback_no_reference_to_its_list():
    """If this fails, `callbacks_of_this_fit` need no longer walk the stack."""
    held = []

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for holder in (self, self.model, self.model.history):
                held.extend(vars(holder).values())
            held.extend(self.params.values())

    recorder = Recorder()
    compiled().fit(*small_images(8), callbacks=[recorder], verbose=0)
    assert recorder.model in held
    for value in held:
        assert not isinstance(value, keras.callbacks.CallbackList)
        if isinstance(value, (list, tuple, dict)):
            assert not any(item is recorder for item in value)


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
        from keras_free_adv import backends
        assert backends.deterministic() is False
        tf.config.experimental.enable_op_determinism()
        assert backends.deterministic() is True
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
        np.asarray(call(tf.constant(images), keys.key(number)))
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


def ending(last):
    """A functional model that ends so, behind an affine layer."""
    inputs = keras.Input((4,))
    return keras.Model(inputs, last(keras.layers.Dense(3)(inputs)))


class SoftmaxInItsCall(keras.Model):
    """Ends with a function that is no layer's, and no operation of a graph."""

    def __init__(self):
        super().__init__()
        self.affine = keras.layers.Dense(3)

    def call(self, inputs):
        return keras.ops.softmax(self.affine(inputs))


class LayersInItsCall(SoftmaxInItsCall):
    """Ends with a layer, of which there is no graph."""

    def __init__(self):
        super().__init__()
        self.last = keras.layers.Softmax()

    def call(self, inputs):
        return self.last(self.affine(inputs))


def nested():
    return keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])


FINAL_OPERATIONS = {
    "a layer's softmax": (
        lambda: ending(keras.layers.Dense(2, activation="softmax")),
        SOFTMAX,
    ),
    "a layer's sigmoid": (
        lambda: ending(keras.layers.Dense(2, activation="sigmoid")),
        SIGMOID,
    ),
    "a Softmax layer": (lambda: ending(keras.layers.Softmax()), SOFTMAX),
    "an Activation layer": (
        lambda: ending(keras.layers.Activation("sigmoid")),
        SIGMOID,
    ),
    "an operation": (lambda: ending(keras.ops.softmax), SOFTMAX),
    "in a nested model": (lambda: ending(nested()), SOFTMAX),
    "a layer of a subclass": (LayersInItsCall, SOFTMAX),
    "no activation": (lambda: ending(lambda x: x), AFFINE),
    "another activation": (lambda: ending(keras.layers.Activation("tanh")), None),
    "over another axis": (lambda: ending(keras.layers.Softmax(axis=0)), None),
    "a softmax that is not the last": (
        lambda: ending(lambda x: keras.layers.Rescaling(2.0)(keras.ops.softmax(x))),
        None,
    ),
    "a function in the call of a subclass": (SoftmaxInItsCall, None),
}
ACTIVATIONS = {SOFTMAX: keras.ops.softmax, SIGMOID: keras.ops.sigmoid}


@pytest.mark.parametrize("kind", FINAL_OPERATIONS)
def test_the_final_operation_and_its_input_are_seen(kind):
    make, operation = FINAL_OPERATIONS[kind]
    model, x = make(), np.ones((5, 4), "float32")
    expected = keras.ops.convert_to_numpy(model(x))

    def attributes():
        return [
            {name: vars(layer).get(name) for name in ("activation", "call")}
            for layer in model._flatten_layers()
        ]

    before = attributes()
    found = keras_internals.outputs_of_final_activation(model, lambda: model(x))
    assert attributes() == before
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found.values), expected)
    assert found.operation == operation
    if operation in ACTIVATIONS:
        again = keras.ops.convert_to_numpy(ACTIVATIONS[operation](found.before))
        np.testing.assert_allclose(again, expected, rtol=1e-6)
    else:
        assert found.before is None


def test_the_input_of_a_final_softmax_by_hand():
    """Where the probabilities themselves are 1 and 0 in float32."""
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, activation="softmax")]
    )
    model.set_weights([np.float32([[100, 0], [0, 100]]), np.float32([0, 1])])
    x = np.float32([[3.0, 1.0]])
    found = keras_internals.outputs_of_final_activation(model, lambda: model(x))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found.values), [[1.0, 0.0]]
    )
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found.before), [[300.0, 101.0]]
    )


def test_what_was_replaced_to_see_the_final_operation_is_put_back_after_an_error():
    model = ending(keras.layers.Dense(2, activation="softmax"))

    def fails():
        raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        keras_internals.outputs_of_final_activation(model, fails)
    assert model.layers[-1].activation is keras.activations.softmax
    assert "call" not in vars(model.layers[-1])


@pytest.mark.skipif(backends.NAME != "jax", reason="JAX takes a model's arrays out")
def test_a_model_that_is_refused_in_its_first_step_keeps_its_variables():
    inputs = keras.Input((6, 6, 1))
    blind = keras.layers.Flatten()(keras.ops.stop_gradient(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3)(blind))
    before = network.get_weights()
    model = PGDAdversarialModel(network, 0.1, steps=1)
    model.compile(keras.optimizers.Adam(), from_logits())
    with pytest.raises(ValueError, match="differentiably"):
        model.fit(*small_images(8), verbose=0)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizer.iterations) == 0


def test_a_bar_says_what_it_is_told_is_left(capsys):
    bar = keras_internals.BarWithEstimate(100)
    bar.seconds_left = 3700.0
    bar.update(50)
    assert "1:01:40" in capsys.readouterr().out
    bar = keras_internals.BarWithEstimate(100)
    bar.update(50)
    assert "1:01:40" not in capsys.readouterr().out
    bar.seconds_left = 3700.0
    bar.say("all", "an hour")
    bar.update(100)
    shown = capsys.readouterr().out
    assert "1:01:40" not in shown
    assert "- all: an hour" in shown
