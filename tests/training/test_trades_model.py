"""TRADES against a plain TensorFlow program of Zhang et al. (2019), Algorithm 1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import TRADESModel, random_numbers
from tests.conftest import from_logits, outputs_of, small_images, small_network

EPSILON, STEPS, BETA, RATE = 0.1, 3, 4.0, 0.05


def dense_network(softmax=False):
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(3, activation="softmax" if softmax else None),
        ]
    )


def trained(network, loss, images, labels, updates=3, run_eagerly=False, **kwargs):
    model = TRADESModel(network, EPSILON, steps=STEPS, beta=BETA, **kwargs)
    model._position.seed = 7
    model.compile(keras.optimizers.SGD(RATE), loss, run_eagerly=run_eagerly)
    losses = [model.train_on_batch(images, labels) for _ in range(updates)]
    return model, losses


def kl(p_logits, q_logits):
    p = tf.nn.softmax(p_logits)
    return tf.reduce_sum(
        p * (tf.nn.log_softmax(p_logits) - tf.nn.log_softmax(q_logits)), axis=-1
    )


def bernoulli_kl(p_logits, q_logits):
    p, q = tf.sigmoid(p_logits), tf.sigmoid(q_logits)
    terms = p * tf.math.log(p / q) + (1 - p) * tf.math.log((1 - p) / (1 - q))
    return tf.reduce_sum(terms, axis=-1)


def softmax_loss(labels, logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def binary_loss(labels, logits):
    of_each = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(of_each, axis=-1)


def by_the_book(weights, images, labels, update, norm, kl=kl, natural=softmax_loss):
    """One update of the published algorithm, with the draws of the library."""
    w1, b1, w2, b2 = weights

    def f(x):
        flat = tf.reshape(x, (len(x), -1))
        return tf.tanh(flat @ w1 + b1) @ w2 + b2

    x = tf.constant(images)
    key = random_numbers.key(7, update, 0)
    noise = random_numbers.normal(key, x.shape, "float32")
    x_adv = x + 0.001 * tf.constant(keras.ops.convert_to_numpy(noise))
    x_adv = tf.clip_by_value(x_adv, 0.0, 1.0)
    step = 2.5 * EPSILON / STEPS
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            tape.watch(x_adv)
            loss = tf.reduce_sum(kl(tf.stop_gradient(f(x)), f(x_adv)))
        g = tape.gradient(loss, x_adv)
        if norm == "linf":
            delta = tf.clip_by_value(x_adv + step * tf.sign(g) - x, -EPSILON, EPSILON)
        else:
            length = tf.sqrt(tf.reduce_sum(g * g, axis=(1, 2, 3), keepdims=True))
            delta = x_adv + step * g / length - x
            length = tf.sqrt(
                tf.reduce_sum(delta * delta, axis=(1, 2, 3), keepdims=True)
            )
            delta = delta * tf.minimum(1.0, EPSILON / length)
        x_adv = tf.clip_by_value(x + delta, 0.0, 1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(natural(labels, f(x))) + BETA * tf.reduce_mean(
            kl(f(x), f(x_adv))
        )
    for w, g in zip(weights, tape.gradient(loss, weights), strict=True):
        w.assign_sub(RATE * g)
    return float(loss)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("how", ["graph", "eager", "softmax", "eager softmax"])
def test_updates_are_those_of_the_paper(norm, how):
    images, labels = small_images(16, (4, 4, 1))
    network = dense_network("softmax" in how)
    weights = [tf.Variable(w) for w in network.get_weights()]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits="softmax" not in how)
    model, losses = trained(
        network, loss, images, labels, run_eagerly="eager" in how, norm=norm
    )
    expected = [by_the_book(weights, images, labels, u, norm) for u in range(3)]
    # train_on_batch gives the mean over the updates since the metrics were reset.
    np.testing.assert_allclose(losses[0], expected[0], rtol=1e-4)
    for found, wanted in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    del model


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_several_labels_have_the_sum_of_their_divergences(activation):
    images, _ = small_images(16, (4, 4, 1))
    labels = np.random.default_rng(1).integers(0, 2, (16, 3)).astype("float32")
    network = dense_network()
    weights = [tf.Variable(w) for w in network.get_weights()]
    if activation:
        network.add(keras.layers.Activation(activation))
    loss = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    _, losses = trained(network, loss, images, labels)
    expected = [
        by_the_book(weights, images, labels, u, "linf", bernoulli_kl, binary_loss)
        for u in range(3)
    ]
    np.testing.assert_allclose(losses[0], expected[0], rtol=1e-4)
    for found, wanted in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_sample_weights_weigh_both_terms():
    images, labels = small_images(8, (4, 4, 1))
    one, other = dense_network(), dense_network()
    other.set_weights(one.get_weights())
    for network, x, y, weight in (
        (one, images, labels, np.repeat([1.0, 0.0], 4)),
        # The mean over 8 examples of which 4 weigh nothing is half that over 4.
        (other, images[:4], labels[:4], np.full(4, 0.5)),
    ):
        model = TRADESModel(network, EPSILON, steps=1, beta=BETA)
        model._position.seed = 7
        model.compile(keras.optimizers.SGD(RATE), from_logits())
        model.train_on_batch(x, y, sample_weight=weight)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_larger_beta_makes_predictions_stabler():
    images, labels = small_images(64, (6, 6, 1))
    changes = []
    for beta in (0.01, 20.0):
        keras.utils.set_random_seed(0)
        network = small_network()
        model = TRADESModel(network, 0.2, steps=3, beta=beta)
        model.compile(keras.optimizers.Adam(0.02), from_logits())
        model.fit(images, labels, epochs=30, batch_size=32, verbose=0)
        noise = 0.2 * np.sign(np.random.default_rng(0).normal(size=images.shape))
        moved = np.clip(images + noise, 0, 1)
        outputs = outputs_of(network, images), outputs_of(network, moved)
        changes.append(float(tf.reduce_mean(kl(*outputs))))
    assert changes[1] < 0.5 * changes[0]


def test_it_trains_in_plain_fit_and_is_saved_and_loaded(tmp_path):
    images, labels = small_images(40)
    model = TRADESModel(small_network(softmax=True), 0.1, steps=2, beta=3.0)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(images, labels, epochs=2, batch_size=16, verbose=0)
    assert {"accuracy", "loss", "passes"} <= set(history.history)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.beta, loaded.steps, loaded.epsilon) == (3.0, 2, 0.1)
    np.testing.assert_allclose(
        outputs_of(loaded, images), outputs_of(model, images), atol=1e-6
    )
    loaded.fit(images, labels, epochs=1, verbose=0)


def test_one_input_of_a_dict_is_perturbed():
    image, scale = keras.Input((4, 4, 1), name="image"), keras.Input((1,), name="scale")
    hidden = keras.layers.Flatten()(image) * scale
    network = keras.Model([image, scale], keras.layers.Dense(3)(hidden))
    model = TRADESModel(network, 0.1, steps=2, perturbed_input="image")
    model.compile("sgd", from_logits())
    images, labels = small_images(12, (4, 4, 1))
    x = {"image": images, "scale": np.ones((12, 1), "float32")}
    history = model.fit(x, labels, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_several_outputs_are_refused_before_training():
    inputs = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(inputs)
    network = keras.Model(
        inputs, [keras.layers.Dense(3)(flat), keras.layers.Dense(3)(flat)]
    )
    model = TRADESModel(network, 0.1)
    model.compile("sgd", [from_logits(), from_logits()])
    images, labels = small_images(8, (4, 4, 1))
    with pytest.raises(ValueError, match="one output"):
        model.fit(images, [labels, labels], verbose=0)


@pytest.mark.parametrize("beta", [0, -1, float("nan"), "6", None])
def test_a_wrong_beta_is_refused(beta):
    with pytest.raises((TypeError, ValueError), match="`beta`"):
        TRADESModel(small_network(), 0.1, beta=beta)


def test_another_loss_says_anew_what_the_outputs_are():
    """Compiled for probabilities, then for logits: the divergence is of logits."""
    images, labels = small_images(16, (4, 4, 1))
    network = dense_network()
    weights = [tf.Variable(w) for w in network.get_weights()]
    model = TRADESModel(network, EPSILON, steps=STEPS, beta=BETA)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    model.train_on_batch(images, labels)
    model._position.seed = 7
    model.compile(keras.optimizers.SGD(RATE), from_logits())
    found = model.train_on_batch(images, labels)
    # The second update, for the draws of its start: the count outlives `compile`.
    expected = by_the_book(weights, images, labels, 1, "linf")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_crafting_is_not_scaled_by_the_size_of_the_batch():
    """Under float16 a larger scale would overflow, and leave images as they are."""
    keras.config.set_dtype_policy("mixed_float16")
    images, labels = small_images(64, (4, 4, 1))
    network = dense_network()
    # The same weights on each backend: of a few, a start's logits round to the image's.
    generator = np.random.default_rng(1)
    shapes = [weight.shape for weight in network.weights]
    network.set_weights([generator.normal(0, 0.5, shape) for shape in shapes])
    model = TRADESModel(network, 0.1, steps=1)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.0), initial_scale=2.0**24
    )
    model.compile(optimizer, from_logits(), run_eagerly=True)
    crafted = []
    climb = model._climb
    model._climb = lambda *args: crafted.append(climb(*args)) or crafted[-1]
    model.train_on_batch(images, labels)
    found = keras.ops.convert_to_numpy(crafted[0])
    moved = np.abs(found - images).reshape(64, -1).max(1)
    assert (moved > 0.01).all()
