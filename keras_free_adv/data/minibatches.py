"""What a user passes to `fit`, as minibatches that can be addressed by number.

Each source says how many minibatches one pass through the data has, how large they
are, and gives an endless stream of them from any minibatch on. For arrays and
PyDatasets which examples a minibatch holds follows from (seed, number) alone.
"""

import dataclasses
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_free_adv import random_numbers
from keras_free_adv.data.live_dataset import LiveDataset
from keras_free_adv.data.passes import endless_passes
from keras_free_adv.data.read_ahead import read_ahead
from keras_free_adv.data.structures import (
    first_array,
    present,
    spec_of,
    with_leaves,
)
from keras_free_adv.dense_data import require_dense

# stream(seed, first): an endless dataset from minibatch number `first` on; both are
# int64 scalars, read when iteration starts.
Stream = Callable[[Any, Any], tf.data.Dataset]


@dataclass(frozen=True)
class Minibatches:
    """A source of minibatches.

    Attributes:
        count: minibatches in one pass, or None if that is unknown or infinite.
        rows: examples in the largest minibatch; of a dataset, in the larger of the
            first two, because a shuffled one may begin with its short minibatch.
        stream: the endless stream, addressed by (seed, first minibatch).
        sample: one minibatch (x, y[, sample_weight]) as NumPy arrays, for checks
            before training; for arrays the whole data.
        part: as `stream`, of (seed, first, a `WorkerSlice`): (that slice of a
            minibatch, the size of the whole); None if the source cannot slice.
        second: as `sample`, the second minibatch of a dataset, or its only one; None
            for arrays.
    """

    count: int | None
    rows: int
    stream: Stream
    sample: tuple[Any, ...]
    part: Callable[[Any, Any, Any], tf.data.Dataset] | None = None
    second: tuple[Any, ...] | None = None


def minibatches(
    x: Any,
    y: Any,
    sample_weight: Any,
    *,
    batch_size: int | None,
    steps_per_epoch: int | None,
    shuffle: bool | str,
    live: LiveDataset,
) -> Minibatches:
    """Recognizes what `fit` was given.

    Raises:
        TypeError, ValueError: the data cannot be replayed; the message says what to
            pass instead.
    """
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"Argument `{name}` must be None when `x` is a dataset: it is part "
                    f"of the dataset's elements. Received: {name} of type "
                    f"{type(value).__name__}."
                )
        if isinstance(x, tf.data.Dataset):
            return from_dataset(x, live)
        return from_py_dataset(x, shuffle=bool(shuffle))
    if isinstance(x, (types.GeneratorType, Iterator)):
        raise TypeError(
            "Argument `x` must be data that can be read more than once. Received: a "
            f"one-shot {type(x).__name__}. Pass arrays, a keras.utils.PyDataset, or "
            "tf.data.Dataset.from_generator(function, ...), which can start it anew."
        )
    if hasattr(x, "__dataloader__") or type(x).__name__ == "DataLoader":
        raise TypeError(
            "Argument `x` must be arrays, a tf.data.Dataset or a "
            f"keras.utils.PyDataset. Received: {type(x).__module__}."
            f"{type(x).__name__}. Wrap it in a keras.utils.PyDataset."
        )
    data = (x, y) if sample_weight is None else (x, y, sample_weight)
    return from_arrays(
        data, batch_size=batch_size, steps_per_epoch=steps_per_epoch, shuffle=shuffle
    )


def as_arrays(data: Any) -> Any:
    """Returns a structure of array-likes as NumPy arrays, lists inside as tuples."""

    def to_array(leaf: Any) -> np.ndarray | None:
        if leaf is None:
            return None
        try:
            array = np.asarray(leaf)
        except (TypeError, ValueError) as error:
            raise TypeError(
                "Arguments `x` and `y` must be arrays, tensors, a tf.data.Dataset or a "
                f"keras.utils.PyDataset. Received: {type(leaf).__name__}."
            ) from error
        if array.ndim == 0:
            raise TypeError(
                "Arguments `x` and `y` must be arrays, tensors, a tf.data.Dataset or a "
                f"keras.utils.PyDataset. Received: {type(leaf).__name__}."
            )
        return array

    return tree.map_structure(to_array, tree.lists_to_tuples(data))


