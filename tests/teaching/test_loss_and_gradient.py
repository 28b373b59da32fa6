import keras
import numpy as np

from keras_free_adv.teaching import loss_and_gradient_of
from tests.conftest import small_images


def test_loss_and_gradient_of_a_linear_network_are_those_worked_by_hand():
    network = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    images, labels = small_images(5)
    weights, bias = network.get_weights()
    logits = images.reshape(5, -1) @ weights + bias
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(shares[np.arange(5), labels])
    slope = (shares - np.eye(3)[labels]) @ weights.T
    loss, gradient = loss_and_gradient_of(network)(images, labels)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope.reshape(images.shape), atol=1e-6)


def test_of_a_loss_that_does_not_depend_on_the_pixels_it_is_zero():
    class Rounded(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.round(inputs)

    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            Rounded(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    _, gradient = loss_and_gradient_of(network)(*small_images(5))
    assert not gradient.any()
