"""A function of many operations that is one operation, on each backend."""

import numpy as np
import pytest
from keras import ops

from keras_free_adv import backends
from tests.conftest import small_network


def sum_and_product(one, other):
    return one + other, one * other


@pytest.mark.parametrize("in_graph", [False, True])
def test_shapes_broadcast_and_are_known_in_a_graph(in_graph):
    model = small_network()  # a compiled function belongs to one
    function = backends.element_by_element(sum_and_product)
    shapes = []

    def called(one, other):
        results = function(one, other)
        shapes.append([tuple(result.shape)[1:] for result in results])
        return results

    if in_graph:
        called = backends.compiled(called, lambda: model)
    one = np.arange(3, dtype="int32")[:, None]
    other = np.array([[10, 20]], "int32").repeat(3, axis=0)
    made = called(*map(ops.convert_to_tensor, (one, other)))
    np.testing.assert_array_equal(made[0], [[10, 20], [11, 21], [12, 22]])
    np.testing.assert_array_equal(made[1], [[0, 0], [10, 20], [20, 40]])
    assert shapes == [[(2,), (2,)]]


@pytest.mark.tensorflow_only
def test_its_graph_is_made_once():
    traced = []

    def doubled(one):
        traced.append(one)
        return (2 * one,)

    function = backends.element_by_element(doubled)
    for shape in [(), (3,), (2, 2)]:
        (made,) = function(ops.ones(shape, "int32"))
        np.testing.assert_array_equal(made, np.full(shape, 2))
    assert len(traced) == 1
