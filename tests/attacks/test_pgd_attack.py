import gc
import weakref

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from keras_free_adv import PGDAttack
from tests.conftest import outputs_of, skip_without, small_images, small_network


def linear_model(weights, **dense):
    network = keras.Sequential(
        [
            keras.Input((len(weights),)),
            layers.Dense(len(weights[0]), use_bias=False, **dense),
        ]
    )
    network.set_weights([np.asarray(weights, "float32")])
    return network


def inside(adversarial, images, epsilon, norm, value_range=(0.0, 1.0)):
    width = value_range[1] - value_range[0]
    delta = (np.asarray(adversarial, "float64") - images).reshape(len(images), -1)
    size = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    in_ball = (size <= epsilon + 1e-6 * width).all()
    low, high = value_range
    return in_ball and low <= adversarial.min() and adversarial.max() <= high


def test_fgsm_on_a_linear_model_by_hand():
    # d CE / dx is along w_other - w_true = (-1, 2) for class 0.
    network = linear_model([[1.0, 0.0], [0.0, 2.0]])
    attack = PGDAttack(0.1, steps=1, random_start=False, keep="last")
    assert attack.name == "fgsm"
    images = np.float32([[0.5, 0.5], [0.05, 0.95]])
    adversarial = attack(images, np.array([0, 0]), model=network)
    np.testing.assert_allclose(adversarial, [[0.4, 0.6], [0.0, 1.0]], atol=1e-6)


def test_l2_on_a_linear_model_by_hand():
    network = linear_model([[1.0, 0.0], [0.0, 2.0]])
    attack = PGDAttack(0.1, steps=5, step_size=0.1, norm="l2", random_start=False)
    adversarial = attack(np.float32([[0.5, 0.1]]), np.array([0]), model=network)
    along = np.array([-1.0, 2.0]) / np.sqrt(5)
    np.testing.assert_allclose(adversarial, [[0.5, 0.1] + 0.1 * along], atol=1e-6)


def test_targeted_attack_reaches_the_class_it_names():
    network = linear_model(np.eye(3))
    attack = PGDAttack(0.2, steps=10, targeted=True, seed=0)
    images = np.float32([[0.5, 0.45, 0.4]] * 2)
    adversarial = attack(images, np.array([1, 2]), model=network)
    np.testing.assert_array_equal(np.asarray(adversarial).argmax(1), [1, 2])


def test_a_targeted_attack_climbs_the_margin_of_the_class_by_hand():
    """The logits are the pixels: class 1 is 0.05 behind class 0, which is ahead."""
    network = linear_model(np.eye(3))
    images = np.float32([[0.5, 0.45, 0.4]])
    settings = {"loss": "cw_margin", "targeted": True, "random_start": False}
    short = PGDAttack(0.02, steps=1, step_size=0.02, **settings)
    np.testing.assert_allclose(
        short(images, np.array([1]), model=network), [[0.48, 0.47, 0.4]], atol=1e-6
    )
    long = PGDAttack(0.2, steps=10, **settings)
    for label in (1, 2):
        found = long(images, np.array([label]), model=network)
        assert np.asarray(found).argmax() == label


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=12, deadline=None)
@given(
    epsilon=st.floats(1e-3, 1.0),
    edge=st.booleans(),
    steps=st.integers(1, 4),
    seed=st.integers(0, 99),
    keep=st.sampled_from(["best", "last"]),
)
def test_results_lie_in_the_ball_and_the_range(norm, epsilon, edge, steps, seed, keep):
    keras.utils.set_random_seed(0)
    network = NETWORK
    images, labels = small_images(5, seed=seed)
    images = np.round(images) if edge else images  # pixels on the edge of the range
    attack = PGDAttack(epsilon, steps=steps, norm=norm, seed=seed, keep=keep)
    adversarial = np.asarray(attack(images, labels, model=network))
    assert adversarial.shape == images.shape
    assert inside(adversarial, images, epsilon, norm)
    clean_right = outputs_of(network, images).argmax(1) == labels
    still_right = outputs_of(network, adversarial).argmax(1) == labels
    assert not (still_right & ~clean_right).any()  # never weaker than no attack


NETWORK = small_network()


