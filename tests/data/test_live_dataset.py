import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv.data.live_dataset import LiveDataset


def numbers(dataset, first, count):
    stream = LiveDataset(lambda: 0).stream(dataset, np.int64(first))
    return [int(x) for x in itertools.islice(iter(stream), count)]


def shuffled(dataset):
    return dataset.shuffle(10, seed=3)


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
@pytest.mark.parametrize("prepare", [lambda d: d, shuffled], ids=["plain", "shuffled"])
@pytest.mark.parametrize("first", [3, 10, 25])
def test_a_stream_is_entered_where_another_process_left_it(known, prepare, first):
    def dataset():
        tf.random.set_seed(0)
        whole = tf.data.Dataset.range(10)
        return prepare(whole if known else whole.filter(lambda n: n >= 0))

    straight = numbers(dataset(), 0, first + 12)
    assert sorted(straight[:10]) == list(range(10))
    assert numbers(dataset(), first, 12) == straight[first:]
