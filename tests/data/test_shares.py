import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv.data import shares


def minibatch(rows):
    return np.arange(float(rows)).reshape(rows, 1), np.arange(rows) % 3


def filled(*parts, rows=8, replicas=2):
    dataset = tf.data.Dataset.from_tensors(parts)
    return next(iter(shares.filled_up(dataset, rows, replicas)))


def test_a_full_minibatch_is_left_as_it_is():
    share = filled(*minibatch(8))
    np.testing.assert_array_equal(share.minibatch[0], minibatch(8)[0])
    assert share.counts.numpy().all()
    np.testing.assert_array_equal(share.rows, [8] * 8)


@pytest.mark.parametrize("rows", [1, 2, 5, 7])
def test_a_short_minibatch_is_filled_up_with_its_own_examples(rows):
    x, y = minibatch(rows)
    share = filled(x, y)
    filled_x, filled_y = (part.numpy() for part in share.minibatch)
    assert len(filled_x) == len(filled_y) == 8
    np.testing.assert_array_equal(filled_x[:rows], x)
    assert set(filled_x.ravel()) == set(x.ravel())
    np.testing.assert_array_equal(filled_y, filled_x.ravel().astype(int) % 3)
    np.testing.assert_array_equal(share.counts, np.arange(8) < rows)
    np.testing.assert_array_equal(share.rows, [rows] * 8)


@pytest.mark.parametrize(
    ("rows", "full", "replicas", "size"), [(7, 7, 2, 8), (9, 8, 4, 12), (3, 5, 3, 6)]
)
def test_the_size_is_a_multiple_of_the_replicas(rows, full, replicas, size):
    share = filled(*minibatch(rows), rows=full, replicas=replicas)
    assert len(share.counts) == size
    assert int(tf.reduce_sum(tf.cast(share.counts, tf.int32))) == rows


def test_nested_inputs_and_sample_weights_are_filled_up_together():
    x, y = minibatch(3)
    share = filled({"image": x, "age": 10 * x}, y, np.ones(3), rows=4)
    np.testing.assert_array_equal(
        share.minibatch[0]["age"].numpy().ravel(), [0, 10, 20, 0]
    )
    assert share.minibatch[2].shape == (4,)


def test_weights_make_the_mean_over_all_rows_that_over_those_that_count():
    x, y = minibatch(3)
    _, _, weights = shares.unpacked(filled(x, y, rows=4, replicas=1), summed=False)
    losses = np.array([2.0, 3.0, 7.0, 2.0])
    np.testing.assert_allclose((losses * weights.numpy()).mean(), 4.0, rtol=1e-6)
    _, _, weights = shares.unpacked(filled(x, y, rows=4, replicas=1), summed=True)
    np.testing.assert_array_equal(weights, [1, 1, 1, 0])


def test_a_users_weights_are_multiplied_of_whatever_rank():
    x, y = minibatch(2)
    own = {"a": np.array([2.0, 4.0]), "b": np.array([[1.0, 2.0], [3.0, 4.0]])}
    share = filled(x, y, own, rows=3, replicas=1)
    _, _, weights = shares.unpacked(share, summed=True)
    np.testing.assert_array_equal(weights["a"], [2, 4, 0])
    np.testing.assert_array_equal(weights["b"], [[1, 2], [3, 4], [0, 0]])


def test_metrics_see_the_examples_that_count_alone():
    x, y = minibatch(3)
    share = filled(x, y, np.array([1.0, 2.0, 3.0]), rows=4)
    y_pred = tf.constant([[1.0], [2.0], [3.0], [9.0]])
    seen = shares.counted(share, y_pred)
    for part, expected in zip(
        seen, (x, y, [[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0]), strict=True
    ):
        np.testing.assert_array_equal(part, expected)
    assert float(shares.rows_counted(share)) == 3.0


def test_what_was_not_filled_up_is_unpacked_as_keras_does():
    x, y = minibatch(3)
    assert shares.unpacked((x, y), summed=False) == (x, y, None)
    assert shares.counted((x, y), y)[3] is None
    assert int(shares.rows_counted((x, y))) == 3
    assert keras.utils.unpack_x_y_sample_weight((x, y)) == (x, y, None)
