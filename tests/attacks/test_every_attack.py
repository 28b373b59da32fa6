"""What holds for every attack."""

import copy
import functools
import pickle
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    FABAttack,
    PGDAttack,
    SquareAttack,
    evaluate_robustness,
)
from tests.attacks.test_pgd_attack import inside, linear_model
from tests.conftest import small_images

CLASSES, SHAPE = 5, (3, 4, 2)
EPSILONS = {"linf": 0.04, "l2": 0.15}


def apgd(loss):
    def make(epsilon, steps=3, **shared):
        return APGDAttack(epsilon, steps=steps, loss=loss, targets=2, **shared)

    return make


def fab(targets):
    def make(epsilon, steps=3, **shared):
        return FABAttack(epsilon, steps=steps, targets=targets, **shared)

    return make


def square(epsilon, steps=3, **shared):
    return SquareAttack(epsilon, queries=2 * steps, **shared)


def short_autoattack(epsilon, steps=3, **shared):
    makers = (apgd("dlr"), square)
    parts = [make(epsilon, steps=steps, **shared) for make in makers]
    return AutoAttack(epsilon, attacks=parts, **shared)


ATTACKS = {
    "pgd": lambda epsilon, steps=3, **shared: PGDAttack(epsilon, steps=steps, **shared),
    "apgd_ce": apgd("cross_entropy"),
    "apgd_dlr": apgd("dlr"),
    "apgd_t": apgd("targeted_dlr"),
    "fab": fab(None),
    "fab_t": fab(2),
    "square": square,
    "autoattack": short_autoattack,
}
every_attack = pytest.mark.parametrize("name", ATTACKS)
both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])


@keras.saving.register_keras_serializable("tests")
class Traced(layers.Layer):
    """Counts how often it is traced."""

    traces = 0

    def call(self, inputs):
        Traced.traces += 1
        return inputs


def network_on(value_range=(0.0, 1.0)):
    """Has variables that training would change; sees pixels from -1 to 1.

    Its logits lie so far apart that probabilities in float32 would be 0 and 1.
    """
    low, high = value_range
    scale = 2 / (high - low)
    network = keras.Sequential(
        [
            keras.Input(SHAPE),
            Traced(),
            layers.Rescaling(scale, offset=-1 - scale * low),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    generator = np.random.default_rng(0)
    network.layers[-1].set_weights(
        [10 * generator.normal(size=size) for size in ((24, CLASSES), CLASSES)]
    )
    return network


NETWORK = network_on()
RANGES = {(0.0, 1.0): NETWORK} | {
    value_range: network_on(value_range) for value_range in ((0.0, 255.0), (-1.0, 1.0))
}


@functools.cache
def shared_attack(name, norm="linf"):
    """One attack for several tests, so that its graphs are made once."""
    return ATTACKS[name](EPSILONS[norm], norm=norm, seed=0)


def right(network, images, labels):
    return network(images).numpy().argmax(1) == labels


def images_and_labels(count=12, seed=0):
    """Of which the network gets most right, and some wrong."""
    images, labels = small_images(count, SHAPE, CLASSES, seed)
    labels[2:] = NETWORK(images).numpy().argmax(1)[2:]
    return images, labels


@pytest.fixture(autouse=True)
def fresh_keras():
    """In place of conftest's: a fresh session would drop the graphs shared here."""


@pytest.fixture(autouse=True, scope="module")
def forget_graphs():
    yield
    shared_attack.cache_clear()


@pytest.fixture
def eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "autoattack"])
@both_norms
@pytest.mark.usefixtures("eagerly")
def test_results_lie_in_the_ball_and_the_range(name, norm):
    # Eagerly: a graph for each epsilon would take seconds to make.
    @settings(max_examples=3, deadline=None)
    @given(
        share=st.floats(1e-3, 0.6),
        value_range=st.sampled_from(list(RANGES)),
        edge=st.booleans(),
        steps=st.integers(1, 2),
        seed=st.integers(0, 99),
    )
    def check(share, value_range, edge, steps, seed):
        low, high = value_range
        epsilon = share * (high - low)
        images, labels = small_images(5, SHAPE, CLASSES, seed)
        images = low + (high - low) * (np.round(images) if edge else images)
        attack = ATTACKS[name](
            epsilon,
            steps=steps,
            norm=norm,
            value_range=value_range,
            seed=seed,
            from_logits=True,
        )
        network = RANGES[value_range]
        adversarial = np.asarray(attack(images, labels, model=network))
        assert adversarial.shape == images.shape
        assert adversarial.dtype == np.float32
        assert inside(adversarial, images, epsilon, norm, value_range)
        still_right = right(network, adversarial, labels)
        assert not (still_right & ~right(network, images, labels)).any()

    check()


@both_norms
@settings(max_examples=8, deadline=None)
@given(edge=st.booleans(), seed=st.integers(0, 99), count=st.integers(1, 5))
def test_results_of_an_ensemble_lie_in_the_ball_and_the_range(norm, edge, seed, count):
    images, labels = small_images(count, SHAPE, CLASSES, seed)
    images = np.round(images) if edge else images
    attack = shared_attack("autoattack", norm)
    adversarial = np.asarray(attack(images, labels, model=NETWORK))
    assert inside(adversarial, images, EPSILONS[norm], norm)
    still_right = right(NETWORK, adversarial, labels)
    assert not (still_right & ~right(NETWORK, images, labels)).any()


