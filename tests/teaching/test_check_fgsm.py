import numpy as np
import pytest

from keras_free_adv import PGDAttack
from keras_free_adv.teaching import check_fgsm
from keras_free_adv.teaching.attacked_example import attacked_example
from tests.teaching.mutants import FGSM, function


def test_the_right_one_passes():
    verdict = check_fgsm(function(FGSM))
    assert verdict.passed, verdict


def test_what_it_is_compared_with_moves_each_pixel_by_the_sign():
    example = attacked_example()
    images, labels = example.images, example.labels
    _, gradient = example.loss_and_gradient(images, labels)
    attack = PGDAttack(
        0.0625, steps=1, step_size=0.0625, random_start=False, keep="last"
    )
    found = attack(images, labels, model=example.network)
    expected = (images + 0.0625 * np.sign(gradient)).clip(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


STEP = "images + epsilon * np.sign(gradient)"
ASK = "_, gradient = loss_and_gradient(images, labels)"
MISTAKES = {
    "downhill": ((STEP, "images - epsilon * np.sign(gradient)"), "downhill"),
    "no sign": ((STEP, "images + epsilon * gradient"), "takes its *sign*"),
    "no epsilon": ((STEP, "images + np.sign(gradient)"), "multiply the sign"),
    "only gradient": ((STEP, "images + gradient"), "without epsilon"),
    "L2": (
        (
            STEP,
            "images + epsilon * gradient / np.sqrt((gradient ** 2).sum((1, 2, 3), "
            "keepdims=True))",
        ),
        "L2 ball",
    ),
    "no clip": (
        (f"np.clip({STEP}, 0, 1)", STEP),
        "leaves the pixel range: clip what you return",
    ),
    "too far": ((STEP, "images + 2 * epsilon * np.sign(gradient)"), "0.125 away"),
    "perturbation": (
        (f"np.clip({STEP}, 0, 1)", "epsilon * np.sign(gradient)"),
        "perturbation, not the images",
    ),
    "clean": ((STEP, "images"), "returns the images as they were"),
    "too short": ((STEP, "images + epsilon / 2 * np.sign(gradient)"), "differs"),
    "never asks": ((ASK, "gradient = images - 0.5"), "never asks"),
    "asks twice": ((ASK, f"{ASK}\n    {ASK}"), "asks for the gradient 2 times"),
    "elsewhere": (
        (ASK, "_, gradient = loss_and_gradient(images + 0.01, labels)"),
        "elsewhere than at the clean images",
    ),
    "other labels": (
        (ASK, "_, gradient = loss_and_gradient(images, 1 - labels)"),
        "loss to climb is that of the *true* classes",
    ),
    "one by one": (
        (ASK, "_, gradient = loss_and_gradient(images[:1], labels[:1])"),
        "whole minibatch, shape (16, 6, 6, 1), at once",
    ),
    "in place": (
        (f"np.clip({STEP}, 0, 1)", f"np.clip({STEP}, 0, 1, out=images)"),
        "changes its argument `images`",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    change, said = MISTAKES[mistake]
    verdict = check_fgsm(function(FGSM, change))
    assert not verdict.passed
    assert said in " ".join(verdict.findings), verdict