def weights_of_outputs(sample_weight: Any, y: Any) -> Any:
    """Sample weights as Keras takes them: for each output, None for a weight of one.

    Raises:
        ValueError: there are weights for other outputs than there are labels.
    """
    if not isinstance(sample_weight, (dict, list, tuple)) or not tree.is_nested(y):
        return sample_weight
    if isinstance(sample_weight, dict):
        wanted, given = set(y) if isinstance(y, dict) else None, set(sample_weight)
        fits = wanted == given
    else:
        fits = isinstance(y, (list, tuple)) and len(y) == len(sample_weight)
    if not fits:
        raise ValueError(
            "Argument `sample_weight` must have an entry for each output, as `y` has: "
            f"{_outline(y)}. Received: {_outline(sample_weight)}. Pass None for an "
            "output without weights."
        )

    def filled(weights: Any, labels: Any) -> Any:
        if weights is not None or labels is None:  # as of an output without a loss
            return weights
        return np.ones(len(labels), "float32")

    if isinstance(y, dict):
        return {name: filled(sample_weight[name], y[name]) for name in y}
    return tuple(map(filled, sample_weight, y))


def _outline(structure: Any) -> str:
    if isinstance(structure, dict):
        return f"a dict of {sorted(structure)}"
    return f"a {type(structure).__name__} of {len(structure)}"


def split_arrays(data: tuple[Any, ...], share: float) -> tuple[Any, Any]:
    """Splits off the last `share` of the examples, as Keras' validation_split does."""
    data = as_arrays(data)
    size = _common_length(data)
    at = int(size * (1.0 - share))
    if at in (0, size):
        raise ValueError(
            "Argument `validation_split` must leave examples on both sides. Received: "
            f"validation_split={share} with {size} examples."
        )
    first = tree.map_structure(lambda a: None if a is None else a[:at], data)
    last = tree.map_structure(lambda a: None if a is None else a[at:], data)
    return first, last


