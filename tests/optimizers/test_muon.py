import keras
import numpy as np
import pytest

from keras_free_adv import FreeAdversarialModel
from keras_free_adv.optimizers import Muon
from keras_free_adv.optimizers.muon import orthogonalized


def random_values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def orthogonalized_by_keras(matrix, steps):
    tensor = keras.ops.convert_to_tensor(matrix.astype("float32"))
    return keras.ops.convert_to_numpy(orthogonalized(tensor, steps))


def updated(optimizer, value, gradients):
    """A variable after some updates."""
    variable = keras.Variable(value)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return keras.ops.convert_to_numpy(variable)


def polynomial(values, steps):
    """What Newton-Schulz makes of singular values."""
    values = values / np.linalg.norm(values)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (9, 9)])
def test_singular_values_become_about_one_and_directions_stay(shape):
    matrix = random_values(*shape)
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    found = orthogonalized_by_keras(matrix, 3)
    expected = polynomial(values, 3)
    np.testing.assert_allclose(found, u * expected @ v, atol=1e-4)
    large = expected[values > 0.02 * np.linalg.norm(values)]
    assert len(large) >= 8
    assert large.min() > 0.68
    assert large.max() < 1.21


def test_more_steps_come_closer_from_small_singular_values():
    u, _, v = np.linalg.svd(random_values(8, 8))
    matrix = u @ np.diag([1.0, 1e-2, 3e-3, *[0.0] * 5]) @ v
    three, eight = (
        np.linalg.svd(orthogonalized_by_keras(matrix, steps))[1] for steps in (3, 8)
    )
    assert three[2] < 0.2 < 0.68 < eight[2]
    np.testing.assert_allclose(eight[3:], 0.0, atol=1e-3)


def test_a_kernel_is_updated_as_worked_out_with_a_decomposition():
    """Two updates, with momentum."""
    kernel = random_values(3, 3, 2, 4)
    gradients = [random_values(3, 3, 2, 4, seed=seed) for seed in (1, 2)]
    expected, momentum = kernel.astype("float64"), np.zeros_like(kernel, "float64")
    norm = np.linalg.norm(kernel)
    for gradient in gradients:
        momentum = 0.9 * momentum + gradient
        ahead = gradient + 0.9 * momentum
        u, values, v = np.linalg.svd(ahead.reshape(18, 4), full_matrices=False)
        direction = (u * polynomial(values, 3) @ v).reshape(kernel.shape)
        expected -= 0.1 * norm * direction / np.linalg.norm(direction)
        expected *= norm / np.linalg.norm(expected)
    found = updated(Muon(0.1, ns_steps=3), kernel, gradients)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_kernel_keeps_its_norm_and_turns_by_the_learning_rate():
    kernel, gradient = random_values(3, 3, 5, 7), random_values(3, 3, 5, 7, seed=1)
    found = updated(Muon(0.02), kernel, [gradient])
    norm = np.linalg.norm(kernel)
    np.testing.assert_allclose(np.linalg.norm(found), norm, rtol=1e-5)
    assert np.linalg.norm(found - kernel) / norm == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("shape", [(6,), (5, 3), (2, 3, 4)])
def test_other_variables_are_updated_as_by_sgd_with_nesterov(shape):
    value = random_values(*shape)
    gradients = [random_values(*shape, seed=seed) for seed in (1, 2, 3)]
    sgd = keras.optimizers.SGD(0.1, momentum=0.8, nesterov=True)
    np.testing.assert_allclose(
        updated(Muon(0.02, momentum=0.8, sgd_lr_ratio=5.0), value, gradients),
        updated(sgd, value, gradients),
        rtol=1e-5,
        atol=1e-6,
    )


def test_without_a_gradient_nothing_moves():
    kernel = random_values(3, 3, 2, 4)
    found = updated(Muon(0.1), kernel, [np.zeros_like(kernel)])
    np.testing.assert_allclose(found, kernel, rtol=1e-6)
    zeros = np.zeros_like(kernel)
    assert np.isfinite(updated(Muon(0.1), zeros, [kernel])).all()


def test_bfloat16_steps_are_close():
    kernel, gradient = random_values(3, 3, 8, 16), random_values(3, 3, 8, 16, seed=1)
    exact = updated(Muon(0.1), kernel, [gradient])
    rounded = updated(Muon(0.1, ns_dtype="bfloat16"), kernel, [gradient])
    moved = np.linalg.norm(exact - kernel)
    assert 0 < np.linalg.norm(rounded - exact) < 0.05 * moved


def test_it_is_made_again_from_its_settings():
    made = Muon(0.03, 0.8, sgd_lr_ratio=2.0, ns_steps=4, ns_dtype="bfloat16")
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert isinstance(again, Muon)
    assert again.get_config() == made.get_config()
    assert again.sgd_lr_ratio == 2.0
    assert again.ns_steps == 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"sgd_lr_ratio": 0.0}, "sgd_lr_ratio"),
        ({"ns_steps": 0}, "ns_steps"),
        ({"ns_dtype": "float16"}, "ns_dtype"),
        ({"weight_decay": 1e-4}, "weight_decay"),
    ],
)
def test_a_wrong_argument_is_named(arguments, named):
    with pytest.raises(ValueError, match=f"Argument `{named}`"):
        Muon(**arguments)


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )


def test_free_training_with_it_continues_from_a_file(tmp_path):
    keras.utils.set_random_seed(0)
    labels = np.arange(60) % 3
    images = 0.2 * np.random.default_rng(0).random((60, 8, 8, 1), "float32")
    images += labels[:, None, None, None] / 3
    model = FreeAdversarialModel(convolutional(), epsilon=0.05, replays=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(Muon(0.05), loss, metrics=["accuracy"])
    first, *_, last = model.fit(
        images, labels, batch_size=20, epochs=12, verbose=0
    ).history["loss"]
    assert last < 0.7 * first
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, again):
        each.fit(images, labels, batch_size=20, epochs=1, verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
