"""Free training equals a plain TensorFlow transcription of the paper's algorithm."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel, backends
from tests.conftest import from_logits, small_images

EPSILON, REPLAYS, BATCH, COUNT = 0.1, 4, 16, 151  # 10 minibatches, the last of 7
RATE = 0.03


def paper_loop(weights, images, labels, *, momentum, updates, logits_of, l2=0.0):
    """Free-m as in the paper: see paper.md, `Free-m (training)`.

    `weights` are plain tf.Variables, moved in place. Also returns the smallest
    non-zero |g_adv| relative to its largest, to see that rounding decides no sign.
    """
    delta = np.zeros((BATCH, *images.shape[1:]), "float32")
    velocity = [tf.zeros_like(w) for w in weights]
    starts = range(0, len(images), BATCH)
    closest = np.inf
    made = 0
    while made < updates:
        for start in starts:
            x, y = images[start : start + BATCH], labels[start : start + BATCH]
            n = len(x)
            for _ in range(REPLAYS):
                if made == updates:
                    break
                d = tf.constant(delta[:n])
                with tf.GradientTape() as tape:
                    tape.watch(d)
                    logits = logits_of(tf.clip_by_value(x + d, 0.0, 1.0))
                    loss = tf.reduce_mean(
                        tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
                    )
                    loss += l2 * sum(tf.reduce_sum(w * w) for w in weights)
                gradients = tape.gradient(loss, [*weights, d])
                g_adv = gradients.pop().numpy()
                for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
                    velocity[i] = momentum * velocity[i] - RATE * g
                    w.assign_add(velocity[i])
                size = np.abs(g_adv)
                closest = min(closest, size[size > 0].min() / size.max())
                delta[:n] = np.clip(
                    delta[:n] + EPSILON * np.sign(g_adv), -EPSILON, EPSILON
                )
                made += 1
    return delta, closest


def smooth_network():
    """tanh, not relu: no dead units, no kink where rounding picks the side."""
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def plain_copy(network):
    """The network's weights as tf.Variables, and its forward pass written out."""
    kernel, bias, dense, dense_bias = [tf.Variable(w) for w in network.get_weights()]

    def logits_of(x):
        hidden = tf.tanh(tf.nn.conv2d(x, kernel, 1, "VALID") + bias)
        return tf.reshape(hidden, (len(x), -1)) @ dense + dense_bias

    return [kernel, bias, dense, dense_bias], logits_of


def skip_compiled_on_torch(how):
    """Keras compiles no step of training on PyTorch, and takes one step at a time."""
    if backends.NAME == "torch" and how.keys() & {"jit_compile", "steps_per_execution"}:
        pytest.skip(f"not on PyTorch: {how}")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("how", "tolerance"),
    [
        ({"run_eagerly": True}, 1e-6),
        ({}, 1e-5),
        ({"jit_compile": True}, 1e-5),
        ({"steps_per_execution": 5}, 1e-5),
    ],
)
def test_forty_updates_equal_the_papers_loop(momentum, how, tolerance):
    skip_compiled_on_torch(how)
    images, labels = small_images(COUNT, seed=5)
    network = smooth_network()
    weights, logits_of = plain_copy(network)
    delta, closest = paper_loop(
        weights, images, labels, momentum=momentum, updates=40, logits_of=logits_of
    )
    # The seed was chosen so that rounding (1e-7 relative) decides no sign.
    assert closest > 1e-6

    model = FreeAdversarialModel(network, EPSILON, replays=REPLAYS)
    model.compile(keras.optimizers.SGD(RATE, momentum=momentum), from_logits(), **how)
    model.fit(images, labels, batch_size=BATCH, epochs=4, shuffle=False, verbose=0)

    assert int(model.optimizer.iterations) == 40
    for ours, theirs in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=tolerance, rtol=0)
    np.testing.assert_allclose(model.delta[0], delta, atol=tolerance, rtol=0)