def from_arrays(
    data: tuple[Any, ...],
    *,
    batch_size: int | None,
    steps_per_epoch: int | None,
    shuffle: bool | str,
) -> Minibatches:
    """Arrays and tensors: one permutation a pass, from (seed, pass)."""
    data = as_arrays(data)
    size = _common_length(data)
    if batch_size is None:
        batch_size = -(-size // steps_per_epoch) if steps_per_epoch else 32
    batch_size = min(batch_size, size)
    count = -(-size // batch_size)
    # Converted here, not in the stream: a graph holds them by reference, however large.
    with tf.device("CPU:0"):
        tensors = tree.map_structure(
            lambda a: None if a is None else tf.convert_to_tensor(a), data
        )

    def stream(seed: Any, first: Any) -> tf.data.Dataset:
        def indices_of(number: Any, order: Any, i: Any) -> Any:
            chosen = order[i * batch_size : tf.minimum((i + 1) * batch_size, size)]
            if shuffle != "batch":
                return chosen
            order_key = random_numbers.key(random_numbers.SHUFFLE, seed, number, i)
            return tf.random.experimental.stateless_shuffle(chosen, order_key)

        def one_pass(number: Any, within: Any) -> tf.data.Dataset:
            order = tf.range(size, dtype=tf.int64)
            if shuffle and shuffle != "batch":
                order_key = random_numbers.key(random_numbers.SHUFFLE, seed, number)
                order = tf.random.experimental.stateless_shuffle(order, order_key)
            steps = tf.data.Dataset.range(within, count)
            return steps.map(lambda i: indices_of(number, order, i))

        def gather(indices: Any) -> Any:
            return tree.map_structure(
                lambda t: None if t is None else tf.gather(t, indices), tensors
            )

        return endless_passes(one_pass, count, first).map(
            gather, num_parallel_calls=tf.data.AUTOTUNE
        )

    return Minibatches(count, batch_size, stream, data)


def from_dataset(dataset: tf.data.Dataset, live: LiveDataset) -> Minibatches:
    """A user's tf.data pipeline, passed through again and again.

    A pipeline of `datasets.load` is addressed by position. Any other goes on, within
    one process, where the last `fit` on the same dataset object stopped; for another
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
    addressed = getattr(dataset, "minibatches_from", None)

    def stream(seed: Any, first: Any) -> tf.data.Dataset:
        if addressed is not None:
            return addressed(first)
        return live.stream(dataset, first)

    first_two = live.first_two(dataset)
    if not first_two:
        raise ValueError("Argument `x` is an empty dataset. Pass at least one batch.")
    samples = [
        tree.map_structure(lambda t: None if t is None else t.numpy(), each)
        for each in first_two
    ]
    largest = max(len(first_array(each)) for each in samples)
    part = None if addressed is None else lambda _, first, part: addressed(first, part)
    return Minibatches(count, largest, stream, samples[0], part, samples[-1])


def from_py_dataset(dataset: keras.utils.PyDataset, *, shuffle: bool) -> Minibatches:
    """A PyDataset, its items read by its own number of workers.

    Its `on_epoch_begin` and `on_epoch_end` are called around each pass, if it says how
    long a pass is.
    """
    count = dataset.num_batches
    if count == 0:
        raise ValueError("Argument `x` is an empty PyDataset. Pass at least one batch.")
    first_two = [
        _standard_item(dataset[i]) for i in range(2 if count is None else min(count, 2))
    ]
    sample, second = first_two[0], first_two[-1]
    rows = max(len(first_array(each)) for each in first_two)
    # What an item leaves out (None) does not go through the generator.
    signature = tuple(map(_common_spec, present(sample), present(second)))

    def arrays(seed: Any, first: Any) -> Iterator[tuple[Any, ...]]:
        for item in items(seed, first):
            leaves = tuple(present(item))
            _check_shapes(leaves, signature)
            yield leaves

    def items(seed: Any, first: Any) -> Iterator[tuple[Any, ...]]:
        first = int(first)
        if count is None:
            yield from map(_standard_item, read_ahead(dataset, _numbers_from(first)))
            return
        number, within = divmod(first, count)
        while True:
            order = np.arange(count)
            if shuffle:
                np.random.default_rng((int(seed), number)).shuffle(order)
            dataset.on_epoch_begin()
            indices = iter(order[within:].tolist())
            yield from map(_standard_item, read_ahead(dataset, indices))
            dataset.on_epoch_end()
            number, within = number + 1, 0

    def stream(seed: Any, first: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(
            arrays, args=(seed, first), output_signature=signature
        ).map(lambda *leaves: with_leaves(sample, leaves))

    return Minibatches(count, rows, stream, sample, second=second)


def _common_spec(one: np.ndarray, other: np.ndarray) -> tf.TensorSpec:
    """Of both arrays; sizes in which they differ are left open."""
    shape = (None,) * one.ndim
    if one.ndim == other.ndim:
        same = zip(one.shape[1:], other.shape[1:], strict=True)
        shape = (None, *(a if a == b else None for a, b in same))
    return tf.TensorSpec(shape, one.dtype)


def _check_shapes(leaves: tuple[Any, ...], signature: tuple[Any, ...]) -> None:
    """Raises if the arrays of an item do not fit what the first two promised."""
    found = [leaf.shape for leaf in leaves]
    promised = [spec.shape for spec in signature]
    fits = len(found) == len(promised) and all(
        wanted.is_compatible_with(shape)
        for shape, wanted in zip(found, promised, strict=True)
    )
    if not fits:
        raise ValueError(
            "Argument `x`, a PyDataset, must give arrays of the same shapes each time, "
            f"but for the batch: {[tuple(shape) for shape in promised]}, as its first "
            f"two items. Received: {found}."
        )


def weighted_by_class(
    source: Minibatches, class_weight: dict[int, float]
) -> Minibatches:
    """Adds each example's class weight as its sample weight, as Keras does.

    Labels that are not whole are rounded; a class without a weight weighs 1.
    """
    if len(source.sample) == 3:
        raise ValueError(
            "Arguments `class_weight` and `sample_weight` cannot be given together. "
            "Multiply the class weights into `sample_weight`."
        )
    if tree.is_nested(source.sample[1]):
        raise ValueError(
            "Argument `class_weight` needs a model with a single output. Pass "
            "`sample_weight` for each output instead."
        )
    classes = tf.constant(list(class_weight), tf.int64)
    weights = tf.constant(list(class_weight.values()), tf.float32)

    def add_weight(x: Any, y: Any) -> tuple[Any, Any, Any]:
        if y.shape.rank is not None and y.shape.rank > 1:
            label = tf.argmax(y, -1) if y.shape[-1] != 1 else tf.squeeze(y, -1)
        else:
            label = y
        if label.dtype.is_floating:
            label = tf.round(label)
        match = tf.equal(tf.cast(label, tf.int64)[..., None], classes)
        weight = tf.reduce_sum(tf.where(match, weights, 0.0), -1)
        return x, y, tf.where(tf.reduce_any(match, -1), weight, 1.0)

    return dataclasses.replace(
        source,
        stream=lambda seed, first: source.stream(seed, first).map(add_weight),
        part=None,
    )


def _common_length(data: tuple[Any, ...]) -> int:
    sizes = {len(a) for a in tree.flatten(data) if a is not None}
    if len(sizes) != 1:
        shapes = tree.map_structure(lambda a: None if a is None else a.shape, data)
        raise ValueError(
            "Arguments `x`, `y` and `sample_weight` must hold the same number of "
            f"examples. Received shapes: {shapes}."
        )
    size = sizes.pop()
    if size == 0:
        raise ValueError("Argument `x` is empty. Pass at least one example.")
    return size


def _standard_item(item: Any) -> tuple[Any, ...]:
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise ValueError(
            "Argument `x`, a PyDataset, must give (images, labels) or (images, labels, "
            f"sample_weight) for each index. Received: {type(item).__name__}. "
            "Training needs labels."
        )
    require_dense("x", item)
    return tuple(as_arrays(part) for part in item)


def _numbers_from(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1
