import numpy as np
import pytest

from keras_free_adv import losses

LOGITS = np.array([[1.0, 3.0, 2.0], [5.0, 1.0, 0.0]], "float32")


def test_cross_entropy_by_hand():
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    np.testing.assert_allclose(
        losses.cross_entropy(np.array([0, 2]), LOGITS),
        -np.log([shares[0, 0], shares[1, 2]]),
        rtol=1e-6,
    )


def test_cross_entropy_of_huge_logits_is_finite():
    loss = losses.cross_entropy(np.array([0, 1]), np.float32([[1e4, -1e4]] * 2))
    np.testing.assert_allclose(loss, [0.0, 2e4])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0], [-1.0, -4.0]),  # right: -(3 - 2), -(5 - 1)
        ([0, 2], [0.0, 0.0]),  # misclassified: the largest value
    ],
)
def test_cw_margin_by_hand(labels, expected):
    np.testing.assert_array_equal(losses.cw_margin(np.array(labels), LOGITS), expected)
