import numpy as np
import tensorflow as tf

from keras_free_adv import replay


def test_each_element_comes_m_times_in_a_row():
    data = tf.data.Dataset.range(3).apply(replay(2))
    assert [int(e) for e in data] == [0, 0, 1, 1, 2, 2]


def test_pairs_and_dicts_keep_their_structure():
    data = tf.data.Dataset.from_tensor_slices(({"a": [1, 2]}, [3, 4]))
    replayed = data.apply(replay(2))
    assert replayed.element_spec == data.element_spec
    assert [(int(x["a"]), int(y)) for x, y in replayed] == [(1, 3)] * 2 + [(2, 4)] * 2


def test_the_cardinality_is_kept_right():
    data = tf.data.Dataset.range(3)
    assert int(data.apply(replay(4)).cardinality()) == 12
    assert (
        int(data.repeat().apply(replay(4)).cardinality())
        == tf.data.INFINITE_CARDINALITY
    )
    unknown = data.filter(lambda e: e > 0)
    assert int(unknown.apply(replay(4)).cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert [int(e) for e in unknown.apply(replay(2))] == [1, 1, 2, 2]


def test_what_is_random_is_drawn_once_for_all_replays():
    noisy = tf.data.Dataset.range(3).map(lambda _: tf.random.uniform(()))
    values = np.array([float(e) for e in noisy.apply(replay(3))]).reshape(3, 3)
    assert (values == values[:, :1]).all()
    assert len(np.unique(values)) == 3
