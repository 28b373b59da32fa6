import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv.backends.final_operation import ModelOutputs
from keras_free_adv.predictions import predictions_of
from tests.conftest import small_images, small_network

IMAGES = small_images(8)[0]


def ending(last):
    inputs = keras.Input((6, 6, 1))
    x = layers.Dense(3)(layers.Flatten()(inputs))
    return keras.Model(inputs, last(x))


@keras.saving.register_keras_serializable("tests")
class HiddenSoftmax(keras.Model):
    """A softmax that no graph shows as the last operation."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = small_network()

    def call(self, inputs):
        shares = ops.exp(self.inner(inputs))
        return shares / ops.sum(shares, -1, keepdims=True)


@pytest.mark.parametrize(
    ("model", "source"),
    [
        (lambda: small_network(), "logits"),
        (lambda: small_network(softmax=True), "softmax_input"),
        (lambda: ending(layers.Softmax()), "softmax_input"),
        (
            lambda: ending(layers.Activation("softmax", dtype="float32")),
            "softmax_input",
        ),
        (lambda: ending(ops.softmax), "softmax_input"),
        (lambda: keras.Sequential([small_network(softmax=True)]), "softmax_input"),
        (lambda: ending(lambda x: layers.Dense(1, "sigmoid")(x)), "sigmoid_input"),
        (lambda: HiddenSoftmax(), "probabilities"),
    ],
)
def test_where_logits_are_found(model, source):
    network = model()
    network(IMAGES)
    assert predictions_of(network, IMAGES).source == source


@pytest.mark.parametrize(
    ("said", "source"), [(True, "logits"), (False, "probabilities")]
)
def test_one_unit_between_zero_and_one_is_what_the_loss_says(said, source):
    network = ending(layers.Dense(1, kernel_initializer="zeros"))
    network.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=said))
    assert predictions_of(network, IMAGES).source == source


def test_mixed_precision_softmax_is_recognized():
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = ending(layers.Activation("softmax", dtype="float32"))
    assert predictions_of(network, IMAGES).source == "softmax_input"


def test_logits_that_are_said_to_be_are_taken_as_they_are():
    network = small_network(softmax=True)
    assert predictions_of(network, IMAGES, from_logits=True).source == "logits"


def test_logarithms_of_probabilities_give_the_same_classes_and_cross_entropy():
    network = HiddenSoftmax()
    view = predictions_of(network, IMAGES)
    shares = network(IMAGES)
    logits = ops.convert_to_numpy(view(ModelOutputs(shares, None, None)))
    again = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(again, ops.convert_to_numpy(shares), atol=1e-6)


@pytest.mark.parametrize(
    "outputs",
    [
        lambda x: {"a": layers.Dense(2)(x), "b": layers.Dense(2)(x)},
        lambda x: layers.Reshape((3, 1))(x),
    ],
)
def test_other_outputs_are_refused(outputs):
    with pytest.raises(ValueError, match="one output of shape"):
        predictions_of(ending(outputs), IMAGES)
