import functools
import io
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_free_adv import datasets
from keras_free_adv.data.addressable_dataset import entry_of, minibatches_from
from keras_free_adv.datasets import (
    augmentation,
    decoding,
    encoded_passes,
    image_decoder,
)
from keras_free_adv.distribution.padded_batch import WorkerSlice


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


def test_the_sample_holds_ten_test_images_of_each_class():
    data = datasets.load("cifar10_sample", split="test", batch_size=100)
    ((images, labels),) = data
    assert images.shape == (100, 32, 32, 3)
    assert np.bincount(labels).tolist() == [10] * 10
    assert data.class_names[0] == "airplane"
    assert images.numpy().max() == 1
    with pytest.raises(ValueError, match="`split` must be one of"):
        datasets.load("cifar10_sample", split="train", batch_size=100)
    # They are the first ones, in the order of the test set.
    cifar()
    whole = datasets.load("cifar10", split="test", batch_size=500)
    first, classes = next(iter(whole))
    assert whole.class_names == data.class_names
    taken = {c: 0 for c in range(10)}
    expected = []
    for number, c in enumerate(classes.numpy()):
        if taken[c] < 10:
            taken[c] += 1
            expected.append(number)
    np.testing.assert_array_equal(images, first.numpy()[expected])


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
    whole = list(itertools.islice(minibatches_from(data, np.int64(0)), first + 2))
    entered = list(itertools.islice(minibatches_from(data, np.int64(first)), 2))
    for (x, y), (expected_x, expected_y) in zip(entered, whole[first:], strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_a_large_set_is_shuffled_in_windows(monkeypatch):
    monkeypatch.setattr(encoded_passes, "KEPT_BYTES", 100)
    monkeypatch.setattr(encoded_passes, "SHUFFLE_WINDOW", 500)
    data = datasets.load("digits", split="train", batch_size=1437, seed=0)
    assert first_labels(data) != first_labels(data)
    images = np.concatenate([x for x, _ in data]).reshape(1437, -1)
    assert len({row.tobytes() for row in images}) == 1437


@pytest.mark.parametrize("flip", [False, True])
def test_augmented_images_are_shifted_windows_of_the_padded_image(flip):
    images = np.random.default_rng(0).uniform(size=(40, 16, 16, 2)).astype("float32")
    augmented = augmentation.pad_crop_flip(
        tf.constant(images),
        tf.constant([1, 2], tf.int64),
        padding=(2, 2),
        flip=flip,
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


def test_labels_can_be_rows_of_a_one():
    data = datasets.load("digits", split="test", batch_size=50, one_hot=True)
    numbers = datasets.load("digits", split="test", batch_size=50)
    rows, expected = next(iter(data))[1], next(iter(numbers))[1]
    np.testing.assert_array_equal(rows, np.eye(10)[expected])


def test_the_short_minibatch_can_be_left_out():
    data = datasets.load("digits", split="train", batch_size=100, drop_remainder=True)
    assert int(data.cardinality()) == 14
    assert {len(x) for x, _ in data} == {100}
    stream = minibatches_from(data, np.int64(13))
    assert [len(x) for x, _ in itertools.islice(stream, 3)] == [100] * 3
    with pytest.raises(ValueError, match="`split`.*drop_remainder=True"):
        datasets.load("digits", split="test", batch_size=400, drop_remainder=True)


def test_the_reference_augmentation_pads_by_two():
    """Of 32 pixels "standard" pads by 4."""
    shape = (None, 32, 32, 3)
    assert image_decoder._padding("standard_pad2", shape[1:3]) == (2, 2)
    assert image_decoder._padding("standard", shape[1:3]) == (4, 4)


def picture(height, width, number):
    """A gradient that says where in the picture a pixel is, and in which."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = 255 * rows / (height - 1), 255 * columns / (width - 1)
    blue = np.full((height, width), 20 * number)
    return np.stack([red, green, blue], -1).astype("uint8")


SIZES = [(60 + 7 * i, 50 + 11 * i) for i in range(12)]


@functools.cache  # TFDS takes a name once
def builder_of_pictures():
    tfds = pytest.importorskip(
        "tensorflow_datasets", reason="needs tensorflow-datasets"
    )

    class PicturesOfAllSizes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="jpeg"),
                        "label": tfds.features.ClassLabel(num_classes=12),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            splits = ("train", "validation")
            return {split: self._generate_examples() for split in splits}

        def _generate_examples(self):
            for number, size in enumerate(SIZES):
                yield number, {"image": picture(*size, number), "label": number}

    return PicturesOfAllSizes


@pytest.fixture
def pictures_of_all_sizes(tmp_path):
    """A TFDS set of JPEGs of different sizes, prepared on disk."""
    builder_of_pictures()(data_dir=str(tmp_path)).download_and_prepare()
    return {"name": "pictures_of_all_sizes", "data_dir": str(tmp_path)}


def test_the_central_square_is_cut_and_resized(pictures_of_all_sizes):
    data = datasets.load(
        split="validation", batch_size=5, image_size=32, **pictures_of_all_sizes
    )
    assert data.element_spec[0].shape.as_list() == [None, 32, 32, 3]
    images = np.concatenate([x for x, _ in data])
    labels = np.concatenate([y for _, y in data])
    assert sorted(labels) == list(range(12))
    for image, number in zip(images, labels, strict=True):
        assert 0 <= image.min() < image.max() <= 1
        # Which picture it is, up to what JPEG loses.
        assert image[..., 2].mean() == pytest.approx(20 * number / 255, abs=0.02)
        height, width = 60 + 7 * number, 50 + 11 * number
        side = min(height, width) * 224 / 256
        for axis, size in ((0, height), (1, width)):
            span = np.take(image[..., axis], [0, -1], axis=axis).mean(axis=1 - axis)
            expected = 0.5 + np.array([-1, 1]) * (side - 1) / (size - 1) / 2
            np.testing.assert_allclose(span, expected, atol=0.04)


def test_a_jpeg_of_known_size_is_decoded_as_it_is_served():
    """As Pillow does, and as `serve_bytes`; TensorFlow's default is off by one."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (16, 16, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    found = decoding.whole_image(file.getvalue(), (16, 16, 3), is_jpeg=True)
    expected = np.asarray(Image.open(file))
    np.testing.assert_allclose(255 * found.numpy(), expected, atol=1e-3)


def test_random_windows_follow_from_the_seed_and_the_number(pictures_of_all_sizes):
    def stream(seed, first=0):
        data = datasets.load(
            split="train",
            batch_size=5,
            augment="standard",
            image_size=32,
            seed=seed,
            **pictures_of_all_sizes,
        )
        return [
            x.numpy()
            for x, _ in itertools.islice(minibatches_from(data, np.int64(first)), 8)
        ]

    whole, again, other = stream(1), stream(1), stream(2)
    for one, same in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(whole[0], other[0])
    # Entered in the second pass, whose first minibatch is number 3.
    for one, entered in zip(whole[4:], stream(1, first=4), strict=False):
        np.testing.assert_array_equal(one, entered)
    # Windows of different places and sizes, and mirrored ones.
    images = np.concatenate(whole)
    spans = images[:, -1, :, 0].mean(1) - images[:, 0, :, 0].mean(1)
    assert spans.min() < 0.5 < spans.max()
    to_the_right = images[:, :, -1, 1].mean(1) > images[:, :, 0, 1].mean(1)
    assert 0.25 < to_the_right.mean() < 0.75


@pytest.mark.parametrize("kept", [True, False])
def test_a_worker_makes_its_part_of_each_minibatch(
    pictures_of_all_sizes, monkeypatch, kept
):
    monkeypatch.setattr(encoded_passes, "KEPT_BYTES", 2**30 if kept else 0)
    for settings in (
        {"name": "digits", "batch_size": 100},  # the last of a pass has 37
        {**pictures_of_all_sizes, "batch_size": 5, "image_size": 32},  # 2
    ):
        data = datasets.load(
            split="train", augment="standard", one_hot=True, **settings
        )
        size = settings["batch_size"]
        first, count = np.int64(1), int(data.cardinality())
        for worker in range(2):
            part = WorkerSlice(size, replicas=4, worker=worker, workers=2)
            assert part.rows == -(-size // 4) * 4 // 2
            parts = entry_of(data).slices_from(first, part)
            wholes = minibatches_from(data, first)
            for (found, real), whole in itertools.islice(
                zip(parts, wholes, strict=True), count
            ):
                assert int(real) == len(whole[0])
                share = part.share(found, real)
                begin = worker * part.rows
                kept_rows = slice(begin, begin + part.rows)
                assert len(found[0]) == part.rows
                for each, expected in zip(found, whole, strict=True):
                    np.testing.assert_array_equal(
                        each[share.is_real], expected[kept_rows]
                    )


def test_replays_do_not_decode_again(pictures_of_all_sizes, monkeypatch):
    """Free training of m=4: as many images decoded as minibatches need."""
    from keras_free_adv import FreeAdversarialModel, zoo
    from tests.conftest import from_logits

    decoded = []
    window = image_decoder._window

    def counted(*args, **kwargs):
        image = window(*args, **kwargs)
        count = tf.numpy_function(
            lambda: np.int64(decoded.append(1) or 0), [], tf.int64
        )
        with tf.control_dependencies([count]):
            return tf.identity(image)

    monkeypatch.setattr(image_decoder, "_window", counted)
    data = datasets.load(
        split="train",
        batch_size=4,
        augment="standard",
        image_size=8,
        **pictures_of_all_sizes,
    )
    network = zoo.small_cnn(classes=12, input_shape=(8, 8, 3))
    model = FreeAdversarialModel(network, 0.1, replays=4)
    model.compile("sgd", from_logits())
    model.fit(data, epochs=8, verbose=0)  # 24 updates: 6 minibatches of 4
    # And what is read ahead, at most some more minibatches; not 24 of them.
    assert 24 <= len(decoded) <= 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 16}, "`image_size` must be None.*8, 8, 1"),
        ({"image_size": 0}, "`image_size`"),
        ({"one_hot": "yes"}, "`one_hot`"),
        ({"drop_remainder": 1}, "`drop_remainder`"),
        ({"augment": "strong"}, "`augment`.*standard_pad2"),
    ],
)
def test_wrong_arguments_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        datasets.load("digits", split="test", batch_size=8, **settings)


def test_two_pixels_of_padding_are_for_images_of_one_size(pictures_of_all_sizes):
    with pytest.raises(ValueError, match="`augment`.*vary in size"):
        datasets.load(
            split="train",
            batch_size=4,
            augment="standard_pad2",
            **pictures_of_all_sizes,
        )
