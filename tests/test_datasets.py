import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import datasets


def first_labels(data, count=3):
    return [y.numpy().tolist() for _, y in itertools.islice(data, count)]


def cifar():
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not Path(folder, "cifar10").is_dir():
        pytest.skip("no CIFAR-10: TFDS_DATA_DIR names no folder that holds cifar10")
    return datasets.load("cifar10", split="train", batch_size=128, augment="standard")


def test_digits_are_images_in_zero_to_one():
    data = datasets.load("digits", split="train", batch_size=100)
    assert int(data.cardinality()) == 15  # 1,437 images
    images = np.concatenate([x for x, _ in data])
    assert images.shape == (1437, 8, 8, 1)
    assert images.min() == 0
    assert images.max() == 1


def test_train_and_test_share_no_image():
    parts = [
        np.concatenate([x.numpy().reshape(len(x), -1) for x, _ in data])
        for data in (
            datasets.load("digits", split=split, batch_size=500)
            for split in ("train", "test")
        )
    ]
    train, test = ({row.tobytes() for row in part} for part in parts)
    assert len(train) + len(test) == 1797
    assert not train & test


def test_a_training_split_is_shuffled_anew_each_time_and_follows_from_the_seed():
    data = datasets.load("digits", split="train", batch_size=64, seed=1)
    again = datasets.load("digits", split="train", batch_size=64, seed=1)
    other = datasets.load("digits", split="train", batch_size=64, seed=2)
    first, second = first_labels(data), first_labels(data)
    assert first != second
    assert [first_labels(again), first_labels(again)] == [first, second]
    assert first_labels(other) != first


def test_a_test_split_keeps_its_order():
    data = datasets.load("digits", split="test", batch_size=64)
    assert first_labels(data) == first_labels(data)


@pytest.mark.parametrize("first", [0, 5, 23, 30])
def test_the_stream_can_be_entered_at_any_minibatch(first):
    data = datasets.load(
        "digits", split="train", batch_size=64, augment="standard", seed=4
    )
    whole = list(itertools.islice(data.minibatches_from(np.int64(0)), first + 2))
    entered = list(itertools.islice(data.minibatches_from(np.int64(first)), 2))
    for (x, y), (expected_x, expected_y) in zip(entered, whole[first:], strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_a_large_set_is_shuffled_in_windows(monkeypatch):
    monkeypatch.setattr(datasets, "SHUFFLED_WHOLE", 100)
    monkeypatch.setattr(datasets, "SHUFFLE_WINDOW", 500)
    data = datasets.load("digits", split="train", batch_size=1437, seed=0)
    assert first_labels(data) != first_labels(data)
    images = np.concatenate([x for x, _ in data]).reshape(1437, -1)
    assert len({row.tobytes() for row in images}) == 1437


@pytest.mark.parametrize("flip", [False, True])
def test_augmented_images_are_shifted_windows_of_the_padded_image(flip):
    images = np.random.default_rng(0).uniform(size=(40, 16, 16, 2)).astype("float32")
    augmented = datasets._pad_crop_flip(
        tf.constant(images), tf.constant([1, 2], tf.int64), flip=flip
    ).numpy()
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    shifts, mirrored = set(), 0
    for image, whole in zip(augmented, padded, strict=True):
        found = [
            (top, left, turned)
            for top in range(5)
            for left in range(5)
            for turned in (False, True)
            if np.array_equal(
                image[:, ::-1] if turned else image,
                whole[top : top + 16, left : left + 16],
            )
        ]
        assert len(found) == 1
        shifts.add(found[0][:2])
        mirrored += found[0][2]
    assert len(shifts) > 12  # of 25
    assert (5 < mirrored < 35) if flip else mirrored == 0


def test_cifar10_is_read_decoded_and_augmented():
    data = cifar()
    assert int(data.cardinality()) == 391
    images, labels = next(iter(data))
    assert images.shape == (128, 32, 32, 3)
    assert 0 <= float(tf.reduce_min(images)) < float(tf.reduce_max(images)) <= 1
    assert set(labels.numpy()) <= set(range(10))


def test_an_unknown_set_is_refused():
    pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets")
    with pytest.raises(ValueError, match="`name`.*'no_such_set'"):
        datasets.load("no_such_set", split="train", batch_size=8)
