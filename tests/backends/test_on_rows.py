"""Some rows of results computed anew, on each backend."""

import numpy as np
import pytest
from keras import ops

from keras_free_adv import backends
from tests.conftest import small_network


@pytest.mark.parametrize(
    "where", [[False, True, True], [False] * 3, [True] * 3], ids=str
)
@pytest.mark.parametrize("in_graph", [False, True])
def test_rows_where_it_holds_are_computed_anew(where, in_graph):
    model = small_network()  # a compiled function belongs to one
    images = np.arange(6, dtype="float32").reshape(3, 2)
    flags = np.array([True, False, True])

    def function(where, images, flags):
        def anew(images, flags):
            return ops.sum(images, axis=-1), {"flags": ops.logical_not(flags)}

        old = ops.zeros((3,)), {"flags": flags}
        return backends.on_rows(where, anew, (images, flags), old)

    if in_graph or backends.NAME == "jax":
        function = backends.compiled(function, lambda: model)
    sums, found = function(
        *map(ops.convert_to_tensor, (np.array(where), images, flags))
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(sums), np.where(where, [1.0, 5.0, 9.0], 0.0)
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(found["flags"]), np.where(where, ~flags, flags)
    )
