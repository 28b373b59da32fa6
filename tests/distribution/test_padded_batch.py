import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv.distribution import padded_batch


def minibatch(rows):
    return np.arange(float(rows)).reshape(rows, 1), np.arange(rows) % 3


def filled(*parts, rows=8, replicas=2):
    dataset = tf.data.Dataset.from_tensors(parts)
    return next(iter(padded_batch.filled_up(dataset, rows, replicas)))


def test_a_full_minibatch_is_left_as_it_is():
    share = filled(*minibatch(8))
    np.testing.assert_array_equal(share.minibatch[0], minibatch(8)[0])
    assert share.is_real.numpy().all()
    np.testing.assert_array_equal(share.global_count, [8] * 8)


@pytest.mark.parametrize("rows", [1, 2, 5, 7])
def test_a_short_minibatch_is_filled_up_with_its_own_examples(rows):
    x, y = minibatch(rows)
    share = filled(x, y)
    filled_x, filled_y = (part.numpy() for part in share.minibatch)
    assert len(filled_x) == len(filled_y) == 8
    np.testing.assert_array_equal(filled_x[:rows], x)
    assert set(filled_x.ravel()) == set(x.ravel())
    np.testing.assert_array_equal(filled_y, filled_x.ravel().astype(int) % 3)
    np.testing.assert_array_equal(share.is_real, np.arange(8) < rows)
    np.testing.assert_array_equal(share.global_count, [rows] * 8)


@pytest.mark.parametrize(
    ("rows", "full", "replicas", "size"), [(7, 7, 2, 8), (9, 8, 4, 12), (3, 5, 3, 6)]
)
def test_the_size_is_a_multiple_of_the_replicas(rows, full, replicas, size):
    share = filled(*minibatch(rows), rows=full, replicas=replicas)
    assert len(share.is_real) == size
    assert int(tf.reduce_sum(tf.cast(share.is_real, tf.int32))) == rows


def test_nested_inputs_and_sample_weights_are_filled_up_together():
    x, y = minibatch(3)
    share = filled({"image": x, "age": 10 * x}, y, np.ones(3), rows=4)
    np.testing.assert_array_equal(
        share.minibatch[0]["age"].numpy().ravel(), [0, 10, 20, 0]
    )
    assert share.minibatch[2].shape == (4,)


def part(whole, replica, replicas=2):
    """A replica's part of a `PaddedBatch`."""
    size = len(whole.is_real) // replicas
    cut = slice(replica * size, (replica + 1) * size)
    minibatch = keras.tree.map_structure(lambda t: t[cut], whole.minibatch)
    return padded_batch.PaddedBatch(
        minibatch, whole.is_real[cut], whole.global_count[cut]
    )


def test_a_replica_unpacks_what_counts_and_one_at_least():
    x, y = minibatch(3)
    whole = filled({"image": x, "age": 10 * x}, y, np.ones(3))
    first_x, first_y, first_weight = padded_batch.unpacked(part(whole, 0))
    np.testing.assert_array_equal(first_x["age"], 10 * x)
    np.testing.assert_array_equal(first_y, y)
    assert len(first_weight) == 3
    second_x, second_y, _ = padded_batch.unpacked(part(whole, 1))
    assert len(second_x["image"]) == len(second_y) == 1
    assert [int(padded_batch.real_count(part(whole, r))) for r in (0, 1)] == [3, 0]


def test_in_proportion_the_replicas_losses_are_that_of_all():
    class Two:
        num_replicas_in_sync = 2

    values = np.array([2.0, 3.0, 7.0, 1.0, 4.0, 9.0])
    whole = filled(*minibatch(6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.distribute, "get_strategy", lambda: Two)
        means = [values[:4].mean() / 2, values[4:].mean() / 2]  # as Keras divides them
        factors = [
            padded_batch.proportion(part(whole, r), summed=False) for r in (0, 1)
        ]
        assert np.dot(means, factors) == pytest.approx(values.mean())
        factors = [padded_batch.proportion(part(whole, r), summed=True) for r in (0, 1)]
        assert [float(factor) for factor in factors] == [1, 1]
        # The second replica has nothing.
        whole = filled(*minibatch(3))
        for summed, expected in ((False, [2, 0]), (True, [1, 0])):
            factors = [
                padded_batch.proportion(part(whole, r), summed=summed) for r in (0, 1)
            ]
            assert [float(factor) for factor in factors] == expected
        assert float(padded_batch.weight_of_loss(part(whole, 1))) == 1.5


def test_metrics_see_the_examples_that_count_alone():
    x, y = minibatch(3)
    share = filled(x, y, np.array([1.0, 2.0, 3.0]), rows=4)
    y_pred = tf.constant([[1.0], [2.0], [3.0]])
    seen = padded_batch.real_examples(share, y_pred)
    for found, expected in zip(
        seen, (x, y, [[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0]), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    empty = part(filled(x, y, rows=8), 1)
    assert [
        len(each) for each in padded_batch.real_examples(empty, y_pred[:1])[:3]
    ] == [0, 0, 0]


def test_what_was_not_filled_up_is_unpacked_as_keras_does():
    x, y = minibatch(3)
    assert padded_batch.unpacked((x, y)) == (x, y, None)
    assert padded_batch.proportion((x, y), summed=False) == 1.0
    assert padded_batch.real_examples((x, y), y)[3] is None
    assert int(padded_batch.weight_of_loss((x, y))) == 3
