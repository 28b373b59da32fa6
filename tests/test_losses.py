import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_free_adv import backends, losses

tensor = ops.convert_to_tensor
LOGITS = np.array([[1.0, 3.0, 2.0], [5.0, 1.0, 0.0]], "float32")
FOUR = np.array([[1.0, 3.0, 2.0, 0.0], [5.0, 1.0, 0.0, 2.0]], "float32")


def test_cross_entropy_by_hand():
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    np.testing.assert_allclose(
        losses.cross_entropy(np.array([0, 2]), tensor(LOGITS)),
        -np.log([shares[0, 0], shares[1, 2]]),
        rtol=1e-6,
    )


def test_a_small_cross_entropy_of_large_logits_is_not_all_rounding():
    """log(1 + e^-10): next to 1000, float32 knows multiples of 6.1e-5 only."""
    loss = losses.cross_entropy(np.array([0, 1]), tensor([[1000.0, 990.0]] * 2))
    np.testing.assert_allclose(loss, [np.log1p(np.exp(-10)), 10.0], rtol=5e-3)


def test_cross_entropy_of_huge_logits_is_finite():
    loss = losses.cross_entropy(np.array([0, 1]), tensor([[1e4, -1e4]] * 2))
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


@pytest.mark.parametrize(
    ("labels", "expected"), [([1, 0], [-1.0, -4.0]), ([0, 2], [2.0, 5.0])]
)
def test_margin_by_hand(labels, expected):
    np.testing.assert_array_equal(losses.margin(np.array(labels), LOGITS), expected)


def test_targeted_margin_by_hand():
    labels, targets = np.array([1, 0]), np.array([0, 2])
    np.testing.assert_array_equal(
        losses.targeted_margin(labels, LOGITS, targets), [1.0 - 3.0, 0.0 - 5.0]
    )
    np.testing.assert_array_equal(losses.targeted_margin(labels, LOGITS, labels), 0)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0], [-(3 - 2) / (3 - 1), -(5 - 2) / (5 - 1)]),  # right
        ([0, 3], [-(1 - 3) / (3 - 1), -(2 - 5) / (5 - 1)]),  # wrong
    ],
)
def test_dlr_by_hand(labels, expected):
    np.testing.assert_allclose(losses.dlr(np.array(labels), FOUR), expected, rtol=1e-6)


def test_targeted_dlr_by_hand():
    """The width is z_1st - (z_3rd + z_4th) / 2: 3 - 1 / 2 and 5 - 1 / 2."""
    labels, targets = np.array([1, 0]), np.array([2, 2])
    np.testing.assert_allclose(
        losses.targeted_dlr(labels, FOUR, targets),
        [-(3 - 2) / 2.5, -(5 - 0) / 4.5],
        rtol=1e-6,
    )


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 999),
    label=st.integers(0, 4),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-10, 10),
)
def test_the_ratios_ignore_scale_and_shift(seed, label, scale, shift):
    logits = np.random.default_rng(seed).normal(size=(1, 5)).astype("float32")
    moved = (scale * (logits + shift)).astype("float32")
    label, target = np.array([label]), np.array([(label + 1) % 5])
    # The shift costs digits of the differences, of which the least decides.
    ordered = np.sort(logits[0])[::-1]
    tolerance = 1e-5 * 10 / (ordered[0] - ordered[2])
    np.testing.assert_allclose(
        losses.dlr(label, moved), losses.dlr(label, logits), atol=tolerance, rtol=1e-3
    )
    np.testing.assert_allclose(
        losses.targeted_dlr(label, moved, target),
        losses.targeted_dlr(label, logits, target),
        atol=tolerance,
        rtol=1e-3,
    )


@pytest.mark.parametrize("name", ["dlr", "targeted_dlr"])
def test_equal_logits_give_a_finite_ratio_and_gradient(name):
    logits = ops.convert_to_tensor([[2.0, 2.0, 2.0, 2.0]])
    labels, more = (ops.convert_to_tensor([number]) for number in (0, 1))
    more = [more] if name == "targeted_dlr" else []
    (loss,), gradient = backends.value_and_gradient(
        lambda logits: (getattr(losses, name)(labels, logits, *more),), logits
    )
    np.testing.assert_array_equal(loss, [0.0])
    assert np.isfinite(np.asarray(gradient)).all()


def test_likeliest_others_by_hand():
    labels = np.array([1, 2])
    np.testing.assert_array_equal(
        losses.likeliest_others(labels, FOUR, 3), [[2, 0, 3], [0, 3, 1]]
    )
    np.testing.assert_array_equal(losses.likeliest_others(labels, FOUR, 1), [[2], [0]])