@both_norms
def test_a_configuration_makes_the_same_attack(norm):
    for name, make in ATTACKS.items():
        attack = make(20.0, steps=2, norm=norm, seed=7, value_range=(0, 255))
        saved = keras.saving.serialize_keras_object(attack)
        again = keras.saving.deserialize_keras_object(saved)
        assert type(again) is type(attack), name
        assert again.get_config() == attack.get_config()
        assert keras.saving.serialize_keras_object(again) == saved


@every_attack
def test_a_copy_with_the_same_seed_gives_the_same_result(name):
    attack, (images, labels) = shared_attack(name), images_and_labels()
    again = type(attack).from_config(attack.get_config())
    found = attack(images, labels, model=NETWORK)
    np.testing.assert_array_equal(again(images, labels, model=NETWORK), found)
    np.testing.assert_array_equal(attack(images, labels, model=NETWORK), found)


@every_attack
def test_the_model_is_only_read(name):
    """Many examples are fooled; nothing changes, is tracked, or is traced again."""
    attack, (images, labels) = shared_attack(name), images_and_labels(60)
    before = [variable.numpy() for variable in NETWORK.variables]
    accuracy = right(NETWORK, images, labels).mean()
    adversarial = attack(images, labels, model=NETWORK)
    assert right(NETWORK, adversarial, labels).mean() < accuracy - 0.15
    traces = Traced.traces
    attack(images[:7], labels[:7], model=NETWORK)  # a ragged last batch
    attack(images[:1], labels[:1], model=NETWORK)
    assert Traced.traces == traces
    for one, other in zip(before, NETWORK.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    assert attack.variables == []


@every_attack
def test_float_images_keep_their_dtype_and_integers_become_float32(name):
    whole, labels = images_and_labels(6)
    for dtype in ("float16", "float32", "float64", "uint8", "int32"):
        images = np.round(whole).astype(dtype)
        adversarial = shared_attack(name)(images, labels, model=NETWORK)
        expected = dtype if dtype.startswith("float") else "float32"
        assert keras.backend.standardize_dtype(adversarial.dtype) == expected
        assert adversarial.shape == images.shape
        slack = 1e-3 if dtype == "float16" else 1e-6
        delta = np.asarray(adversarial, "float64") - images
        assert np.abs(delta).max() <= EPSILONS["linf"] + slack


@every_attack
def test_inside_a_graph_of_the_users(name):
    attack, (images, labels) = shared_attack(name), images_and_labels()
    expected = attack(images, labels, model=NETWORK)

    @tf.function
    def attacked(images, labels):
        return attack(images, labels, model=NETWORK)

    found = attacked(tf.constant(images), tf.constant(labels))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@every_attack
def test_a_softmax_is_looked_through(name):
    attack, (images, labels) = shared_attack(name), images_and_labels()
    softmax = keras.Sequential([*NETWORK.layers, layers.Softmax()])
    np.testing.assert_allclose(
        attack(images, labels, model=softmax),
        attack(images, labels, model=NETWORK),
        atol=1e-5,
    )
    saturated = softmax(images).numpy().max(1) == 1.0
    assert saturated.any()


@every_attack
def test_one_sigmoid_unit(name):
    """On a linear unit no point of the ball moves the logit by more than 1.28."""
    generator = np.random.default_rng(0)
    weights = np.sign(generator.normal(size=(16, 1))) * 2
    unit = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            *linear_model(weights, activation="sigmoid").layers,
        ]
    )
    images = small_images(40, (4, 4, 1))[0]
    logits = images.reshape(40, -1) @ weights[:, 0]
    labels = (logits > 0).astype(int)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*classes, and the model has 2")
        found = np.asarray(shared_attack(name)(images, labels, model=unit))
    fooled = (unit(found).numpy()[:, 0] > 0.5) != labels
    assert not fooled[np.abs(logits) > 32 * EPSILONS["linf"]].any()
    assert fooled[np.abs(logits) < 32 * EPSILONS["linf"] / 2].any()


@every_attack
def test_who_is_robust_does_not_depend_on_the_batches(name):
    """Nor on whether runs end early and others take their places."""
    images, labels = images_and_labels(25)
    attack = shared_attack(name)

    def robust(**kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few examples
            report = evaluate_robustness(
                NETWORK, (images, labels), attack, verbose=0, **kwargs
            )
        return report.robust[attack.name]

    whole = robust()
    np.testing.assert_array_equal(robust(batch_size=4), whole)
    # The layer numbers examples by their position, as the evaluation does.
    adversarial = attack(images, labels, model=NETWORK)
    np.testing.assert_array_equal(right(NETWORK, adversarial, labels), whole)
    assert 0.1 < whole.mean() < 0.9


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_an_attack_can_be_copied_and_pickled(way):
    for make in ATTACKS.values():
        attack = make(0.1, seed=3)
        assert way(attack).get_config() == attack.get_config()


def test_the_default_float_type_does_not_matter():
    images, labels = images_and_labels(4)
    keras.config.set_floatx("float64")
    try:
        for make in ATTACKS.values():
            found = make(0.1, steps=1, seed=0)(images, labels, model=NETWORK)
            assert found.dtype == "float32"
    finally:
        keras.config.set_floatx("float32")


def test_functions_run_eagerly_give_the_same():
    """As one does to debug a model."""
    images, labels = images_and_labels(4)
    for make in ATTACKS.values():
        compiled = make(0.1, steps=1, seed=0)(images, labels, model=NETWORK)
        tf.config.run_functions_eagerly(True)
        try:
            eager = make(0.1, steps=1, seed=0)(images, labels, model=NETWORK)
        finally:
            tf.config.run_functions_eagerly(False)
        np.testing.assert_allclose(eager, compiled, atol=1e-5)
