import keras
import numpy as np
import pytest
from keras import layers

from keras_free_adv import PGDAttack
from keras_free_adv.model_cache import ModelCache
from tests.conftest import small_images, small_network


def with_lora(network):
    network.layers[-1].enable_lora(2)


def quantized(network):
    network.layers[-1].quantize("int8")


def made_for(cache, model, key="key"):
    """What the cache holds: an object of its own for each time it is made."""
    return cache.get(model, key, object)


@pytest.mark.parametrize("change", [with_lora, quantized])
def test_what_was_made_for_other_variables_is_made_anew(change):
    cache, network, other = ModelCache(), small_network(), small_network()
    first, of_other = made_for(cache, network), made_for(cache, other)
    change(network)
    second = made_for(cache, network)
    assert second is not first
    assert made_for(cache, network) is second
    assert made_for(cache, other) is of_other


def test_new_values_in_the_same_variables_change_nothing():
    cache, network = ModelCache(), small_network()
    first = made_for(cache, network)
    network.set_weights([2 * weight for weight in network.get_weights()])
    network.compile("sgd", "mse", metrics=["accuracy"])
    network.trainable = False
    assert made_for(cache, network) is first


def test_a_model_that_is_built_by_the_first_look_is_looked_at_once():
    cache, network = ModelCache(), keras.Sequential([layers.Dense(2)])
    made = []
    for _ in range(2):
        cache.get(network, "key", lambda: made.append(network(np.zeros((1, 3)))))
    assert len(made) == 1


@pytest.mark.parametrize("change", [with_lora, quantized])
def test_an_attack_sees_the_model_as_it_is_now(change):
    """As an attack that never saw it before."""
    network = small_network()
    images, labels = small_images(8)
    attack = PGDAttack(0.1, steps=3, seed=0, from_logits=True)
    before = np.asarray(attack(images, labels, model=network))
    change(network)
    generator = np.random.default_rng(0)
    for variable in network.layers[-1].trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    now = np.asarray(attack(images, labels, model=network))
    fresh = PGDAttack(0.1, steps=3, seed=0, from_logits=True)
    np.testing.assert_array_equal(now, fresh(images, labels, model=network))
    assert np.abs(now - before).max() > 1e-3
