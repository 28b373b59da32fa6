"""A user's tf.data pipeline, as minibatches."""

import dataclasses

import tensorflow as tf
from keras import tree

from keras_free_adv.data.addressable_dataset import entry_of
from keras_free_adv.data.live_dataset import LiveDataset
from keras_free_adv.data.minibatches import Minibatches
from keras_free_adv.data.structures import first_array, spec_of


def from_dataset(dataset: tf.data.Dataset, live: LiveDataset) -> Minibatches:
    """Passes through a pipeline again and again.

    An addressable dataset is entered by position. Any other continues, within one
    process, where the last `fit` on the same dataset object stopped; for another
    process see `LiveDataset`.
    """
    spec = spec_of(dataset)
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            "Argument `x`, a dataset, must yield (images, labels) or (images, labels, "
            f"sample_weight). Received elements of structure: {spec}. Training needs "
            "labels."
        )
    cardinality = int(dataset.cardinality())
    if cardinality == 0:
        raise ValueError("Argument `x` is an empty dataset. Pass at least one batch.")
    count = cardinality if cardinality > 0 else None
    rows = first_array(spec[0]).shape[:1]
    if rows.rank is None or len(rows) == 0:
        raise ValueError(
            "Argument `x`, a dataset, must yield minibatches. Received elements "
            f"without a batch axis: {spec}. Call dataset.batch(batch_size)."
        )
    first_two = live.first_two(dataset)
    if not first_two:
        raise ValueError("Argument `x` is an empty dataset. Pass at least one batch.")
    samples = [
        tree.map_structure(lambda t: t.numpy(), each, none_is_leaf=False)
        for each in first_two
    ]
    largest = max(len(first_array(each)) for each in samples)
    found = Minibatches(
        count,
        largest,
        lambda seed, first: live.stream(dataset, first),
        samples[0],
        second=samples[-1],
    )
    entry = entry_of(dataset)
    if entry is None:
        return found
    return dataclasses.replace(
        found,
        stream=lambda seed, first: entry.minibatches_from(first),
        slices=lambda seed, first, part: entry.slices_from(first, part),
    )
