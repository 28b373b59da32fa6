"""The wrapped model does by itself what the plain one does."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel, backends
from tests.conftest import from_logits, small_images, small_network

IMAGES, LABELS = small_images(20)


def wrapped(network, method=FreeAdversarialModel):
    """Trained at the images themselves, but for rounding."""
    settings = {"replays": 1} if method is FreeAdversarialModel else {"steps": 1}
    return method(network, 1e-9, **settings)


class OwnMetric(keras.Model):
    """Logs the mean of its input, and one of its layers that of the logits."""

    def __init__(self):
        super().__init__()
        self.flatten = layers.Flatten()
        self.dense = layers.Dense(3)
        self.pixels = keras.metrics.Mean(name="pixels")
        self.logits = Watched()

    def call(self, inputs, training=None):
        self.pixels.update_state(ops.mean(inputs, axis=(1, 2, 3)))
        return self.logits(self.dense(self.flatten(inputs)))


class Watched(layers.Layer):
    def __init__(self):
        super().__init__()
        self.mean = keras.metrics.Mean(name="logits")

    def call(self, inputs):
        self.mean.update_state(inputs)
        return inputs


@pytest.mark.skipif(
    backends.NAME == "jax", reason="Keras on JAX takes no metrics updated in `call`"
)
def test_metrics_of_the_users_model_are_logged_and_reset_as_in_plain_keras():
    plain, inside = OwnMetric(), OwnMetric()
    for network in (plain, inside):
        network(IMAGES)
        network.pixels.update_state(1e6)  # nothing of this is to be seen
    inside.set_weights(plain.get_weights())
    # Compiled itself, as KerasHub's classifiers are: its own loss is not the one.
    inside.compile("sgd", "mse", metrics=["mae"])
    histories = []
    for model in (plain, wrapped(inside)):
        model.compile(keras.optimizers.SGD(0.1), from_logits(), metrics=["accuracy"])
        history = model.fit(
            IMAGES,
            LABELS,
            batch_size=20,
            epochs=3,
            validation_data=(IMAGES[:7], LABELS[:7]),
            verbose=0,
        )
        histories.append(history.history)
    assert histories[1].pop("passes") == [1.0, 2.0, 3.0]
    assert histories[0].keys() == histories[1].keys()
    assert {"pixels", "val_pixels", "logits"} < histories[0].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(histories[1]["pixels"], IMAGES.mean(), rtol=1e-5)


class Without(keras.Model):
    """No argument `training`."""

    def __init__(self):
        super().__init__()
        self.network = small_network()
        self.regularize = Regularize()

    def call(self, inputs):
        return self.network(self.regularize(inputs))


class Regularize(layers.Layer):
    def __init__(self):
        super().__init__()
        self.dropout = layers.Dropout(0.9, name="dropout")
        self.batch_norm = layers.BatchNormalization(name="batch_norm")

    def build(self, shape):
        self.batch_norm.build(shape)

    def call(self, inputs):
        return self.batch_norm(self.dropout(inputs))


@pytest.mark.parametrize("method", [FreeAdversarialModel, PGDAdversarialModel])
def test_without_training_argument_it_trains_in_inference_mode_as_keras_does(method):
    plain, inside = Without(), Without()
    for each in (plain, inside):
        each(IMAGES)
    inside.set_weights(plain.get_weights())
    model = wrapped(inside, method)
    for each in (plain, model):
        each.compile(keras.optimizers.SGD(0.1), from_logits())
    plain.fit(IMAGES, LABELS, batch_size=20, epochs=3, verbose=0)
    message = "Without.call has no argument `training`.*'batch_norm' and 1 more"
    with pytest.warns(UserWarning, match=message):
        model.fit(IMAGES, LABELS, batch_size=20, epochs=3, verbose=0)
    for one, other in zip(plain.get_weights(), inside.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    moving_mean = ops.convert_to_numpy(inside.regularize.batch_norm.moving_mean)
    assert np.all(moving_mean == 0.0)


class OwnPrediction(keras.Model):
    """Logits of a model whose `predict` gives something else."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)


class OwnPredictStep(OwnPrediction):
    def predict_step(self, data):
        return ops.softmax(super().predict_step(data))


class OwnPredict(OwnPrediction):
    def predict(self, x, temperature=1.0, **kwargs):
        logits = super().predict(x, **kwargs)
        return ops.convert_to_numpy(ops.softmax(logits / temperature))


class OwnPredictOnBatch(OwnPrediction):
    def predict_on_batch(self, x):
        return ops.convert_to_numpy(ops.softmax(super().predict_on_batch(x)))


@pytest.mark.parametrize("kind", [OwnPredictStep, OwnPredict, OwnPredictOnBatch])
def test_it_predicts_as_the_users_model(kind):
    if kind is OwnPredictStep and backends.NAME == "jax":
        with pytest.raises(ValueError, match="must not override `predict_step`"):
            wrapped(kind(small_network()))
        return
    network = kind(small_network())
    model = wrapped(network)
    if kind is not OwnPredictOnBatch:
        expected = network.predict(IMAGES, verbose=0)
        np.testing.assert_allclose(expected.sum(-1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(model.predict(IMAGES, verbose=0), expected)
    if kind is OwnPredict:
        warm = network.predict(IMAGES, temperature=3.0, verbose=0)
        found = model.predict(IMAGES, temperature=3.0, verbose=0)
        np.testing.assert_allclose(found, warm)
    if kind is not OwnPredict:
        expected = network.predict_on_batch(IMAGES)
        np.testing.assert_allclose(model.predict_on_batch(IMAGES), expected)
    if kind is OwnPredictStep:  # integer pixels are cast, as when it is called
        pixels = (255 * IMAGES).astype("uint8")
        np.testing.assert_allclose(
            model.predict(pixels, verbose=0),
            network.predict(pixels.astype("float32"), verbose=0),
        )


def test_single_input_and_output_are_the_users_models():
    inputs = keras.Input((6, 6, 1), name="images")
    network = keras.Model(inputs, {"logits": layers.Dense(3)(layers.Flatten()(inputs))})
    model = wrapped(network)
    assert model.input is network.input is inputs
    assert model.output.keys() == {"logits"}
    assert model.output["logits"] is network.output["logits"]
    features = keras.Model(model.input, model.output)
    assert features(IMAGES)["logits"].shape == (20, 3)


@pytest.mark.parametrize("method", [FreeAdversarialModel, PGDAdversarialModel])
def test_losses_of_outputs_add_up_on_a_short_last_minibatch(method):
    inputs = keras.Input((6, 6, 1))
    flat = layers.Flatten()(inputs)
    outputs = {name: layers.Dense(3, name=name)(flat) for name in "ab"}
    model = wrapped(keras.Model(inputs, outputs), method)
    labels = {"a": LABELS, "b": 2 - LABELS}
    model.compile(keras.optimizers.SGD(0.0), dict.fromkeys("ab", from_logits()))
    # Minibatches of 8, 8 and 4, and weights that never change.
    logs = model.fit(IMAGES, labels, batch_size=8, verbose=0).history
    for name in "ab":
        expected = from_logits()(labels[name], model.model(IMAGES)[name])
        expected = ops.convert_to_numpy(expected)
        np.testing.assert_allclose(logs[f"{name}_loss"], [expected], rtol=1e-5)
    total = np.add(logs["a_loss"], logs["b_loss"])
    np.testing.assert_allclose(total, logs["loss"], rtol=1e-5)
    found = model.train_on_batch(IMAGES, labels, return_dict=True)
    for name, value in found.items():
        np.testing.assert_allclose(value, logs[name][0], rtol=1e-5)