def test_updates_with_batch_norm_decay_and_regularization_from_the_same_state():
    """Each update of delta is sign(g) where |g| is above 1e-6 of its maximum."""
    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(1e-2)),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model = FreeAdversarialModel(network, EPSILON, replays=REPLAYS)
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9, weight_decay=1e-3)
    model.compile(optimizer, from_logits())
    images, labels = small_images(16, seed=2)
    model.train_on_batch(images, labels)
    for _ in range(6):
        delta = model.delta[0]
        kernel, bias, gamma, beta, mean, _, dense, dense_bias = [
            tf.Variable(w) for w in network.get_weights()
        ]
        trained = [kernel, bias, gamma, beta, dense, dense_bias]
        momenta = [m.numpy() for m in optimizer.momentums]
        d = tf.constant(delta)
        with tf.GradientTape() as tape:
            tape.watch(d)
            hidden = tf.nn.conv2d(
                tf.clip_by_value(images + d, 0.0, 1.0), kernel, 1, "VALID"
            )
            hidden += bias
            batch_mean = tf.reduce_mean(hidden, (0, 1, 2))
            batch_variance = tf.math.reduce_variance(hidden, (0, 1, 2))
            hidden = (hidden - batch_mean) / tf.sqrt(batch_variance + 1e-3)
            hidden = tf.nn.relu(hidden * gamma + beta)
            logits = tf.reshape(hidden, (16, -1)) @ dense + dense_bias
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            ) + 1e-2 * tf.reduce_sum(kernel**2)
        *gradients, g_adv = tape.gradient(loss, [*trained, d])

        model.train_on_batch(images, labels)

        g_adv = g_adv.numpy()
        clear = np.abs(g_adv) > 1e-6 * np.abs(g_adv).max()
        expected = np.clip(delta + EPSILON * np.sign(g_adv), -EPSILON, EPSILON)
        np.testing.assert_allclose(model.delta[0][clear], expected[clear], atol=1e-6)
        for weight, g, velocity, ours in zip(
            trained, gradients, momenta, network.trainable_weights, strict=True
        ):
            decayed = weight * (1 - RATE * 1e-3)  # decoupled, before the step
            np.testing.assert_allclose(
                ours.numpy(), decayed + 0.9 * velocity - RATE * g, atol=1e-5
            )
        np.testing.assert_allclose(
            network.layers[1].moving_mean.numpy(),
            0.99 * mean + 0.01 * batch_mean.numpy(),
            atol=1e-5,
        )


def test_l2_update_follows_the_normalized_gradient_of_each_example():
    """A linear model, worked by hand: grad = (p - y) W, independent of delta's size."""
    network = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, use_bias=False)]
    )
    network.set_weights([np.array([[1.0, -1.0], [2.0, 0.0]], "float32")])
    model = FreeAdversarialModel(
        network, 0.5, replays=1, step_size=0.2, norm="l2", value_range=(-9, 9)
    )
    model.compile(keras.optimizers.SGD(0.0), from_logits())
    model.train_on_batch(np.array([[0.3, 0.1], [-1.0, 2.0]]), np.array([0, 1]))
    # d loss / dx = (p_1 or p_0) * (w_other - w_true); w_1 - w_0 = (-2, -2).
    along = np.array([[-1, -1], [1, 1]]) / np.sqrt(2)
    np.testing.assert_allclose(model.delta[0], 0.2 * along, atol=1e-6)
    for _ in range(5):
        model.train_on_batch(np.array([[0.3, 0.1], [-1.0, 2.0]]), np.array([0, 1]))
    np.testing.assert_allclose(model.delta[0], 0.5 * along, atol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_pgd_training_equals_a_plain_loop(jit):
    skip_compiled_on_torch({"jit_compile": True} if jit else {})
    images, labels = small_images(32, seed=3)
    network = smooth_network()
    weights, logits_of = plain_copy(network)
    model = PGDAdversarialModel(
        network, EPSILON, steps=3, step_size=0.04, random_start=False
    )
    model.compile(keras.optimizers.SGD(RATE), from_logits(), jit_compile=jit)

    def loss_at(x, y):
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits_of(x))
        )

    for start in (0, 16):
        x, y = images[start : start + 16], labels[start : start + 16]
        adversarial = tf.constant(x)
        for _ in range(3):
            with tf.GradientTape() as tape:
                tape.watch(adversarial)
                loss = loss_at(adversarial, y)
            step = 0.04 * tf.sign(tape.gradient(loss, adversarial))
            adversarial = tf.clip_by_value(adversarial + step, x - 0.1, x + 0.1)
            adversarial = tf.clip_by_value(adversarial, 0.0, 1.0)
        with tf.GradientTape() as tape:
            loss = loss_at(adversarial, y)
        for w, g in zip(weights, tape.gradient(loss, weights), strict=True):
            w.assign_sub(RATE * g)

    model.fit(images, labels, batch_size=16, epochs=1, shuffle=False, verbose=0)
    for ours, theirs in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
