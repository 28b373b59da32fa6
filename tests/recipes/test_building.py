"""What a recipe builds: the authors' arithmetic, and an update of each."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import recipes
from keras_free_adv.optimizers import Muon
from keras_free_adv.recipes import building
from keras_free_adv.recipes.linear_cycle import LinearCycle

FULL_SCALE = [
    recipe.name
    for table in ("cifar10", "cifar100", "imagenet", "cifar10_baselines")
    for recipe in recipes.table(table)
]
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet2012": 1000}


def learning_rate_at(recipe, update):
    schedule = building.learning_rate(recipes.get(recipe))
    return float(schedule(tf.constant(update, tf.int64)))


@pytest.mark.parametrize(
    ("recipe", "update", "expected"),
    [
        ("cifar10_wrn32_10_free8", 0, 0.1),
        ("cifar10_wrn32_10_free8", 39_999, 0.1),
        ("cifar10_wrn32_10_free8", 40_000, 0.01),
        ("cifar10_wrn32_10_free8", 59_999, 0.01),
        ("cifar10_wrn32_10_free8", 60_000, 0.001),
        ("cifar10_wrn32_10_free8", 79_999, 0.001),
        ("imagenet_resnet50_free4", 8 * 4 * 5005 - 1, 0.1),
        ("imagenet_resnet50_free4", 8 * 4 * 5005, 0.01),
        ("imagenet_resnet50_free4", 16 * 4 * 5005, 0.001),
        ("cifar10_preactresnet18_free8", 0, 0.0),
        ("cifar10_preactresnet18_free8", 15_640, 0.04),
        ("cifar10_preactresnet18_free8", 23_460, 0.02),
    ],
)
def test_the_learning_rate_follows_the_published_schedule(recipe, update, expected):
    assert learning_rate_at(recipe, update) == pytest.approx(expected, rel=1e-5)


def test_a_linear_cycle_is_two_lines():
    schedule = LinearCycle(0.3, updates=50, rise=0.2)
    for update in range(0, 60, 3):
        expected = np.interp(update, [0, 10, 50], [0, 0.3, 0])
        assert float(schedule(update)) == pytest.approx(expected, abs=1e-6)
    saved = keras.saving.serialize_keras_object(schedule)
    loaded = keras.saving.deserialize_keras_object(saved)
    assert float(loaded(7)) == pytest.approx(float(schedule(7)))
    assert float(LinearCycle(0.3, updates=50, rise=0)(0)) == pytest.approx(0.3)


@pytest.mark.parametrize("rise", [-0.1, 1, 1.5, "a"])
def test_a_wrong_rise_is_refused(rise):
    with pytest.raises((TypeError, ValueError), match="`rise`"):
        LinearCycle(0.1, updates=10, rise=rise)


def small_dense():
    return keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )


@pytest.mark.parametrize("decayed", ["kernels", "all"])
def test_updates_follow_the_authors_arithmetic(decayed):
    """Free-m on softmax regression, by hand: L2 in the loss, momentum, delta."""
    recipe = recipes.get("cifar10_wrn32_10_free8").replaced(
        decayed=decayed, weight_decay=0.2, drops=[4], epochs=1, steps_per_epoch=10
    )
    network = small_dense()
    network.layers[-1].bias.assign([0.1, -0.2, 0.3])
    model = building.compiled(recipe, network)
    generator = np.random.default_rng(0)
    images = generator.uniform(0.2, 0.8, (8, 2, 2, 1)).astype("float32")
    labels = generator.integers(0, 3, 8)
    w, b = (np.array(v, "float64") for v in network.get_weights())
    velocity_w, velocity_b, delta = np.zeros_like(w), np.zeros_like(b), np.zeros((8, 4))
    for update in range(4):  # Keras' velocity keeps the old rate after the drop
        model.train_on_batch(images, labels)
        x = np.clip(images.reshape(8, 4) + delta, 0, 1)
        logits = x @ w + b
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        error = (p - np.eye(3)[labels]) / 8
        # The gradient of (weight_decay / 2) * w^2 is weight_decay * w.
        g_w = x.T @ error + 0.2 * w
        g_b = error.sum(0) + (0.2 * b if decayed == "all" else 0.0)
        g_x = error @ w.T
        velocity_w = 0.9 * velocity_w - 0.1 * g_w
        velocity_b = 0.9 * velocity_b - 0.1 * g_b
        w, b = w + velocity_w, b + velocity_b
        epsilon = 8 / 255
        delta = np.clip(delta + epsilon * np.sign(g_x), -epsilon, epsilon)
        found_w, found_b = network.get_weights()
        np.testing.assert_allclose(found_w, w, atol=1e-5)
        np.testing.assert_allclose(found_b, b, atol=1e-5)
        np.testing.assert_allclose(model.delta[0].reshape(8, 4), delta, atol=1e-6)
        assert float(model.optimizer.learning_rate) == pytest.approx(
            0.1 if update < 3 else 0.01
        )


def test_batch_norm_of_the_wide_resnet_decays_by_a_tenth():
    recipe = recipes.get("cifar10_wrn32_10_free8")
    network = building.network(
        recipe.replaced(depth=8, width=1), classes=10, input_shape=(32, 32, 3)
    )
    norms = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert {(n.momentum, n.epsilon) for n in norms} == {(0.9, 1e-3)}


@pytest.mark.parametrize("name", ["cifar10_small_free8", "digits_trades"])
def test_a_recipe_trains_from_its_data(name):
    recipe = recipes.get(name)
    if recipe.dataset == "cifar10":
        from tests.test_datasets import cifar

        cifar()  # skips where there is none
    recipe = recipe.replaced(epochs=1, steps_per_epoch=2, batch_size=16)
    data = building.data(recipe, recipe.train_split)
    network = building.network(recipe, data)
    assert network.compute_dtype == recipe.policy.removeprefix("mixed_")
    model = building.compiled(recipe, network)
    model._warned_of_few_passes = True
    history = model.fit(data, epochs=1, steps_per_epoch=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert keras.config.dtype_policy().name == "float32"


def test_label_smoothing_and_averages_are_built_in():
    recipe = recipes.get("digits_free4").replaced(label_smoothing=0.1, ema_momentum=0.9)
    data = building.data(recipe, "train")
    assert data.element_spec[1].shape[1:] == (10,)
    model = building.compiled(recipe, building.network(recipe, data))
    assert model.loss.label_smoothing == 0.1
    assert model.optimizer.use_ema
    assert model.optimizer.ema_momentum == 0.9
    # Labels of the test set stay class numbers.
    assert building.data(recipe, "test").element_spec[1].shape.rank == 1


def test_attacks_are_the_papers_at_the_recipes_epsilon():
    attacks = building.attacks(recipes.get("cifar10_wrn32_10_free8"))
    assert [a.name for a in attacks] == ["pgd20", "pgd100", "cw100", "pgd20x10"]
    assert [a.step_size for a in attacks] == pytest.approx(4 * [2 / 255])
    other = building.attacks(recipes.get("imagenet_resnet50_free4"))
    assert [a.step_size for a in other] == pytest.approx(3 * [1 / 255])
    mine = recipes.get("cifar10_small_free8").replaced(epsilon=0.5, norm="l2")
    assert {(a.epsilon, a.step_size, a.norm) for a in building.attacks(mine)} == {
        (0.5, 0.125, "l2")
    }


def one_update(recipe, size):
    """The network, the loss, and whether the first kernel moved."""
    network = building.network(
        recipe, classes=CLASSES[recipe.dataset], input_shape=(size, size, 3)
    )
    model = building.compiled(recipe, network)
    generator = np.random.default_rng(0)
    images = generator.uniform(size=(2, size, size, 3)).astype("float32")
    labels = generator.integers(0, CLASSES[recipe.dataset], 2)
    before = network.trainable_variables[0].numpy()
    rate = float(model.optimizer.learning_rate)
    loss = model.train_on_batch(images, labels)[0]
    moved = not np.array_equal(network.trainable_variables[0].numpy(), before)
    # In half precision the first updates may be skipped, to find the loss' scale; and
    # a cycle begins with a rate of zero.
    may_stay = rate == 0 or recipe.policy == "mixed_float16"
    return network, loss, moved or may_stay


@pytest.mark.parametrize("name", ["cifar10_wrn32_10_free8", "imagenet_resnet50_free4"])
def test_an_update_of_a_full_scale_recipe_runs(name):
    # In float32: half precision is slow where no kernel is made for it.
    recipe = recipes.get(name).replaced(policy="float32")
    network, loss, moved = one_update(recipe, 224 if "imagenet" in name else 32)
    assert np.isfinite(loss)
    assert moved
    assert network.output_shape == (None, CLASSES[recipe.dataset])
    # ResNet-50 has 25.6 million weights, as published.
    count = sum(int(np.prod(w.shape)) for w in network.trainable_variables)
    assert count == pytest.approx(45.9e6 if "wrn" in name else 25.5e6, rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize("name", FULL_SCALE)
def test_an_update_of_every_full_scale_recipe_runs(name, request):
    recipe = recipes.get(name)
    if "long" not in request.config.getoption("markexpr"):
        # The same method and its settings, on a small network.
        recipe = recipe.replaced(model="small_cnn")
    large = "imagenet" in name and recipe.model != "small_cnn"
    network, loss, moved = one_update(recipe, 224 if large else 32)
    assert network.output_shape == (None, CLASSES[recipe.dataset])
    # Of untrained logits of C classes about log C; WRN's start is wilder.
    assert np.isfinite(loss)
    assert loss > 0
    assert moved


def test_a_recipe_may_train_with_a_larger_epsilon_and_another_optimizer():
    recipe = recipes.get("photos")
    assert (recipe.epsilon, recipe.training_epsilon) == (8 / 255, 10 / 255)
    network = building.network(recipe, classes=3, input_shape=(16, 16, 3))
    model = building.compiled(recipe, network)
    assert model.epsilon == pytest.approx(10 / 255)
    assert isinstance(model.optimizer, Muon)
    assert model.optimizer.ns_dtype == "float32"
    assert {a.epsilon for a in building.attacks(recipe)} == {8 / 255}
    half = recipe.replaced(epsilon=4 / 255, policy="mixed_bfloat16")
    assert half.training_epsilon == pytest.approx(5 / 255)
    assert half.method_arguments["step_size"] == pytest.approx(10 / 255)
    assert building.optimizer(half).ns_dtype == "bfloat16"


@pytest.mark.parametrize("ends", ["logits", "dense", "layer", "nested"])
def test_the_loss_is_that_of_what_the_network_returns(ends):
    """A softmax that is taken for logits would be applied twice."""
    keras.utils.set_random_seed(0)
    softmax = "softmax" if ends in ("dense", "nested") else None
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten()]
    layers.append(keras.layers.Dense(3, activation=softmax))
    if ends == "layer":
        layers.append(keras.layers.Softmax())
    network = keras.Sequential(layers)
    if ends == "nested":
        network = keras.Sequential([keras.Input((4, 4, 1)), network])
    recipe = recipes.get("digits_natural").replaced(weight_decay=0.0)
    model = building.compiled(recipe, network)
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype("float32")
    labels = np.array([0, 1, 2, 2, 1])
    outputs = keras.ops.convert_to_numpy(network(images))
    if ends == "logits":
        outputs = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    expected = -np.log(outputs[np.arange(5), labels]).mean()
    found = model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)