def test_best_is_at_least_as_damaging_as_last():
    images, labels = small_images(64)
    kept = {
        keep: np.asarray(
            PGDAttack(0.05, steps=6, seed=1, keep=keep)(images, labels, model=NETWORK)
        )
        for keep in ("best", "last")
    }

    def loss(x):
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, NETWORK(x), from_logits=True
        )
        return ops.convert_to_numpy(losses)

    def right(x):
        return outputs_of(NETWORK, x).argmax(1) == labels

    assert right(kept["best"]).sum() <= right(kept["last"]).sum()
    both = right(kept["best"]) & right(kept["last"])
    assert (loss(kept["best"])[both] >= loss(kept["last"])[both] - 1e-6).all()


def test_deterministic_for_a_seed_and_different_for_another():
    images, labels = small_images(8)

    def attacked(seed):
        return np.asarray(
            PGDAttack(0.1, steps=2, seed=seed)(images, labels, model=NETWORK)
        )

    np.testing.assert_array_equal(attacked(1), attacked(1))
    assert np.abs(attacked(1) - attacked(2)).max() > 1e-3


def stateful_network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def values_of(variables):
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def test_no_variable_of_the_model_changes_and_none_is_tracked():
    network = stateful_network()
    images, labels = small_images(8)
    before = values_of(network.variables)
    attack = PGDAttack(0.1, steps=3, restarts=2, seed=0)
    attack(images, labels, model=network)
    for one, other in zip(before, values_of(network.variables), strict=True):
        np.testing.assert_array_equal(one, other)
    assert attack.variables == []


def test_the_model_is_not_kept_alive():
    network = small_network()
    attack = PGDAttack(0.1, steps=1)
    attack(*small_images(4), model=network)
    gone = weakref.ref(network)
    del network
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float16"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("uint8", "float32"),
        ("int64", "float32"),
    ],
)
def test_float_images_keep_their_dtype_and_integers_become_float32(dtype, expected):
    skip_without(dtype)
    keras.config.set_dtype_policy("mixed_float16")
    attack = PGDAttack(8, steps=2, value_range=(0, 255), seed=0)
    keras.config.set_dtype_policy("float32")
    images, labels = small_images(4)
    images = (images * 255).astype(dtype)
    adversarial = attack(images, labels, model=NETWORK)
    assert keras.backend.standardize_dtype(adversarial.dtype) == expected
    slack = 0.25 if dtype == "float16" else 1e-3
    assert np.abs(np.asarray(adversarial, "float64") - images).max() <= 8 + slack


def test_one_hot_labels_and_column_labels_equal_class_numbers():
    images, labels = small_images(8)
    attack = PGDAttack(0.1, steps=2, seed=0)
    by_number = attack(images, labels, model=NETWORK)
    one_hot = keras.utils.to_categorical(labels, 3)
    for same in (one_hot, labels[:, None], labels.tolist()):
        np.testing.assert_array_equal(attack(images, same, model=NETWORK), by_number)


def test_softmax_and_logits_are_attacked_alike():
    images, labels = small_images(32)
    logits, softmax = small_network(), small_network(softmax=True)
    # Confident enough that float32 probabilities saturate.
    weights = [60 * w for w in logits.get_weights()]
    logits.set_weights(weights)
    softmax.set_weights(weights)
    attack = PGDAttack(0.05, steps=5, seed=0)
    np.testing.assert_allclose(
        attack(images, labels, model=logits),
        attack(images, labels, model=softmax),
        atol=1e-6,
    )


def test_one_sigmoid_unit_counts_as_two_classes():
    images = np.float32([[0.5, 0.5], [0.4, 0.6]])
    one = linear_model([[3.0], [-3.0]], activation="sigmoid")
    two = linear_model([[0.0, 3.0], [0.0, -3.0]])
    attack = PGDAttack(0.05, steps=3, seed=0)
    labels = np.array([1, 0])
    np.testing.assert_allclose(
        attack(images, labels, model=one), attack(images, labels, model=two), atol=1e-6
    )


