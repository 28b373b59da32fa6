import keras
import numpy as np
import pytest

from keras_free_adv.teaching import check_refutation


def brightness(threshold=0.5):
    """Reads class 1 where the mean of the pixels is above a threshold."""
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = np.zeros((16, 2), "float32")
    weights[:, 1] = 1 / 16
    network.set_weights([weights, np.float32([threshold, 0])])
    return network


def images_of(values):
    return np.broadcast_to(
        np.float32(values)[:, None, None, None], (len(values), 4, 4, 1)
    )


CLEAN = images_of([0.45, 0.48, 0.55, 0.6])
LABELS = np.array([0, 0, 1, 1])


def verdict(adversarial, **changes):
    settings = {
        "images": CLEAN,
        "labels": LABELS,
        "model": brightness(),
        "epsilon": 0.1,
        "claimed": 0.9,
    }
    return check_refutation(adversarial, **{**settings, **changes})


def test_images_in_the_ball_that_are_misread_refute():
    assert verdict(images_of([0.52, 0.52, 0.48, 0.6])).passed  # 25% of 90% are left


@pytest.mark.parametrize(
    ("adversarial", "said"),
    [
        (CLEAN, "still reads 100.0% of them rightly. The claim is 90.0%"),
        (images_of([0.52, 0.52, 0.55, 0.6]), "still reads 50.0%"),
        (
            images_of([0.7, 0.7, 0.3, 0.3]),
            "0.3 away from its image, and epsilon is 0.1",
        ),
        (images_of([0.5, 0.5]), "shape (2, 4, 4, 1)"),
        (images_of([np.nan] * 4), "NaN or infinity"),
        (None, "It returns nothing"),
    ],
)
def test_what_does_not_refute_is_said(adversarial, said):
    found = verdict(adversarial)
    assert not found.passed
    assert said in " ".join(found.findings), found


def test_pixels_have_to_stay_in_their_range():
    found = verdict(CLEAN + 0.6, epsilon=0.7)
    assert "outside the pixel range: a pixel is 1.2" in " ".join(found.findings)


def test_a_claim_is_a_share():
    with pytest.raises(ValueError, match="`claimed`"):
        verdict(CLEAN, claimed=90.0)
