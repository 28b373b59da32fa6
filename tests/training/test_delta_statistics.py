import numpy as np
import pytest

from keras_free_adv.training.delta_statistics import delta_statistics


def test_values_of_linf_by_hand():
    delta = np.array([[[0.2, -0.2, 0.0, 0.1], [0.0, 0.0, -0.05, 0.2]]], "float32")
    found = delta_statistics(delta, 0.2, "linf")
    assert found.what == "value"
    assert found.ends == (-1.0, 1.0)
    np.testing.assert_allclose(found.sizes, [1, -1, 0, 0.5, 0, 0, -0.25, 1], atol=1e-6)
    assert found.at_the_edge == 3 / 8
    assert found.zero == 3 / 8
    assert found.mean_size == pytest.approx(3.75 / 8)


def test_lengths_of_l2_by_hand():
    delta = np.array([[[[3.0, 4.0]], [[0.0, 0.0]]], [[[0.0, 2.5]], [[-4.0, 3.0]]]])
    found = delta_statistics(delta, 5.0, "l2")
    assert found.what == "length"
    assert found.ends == (0.0, 1.0)
    np.testing.assert_allclose(found.sizes, [1, 0, 0.5, 1])
    assert (found.at_the_edge, found.zero, found.mean_size) == (0.5, 0.25, 0.625)