def test_a_keras_loss_is_used_as_it_is():
    """Mean squared error to a one-hot label, on probabilities: largest loss wins."""
    network = linear_model(np.eye(2), activation="softmax")
    attack = PGDAttack(
        0.1, steps=3, loss=keras.losses.MeanSquaredError(), random_start=False
    )
    images = np.float32([[0.7, 0.3]])
    adversarial = attack(images, np.float32([[1, 0]]), model=network)
    np.testing.assert_allclose(adversarial, [[0.6, 0.4]], atol=1e-6)
    assert attack.name == "pgd_mean_squared_error_3"


@pytest.mark.tensorflow_only
def test_a_ragged_last_batch_is_not_traced_anew():
    traces = []

    @keras.saving.register_keras_serializable("tests")
    class Traced(layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return inputs

    network = keras.Sequential(
        [keras.Input((6, 6, 1)), Traced(), layers.Flatten(), layers.Dense(3)]
    )
    attack = PGDAttack(0.1, steps=2, restarts=2)
    images, labels = small_images(11)
    attack(images[:8], labels[:8], model=network)
    traced = len(traces)
    attack(images[8:], labels[8:], model=network)
    assert len(traces) == traced


@pytest.mark.tensorflow_only
def test_inside_a_graph_of_the_users():
    import tensorflow as tf

    network = small_network(softmax=True)
    attack = PGDAttack(0.1, steps=2, seed=0)
    images, labels = small_images(8)

    @tf.function
    def attacked(images, labels):
        return attack(images, labels, model=network)

    np.testing.assert_allclose(
        attacked(tf.constant(images), tf.constant(labels)),
        attack(images, labels, model=network),
        atol=1e-6,
    )


def test_multi_step_attack_beats_one_step_and_more_restarts_never_hurt():
    images, labels = small_images(200)
    network = small_network()
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    images[:, :3, :3, 0] = labels[:, None, None] / 2 * 0.3 + 0.3 * images[:, :3, :3, 0]
    network.fit(images, labels, epochs=30, verbose=0)

    def accuracy(**settings):
        adversarial = PGDAttack(0.1, seed=0, **settings)(images, labels, model=network)
        return np.mean(outputs_of(network, adversarial).argmax(1) == labels)

    natural = np.mean(outputs_of(network, images).argmax(1) == labels)
    assert accuracy(steps=20) <= accuracy(steps=1, step_size=0.1) < natural
    assert accuracy(steps=3, restarts=5) <= accuracy(steps=3)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "pgd20"),
        ({"restarts": 10}, "pgd20x10"),
        ({"steps": 100, "loss": "cw_margin"}, "cw100"),
        ({"steps": 1, "random_start": False}, "fgsm"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_names_say_what_the_field_says(settings, name):
    assert PGDAttack(8 / 255, **settings).name == name


def test_a_configuration_makes_the_same_attack():
    attack = PGDAttack(
        8,
        steps=3,
        restarts=2,
        norm="l2",
        value_range=(0, 255),
        seed=4,
        keep="last",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(attack)
    )
    assert {**copy.get_config(), "loss": 0} == {**attack.get_config(), "loss": 0}
    assert copy.loss.get_config() == attack.loss.get_config()


def test_a_model_without_an_input_gradient_is_refused():
    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Lambda(lambda x: ops.cast(ops.cast(x, "int32"), "float32")),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    images, labels = small_images(4)
    with pytest.raises(ValueError, match="depend on its input differentiably"):
        PGDAttack(0.1, steps=2)(images, labels, model=network)


@pytest.mark.parametrize("of", ["model", "layer"])
def test_small_gradients_do_not_vanish_in_a_float16_model(of):
    """The gradient, 4.5e-5 (of the softmax) x 2**-12, is below float16's 6e-8.

    A model that is loaded from a file has float16 in its layers only.
    """
    keras.config.set_dtype_policy("mixed_float16" if of == "model" else "float32")
    network = linear_model(np.eye(2) * 2.0**-12, dtype="mixed_float16")
    assert network.compute_dtype == ("float16" if of == "model" else "float32")
    images = np.float32([[40960, 0]])  # logits 10 and 0
    attack = PGDAttack(
        4096, steps=1, random_start=False, value_range=(0, 65504), keep="last"
    )
    adversarial = attack(images, np.array([0]), model=network)
    np.testing.assert_allclose(adversarial, [[36864, 4096]])
