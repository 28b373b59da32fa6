import keras
import numpy as np
import pytest

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel, TRADESModel
from tests.conftest import from_logits, small_images, small_network, tell


def test_delta_grows_with_epsilon():
    images, labels = small_images(8)
    images = 0.3 + 0.4 * images  # away from the ends of the range
    model = FreeAdversarialModel(
        small_network(), 0.2, replays=1, epsilon_warmup_steps=4
    )
    model.compile("sgd", from_logits())
    largest = []
    for _ in range(6):
        model.train_on_batch(images, labels)
        largest.append(np.abs(model.delta).max())
    np.testing.assert_allclose(largest, [0.05, 0.1, 0.15, 0.2, 0.2, 0.2], rtol=1e-5)


@pytest.mark.parametrize("kind", [PGDAdversarialModel, TRADESModel])
def test_crafted_images_stay_in_the_grown_ball(kind):
    images, labels = small_images(8)
    images = 0.3 + 0.4 * images
    seen = []

    class Remembers(keras.layers.Layer):
        def call(self, inputs):
            if not keras.utils.is_keras_tensor(inputs):
                tell(seen.append, inputs)
            return inputs

    network = keras.Sequential(
        [keras.Input((6, 6, 1)), Remembers(), keras.layers.Flatten()]
    )
    network.add(keras.layers.Dense(3))
    model = kind(network, 0.2, steps=3, epsilon_warmup_steps=4)
    model.compile("sgd", from_logits(), run_eagerly=True)
    model.train_on_batch(images[:4], labels[:4])  # builds and probes
    radii = []
    for _ in range(3):
        seen.clear()
        model.train_on_batch(images, labels)
        radii.append(np.abs(seen[-1] - images).max())
    np.testing.assert_allclose(radii, [0.1, 0.15, 0.2], rtol=1e-4)


def test_the_step_has_the_share_of_its_own_update():
    """Far inside the ball: update 1 of 4 moves by step / 4, update 2 by step / 2."""
    images, labels = small_images(16)
    model = FreeAdversarialModel(
        small_network(), 0.2, step_size=0.004, epsilon_warmup_steps=4
    )
    model.compile("sgd", from_logits())
    before = np.zeros_like(images)
    for share in (0.25, 0.5, 0.75, 1.0, 1.0):
        model.train_on_batch(images, labels)
        moved = np.abs(model.delta[0] - before)
        np.testing.assert_allclose(moved[moved > 0], 0.004 * share, rtol=1e-3)
        before = model.delta[0]


def test_it_is_saved_and_none_by_default():
    model = FreeAdversarialModel(small_network(), 0.2, epsilon_warmup_steps=40)
    assert model.get_config()["epsilon_warmup_steps"] == 40
    assert FreeAdversarialModel(small_network(), 0.2).epsilon_warmup_steps == 0


@pytest.mark.parametrize("epsilon_warmup_steps", [-1, 1.5, "4", None])
def test_a_wrong_length_is_refused(epsilon_warmup_steps):
    with pytest.raises((TypeError, ValueError), match="`epsilon_warmup_steps`"):
        FreeAdversarialModel(
            small_network(), 0.2, epsilon_warmup_steps=epsilon_warmup_steps
        )


def test_it_follows_the_updates_also_within_one_execution():
    """The share comes from a count inside the graph."""
    images, labels = small_images(32)
    images = 0.3 + 0.4 * images
    model = FreeAdversarialModel(
        small_network(), 0.2, replays=2, epsilon_warmup_steps=16
    )
    model.compile("sgd", from_logits(), steps_per_execution=4)
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)  # 8 updates
    np.testing.assert_allclose(np.abs(model.delta).max(), 0.1, rtol=1e-5)
