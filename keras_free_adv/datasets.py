"""Image classification sets as tf.data pipelines.

`load` needs the extra `datasets` (`pip install "keras_free_adv[datasets]"`).
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import random_numbers, validation
from keras_free_adv.data.passes import endless_passes, sharded_by_data

# Sets up to the first size are shuffled whole, larger ones in windows of the second.
SHUFFLED_WHOLE = 60_000
SHUFFLE_WINDOW = 10_000

Minibatches = Callable[[Any], tf.data.Dataset]


def load(
    name: str,
    *,
    split: str,
    batch_size: int,
    augment: str = "none",
    seed: int = 0,
    data_dir: str | None = None,
) -> tf.data.Dataset:
    """Loads an image classification set as minibatches of (image, label).

    A training split (its name begins with "train") is shuffled anew for each pass;
    every other split keeps its order. Which images a minibatch holds, and how they
    are augmented, follows from (seed, number of the minibatch) alone: `fit` of an
    adversarial model enters the stream at any place, also after a kill. A
    transformation on top (`map`, `take`) hides that, and makes it an ordinary
    `tf.data.Dataset`.

    Args:
        name: "digits" (scikit-learn's, 8x8 gray images, no download), or the name of
            any image classification set of TensorFlow Datasets, such as "cifar10".
        split: "train" or "test" for digits; a TFDS split such as "train[:90%]".
        batch_size: images in a minibatch; the last of a pass may be shorter.
        augment: "none", or "standard": pad by an eighth of the image with zeros, crop
            at random, flip left to right at random (for digits, which mirroring
            would turn into other signs, crop only).
        seed: seed of the order and of the augmentation.
        data_dir: where TFDS keeps its data; None for TFDS' own choice.

    Returns:
        A `tf.data.Dataset` of one pass: images `[B, height, width, channels]`,
        float32 in [0, 1], and labels `[B]`, int64. Its attribute `classes` is the
        number of classes.

    Raises:
        ValueError: an unknown split, augmentation or set.
        ImportError: the extra `datasets` is not installed.

    Example:
    >>> images, labels = next(iter(load("digits", split="test", batch_size=32)))
    >>> images.shape
    TensorShape([32, 8, 8, 1])
    """
    batch_size = validation.positive_integer("batch_size", batch_size)
    validation.one_of("augment", augment, ("none", "standard"))
    if not isinstance(split, str):
        raise TypeError(
            "Argument `split` must be a string such as 'train' or 'test'. "
            f"Received: split={split!r}."
        )
    if name == "digits":
        examples, size, decode, classes = _digits(split)
    else:
        examples, size, decode, classes = _tfds(name, split, data_dir)
    if size == 0:
        raise ValueError(f"Argument `split` selects no image. Received: {split!r}.")
    count = -(-size // batch_size)
    shuffled = split.startswith("train")

    def one_pass(number: Any, within: Any) -> tf.data.Dataset:
        data = examples
        if shuffled:
            data = _shuffle(data, size, (random_numbers.SHUFFLE, seed, number))
        # Skipped before they are decoded.
        data = data.skip(tf.cast(within, tf.int64) * batch_size)
        data = data.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        data = data.batch(batch_size)
        if augment == "none":
            return data
        return data.enumerate(number * count + within).map(
            lambda k, batch: (
                _pad_crop_flip(
                    batch[0],
                    random_numbers.key(random_numbers.AUGMENT, seed, k),
                    flip=name != "digits",
                ),
                batch[1],
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    dataset = _reshuffled_each_iteration(one_pass, count)
    dataset.classes = classes
    return dataset


def _shuffle(
    examples: tf.data.Dataset, size: int, numbers: tuple[Any, ...]
) -> tf.data.Dataset:
    """Shuffles examples, still encoded, by a permutation that follows from `numbers`.

    `Dataset.shuffle` would do, but it takes no seed that is only known in the graph.
    """
    window = size if size <= SHUFFLED_WHOLE else SHUFFLE_WINDOW

    def shuffled(index: Any, chunk: Any) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(tf.shape(chunk[1])[0]), random_numbers.key(*numbers, index)
        )
        return tf.data.Dataset.from_tensor_slices(
            tuple(tf.gather(part, order) for part in chunk)
        )

    return examples.batch(window).enumerate().flat_map(shuffled)


def _reshuffled_each_iteration(
    one_pass: Callable[[Any, Any], tf.data.Dataset], count: int
) -> tf.data.Dataset:
    """One pass a time it is iterated; remembers how to enter it at any minibatch."""
    passes_begun = iter(range(2**62))
    this_pass = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.ensure_shape(
            tf.numpy_function(lambda: np.int64(next(passes_begun)), [], tf.int64), ()
        )
    )
    dataset = this_pass.flat_map(lambda p: one_pass(p, tf.zeros((), tf.int64)))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    dataset = sharded_by_data(dataset).prefetch(tf.data.AUTOTUNE)
    minibatches: Minibatches = lambda first: endless_passes(one_pass, count, first)  # noqa: E731
    dataset.minibatches_from = minibatches
    return dataset


def _digits(split: str) -> tuple[tf.data.Dataset, int, Callable, int]:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise _missing("scikit-learn") from error
    validation.one_of("split", split, ("train", "test"))
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        (images / 16.0).astype("float32").reshape(-1, 8, 8, 1),
        labels.astype("int64"),
        test_size=0.2,
        random_state=0,
        stratify=labels,
    )
    x, y = (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])
    return tf.data.Dataset.from_tensor_slices((x, y)), len(x), lambda x, y: (x, y), 10


def _tfds(
    name: str, split: str, data_dir: str | None
) -> tuple[tf.data.Dataset, int, Callable, int]:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise _missing("tensorflow-datasets") from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            "Argument `name` must be 'digits' or the name of a TensorFlow Datasets "
            f"set. Received: name={name!r}. tfds.list_builders() lists them."
        ) from error
    features = dict(builder.info.features or {})
    image, label = (
        features.get(key) for key in builder.info.supervised_keys or ("", "")
    )
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            "Argument `name` must be an image classification set, with an Image and a "
            f"ClassLabel. Received: name={name!r}, with {features}."
        )
    if image.shape is None or None in image.shape[:2]:
        raise ValueError(
            "Argument `name` must be a set whose images all have one size. Received: "
            f"name={name!r}, with images of shape {image.shape}. Build a tf.data "
            "pipeline that resizes them with tfds.load and Dataset.map, and pass it "
            "to fit."
        )
    builder.download_and_prepare()
    read = tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=False)
    examples = builder.as_dataset(
        split=split,
        as_supervised=True,
        shuffle_files=False,
        read_config=read,
        decoders={builder.info.supervised_keys[0]: tfds.decode.SkipDecoding()},
    )
    size = int(examples.cardinality())

    def decode(encoded: Any, label: Any) -> tuple[Any, Any]:
        pixels = tf.io.decode_image(
            encoded, channels=image.shape[-1], expand_animations=False
        )
        pixels = tf.ensure_shape(pixels, image.shape)
        return tf.cast(pixels, tf.float32) / 255.0, label

    return examples, size, decode, label.num_classes


def _missing(package: str) -> ImportError:
    return ImportError(
        f"keras_free_adv.datasets.load needs {package} for this set. "
        'Install it with: pip install "keras_free_adv[datasets]"'
    )


def _pad_crop_flip(images: Any, key: Any, *, flip: bool) -> Any:
    """Pads by an eighth on each side, crops and flips each image at random."""
    batch = tf.shape(images)[0]
    height, width = images.shape[1:3]
    pad_y, pad_x = height // 8, width // 8
    rows = keras.ops.arange(height)
    columns = keras.ops.arange(width)
    row_key, column_key, flip_key = (
        random_numbers.key(key[0], key[1], draw) for draw in range(3)
    )
    top = tf.random.stateless_uniform(
        (batch, 1), row_key, maxval=2 * pad_y + 1, dtype=tf.int32
    )
    left = tf.random.stateless_uniform(
        (batch, 1), column_key, maxval=2 * pad_x + 1, dtype=tf.int32
    )
    mirrored = (
        tf.random.stateless_uniform((batch, 1), flip_key, maxval=2, dtype=tf.int32)
        if flip
        else tf.zeros((batch, 1), tf.int32)
    )
    columns = tf.where(mirrored == 1, columns[::-1], columns)
    padded = tf.pad(images, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
    cropped_rows = tf.gather(padded, top + rows, batch_dims=1)
    turned = tf.gather(
        tf.transpose(cropped_rows, (0, 2, 1, 3)), left + columns, batch_dims=1
    )
    return tf.ensure_shape(tf.transpose(turned, (0, 2, 1, 3)), images.shape)
