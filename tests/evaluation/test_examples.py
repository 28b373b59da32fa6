import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv.data.labelled_batches import LabelledBatches
from keras_free_adv.evaluation import examples as module
from keras_free_adv.evaluation.examples import Examples
from tests.conftest import small_images

IMAGES, LABELS = small_images(50)


def examples(data):
    return Examples(
        LabelledBatches(data, batch_size=None, max_examples=None, value_range=(0, 1))
    )


def shuffled():
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    return dataset.shuffle(50, reshuffle_each_iteration=True).batch(8)


def everything(data):
    ids, images, labels = (
        np.concatenate(part) for part in zip(*list(data), strict=True)
    )
    np.testing.assert_array_equal(ids, np.arange(50))
    return images, labels


@pytest.mark.parametrize("data", [(IMAGES, LABELS), shuffled()])
def test_every_pass_has_the_same_examples_in_the_same_order(data):
    data = examples(data)
    (images, labels), (again, labels_again) = everything(data), everything(data)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert data.count == 50


def test_the_checksum_tells_other_images_labels_and_orders_apart():
    def checksum(images, labels):
        data = examples((images, labels))
        list(data)
        return data.checksum

    other = IMAGES.copy()
    other[3, 0, 0] += 1e-3
    sums = {
        checksum(IMAGES, LABELS),
        checksum(other, LABELS),
        checksum(IMAGES, LABELS[::-1]),
        checksum(IMAGES[::-1], LABELS),
    }
    assert len(sums) == 4
    assert checksum(IMAGES, LABELS) in sums


def test_too_large_to_remember_it_is_streamed_again_and_checked(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_BYTES", 1000)
    steady = examples(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8))
    first = everything(steady)
    np.testing.assert_array_equal(everything(steady)[0], first[0])
    unsteady = examples(shuffled())
    list(unsteady)
    with pytest.raises(ValueError, match="`data`.*another order.*Remove its shuffle"):
        list(unsteady)
