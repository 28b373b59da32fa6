import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_free_adv import (
    APGDAttack,
    FABAttack,
    PGDAttack,
    SquareAttack,
    backends,
    evaluate_robustness,
)
from tests.attacks.test_apgd_attack import target_of
from tests.attacks.test_pgd_attack import linear_model
from tests.conftest import small_images, small_network

NAN = float("nan")
LOGITS = np.float32([[NAN, 1], [2, 1], [1, NAN], [0, 1], [NAN, NAN]])


def test_nan_is_no_class():
    """Argmax would say class 0 of the first and the last."""
    target = target_of(PGDAttack(0.1), None, np.zeros(5, int), 2)
    expected = [True, False, True, True, True]
    np.testing.assert_array_equal(target.errs(LOGITS), expected)


def test_nan_is_not_the_class_that_a_targeted_attack_is_to_reach():
    attack = PGDAttack(0.1, targeted=True)
    target = target_of(attack, None, np.zeros(5, int), 2)
    reached, _ = attack.judge(target, LOGITS, tf.constant(LOGITS))
    np.testing.assert_array_equal(reached, [False, True, False, False, False])


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_an_image_that_comes_out_as_nan_is_not_classified_correctly():
    class NanWhereBright(layers.Layer):
        def call(self, inputs):
            return tf.where(inputs[:, :1] > 0.75, NAN, inputs)

    network = keras.Sequential(
        [keras.Input((2,)), NanWhereBright(), *linear_model(np.eye(2)).layers]
    )
    images = np.float32([[0.9, 0.1]] * 2 + [[0.6, 0.1]] * 3)
    labels = np.zeros(5, int)
    report = evaluate_robustness(
        network, (images, labels), PGDAttack(0.01, steps=1, seed=0), verbose=0
    )
    np.testing.assert_array_equal(report.robust["natural"], [0, 0, 1, 1, 1])


class Hue(layers.Layer):
    """An operation for which TensorFlow has no gradient."""

    def call(self, inputs):
        return tf.image.adjust_hue(inputs, 0.1)


def behind_hue():
    return keras.Sequential(
        [keras.Input((6, 6, 3)), Hue(), small_network((6, 6, 3), classes=4)]
    )


@pytest.mark.parametrize(
    "attack",
    [
        PGDAttack(0.1, steps=2),
        APGDAttack(0.1, steps=2),
        FABAttack(0.1, steps=2),
        FABAttack(0.1, steps=2, targets=None),
    ],
    ids=lambda attack: attack.name,
)
def test_an_operation_without_a_gradient_is_refused_as_one_of_none(attack):
    images, labels = small_images(4, (6, 6, 3), 4)
    with pytest.raises(ValueError, match="`model` must depend .* differentiably"):
        attack(images, labels, model=behind_hue())


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_in_an_evaluation_an_operation_without_a_gradient_is_doubted():
    network, (images, _) = behind_hue(), small_images(10, (6, 6, 3), 4)
    labels = network(images).numpy().argmax(1)
    attacks = [
        PGDAttack(0.01, steps=1, random_start=False, seed=0),
        SquareAttack(0.01, queries=2, seed=0),
    ]
    with pytest.warns(UserWarning, match="^fgsm: on 10 of 10 .* exactly zero"):
        report = evaluate_robustness(network, (images, labels), attacks, verbose=0)
    assert report.accuracy["fgsm"] == 1.0


def test_a_mistake_in_somebodys_gradient_is_not_taken_for_none():
    @tf.custom_gradient
    def mistaken(x):
        def gradient(upstream):
            raise KeyError("a mistake")

        return tf.identity(x), gradient

    with pytest.raises(KeyError, match="a mistake"):
        backends.value_and_gradient(
            lambda images: (mistaken(images),), tf.constant([1.0])
        )
