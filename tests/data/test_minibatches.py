import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv.data.arrays import from_arrays, split_arrays
from keras_free_adv.data.bad_minibatches import BadMinibatches
from keras_free_adv.data.class_weights import weighted_by_class
from keras_free_adv.data.live_dataset import LiveDataset
from keras_free_adv.data.py_dataset import from_py_dataset
from keras_free_adv.data.replayed_stream import replayed_stream
from keras_free_adv.data.tf_dataset import from_dataset

X = np.arange(10, dtype="float32").reshape(10, 1)
Y = np.arange(10)


def arrays(shuffle=True, batch_size=4):
    return from_arrays(
        (X, Y), batch_size=batch_size, steps_per_epoch=None, shuffle=shuffle
    )


def labels(source, first, count, seed=3):
    stream = source.stream(np.int64(seed), np.int64(first))
    return [y.numpy().tolist() for _, y in itertools.islice(stream, count)]


def test_arrays_without_shuffling_come_in_order():
    order = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels(arrays(False), 0, 6) == order * 2
    assert arrays().count == 3
    assert arrays().rows == 4


def test_each_pass_is_a_permutation_of_its_own():
    seen = labels(arrays(), 0, 6)
    passes = [np.concatenate(part).tolist() for part in (seen[:3], seen[3:])]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert passes[0] != passes[1] != list(range(10))


@pytest.mark.parametrize("first", [1, 3, 4, 7])
def test_entered_anywhere_the_stream_is_the_same(first):
    source = arrays()
    assert labels(source, first, 4) == labels(source, 0, first + 4)[first:]


def test_another_seed_gives_another_order():
    assert labels(arrays(), 0, 3, seed=3) != labels(arrays(), 0, 3, seed=4)


def test_shuffle_batch_keeps_the_batches_and_mixes_within():
    seen = labels(arrays("batch"), 0, 3)
    assert [sorted(b) for b in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert seen != [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_images_and_labels_stay_together():
    stream = arrays().stream(np.int64(0), np.int64(0))
    for x, y in itertools.islice(stream, 5):
        np.testing.assert_array_equal(x[:, 0], y)


def test_the_default_batch_is_keras_own():
    def rows(**kwargs):
        return from_arrays(
            (np.zeros((70, 1)), np.zeros(70)),
            shuffle=False,
            **{"batch_size": None, "steps_per_epoch": None, **kwargs},
        ).rows

    assert rows() == 32
    assert rows(steps_per_epoch=7) == 10


class Recorded(keras.utils.PyDataset):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_py_dataset_is_read_in_a_seeded_order_of_its_items(workers):
    source = from_py_dataset(Recorded(workers=workers), shuffle=True)
    seen = labels(source, 0, 6)
    items = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert sorted(seen[:3]) == sorted(seen[3:]) == items
    assert labels(source, 2, 4) == seen[2:]
    ordered = from_py_dataset(Recorded(workers=workers), shuffle=False)
    assert labels(ordered, 1, 3) == [items[1], items[2], items[0]]


def test_a_py_datasets_hooks_are_called_around_each_pass():
    data = Recorded()
    labels(from_py_dataset(data, shuffle=False), 0, 7)
    assert data.calls[:5] == ["begin", "end", "begin", "end", "begin"]


class FromProcesses(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return np.full((2, 1), i, "float32"), np.full(2, i)


def test_a_py_dataset_read_by_processes():
    data = FromProcesses(workers=2, use_multiprocessing=True)
    source = from_py_dataset(data, shuffle=False)
    assert labels(source, 0, 3) == [[0, 0], [1, 1], [0, 0]]


def test_a_dataset_shuffles_anew_each_pass():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(10, seed=1).batch(4)
    seen = labels(from_dataset(data, LiveDataset(lambda: 0)), 0, 6)
    passes = [np.concatenate(part).tolist() for part in (seen[:3], seen[3:])]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert passes[0] != passes[1]


def test_a_shuffled_dataset_goes_on_where_it_stopped():
    """Ten streams of two minibatches see what one stream of twenty would: all."""
    data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(10, seed=1).batch(4)
    live = LiveDataset(lambda: trained)
    source = from_dataset(data, live)
    seen = []
    for trained in range(0, 20, 2):
        seen += labels(source, trained, 2)
    for i in range(0, 18, 3):
        assert sorted(np.concatenate(seen[i : i + 3])) == list(range(10))


def test_a_dataset_may_begin_with_its_short_minibatch():
    short = tf.data.Dataset.from_tensor_slices((X[:2], Y[:2])).batch(2)
    data = short.concatenate(tf.data.Dataset.from_tensor_slices((X, Y)).batch(4))
    source = from_dataset(data, LiveDataset(lambda: 0))
    assert source.rows == 4


def test_a_dataset_of_unknown_size_is_repeated():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    data = data.filter(lambda x, y: tf.shape(y)[0] > 0)
    source = from_dataset(data, LiveDataset(lambda: 0))
    assert source.count is None
    assert labels(source, 2, 3) == [[8, 9], [0, 1, 2, 3], [4, 5, 6, 7]]


def test_replays_start_within_a_minibatch_where_the_place_says():
    place = [3, 0]
    stream = replayed_stream(
        arrays(False), 3, lambda: tuple(place), None, BadMinibatches()
    )
    place[1] = 5  # a backup restored after the dataset was made
    firsts = [int(y[0]) for _, y in itertools.islice(stream, 5)]
    assert firsts == [4, 8, 8, 8, 0]


def test_class_weights_by_hand():
    y = np.array([0, 1, 2, 1])
    source = from_arrays((X[:4], y), batch_size=4, steps_per_epoch=None, shuffle=False)
    weighted = weighted_by_class(source, {1: 5.0})
    *_, weights = next(iter(weighted.stream(np.int64(0), np.int64(0))))
    assert weights.numpy().tolist() == [1, 5, 1, 5]


def test_splitting_takes_the_last_examples():
    (x, y, w), (val_x, val_y, val_w) = split_arrays((X, Y, None), 0.25)
    assert y.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert val_y.tolist() == [7, 8, 9]
    assert w is None
    assert val_w is None
    assert len(x) == 7
    assert len(val_x) == 3
